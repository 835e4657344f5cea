"""The report of a study: report.html, report.md with its charts beside it, table.csv and table.json.

The order is that of a reader's questions: what came out, which numbers, what to beware of, how training went, on which
mixture, how to get here again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lossary.errors import MissingPackage
from lossary.files import clear_leftovers, made_folder, write_atomic
from lossary.findings.engine import Checked
from lossary.folder import StudyFolder
from lossary.objectives import OBJECTIVES
from lossary.reports.charts import write_curves, write_forests
from lossary.reports.diagnosis import read_diagnosis_markdown
from lossary.reports.export import csv_text, json_value
from lossary.reports.findings import findings_markdown, verdict_text
from lossary.reports.html.file import html_report
from lossary.reports.html.render import INSTALL
from lossary.reports.html.view import PageView, page_view
from lossary.reports.html.views.provenance import provenance_rows
from lossary.reports.markdown import escape_markdown, markdown_link, markdown_table
from lossary.reports.text import delta_text, metric_title, number, percent, short_count, trained_on
from lossary.study import Study
from lossary.tables.begun import own_mixtures
from lossary.tables.comparability import differing_settings, realised_shares, run_settings
from lossary.tables.load import OpenTable
from lossary.tables.model import Metric, Table

__all__ = ["ReportOptions", "Written", "verdict", "write_report"]

# A Markdown table wider than this is one that nobody reads.
_MOST_COLUMNS = 8
# Several may write a report at once; no file of one is being written for so long.
_NO_WRITE_TAKES_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What report.md is to be: its pictures as PNG, too, and its length in characters; and where all is written."""

    png: bool = False
    max_chars: int | None = None
    out: Path | None = None  # the study's own folder if None


class Written(NamedTuple):
    """The files of a report; where there is no page, `note` says what it needs."""

    markdown: Path
    html: Path | None
    note: str = ""

    @property
    def page(self) -> Path:
        """What to look at."""
        return self.html or self.markdown


class _Section(NamedTuple):
    title: str
    body: str

    @property
    def text(self) -> str:
        return f"## {self.title}\n\n{self.body}" if self.title else self.body


def write_report(opened: OpenTable, checked: Checked, options: ReportOptions | None = None) -> Written:
    """Writes the report of a study, or of imported tables.

    Without the packages that a page needs, report.md is written all the same, and `note` says what is missing.
    """
    table, _, folder = opened
    options = options or ReportOptions()
    view, note = None, ""
    try:
        view = page_view(opened, checked)
    except MissingPackage as error:
        note = str(error)
    with made_folder(options.out or folder.report) as out:
        if out == folder.report:
            # Another report takes its place.
            folder.report_record.unlink(missing_ok=True)
            clear_leftovers(out, older_than_s=_NO_WRITE_TAKES_S)
        path = out / "report.md"
        _write(path, _shortened(_sections(opened, checked, view, options), options.max_chars))
        _write(out / "table.csv", csv_text(table))
        _write(
            out / "table.json",
            json.dumps(json_value(table), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        )
        if view is None:
            return Written(path, None, note)
        _write(out / "report.html", html_report(view))
        return Written(path, out / "report.html")


def _sections(opened: OpenTable, checked: Checked, view: PageView | None, options: ReportOptions) -> list[_Section]:
    table, study, folder = opened
    out = options.out or folder.report
    sections = [
        _Section("", f"# {escape_markdown(table.study)}\n\n{verdict(table)} {escape_markdown(_worst(checked))}"),
        _Section("Findings", findings_markdown(checked)),
        _Section("Loss by dataset", f"{_tables(table)}\n\n{_legend(table)}"),
    ]
    if table.seed_spreads:
        sections.append(_Section("Seeds", _seeds(table)))
    if table.notes:
        sections.append(_Section("Beware", "\n".join(f"- {escape_markdown(note)}" for note in table.notes)))
    if table.deltas:
        sections.append(_Section("Run against run", _differences_to_base(table, out, view, png=options.png)))
    if study is not None:
        sections += [
            *(_Section("", text) for text in _diagnoses(folder)),
            _Section("Runs", _runs(table, study, folder)),
            _Section("Curves", _curves(out, view, png=options.png)),
            _Section("Mixture", _mixture(table, folder)),
            _Section("Provenance", _provenance(opened)),
        ]
    return sections


def _shortened(sections: Sequence[_Section], most: int | None) -> str:
    """The sections as one text; of one too long whole sections go, the last first, and a line says which."""
    kept, left = list(sections), list[str]()
    while True:
        texts = [section.text for section in kept]
        if left:
            texts.append(f"*Left out, to keep within {most:,} characters: {', '.join(reversed(left))}.*")
        text = "\n\n".join(texts) + "\n"
        if most is None or len(text) <= most or len(kept) == 1:
            return text
        gone = kept.pop()
        left.append(gone.title or gone.body.split("\n", 1)[0].lstrip("# "))


def _differences_to_base(table: Table, out: Path, view: PageView | None, *, png: bool) -> str:
    """Paired differences of the losses to the base, as a table and as pictures."""
    others = [run.name for run in table.runs if run.name != table.base]
    columns = [
        (metric, run)
        for metric in table.compared
        for run in others
        if any(d.value is not None for d in table.deltas if (d.run, d.metric) == (run, metric))
    ][: 2 * _MOST_COLUMNS]
    head = ["dataset", *(f"{escape_markdown(run)} Δ {metric_title(metric)}" for metric, run in columns)]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * len(columns) + "|"]
    for dataset in [*(row.name for row in table.datasets), None]:
        texts = [delta_text(table.delta(run, dataset, metric), width=0) or "—" for metric, run in columns]
        name = "**total by validation share**" if dataset is None else escape_markdown(dataset)
        lines.append("| " + " | ".join([name, *texts]) + " |")
    about = (
        f"Differences to {escape_markdown(table.base or '')}, paired by example: ● differs after Holm, "
        "○ not shown to differ, = too small for the digits shown."
    )
    pictures = [] if view is None else write_forests(out, view.pairs.charts, table.compared, png=png)
    return "\n\n".join([about, "\n".join(lines), *pictures])


def _curves(out: Path, view: PageView | None, *, png: bool) -> str:
    if view is None:
        return f"Charts need more packages: `{INSTALL}`."
    return write_curves(out, view.curves, png=png)


def _diagnoses(folder: StudyFolder) -> list[str]:
    """What `lossary diagnose` wrote of this study, one section a pair of sides."""
    return [read_diagnosis_markdown(path).rstrip() for path in sorted(folder.diagnosis.glob("*.md"))]


def _worst(checked: Checked) -> str:
    return f"{checked.count('error')} errors, {checked.count('warning')} warnings; {verdict_text(checked)}."


def _write(path: Path, text: str) -> None:
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class _Best(NamedTuple):
    value: float
    run: str


def verdict(table: Table) -> str:
    """One paragraph: coverage, the best run by validation share, and how many numbers say that nothing was learned."""
    losses = [(run.name, table.total(run.name, table.main_loss, "validation_share").value) for run in table.runs]
    measured = [_Best(value, name) for name, value in losses if value is not None]
    cells = [cell for cell in table.cells if cell.metric == table.main_loss]
    coverage = sum(cell.value is not None for cell in cells)
    source = "as printed" if table.is_imported else f"measured on {_examples(table):,} frozen validation examples"
    parts = [f"{coverage} of {len(cells)} cells {source}."]
    if measured:
        best = min(measured)
        parts.append(
            f"Lowest {metric_title(table.main_loss)} by validation share: **{number(best.value, table.main_loss)}**, "
            f"{escape_markdown(best.run)}."
        )
    for objective in OBJECTIVES.values():
        what = "the unigram entropy" if objective.is_of_tokens else "chance"
        of_metric = [cell for cell in table.cells if cell.metric == objective.loss and cell.standing is not None]
        below = sum(cell.standing == "below" for cell in of_metric)
        if of_metric:
            parts.append(f"{objective.title} is below {what} in {below} of {len(of_metric)} cells.")
    return " ".join(parts)


def _examples(table: Table) -> int:
    return sum(row.validation_examples or 0 for row in table.datasets)


def _tables(table: Table) -> str:
    """Groups of runs that fit a page; first both MLM metrics, then both losses of SOP."""
    pairs = dict.fromkeys(_pair_of(metric) for metric in table.shown)
    shown = [tuple(metric for metric in pair if metric in table.shown) for pair in pairs]
    names = [run.name for run in table.runs]
    size = max(1, _MOST_COLUMNS // 2)
    groups = [names[start : start + size] for start in range(0, len(names), size)]
    return "\n\n".join(markdown_table(table, group, pair) for pair in shown for group in groups)


def _pair_of(metric: Metric) -> tuple[Metric, ...]:
    """What stands in one table: the loss and the accuracy of one objective and split."""
    for quantity in ("loss", "accuracy"):
        if metric.endswith(quantity):
            stem = metric.removesuffix(quantity)
            return f"{stem}loss", f"{stem}accuracy"
    return (metric,)


def _legend(table: Table) -> str:
    if table.is_imported:
        return "Numbers and links as printed; they come without n, so without intervals. Other totals are computed."
    return (
        "± is a 95 % interval from the sampling of validation examples. Losses are in nats: MLM over masked positions, "
        "SOP over labelled pairs; accuracies are fractions. Every total names its weighting; † leaves out a dataset "
        "that has no such value."
    )


def _seeds(table: Table) -> str:
    """The spread over seeds by dataset; another error than the one of sampling."""
    lines = ["Mean and standard deviation between runs that differ in their seed only.", ""]
    lines += ["| runs | dataset | metric | mean | deviation |", "|---|---|---|---:|---:|"]
    for row in table.seed_spreads:
        name = escape_markdown(row.dataset or "total by validation share")
        runs = escape_markdown(", ".join(row.runs))
        lines.append(f"| {runs} | {name} | {row.metric} | {number(row.mean, row.metric)} | {row.deviation:.4f} |")
    return "\n".join(lines)


def _runs(table: Table, study: Study, folder: StudyFolder) -> str:
    lines = ["| run | backend | size | step | tokens | trained on | device |", "|---|---|---|---:|---:|---|---|"]
    records = {}
    for run in table.runs:
        # Backend and size stand in the table already.
        records[run.name] = run_settings(folder, run.name).get("recipe", {})
        trained = trained_on(run, study) or "—"
        name = markdown_link(escape_markdown(run.name), run.link)
        cells = [
            name,
            run.backend or "—",
            escape_markdown(run.size or "—"),
            short_count(run.step),
            short_count(run.tokens),
        ]
        lines.append("| " + " | ".join([*cells, escape_markdown(trained), escape_markdown(run.device or "—")]) + " |")
    differing = _differences(records)
    if differing:
        lines += ["", "Settings in which the runs differ:", "", *differing]
    else:
        lines += ["", "The runs have the same recipe."]
    return "\n".join(lines)


def _differences(records: dict[str, dict[str, Any]]) -> list[str]:
    found = differing_settings(list(records.values()))
    if not found:
        return []
    head = ["setting", *(escape_markdown(run) for run in records)]
    return [
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *("| " + " | ".join(map(escape_markdown, [row.name, *row.values])) + " |" for row in found),
    ]


def _mixture(table: Table, folder: StudyFolder) -> str:
    head = ["dataset", "train rows", "planned %", *(f"{escape_markdown(run.name)} realised %" for run in table.runs)]
    realised = {run.name: realised_shares(folder, run.name) for run in table.runs}
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in table.datasets:
        shares = [realised[run.name].get(row.name) for run in table.runs]
        cells = [escape_markdown(row.name), short_count(row.train_rows), percent(row.train_share)]
        lines.append("| " + " | ".join([*cells, *("—" if s is None else percent(s) for s in shares)]) + " |")
    own = own_mixtures(folder, table)
    return "\n".join([*lines, *(["", f"{escape_markdown('; '.join(own))}."] if own else [])])


def _provenance(opened: OpenTable) -> str:
    lines = ["| what | value |", "|---|---|"]
    rows = provenance_rows(opened)
    return "\n".join([*lines, *(f"| {escape_markdown(what)} | {escape_markdown(value)} |" for what, value in rows)])

"""The report of a study: report.md with its charts as SVG beside it, table.csv and table.json.

The order is that of a reader's questions: what came out, which numbers, what to beware of, how training went, on which
mixture, how to get here again.
"""

import json
import platform
from pathlib import Path
from typing import Any, NamedTuple

from lossary import __version__
from lossary.data.shards import MANIFEST
from lossary.files import read_json, write_atomic
from lossary.findings.engine import Checked
from lossary.folder import StudyFolder
from lossary.reports.charts import write_curves
from lossary.reports.export import csv_text, json_value
from lossary.reports.findings import findings_markdown, verdict_text
from lossary.reports.markdown import escape_markdown, markdown_link, markdown_table
from lossary.reports.text import number, percent, short_count
from lossary.study import Study
from lossary.tables.comparability import differing_settings, realised_shares, run_settings
from lossary.tables.load import OpenTable
from lossary.tables.model import Metric, Table

__all__ = ["verdict", "write_report"]

# A Markdown table wider than this is one that nobody reads.
_MOST_COLUMNS = 8


def write_report(opened: OpenTable, checked: Checked) -> Path:
    """Writes the report of a study, or of imported tables; returns the path of report.md."""
    table, study, folder = opened
    folder.report.mkdir(parents=True, exist_ok=True)
    sections = [
        f"# {escape_markdown(table.study)}",
        f"{verdict(table)} {escape_markdown(_worst(checked))}",
        "## Findings",
        findings_markdown(checked),
        "## Loss by dataset",
        _tables(table),
        _legend(table),
        *(["## Seeds", _seeds(table)] if table.seed_spreads else []),
        *(["## Beware", "\n".join(f"- {escape_markdown(note)}" for note in table.notes)] if table.notes else []),
    ]
    if study is not None:
        sections += [
            *_diagnoses(folder),
            "## Runs",
            _runs(table, folder),
            "## Curves",
            write_curves(folder, table).text,
            "## Mixture",
            _mixture(table, folder),
            "## Provenance",
            _provenance(study, table, folder),
        ]
    path = folder.report / "report.md"
    _write(path, "\n\n".join(sections) + "\n")
    _write(folder.report / "table.csv", csv_text(table))
    _write(
        folder.report / "table.json",
        json.dumps(json_value(table), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    )
    return path


def _diagnoses(folder: StudyFolder) -> list[str]:
    """What `lossary diagnose` wrote of this study, one section a pair of sides."""
    return [path.read_text(encoding="utf-8").rstrip() for path in sorted(folder.diagnosis.glob("*.md"))]


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
    losses = [(run.name, table.total(run.name, "mlm_loss", "validation_share").value) for run in table.runs]
    measured = [_Best(value, name) for name, value in losses if value is not None]
    cells = [cell for cell in table.cells if cell.metric == "mlm_loss"]
    coverage = sum(cell.value is not None for cell in cells)
    source = "as printed" if table.is_imported else f"measured on {_examples(table):,} frozen validation examples"
    parts = [f"{coverage} of {len(cells)} cells {source}."]
    if measured:
        best = min(measured)
        parts.append(
            f"Lowest MLM loss by validation share: **{number(best.value, 'mlm_loss')}**, {escape_markdown(best.run)}."
        )
    for metric, what in (("mlm_loss", "the unigram entropy"), ("sop_loss", "chance")):
        of_metric = [cell for cell in table.cells if cell.metric == metric and cell.standing is not None]
        below = sum(cell.standing == "below" for cell in of_metric)
        if of_metric:
            parts.append(f"{metric.split('_')[0].upper()} is below {what} in {below} of {len(of_metric)} cells.")
    return " ".join(parts)


def _examples(table: Table) -> int:
    return sum(row.validation_examples or 0 for row in table.datasets)


def _tables(table: Table) -> str:
    """Groups of runs that fit a page; first both MLM metrics, then both losses of SOP."""
    pairs: list[tuple[Metric, ...]] = [("mlm_loss", "mlm_accuracy"), ("sop_loss", "sop_accuracy")]
    shown = [pair for pair in pairs if any(c.metric in pair and c.value is not None for c in table.cells)]
    names = [run.name for run in table.runs]
    size = max(1, _MOST_COLUMNS // 2)
    groups = [names[start : start + size] for start in range(0, len(names), size)]
    return "\n\n".join(markdown_table(table, group, pair) for pair in shown for group in groups)


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


def _runs(table: Table, folder: StudyFolder) -> str:
    lines = ["| run | backend | size | step | tokens | trained on | device |", "|---|---|---|---:|---:|---|---|"]
    records = {}
    for run in table.runs:
        # Backend and size stand in the table already.
        records[run.name] = run_settings(folder, run.name).get("recipe", {})
        trained = "all" if run.datasets is None or len(run.datasets) == len(table.datasets) else ", ".join(run.datasets)
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
    return "\n".join(lines)


def _provenance(study: Study, table: Table, folder: StudyFolder) -> str:
    rows = [
        ("signature", table.signature),
        ("validation set", table.validation_digest or "—"),
        ("tokenizer", table.tokenizer_digest or "—"),
        *((f"weights of {run.name}", run.weights_digest or "—") for run in table.runs),
        *((f"dataset {name}", _dataset(folder, name)) for name in study.datasets),
        ("made by", f"lossary {__version__}, Python {platform.python_version()}"),
    ]
    lines = ["| what | value |", "|---|---|"]
    return "\n".join([*lines, *(f"| {escape_markdown(what)} | {escape_markdown(value)} |" for what, value in rows)])


def _dataset(folder: StudyFolder, name: str) -> str:
    manifest = read_json(folder.dataset(name) / MANIFEST)
    text = f"{manifest['digest']}, {manifest['rows']:,} rows"
    return text + (f", {manifest['bad_rows']:,} bad rows left out" if manifest["bad_rows"] else "")

"""Loss by dataset: one block a metric, datasets down and runs across, totals below.

Numbers are written by `reports.text`, as in every other view; a cell also has its value in full to sort by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lossary.objectives import OBJECTIVES
from lossary.reports.html.links import Links
from lossary.reports.html.marks import Mark, marks_of
from lossary.reports.text import (
    WEIGHTING_TITLES,
    delta_text,
    half_width,
    metric_title,
    number,
    percent,
    plain,
    safe_link,
    short_count,
    shown,
    step_mark,
    total_counts,
    total_mark,
    weightings,
)
from lossary.tables.model import (
    Cell,
    DatasetRow,
    Delta,
    Metric,
    RunColumn,
    SeedSpreadRow,
    Table,
    Total,
    is_across_vocabularies,
    measure_of,
)

__all__ = ["Block", "CellView", "LossesView", "RunHead", "losses_view", "run_heads"]

_UNITS: dict[Metric, str] = {
    **{objective.loss: f"nats a {objective.target}" for objective in OBJECTIVES.values()},
    **{objective.accuracy: f"fraction of {objective.targets}" for objective in OBJECTIVES.values()},
}
# Of a table with more cells than this no cell has a text of its own to hover over: it would be most of the page.
_MOST_ABOUT = 8_000
_STANDINGS = {"at": ("≈", "not shown to differ from the floor"), "above": ("▲", "above the floor")}


@dataclass(frozen=True, kw_only=True)
class RunHead:
    """A run as the head of a column."""

    name: str
    href: str | None  # where the page describes it
    link: str | None  # where the study keeps it
    about: str
    mark: Mark
    section: str | None
    is_base: bool
    vocabulary: int  # runs of one number were scored in one vocabulary


@dataclass(frozen=True, kw_only=True)
class CellView:
    """A number with its interval, marks and links; or `—` with the reason."""

    text: str
    value: float | None
    half: str = ""
    mark: str = ""
    mark_means: str = ""
    about: str = ""
    reason: str | None = None
    href: str | None = None
    origin: str | None = None  # where an imported number came from, if the number itself leads elsewhere
    chart: str | None = None
    is_best: bool = False
    delta: str = ""
    delta_value: float | None = None
    delta_about: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A dataset; or a total, which has no link and no floor."""

    name: str
    href: str | None = None
    link: str | None = None
    train_rows: str = ""
    train_rows_value: int | None = None
    train_share: str = ""
    train_share_value: float | None = None
    validation_share: str = ""
    validation_share_value: float | None = None
    floor: str = ""
    floor_value: float | None = None
    cells: list[CellView]
    is_headline: bool = False


@dataclass(frozen=True, kw_only=True)
class Block:
    """One metric of all runs that have it."""

    metric: Metric
    title: str
    unit: str
    is_loss: bool
    is_open: bool  # else it is folded: shown to those who ask for it
    has_floor: bool
    has_rows: bool  # whether training rows of any dataset are known; so of the shares
    has_train: bool
    has_validation: bool
    is_within: bool  # whether only runs of one vocabulary can be compared by it
    runs: list[RunHead]
    sections: list[tuple[str, int]]  # of an imported page, with the number of runs in each; empty if there is one
    rows: list[Row]
    totals: list[Row]


@dataclass(frozen=True, kw_only=True)
class SeedsBlock:
    """Runs that differ in their seed only; `rows` are name, and mean and deviation by metric."""

    runs: list[str]
    metrics: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]


@dataclass(frozen=True, kw_only=True)
class LossesView:
    """The whole section."""

    blocks: list[Block]
    base: str | None
    legend: list[tuple[str, str]]  # mark and meaning
    seeds: list[SeedsBlock]
    is_imported: bool


def losses_view(table: Table, links: Links, *, metrics: Sequence[Metric] | None = None) -> LossesView:
    """The section of a table; metrics and runs without any value are left out."""
    measured = {(cell.run, cell.metric) for cell in table.cells if cell.value is not None}
    heads = dict(zip([run.name for run in table.runs], run_heads(table, links), strict=True))
    blocks = []
    for metric in table.metrics if metrics is None else metrics:
        of_metric = {run: head for run, head in heads.items() if (run, metric) in measured}
        if of_metric:
            blocks.append(_block(table, metric, of_metric, links))
    return LossesView(
        blocks=blocks,
        base=table.base,
        legend=_legend(table),
        seeds=_seeds(table),
        is_imported=table.is_imported,
    )


def run_heads(table: Table, links: Links) -> list[RunHead]:
    """All runs of a table with their marks."""
    marks = marks_of([run.name for run in table.runs])
    vocabularies = list(dict.fromkeys(run.vocabulary_digest for run in table.runs))
    return [
        RunHead(
            name=plain(run.name),
            href=links.run(run.name),
            link=safe_link(run.link),
            about=_about_run(run),
            mark=marks[run.name],
            section=None if run.section is None else plain(run.section),
            is_base=run.name == table.base,
            vocabulary=vocabularies.index(run.vocabulary_digest),
        )
        for run in table.runs
    ]


def _about_run(run: RunColumn) -> str:
    step = None if run.step is None else f"step {run.step:,}"
    tokens = None if run.tokens is None else f"{run.tokens:,} tokens"
    return plain(", ".join(text for text in (run.backend, run.size, step, tokens) if text))


def _block(table: Table, metric: Metric, heads: dict[str, RunHead], links: Links) -> Block:
    runs = list(heads)
    sections: list[tuple[str, int]] = []
    for head in heads.values():
        name = head.section or ""
        if sections and sections[-1][0] == name:
            sections[-1] = (name, sections[-1][1] + 1)
        else:
            sections.append((name, 1))
    return Block(
        metric=metric,
        title=metric_title(metric),
        unit=_UNITS.get(metric, measure_of(metric).unit),
        is_loss=measure_of(metric).lower_is_better,
        is_open=measure_of(metric).lower_is_better and metric in table.shown,
        has_floor=any(cell.metric == metric and cell.floor is not None for cell in table.cells),
        has_rows=any(row.train_rows is not None for row in table.datasets),
        has_train=any(row.train_share is not None for row in table.datasets),
        has_validation=any(row.validation_share is not None for row in table.datasets),
        is_within=_is_within(table, metric, runs),
        runs=list(heads.values()),
        sections=sections if len(sections) > 1 else [],
        rows=[_row(table, row, metric, runs, links) for row in table.datasets],
        totals=_totals(table, metric, runs, links),
    )


def _is_within(table: Table, metric: Metric, runs: list[str]) -> bool:
    """Whether some of these runs cannot be compared by a metric, as they were scored in different vocabularies."""
    digests = {run.vocabulary_digest for run in table.runs if run.name in runs and run.vocabulary_digest}
    return len(digests) > 1 and not is_across_vocabularies(metric)


def _row(table: Table, row: DatasetRow, metric: Metric, runs: list[str], links: Links) -> Row:
    cells = [table.cell(run, row.name, metric) for run in runs]
    texts = [] if _is_within(table, metric, runs) else [shown(cell) for cell in cells if cell.value is not None]
    best = _best(texts, metric)
    floor = next((cell.floor for cell in cells if cell.floor is not None), None)
    return Row(
        name=plain(row.name),
        href=links.dataset(row.name),
        link=safe_link(row.link),
        train_rows=short_count(row.train_rows),
        train_rows_value=row.train_rows,
        train_share=percent(row.train_share),
        train_share_value=row.train_share,
        validation_share=percent(row.validation_share),
        validation_share_value=row.validation_share,
        floor=number(floor, metric),
        floor_value=floor,
        cells=[_cell(table, cell, row.name, best, links) for cell in cells],
    )


def _best(texts: list[str], metric: Metric) -> str | None:
    """The best of some numbers as they are shown; None if there is nothing to choose from."""
    try:
        values = {text: float(text) for text in texts}
    except ValueError:
        return None
    if len(values) < 2:
        return None
    return (min if measure_of(metric).lower_is_better else max)(values, key=lambda text: values[text])


def _cell(table: Table, cell: Cell, dataset: str, best: str | None, links: Links) -> CellView:
    text = shown(cell, imported=table.is_imported)
    if cell.value is None:
        return CellView(text=text, value=None, reason=plain(cell.reason or "not measured"))
    mark, means = _STANDINGS.get(cell.standing or "", ("", ""))
    delta = table.delta(cell.run, dataset, cell.metric)
    detailed = len(table.cells) <= _MOST_ABOUT
    return CellView(
        text=text,
        value=cell.value,
        half=half_width(cell) or step_mark(cell),
        mark=mark,
        mark_means=means and f"{means}: {number(cell.floor, cell.metric)}",
        about=_about(cell) if detailed else "",
        **_leads(cell.link, links.origin(cell.run, dataset, cell.metric), links.run(cell.run)),
        chart=links.curves(dataset, cell.metric),
        is_best=text == best,
        delta=delta_text(delta, width=0),
        delta_value=None if delta is None else delta.value,
        delta_about=_about_delta(delta) if detailed else "",
    )


def _leads(link: str | None, origin: str | None, run: str | None) -> dict[str, str | None]:
    """A number leads to what its source links it to, to where it came from, or to its run."""
    outside = safe_link(link)
    return {"href": outside or origin or run, "origin": origin if outside else None}


def _about(cell: Cell | Total) -> str:
    if cell.place is not None:
        return plain(f"{cell.place}; no n, no interval")
    if cell.low is None or cell.high is None:
        return plain(cell.reason or "computed of printed numbers: no n, no interval")
    return f"{cell.low:.4f} to {cell.high:.4f}, {cell.interval}, n = {cell.n:,}"


def _about_delta(delta: Delta | None) -> str:
    if delta is None or delta.value is None:
        return ""
    if delta.low is None or delta.high is None:
        return plain(delta.reason or "")
    p = "" if delta.adjusted_p is None else f", p = {delta.adjusted_p:.2g} after Holm"
    return f"{delta.low:+.4f} to {delta.high:+.4f}, paired, n = {delta.n:,}{p}"


def _totals(table: Table, metric: Metric, runs: list[str], links: Links) -> list[Row]:
    rows = []
    counts = total_counts(table)
    for weighting in weightings(table):
        headline = weighting == weightings(table)[0]
        found = [table.find_total(run, metric, weighting) for run in runs]
        values = [shown(total) for total in found if total is not None and total.value is not None]
        best = None if _is_within(table, metric, runs) else _best(values, metric)
        rows.append(
            Row(
                name=f"total {WEIGHTING_TITLES[weighting]}",
                train_rows=counts[0] if headline else "",
                train_share=counts[1] if headline else "",
                validation_share=counts[2] if headline else "",
                cells=[
                    _total(table, total, run, best, links, paired=weighting == "validation_share")
                    for run, total in zip(runs, found, strict=True)
                ],
                is_headline=headline,
            )
        )
    return rows


def _total(table: Table, total: Total | None, run: str, best: str | None, links: Links, *, paired: bool) -> CellView:
    if total is None or total.value is None:
        return CellView(text="—", value=None, reason=plain((total and total.reason) or "the page prints none"))
    text = shown(total, imported=table.is_imported)
    delta = table.delta(run, None, total.metric) if paired else None
    mark = total_mark(total)
    origin = links.origin(run, None, total.metric) if total.place is not None else None
    return CellView(
        text=text,
        value=total.value,
        half=half_width(total),
        mark=mark,
        mark_means=plain(total.reason or "") if mark else "",
        about=_about(total),
        **_leads(total.link, origin, links.run(run)),
        is_best=text == best,
        delta=delta_text(delta, width=0),
        delta_value=None if delta is None else delta.value,
        delta_about=_about_delta(delta),
    )


def _legend(table: Table) -> list[tuple[str, str]]:
    if table.is_imported:
        found = [("", "numbers and links as printed: no n, so no interval; other totals are computed")]
    else:
        found = [("±", "95 %, sampling of validation examples")]
    if not table.is_imported and any(cell.floor is not None for cell in table.cells):
        found.append(("floor", "unigram entropy (MLM), label entropy (SOP)"))
    if any(cell.standing == "at" for cell in table.cells):
        found.append(("≈", "not shown to differ from the floor"))
    if any(cell.standing == "above" for cell in table.cells):
        found.append(("▲", "above the floor"))
    if any(total_mark(total) for total in table.totals):
        found.append(("†", "without a dataset that has no such value"))
    if any(cell.value is None for cell in table.cells):
        found.append(("—", "no such number; the reason shows on it"))
    if table.deltas and not table.is_imported:
        found += [
            ("●", f"differs from {plain(table.base or '')}, paired by example, after Holm"),
            ("○", "not shown to differ"),
            ("=", "too small for the digits shown"),
        ]
    return found


def _seeds(table: Table) -> list[SeedsBlock]:
    blocks = []
    for runs in dict.fromkeys(tuple(row.runs) for row in table.seed_spreads):
        rows = [row for row in table.seed_spreads if tuple(row.runs) == runs]
        metrics = [metric for metric in table.shown if any(row.metric == metric for row in rows)]
        at = {(row.dataset, row.metric): row for row in rows}
        blocks.append(
            SeedsBlock(
                runs=[plain(run) for run in runs],
                metrics=[metric_title(metric) for metric in metrics],
                rows=[
                    (
                        plain(dataset or "total by validation share"),
                        [_spread(at.get((dataset, metric)), metric) for metric in metrics],
                    )
                    for dataset in dict.fromkeys(row.dataset for row in rows)
                ],
            )
        )
    return blocks


def _spread(row: SeedSpreadRow | None, metric: Metric) -> tuple[str, str]:
    return ("—", "") if row is None else (number(row.mean, metric), f"{row.deviation:.4f}")

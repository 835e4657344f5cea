"""Views of pages that only the dashboard has: a run, a dataset, two runs, progress. Numbers are the report's own."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from lossary.dashboard.addresses import Addresses
from lossary.findings.engine import Checked
from lossary.reports.comparison import own_mixture_text
from lossary.reports.html.views.losses import CellView, Row, RunHead, losses_view, run_heads
from lossary.reports.progress import ending_text, killed_text, progress_text, state_word
from lossary.reports.text import percent, plain, safe_link, short_count, trained_on
from lossary.results.progress import RunProgress
from lossary.study import Study
from lossary.tables.comparability import flat_settings, realised_shares, run_settings, setting_text
from lossary.tables.comparison import Comparison
from lossary.tables.load import OpenTable
from lossary.tables.model import DatasetRow, RunColumn, Table

__all__ = [
    "CompareView",
    "DatasetView",
    "ProgressRow",
    "RunView",
    "about_findings",
    "compare_view",
    "dataset_view",
    "narrowed",
    "progress_rows",
    "run_view",
]

Facts = list[tuple[str, str]]  # name and value


@dataclass(frozen=True, kw_only=True)
class ProgressRow:
    """How far a run is, in words."""

    name: str
    href: str | None
    state: str
    part: float
    text: str


@dataclass(frozen=True, kw_only=True)
class DatasetOfRun:
    """A dataset in the table of one run: shares and a number by metric; None where the run has no such metric."""

    row: Row
    realised: str
    cells: list[CellView | None]


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run: what it is, its numbers by dataset, its settings."""

    head: RunHead
    base: str | None
    facts: Facts
    metrics: list[str]
    rows: list[DatasetOfRun]
    totals: list[tuple[str, list[CellView | None]]]
    settings: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class RunOfDataset:
    """A run in the table of one dataset."""

    head: RunHead
    cells: list[CellView | None]


@dataclass(frozen=True, kw_only=True)
class DatasetView:
    """One dataset: what it is, and the numbers of all runs."""

    name: str
    link: str | None
    base: str | None
    facts: Facts
    metrics: list[str]
    rows: list[RunOfDataset]
    examples: str | None


@dataclass(frozen=True, kw_only=True)
class CompareView:
    """Two runs: whether they can be compared, what came of it, in what they differ."""

    first: str
    second: str
    checks: list[tuple[str, str, str, str]]  # what, verdict, both values
    refused: list[str]
    unknown: list[str]
    examples: list[tuple[str, str]]  # datasets and the addresses of the examples that make their gaps
    bits: list[tuple[str, ...]]
    settings: list[tuple[str, list[str]]]
    own_mixture: str


def narrowed(table: Table, *, runs: Collection[str] | None = None, datasets: Collection[str] | None = None) -> Table:
    """The part of a table that is of some runs and datasets; totals stay those of all datasets."""
    keeps_run = (lambda _: True) if runs is None else runs.__contains__
    keeps_dataset = (lambda _: True) if datasets is None else datasets.__contains__
    return replace(
        table,
        runs=[run for run in table.runs if keeps_run(run.name)],
        datasets=[row for row in table.datasets if keeps_dataset(row.name)],
        cells=[cell for cell in table.cells if keeps_run(cell.run) and keeps_dataset(cell.dataset)],
        totals=[total for total in table.totals if keeps_run(total.run)],
        deltas=[
            delta
            for delta in table.deltas
            if keeps_run(delta.run) and (delta.dataset is None or keeps_dataset(delta.dataset))
        ],
    )


def progress_rows(progress: Collection[RunProgress], links: Addresses) -> list[ProgressRow]:
    """Progress in words."""
    return [
        ProgressRow(
            name=plain(run.run), href=links.run(run.run), state=state_word(run), part=run.part, text=_progress_text(run)
        )
        for run in progress
    ]


def _progress_text(run: RunProgress) -> str:
    more = ending_text(run.ending) if run.ending else killed_text(run.killed) if run.killed else ""
    return "; ".join(part for part in (progress_text(run), more) if part)


def failed_runs(progress: Collection[RunProgress]) -> str:
    """How many runs failed, in words; empty if none did."""
    failed = [run for run in progress if state_word(run) == "failed"]
    return f"{len(failed):,} of {len(progress):,} runs failed" if failed else ""


def with_code(text: str) -> Markup:
    """A message whose commands stand between backticks, as HTML."""
    parts = (
        f"<code>{escape(part)}</code>" if number % 2 else escape(part) for number, part in enumerate(text.split("`"))
    )
    return Markup("".join(map(str, parts))) if text.count("`") % 2 == 0 else escape(text)


def about_findings(checked: Checked, *, run: str | None = None, dataset: str | None = None) -> Checked:
    """The findings that name a run or a dataset; what passed or was skipped is left out."""
    found = [
        finding
        for finding in checked.findings
        if finding.severity in ("error", "warning", "info")
        and (run is None or run in finding.runs or finding.subject == run)
        and (dataset is None or dataset in finding.datasets or finding.subject == dataset)
    ]
    return replace(checked, findings=found)


def run_view(opened: OpenTable, run: str, links: Addresses) -> RunView:
    """The page of a run."""
    table = opened.table
    at = next(index for index, column in enumerate(table.runs) if column.name == run)
    blocks = {
        block.metric: block for block in losses_view(narrowed(table, runs=[run]), links, metrics=table.shown).blocks
    }
    metrics = list(blocks)
    realised = realised_shares(opened.folder, run) if opened.study is not None else {}
    totals = {(total.name, metric): total.cells[0] for metric in metrics for total in blocks[metric].totals}
    settings = run_settings(opened.folder, run) if opened.study is not None else {}
    return RunView(
        head=run_heads(table, links)[at],
        base=None if table.base in (run, None) else plain(table.base or ""),
        facts=_run_facts(table.runs[at], opened.study),
        metrics=[blocks[metric].title for metric in metrics],
        rows=[
            DatasetOfRun(
                row=blocks[metrics[0]].rows[index],
                realised=percent(realised.get(row.name)) if realised else "",
                cells=[blocks[metric].rows[index].cells[0] for metric in metrics],
            )
            for index, row in enumerate(table.datasets)
            if metrics
        ],
        totals=[
            (name, [totals.get((name, metric)) for metric in metrics]) for name in dict.fromkeys(n for n, _ in totals)
        ],
        settings=[(plain(name), plain(setting_text(value))) for name, value in sorted(flat_settings(settings).items())],
    )


def _run_facts(run: RunColumn, study: Study | None) -> Facts:
    found = [
        ("backend", run.backend),
        ("size", run.size),
        ("step", None if run.step is None else short_count(run.step)),
        ("tokens", None if run.tokens is None else short_count(run.tokens)),
        ("trained on", trained_on(run, study)),
        ("device", run.device),
        ("precision", run.precision),
        ("seed", None if run.seed is None else str(run.seed)),
        ("weights", run.weights_digest),
        ("from", run.section),
    ]
    return [(name, plain(value)) for name, value in found if value]


def dataset_view(opened: OpenTable, dataset: str, links: Addresses) -> DatasetView:
    """The page of a dataset."""
    table = opened.table
    described = next(row for row in table.datasets if row.name == dataset)
    heads = {head.name: head for head in run_heads(table, links)}
    blocks = losses_view(narrowed(table, datasets=[dataset]), links, metrics=table.shown).blocks
    cells = {
        (head.name, block.metric): cell
        for block in blocks
        for head, cell in zip(block.runs, block.rows[0].cells, strict=True)
    }
    floors = [(f"floor of {block.title}", block.rows[0].floor) for block in blocks if block.has_floor]
    return DatasetView(
        name=plain(dataset),
        link=safe_link(described.link),
        base=None if table.base is None else plain(table.base),
        facts=[*_dataset_facts(described), *floors],
        metrics=[block.title for block in blocks],
        rows=[
            RunOfDataset(head=head, cells=[cells.get((name, block.metric)) for block in blocks])
            for name, head in heads.items()
            if any((name, block.metric) in cells for block in blocks)
        ],
        examples=links.examples(dataset),
    )


def _dataset_facts(row: DatasetRow) -> Facts:
    found = [
        ("train rows", None if row.train_rows is None else short_count(row.train_rows)),
        ("train share", None if row.train_share is None else f"{percent(row.train_share)} %"),
        ("validation share", None if row.validation_share is None else f"{percent(row.validation_share)} %"),
        ("validation", None if row.validation_examples is None else f"{row.validation_examples:,} frozen examples"),
    ]
    return [(name, value) for name, value in found if value]


def compare_view(found: Comparison, links: Addresses, *, examples: bool) -> CompareView:
    """The page of two runs; with links to their `examples` where both are of this study."""
    table = found.table
    return CompareView(
        first=plain(found.first),
        second=plain(found.second),
        checks=[(check.what, check.verdict, plain(check.first), plain(check.second)) for check in found.checks.checks],
        refused=[check.what for check in found.checks.refused],
        unknown=[check.what for check in found.checks.unknown],
        examples=[
            (plain(row.name), links.page("examples", dataset=row.name, first=found.first, second=found.second))
            for row in (table.datasets if table is not None and examples else [])
        ],
        bits=[
            (plain(name), *(("—" if value is None else f"{value:.4f}") for value in values))
            for name, values in found.bits_per_byte.items()
        ],
        settings=[(plain(row.name), [plain(value) for value in row.values]) for row in found.settings],
        own_mixture=plain(own_mixture_text(found)),
    )

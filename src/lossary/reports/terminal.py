"""The table in a terminal: up to two runs with all their metrics, more as one block for each metric."""

from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lossary.reports.sequential import print_sequential
from lossary.reports.text import (
    delta_text,
    half_width,
    metric_title,
    number,
    percent,
    plain,
    short_count,
    short_names,
    shown,
    step_mark,
    total_counts,
    total_mark,
    weightings,
)
from lossary.tables.model import Cell, Metric, Table, Total, Weighting

__all__ = ["print_table", "terminal_text"]

WIDTH = 100
# Widths in characters with the space in front: of a dataset's name and share, a floor, a number, a difference.
_FIRST, _FLOOR, _VALUE, _DELTA = 23, 7, 13, 10
# Columns of training: rows and shares.
_TRAINED = 19
# Characters of names; longer ones keep both ends.
_NAME, _RUN = 22, 20
# As the columns of shares are called; the legend says it in full.
_TOTALS: dict[Weighting, str] = {
    "validation_share": "total by val%",
    "train_share": "total by train%",
    "macro": "total macro",
    "reported": "total, reported",
}
_STYLES: dict[Weighting, str] = {"reported": "bold", "validation_share": "bold", "train_share": "", "macro": ""}
_MARKS = {"at": "≈", "above": "▲", "below": " ", None: " "}
_ASCII = str.maketrans(
    {"±": "~", "—": "-", "≈": "=", "▲": "^", "†": "+", "·": ".", "─": "-", "…": "~", "Δ": "d", "●": "*", "○": "o"}
)


def terminal_text(
    table: Table, *, metrics: Sequence[Metric] | None = None, ascii_only: bool = False, width: int = WIDTH
) -> str:
    """The table as plain text of a fixed width."""
    console = Console(file=StringIO(), width=width, color_system=None, highlight=False)
    print_table(table, console, metrics=metrics)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text


def print_table(table: Table, console: Console, *, metrics: Sequence[Metric] | None = None) -> None:
    """Prints title, blocks, legend and notes."""
    metrics = table.shown if metrics is None else metrics
    digest = f"validation {table.validation_digest[8:16]}" if table.validation_digest else "imported"
    console.print(f"[bold]{escape(plain(table.study))}[/bold]  {digest}")
    for section in dict.fromkeys(run.section for run in table.runs):
        runs = [run.name for run in table.runs if run.section == section]
        if section:
            console.print(f"\n[bold underline]{escape(plain(section))}[/]")
        _print_blocks(table, console, runs, metrics)
    _print_seeds(table, console, metrics)
    print_sequential(table.sequential, console)
    console.print()
    _print_legend(table, console, metrics)
    for note in table.notes:
        console.print(f"note: {escape(plain(note))}", style="yellow")


def _print_blocks(table: Table, console: Console, runs: Sequence[str], metrics: Sequence[Metric]) -> None:
    measured = {(cell.run, cell.metric) for cell in table.cells if cell.value is not None}
    having = {metric: [run for run in runs if (run, metric) in measured] for metric in metrics}
    if len(runs) <= 2 and table.base is None and not table.has_own_metrics:
        for run in runs:
            console.print()
            console.print(_run_block(table, run, [metric for metric in metrics if run in having[metric]]))
        return
    size = _runs_a_block(table, metrics, console.width)
    for metric in metrics:
        for start in range(0, len(having[metric]), size):
            console.print()
            console.print(_metric_block(table, metric, having[metric][start : start + size]))


def _runs_a_block(table: Table, metrics: Sequence[Metric], width: int) -> int:
    """How many runs stand side by side, the same for every metric: two at least, which fit the narrowest width."""
    has_floor = any(cell.floor is not None and cell.metric in metrics for cell in table.cells)
    first = _FIRST + (_TRAINED if _is_trained(table) else 0) + (_FLOOR if has_floor else 0)
    return max(2, (width - first) // (_VALUE + 1 + (0 if table.base is None else _DELTA)))


def _is_trained(table: Table) -> bool:
    """Whether anything is known of rows and shares of training."""
    return table.is_imported or any(row.train_rows is not None or row.train_share is not None for row in table.datasets)


def _print_seeds(table: Table, console: Console, metrics: Sequence[Metric]) -> None:
    """A column of its own, never mixed with the error of sampling."""
    for runs in dict.fromkeys(tuple(row.runs) for row in table.seed_spreads):
        rows = [row for row in table.seed_spreads if tuple(row.runs) == runs and row.metric in metrics]
        title = f"{len(runs)} seeds: {', '.join(runs)}; mean, standard deviation between seeds"
        grid = Grid(
            title=escape(plain(title)), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
        )
        grid.add_column("dataset", min_width=14)
        shown = [metric for metric in metrics if any(row.metric == metric for row in rows)]
        for metric in shown:
            grid.add_column(metric_title(metric), justify="right", min_width=_VALUE)
        at = {(row.dataset, row.metric): row for row in rows}
        for dataset in dict.fromkeys(row.dataset for row in rows):
            found = [at.get((dataset, metric)) for metric in shown]
            texts = ["—" if row is None else f"{number(row.mean, row.metric)} {row.deviation:.4f}" for row in found]
            grid.add_row(escape(plain(dataset or "total by val%")), *texts)
        console.print()
        console.print(grid)


def _print_legend(table: Table, console: Console, metrics: Sequence[Metric]) -> None:
    lines = []
    cells = [cell for cell in table.cells if cell.metric in metrics]
    if not table.is_imported:
        floors = any(cell.floor is not None for cell in cells)
        said = " · floor: unigram entropy (MLM), label entropy (SOP)" if floors else ""
        lines.append(f"± 95 %, sampling of validation examples{said}")
    if any(cell.standing in ("at", "above") for cell in cells):
        lines.append("≈ not shown to differ from the floor · ▲ above the floor")
    if any(total_mark(total) for total in table.totals):
        lines.append("† without a dataset that has no such value")
    if table.deltas:
        marks = "paired by example · ● differs after Holm · ○ not shown to differ · = same digits"
        lines.append(f"Δ to {table.base}, {'of printed numbers' if table.is_imported else marks}")
    for line in lines:
        console.print(escape(plain(line)), style="dim")


def _grid(table: Table, title: str) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    grid.add_column("dataset", no_wrap=True, overflow="ellipsis", min_width=14, max_width=_NAME)
    if _is_trained(table):
        grid.add_column("train rows", justify="right", no_wrap=True, min_width=11)
        grid.add_column("train%", justify="right", no_wrap=True, min_width=6)
    grid.add_column("val%", justify="right", no_wrap=True, min_width=6)
    return grid


def _rows(table: Table) -> list[list[str]]:
    rows = []
    short = short_names([plain(row.name) for row in table.datasets], _NAME)
    for row in table.datasets:
        trained = [short_count(row.train_rows), percent(row.train_share)] if _is_trained(table) else []
        name = plain(row.name)
        rows.append([escape(short.get(name, name)), *trained, percent(row.validation_share)])
    return rows


def _total_labels(table: Table, weighting: Weighting) -> list[str]:
    """The first columns of a total; the headline also says the sums of rows and shares."""
    is_headline, is_trained = weighting == weightings(table)[0], _is_trained(table)
    texts = total_counts(table) if is_trained else total_counts(table)[-1:]
    return [_TOTALS[weighting], *(texts if is_headline else ("" for _ in texts))]


def _run_block(table: Table, run: str, metrics: Sequence[Metric]) -> Grid:
    column = next(column for column in table.runs if column.name == run)
    grid = _grid(
        table,
        f"{escape(plain(run))}  {column.backend} {escape(plain(column.size or ''))}  step {column.step or 0:,}",
    )
    for metric in metrics:
        grid.add_column(f"{metric_title(metric)} ±95", justify="right", no_wrap=True, min_width=_VALUE)
    for row, dataset in zip(_rows(table), table.datasets, strict=True):
        grid.add_row(*row, *(_text(table.cell(run, dataset.name, metric)) for metric in metrics))
    grid.add_section()
    for weighting in weightings(table):
        values = (_text(table.find_total(run, metric, weighting)) for metric in metrics)
        grid.add_row(*_total_labels(table, weighting), *values, style=_STYLES[weighting])
    return grid


def _metric_block(table: Table, metric: Metric, runs: Sequence[str]) -> Grid:
    with_floor = any(cell.metric == metric and cell.floor is not None for cell in table.cells)
    grid = _grid(table, metric_title(metric) if table.is_imported else f"{metric_title(metric)} ±95")
    if with_floor:
        grid.add_column("floor", justify="right", no_wrap=True, style="dim", min_width=6)
    short = short_names([plain(run.name) for run in table.runs], _RUN)
    for run in runs:
        grid.add_column(
            escape(short.get(plain(run), plain(run))),
            justify="right",
            no_wrap=True,
            overflow="ellipsis",
            min_width=_VALUE,
            max_width=_RUN,
        )
        if _has_delta(table, metric, run):
            grid.add_column("Δ base", justify="right", no_wrap=True, min_width=9)
    having = {cell.dataset for cell in table.cells if cell.metric == metric and cell.n}
    for row, dataset in zip(_rows(table), table.datasets, strict=True):
        cells = [table.cell(run, dataset.name, metric) for run in runs]
        if table.has_own_metrics and not table.is_imported and dataset.name not in having:
            continue
        floor = next((cell.floor for cell in cells if cell.floor is not None), None)
        texts = (text for cell in cells for text in _with_delta(table, metric, cell, cell.run, dataset.name))
        grid.add_row(*row, *([number(floor, metric)] if with_floor else []), *texts)
    grid.add_section()
    for weighting in weightings(table):
        totals = [(run, table.find_total(run, metric, weighting)) for run in runs]
        # Only the headline total has a difference of its own.
        headline = weighting == "validation_share"
        texts = (text for run, total in totals for text in _with_delta(table, metric, total, run, None, known=headline))
        labels = _total_labels(table, weighting)
        grid.add_row(*labels, *([""] if with_floor else []), *texts, style=_STYLES[weighting])
    return grid


def _has_delta(table: Table, metric: Metric, run: str) -> bool:
    """Whether a run stands beside its difference to the base: not where metrics have none."""
    return any(delta.value is not None and (delta.run, delta.metric) == (run, metric) for delta in table.deltas)


def _with_delta(
    table: Table, metric: Metric, cell: Cell | Total | None, run: str, dataset: str | None, *, known: bool = True
) -> list[str]:
    texts = [_text(cell, imported=table.is_imported)]
    if _has_delta(table, metric, run):
        delta = table.delta(run, dataset, metric) if known and cell is not None else None
        texts.append(delta_text(delta))
    return texts


def _text(cell: Cell | Total | None, *, imported: bool = False) -> str:
    """A value with its interval, a mark of its standing, all of fixed widths so that digits stand in columns."""
    if cell is None:
        return "—"
    mark = _MARKS[cell.standing] if isinstance(cell, Cell) else total_mark(cell)
    if imported:
        return " ".join(part for part in (shown(cell, imported=True), step_mark(cell)) if part) + f"{mark:<1}"
    return f"{shown(cell)} {half_width(cell):<5}{mark:<1}"

"""The table in a terminal: up to two runs side by side, more as one block for each metric."""

from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lossary.reports.text import METRIC_TITLES, half_width, number, percent, plain, short_count, total_mark
from lossary.tables.model import METRICS, WEIGHTINGS, Cell, Metric, Table, Total, Weighting

__all__ = ["print_table", "terminal_text"]

WIDTH = 100
# A block of more runs than this would not fit the width.
_RUNS_A_BLOCK = 3
_VALUE = 13
# As the columns of shares are called; the legend says it in full.
_TOTALS: dict[Weighting, str] = {
    "validation_share": "total by val%",
    "train_share": "total by train%",
    "macro": "total macro",
}
_STYLES: dict[Weighting, str] = {"validation_share": "bold", "train_share": "", "macro": ""}
_MARKS = {"at": "≈", "above": "▲", "below": " ", None: " "}
_ASCII = str.maketrans({"±": "~", "—": "-", "≈": "=", "▲": "^", "†": "+", "·": ".", "─": "-", "…": "~"})


def terminal_text(
    table: Table, *, metrics: Sequence[Metric] = METRICS, ascii_only: bool = False, width: int = WIDTH
) -> str:
    """The table as plain text of a fixed width."""
    console = Console(file=StringIO(), width=width, color_system=None, highlight=False)
    print_table(table, console, metrics=metrics)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text


def print_table(table: Table, console: Console, *, metrics: Sequence[Metric] = METRICS) -> None:
    """Prints title, blocks, legend and notes."""
    console.print(f"[bold]{escape(plain(table.study))}[/bold]  validation {table.validation_digest[8:16]}")
    shown = [m for m in metrics if any(c.metric == m and c.value is not None for c in table.cells)]
    if len(table.runs) <= 2:
        for run in table.runs:
            console.print()
            console.print(_run_block(table, run.name, shown))
    else:
        for metric in shown:
            names = [run.name for run in table.runs]
            for start in range(0, len(names), _RUNS_A_BLOCK):
                console.print()
                console.print(_metric_block(table, metric, names[start : start + _RUNS_A_BLOCK]))
    console.print()
    console.print(
        "± 95 %, sampling of validation examples · floor: unigram entropy (MLM), label entropy (SOP)", style="dim"
    )
    if any(cell.standing in ("at", "above") for cell in table.cells):
        console.print("≈ not shown to differ from the floor · ▲ above the floor", style="dim")
    if any(total_mark(total) for total in table.totals):
        console.print("† without a dataset that has no such value", style="dim")
    for note in table.notes:
        console.print(f"note: {escape(plain(note))}", style="yellow")


def _grid(title: str) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    grid.add_column("dataset", no_wrap=True, overflow="ellipsis", min_width=14, max_width=22)
    grid.add_column("train rows", justify="right", no_wrap=True, min_width=11)
    for name in ("train%", "val%"):
        grid.add_column(name, justify="right", no_wrap=True, min_width=6)
    return grid


def _rows(table: Table) -> list[list[str]]:
    return [
        [escape(plain(row.name)), short_count(row.train_rows), percent(row.train_share), percent(row.validation_share)]
        for row in table.datasets
    ]


def _total_labels(table: Table, weighting: Weighting) -> list[str]:
    """The first columns of a total; the headline also says the sums of rows and shares."""
    if weighting != "validation_share":
        return [_TOTALS[weighting], "", "", ""]
    rows = sum(row.train_rows for row in table.datasets)
    return [_TOTALS[weighting], short_count(rows), "100.0", "100.0"]


def _run_block(table: Table, run: str, metrics: Sequence[Metric]) -> Grid:
    column = next(column for column in table.runs if column.name == run)
    grid = _grid(f"{escape(plain(run))}  {column.backend} {escape(plain(column.size))}  step {column.step:,}")
    for metric in metrics:
        grid.add_column(f"{METRIC_TITLES[metric]} ±95", justify="right", no_wrap=True, min_width=_VALUE)
    for row, dataset in zip(_rows(table), table.datasets, strict=True):
        grid.add_row(*row, *(_text(table.cell(run, dataset.name, metric)) for metric in metrics))
    grid.add_section()
    for weighting in WEIGHTINGS:
        values = (_text(table.total(run, metric, weighting)) for metric in metrics)
        grid.add_row(*_total_labels(table, weighting), *values, style=_STYLES[weighting])
    return grid


def _metric_block(table: Table, metric: Metric, runs: Sequence[str]) -> Grid:
    grid = _grid(f"{METRIC_TITLES[metric]} ±95")
    with_floor = metric.endswith("loss")
    if with_floor:
        grid.add_column("floor", justify="right", no_wrap=True, style="dim", min_width=6)
    for run in runs:
        grid.add_column(
            escape(plain(run)), justify="right", no_wrap=True, overflow="ellipsis", min_width=_VALUE, max_width=20
        )
    for row, dataset in zip(_rows(table), table.datasets, strict=True):
        cells = [table.cell(run, dataset.name, metric) for run in runs]
        grid.add_row(*row, *([number(cells[0].floor, metric)] if with_floor else []), *map(_text, cells))
    grid.add_section()
    for weighting in WEIGHTINGS:
        values = (_text(table.total(run, metric, weighting)) for run in runs)
        labels = _total_labels(table, weighting)
        grid.add_row(*labels, *([""] if with_floor else []), *values, style=_STYLES[weighting])
    return grid


def _text(cell: Cell | Total) -> str:
    """A value with its interval, a mark of its standing, all of fixed widths so that digits stand in columns."""
    mark = _MARKS[cell.standing] if isinstance(cell, Cell) else total_mark(cell)
    return f"{number(cell.value, cell.metric)} {half_width(cell):<5}{mark:<1}"

"""The table in a terminal: up to two runs side by side, more as one block for each metric."""

from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lossary.reports.text import METRIC_TITLES, WEIGHTING_TITLES, half_width, number, percent, plain, short_count
from lossary.tables.model import METRICS, Metric, Table

__all__ = ["print_table", "terminal_text"]

WIDTH = 100
_MARKS = {"at": "≈", "above": "▲", "below": "", None: ""}
_ASCII = str.maketrans({"±": "~", "—": "-", "≈": "=", "▲": "^", "·": ".", "─": "-", "…": "~"})


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
            console.print()
            console.print(_metric_block(table, metric))
    console.print()
    console.print(
        "± 95 %, sampling of validation examples · floor: unigram entropy (MLM), label entropy (SOP)", style="dim"
    )
    if any(cell.standing in ("at", "above") for cell in table.cells):
        console.print("≈ not shown to differ from the floor · ▲ above the floor", style="dim")
    for note in table.notes:
        console.print(f"note: {escape(plain(note))}", style="yellow")


def _grid(title: str) -> Grid:
    grid = Grid(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1)
    )
    grid.add_column("dataset", no_wrap=True, overflow="ellipsis", max_width=28)
    for name in ("train rows", "train%", "val%"):
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def _rows(table: Table) -> list[list[str]]:
    return [
        [escape(plain(row.name)), short_count(row.train_rows), percent(row.train_share), percent(row.validation_share)]
        for row in table.datasets
    ]


def _sum_row(table: Table) -> list[str]:
    return ["total", short_count(sum(row.train_rows for row in table.datasets)), "100.0", "100.0"]


def _run_block(table: Table, run: str, metrics: Sequence[Metric]) -> Grid:
    column = next(column for column in table.runs if column.name == run)
    grid = _grid(f"{escape(plain(run))}  {column.backend} {escape(plain(column.size))}  step {column.step:,}")
    for metric in metrics:
        grid.add_column(METRIC_TITLES[metric], justify="right", no_wrap=True)
        grid.add_column("±95", justify="left", no_wrap=True)
    for row, dataset in zip(_rows(table), table.datasets, strict=True):
        grid.add_row(*row, *(text for metric in metrics for text in _value(table, run, dataset.name, metric)))
    grid.add_section()
    for weighting, title in WEIGHTING_TITLES.items():
        totals = [table.total(run, metric, weighting) for metric in metrics]
        first = _sum_row(table) if weighting == "validation_share" else ["", "", "", ""]
        first[0] = title
        texts = (text for total in totals for text in (number(total.value, total.metric), half_width(total)))
        grid.add_row(*first, *texts, style="bold" if weighting == "validation_share" else "")
    return grid


def _metric_block(table: Table, metric: Metric) -> Grid:
    grid = _grid(METRIC_TITLES[metric])
    with_floor = metric.endswith("loss")
    if with_floor:
        grid.add_column("floor", justify="right", no_wrap=True, style="dim")
    for run in table.runs:
        grid.add_column(escape(plain(run.name)), justify="right", no_wrap=True, overflow="ellipsis")
        grid.add_column("±95", justify="left", no_wrap=True)
    for row, dataset in zip(_rows(table), table.datasets, strict=True):
        floor = table.cell(table.runs[0].name, dataset.name, metric).floor
        values = [text for run in table.runs for text in _value(table, run.name, dataset.name, metric)]
        grid.add_row(*row, *([number(floor, metric)] if with_floor else []), *values)
    grid.add_section()
    for weighting, title in WEIGHTING_TITLES.items():
        first = _sum_row(table) if weighting == "validation_share" else ["", "", "", ""]
        first[0] = title
        totals = [table.total(run.name, metric, weighting) for run in table.runs]
        texts = [text for total in totals for text in (number(total.value, metric), half_width(total))]
        grid.add_row(
            *first, *([""] if with_floor else []), *texts, style="bold" if weighting == "validation_share" else ""
        )
    return grid


def _value(table: Table, run: str, dataset: str, metric: Metric) -> tuple[str, str]:
    cell = table.cell(run, dataset, metric)
    return number(cell.value, metric), half_width(cell) + _MARKS[cell.standing]

"""How much a page draws: what would be too much to see is left out by a rule, and the page says so.

Tables are never cut; charts, curves and examples of hundreds of datasets or runs would be a page that no browser likes.
"""

from typing import NamedTuple

from lossary.tables.model import DatasetRow, RunColumn, Table

__all__ = ["Part", "largest_datasets", "leading_runs"]


class Part(NamedTuple):
    """What is drawn, in the table's order, and a sentence on what is not; empty if nothing is left out."""

    datasets: list[DatasetRow]
    note: str


def largest_datasets(table: Table, most: int) -> Part:
    """The datasets with the largest validation shares (training rows, where there are none)."""
    if len(table.datasets) <= most:
        return Part(list(table.datasets), "")
    ranked = sorted(
        range(len(table.datasets)),
        key=lambda i: (-(table.datasets[i].validation_share or 0.0), -(table.datasets[i].train_rows or 0), i),
    )
    kept = [table.datasets[i] for i in sorted(ranked[: max(most, 1)])]
    return Part(kept, f"{len(kept)} of {len(table.datasets)} datasets: those with the largest validation share.")


def leading_runs(table: Table, most: int) -> tuple[list[RunColumn], str]:
    """The first runs of the table, always with the base; and a sentence if others are left out."""
    if len(table.runs) <= most:
        return list(table.runs), ""
    kept = table.runs[:most]
    if table.base is not None and all(run.name != table.base for run in kept):
        kept = [*kept[:-1], next(run for run in table.runs if run.name == table.base)]
    return kept, f"{len(kept)} of {len(table.runs)} runs: the first of the table, with the baseline."

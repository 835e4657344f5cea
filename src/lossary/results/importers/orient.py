"""What a table says: which axis are datasets, runs, steps, splits or metrics, from its headers and values together.

A table whose rows are steps or epochs is curves. Two numbers for one cell are told apart by the columns that differ
between their rows; if none does, the file is refused and both are named.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lossary.results.importers.collect import Collector, merged
from lossary.results.importers.columns import (
    DEVIATION,
    Column,
    by_title,
    column_of,
    columns_of,
    named_by_title,
    row_axis,
    run_name,
    sections_of,
)
from lossary.results.importers.dates import are_dates
from lossary.results.importers.facts import AXES, Found, dataset_of, facts_of, filled_down
from lossary.results.importers.grids import MOST_OF_A_CELL, Grid, is_missing, plain, read_cell, unlink
from lossary.results.importers.headers import joined_headers
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Axis, Imported, Mapped, metric_name, noted
from lossary.results.importers.names import role
from lossary.results.importers.places import keep, runs_by_heading, told_apart
from lossary.results.importers.series import is_series_grid, names_of_runs, series_of_grid, with_runs
from lossary.results.importers.summaries import without_summaries
from lossary.results.importers.transpose import a_row_each, transposed

__all__ = ["read_grids"]

_LONE = "its words name a dataset, a run or a part of the loss, which nothing says; --map NAME=NAME:loss does"
_IN_BITS = "losses in bits are multiplied by ln 2: "


# `10k`, `1,000 steps`, `epoch 3` as a column.
_STEP_HEADER = re.compile(
    r"\d[\d,.]*\s*[kKmMbB]?\s*(steps?|iter\w*|it|updates?|epochs?|tokens?)?|(step|epoch|iter\w*)\s*\d+", re.IGNORECASE
)


def read_grids(grids: Iterable[Grid], path: Path, kind: str, maps: Maps) -> Imported:
    """The numbers and curves of a file's tables; a table without either is left out, with a note."""
    found = Found(Imported(path=str(path), kind=kind), path, maps)
    collectors: list[Imported] = []
    parts = (part for grid in grids for part in _parts_of(grid, found))
    for number, grid in enumerate(parts, 1):
        if len(grid.rows) < 2:
            continue
        grid = with_runs(_with_one_name_each(grid, found), maps)
        if is_series_grid(grid, maps):
            collector = Collector(path, kind, maps)
            run = path.stem if not collectors else grid.title or f"{path.stem} ({number})"
            series_of_grid(grid, collector, run)
            collectors.append(collector.finish())
            continue
        problem = _read_grid(grid, number, found)
        if problem:
            found.imported.notes.append(f"table {number} (line {grid.first_line}) {problem}; left out")
    found.imported.datasets.extend(found.datasets.values())
    runs_by_heading(found)
    found.imported.notes[:] = dict.fromkeys(found.imported.notes)
    found.imported.notes.extend(noted(said, places) for said, places in found.told.items())
    return replace(merged([found.imported, *collectors], path), kind=kind) if collectors else found.imported


def _parts_of(grid: Grid, found: Found) -> list[Grid]:
    """The tables of one, whose lines are read or told of from here on."""
    if len(grid.rows) > 1:
        found.imported.lines.update(range(grid.line(0), grid.line(len(grid.rows) - 1) + 1))
    return sections_of(joined_headers(_tidied(grid), str(found.path)))


def _tidied(grid: Grid) -> Grid:
    """Rows of one length below a header that says something; empty ones are gone."""
    start = next((index for index, row in enumerate(grid.rows) if any(unlink(cell)[0] for cell in row)), 0)
    rows = grid.rows[start:]
    width = max((len(row) for row in rows), default=0)
    return Grid(
        title=grid.title,
        rows=[[*(cell[:MOST_OF_A_CELL] for cell in row), *[""] * (width - len(row))] for row in rows],
        first_line=grid.line(start),
        ruled=grid.ruled and start == 0,
        lines=grid.lines[start:],
    )


def _with_one_name_each(grid: Grid, found: Found) -> Grid:
    """W&B's table of runs with runs of one name told apart by their ids, or by their rows."""
    at = names_of_runs(grid)
    if at is None:
        return grid
    names = [row[at] for row in grid.rows[1:]]
    headers = [plain(cell).lower() for cell in grid.rows[0]]
    by_id = next((headers.index(name) for name in ("id", "run id", "sys/id") if name in headers), None)
    rows = [grid.rows[0]]
    for offset, row in enumerate(grid.rows[1:], 1):
        name = row[at]
        if name and names.count(name) > 1:
            name = f"{name} ({row[by_id] if by_id is not None and row[by_id] else f'line {grid.line(offset)}'})"
        rows.append([*row[:at], name, *row[at + 1 :]])
    if rows[1:] != grid.rows[1:]:
        found.imported.notes.append(
            f"several runs have one name; they are told apart by their {'lines' if by_id is None else 'ids'}"
        )
    return replace(grid, rows=rows)


def _read_grid(grid: Grid, number: int, found: Found, *, is_turned: bool = False) -> str | None:
    """Reads one table whose rows are no steps; what is wrong with it, or None."""
    columns = columns_of(grid, found.maps)
    if (each := a_row_each(grid, columns)) is not None:
        grid, columns = each, columns_of(each, found.maps)
    metrics = [column for column in columns if column.metric]
    if named_by_title(grid, columns) and not any(column.role == "value" for column in columns):
        turned = transposed(grid, found.maps, found.imported.notes) if not metrics and not is_turned else None
        if turned is not None:
            return _read_grid(turned, number, found, is_turned=True)
        columns = by_title(grid, columns)
        metrics = [column for column in columns if column.metric]
        if not metrics:
            return "names no loss and no accuracy; --map HEADER=RUN:METRIC says what a column is"
    rows_are = row_axis(grid, columns, found.imported.notes)
    if rows_are is None:
        dated = next((c.header for c in columns if c.role is None and not c.metric and are_dates(grid, c.at)), None)
        if dated is not None:
            return (
                f"has rows that only {dated!r} tells apart, which names no dataset and no run; "
                f"--map '{dated}=run' takes each for a run, --map '{dated}=dataset' for a dataset"
            )
        return "has no column of datasets or runs; --map HEADER=dataset or HEADER=run names it"
    columns = rows_are
    numbered = [
        c.header for c in columns if c.metric and c.owner is None and c.name and _STEP_HEADER.fullmatch(c.name.rest)
    ]
    key = column_of(columns, "dataset") if column_of(columns, "dataset") is not None else column_of(columns, "run")
    named = next((c for c in columns if c.at == key), None)
    sized = named is not None and role(named.header) is None and all(
        _STEP_HEADER.fullmatch(plain(row[named.at])) for row in grid.rows[1:]
    )  # fmt: skip
    if numbered and (sized or not any(c.role == "dataset" for c in columns)):
        return f"has columns that are called {', '.join(numbered[:3])}, which may be steps and name no dataset"
    if key is not None and _is_header(grid.rows[1], key, columns):
        return "has a second row of headers that cannot be joined to the first; write both into one row"
    in_bits = [repr(c.header) for c in columns if c.metric and c.name is not None and c.name.is_in_bits]
    if in_bits:
        found.imported.notes.append(_IN_BITS + ", ".join(in_bits))
    facts = facts_of(filled_down(grid, columns), columns, found)
    facts = told_apart(without_summaries(facts, found), columns, found)
    axis: Axis = next((kind for kind in AXES if column_of(columns, kind) is not None), "step")
    keep(facts, grid, (number, axis), found)
    _note_columns(columns, found)
    return None


def _is_header(row: list[str], key: int, columns: list[Column]) -> bool:
    """Whether a row names nothing, and says words where numbers would stand."""
    said = [plain(row[c.at]) for c in columns if c.metric and not is_missing(row[c.at])]
    return not plain(row[key]) and bool(said) and all(read_cell(text).number is None for text in said)


def _mapped(column: Column, columns: list[Column]) -> Mapped:
    """A column of numbers: beside datasets on the rows it is of a run, beside runs of a dataset."""
    full = metric_name(column.metric, column.split)
    if column_of(columns, "dataset") is None:
        dataset = dataset_of(column, columns) or "total"
        run = column.owner.run if column.owner is not None else ""
        return Mapped(source=column.header, meaning=f"{dataset}: {full}", run=run, dataset=dataset, metric=full)
    rest = run_name(column.name.rest) if column.name is not None else ""
    run = column.owner.owner or column.owner.run if column.owner is not None else rest
    return Mapped(source=column.header, meaning=f"{run or 'run'}: {full}", run=run, metric=full)


def _note_columns(columns: list[Column], found: Found) -> None:
    told = {mapped.source for mapped in found.imported.mapping if mapped.reason is not None}
    for column in columns:
        if column.metric and column.header in told and column.owner is None:
            continue
        if column.metric and column.name is not None and column.name.statistic == "deviation":
            found.imported.mapping.append(Mapped(source=column.header, meaning="left out", reason=DEVIATION))
        elif column.metric:
            found.imported.mapping.append(_mapped(column, columns))
        elif column.role is not None and column.role != "ignore":
            found.imported.mapping.append(Mapped(source=column.header, meaning=column.role))
        else:
            is_lone = column.name is not None and column.name.quantity == "loss" and column.name.about is None
            unknown = _LONE if is_lone and not column.is_text else "no metric is recognised"
            reason = "as it says or as the map says" if column.role == "ignore" else unknown
            found.imported.mapping.append(Mapped(source=column.header, meaning="left out", reason=reason))

"""Sheets: CSV and Excel files, of which one may hold several tables, below or beside one another.

tables_of   Validation loss           → a table called `Validation loss` with two rows, and one without a title
            model | wiki
            a     | 2.5
            (empty)
            model | params
            a     | 110M
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

from lossary.errors import LossaryError, SourceError
from lossary.results.importers.grids import MOST_CELLS, MOST_OF_A_CELL, Grid, is_missing, read_cell, unlink
from lossary.results.importers.names import read_name, role

__all__ = ["read_csv_grid", "read_excel_grids", "tables_of", "titled_header"]


# So many lines may be titles, or empty, above the header of a CSV.
_MOST_TITLES = 6


def titled_header(text: str) -> str:
    """The first line of a text that may head a CSV, which is below titles the first with a separator; else ""."""
    lines = (line for line in text.split("\n") if line.strip() and not line.startswith("#"))
    return next((line for line in islice(lines, _MOST_TITLES) if any(map(line.count, ",;\t"))), "")


def read_csv_grid(text: str, path: Path) -> Grid:
    """A CSV with a header; comma, semicolon or tab, as its header has most of."""
    lines = text.splitlines()
    remarks = next((at for at, line in enumerate(lines) if not line.startswith("#")), 0)
    first = lines[remarks] if lines[remarks:] else ""
    # Titles may stand above the header.
    head = next((line for line in lines[remarks:][:_MOST_TITLES] if any(map(line.count, ",;\t"))), first)
    delimiter = max(",;\t", key=head.count)
    if (
        remarks
        and lines[remarks - 1].count(delimiter) == first.count(delimiter)
        and not re.search(r"[^\W\d]{2}", first)
    ):
        # `# step,loss` is the header of what stands below it.
        remarks -= 1
        lines[remarks] = lines[remarks].lstrip("# ")
    rows: list[list[str]] = []
    numbers: list[int] = []
    count, is_header = 0, True
    reader = csv.reader(lines[remarks:], delimiter=delimiter, strict=True)
    try:
        for row in reader:
            count += len(row)
            if count > MOST_CELLS:
                raise SourceError(f"more than {MOST_CELLS:,} cells are no table", where=str(path))
            cells = [cell.strip()[:MOST_OF_A_CELL] for cell in row]
            if is_header and rows and len(cells) > len(rows[-1]) and all(read_cell(c).number is None for c in cells):
                # A second row of headers below one whose last header spans several columns.
                rows[-1] += [""] * (len(cells) - len(rows[-1]))
            # Below an empty line another table may begin, of another width.
            is_header = not any(cells) or (is_header and not any(map(any, rows)))
            rows.append(cells)
            numbers.append(remarks + reader.line_num)
    except csv.Error as error:
        raise SourceError(f"not CSV: {error}", where=f"{path}, line {remarks + reader.line_num}") from None
    return Grid(title=path.stem, rows=rows, first_line=remarks + 1, lines=numbers)


def tables_of(grid: Grid, where: str) -> list[Grid]:
    """The tables of a sheet: apart where an empty row stands above a header, or an empty column before one.

    A text alone on the row above a header is its title. SourceError if a row has more cells than its header.
    """
    found = []
    for block in _blocks(grid):
        parts = _beside_one_another(_titled(block, grid.title))
        found += [_checked(_with_named_levels(part), where) for part in parts]
    return found


def _blocks(grid: Grid) -> list[Grid]:
    """The parts of a sheet: below an empty row another begins where texts stand in the columns that had numbers."""
    parts: list[list[int]] = []
    is_apart = True
    for at, row in enumerate(grid.rows):
        if not any(row):
            is_apart = True
            continue
        if not parts or (is_apart and _is_header(grid, at, grid.rows[parts[-1][-1]])):
            parts.append([])
        parts[-1].append(at)
        is_apart = False
    return [replace(_rows_of(grid, part), title=grid.title) for part in parts]


def _rows_of(grid: Grid, which: Sequence[int]) -> Grid:
    lines = [grid.line(at) for at in which]
    return replace(grid, rows=[grid.rows[at] for at in which], lines=lines, first_line=lines[0])


def _is_header(grid: Grid, at: int, last: Sequence[str]) -> bool:
    """Whether a row heads another table than the one that `last` is of; or is a title above one that does."""
    row = grid.rows[at]
    below = grid.rows[at + 1] if at + 1 < len(grid.rows) else []
    if sum(map(bool, row)) == 1:
        return any(below) and _takes_over(below, last)
    # `large,OOM` is no header.
    return any(below) and _takes_over(row, last) and any(map(_heads, row))


def _takes_over(row: Sequence[str], last: Sequence[str]) -> bool:
    """Whether texts stand in a row wherever a row above it has numbers."""
    told = [text for text, above in zip(row, last, strict=False) if _is_number(above) and not is_missing(text)]
    return bool(told) and not any(map(_is_number, told))


def _heads(cell: str) -> bool:
    name = read_name(unlink(cell)[0])
    return role(cell) is not None or name.quantity is not None or name.split is not None


def _is_number(cell: str) -> bool:
    return read_cell(unlink(cell)[0]).number is not None


def _is_title(block: Grid, at: int) -> bool:
    """Whether a row is a text alone, and no heading of a column of numbers, as pandas writes above a nameless index."""
    filled = [column for column, cell in enumerate(block.rows[at]) if cell]
    if len(filled) != 1:
        return False
    [column] = filled
    below = [row[column] for row in block.rows[at + 1 :] if len(row) > column and row[column]]
    return column == 0 or not below or not all(map(_is_number, below))


def _titled(block: Grid, title: str) -> Grid:
    """A block without the texts alone on their rows above its header; the last of them is its title."""
    start = next((at for at in range(len(block.rows)) if not _is_title(block, at)), 0)
    titles = [next(cell for cell in row if cell) for row in block.rows[:start]]
    if not start or len(block.rows) - start < 2:
        return replace(block, title=title)
    return replace(
        block, title=titles[-1], rows=block.rows[start:], lines=block.lines[start:], first_line=block.line(start)
    )


def _with_named_levels(block: Grid) -> Grid:
    """Several columns of an index that have no heading, called as pandas calls them, so that a map can name them."""
    count = next((at for at, cell in enumerate(block.rows[0]) if cell), 0)
    if count < 2 or not all(all(map(_is_text, row[:count])) for row in block.rows[1:]):
        return block
    return replace(block, rows=[[*(f"level_{at}" for at in range(count)), *block.rows[0][count:]], *block.rows[1:]])


def _is_text(cell: str) -> bool:
    return bool(cell) and not _is_number(cell)


def _beside_one_another(block: Grid) -> list[Grid]:
    """Tables that stand side by side, an empty column between them, each with a first column of texts."""
    width = max(map(len, block.rows))
    rows = [[*row, *[""] * (width - len(row))] for row in block.rows]
    empty = [at for at in range(1, width - 1) if not any(row[at] for row in rows)]
    starts = [0, *(at + 1 for at in empty if rows[0][at + 1] and _are_texts(row[at + 1] for row in rows[1:]))]
    if len(starts) == 1:
        return [block]
    return [
        replace(block, rows=[row[low : high - 1] for row in rows], title=block.title)
        for low, high in pairwise([*starts, width + 1])
    ]


def _are_texts(cells: Iterable[str]) -> bool:
    said = [cell for cell in cells if cell]
    return bool(said) and not any(map(_is_number, said))


def _checked(grid: Grid, where: str) -> Grid:
    for at, row in enumerate(grid.rows):
        if any(row[len(grid.rows[0]) :]):
            raise SourceError("more cells than the header has", where=f"{where}, line {grid.line(at)}")
    return grid


def read_excel_grids(path: Path) -> list[Grid]:
    """The sheets of an Excel file (.xlsx), with the values that it was saved with; nothing in it is computed."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise LossaryError(
            "reading Excel needs another package", where=str(path), hint="pip install 'lossary[import]'"
        ) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        grids = []
        for sheet in book.worksheets:
            cells = sheet.iter_rows(values_only=True, max_row=MOST_CELLS // 100, max_col=1000)
            rows = [["" if value is None else str(value).strip() for value in row] for row in cells]
            width = max((at + 1 for row in rows for at, cell in enumerate(row) if cell), default=0)
            rows = [row[:width] for row in rows]
            grids += tables_of(Grid(title=str(sheet.title), rows=rows, first_line=1), f"{path}, {sheet.title}")
        book.close()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise SourceError(f"not an Excel file: {str(error)[:200]}", where=str(path)) from None
    return grids

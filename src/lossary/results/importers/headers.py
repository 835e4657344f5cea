"""Two rows of headers, of which the upper one spans several columns, as one: `wiki` over `loss` and `acc`.

joined_headers of     model | wiki |     | books |
                            | loss | acc | loss  | acc      → model, wiki loss, wiki acc, books loss, books acc
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from lossary.errors import SourceError
from lossary.results.importers.grids import Grid, is_missing, read_cell, unlink
from lossary.results.importers.names import read_name, role, split_word

__all__ = ["joined_headers"]


def joined_headers(grid: Grid, where: str) -> Grid:
    """The table with its two rows of headers as one; as it is if it has one. SourceError if nobody can tell which
    columns the last of the upper headers spans."""
    rows = [[*row] for row in grid.rows[:3]]
    if len(rows) < 3:
        return grid
    width = max(map(len, rows))
    upper, lower, below = ([unlink(cell)[0] for cell in row] + [""] * (width - len(row)) for row in rows)
    if _are_units(upper, lower):
        names = [f"{over} {under}".strip() for over, under in zip(upper, lower, strict=True)]
        return _below(grid, names, 2)
    if read_name(lower[0]).quantity:
        # No column names the rows: the first upper header spans from the first column on.
        upper, lower, below = ["", *upper], ["", *lower], ["", *below]
        padded = replace(grid, rows=[["", *row] for row in grid.rows])
        joined = joined_headers(padded, where) if _are_two(upper, lower) else padded
        return grid if joined is padded else replace(joined, rows=[row[1:] for row in joined.rows])
    if not _are_two(upper, lower):
        return grid
    first = 2
    corner = _corner(upper[0], lower[0])
    if below[0] and not any(below[1:]):
        # pandas puts the name of its index on a row of its own.
        corner, first = below[0], 3
    if len(grid.rows) <= first or not any(_is_number(cell) for row in grid.rows[first:] for cell in row[1:]):
        return grid
    names = [corner, *_filled(upper, lower)[1:]]
    again = next((name for at, name in enumerate(names) if name and name in names[:at]), None)
    if again is not None or _is_open(upper, lower):
        raise SourceError(
            "two rows of headers, and which columns each of the upper one spans is open"
            + (f": {again!r} would stand there twice" if again is not None else f" behind {_said(upper, lower)[-1]!r}"),
            where=f"{where}, line {grid.line(0)}",
            hint="Write each upper header into every column that it is of, or join both rows into one.",
        )
    return _below(grid, names, first)


def _below(grid: Grid, header: list[str], first: int) -> Grid:
    """The table with a header in place of the rows above its first row of values."""
    return replace(
        grid,
        rows=[header, *grid.rows[first:]],
        first_line=grid.first_line + first - 1,
        lines=[*grid.lines[:1], *grid.lines[first:]],
    )


# What stands below a header and says in what it is counted: `(B)`, `nats/token`.
_UNIT = re.compile(
    r"[(\[][^\d()\[\]]{1,24}[)\]]|%|(nats?|bits?)([ /](per )?\w+)?|tokens|[kMB]|[GM]i?B|hours|h|s|ms|min|↓|↑",
    re.IGNORECASE,
)


def _are_units(upper: Sequence[str], lower: Sequence[str]) -> bool:
    """Whether the lower row only says units of what stands above."""
    pairs = [(over, under) for over, under in zip(upper, lower, strict=True) if under]
    return bool(pairs) and all(over and _UNIT.fullmatch(under) for over, under in pairs)


def _are_two(upper: Sequence[str], lower: Sequence[str]) -> bool:
    """Whether the upper row spans the lower one, and one of both says what was measured."""
    spans = any(after in ("", before) for before, after in pairwise(upper[1:]) if before)
    texts = [cell for cell in lower[1:] if not is_missing(cell)]
    if not spans or len(texts) < 2 or any(map(_is_number, [*upper, *lower])):
        return False
    return all(map(_measures, texts)) or all(map(_measures, _said(upper, lower)))


def _measures(header: str) -> bool:
    name = read_name(header)
    return bool(name.quantity or name.objective) or split_word(header) is not None or role(header) is not None


def _is_number(cell: str) -> bool:
    return read_cell(unlink(cell)[0]).number is not None


def _said(upper: Sequence[str], lower: Sequence[str]) -> list[str]:
    """The upper headers that have others below them; those without reach down."""
    return [over for over, under in zip(upper[1:], lower[1:], strict=True) if over and under]


def _corner(upper: str, lower: str) -> str:
    """The header of the first column: what the upper row says there may be said of the upper row itself."""
    if lower and role(lower) != "metric":
        return lower
    of_upper = role(upper)
    return "run" if of_upper == "dataset" and lower else upper


def _filled(upper: Sequence[str], lower: Sequence[str]) -> list[str]:
    names, above = [], ""
    for at, (over, under) in enumerate(zip(upper, lower, strict=True)):
        # `Domain` over the names of domains says what they are, and belongs to none of their names.
        above = ("" if role(over) in ("dataset", "run") else over) or (above if at > 1 and not over else "")
        # A cell that reaches down has nothing below it.
        names.append(over if not under else f"{above} {under}".strip())
    return names


def _is_open(upper: Sequence[str], lower: Sequence[str]) -> bool:
    """Whether the last upper header reaches farther than any other: what stands at the end may not be its own."""
    starts = [at for at, cell in enumerate(upper) if at and cell]
    ends = zip(starts, [*starts[1:], len(upper)], strict=True)
    lengths = [stop - start for start, stop in ends if lower[start]]
    return len(lengths) > 1 and lengths[-1] > max(lengths[:-1])

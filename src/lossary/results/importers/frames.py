"""What pandas prints of a frame that has names above its index, or two rows of headers.

                val_loss  val_acc              wiki         books
    model dataset                              loss    acc   loss    acc
    base  wiki     2.501    0.512       base  2.501  0.512  3.102  0.421
          books    3.102    0.421

Values end where their headers end, and the index begins where its names begin: what does not is no frame.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from lossary.results.importers.grids import Grid, is_missing, read_cell

__all__ = ["frame_at"]

_WORD = re.compile(r"\S+")
_SIZE = re.compile(r"\[\d+ rows x \d+ columns\]")


def frame_at(lines: Sequence[str], at: int, title: str) -> Grid | None:
    """The frame whose header begins at a line; None if none does, or if it is one that other readers know."""
    for headers, has_names in ((1, True), (2, True), (2, False)):
        first = at + headers + has_names
        if first < len(lines) and _may_head(lines[at + headers - 1], lines[first]):
            stop = next(
                (n for n in range(first, len(lines)) if not lines[n].strip() or _SIZE.fullmatch(lines[n])), None
            )
            stop = len(lines) if stop is None else stop
            names = lines[at + headers].rstrip() if has_names else ""
            rows = _rows(lines[at : at + headers], names, lines[first:stop])
            if rows is not None:
                numbers = [at + headers, *range(first + 1, stop + 1)]
                return Grid(title=title, rows=rows, first_line=at + 1, lines=numbers)
    return None


def _may_head(header: str, row: str) -> bool:
    """Whether the last value of a row ends where the last header does: a look at two lines, not at all below."""
    heads, cells = header.split(), row.split()
    return (
        bool(heads and cells)
        and len(header.rstrip()) == len(row.rstrip())
        and _is_value(cells[-1]) > _is_value(heads[-1])
    )


def _rows(headers: Sequence[str], names: str, body: Sequence[str]) -> list[list[str]] | None:
    """The header and the rows of a frame, with an index that is written in every row."""
    lowest = [headers[-1], *body]
    ends = [m.end() for m in _WORD.finditer(headers[-1]) if all(_ends_at(line, m.end()) for line in lowest)]
    starts = _starts(names, body) if names else [0]
    heads = [_header(line, ends) for line in headers] if ends else []
    values = [_values(line, ends) for line in body] if ends else []
    if not starts or not values or not all(_is_value(cells[0]) for _, cells in values):
        return None
    known = [head for head in heads if head is not None]
    if len(known) < len(heads) or any(
        len(line) - len(cells[0]) < len(names) for line, cells in _firsts(body, values, ends)
    ):
        return None
    above = [""] * len(ends)
    for head in known[:-1]:
        above = _to_the_right(head)
    header = [f"{over} {cell}".strip() for over, cell in zip(above, known[-1], strict=True)]
    index = _index([rest for rest, _ in values], starts)
    if index is None or not all(header) or not all(all(cells) for _, cells in values):
        return None
    spans = [*pairwise(starts), (starts[-1], None)]
    top = [names[low:high].strip() for low, high in spans]
    return [top + header, *(level + cells for level, (_, cells) in zip(index, values, strict=True))]


def _ends_at(line: str, end: int) -> bool:
    return len(line) >= end and line[end - 1] != " " and line[end : end + 1].strip() == ""


def _firsts(
    body: Sequence[str], values: Sequence[tuple[str, list[str]]], ends: Sequence[int]
) -> Iterator[tuple[str, list[str]]]:
    """Each row up to the end of its first value."""
    return ((line[: ends[0]], cells) for line, (_, cells) in zip(body, values, strict=True))


def _is_value(text: str) -> bool:
    return is_missing(text) or read_cell(text).number is not None


def _values(line: str, ends: Sequence[int]) -> tuple[str, list[str]]:
    """What stands in front of the first value, and the values."""
    rest, _, value = line[: ends[0]].rpartition(" ")
    return rest.rstrip(), [value, *(line[low:high].strip() for low, high in pairwise(ends))]


def _header(line: str, ends: Sequence[int]) -> list[str] | None:
    """A header for each value, "" where it goes on with the one before; None if one does not end with its column."""
    parts = re.split(r"\s{2,}", line[: ends[0]].strip())
    # The name of the columns stands in front of them.
    named = line[:1].strip() != ""
    if len(parts) != 1 + named:
        return None
    cells = [parts[-1], *(line[low:high].strip() for low, high in pairwise(ends))]
    return cells if all(not cell or _ends_at(line, end) for cell, end in zip(cells, ends, strict=True)) else None


def _to_the_right(cells: Sequence[str]) -> list[str]:
    found: list[str] = []
    for cell in cells:
        found.append(cell or (found[-1] if found else ""))
    return found


def _starts(names: str, body: Sequence[str]) -> list[int]:
    """Where the levels of the index begin: where each of their names does, and no row has a text across it."""
    if names[:1].strip() == "":
        return []
    starts = [m.start() for m in _WORD.finditer(names)]
    return [s for s in starts if s == 0 or all(line[s - 1 : s].strip() == "" for line in body)]


def _index(texts: Sequence[str], starts: Sequence[int]) -> list[list[str]] | None:
    """The levels of each row; pandas leaves out what the row above says, but for the last level."""
    rows: list[list[str]] = []
    for text in texts:
        levels = [text[low:high].strip() for low, high in [*pairwise(starts), (starts[-1], None)]]
        known = next((j for j, level in enumerate(levels) if level), len(levels))
        levels = [*(rows[-1][:known] if rows else levels[:known]), *levels[known:]]
        if not all(levels):
            return None
        rows.append(levels)
    return rows

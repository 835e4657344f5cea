"""Tables drawn with characters: boxes (rich, psql, Org, RST's grid), and columns that blanks hold apart.

+---------+------+      ┃ epoch ┃ val_loss ┃      dataset    mlm_loss         epoch  val_loss
| dataset | loss |      ┡━━━━━━━╇━━━━━━━━━━┩      -------  ----------         1          2.31
+=========+======+      │ 1     │ 2.31     │      wiki           2.31         2          2.11

A table is read only where every row has the cells of its header, each below it; else it is none.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple

from lossary.results.importers.boxes import spanned_rows
from lossary.results.importers.columns import is_metric
from lossary.results.importers.frames import frame_at
from lossary.results.importers.grids import Grid, read_cell
from lossary.results.importers.names import read_name, role

__all__ = ["read_aligned_grids", "read_boxed_grids"]

_BARS = str.maketrans("│┃║┆┊", "|||||")
_RULE = re.compile(r"[+|=\-:~─━═╌┄┈┌┏╔╒╓├┣╠┝┠┞┡┢╞╟└┗╚╘╙┬┳╦╤╥┯┰┼╋╬╪╫╇╈┿╂┴┻╩╧╨┷┸┐┓╗╕╖┤┫╣┥┨┪┩╡╢┘┛╝╛╜]{3,}")
_JUNCTION = re.compile(r"[^\s|=\-:~─━═╌┄┈]")
_GROUPS = re.compile(r"\s*(-{2,}|={2,}|─{2,}|━{2,})(\s+(-{2,}|={2,}|─{2,}|━{2,}))+\s*")
_GAP = re.compile(r"\S+(?: \S+)*")
_WRAPPED = "\\"
# So many lines may stand above a header without an empty one between; a table is not looked for below.
_MOST_ABOVE = 20


class _Cell(NamedTuple):
    """The text between two gaps, and where it stands on its line."""

    text: str
    start: int
    end: int


def _is_rule(line: str) -> bool:
    return _RULE.fullmatch(line.strip()) is not None


def read_boxed_grids(text: str) -> Iterator[Grid]:
    """The tables with bars between their cells and a drawn line that crosses them."""
    lines = [line.rstrip() for line in text.split("\n")]
    title, at = "", 0
    while at < len(lines):
        stop = at
        while stop < len(lines) and (_is_rule(lines[stop]) or "|" in lines[stop].translate(_BARS)):
            stop += 1
        grid = _boxed(lines[at:stop], at + 1, title)
        if grid is not None:
            yield grid
        if stop == at:
            title = _title(lines[at]) or title
        at = max(stop, at + 1)


def _title(line: str) -> str:
    # Of Org's keywords only captions and titles say what was measured.
    if re.match(r"\s*#\+(?!caption|title)\w+:", line, re.IGNORECASE):
        return ""
    text = re.sub(r"^\.\.\s+\w+::|^\s*#\+\w+:", "", line).strip(" #*=:\t")
    return "" if _is_rule(line) else text


def _boxed(lines: Sequence[str], first_line: int, title: str) -> Grid | None:
    rules = [line.strip() for line in lines if _is_rule(line)]
    crossing = next((rule for rule in rules if _JUNCTION.search(rule)), None)
    if crossing is None:
        return None
    has_outer = crossing[0] not in "-=─━═"
    groups: list[list[tuple[int, list[str]]]] = [[]]
    for number, line in enumerate(lines, first_line):
        if not _is_rule(line):
            groups[-1].append((number, _cells_of(line.translate(_BARS), has_outer=has_outer)))
        elif groups[-1]:
            groups.append([])
    groups = [group for group in groups if group]
    if len(groups) == 1:
        groups = [groups[0][:1], groups[0][1:]] if groups[0][1:] else groups
    rows = [*_header_rows(groups[0]), *(row for group in groups[1:] for row in _body_rows(group, len(groups) > 2))]
    if len({len(cells) for _, cells in rows}) != 1:
        rows = spanned_rows(lines, first_line) or []
    return _grid(title, rows) if len(rows) > 1 else None


def _grid(title: str, rows: Sequence[tuple[int, list[str]]]) -> Grid:
    return Grid(title=title, rows=[cells for _, cells in rows], first_line=rows[0][0], lines=[line for line, _ in rows])


def _cells_of(line: str, *, has_outer: bool) -> list[str]:
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip() if has_outer else line)]
    return cells[1:-1] if has_outer else cells


def _header_rows(group: Sequence[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """A header that is broken over several lines as one; two rows of headers, of which the upper one spans, as two."""
    group = [item for at, item in enumerate(group) if not at or not _are_types(item[1])]
    line, first = group[0]
    lower = [cells for _, cells in group[1:]]
    if any(len(cells) != len(first) or any(c and not f for c, f in zip(cells, first, strict=True)) for cells in lower):
        return [*group]
    return [(line, [" ".join(filter(None, parts)) for parts in zip(first, *lower, strict=True)])]


# What polars, DuckDB and R put below a header: the types of its columns.
_TYPE = re.compile(
    r"-{2,}|<\w+>|str|[fiu]\d+|varchar|double|float|(big|small|tiny)?int(eger)?\d*|bool(ean)?|decimal\(.*\)|timestamp|date(time)?",
    re.IGNORECASE,
)


def _are_types(cells: Sequence[str]) -> bool:
    return any(cells) and all(_TYPE.fullmatch(cell) for cell in cells if cell)


def _body_rows(group: Sequence[tuple[int, list[str]]], is_ruled: bool) -> list[tuple[int, list[str]]]:
    """The rows between two drawn lines; where each row has such lines, a name alone goes on with the one above."""
    rows: list[tuple[int, list[str]]] = []
    for line, cells in group:
        if rows and is_ruled and cells[0] and not any(cells[1:]):
            rows[-1][1][0] += f" {cells[0]}"
        else:
            rows.append((line, cells))
    return rows


def read_aligned_grids(text: str) -> Iterator[Grid]:
    """The tables without bars: below a line of dashes for each column, or with two blanks between columns."""
    lines = [line.rstrip().expandtabs() for line in text.split("\n")]
    title, at, since = "", 0, 0
    while at < len(lines):
        since = since + 1 if lines[at].strip() else 0
        found = _table_at(lines, at, title) if since <= _MOST_ABOVE else None
        if found is None:
            title = _title(lines[at]) or title
            at += 1
            continue
        yield found
        at, since = max(found.lines) if found.lines else at + 1, 0


def _table_at(lines: Sequence[str], at: int, title: str) -> Grid | None:
    return _below_dashes(lines, at, title) or frame_at(lines, at, title) or _with_gaps(lines, at, title)


def _below_dashes(lines: Sequence[str], at: int, title: str) -> Grid | None:
    """A header, its dashes and the rows; RST has a line of dashes above the header and one below the rows, too."""
    start = at + 1 if _GROUPS.fullmatch(lines[at]) else at
    ruler = next((n for n in range(start, min(start + 3, len(lines))) if _GROUPS.fullmatch(lines[n])), None)
    if ruler is None or ruler == start or not all(line.strip() for line in lines[start:ruler]):
        return None
    if start == at and ruler > start + 1:
        return None
    spans = [(match.start(), match.end()) for match in re.finditer(r"\S+", lines[ruler])]
    rows = [(n + 1, _sliced(lines[n], spans)) for n in range(start, ruler)]
    for n in range(ruler + 1, len(lines)):
        if not lines[n].strip() or _GROUPS.fullmatch(lines[n]):
            break
        rows.append((n + 1, _sliced(lines[n], spans)))
    whole = [(line, cells) for line, cells in rows if cells is not None]
    return _grid(title, whole) if len(whole) == len(rows) > ruler - start else None


def _sliced(line: str, spans: Sequence[tuple[int, int]]) -> list[str] | None:
    """The cells of a line; None where a text stands between two columns."""
    edges = [0, *(end for _, end in spans[:-1])], [start for start, _ in spans]
    if any(line[low:high].strip() for low, high in zip(*edges, strict=True)):
        # A text alone on its row heads the rows below it.
        return [alone[0].text, *[""] * (len(spans) - 1)] if _heads_alone(alone := _gapped(line)) else None
    return [line[start:end].strip() for start, end in [*spans[:-1], (spans[-1][0], len(line))]]


def _heads_alone(cells: Sequence[_Cell]) -> bool:
    return len(cells) == 1 and cells[0].start == 0 and not re.search(r"\d", cells[0].text)


def _with_gaps(lines: Sequence[str], at: int, title: str) -> Grid | None:
    """A header and rows below it, at the same places; pandas counts its rows in a column without a header."""
    header = _gapped(lines[at])
    words = re.findall(r"\S+", lines[at].removeprefix("#"))
    types = lines[at + 1].split() if at + 1 < len(lines) else []
    if len(types) == len(words) > 1 and all(re.fullmatch(r"<\w+>", word) for word in types):
        # R counts its rows in a column without a header.
        return _of_words(lines, at, title, ["", *words], first=at + 2)
    first = lines[at + 1].split()[:1] if at + 1 < len(lines) else []
    if len(words) > 1 and first == ["1"] and (framed := _of_words(lines, at, title, ["", *words], counted=True)):
        # R counts its rows, and leaves one blank between columns.
        return framed
    if len(header) == 1 and words and role(words[0]) in ("step", "epoch", "tokens"):
        return _of_words(lines, at, title, words)
    if len(header) < 2 or any(map(_is_number, header)) or header[-1].text == _WRAPPED:
        return None
    body: list[tuple[int, list[_Cell]]] = []
    for number, line in _paragraph(lines, at + 1):
        cells = [] if _is_rule(line) else _gapped(line)
        if cells and len(cells) < len(header) and body and len(body[0][1]) == len(header):
            # Cells that are empty, as merged ones are: each of the others stands below one header.
            cells = _with_empty_cells(cells, header) or cells
        if len(cells) not in (0, len(body[0][1])) if body else len(cells) - len(header) not in (0, 1, -len(header)):
            return None
        body += [(number, cells)] if cells else []
    widths = {len(cells) for _, cells in body}
    if widths == {len(header) + 1}:
        header = [_Cell("", 0, min(cells[0].end for _, cells in body)), *header]
    if widths != {len(header)} or not all(_is_below(cells, header) for _, cells in body):
        return None
    rows = [(at + 1, [cell.text for cell in header]), *((line, [cell.text for cell in cells]) for line, cells in body)]
    return _grid(title, rows) if _has_metric(rows) else None


def _with_empty_cells(cells: Sequence[_Cell], header: Sequence[_Cell]) -> list[_Cell] | None:
    """The cells of a row with empty ones where a header has none below it; None if one stands below two, or none."""
    below = [[head for head in header if cell.start < head.end and head.start < cell.end] for cell in cells]
    if any(len(heads) != 1 for heads in below) or len({heads[0] for heads in below}) < len(cells):
        return None
    of_each = {heads[0]: cell for heads, cell in zip(below, cells, strict=True)}
    return [of_each.get(head, _Cell("", head.start, head.end)) for head in header]


# What stands before the next command at a prompt of R's, Python's or a shell's.
_PROMPT = re.compile(r"(>|>>>|\+|\$|In \[\d+\]:)( |$)")


def _paragraph(lines: Sequence[str], at: int) -> Iterator[tuple[int, str]]:
    """The lines up to the next empty one, with their numbers."""
    yield from takewhile(lambda item: item[1].strip() and not _PROMPT.match(item[1]), enumerate(lines[at:], at + 1))


def _of_words(
    lines: Sequence[str], at: int, title: str, header: list[str], first: int = 0, *, counted: bool = False
) -> Grid | None:
    """`# iter train_loss val_loss` and rows of as many numbers, one blank apart, as plotting programs take them."""
    rows = [(at + 1, header), *((number, line.split()) for number, line in _paragraph(lines, first or at + 1))]
    if len(rows) < 2 or any(len(cells) != len(header) for _, cells in rows):
        return None
    if counted and [cells[0] for _, cells in rows[1:]] != [str(count) for count in range(1, len(rows))]:
        return None
    return _grid(title, rows) if _has_metric(rows) else None


def _gapped(line: str) -> list[_Cell]:
    return [_Cell(match[0], match.start(), match.end()) for match in _GAP.finditer(line)]


def _is_below(cells: Sequence[_Cell], header: Sequence[_Cell]) -> bool:
    """Whether each cell stands below its own header and no other."""
    own = all(cell.start < head.end and head.start < cell.end for cell, head in zip(cells, header, strict=True))
    return own and all(
        not (cell.start < after.end and after.start < cell.end)
        for cell, (_, after) in zip(cells[:-1], pairwise(header), strict=True)
    )


def _is_number(cell: _Cell) -> bool:
    return read_cell(cell.text).number is not None


def _has_metric(rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Whether a column or a row of numbers is called by a metric."""

    def measures(names: Iterable[str]) -> bool:
        return any(is_metric(name, read_name(name)) for name in names)

    is_tidy = {"metric", "value"} <= set(map(role, rows[0][1]))
    return is_tidy or measures(rows[0][1]) or measures(cells[0] for _, cells in rows[1:])

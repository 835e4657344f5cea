"""Drawn tables with cells that span columns or rows, by where their lines stand: RST's grid, `┌─┬─┐`.

+-------+-------------+        Model | Loss |            a cell that spans stands in its first column,
| Model | Loss        |   →          | wiki | books      and the others that it covers are empty
|       +------+------+        base  | 2.31 | 3.10
|       | wiki | books|
+=======+======+======+
| base  | 2.31 | 3.10 |
+-------+------+------+
"""

import re
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["spanned_rows"]

_CORNERS = re.compile(r"[┌┏╔╒╓├┣╠┝┠┞┡┢╞╟└┗╚╘╙┬┳╦╤╥┯┰┼╋╬╪╫╇╈┿╂┴┻╩╧╨┷┸┐┓╗╕╖┤┫╣┥┨┪┩╡╢┘┛╝╛╜]")
_RULES = re.compile(r"[─━═╌┄┈=]")
_BARS = re.compile(r"[│┃║┆┊]")


def spanned_rows(lines: Sequence[str], first_line: int) -> list[tuple[int, list[str]]] | None:
    """The rows of a drawn table, each with its line; None where its lines do not make up a table."""
    plain = [_CORNERS.sub("+", _RULES.sub("-", _BARS.sub("|", line.strip("\n").rstrip()))) for line in lines]
    indent = min((len(line) - len(line.lstrip()) for line in plain if line.strip()), default=0)
    plain = [line[indent:] for line in plain]
    width = max(map(len, plain), default=0)
    full = [line for line in plain if re.fullmatch(r"\+[-+]+\+", line) and len(line) == width]
    edges = sorted({at for line in full for at, character in enumerate(line) if character == "+"})
    if len(full) < 2 or len(edges) < 3 or any(len(line) != width or line[0] not in "+|" for line in plain):
        return None
    # The header goes to RST's rule of `=`, else to the first that crosses all columns.
    doubled = any("=" in line for line in lines)
    is_header = True
    rows: list[tuple[int, list[str]]] = []
    band: list[tuple[int, list[str]]] = []
    for number, line in enumerate(plain, first_line):
        cells = _cells(line, edges)
        if cells is None:
            return None
        if any(cell is None for cell in cells):
            rows += _rows_of(band, is_header=is_header)
            band = []
            crosses = all(cell is None for cell in cells)
            is_header &= not ("=" in lines[number - first_line] if doubled else crosses and bool(rows))
        kept = ["" if cell is None else cell for cell in cells]
        if any(kept):
            band.append((number, kept))
    return rows if len({len(cells) for _, cells in rows}) == 1 else None


def _cells(line: str, edges: Sequence[int]) -> list[str | None] | None:
    """The text of each column on a line, None where a rule goes through it; None if a text stands across no bar."""
    cells: list[str | None] = []
    start = 0
    for at, (low, high) in enumerate(pairwise(edges)):
        inner = line[low + 1 : high]
        if re.fullmatch(r"-+", inner) and line[low] in "+|" and line[high] in "+|":
            cells.append(None)
            continue
        if line[low] in "+|":
            start = at
        elif cells[start] is None:
            return None
        if start == at:
            stop = next((edge for edge in edges[at + 1 :] if line[edge] in "+|"), None)
            if stop is None:
                return None
            cells.append(line[low + 1 : stop].strip())
        else:
            cells.append("")
    return cells


def _rows_of(band: Sequence[tuple[int, list[str]]], *, is_header: bool) -> list[tuple[int, list[str]]]:
    """What stands between two rules: one row, unless its lines have a number or text each in most columns."""
    if not band:
        return []
    joined = [" ".join(filter(None, parts)) for parts in zip(*(cells for _, cells in band), strict=True)]
    several = sum(sum(bool(cells[at]) for _, cells in band) > 1 for at in range(len(joined)))
    return [*band] if several > 1 and not is_header else [(band[0][0], joined)]

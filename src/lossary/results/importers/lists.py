"""Lists of a text, as people paste them: `- wiki: 2.31`, or `- wiki: val loss 2.31, acc 0.52`, with bullets or without.

## base                       base, as the title of a table with the header and rows
Validation loss:              (empty) | Validation loss
- wiki: 2.31              →   wiki    | 2.31
- books: 3.10                 books   | 3.10

A list is read only where each of its items has numbers, and a metric stands in the items or in the line above them.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lossary.errors import SourceError
from lossary.results.importers.columns import is_metric
from lossary.results.importers.grids import Grid, is_missing, read_cell
from lossary.results.importers.names import read_name
from lossary.results.importers.titles import is_beside, said_by_title

__all__ = ["read_list_grids"]

_BULLET = re.compile(r"(\s*)(?:(?:[-*+•▪◦‣–—]|\d{1,3}[.)])\s+)(.*\S)\s*")
_BARE = re.compile(r"(\s*)([^\s:=|,;][^:=|,;]{0,80}?\s*[:=]\s.*\S)\s*")
# Between a name and what is said of it.
_NAMED = re.compile(r"(?P<name>[^\s:=][^:=]{0,80}?)\s*(?:[:=]|\s[-–—→]+)\s+(?P<rest>\S.*)")
_PART = re.compile(r"(?P<name>[^\d\s:=][^:=]{0,40}?)\s*(?:[:=]\s*|\s+(?:of|is|at)\s+|\s+)(?P<value>[~≈]?[-+]?[\d.].*)")
_EMPHASIS = re.compile(r"\*\*|__|`")


class _Item(NamedTuple):
    """A line of a list: its name, and its numbers as printed, by the metric that is written before each, or ""."""

    line: int
    indent: int
    name: str
    values: dict[str, str]


class _Heads(NamedTuple):
    """The line right above a list, and the heading that its section has."""

    above: str
    section: str


def read_list_grids(text: str) -> list[Grid]:
    """The lists of a text as tables: a row for each name, or where the names are metrics a row for each list.

    Raises SourceError if lists of names and numbers are all there is, and nothing says what they measure.
    """
    grids: list[Grid] = []
    unsaid: list[_Item] = []
    for heads, items in _lists(text.split("\n")):
        for outer, part in _by_outer(items):
            grid = _grid(heads, outer, part)
            if grid is not None:
                grids.append(grid)
            elif len(part) > 1 and all(list(item.values) == [""] for item in part):
                unsaid.append(part[0])
    if unsaid and not grids and not any(sign in text for sign in ",;\t|"):
        raise SourceError(
            f"a list of names and numbers begins with {unsaid[0].name!r}, and nothing says what they measure",
            where=f"line {unsaid[0].line}",
            hint="Write it into the line above the list, as in `Validation loss:`.",
        )
    return grids


def _lists(lines: Sequence[str]) -> Iterator[tuple[_Heads, list[_Item]]]:
    """Items that stand together, each list with what stands above it."""
    above = section = ""
    items: list[_Item] = []
    for number, line in enumerate(lines, 1):
        item = _item(number, line)
        if item is not None:
            items.append(item)
            continue
        if not line.strip():
            continue
        if items:
            yield _Heads(above, section), items
            items, above = [], ""
        if re.match(r"#{1,6}\s|=|h\d\.\s", line):
            section, above = line.strip(" #=\t"), ""
        else:
            above = _EMPHASIS.sub("", line).strip().rstrip(":")
    if items:
        yield _Heads(above, section), items


def _item(number: int, line: str) -> _Item | None:
    match = _BULLET.fullmatch(line) or _BARE.fullmatch(line)
    if match is None:
        return None
    text = _EMPHASIS.sub("", match[2]).strip()
    indent = len(match[1].expandtabs())
    named = _NAMED.fullmatch(text) or re.fullmatch(r"(?P<name>\S.{0,80}?)\s+(?P<rest>[~≈]?[-+]?\d\S*)", text)
    if named is None:
        return _Item(number, indent, text.rstrip(":"), {})
    values = _values(named["rest"])
    return _Item(number, indent, named["name"] if values else text.rstrip(":"), values)


def _values(text: str) -> dict[str, str]:
    """The numbers behind a name: one alone, or several behind a metric each; none where anything else is said."""
    if read_cell(text).number is not None or is_missing(text):
        return {"": text}
    found: dict[str, str] = {}
    for part in re.split(r"\s*[;|]\s*|,\s+|\s+/\s+", text):
        said = _PART.fullmatch(part)
        if said is None or read_cell(said["value"]).number is None or said["name"] in found:
            return {}
        found[said["name"]] = said["value"]
    return found


def _by_outer(items: Sequence[_Item]) -> Iterator[tuple[str, list[_Item]]]:
    """The items below each one that has no number of its own: `- base` above `- wiki: 2.31`."""
    part: list[_Item] = []
    outer, level = "", -1
    for item in items:
        is_outer = not item.values
        if is_outer or (part and outer and item.indent <= level):
            if part:
                yield outer, part
            part, outer, level = [], item.name if is_outer else "", item.indent if is_outer else -1
        if not is_outer:
            part.append(item)
    if part:
        yield outer, part


def _grid(heads: _Heads, outer: str, items: Sequence[_Item]) -> Grid | None:
    """The table of one list; None where no metric is named, or its items differ in what they say."""
    if len(items) < 2:
        return None
    title = outer or heads.section or heads.above
    lines = [items[0].line, *(item.line for item in items)]
    names = [item.name for item in items]
    are_single = all(list(item.values) == [""] for item in items)
    metrics = [name for name in names if _is_metric(name)]
    if are_single and metrics and all(_is_metric(name) or is_beside(name) for name in names):
        rows = [names, [item.values[""] for item in items]]
        return Grid(title=title, rows=rows, first_line=items[0].line, lines=[items[0].line, items[-1].line])
    if metrics or len(set(names)) < len(names):
        return None
    if are_single:
        head = next((text for text in (heads.above, outer, heads.section) if said_by_title(text) is not None), None)
        if head is None:
            return None
        section = heads.section if head != heads.section and not outer else outer if head != outer else ""
        rows = [["", _said(head)], *([item.name, item.values[""]] for item in items)]
        return Grid(title=section, rows=rows, first_line=lines[0], lines=lines)
    columns = list(dict.fromkeys(metric for item in items for metric in item.values))
    if not all(_is_metric(metric) or is_beside(metric) for metric in columns) or not any(map(_is_metric, columns)):
        return None
    rows = [["", *columns], *([item.name, *(item.values.get(metric, "") for metric in columns)] for item in items)]
    return Grid(title=title, rows=rows, first_line=lines[0], lines=lines)


def _is_metric(name: str) -> bool:
    return is_metric(name, read_name(name))


def _said(title: str) -> str:
    """A header that says what a title does, and nothing of a dataset or run: `Validation MLM loss by dataset`."""
    said = said_by_title(title)
    assert said is not None
    return " ".join(part for part in (said.split, said.objective, said.quantity.replace("_", " ")) if part)

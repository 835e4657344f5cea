"""Lines that no reader took though they look like data: counted, and the first ones shown, so that none goes unseen.

A reader says which lines it read, or told of, as `Imported.lines`; what is left of the file is looked at here.

looks_like_data("final loss: 2.31")        → True       a metric and its number
looks_like_data("books   3.10   2.98")     → True       a row of a table
looks_like_data("saved in 2.31 s")         → False
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from lossary.results.importers.lines import LONGEST, log_lines
from lossary.results.importers.model import Imported, Unread
from lossary.results.importers.names import read_name
from lossary.results.importers.titles import is_beside

__all__ = ["looks_like_data", "may_hold_data", "unread_of", "with_unread"]

_FIRST = 5
# So far a file that nobody named is looked into.
_MOST_LINES = 500
_WIDEST = 80
_WORDS = re.compile(
    r"loss|ppl|perplex|acc|bpb|nll|entropy|nats?\b|bits|лосс|точность|verlust|perte|损失|損失|손실", re.IGNORECASE
)
_FRACTION = re.compile(r"(?<![\w.])[-+]?\d+[.,]\d")
_NAME = r"[^\W\d][\w./\-]{0,80}"
_PAIR = re.compile(rf"({_NAME}(?:[ ]{_NAME}){{0,3}})['\"]?\s{{0,9}}(?:[:=]|\bis\b)?\s{{0,9}}['\"]?[-+]?(?:\d|\.\d)")
_UNIT = re.compile(r"\d\s?(?:nats?|bits per byte|bpb|ppl|perplexity)(?![^\W\d])", re.IGNORECASE)
_CELLS = re.compile(r"\s*[|│┃║&]\s*|\t+|\s{2,}")
_NUMBER = re.compile(
    r"[*_`$~≈<>]*[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?\s?%?(?:\s?(?:±|\(|\[|\+/-).*)?[*_`$†‡]*", re.IGNORECASE
)


def looks_like_data(line: str) -> bool:
    """Whether a line holds a metric with its number, or a name and numbers as a row of a table has them."""
    return _has_metric(line) or _is_row(line)


def _has_metric(line: str) -> bool:
    if not _WORDS.search(line):
        return False
    names = [read_name(match[1]) for match in _PAIR.finditer(line)]
    said = (name for name in names if name.quantity is not None and name.about is None)
    return any(not is_beside(name.rest) for name in said) or _UNIT.search(line) is not None


def _is_row(line: str) -> bool:
    if not _FRACTION.search(line):
        return False
    first, *others = [cell for cell in _CELLS.split(line.strip().strip("|│┃║ ")) if cell.strip("\\ ")]
    numbers = sum(_NUMBER.fullmatch(cell.strip().rstrip("\\").strip()) is not None for cell in others)
    return bool(others) and numbers * 2 >= len(others) and re.search(r"[^\W\d]", first) is not None


def unread_of(lines: Iterable[tuple[int, str]]) -> Unread:
    """The lines, by their numbers, that look like data, where none of them was read."""
    known = [(number, line.strip()) for number, line in lines if looks_like_data(line.strip())]
    return Unread(len(known), tuple(_shown(number, text) for number, text in known[:_FIRST]))


def may_hold_data(path: Path) -> bool:
    """Whether a text among the first lines of a file looks like data."""
    try:
        return any(looks_like_data(line.text) for line in islice(log_lines(path), _MOST_LINES))
    except OSError:
        return False


def _shown(number: int, text: str) -> str:
    shown = text if len(text) <= _WIDEST else f"{text[:_WIDEST]}…"
    return f"line {number}: {shown!r}"


def with_unread(found: Imported, path: Path) -> Imported:
    """The import of a file of lines with what was not read of it; of other files nothing is said here."""
    if not found.lines:
        return found
    count = 0
    first: list[str] = []
    last = 0
    for number, line, length in log_lines(path):
        text = line.strip() if length <= LONGEST else f"a line of {length:,} bytes"
        if number in found.lines or number == last or not (length > LONGEST or looks_like_data(text)):
            continue
        count, last = count + 1, number
        if len(first) < _FIRST:
            first.append(_shown(number, text))
    return replace(found, unread=found.unread.joined(Unread(count, tuple(first))), lines=set())

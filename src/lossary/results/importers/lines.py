"""Files of text within bounds: whole, or a line at a time; JSON."""

import ast
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lossary.errors import SourceError

__all__ = [
    "LONGEST",
    "MOST_BYTES",
    "MOST_LINE",
    "KeyTwice",
    "LogLine",
    "finite_texts",
    "is_number",
    "lines_of",
    "log_lines",
    "parsed_json",
    "python_value",
    "read_json_text",
    "read_text",
    "without_long_lines",
]

MOST_BYTES = 64 << 20
MOST_LINE = 1 << 20
# Longer lines are none of a log, or of a table that is drawn with characters.
LONGEST = 1 << 14
_LONG = re.compile(rf"[^\r\n]{{{LONGEST + 1},}}")


def read_text(path: Path) -> str:
    """A text file, within bounds; SourceError names what is wrong and where."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise SourceError(f"{size:,} bytes are more than a table has ({MOST_BYTES:,})", where=str(path))
    data = path.read_bytes()
    for number, bytes_of_line in enumerate(data.split(b"\n"), 1):
        if len(bytes_of_line) > MOST_LINE:
            raise SourceError(f"the line is longer than {MOST_LINE:,} bytes", where=f"{path}, line {number}")
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError("not UTF-8", where=f"{path}, line {line}", hint="Save the file as UTF-8.") from None


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a log of any size, one at a time; a line beyond bounds is an error, not memory."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_LINE + 1):
            number += 1
            if len(line) > MOST_LINE:
                raise SourceError(f"the line is longer than {MOST_LINE:,} bytes", where=f"{path}, line {number}")
            yield number, line.decode("utf-8", "replace")


class LogLine(NamedTuple):
    """A line of a log, or what stands between two carriage returns of one; of a longer one the text is left out."""

    number: int
    text: str
    length: int


def log_lines(path: Path) -> Iterator[LogLine]:
    """The lines that a program printed, of which no longer one than people read is looked at: forms of lines take
    the square of its length. A bar that was drawn over and over is as many lines of one number."""
    with path.open("rb") as file:
        number, kept, length = 1, b"", 0
        while chunk := file.readline(LONGEST):
            *parts, last = chunk.removesuffix(b"\n").split(b"\r")
            for part in parts:
                yield _log_line(number, kept + part, length + len(part))
                kept, length = b"", 0
            length += len(last)
            kept = kept + last if length <= LONGEST else b""
            if chunk.endswith(b"\n"):
                yield _log_line(number, kept, length)
                number, kept, length = number + 1, b"", 0
        if length:
            yield _log_line(number, kept, length)


def _log_line(number: int, text: bytes, length: int) -> LogLine:
    return LogLine(number, text.decode("utf-8", "replace") if length <= LONGEST else "", length)


def without_long_lines(text: str) -> str:
    """The text with an empty line in place of each that no log and no drawn table has."""
    return _LONG.sub("", text)


def read_json_text(path: Path) -> Any:
    """The value of a JSON file within bounds."""
    text = read_text(path)
    try:
        return parsed_json(text)
    except KeyTwice as error:
        raise KeyTwice(error.message, where=str(path), hint=error.hint) from None
    except (ValueError, RecursionError) as error:
        value = python_value(text)
        if value is None:
            raise SourceError(f"not JSON: {error}", where=str(path)) from None
        return value


class KeyTwice(SourceError):
    """An object has a key twice: readers differ in which of its values they take."""


def parsed_json(text: str) -> Any:
    """The value of a text of JSON; ValueError or RecursionError if it is none, KeyTwice where it is not one value."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise KeyTwice(f"a JSON object has the key {twice!r} twice", hint="Keep the one that is meant.")
    return found


def python_value(text: str) -> dict[Any, Any] | list[Any] | None:
    """The dict or list that Python prints, with single quotes, None and True; None if a text is none."""
    text = text.strip()
    if text[:1] not in ("{", "[") or len(text) > MOST_LINE:
        return None
    try:
        # By way of JSON, so that nothing but JSON's types comes out of it.
        value = json.loads(json.dumps(ast.literal_eval(text)))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    return value if isinstance(value, dict | list) else None


def finite_texts(values: dict[str, Any]) -> dict[str, Any]:
    """Values with NaN and infinities as numbers, which JSON has only as texts."""
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return {name: special.get(value, value) if isinstance(value, str) else value for name, value in values.items()}


def is_number(value: object) -> bool:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)

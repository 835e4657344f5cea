"""Rows of formats that have no columns, as lines of JSON, cut into blocks as tables are.

row_line({"txt": b"a text", "json": json_value(b'{"lang": "de"}')})
for num_rows, data in cut_lines(rows, ("txt",)): ...
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from lossary.data.fields import MISSING, value_of
from lossary.data.parsing import BLOCK_BYTES
from lossary.data.tables import MOST_BLOCK_ROWS

__all__ = ["Unreadable", "cut_lines", "json_value", "row_line"]


@dataclass(frozen=True)
class Unreadable:
    """Bytes that should be JSON and are not; they make their row a bad one."""

    data: bytes


def json_value(data: bytes) -> Any:
    """What JSON says, or Unreadable."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return Unreadable(data)


def row_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSON; values that are bytes are text. One that cannot be said is a line that is no JSON."""
    plain: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Unreadable):
            return _no_json(value.data)
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                return _no_json(value)
        plain[name] = value
    return orjson.dumps(plain)


def _no_json(data: bytes) -> bytes:
    # A blank line would be passed over, and its row with it; a blank for the line break might make JSON of it.
    return data.replace(b"\n", b"\0") if data.strip() else b"{"


def cut_lines(rows: Iterator[Mapping[str, Any]], fields: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Numbers of rows and their lines, each cut after the row with which the text reaches BLOCK_BYTES."""
    reads = [value_of(name) for name in fields]
    lines: list[bytes] = []
    size = 0
    for row in rows:
        lines.append(row_line(row))
        size += sum(_size(read(row)) for read in reads)
        if size >= BLOCK_BYTES or len(lines) >= MOST_BLOCK_ROWS:
            yield len(lines), b"\n".join(lines)
            lines, size = [], 0
    if lines:
        yield len(lines), b"\n".join(lines)


def _size(value: Any) -> int:
    if value is MISSING or not isinstance(value, (bytes, str)):
        return 0
    return len(value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass"))

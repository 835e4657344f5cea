"""TensorBoard's event files, read record by record: all points, TF1 scalars and TF2 tensors, truncated tails.

A record is a length (8 bytes), its checksum (4), the event, its checksum (4). An event is a protocol buffer; only the
fields that a scalar needs are looked at, by their numbers in event.proto, summary.proto and tensor.proto.
"""

import os
import struct
from pathlib import Path
from typing import NamedTuple

from lossary.errors import SourceError
from lossary.results.importers.logs import Collector
from lossary.results.importers.model import Imported
from lossary.results.importers.names import Maps

__all__ = ["event_files", "looks_like_events", "read_events", "read_tensorboard"]

_MOST_RECORD = 64 << 20
_FLOAT, _DOUBLE = 1, 2


class Scalars(NamedTuple):
    """Points by tag, and what was wrong with the file's end."""

    points: dict[str, tuple[list[int], list[float]]]
    note: str | None


def event_files(path: Path) -> list[Path]:
    """The event files at or below a path, sorted; links are not followed."""
    if path.is_file():
        return [path]
    return sorted(
        Path(folder) / name
        for folder, _, names in os.walk(path, followlinks=False)
        for name in names
        if "tfevents" in name
    )


def looks_like_events(head: bytes) -> bool:
    """Whether bytes start as an event file does: a short record that holds `brain.Event`."""
    return len(head) >= 12 and struct.unpack_from("<Q", head)[0] < 256 and b"brain.Event" in head[:64]


def read_tensorboard(path: Path, maps: Maps) -> Imported:
    """The scalars of all event files at or below a path; a run is a folder."""
    files = event_files(path)
    if not files:
        raise SourceError("no event file", where=str(path))
    found = Collector(path, "TensorBoard", maps)
    root = path if path.is_dir() else path.parent
    for file in files:
        relative = str(file.parent.relative_to(root))
        run = root.resolve().name if relative == "." else relative
        scalars = read_events(file)
        for tag, (steps, values) in scalars.points.items():
            found.extend(run, tag, steps, values)
        if scalars.note:
            found.notes.append(f"{file.name}: {scalars.note}")
    return found.finish()


def read_events(path: Path) -> Scalars:
    """Every scalar of one event file. SourceError if it is none; a tail that was cut short is noted."""
    data = path.read_bytes()
    points: dict[str, tuple[list[int], list[float]]] = {}
    position, end = 0, len(data)
    while position + 12 <= end:
        (length,) = struct.unpack_from("<Q", data, position)
        start = position + 12
        if length > _MOST_RECORD:
            if position == 0:
                raise SourceError("not an event file", where=str(path))
            return Scalars(points, f"damaged at byte {position:,}; {end - position:,} bytes were left out")
        if start + length + 4 > end:
            return Scalars(points, f"the last record is cut short at byte {position:,}")
        try:
            _event(data, start, start + length, points)
        except (IndexError, struct.error, UnicodeDecodeError):
            if position == 0:
                raise SourceError("not an event file", where=str(path)) from None
            return Scalars(points, f"damaged at byte {position:,}; {end - position:,} bytes were left out")
        position = start + length + 4
    return Scalars(points, None if position == end else f"the last record is cut short at byte {position:,}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("a varint without end")


def _skip(data: bytes, at: int, wire: int) -> int:
    if wire == 0:
        return _varint(data, at)[1]
    if wire == 1:
        return at + 8
    if wire == 2:
        length, at = _varint(data, at)
        return at + length
    if wire == 5:
        return at + 4
    raise IndexError("no such wire type")


def _event(data: bytes, at: int, end: int, points: dict[str, tuple[list[int], list[float]]]) -> None:
    step = 0
    summary: tuple[int, int] | None = None
    while at < end:
        key = data[at]
        at += 1
        if key == 0x09:  # 1: wall time, double
            at += 8
        elif key == 0x10:  # 2: step, int64
            step, at = _varint(data, at)
        elif key == 0x2A:  # 5: summary
            length, at = _varint(data, at)
            summary = (at, at + length)
            at += length
        else:
            if key >= 0x80:
                key, at = _varint(data, at - 1)
            at = _skip(data, at, key & 7)
    if at != end:
        raise IndexError("the event is longer than its record")
    if summary is not None:
        step = step - (1 << 64) if step >= 1 << 63 else step
        _summary(data, *summary, step, points)


def _summary(data: bytes, at: int, end: int, step: int, points: dict[str, tuple[list[int], list[float]]]) -> None:
    while at < end:
        key, at = _varint(data, at)
        if key != 0x0A:  # 1: value
            at = _skip(data, at, key & 7)
            continue
        length, at = _varint(data, at)
        stop = at + length
        tag, value = _value(data, at, stop)
        if value is not None:
            steps, values = points.setdefault(tag, ([], []))
            steps.append(step)
            values.append(value)
        at = stop


def _value(data: bytes, at: int, end: int) -> tuple[str, float | None]:
    tag, value = "", None
    while at < end:
        key, at = _varint(data, at)
        if key == 0x0A:  # 1: tag
            length, at = _varint(data, at)
            tag = data[at : at + length].decode()
            at += length
        elif key == 0x15:  # 2: simple value, float
            (value,) = struct.unpack_from("<f", data, at)
            at += 4
        elif key == 0x42:  # 8: tensor
            length, at = _varint(data, at)
            value = _tensor(data, at, at + length)
            at += length
        else:
            at = _skip(data, at, key & 7)
    return tag, value


def _tensor(data: bytes, at: int, end: int) -> float | None:
    """A scalar of a TensorProto; None for anything else."""
    kind, content = 0, b""
    while at < end:
        key, at = _varint(data, at)
        if key == 0x08:  # 1: dtype
            kind, at = _varint(data, at)
        elif key in (0x22, 0x2A, 0x32):  # 4: content; 5 and 6: packed floats, doubles
            length, at = _varint(data, at)
            content = data[at : at + length]
            at += length
        elif key in (0x2D, 0x31):  # 5 and 6: one float, one double, unpacked
            size = 4 if key == 0x2D else 8
            content = data[at : at + size]
            at += size
        else:
            at = _skip(data, at, key & 7)
    if kind == _FLOAT and len(content) == 4:
        return float(struct.unpack("<f", content)[0])
    if kind == _DOUBLE and len(content) == 8:
        return float(struct.unpack("<d", content)[0])
    return None

"""TensorBoard's event files, read record by record: all points, TF1 scalars and TF2 tensors, truncated tails.

A record is a length (8 bytes), its checksum (4), the event, its checksum (4). An event is a protocol buffer; only the
fields that a scalar needs are looked at, by their numbers in event.proto, summary.proto and tensor.proto.
"""

import mmap
import os
import re
import struct
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lossary.errors import SourceError
from lossary.results.importers.collect import MOST_POINTS, Collector
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported, Split, Tag
from lossary.results.importers.names import read_name, split_word

__all__ = ["event_files", "looks_like_events", "read_events", "read_tensorboard"]

_MOST_RECORD = 64 << 20
_READ_WHOLE = 256 << 20
_FLOAT, _DOUBLE = 1, 2


Buffer = bytes | mmap.mmap


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


def read_tensorboard(path: Path, maps: Maps, files: Sequence[Path] | None = None) -> Imported:
    """The scalars of all event files at or below a path; a run is a folder; `train`, `eval` in it are splits."""
    files = event_files(path) if files is None else files
    if not files:
        raise SourceError("no event file", where=str(path))
    found = Collector(path, "TensorBoard", maps)
    root = path if path.is_dir() else path.parent
    scalars = {file: read_events(file) for file in files}
    folders = {file: _folder_of(file, root, scalars[file].points) for file in files}
    evaluated = {folder.run for folder in folders.values() if folder.split in ("eval", "test")}
    seen: dict[Tag, set[int]] = {}
    for file in files:
        folder = folders[file]
        # Estimators of TensorFlow 1 write training into the run's folder and evaluation below it.
        trains = folder.split is None and folder.run in evaluated
        for tag, (steps, values) in scalars[file].points.items():
            series = _tag(tag, folder, scalars[file].points, trains=trains)
            again = seen.setdefault(series, set())
            if again.intersection(steps):
                found.note(f"{series.run}: event files overlap at steps of {tag!r}; of each step the later file counts")
            again.update(steps)
            found.extend(series, steps, values, f"{file.name}, tag {tag}")
        note = scalars[file].note
        if note:
            found.note(f"{file.name}: {note}")
    return found.finish()


class _Folder(NamedTuple):
    """What a folder says of its event files."""

    run: str
    split: Split | None
    dataset: str | None


def _folder_of(file: Path, root: Path, points: Collection[str]) -> _Folder:
    # A root that is itself `train` or `eval` is a part of the run above it.
    absolute = file.resolve().parent
    parts = list(absolute.relative_to(root.resolve()).parts)
    name = root.resolve().name
    if not parts and split_word(name) is not None:
        return _Folder(absolute.parent.name, split_word(name), None)
    if parts and len(points) == 1 and (found := _add_scalars_folder(parts[-1], next(iter(points)))):
        return _Folder("/".join(parts[:-1]) or name, split_word(found), None if split_word(found) else found)
    if parts and (split := split_word(parts[-1])) is not None:
        return _Folder("/".join(parts[:-1]) or name, split, None)
    if parts and (match := _EVAL_FOLDER.fullmatch(parts[-1])):
        return _Folder("/".join(parts[:-1]) or name, split_word(match[1]), match[2])
    return _Folder("/".join(parts) or name, None, None)


_EVAL_FOLDER = re.compile(r"(eval|val|valid|validation|test)[_-](.+)")


def _add_scalars_folder(folder: str, tag: str) -> str | None:
    """The key of torch's `add_scalars(tag, {key: value})`, which makes a folder `tag_key` with one tag in it."""
    prefix = tag.replace("/", "_") + "_"
    return folder.removeprefix(prefix) if folder.startswith(prefix) and folder != prefix else None


def _tag(tag: str, folder: _Folder, tags: Collection[str], *, trains: bool) -> Tag:
    core, refused, axis = tag, None, "step"
    again = re.fullmatch(r"(.+)_\d+", tag)
    if again and again[1] in tags:
        refused = f"a scalar that TensorFlow wrote twice; {again[1]} stands"
    elif tag in ("train/train_loss", "train_loss") and any("train_runtime" in other for other in tags):
        refused = "a mean over the whole run, not the loss of a step"
    elif tag.startswith("evaluation_") and tag.endswith("_vs_iterations"):
        refused = "the same by iterations; the values by epoch stand"
    elif tag.startswith("epoch_"):
        core, axis = tag.removeprefix("epoch_"), "epoch"
    elif tag.startswith("batch_"):
        core = tag.removeprefix("batch_")
    split = folder.split
    if split is not None:
        first, separator, rest = re.match(r"([^/_ ]*)([/_ ]?)(.*)", core, re.DOTALL).groups()  # type: ignore[union-attr]
        core = rest if separator and split_word(first) == split else core
    elif trains and read_name(core).split is None:
        split = "train"
    return Tag(folder.run, tag, core, split=split, dataset=folder.dataset, axis=axis, refused=refused)  # type: ignore[arg-type]


def read_events(path: Path) -> Scalars:
    """Every scalar of one event file. SourceError if it is none; a tail that was cut short is noted."""
    if path.stat().st_size == 0:
        return Scalars({}, "the file is empty")
    if path.stat().st_size <= _READ_WHOLE:
        return _read_records(path.read_bytes(), path)
    # Mapped, not read: histograms and images may make a file far larger than its scalars.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _read_records(data, path)


def _read_records(data: Buffer, path: Path) -> Scalars:
    points = _Points()
    series = points.found
    position, end = 0, len(data)
    length_at = struct.Struct("<Q").unpack_from
    count = 0
    while position + 12 <= end:
        count += 1
        if count > MOST_POINTS:
            raise SourceError(f"more than {MOST_POINTS:,} records", where=str(path))
        length = length_at(data, position)[0]
        start = position + 12
        stop = start + length
        if length > _MOST_RECORD:
            if position == 0:
                raise SourceError("not an event file", where=str(path))
            return points.finish(f"damaged at byte {position:,}; {end - position:,} bytes were left out")
        if stop + 4 > end:
            return points.finish(f"the last record is cut short at byte {position:,}")
        match = _PLAIN(data, start, stop)
        position = stop + 4
        if match is not None:
            # The usual event: time, step, one value with a short tag and a float, which ends where the record does.
            tag_start = match.end()
            tag_stop = tag_start + data[tag_start - 1]
            if tag_stop + 5 == stop and data[tag_stop] == 0x15:
                tag = data[tag_start:tag_stop]
                if tag not in series:
                    series[tag] = ([], [])
                steps, values = series[tag]
                steps.append(match[1])
                values.append(data[tag_stop + 1 : stop])
                continue
        try:
            _event(data, start, stop, points)
        except (IndexError, struct.error, UnicodeDecodeError):
            if start == 12:
                raise SourceError("not an event file", where=str(path)) from None
            return points.finish(f"damaged at byte {start - 12:,}; {end - start + 12:,} bytes were left out")
    return points.finish(None if position == end else f"the last record is cut short at byte {position:,}")


# 1: wall time; 2: step (absent where 0); 5: a summary of under 128 bytes; in it 1: a value; in that 1: a tag.
_PLAIN = re.compile(
    rb"\x09.{8}(?:\x10([\x80-\xff]{0,9}[\x00-\x7f]))?\x2a[\x00-\x7f]\x0a[\x00-\x7f]\x0a[\x00-\x7f]", re.DOTALL
).match


class _Points:
    """Points by tag: steps as their bytes, until all are in; most values stay bytes, too."""

    def __init__(self) -> None:
        self.found: dict[bytes, tuple[list[bytes | None], list[bytes]]] = {}

    def add(self, tag: bytes, step: bytes | None, value: bytes) -> None:
        """A value of four bytes (a float) or eight (a double)."""
        found = self.found.get(tag)
        if found is None:
            found = self.found[tag] = ([], [])
        found[0].append(step)
        found[1].append(value)

    def finish(self, note: str | None) -> Scalars:
        """Numbers by tag."""
        steps: dict[bytes | None, int] = {None: 0}
        points = {}
        for tag, (raw, values) in self.found.items():
            for text in set(raw) - steps.keys():
                step = _varint(text or b"\0", 0)[0]
                steps[text] = step - (1 << 64) if step >= 1 << 63 else step
            sizes = set(map(len, values))
            if sizes == {4}:
                numbers = np.frombuffer(b"".join(values), "<f4").tolist()
            else:
                numbers = [struct.unpack("<f" if len(value) == 4 else "<d", value)[0] for value in values]
            points[tag.decode("utf-8", "replace")] = ([steps[text] for text in raw], numbers)
        return Scalars(points, note)


def _varint(data: Buffer, at: int) -> tuple[int, int]:
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


def _skip(data: Buffer, at: int, wire: int) -> int:
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


def _event(data: Buffer, at: int, end: int, points: _Points) -> None:
    step: bytes | None = None
    summary: tuple[int, int] | None = None
    while at < end:
        key = data[at]
        at += 1
        if key == 0x09:  # 1: wall time, double
            at += 8
        elif key == 0x10:  # 2: step, int64
            start = at
            _, at = _varint(data, at)
            step = data[start:at]
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
        _summary(data, *summary, step, points)


def _summary(data: Buffer, at: int, end: int, step: bytes | None, points: _Points) -> None:
    while at < end:
        key, at = _varint(data, at)
        if key != 0x0A:  # 1: value
            at = _skip(data, at, key & 7)
            continue
        length, at = _varint(data, at)
        stop = at + length
        tag, value = _value(data, at, stop)
        if value is not None:
            points.add(tag, step, value)
        at = stop


def _value(data: Buffer, at: int, end: int) -> tuple[bytes, bytes | None]:
    tag, value = b"", None
    while at < end:
        key, at = _varint(data, at)
        if key == 0x0A:  # 1: tag
            length, at = _varint(data, at)
            tag = data[at : at + length]
            at += length
        elif key == 0x15:  # 2: simple value, float
            value = data[at : at + 4]
            at += 4
        elif key == 0x42:  # 8: tensor
            length, at = _varint(data, at)
            value = _tensor(data, at, at + length)
            at += length
        else:
            at = _skip(data, at, key & 7)
    return tag, value


def _tensor(data: Buffer, at: int, end: int) -> bytes | None:
    """The bytes of a scalar of a TensorProto; None for anything else."""
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
    return content if (kind, len(content)) in ((_FLOAT, 4), (_DOUBLE, 8)) else None

"""W&B's local file of a run, `run-….wandb`: a log of blocks as LevelDB has them, whose records are protocol buffers.

A file is a head of 7 bytes, then blocks of 32 KiB; a record is a checksum (4 bytes), a length (2), a type (1) and data,
in parts where it spans blocks. The history and the run's name are looked at, by their numbers in wandb_internal.proto.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossary.errors import SourceError
from lossary.protobuf import field_values
from lossary.results.importers.collect import Collector
from lossary.results.importers.lines import finite_texts
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported
from lossary.results.importers.records import points_of_records

__all__ = ["looks_like_wandb", "read_wandb_file"]

_HEAD = 7
_BLOCK = 1 << 15
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _RUN = 2, 17  # of a record
_ITEM, _STEP = 1, 2  # of a history
_KEY, _NESTED, _JSON = 1, 2, 16  # of an item
_ID, _NAME = 1, 8  # of a run
_MOST_BYTES = 4 << 30


def looks_like_wandb(head: bytes) -> bool:
    """Whether bytes start as a run's file does."""
    return head.startswith(b":W&B")


def read_wandb_file(path: Path, maps: Maps) -> Imported:
    """The history of a run, under the name that it has on its page."""
    if path.stat().st_size > _MOST_BYTES:
        raise SourceError(f"more than {_MOST_BYTES >> 30} GiB", where=str(path))
    found = Collector(path, "W&B run", maps)
    name = [path.stem]
    points_of_records(_history(path, found, name), found, path.stem)
    imported = found.finish()
    return imported if name[0] == path.stem else _renamed(imported, path.stem, name[0])


def _history(path: Path, found: Collector, name: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, record in enumerate(_records(path, found), 1):
        try:
            for field, value in field_values(record):
                if field == _RUN and isinstance(value, bytes):
                    said = {key: text for key, text in field_values(value) if isinstance(text, bytes)}
                    name[0] = (said.get(_NAME) or said.get(_ID) or name[0].encode()).decode("utf-8", "replace")
                elif field == _HISTORY and isinstance(value, bytes):
                    yield f"record {number}", _values(value)
        except ValueError:
            found.note(f"record {number} is damaged; left out")


def _values(history: bytes) -> dict[str, Any]:
    values: dict[str, Any] = {}
    step: int | None = None
    for field, value in field_values(history):
        if field == _STEP and isinstance(value, bytes):
            step = next((number for key, number in field_values(value) if key == 1 and isinstance(number, int)), 0)
        elif field == _ITEM and isinstance(value, bytes):
            parts = [
                (key, text.decode("utf-8", "replace")) for key, text in field_values(value) if isinstance(text, bytes)
            ]
            key = next((text for at, text in parts if at == _KEY), "")
            key = key or "/".join(text for at, text in parts if at == _NESTED)
            try:
                values[key] = json.loads(next(text for at, text in parts if at == _JSON))
            except (ValueError, RecursionError, StopIteration):
                continue
    if step is not None:
        values.setdefault("_step", step)
    return finite_texts(values)


def _records(path: Path, found: Collector) -> Iterator[bytes]:
    """Whole records; one whose checksum is wrong or that is cut short ends the file, with a note."""
    parts: list[bytes] = []
    with path.open("rb") as file:
        if len(file.read(_HEAD)) < _HEAD:
            raise SourceError("not a W&B file: its head is cut short", where=str(path))
        while True:
            left = _BLOCK - file.tell() % _BLOCK
            if left < _HEAD:
                file.seek(left, 1)
            head = file.read(_HEAD)
            if not head.strip(b"\0"):
                return
            if len(head) < _HEAD:
                break
            checksum, length, kind = struct.unpack("<IHB", head)
            data = file.read(length)
            if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
                break
            parts = [data] if kind in (_FULL, _FIRST) else [*parts, data]
            if kind in (_FULL, _LAST):
                yield b"".join(parts)
                parts = []
        found.note(f"{path.name} is damaged or cut short at byte {file.tell():,}; what stands before it is read")


def _renamed(imported: Imported, old: str, run: str) -> Imported:
    def named(name: str) -> str:
        return run if name == old else name

    return replace(
        imported,
        curves=[replace(curve, run=named(curve.run)) for curve in imported.curves],
        mapping=[replace(mapped, run=named(mapped.run)) for mapped in imported.mapping],
    )

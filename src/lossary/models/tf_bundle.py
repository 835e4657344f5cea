"""Tensors of a TensorFlow checkpoint as NumPy arrays, without TensorFlow.

    model.ckpt-125000.index                    a sorted table: name → type, shape, place, checksum
    model.ckpt-125000.data-00000-of-00001      the values

    bundle = Bundle(folder / "model.ckpt-125000")
    bundle.shapes["bert/pooler/dense/bias"], bundle.read("bert/pooler/dense/bias")

It is what `tf.compat.v1.train.Saver` (version 2, the default since TensorFlow 1.0) and SavedModels write. Every block
of the table and every tensor is compared with its CRC-32C.
Sources: tensorflow/core/util/tensor_bundle, tensorflow/core/protobuf/tensor_bundle.proto; the table format of LevelDB.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from numpy.typing import NDArray

from lossary.errors import CheckpointError
from lossary.protobuf import fields, read_varint

__all__ = ["Bundle", "bundle_prefix"]

_MAGIC, _FOOTER, _TRAILER = 0xDB4775248B80FB57, 48, 5
_PLAIN, _SNAPPY = 0, 1
_BFLOAT16 = 14
# DataType of tensorflow/core/framework/types.proto. bfloat16 is the upper half of a float32.
_KINDS: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    _BFLOAT16: np.dtype("<u2"),
    19: np.dtype("<f2"),
}
_PART = re.compile(r"\.(?:index|meta|data-\d{5}-of-\d{5})$")


class _Entry(NamedTuple):
    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_cut: bool  # a variable in slices


def bundle_prefix(path: Path) -> Path | None:
    """What a checkpoint's files have in common, by that name, by one of the files, or by the only one of a folder.

    None if there is none. CheckpointError if a folder holds several.
    """
    if path.is_dir():
        found = sorted({file.with_suffix("") for place in (path, path / "variables") for file in place.glob("*.index")})
        if len(found) > 1:
            names = ", ".join(prefix.name for prefix in found[-4:])
            raise CheckpointError(
                f"{len(found)} TensorFlow checkpoints lie there: {names}",
                where=str(path),
                hint=f"Name one: {found[-1]}.",
            )
        return found[0] if found else None
    prefix = path.with_name(_PART.sub("", path.name))
    return prefix if prefix.with_name(f"{prefix.name}.index").is_file() else None


class Bundle:
    """One checkpoint; its index is read at once, its tensors when they are asked for."""

    def __init__(self, prefix: Path) -> None:
        """CheckpointError if the index is damaged or not of this format."""
        self.prefix = prefix
        self._index = prefix.with_name(f"{prefix.name}.index")
        try:
            rows = dict(_table(self._index.read_bytes()))
            header = {number: content for number, _, content in fields(rows.pop(b""))}
            if read_varint(header.get(2, b"\0"), 0)[0]:
                raise ValueError("its numbers are big-endian")
            self._shards = read_varint(header.get(1, b"\1"), 0)[0]
            self._entries = {name.decode(): _entry(value) for name, value in rows.items()}
        except OSError as error:
            raise CheckpointError(f"not readable: {error.strerror}", where=str(self._index)) from None
        except (ValueError, KeyError, IndexError, UnicodeDecodeError, pa.ArrowException) as error:
            raise CheckpointError(
                f"not readable as the index of a TensorFlow checkpoint: {error}", where=str(self._index)
            ) from None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every variable, by its name."""
        return {name: entry.shape for name, entry in self._entries.items()}

    def read(self, name: str) -> NDArray[Any]:
        """One variable; bfloat16 widened to float32. CheckpointError if it is damaged, cut in slices, or no number."""
        entry = self._entries[name]
        kind = _KINDS.get(entry.kind)
        if kind is None or entry.is_cut:
            what = "cut into slices" if entry.is_cut else f"of TensorFlow's type {entry.kind}"
            raise CheckpointError(f"{name} is {what}, which is not read here", where=str(self._index))
        file = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self._shards:05d}")
        data = self._bytes(file, entry)
        if len(data) != entry.size or crc32c(data) != entry.checksum or entry.size != kind.itemsize * _count(entry):
            raise CheckpointError(
                f"{name} is not what was written", where=str(file), hint="Fetch or restore the checkpoint again."
            )
        values: NDArray[Any] = np.frombuffer(data, kind)
        if entry.kind == _BFLOAT16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.reshape(entry.shape)

    def _bytes(self, file: Path, entry: _Entry) -> bytes:
        try:
            with file.open("rb") as data:
                data.seek(entry.offset)
                return data.read(entry.size)
        except FileNotFoundError:
            raise CheckpointError("no such file: the checkpoint lacks its values", where=str(file)) from None
        except (OSError, OverflowError, ValueError) as error:
            raise CheckpointError(f"not readable: {error}", where=str(file)) from None


def _count(entry: _Entry) -> int:
    count = 1
    for size in entry.shape:
        count *= size
    return count


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted table."""
    footer = data[-_FOOTER:]
    if len(data) < _FOOTER or int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise ValueError("it does not end in the mark of a table")
    at = _handle(footer, 0)[2]
    start, size, _ = _handle(footer, at)
    for _, place in _pairs(_block(data, start, size)):
        yield from _pairs(_block(data, *_handle(place, 0)[:2]))


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """Start and size of a block, and where the handle ends."""
    start, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return start, size, at


def _block(data: bytes, start: int, size: int) -> bytes:
    whole = data[start : start + size + _TRAILER]
    if len(whole) != size + _TRAILER or _unmasked(int.from_bytes(whole[-4:], "little")) != crc32c(whole[:-4]):
        raise ValueError(f"its block at byte {start:,} is not what was written")
    kind, content = whole[size], whole[:size]
    if kind == _SNAPPY:
        content = pa.Codec("snappy").decompress(content, read_varint(content, 0)[0], asbytes=True)
    elif kind != _PLAIN:
        raise ValueError(f"its block at byte {start:,} is compressed in an unknown way")
    return content


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys, each written as what it does not share with the one before, and values."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    key, at = b"", 0
    while at < end:
        shared, at = read_varint(block, at)
        own, at = read_varint(block, at)
        size, at = read_varint(block, at)
        key, at = key[:shared] + block[at : at + own], at + own
        yield key, block[at : at + size]
        at += size


def _entry(value: bytes) -> _Entry:
    found: dict[int, bytes] = {}
    is_cut = False
    for number, _, content in fields(value):
        is_cut |= number == 7
        found[number] = content
    dimensions = [content for number, _, content in fields(found.get(2, b"")) if number == 2]
    sizes = [{number: content for number, _, content in fields(dimension)} for dimension in dimensions]
    whole = {number: read_varint(found[number], 0)[0] if number in found else 0 for number in (1, 3, 4, 5)}
    return _Entry(
        kind=whole[1],
        shape=tuple(read_varint(size.get(1, b"\0"), 0)[0] for size in sizes),
        shard=whole[3],
        offset=whole[4],
        size=whole[5],
        checksum=_unmasked(int.from_bytes(found.get(6, b""), "little")),
        is_cut=is_cut,
    )


def _unmasked(checksum: int) -> int:
    rotated = (checksum - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF

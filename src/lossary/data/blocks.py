"""Files of blocks: named arrays in Arrow IPC streams, one after another, each with a checksum.

    with BlockWriter(path) as writer:
        writer.append({"ids": ids, "bytes": narrow(sizes)})
    blocks = Blocks([(path, writer.places)], hint="Run `lossary prepare`.")
    blocks.read(0)["ids"]                       # a view of the memory-mapped file

`BlockWriter(path, compressed=True)` is for what is read from its beginning to its end, as frozen examples are: its
blocks are compressed (Zstandard, within Arrow's streams, which say so themselves). A number that fills an array is
stored once, in any file. `BlockWriter.digest` is of the plain blocks, and files that hold such are read as before.

A block is a window: nobody needs more than a few at once. Where a block lies and its checksum (CRC-32, which finds
every change of up to four adjacent bytes) stand in a manifest, and are compared before Arrow interprets a byte of it,
once a process. `narrow` gives integers the fewest bytes that hold them.
"""

import mmap
import os
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.errors import ShardError
from lossary.files import GrowingDigest

__all__ = ["BlockWriter", "Blocks", "Place", "narrow"]

# Decoded blocks are views of a few kilobytes; the pages behind them are the system's.
_REMEMBERED = 512
# Blocks that were compressed are copies, of megabytes.
_COPIES_REMEMBERED = 2
_COMPRESSION = "zstd"
# An array of so many times one number is stored as that number, under a name that says how many.
_MANY = 64
_SAME = " × "
# Not every system has it; there pages stay until the system needs them.
_DONT_NEED = getattr(mmap, "MADV_DONTNEED", None)
_NARROW = (np.uint8, np.uint16, np.uint32, np.uint64)

Arrays = dict[str, NDArray[Any]]


class Place(NamedTuple):
    """How long a block is, and its checksum; blocks of a file lie one after another."""

    size: int
    checksum: int


def narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers (N,), none negative, in the fewest bytes that hold the largest."""
    most = int(values.max(initial=0))
    return values.astype(next(kind for kind in _NARROW if most <= np.iinfo(kind).max))


class BlockWriter:
    """Writes a file of blocks; whoever writes it makes it atomic."""

    def __init__(self, path: Path, *, compressed: bool = False) -> None:
        self.path = path
        self.places: list[Place] = []
        self._compressed = compressed
        self._content = GrowingDigest()

    def __enter__(self) -> Self:
        self._file: BinaryIO = self.path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Adds a block of arrays, which may differ in length."""
        plain = _encoded(arrays)
        self._content.add(plain)
        stored = dict(map(_stored, arrays, arrays.values()))
        is_plain = stored.keys() == arrays.keys() and not self._compressed
        self._write(plain if is_plain else _encoded(stored, compression=_COMPRESSION if self._compressed else None))

    def append_encoded(self, block: bytes | memoryview) -> None:
        """Adds a block of another file as it is; `digest` does not cover it."""
        self._write(block)

    @property
    def digest(self) -> str:
        """Of the blocks as they are with nothing packed: what `digest_file` gave of files before blocks were."""
        return str(self._content)

    def _write(self, block: bytes | memoryview) -> None:
        self.places.append(Place(len(block), zlib.crc32(block)))
        self._file.write(block)


def _stored(name: str, values: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """The name and the numbers that an array is stored as: one number, if it is many times the same."""
    if len(values) < _MANY or (values != values[0]).any():
        return name, values
    return f"{name}{_SAME}{len(values)}", values[:1]


def _restored(name: str, values: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """What `_stored` was given."""
    name, is_same, count = name.partition(_SAME)
    return name, np.broadcast_to(values[0], int(count)) if is_same else values


def _encoded(arrays: Mapping[str, NDArray[Any]], *, compression: str | None = None) -> memoryview:
    lists = {
        name: pa.LargeListArray.from_arrays(arrow_array(np.array([0, len(values)], np.int64)), arrow_array(values))
        for name, values in arrays.items()
    }
    batch = pa.RecordBatch.from_pydict(lists)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def arrow_array(values: NDArray[Any]) -> pa.Array:
    """Numbers of a NumPy array (N,) as Arrow's, without a copy.

    `pa.array` would import pandas to ask whether they are pandas': a sixth of a second in every worker.
    """
    contiguous = np.ascontiguousarray(values)
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(contiguous.dtype), len(contiguous), [None, pa.py_buffer(contiguous)]
    )


class Blocks:
    """The blocks of some files, in order, memory-mapped; ShardError at the first that is missing or damaged."""

    def __init__(self, files: Sequence[tuple[Path, Sequence[Place]]], *, hint: str) -> None:
        self._files = [(path, list(places)) for path, places in files]
        self._hint = hint
        self._maps: list[mmap.mmap | None] = [None] * len(self._files)
        self._where = [
            (file, number, start, place)
            for file, (_, places) in enumerate(self._files)
            for number, (start, place) in enumerate(
                zip(accumulate((place.size for place in places), initial=0), places, strict=False)
            )
        ]
        self._checked = bytearray(len(self._where))
        self._remembered: OrderedDict[int, Arrays] = OrderedDict()

    def __len__(self) -> int:
        return len(self._where)

    def read(self, number: int) -> Arrays:
        """The arrays of a block: views of the file, or copies if it is compressed."""
        if number in self._remembered:
            self._remembered.move_to_end(number)
            return self._remembered[number]
        block = self.encoded(number)
        with pa.ipc.open_stream(pa.py_buffer(block)) as reader:
            batch = reader.read_next_batch()
        stored = {name: batch.column(name).values.to_numpy() for name in batch.schema.names}
        found = dict(map(_restored, stored, stored.values()))
        self._remembered[number] = found
        is_copy = sum(values.nbytes for values in stored.values()) > len(block)
        while len(self._remembered) > (_COPIES_REMEMBERED if is_copy else _REMEMBERED):
            self._remembered.popitem(last=False)
        return found

    def encoded(self, number: int) -> memoryview:
        """The bytes of a block, compared with its checksum at their first touch."""
        file, of_file, start, place = self._where[number]
        block = memoryview(self._map(file))[start : start + place.size]
        if not self._checked[number]:
            if zlib.crc32(block) != place.checksum:
                path = self._files[file][0]
                raise ShardError(f"block {of_file} is not what was written", where=str(path), hint=self._hint)
            self._checked[number] = 1
            self.forget()
        return block

    def forget(self) -> None:
        """Gives pages that were touched back to the system, which reads them again where they are needed."""
        for mapped in self._maps:
            if mapped is not None and _DONT_NEED is not None:
                mapped.madvise(_DONT_NEED)

    def _map(self, file: int) -> mmap.mmap:
        found = self._maps[file]
        if found is None:
            path, places = self._files[file]
            try:
                with path.open("rb") as opened:
                    size = os.fstat(opened.fileno()).st_size
                    if size != sum(place.size for place in places):
                        raise ShardError("the file is cut short or too long", where=str(path), hint=self._hint)
                    found = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            except OSError as error:
                raise ShardError(f"not readable: {error.strerror}", where=str(path), hint=self._hint) from None
            self._maps[file] = found
        return found

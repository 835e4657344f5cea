"""Files of blocks: named arrays in Arrow IPC streams, one after another, each with a checksum.

    with BlockWriter(path) as writer:
        writer.append({"ids": ids, "bytes": narrow(sizes)})
    blocks = Blocks([(path, writer.places)], hint="Run `lossary prepare`.")
    blocks.read(0)["ids"]                       # a view of the memory-mapped file

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

__all__ = ["BlockWriter", "Blocks", "Place", "narrow"]

# Decoded blocks are views of a few kilobytes; the pages behind them are the system's.
_REMEMBERED = 512
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

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: list[Place] = []

    def __enter__(self) -> Self:
        self._file: BinaryIO = self.path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Adds a block of arrays, which may differ in length."""
        self.append_encoded(_encoded(arrays))

    def append_encoded(self, block: bytes | memoryview) -> None:
        """Adds a block of another file as it is."""
        self.places.append(Place(len(block), zlib.crc32(block)))
        self._file.write(block)


def _encoded(arrays: Mapping[str, NDArray[Any]]) -> memoryview:
    lists = {
        name: pa.LargeListArray.from_arrays(arrow_array(np.array([0, len(values)], np.int64)), arrow_array(values))
        for name, values in arrays.items()
    }
    batch = pa.RecordBatch.from_pydict(lists)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
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
        """The arrays of a block: views of the file."""
        if number in self._remembered:
            self._remembered.move_to_end(number)
            return self._remembered[number]
        with pa.ipc.open_stream(pa.py_buffer(self.encoded(number))) as reader:
            batch = reader.read_next_batch()
        found = {name: batch.column(name).values.to_numpy() for name in batch.schema.names}
        self._remembered[number] = found
        if len(self._remembered) > _REMEMBERED:
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

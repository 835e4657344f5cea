"""Files of blocks: named arrays in Arrow IPC streams, one after another, each with a checksum.

    with BlockWriter(path) as writer:
        writer.append({"ids": ids, "bytes": narrow(sizes)})
    blocks = Blocks([(path, writer.places)], hint="Run `lossary prepare`.")
    blocks.read(0)["ids"]                       # a view of the memory-mapped file

`BlockWriter(path, compressed=True)` is for what is read from its beginning to its end, as frozen examples are: its
blocks are compressed (Zstandard, within Arrow's streams, which say so themselves). Elsewhere arrays that are only read
as a whole may be compressed by themselves (`append(…, whole=…)`), and of those whose stretches are read, frequent
numbers take a byte (`stretches=…`, codes.py). A number that fills an array is stored once, and so are two arrays of a
block that are the same. How an array is stored stands in its name. `BlockWriter.digest` is of the plain blocks, and
files that hold such are read as before.

A block is a window: nobody needs more than a few at once. Where a block lies and its checksum (CRC-32, which finds
every change of up to four adjacent bytes) stand in a manifest, and are compared before Arrow interprets a byte of it,
once a process. `narrow` gives integers the fewest bytes that hold them.
"""

import mmap
import os
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.data.codes import Codes, coded
from lossary.data.ragged import ranges
from lossary.errors import ShardError
from lossary.files import GrowingDigest

__all__ = ["Arrays", "BlockWriter", "Blocks", "Place", "narrow"]

# Decoded blocks are views of a few kilobytes; the pages behind them are the system's.
_REMEMBERED = 512
# Blocks that were compressed are copies, of megabytes.
_COPIES_REMEMBERED = 2
# Between speed and size: 4 % less than at level 1 of lines of 16 bytes, 14 % of natural text.
_COMPRESSION = pa.Codec("zstd", compression_level=5)
# Arrays shorter than this are stored as they are.
_MANY = 64
# What follows the name of an array that is stored as something else: one number and how many times; another array;
# compressed bytes, of a type and how many; those of steps from one to the next; parts of codes, for how many.
_SAME, _AS, _WHOLE, _ASCENDING, _CODED = _SIGNS = (" × ", " = ", " ÷ ", " ↗ ", " ¦ ")
# Not every system has it; there pages stay until the system needs them.
_DONT_NEED = getattr(mmap, "MADV_DONTNEED", None)
_NARROW = (np.uint8, np.uint16, np.uint32, np.uint64)


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

    def append(
        self,
        arrays: Mapping[str, NDArray[Any]],
        *,
        whole: Collection[str] = (),
        ascending: Collection[str] = (),
        stretches: Collection[str] = (),
    ) -> None:
        """Adds a block of arrays, which may differ in length.

        Those of `whole` are only read as a whole, those of `ascending` besides are (N,) uint64 and never fall; of those
        of `stretches` some stretches are read.
        """
        plain = _encoded(arrays)
        self._content.add(plain)
        stored = _stored(arrays, whole=whole, ascending=ascending, stretches=stretches)
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


def _stored(
    arrays: Mapping[str, NDArray[Any]],
    *,
    whole: Collection[str],
    ascending: Collection[str],
    stretches: Collection[str],
) -> dict[str, NDArray[Any]]:
    """The arrays that a block is stored as; `Arrays` gives back what it was given."""
    stored: dict[str, NDArray[Any]] = {}
    for name, values in arrays.items():
        twin = next((other for other in arrays if other == name or _are_same(arrays[other], values)), name)
        if len(values) < _MANY:
            stored[name] = values
        elif (values == values[0]).all():
            stored[f"{name}{_SAME}{len(values)}"] = values[:1]
        elif twin != name:
            stored[f"{name}{_AS}{twin}"] = values[:0]
        elif name in stretches and (parts := coded(values)) is not None:
            stored |= {f"{name}{_CODED}{part} {len(values)}": array for part, array in parts.items()}
        elif name in whole and len(packed := _compressed(values)) < values.nbytes:
            stored[f"{name}{_WHOLE}{values.dtype} {len(values)}"] = packed
        elif name in ascending:
            steps = _compressed(np.diff(values, prepend=np.uint64(0)))
            stored[f"{name}{_ASCENDING}{values.dtype} {len(values)}"] = steps
        else:
            stored[name] = values
    return stored


def _are_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def _compressed(values: NDArray[Any]) -> NDArray[np.uint8]:
    """First bytes of all numbers, then second ones: high ones are alike."""
    by_place = values.view(np.uint8).reshape(len(values), -1).T
    return np.frombuffer(_COMPRESSION.compress(np.ascontiguousarray(by_place)), np.uint8)


def _decompressed(packed: NDArray[np.uint8], dtype: str, count: int) -> NDArray[Any]:
    size = np.dtype(dtype).itemsize
    by_place = np.frombuffer(_COMPRESSION.decompress(packed, decompressed_size=size * count), np.uint8)
    return np.ascontiguousarray(by_place.reshape(size, count).T).reshape(-1).view(dtype)


class Arrays(Mapping[str, NDArray[Any]]):
    """The arrays of a block by name; what is not stored as it is, is made anew whenever it is asked for."""

    def __init__(self, stored: Mapping[str, NDArray[Any]]) -> None:
        self._stored: dict[str, list[tuple[str, str, NDArray[Any]]]] = {}
        for full, values in stored.items():
            name, kind, rest = next((found for sign in _SIGNS if (found := full.partition(sign))[1]), (full, "", ""))
            self._stored.setdefault(name, []).append((kind, rest, values))

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, name: str) -> NDArray[Any]:
        kind, rest, values = self._stored[name][0]
        if kind == _SAME:
            return np.broadcast_to(values[0], int(rest))
        if kind == _AS:
            return self[rest]
        if not kind:
            return values
        what, count = rest.split()
        if kind == _CODED:
            return self._codes(name).first(int(count))
        found = _decompressed(values, what, int(count))
        return np.cumsum(found, dtype=found.dtype) if kind == _ASCENDING else found

    def stretches(self, name: str, start: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[Any]:
        """Of an array the stretches (n,), one after another; the rest of it is not looked at."""
        if self._stored[name][0][0] == _CODED:
            return self._codes(name).ranges(start, count)
        return self[name][ranges(start, count)]

    def _codes(self, name: str) -> Codes:
        return Codes(**{rest.split()[0]: values for _, rest, values in self._stored[name]})


def _encoded(arrays: Mapping[str, NDArray[Any]], *, compression: pa.Codec | None = None) -> memoryview:
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
        """The arrays of a block: views of the file, or copies of what is compressed."""
        if number in self._remembered:
            self._remembered.move_to_end(number)
            return self._remembered[number]
        block = self.encoded(number)
        with pa.ipc.open_stream(pa.py_buffer(block)) as reader:
            batch = reader.read_next_batch()
        stored = {name: batch.column(name).values.to_numpy() for name in batch.schema.names}
        found = Arrays(stored)
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

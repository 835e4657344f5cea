"""MosaicML's shards (MDS): rows of typed columns, described by an `index.json` beside them.

A shard is a count, offsets of the samples, and the samples: sizes of the columns that have none of their own, then
their bytes. Its size, count and checksum have to be those of the index. Pickled columns are never read.

    for row in mds_rows(file, reading): ...
"""

import bz2
import gzip
import hashlib
import mmap
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard
from numpy.typing import NDArray

from lossary.data.fields import unknown_field
from lossary.data.parsing import Reading, first_line
from lossary.data.row_lines import json_value
from lossary.data.source_files import SourceFile
from lossary.errors import SourceError

__all__ = ["mds_rows"]

_SIZED = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)] + ["float16", "float32", "float64"]
_NUMBERS = {"int": "int64"} | {name: name for name in _SIZED}
_TEXTS = ("str", "bytes", "str_int", "str_float", "str_decimal")


def mds_rows(file: SourceFile, reading: Reading) -> Iterator[dict[str, Any]]:
    """The rows of a shard: columns that are read, None for the others. SourceError if it is not what was indexed."""
    names, encodings = file.layout["column_names"], file.layout["column_encodings"]
    decoders = [_decoder(reading, name, encoding, file) for name, encoding in zip(names, encodings, strict=True)]
    _check_fields(reading, names, encodings, file)
    data = _shard(file)
    offsets = _offsets(data, file)
    sizes = file.layout["column_sizes"]
    for number, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        cells = _cells(data[start:end], sizes)
        if cells is None:
            raise SourceError(f"the sample {number:,} does not have the columns of its index", where=file.path)
        try:
            row = [None if decode is None else decode(cell) for decode, cell in zip(decoders, cells, strict=True)]
        except ValueError:
            raise SourceError(f"a number of the sample {number:,} has another size", where=file.path) from None
        yield dict(zip(names, row, strict=True))


def _check_fields(reading: Reading, names: Sequence[str], encodings: Sequence[str], file: SourceFile) -> None:
    inside = [name for name, encoding in zip(names, encodings, strict=True) if encoding == "json"]
    for key, fields in (("", reading.fields), ("where", reading.filtered_by)):
        for field in fields:
            if field not in names and not any(field.startswith(f"{name}.") for name in inside):
                raise unknown_field(field, names, file.path, key=key)


def _decoder(reading: Reading, name: str, encoding: str, file: SourceFile) -> Callable[[bytes], Any] | None:
    """What reads a column; None if nobody asks for it."""
    if not any(field == name or field.startswith(f"{name}.") for field in reading.columns):
        return None
    if encoding in _TEXTS:
        return bytes
    if encoding == "json":
        return json_value
    if encoding in _NUMBERS:
        kind = np.dtype(_NUMBERS[encoding]).newbyteorder("<")
        return lambda cell: np.frombuffer(cell, kind).item()
    why = "pickled: reading it would run what it holds" if encoding == "pkl" else f"{encoding}, no text or number"
    raise SourceError(f"the column {name!r} is {why}", where=file.path, hint="Name a column that is str or json.")


def _shard(file: SourceFile) -> memoryview:
    """The bytes of a shard, those on this machine memory-mapped."""
    layout = file.layout
    try:
        if layout["zipped"]:
            with file.open() as handle:
                packed = handle.read()
            _check(packed, layout["zip_data"], file)
            data: Any = _unpacked(packed, layout["compression"], layout["raw_data"]["bytes"])
        elif "://" in file.path:
            with file.open() as handle:
                data = handle.read()
        else:
            with open(file.path, "rb") as handle:
                data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError, pa.ArrowException) as error:
        raise SourceError(f"the shard is damaged: {first_line(error)}", where=file.path) from None
    found = memoryview(data)
    _check(found, layout["raw_data"], file)
    return found


def _unpacked(data: bytes, compression: str, size: int) -> bytes:
    name = compression.partition(":")[0]
    if name == "zstd":
        stream = zstandard.ZstdDecompressor().decompressobj()
        return stream.decompress(data)
    if name == "gz":
        return gzip.decompress(data)
    if name == "bz2":
        return bz2.decompress(data)
    codec = {"br": "brotli", "snappy": "snappy"}[name]
    return pa.Codec(codec).decompress(data, decompressed_size=size, asbytes=True)  # type: ignore[no-any-return]


def _check(data: bytes | memoryview, told: Mapping[str, Any], file: SourceFile) -> None:
    """Raises SourceError unless bytes are as many as the index says, with the checksum that it gives."""
    if len(data) != told["bytes"]:
        raise SourceError(f"it has {len(data):,} bytes; {told['bytes']:,} stand in index.json", where=file.path)
    for name, expected in told.get("hashes", {}).items():
        if name in hashlib.algorithms_guaranteed and not name.startswith("shake"):
            if hashlib.new(name, data, usedforsecurity=False).hexdigest() != expected:
                raise SourceError(f"its {name} is not that of index.json: it is damaged", where=file.path)
            return


def _offsets(data: memoryview, file: SourceFile) -> NDArray[np.uint32]:
    """(N + 1,) where samples begin, and where the last ends."""
    samples = file.layout["samples"]
    head = 4 * (samples + 2)
    words = np.frombuffer(data[:head], "<u4") if len(data) >= head else np.zeros(1, "<u4")
    if int(words[0]) != samples or len(words) != samples + 2:
        raise SourceError(f"it has {int(words[0]):,} samples; {samples:,} stand in index.json", where=file.path)
    offsets = words[1:]
    if offsets[0] < head or offsets[-1] != len(data) or np.any(offsets[1:] < offsets[:-1]):
        raise SourceError("the places of its samples lead outside of it", where=file.path)
    return offsets


def _cells(sample: memoryview, sizes: Sequence[int | None]) -> list[bytes] | None:
    """The bytes of each column; None if they do not add up to the sample."""
    variable = sum(size is None for size in sizes)
    if len(sample) < 4 * variable:
        return None
    told = iter(np.frombuffer(sample[: 4 * variable], "<u4").tolist())
    place, cells = 4 * variable, []
    for size in sizes:
        end = place + (next(told) if size is None else size)
        cells.append(bytes(sample[place:end]))
        place = end
    return cells if place == len(sample) else None

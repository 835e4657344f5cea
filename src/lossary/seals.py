"""Parquet files that know whether they are what was written: a checksum of the whole file, kept in its own footer.

    write_sealed(path, table, row_group_size=16_384)      # whole or not at all
    table = read_sealed(path)                             # ScoreError if a byte of it is another
    check_sealed(path)                                    # before somebody else reads it, as DuckDB

Checksums of Parquet's pages cover neither the footer, with its counts, statistics and header, nor all readers; this one
covers every byte. It is compared once a process for a file as it is (device, inode, time, size). The checksum is a
CRC-32 of the file with the checksum's own digits as zeros: it finds every flipped byte and is four times as fast as a
cryptographic digest, and is no signature. Files without one, of earlier versions or other programs, are read as is.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lossary.errors import ScoreError
from lossary.failures import reason
from lossary.files import write_atomic

__all__ = ["check_sealed", "read_sealed", "sealed_writer", "write_sealed"]

_KEY, _MARK, _DIGITS = "lossary.seal", b"lossary-crc32:", 8
# The entry is the footer's last but for a few bytes a column.
_TAIL = 1 << 16
_CHUNK = 1 << 20
_REMEMBERED = 65536


@contextmanager
def sealed_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A writer of a Parquet file that appears, sealed, when the block ends."""
    with write_atomic(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            yield writer
            writer.add_key_value_metadata({_KEY: (_MARK + b"0" * _DIGITS).decode()})
        with temporary.open("r+b") as file:
            place = _find_seal(file)
            assert place is not None
            file.seek(place.at)
            file.write(_checksum(file, place.at))


def write_sealed(path: Path, table: pa.Table, *, row_group_size: int | None = None) -> None:
    """Stores a table, whole or not at all."""
    with sealed_writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size)


def read_sealed(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A table, or some of its columns. ScoreError if it is missing, damaged or not what was written."""
    check_sealed(path)
    try:
        # `pq.read_table` plans for datasets of many files; that takes longer than reading this one.
        return pq.ParquetFile(path).read(columns=None if columns is None else list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ScoreError(f"not readable: {error}", where=str(path)) from None


def check_sealed(path: Path) -> bool:
    """Compares a file with its checksum; False if it has none. ScoreError if it is missing or not what was written."""
    try:
        status = path.stat()
        whole = _is_whole(path, (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
    except OSError as error:
        raise ScoreError(f"not readable: {reason(error)}", where=str(path)) from None
    if whole is False:
        raise ScoreError(
            "not what was written: its checksum is another, so some byte of it changed",
            where=str(path),
            hint="Restore it from a copy, or delete it; `lossary verify` says what can be made again, and how.",
        )
    return whole is not None


class _Seal(NamedTuple):
    at: int  # of its digits in the file
    digits: bytes


@lru_cache(maxsize=_REMEMBERED)
def _is_whole(path: Path, _: tuple[int, int, int, int]) -> bool | None:
    with path.open("rb") as file:
        seal = _find_seal(file)
        return None if seal is None else _checksum(file, seal.at) == seal.digits


def _find_seal(file: BinaryIO) -> _Seal | None:
    size = file.seek(0, 2)
    start = file.seek(max(0, size - _TAIL))
    tail = file.read()
    found = tail.rfind(_MARK)
    if found < 0:
        # The name of the entry alone is left of a seal: what stands beside it is damaged, and no checksum of anything.
        return None if _KEY.encode() not in tail else _Seal(size, b"")
    at = found + len(_MARK)
    return _Seal(start + at, tail[at : at + _DIGITS])


def _checksum(file: BinaryIO, at: int) -> bytes:
    """The checksum as digits, those at `at` counted as zeros; the file's position stays."""
    position = file.tell()
    value = _of_part(file, 0, at, 0)
    value = zlib.crc32(b"0" * _DIGITS, value)
    value = _of_part(file, at + _DIGITS, None, value)
    file.seek(position)
    return f"{value:08x}".encode()


def _of_part(file: BinaryIO, start: int, stop: int | None, value: int) -> int:
    file.seek(start)
    while data := file.read(_CHUNK if stop is None else min(_CHUNK, stop - file.tell())):
        value = zlib.crc32(data, value)
    return value

"""CSV with a header, in batches of columns; the delimiter is told from the header.

for batch in csv_batches(parts, ("text",), check=print, where="a.csv"): ...
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.csv as pacsv

from lossary.errors import SourceError

__all__ = ["csv_batches"]

_BLOCK_BYTES = 2 << 20


def csv_batches(
    parts: Iterator[bytes], fields: Sequence[str], *, check: Callable[[list[str]], None], where: str
) -> Iterator[pa.RecordBatch]:
    """The columns `fields` as bytes, batch by batch; line breaks in quotes are text.

    The delimiter is the one of , ; and tab that splits the header most. `check` is given the header's names.
    Raises SourceError, naming `where`, for rows of another number of columns than the header has.
    """
    stream = _Stream(parts)
    delimiter = max(",;\t", key=lambda mark: len(_cells(stream.first_line(), mark)))
    check(_cells(stream.first_line(), delimiter))
    try:
        yield from pacsv.open_csv(
            pa.PythonFile(stream, "r"),
            read_options=pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(fields),
                column_types={name: pa.large_binary() for name in fields},
                check_utf8=False,
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowException as error:
        raise SourceError(f"not readable as CSV: {(str(error) or 'damaged').splitlines()[0]}", where=where) from None


class _Stream(io.RawIOBase):
    """Parts of a file as one that can be read; its first line can be looked at."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._held = next(parts, b"")

    def first_line(self) -> bytes:
        """The first line, or as much of it as was read at once."""
        return self._held.split(b"\n", 1)[0].rstrip(b"\r")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._held) < size:
            part = next(self._parts, None)
            if part is None:
                break
            self._held += part
        taken = self._held if size < 0 else self._held[:size]
        self._held = self._held[len(taken) :]
        return taken


def _cells(line: bytes, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.decode(errors="replace")], delimiter=delimiter), [])
    except csv.Error:
        return []

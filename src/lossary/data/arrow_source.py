"""Arrow files and streams, as `datasets` saves them: record batch by record batch, memory-mapped where they lie here.

    for batch in arrow_batches(file, check=lambda schema: None): ...

A stream has an end mark; one without was cut short, and its last rows with it. Several streams one after another are
read to the end of the last.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from lossary.data.parsing import first_line
from lossary.data.source_files import SourceFile
from lossary.errors import SourceError

__all__ = ["arrow_batches", "stream_batches"]

_FILE_MAGIC = b"ARROW1"
_FEATHER_1 = b"FEA1"
# The mark is ffffffff and a length of nothing; writers before Arrow 0.15 left the first half out.
_END = bytes(4)


def arrow_batches(file: SourceFile, *, check: Callable[[pa.Schema], None]) -> Iterator[pa.RecordBatch]:
    """The record batches of a file; `check` is given the schema of each stream in it. SourceError if it is damaged."""
    try:
        with _opened(file) as source:
            magic = source.read(8)
            source.seek(0)
            if magic.startswith(_FILE_MAGIC):
                yield from _file_batches(source, check)
            elif magic.startswith(_FEATHER_1):
                hint = "Write it anew as Feather 2, which is Arrow's own format."
                raise SourceError("it is Feather of the first version", where=file.path, hint=hint)
            else:
                yield from stream_batches(source, check=check, where=file.path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SourceError(f"not readable as Arrow: {first_line(error)}", where=file.path) from None


def _opened(file: SourceFile) -> Any:
    if "://" in file.path:
        return pa.PythonFile(file.open(), mode="r")
    return pa.memory_map(file.path, "r")


def _file_batches(source: Any, check: Callable[[pa.Schema], None]) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_file(source) as reader:
        check(reader.schema)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def stream_batches(source: Any, *, check: Callable[[pa.Schema], None], where: str) -> Iterator[pa.RecordBatch]:
    """The record batches of all streams that follow one another in `source`."""
    size = source.size()
    while source.tell() < size:
        with pa.ipc.open_stream(source) as reader:
            check(reader.schema)
            yield from reader
        source.seek(source.tell() - len(_END))
        if source.read(len(_END)) != _END:
            raise SourceError(
                "the stream has no end mark: it was cut short, or is still being written",
                where=where,
                hint="Write it anew; an open writer has to be closed.",
            )

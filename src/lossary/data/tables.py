"""Columns of a table's rows to blocks: the fields that are read, cut after a row whatever batches they came in.

check_columns(reading, schema, "a.arrow")
for batch in cut_batches(batches, reading, where="a.arrow"):
    data = encoded(batch)                      # what a block of kind "table" holds
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lossary.data.fields import check_fields, column_of, field_type, fields_inside, is_text
from lossary.data.parsing import BLOCK_BYTES, Reading, first_line
from lossary.errors import SourceError

__all__ = ["MOST_BLOCK_ROWS", "check_columns", "check_filter", "cut_batches", "encoded", "read_columns"]

# Rows that hold little text, or none: a block of them has an end as well.
MOST_BLOCK_ROWS = 1 << 16


def check_columns(reading: Reading, schema: pa.Schema, where: str) -> None:
    """Raises SourceError unless a table has every field that is asked for, those of the text as text."""
    check_fields(reading.fields, schema, where)
    for name in reading.fields:
        kind = field_type(schema, name)
        if not is_text(kind):
            inside = fields_inside(kind, name)[:20]
            hint = f"Name one of its fields: {', '.join(inside)}." if inside else None
            raise SourceError(f"the field {name!r} is {kind}; text is expected", where=where, hint=hint)
    check_filter(reading, schema, where)


def check_filter(reading: Reading, schema: pa.Schema, where: str) -> None:
    """Raises SourceError if the condition cannot be asked of a table's columns."""
    if reading.where is not None:
        from lossary.data.filters import row_filter

        check_fields(reading.filtered_by, schema, where, key="where")
        row_filter(reading.where).check(schema, where)


def read_columns(batch: pa.RecordBatch, reading: Reading, where: str) -> pa.RecordBatch:
    """The fields that are read, each a column of its name; text as bytes, so that what is no UTF-8 costs its row alone.

    Raises SourceError if offsets or indices of the batch lead outside of it.
    """
    try:
        batch.validate()
        columns = [_leaf(batch, name) for name in reading.columns]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SourceError(f"the record batch is damaged: {first_line(error)}", where=where) from None
    return pa.RecordBatch.from_arrays(columns, names=list(reading.columns))


def _leaf(batch: pa.RecordBatch, name: str) -> pa.Array:
    kind = field_type(batch.schema, name)
    if not is_text(kind):
        column = column_of(batch, name)
        column.validate(full=True)
        return column
    return _bytes(column_of(batch, name))


def _bytes(column: pa.Array) -> pa.Array:
    kind = column.type
    if str(kind) == "string_view":
        column = column.view(pa.binary_view())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.view(pa.binary() if pa.types.is_string(kind) else pa.large_binary())
    # Offsets have to be sound before anything follows them; whether text is UTF-8 is asked row by row.
    column.validate(full=True)
    return column.cast(pa.large_binary())


def cut_batches(batches: Iterator[pa.RecordBatch], reading: Reading, where: str) -> Iterator[pa.RecordBatch]:
    """Batches of the fields that are read, each cut after the row with which its text reaches BLOCK_BYTES.

    Where a batch ends depends on the text alone: the same rows in other batches, or in another format, are cut alike.
    """
    held: list[pa.RecordBatch] = []
    size = rows = 0
    for whole in batches:
        batch = read_columns(whole, reading, where)
        if held and held[0].schema != batch.schema:
            yield pa.concat_batches(held)
            held, size, rows = [], 0, 0
        ends, start = np.cumsum(_text_bytes(batch, reading)), 0
        while start < len(batch):
            before = int(ends[start - 1]) if start else 0
            full = int(np.searchsorted(ends, before + BLOCK_BYTES - size)) + 1
            end = min(full, start + MOST_BLOCK_ROWS - rows)
            held.append(batch.slice(start, end - start))
            if end > len(batch):
                size, rows = size + int(ends[-1]) - before, rows + len(batch) - start
                break
            yield pa.concat_batches(held)
            held, size, rows, start = [], 0, 0, end
    if held:
        yield pa.concat_batches(held)


def _text_bytes(batch: pa.RecordBatch, reading: Reading) -> NDArray[np.int64]:
    """(N,) bytes of the text of each row."""
    sizes = np.zeros(len(batch), np.int64)
    for name in reading.fields:
        sizes += pc.fill_null(pc.binary_length(batch.column(name)), 0).to_numpy(zero_copy_only=False)
    return sizes


def encoded(batch: pa.RecordBatch) -> bytes:
    """A batch as an Arrow stream of its own."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(memoryview(sink.getvalue()))

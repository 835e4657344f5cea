"""Sources: files of documents, read block by block in constant memory.

The reading process cuts a file into blocks; `parse` turns a block into rows wherever it is run. Where blocks end
depends on the input alone.

    for block in read_blocks(dataset, files):
        parsed = parse(block)
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from lossary.data.arrow_source import arrow_batches
from lossary.data.builtin import BUILTIN_FIELDS, builtin_rows
from lossary.data.csv_source import csv_batches
from lossary.data.fields import check_fields
from lossary.data.mds_source import mds_rows
from lossary.data.megatron_source import token_pieces
from lossary.data.parsing import BLOCK_BYTES, MOST_DOCUMENT_BYTES, Block, Keys, Reading, first_line, parse
from lossary.data.row_lines import cut_lines
from lossary.data.source_files import Kind, SourceFile
from lossary.data.streams import decompressed
from lossary.data.tables import check_columns, check_filter, cut_batches, encoded
from lossary.data.tar_source import TarRows
from lossary.errors import SourceError

if TYPE_CHECKING:
    # Workers import this module and need no study file, nor the quarter of their start that pydantic would take.
    from lossary.study import Dataset

__all__ = ["read_blocks", "reading_of"]

# One JSON array, or object over several lines, cannot be cut before it is read whole.
_MOST_JSON_BYTES = 256 << 20
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_UTF_32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
# Text has no zero bytes; a stray one in a row is left to that row.
_HEAD_BYTES = 4096
_MOST_ZEROS = 0.1
_ONE_SIDED = 10
# Formats that begin with bytes which are no text, and are taken for text by the name of the file alone.
_MARKS = {b"\x1f\x8b": "gzip (.gz)", b"\x28\xb5\x2f\xfd": "Zstandard (.zst)", b"PAR1": "Parquet (.parquet)"}
_LFS = b"version https://git-lfs.github.com/spec/"


def read_blocks(dataset: "Dataset", files: list[SourceFile]) -> Iterator[Block]:
    """The blocks of a dataset in order; SourceError names the file (and row group) that cannot be read.

    With a limit the last block says with which document reading ends.
    """
    blocks = _all_blocks(dataset, files)
    return blocks if dataset.limit is None else _first_documents(blocks, dataset.limit)


def reading_of(dataset: "Dataset") -> Reading:
    """What of a dataset's rows is its text, and which rows."""
    return Reading(fields=dataset.fields, join=dataset.join, where=dataset.where)


def _all_blocks(dataset: "Dataset", files: list[SourceFile]) -> Iterator[Block]:
    reading = reading_of(dataset)
    first_row = 0
    for file in files:
        for block in _blocks_of(file, dataset, reading):
            yield replace(block, first_row=first_row)
            first_row += block.num_rows


def _first_documents(blocks: Iterator[Block], most: int) -> Iterator[Block]:
    """Blocks up to the document number `most`. They are parsed here to be counted: cheap beside tokenising."""
    for block in blocks:
        documents = sum(len(part.rows) for part in parse(block))
        if documents >= most:
            yield replace(block, most=most)
            return
        most -= documents
        yield block


def _blocks_of(file: SourceFile, dataset: "Dataset", reading: Reading) -> Iterator[Block]:
    """The blocks of a file, whose rows are counted by whoever knows what came before."""
    if file.kind == "builtin":
        yield _builtin_block(file, reading)
    elif not file.bytes or file.kind == "beside":
        return
    elif file.kind == "parquet":
        yield from _row_groups(file, reading)
    elif file.kind == "arrow":
        yield from _arrow_blocks(file, reading)
    elif file.kind in ("tar", "mds"):
        yield from _row_blocks(file, reading)
    elif file.kind == "megatron":
        yield from _token_blocks(file, reading)
    elif file.kind == "yt":
        yield from _range_blocks(file, reading)
    elif file.kind == "csv":
        yield from _tables(file, reading)
    elif file.kind == "json":
        yield from _json_blocks(file, reading)
    else:
        documents = dataset.documents if file.kind == "text" else "lines"
        if file.kind == "text":
            _check_plain_text(file, reading)
        for place, data in enumerate(_text_blocks(file, documents)):
            if file.kind == "jsonl" and not place:
                _refuse_list(data, file)
            lines = data.count(b"\n") + (not data.endswith(b"\n")) if documents != "file" else 1
            yield _block(file, file.kind, reading, num_rows=lines, documents=documents, data=data)


def _refuse_list(data: bytes, file: SourceFile) -> None:
    """Raises SourceError for a list over several lines: all but some of its lines would be bad rows."""
    first = data.lstrip().split(b"\n", 1)[0]
    if first.startswith(b"[") and not _is_json(first):
        raise SourceError(
            "one JSON list over several lines, not JSON Lines", where=file.path, hint="Call the file .json instead."
        )


def _block(file: SourceFile, kind: Kind, reading: Reading, *, num_rows: int, **more: Any) -> Block:
    return Block(file=file.path, kind=kind, first_row=0, num_rows=num_rows, reading=reading, **more)


def _builtin_block(file: SourceFile, reading: Reading) -> Block:
    name = file.path.removeprefix("builtin:")
    known = BUILTIN_FIELDS[name]
    check_fields(reading.fields, known, file.path)
    check_fields(reading.filtered_by, known, file.path, key="where")
    # A builtin row without one of the fields (a docstring without a body) is no fault of anybody's data.
    needed = reading.fields if reading.join is None else ()
    rows = [row for row in builtin_rows(name) if all(row[field] for field in needed)]
    data = b"\n".join(orjson.dumps({field: row.get(field) for field in reading.columns}) for row in rows)
    return _block(file, "jsonl", reading, num_rows=len(rows), data=data)


def _check_plain_text(file: SourceFile, reading: Reading) -> None:
    if len(reading.fields) > 1:
        asked = "a pair is" if reading.join is None else "several are"
        what = "plain text" if file.kind == "text" else "a document of tokens"
        raise SourceError(f"{what} has one field, and {asked} asked for", where=file.path)
    check_fields(reading.filtered_by, ["text"], file.path, key="where")


def _row_groups(file: SourceFile, reading: Reading) -> Iterator[Block]:
    try:
        with file.open() as handle:
            _refuse_pointer(file, handle.read(len(_LFS)))
            handle.seek(0)
            parquet = pq.ParquetFile(handle)
            schema = parquet.schema_arrow
            counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"not readable as Parquet: {first_line(error)}", where=file.path) from None
    check_columns(reading, schema, file.path)
    for group, count in enumerate(counts):
        yield _block(file, "parquet", reading, num_rows=count, row_group=group)


def _arrow_blocks(file: SourceFile, reading: Reading) -> Iterator[Block]:
    batches = arrow_batches(file, check=lambda schema: check_columns(reading, schema, file.path))
    for batch in cut_batches(batches, reading, file.path):
        yield _block(file, "table", reading, num_rows=len(batch), data=encoded(batch))


def _row_blocks(file: SourceFile, reading: Reading) -> Iterator[Block]:
    archive = TarRows(file, reading)
    rows = iter(archive) if file.kind == "tar" else mds_rows(file, reading)
    for num_rows, data in cut_lines(rows, reading.fields):
        yield _block(file, "jsonl", reading, num_rows=num_rows, data=data, skipped=dict(archive.skipped))
        archive.skipped.clear()


def _range_blocks(file: SourceFile, reading: Reading) -> Iterator[Block]:
    from lossary.data.yt_source import check_table, row_ranges

    check_table(file, reading)
    for start, end in row_ranges(file):
        layout = {**file.layout, "start": start, "end": end}
        yield _block(file, "yt", reading, num_rows=end - start, layout=layout)


def _token_blocks(file: SourceFile, reading: Reading) -> Iterator[Block]:
    _check_plain_text(file, reading)
    check_fields(reading.fields, ["text"], file.path)
    for piece in token_pieces(file):
        layout = {"kind": piece.kind, "sizes": piece.sizes, "tokenizer": file.layout["tokenizer"]}
        yield _block(file, "tokens", reading, num_rows=len(piece.sizes), data=piece.data, layout=layout)


def _text_blocks(file: SourceFile, documents: str) -> Iterator[bytes]:
    """Whole lines (paragraphs, or the file) of about BLOCK_BYTES."""
    end = {"lines": b"\n", "blank_lines": b"\n\n", "file": None}[documents]
    rest = b""
    for data in _utf8(file):
        rest += data
        if end is None or len(rest) < BLOCK_BYTES:
            _check_size(rest, file, end)
            continue
        cut = rest.rfind(end) + len(end)
        if cut >= len(end):
            yield rest[:cut]
            rest = rest[cut:]
        else:
            _check_size(rest, file, end)
    if rest:
        yield rest


def _check_size(data: bytes, file: SourceFile, end: bytes | None) -> None:
    if len(data) > BLOCK_BYTES + MOST_DOCUMENT_BYTES:
        unit = {None: "file", b"\n": "line", b"\n\n": "paragraph"}[end]
        raise SourceError(
            f"a {unit} is longer than {MOST_DOCUMENT_BYTES >> 20} MiB",
            where=file.path,
            hint='`documents` of the dataset says what separates documents: "lines", "blank_lines" or "file".'
            if file.kind == "text"
            else "Leave this row out, or cut its text.",
        )


def _utf8(file: SourceFile) -> Iterator[bytes]:
    """The bytes of a text file without the mark that some editors put in front."""
    parts = decompressed(file)
    first = next(parts, b"")
    packed = next((name for mark, name in _MARKS.items() if first.startswith(mark)), None)
    if packed is not None:
        raise SourceError(f"it holds {packed}, which its name does not say", where=file.path, hint="Rename the file.")
    wide = _wide_encoding(first)
    if wide is not None:
        raise SourceError(f"the text is {wide}", where=file.path, hint="Save it as UTF-8.")
    _refuse_pointer(file, first)
    return chain([first.removeprefix(_BOM)], parts)


def _refuse_pointer(file: SourceFile, first: bytes) -> None:
    """Raises SourceError for what stands in the place of a file that Git LFS has not fetched."""
    if first.startswith(_LFS):
        raise SourceError(
            "it is a pointer of Git LFS, not the file itself", where=file.path, hint="`git lfs pull` fetches the file."
        )


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32 if text begins as they do: by their mark, or by the zeros that UTF-8 does not have."""
    if data.startswith(_UTF_32):
        return "UTF-32"
    if data.startswith(_UTF_16):
        return "UTF-16"
    head = data[:_HEAD_BYTES]
    if head.count(b"\0") <= len(head) * _MOST_ZEROS:
        return None
    sides = head[0::2].count(b"\0"), head[1::2].count(b"\0")
    return "UTF-16" if max(sides) > _ONE_SIDED * min(sides) else "binary, or UTF-16 or UTF-32"


def _json_blocks(file: SourceFile, reading: Reading) -> Iterator[Block]:
    """JSON Lines, one object, or an array of objects; the last two are read whole."""
    data = b""
    for part in _utf8(file):
        data += part
        if len(data) > _MOST_JSON_BYTES:
            most = f"{_MOST_JSON_BYTES >> 20} MiB"
            raise SourceError(f"one JSON value of more than {most}", where=file.path, hint="Write it as JSON Lines.")
    taken: list[bytes] = []
    size = 0
    for row in _json_rows(data, file, reading):
        taken.append(row)
        size += len(row)
        if size >= BLOCK_BYTES:
            yield _block(file, "jsonl", reading, num_rows=len(taken), data=b"\n".join(taken))
            taken, size = [], 0
    if taken:
        yield _block(file, "jsonl", reading, num_rows=len(taken), data=b"\n".join(taken))


def _json_rows(data: bytes, file: SourceFile, reading: Reading) -> list[bytes]:
    """Each row as a line of JSON."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        lines = [line for line in data.split(b"\n") if line.strip()]
        if len(lines) > 1 and lines[0].lstrip().startswith(b"{") and _is_json(lines[0]):
            return lines
        said = "not UTF-8" if "UTF-8" in str(error) else f"not JSON: {error}"
        hint = "Save it as UTF-8." if "UTF-8" in said else "A file .json holds objects."
        raise SourceError(said, where=file.path, hint=hint) from None
    rows = value if isinstance(value, list) else [value]
    twice = Keys(reading).twice_in(data, rows=len(rows))
    if twice is not None:
        raise SourceError(
            f"an object has the key {twice!r} twice",
            where=file.path,
            hint="Keep one of them, or give one another name.",
        )
    return [orjson.dumps(row) for row in rows]


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _tables(file: SourceFile, reading: Reading) -> Iterator[Block]:
    def check(names: list[str]) -> None:
        check_fields(reading.fields, names, file.path)
        check_filter(reading, pa.schema([(name, pa.string()) for name in names]), file.path)

    for batch in csv_batches(_utf8(file), reading.columns, check=check, where=file.path):
        yield _block(file, "table", reading, num_rows=len(batch), data=encoded(batch))

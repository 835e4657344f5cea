"""Sources: files of documents, read block by block in constant memory.

A file is Parquet, JSON Lines, JSON, CSV or plain text (all but the first also .gz or .zst). The reading process cuts it
into blocks; `parse` turns a block into rows wherever it is run. Where blocks end depends on the input alone.

    for block in read_blocks(dataset, files):
        parsed = parse(block)
"""

import difflib
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from lossary.data.builtin import BUILTIN_FIELDS, builtin_rows
from lossary.data.csv_source import csv_batches
from lossary.data.source_files import Kind, SourceFile
from lossary.errors import SourceError

if TYPE_CHECKING:
    # Workers import this module and need no study file, nor the quarter of their start that pydantic would take.
    from lossary.study import Dataset

__all__ = ["BadRow", "Block", "ParsedBlock", "no_usable_row", "parse", "read_blocks"]

BLOCK_BYTES = 2 << 20
# A single document above this size would break the promise of constant memory.
MOST_DOCUMENT_BYTES = 16 << 20
_READ_BYTES = 1 << 20
# One JSON array, or object over several lines, cannot be cut before it is read whole.
_MOST_JSON_BYTES = 256 << 20
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A piece of work: rows of one file."""

    file: str
    kind: Kind
    first_row: int
    num_rows: int
    fields: tuple[str, ...]
    documents: str = "lines"
    data: bytes = b""
    row_group: int = -1


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that is no document, and why."""

    file: str
    row: int
    reason: str
    sample: str


@dataclass(kw_only=True)
class ParsedBlock:
    """The rows of a block: row numbers and texts, one or two for each."""

    rows: list[int] = field(default_factory=list)
    texts: list[tuple[str, ...]] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def read_blocks(dataset: "Dataset", files: list[SourceFile]) -> Iterator[Block]:
    """The blocks of a dataset in order; SourceError names the file (and row group) that cannot be read."""
    first_row = 0
    for file in files:
        for block in _blocks_of(file, dataset, first_row):
            yield block
            first_row = block.first_row + block.num_rows


def _blocks_of(file: SourceFile, dataset: "Dataset", first_row: int) -> Iterator[Block]:
    if file.kind == "builtin":
        name = file.path.removeprefix("builtin:")
        _check_fields(dataset.fields, BUILTIN_FIELDS[name], file.path)
        # A builtin row without one of the fields (a docstring without a body) is no fault of anybody's data.
        rows = [row for row in builtin_rows(name) if all(row[field] for field in dataset.fields)]
        data = b"\n".join(orjson.dumps({field: row[field] for field in dataset.fields}) for row in rows)
        yield Block(
            file=file.path, kind="jsonl", first_row=first_row, num_rows=len(rows), fields=dataset.fields, data=data
        )
    elif not file.bytes:
        return
    elif file.kind == "parquet":
        yield from _row_groups(file, dataset, first_row)
    elif file.kind == "csv":
        yield from _tables(file, dataset, first_row)
    elif file.kind == "json":
        yield from _json_blocks(file, dataset, first_row)
    else:
        documents = dataset.documents if file.kind == "text" else "lines"
        if file.kind == "text" and dataset.is_pair:
            raise SourceError("plain text has one field, and a pair is asked for", where=file.path)
        for data in _text_blocks(file, documents):
            lines = data.count(b"\n") + (not data.endswith(b"\n")) if documents != "file" else 1
            yield Block(
                file=file.path,
                kind=file.kind,
                first_row=first_row,
                num_rows=lines,
                fields=dataset.fields,
                documents=documents,
                data=data,
            )
            first_row += lines


def _row_groups(file: SourceFile, dataset: "Dataset", first_row: int) -> Iterator[Block]:
    try:
        with file.open() as handle:
            parquet = pq.ParquetFile(handle)
            schema = parquet.schema_arrow
            counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"not readable as Parquet: {_first_line(error)}", where=file.path) from None
    _check_fields(dataset.fields, schema.names, file.path)
    for name in dataset.fields:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        text_types = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
        if not (any(is_text(kind) for is_text in text_types) or str(kind) == "string_view"):
            raise SourceError(f"the field {name!r} is {kind}; text is expected", where=file.path)
    for group, count in enumerate(counts):
        yield Block(
            file=file.path,
            kind="parquet",
            first_row=first_row,
            num_rows=count,
            fields=dataset.fields,
            row_group=group,
        )
        first_row += count


def _check_fields(fields: tuple[str, ...], known: list[str] | tuple[str, ...], where: str) -> None:
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise SourceError(f"no field is called {name!r}", where=where, hint=f"{hint}Fields: {', '.join(known)}.")


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
            hint='`documents` of the dataset says what separates documents: "lines", "blank_lines" or "file".',
        )


def _utf8(file: SourceFile) -> Iterator[bytes]:
    """The bytes of a text file without the mark that some editors put in front."""
    parts = _decompressed(file)
    first = next(parts, b"")
    if first.startswith(_UTF_16):
        raise SourceError("the text is UTF-16", where=file.path, hint="Save it as UTF-8.")
    return chain([first.removeprefix(_BOM)], parts)


def _json_blocks(file: SourceFile, dataset: "Dataset", first_row: int) -> Iterator[Block]:
    """JSON Lines, one object, or an array of objects; the last two are read whole."""
    data = b""
    for part in _utf8(file):
        data += part
        if len(data) > _MOST_JSON_BYTES:
            most = f"{_MOST_JSON_BYTES >> 20} MiB"
            raise SourceError(f"one JSON value of more than {most}", where=file.path, hint="Write it as JSON Lines.")
    rows = _json_rows(data, file)
    taken: list[bytes] = []
    size = 0
    for row in rows:
        taken.append(row)
        size += len(row)
        if size >= BLOCK_BYTES:
            yield _lines_block(file, dataset, first_row, taken)
            first_row += len(taken)
            taken, size = [], 0
    if taken:
        yield _lines_block(file, dataset, first_row, taken)


def _json_rows(data: bytes, file: SourceFile) -> list[bytes]:
    """Each row as a line of JSON."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        lines = [line for line in data.split(b"\n") if line.strip()]
        if len(lines) > 1 and lines[0].lstrip().startswith(b"{") and _is_json(lines[0]):
            return lines
        raise SourceError(f"not JSON: {error}", where=file.path, hint="A file .json holds objects.") from None
    return [orjson.dumps(row) for row in value] if isinstance(value, list) else [orjson.dumps(value)]


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _lines_block(file: SourceFile, dataset: "Dataset", first_row: int, rows: list[bytes]) -> Block:
    return Block(
        file=file.path,
        kind="jsonl",
        first_row=first_row,
        num_rows=len(rows),
        fields=dataset.fields,
        data=b"\n".join(rows),
    )


def _tables(file: SourceFile, dataset: "Dataset", first_row: int) -> Iterator[Block]:
    for batch in csv_batches(
        _utf8(file),
        dataset.fields,
        check=lambda names: _check_fields(dataset.fields, names, file.path),
        where=file.path,
    ):
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        yield Block(
            file=file.path,
            kind="table",
            first_row=first_row,
            num_rows=len(batch),
            fields=dataset.fields,
            data=sink.getvalue(),
        )
        first_row += len(batch)


def _parse_table(block: Block) -> ParsedBlock:
    part = ParsedBlock()
    with pa.ipc.open_stream(block.data) as reader:
        batch = reader.read_next_batch()
    columns = [batch.column(name).to_pylist() for name in block.fields]
    for number, row in enumerate(zip(*columns, strict=True), block.first_row):
        _add(part, block, number, row)
    return part


def no_usable_row(name: str, reasons: Mapping[str, int], files: Sequence[SourceFile]) -> SourceError:
    """The error of a dataset without any document: what was seen in which files."""
    seen = "; ".join(f"{count:,} rows {reason}" for reason, count in sorted(reasons.items())) or "it is empty"
    where = ", ".join(file.path for file in files[:3]) + (" …" if len(files) > 3 else "")
    return SourceError(f"dataset {name!r} has no usable row: {seen}", where=where)


def _decompressed(file: SourceFile) -> Iterator[bytes]:
    try:
        with file.open() as handle:
            if file.compression == "zstd":
                yield from _unzstd(handle)
                return
            stream: Any = gzip.GzipFile(fileobj=handle) if file.compression == "gzip" else handle
            while data := stream.read(_READ_BYTES):
                yield data
    except (EOFError, zlib.error, zstandard.ZstdError, OSError) as error:
        what = f"the {file.compression} stream" if file.compression else "the file"
        raise SourceError(f"{what} is damaged or cut short: {_first_line(error)}", where=file.path) from None


def _unzstd(handle: BinaryIO) -> Iterator[bytes]:
    # The library's stream reader takes a stream that was cut short for a whole one; the frame's own end does not lie.
    frame: Any = None
    while data := handle.read(_READ_BYTES):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the last frame has no end")


def parse(block: Block) -> Iterator[ParsedBlock]:
    """The rows of a block, in parts of at most about BLOCK_BYTES of text."""
    if block.kind == "parquet":
        yield from _parse_parquet(block)
    elif block.kind == "table":
        yield _parse_table(block)
    elif block.kind == "jsonl":
        part = ParsedBlock()
        for number, line in enumerate(block.data.split(b"\n"), block.first_row):
            if line.strip():
                _add_json(part, block, number, line)
        yield part
    else:
        yield _parse_text(block)


def _parse_text(block: Block) -> ParsedBlock:
    part = ParsedBlock()
    if block.documents == "file":
        _add(part, block, block.first_row, (block.data,))
        return part
    lines = block.data.split(b"\n")
    if block.documents == "lines":
        for number, line in enumerate(lines, block.first_row):
            if line.strip():
                _add(part, block, number, (line,))
        return part
    paragraph: list[bytes] = []
    for number, line in enumerate([*lines, b""], block.first_row):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            _add(part, block, number - len(paragraph), (b"\n".join(paragraph),))
            paragraph = []
    return part


def _add_json(part: ParsedBlock, block: Block, number: int, line: bytes) -> None:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        reason = "not UTF-8" if "UTF-8" in str(error) else "not JSON"
        _reject(part, block, number, reason, line)
        return
    if not isinstance(values, dict):
        _reject(part, block, number, f"a JSON {_json_type(values)}, not an object", line)
        return
    missing = [name for name in block.fields if name not in values]
    if missing:
        _reject(part, block, number, f"no field {missing[0]!r}", line)
        return
    _add(part, block, number, tuple(values[name] for name in block.fields))


def _parse_parquet(block: Block) -> Iterator[ParsedBlock]:
    number = block.first_row
    where = f"{block.file}, row group {block.row_group}"
    try:
        with fsspec.open(block.file, "rb").open() as handle:
            parquet = pq.ParquetFile(handle)
            part, size = ParsedBlock(), 0
            for batch in parquet.iter_batches(1024, row_groups=[block.row_group], columns=list(block.fields)):
                columns = [batch.column(name) for name in block.fields]
                columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in columns]
                # As bytes, so that a text that is not UTF-8 costs its row and not the batch.
                values = [c.cast(pa.large_binary()).to_pylist() for c in columns]
                for row in zip(*values, strict=True):
                    _add(part, block, number, row)
                    number += 1
                size += sum(c.nbytes for c in columns)
                if size > BLOCK_BYTES:
                    yield part
                    part, size = ParsedBlock(), 0
            yield part
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"the row group is damaged: {_first_line(error)}", where=where) from None


def _add(part: ParsedBlock, block: Block, number: int, values: tuple[Any, ...]) -> None:
    """Adds a row if all its values are text that says something, else says why not."""
    texts: list[str] = []
    for name, value in zip(block.fields, values, strict=True):
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                _reject(part, block, number, "not UTF-8", value)
                return
        if not isinstance(value, str):
            reason = f"{name!r} is {_json_type(value)}, not text"
        elif not value.strip():
            reason = f"{name!r} is empty" if len(block.fields) > 1 else "empty"
        elif len(value) > MOST_DOCUMENT_BYTES:
            reason = f"longer than {MOST_DOCUMENT_BYTES >> 20} MiB"
        else:
            texts.append(value)
            continue
        _reject(part, block, number, reason, repr(value)[:400].encode())
        return
    part.rows.append(number)
    part.texts.append(tuple(texts))


def _reject(part: ParsedBlock, block: Block, number: int, reason: str, sample: bytes) -> None:
    text = sample[:200].decode(errors="replace")
    part.bad.append(BadRow(file=block.file, row=number, reason=reason, sample=text))


def _json_type(value: object) -> str:
    names = {
        type(None): "null",
        bool: "boolean",
        int: "number",
        float: "number",
        str: "text",
        list: "list",
        dict: "object",
    }
    return names.get(type(value), type(value).__name__)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

"""Sources: files of documents, read block by block in constant memory.

A source is Parquet, JSONL or plain text (the last two also .gz or .zst), a path, a glob or any URL that fsspec opens,
or `builtin:NAME`. The reading process cuts it into blocks; `parse` turns a block into rows wherever it is run. Where
blocks end depends on the input alone.

    for block in read_blocks(dataset, root):
        parsed = parse(block)
"""

import difflib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from lossary.data.builtin import BUILTIN_FIELDS, builtin_rows
from lossary.errors import SourceError, StudyError

if TYPE_CHECKING:
    # Workers import this module and need no study file, nor the quarter of their start that pydantic would take.
    from lossary.study import Dataset

__all__ = ["BadRow", "Block", "ParsedBlock", "SourceFile", "list_files", "parse", "read_blocks"]

BLOCK_BYTES = 2 << 20
# A single document above this size would break the promise of constant memory.
MOST_DOCUMENT_BYTES = 16 << 20
_READ_BYTES = 1 << 20
_KINDS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text"}
Kind = Literal["parquet", "jsonl", "text", "builtin"]


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a source."""

    path: str
    kind: Kind
    compression: str | None
    bytes: int
    stamp: str  # changes when the file does

    def open(self) -> BinaryIO:
        """The file's bytes as they lie there."""
        return fsspec.open(self.path, "rb").open()  # type: ignore[no-any-return]


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


def list_files(dataset: "Dataset", root: Path, *, where: str) -> list[SourceFile]:
    """The files of a dataset in the order they are read: by source as listed, then by name.

    Raises SourceError (`where` is the study file's path of the source) if nothing matches or a suffix is unknown.
    """
    files: list[SourceFile] = []
    for source in dataset.sources:
        if source.startswith("builtin:"):
            files.append(_builtin_file(source, where))
            continue
        url = source if "://" in source or source.startswith("/") else str(root / source)
        try:
            system, pattern = fsspec.core.url_to_fs(url)
            paths = sorted(system.glob(pattern)) if any(c in pattern for c in "*?[") else [pattern]
            found = [_file(system, path, where) for path in paths if system.exists(path) and not system.isdir(path)]
        except SourceError:
            raise
        except (ImportError, OSError, ValueError) as error:
            raise SourceError(f"{source}: {error}", where=where) from None
        if not found:
            raise SourceError(f"no file matches {source!r}", where=where, hint=f"Looked for {pattern}.")
        files += found
    return files


def _builtin_file(source: str, where: str) -> SourceFile:
    name = source.removeprefix("builtin:")
    if name not in BUILTIN_FIELDS:
        near = difflib.get_close_matches(name, BUILTIN_FIELDS, n=1, cutoff=0.5)
        hint = f"Did you mean 'builtin:{near[0]}'?" if near else f"There are {', '.join(sorted(BUILTIN_FIELDS))}."
        raise StudyError(f"no builtin dataset is called {name!r}", where=where, hint=hint)
    rows = builtin_rows(name)
    data = orjson.dumps(rows)
    return SourceFile(path=source, kind="builtin", compression=None, bytes=len(data), stamp=f"{zlib.crc32(data):08x}")


def _file(system: Any, path: str, where: str) -> SourceFile:
    suffixes = Path(path).suffixes
    compression = {".gz": "gzip", ".zst": "zstd"}.get(suffixes[-1] if suffixes else "")
    kind = _KINDS.get(
        (suffixes[:-1] if compression else suffixes)[-1] if suffixes[: -1 if compression else None] else ""
    )
    if kind is None or (kind == "parquet" and compression):
        raise SourceError(
            f"{path} is of no known kind",
            where=where,
            hint="Known: .parquet, .jsonl and .txt, the last two also with .gz or .zst.",
        )
    info = system.info(path)
    stamp = next((str(info[key]) for key in ("mtime", "LastModified", "ETag", "updated") if info.get(key)), "")
    return SourceFile(
        path=system.unstrip_protocol(path) if "file" not in system.protocol else path,
        kind=kind,  # type: ignore[arg-type]
        compression=compression,
        bytes=int(info.get("size") or 0),
        stamp=stamp,
    )


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
    elif file.kind == "parquet":
        yield from _row_groups(file, dataset, first_row)
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
    for data in _decompressed(file):
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

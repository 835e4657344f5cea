"""Blocks of a source to rows: texts of documents, rows that are filtered out, and bad rows with their reason.

    for part in parse(block): ...

A block is parsed wherever it is run: `tokenise` does it in processes of its own.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lossary.data.fields import MISSING, absent, column_of, value_of, without_views
from lossary.data.source_files import Kind, open_source
from lossary.errors import SourceError

if TYPE_CHECKING:
    from lossary.data.filters import RowFilter, Verdict

__all__ = [
    "BLOCK_BYTES",
    "MOST_DOCUMENT_BYTES",
    "BadRow",
    "Block",
    "Keys",
    "ParsedBlock",
    "Reading",
    "first_line",
    "parse",
]

BLOCK_BYTES = 2 << 20
# A single document above this size would break the promise of constant memory.
MOST_DOCUMENT_BYTES = 16 << 20
_BATCH_ROWS = 1024
_MOST_BATCH_ROWS = 16384
_MOST_FIELDS_NOTED = 100


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What of a row is its text: one field, two that form a pair, or several that `join` makes one; and which rows."""

    fields: tuple[str, ...]
    join: str | None = None
    where: str | None = None

    @property
    def optional(self) -> tuple[str, ...]:
        """Fields that some rows may lack."""
        return (self.fields if self.join is not None else ()) + self.filtered_by

    @property
    def filtered_by(self) -> tuple[str, ...]:
        """Fields that the condition names."""
        return _filter(self.where).fields if self.where is not None else ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All fields that are read of a table, each once."""
        return tuple(dict.fromkeys(self.fields + self.filtered_by))


@dataclass(frozen=True, kw_only=True)
class Block:
    """A piece of work: rows of one file. Reading ends with the document `most`.

    `skipped` are parts of the file that were passed over since the block before: how many of which kind. Where only
    some rows are wanted, `only` are their numbers, ascending, and others may be passed over.
    """

    file: str
    kind: Kind
    first_row: int
    num_rows: int
    reading: Reading
    documents: str = "lines"
    data: bytes = b""
    row_group: int = -1
    most: int | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    layout: Mapping[str, Any] = field(default_factory=dict)  # how `data` is to be read
    only: NDArray[np.uint64] | None = None


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that is no document, and why."""

    file: str
    row: int
    reason: str
    sample: str


@dataclass(kw_only=True)
class ParsedBlock:
    """The rows of a block: row numbers and texts, one or two for each; numbers of those that the condition left out.

    `has` are those of the fields that rows may lack which some row has; `known` are some of the fields that there are,
    noted where one that is asked for is not there.
    """

    rows: list[int] = field(default_factory=list)
    texts: list[tuple[str, ...]] = field(default_factory=list)
    filtered: list[int] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    has: set[str] = field(default_factory=set)
    known: dict[str, None] = field(default_factory=dict)


def parse(block: Block) -> Iterator[ParsedBlock]:
    """The rows of a block, in parts of at most about BLOCK_BYTES of text."""
    left = block.most
    for part in _PARSERS[block.kind](block):
        # The condition is asked of many rows at once; what is bad is told in the order of rows.
        part.bad.sort(key=lambda bad: bad.row)
        if left is not None and len(part.rows) >= left:
            yield _cut(part, left)
            return
        yield part
        left = None if left is None else left - len(part.rows)


def _cut(part: ParsedBlock, most: int) -> ParsedBlock:
    """A part up to its document number `most`: what stands behind it was never asked for."""
    end = part.rows[most - 1]
    return replace(
        part,
        rows=part.rows[:most],
        texts=part.texts[:most],
        filtered=[row for row in part.filtered if row < end],
        bad=[bad for bad in part.bad if bad.row < end],
    )


def _parse_json(block: Block) -> Iterator[ParsedBlock]:
    part, reading = ParsedBlock(), block.reading
    numbers: list[int] = []
    lines: list[bytes] = []
    columns: dict[str, list[Any]] = {name: [] for name in reading.columns}
    reads = [(value_of(name), values) for name, values in columns.items()]
    for number, line, row in _objects(part, block):
        numbers.append(number)
        lines.append(line)
        for read, values in reads:
            values.append(value := read(row))
            if value is MISSING and len(part.known) < _MOST_FIELDS_NOTED:
                part.known |= dict.fromkeys(_names(row))
    part.has = {name for name in reading.optional if any(value is not MISSING for value in columns[name])}
    texts = [columns[name] for name in reading.fields]
    if reading.where is not None:
        passes = _passing(part, block, numbers, [columns[name] for name in reading.filtered_by])
        numbers, lines = list(compress(numbers, passes)), list(compress(lines, passes))
        texts = [list(compress(values, passes)) for values in texts]
    for number, line, found in zip(numbers, lines, zip(*texts, strict=True), strict=True):
        if MISSING in found and reading.join is None:
            _reject(part, block, number, absent(reading.fields[found.index(MISSING)]), line)
        else:
            _add(part, block, number, found)
    yield part


def _objects(part: ParsedBlock, block: Block) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    keys = Keys(block.reading)
    only = None if block.only is None else set(block.only.tolist())
    for number, line in enumerate(block.data.split(b"\n"), block.first_row):
        if (only is None or number in only) and line.strip():
            values = _object(part, block, number, line, keys)
            if values is not None:
                yield number, line, values


def _object(part: ParsedBlock, block: Block, number: int, line: bytes, keys: "Keys") -> dict[str, Any] | None:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        reason = "not UTF-8" if "UTF-8" in str(error) else "not JSON"
        _reject(part, block, number, reason, line)
        return None
    if not isinstance(values, dict):
        _reject(part, block, number, f"a JSON {_json_type(values)}, not an object", line)
        return None
    twice = keys.twice_in(line)
    if twice is not None:
        _reject(part, block, number, f"the key {twice!r} twice", line)
        return None
    return values


class Keys:
    """The keys of objects that a reading asks for."""

    def __init__(self, reading: Reading) -> None:
        self._names = {part for name in reading.columns for part in (name, *name.split("."))}
        self._marks = [f'"{name}"'.encode() for name in self._names]

    def twice_in(self, data: bytes, *, rows: int = 1) -> str | None:
        """One of them that an object has twice: readers of JSON differ in which of them it has.

        Only where a key stands more often than there are rows is the JSON read once more, slowly.
        """
        if all(data.count(mark) <= rows for mark in self._marks):
            return None
        found: list[str] = []

        def check(pairs: list[tuple[str, Any]]) -> None:
            counts = Counter(key for key, _ in pairs)
            found.extend(key for key, count in counts.items() if count > 1 and key in self._names)

        with suppress(ValueError, RecursionError):
            json.loads(data, object_pairs_hook=check)
        return found[0] if found else None


def _names(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _passing(part: ParsedBlock, block: Block, numbers: Sequence[int], columns: list[list[Any]]) -> list[bool]:
    """Whether the condition passes each row; it counts the others."""
    verdict = _filter(block.reading.where).judge_values(columns)
    _count_others(part, block, numbers, verdict)
    return verdict.passes.tolist()  # type: ignore[no-any-return]


def _count_others(part: ParsedBlock, block: Block, numbers: Sequence[int], verdict: "Verdict") -> None:
    for place, (reason, sample) in verdict.bad.items():
        _reject(part, block, int(numbers[place]), reason, sample.encode())
    left_out = ~verdict.passes
    left_out[list(verdict.bad)] = False
    part.filtered += [int(number) for number in compress(numbers, left_out.tolist())]


def _parse_text(block: Block) -> Iterator[ParsedBlock]:
    part = ParsedBlock(has=set(block.reading.optional))
    yield _add_texts(part, block, _documents(block) if block.reading.where is None else _decoded(part, block))


def _parse_tokens(block: Block) -> Iterator[ParsedBlock]:
    from lossary.data.detokenising import Lost, open_detokeniser

    part = ParsedBlock(has=set(block.reading.optional))
    ids = np.frombuffer(block.data, block.layout["kind"])
    documents = [found.tolist() for found in np.split(ids, np.cumsum(block.layout["sizes"])[:-1])]
    tokenizer = open_detokeniser(*block.layout["tokenizer"])
    texts: list[tuple[int, str]] = []
    for number, text in enumerate(tokenizer.texts(documents, first=block.first_row, where=block.file), block.first_row):
        if isinstance(text, Lost):
            _reject(part, block, number, text.reason, repr(documents[number - block.first_row][:40]).encode())
        else:
            texts.append((number, text))
    yield _add_texts(part, block, texts)


def _add_texts(part: ParsedBlock, block: Block, rows: Iterable[tuple[int, bytes | str]]) -> ParsedBlock:
    """Adds rows that have a text and nothing else, of those that the condition passes."""
    if block.reading.where is not None:
        rows = list(rows)
        rows = compress(rows, _passing(part, block, [number for number, _ in rows], [[text for _, text in rows]]))
    for number, text in rows:
        _add(part, block, number, (text,))
    return part


def _decoded(part: ParsedBlock, block: Block) -> Iterator[tuple[int, str]]:
    for number, data in _documents(block):
        try:
            yield number, data.decode()
        except UnicodeDecodeError:
            _reject(part, block, number, "not UTF-8", data)


def _documents(block: Block) -> Iterator[tuple[int, bytes]]:
    """Documents of plain text, each with the number of its first line."""
    every = _all_documents(block)
    if block.only is None:
        return every
    only = set(block.only.tolist())
    return (found for found in every if found[0] in only)


def _all_documents(block: Block) -> Iterator[tuple[int, bytes]]:
    if block.documents == "file":
        yield block.first_row, block.data
        return
    lines = block.data.split(b"\n")
    if block.documents == "lines":
        yield from ((number, line) for number, line in enumerate(lines, block.first_row) if line.strip())
        return
    paragraph: list[bytes] = []
    for number, line in enumerate([*lines, b""], block.first_row):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield number - len(paragraph), b"\n".join(paragraph)
            paragraph = []


def _parse_table(block: Block) -> Iterator[ParsedBlock]:
    part = ParsedBlock(has=set(block.reading.optional))
    with pa.ipc.open_stream(block.data) as reader:
        _add_batch(part, block, reader.read_next_batch(), block.first_row)
    yield part


def _parse_parquet(block: Block) -> Iterator[ParsedBlock]:
    where = f"{block.file}, row group {block.row_group}"
    try:
        with open_source(block.file) as handle:
            parquet = pq.ParquetFile(handle)
            rows = _batch_rows(block, parquet.metadata.row_group(block.row_group))
            names = list(block.reading.columns)
            batches = parquet.iter_batches(rows, row_groups=[block.row_group], columns=names)
            yield from _in_parts(block, map(without_views, batches))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"the row group is damaged: {first_line(error)}", where=where) from None


def _parse_yt(block: Block) -> Iterator[ParsedBlock]:
    from lossary.data.tables import read_columns
    from lossary.data.yt_source import read_rows

    layout = block.layout
    found = read_rows(layout, layout["start"], layout["end"], block.reading.columns, where=block.file)
    yield from _in_parts(block, (read_columns(whole, block.reading, block.file) for whole in found))


def _in_parts(block: Block, batches: Iterable[pa.RecordBatch]) -> Iterator[ParsedBlock]:
    """The rows of batches that follow one another, so many at a time as a block has of text."""
    number = block.first_row
    part, size = ParsedBlock(has=set(block.reading.optional)), 0
    for batch in batches:
        size += _add_batch(part, block, batch, number)
        number += len(batch)
        if size > BLOCK_BYTES:
            yield part
            part, size = ParsedBlock(has=set(block.reading.optional)), 0
    yield part


def _batch_rows(block: Block, group: Any) -> int:
    """Rows at once: as many short ones as are worth asking a condition of together."""
    if block.reading.where is None:
        return _BATCH_ROWS
    row_bytes = group.total_byte_size / max(1, group.num_rows)
    return int(min(_MOST_BATCH_ROWS, max(_BATCH_ROWS, BLOCK_BYTES / max(1.0, row_bytes))))


def _add_batch(part: ParsedBlock, block: Block, batch: pa.RecordBatch, first_row: int) -> int:
    """Adds the rows of a batch of columns; returns the bytes of the texts that were looked at."""
    numbers = np.arange(first_row, first_row + len(batch))
    if block.only is not None:
        within = slice(*np.searchsorted(block.only, [first_row, first_row + len(batch)]))
        wanted = np.zeros(len(batch), bool)
        wanted[block.only[within].astype(np.int64) - first_row] = True
        numbers, batch = numbers[wanted], batch.filter(pa.array(wanted))
    if block.reading.where is not None:
        verdict = _filter(block.reading.where).judge_columns(
            [column_of(batch, name) for name in block.reading.filtered_by]
        )
        _count_others(part, block, numbers.tolist(), verdict)
        numbers, batch = numbers[verdict.passes], batch.filter(pa.array(verdict.passes))
    columns = [column_of(batch, name) for name in block.reading.fields]
    # As bytes, so that a text that is not UTF-8 costs its row and not the batch.
    values = [column.cast(pa.large_binary()).to_pylist() for column in columns]
    for number, row in zip(numbers.tolist(), zip(*values, strict=True), strict=True):
        _add(part, block, number, row)
    return sum(column.nbytes for column in columns)


def _add(part: ParsedBlock, block: Block, number: int, values: tuple[Any, ...]) -> None:
    """Adds a row if its values are text that says something, else says why not."""
    fields, join = block.reading.fields, block.reading.join
    texts: list[str] = []
    for name, value in zip(fields, values, strict=True):
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                _reject(part, block, number, "not UTF-8", value)
                return
        if not isinstance(value, str):
            if join is not None and (value is None or value is MISSING):
                continue
            reason = f"{name!r} is {_json_type(value)}, not text"
        elif not value.strip():
            if join is not None:
                continue
            reason = f"{name!r} is empty" if len(fields) > 1 else "empty"
        elif len(value) > MOST_DOCUMENT_BYTES:
            reason = f"longer than {MOST_DOCUMENT_BYTES >> 20} MiB"
        else:
            texts.append(value)
            continue
        _reject(part, block, number, reason, repr(value)[:400].encode())
        return
    if join is not None:
        texts = [join.join(texts)]
        if not texts[0] or len(texts[0]) > MOST_DOCUMENT_BYTES:
            reason = f"longer than {MOST_DOCUMENT_BYTES >> 20} MiB" if texts[0] else "empty"
            _reject(part, block, number, reason, texts[0][:400].encode())
            return
    part.rows.append(number)
    part.texts.append(tuple(texts))


def _reject(part: ParsedBlock, block: Block, number: int, reason: str, sample: bytes) -> None:
    text = sample[:200].decode(errors="replace")
    part.bad.append(BadRow(file=block.file, row=number, reason=reason, sample=text))


def _filter(where: str | None) -> "RowFilter":
    # DuckDB takes a tenth of a second to be imported, and most datasets have no condition.
    from lossary.data.filters import row_filter

    assert where is not None
    return row_filter(where)


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


def first_line(error: BaseException) -> str:
    """What a library says of an error, short enough for a message."""
    return (str(error) or type(error).__name__).splitlines()[0]


_PARSERS: dict[str, Callable[[Block], Iterator[ParsedBlock]]] = {
    "parquet": _parse_parquet,
    "table": _parse_table,
    "jsonl": _parse_json,
    "text": _parse_text,
    "tokens": _parse_tokens,
    "yt": _parse_yt,
}

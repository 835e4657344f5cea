"""Spans: the runs of whole sentences of one document that examples are made from.

Sentences accumulate until the target length is reached, as in google-research/albert (create_pretraining_data.py);
what is over is shortened when the example is made. Spans are fixed by (seed, dataset, row) when a study is prepared;
split, swap and masks are drawn anew in each epoch. A sentence longer than an example is first cut into nearly equal
parts, where the reference would drop all but its first tokens. A pair document is one span of two sentences.

    spans = cut_spans(shard, length=64, short_rate=0.1, key=stream_key(17, "spans", "wiki"))
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.data.arrow import arrow_array, read_batch, write_batch
from lossary.data.philox import uniforms
from lossary.data.shards import Shard

__all__ = ["EXAMPLE_BITS", "Spans", "cut_spans", "example_rows", "read_spans", "write_spans"]

# An example's number: the row of its document, then the ordinal of its span within the document.
EXAMPLE_BITS = 24
SPECIAL_TOKENS = 3  # [CLS], [SEP], [SEP]


@dataclass(frozen=True, kw_only=True)
class Spans:
    """N spans of one shard; sentences are given by their ends, flat over all spans."""

    example: NDArray[np.uint64]  # (N,)
    start: NDArray[np.int64]  # (N,) into the shard's ids
    stop: NDArray[np.int64]  # (N,)
    sentence_ends: NDArray[np.int64]  # (S,) into the shard's ids, ascending within a span; the last is its stop
    sentence_offsets: NDArray[np.int64]  # (N + 1,)
    document: NDArray[np.int64]  # (N,) position of the document in the shard

    def __len__(self) -> int:
        return len(self.example)

    def take(self, keep: NDArray[np.bool_]) -> "Spans":
        """The spans where `keep` (N,) is true."""
        counts = np.diff(self.sentence_offsets)
        return Spans(
            example=self.example[keep],
            start=self.start[keep],
            stop=self.stop[keep],
            sentence_ends=self.sentence_ends[np.repeat(keep, counts)],
            sentence_offsets=np.concatenate([[0], np.cumsum(counts[keep])]),
            document=self.document[keep],
        )


def example_rows(example: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The rows (N,) of the documents that examples (N,) come from."""
    return example >> np.uint64(EXAMPLE_BITS)


def cut_spans(shard: Shard, *, length: int, short_rate: float, key: int) -> Spans:
    """All spans of a shard for examples of `length` tokens, special ones included; in the order of documents."""
    room = length - SPECIAL_TOKENS
    if shard.pair:
        return _whole_documents(shard)
    ends, offsets = _split_long_sentences(shard, room)
    firsts, lasts, documents, ordinals = _accumulate(shard, ends, offsets, _Target(room, short_rate, key))
    order = np.lexsort((ordinals, documents))
    firsts, lasts, documents, ordinals = (column[order] for column in (firsts, lasts, documents, ordinals))
    document_start = shard.id_offsets[:-1][documents]
    start = np.where(firsts == offsets[documents], document_start, ends[firsts - 1])
    counts = lasts - firsts
    flat = np.repeat(firsts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
    return Spans(
        example=(shard.row[documents] << np.uint64(EXAMPLE_BITS)) | ordinals.astype(np.uint64),
        start=start,
        stop=ends[lasts - 1] if len(lasts) else start,
        sentence_ends=ends[flat],
        sentence_offsets=np.concatenate([[0], np.cumsum(counts)]),
        document=documents,
    )


def _whole_documents(shard: Shard) -> Spans:
    documents = len(shard)
    base = np.repeat(shard.id_offsets[:-1], np.diff(shard.sentence_offsets))
    return Spans(
        example=shard.row << np.uint64(EXAMPLE_BITS),
        start=shard.id_offsets[:-1].copy(),
        stop=shard.id_offsets[1:].copy(),
        sentence_ends=shard.sentence_ends + base,
        sentence_offsets=shard.sentence_offsets - shard.sentence_offsets[0],
        document=np.arange(documents),
    )


def _split_long_sentences(shard: Shard, room: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ends of sentences in the shard's ids, none longer than `room`, and their offsets by document."""
    base = np.repeat(shard.id_offsets[:-1], np.diff(shard.sentence_offsets))
    ends = shard.sentence_ends + base
    starts = np.empty_like(ends)
    starts[1:] = ends[:-1]
    first = shard.sentence_offsets[:-1][np.diff(shard.sentence_offsets) > 0]
    starts[first] = shard.id_offsets[:-1][np.diff(shard.sentence_offsets) > 0]
    parts = np.maximum(1, -(-(ends - starts) // room))
    part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    lengths, counts = np.repeat(ends - starts, parts), np.repeat(parts, parts)
    cut = np.repeat(starts, parts) + lengths * (part + 1) // counts
    offsets = np.concatenate([[0], np.cumsum(parts)])[shard.sentence_offsets]
    return cut, offsets


@dataclass(frozen=True)
class _Target:
    room: int
    short_rate: float
    key: int

    def draw(self, rows: NDArray[np.uint64], ordinal: int) -> NDArray[np.int64]:
        """Target lengths (n,) of the spans with one ordinal in their documents."""
        coin, length = uniforms(self.key, rows, ordinal, 2).T
        short = 2 + np.floor(length * (self.room - 1)).astype(np.int64)
        return np.where(coin < self.short_rate, np.minimum(short, self.room), self.room)


def _accumulate(
    shard: Shard, ends: NDArray[np.int64], offsets: NDArray[np.int64], target: _Target
) -> tuple[NDArray[np.int64], ...]:
    """First and last sentence (flat), document and ordinal of every span.

    Vectorised over documents: turn k makes the k-th span of every document that still has sentences.
    """
    active = np.flatnonzero(np.diff(offsets) > 0)
    first = offsets[active]
    found: list[tuple[NDArray[np.int64], ...]] = []
    ordinal = 0
    while len(active):
        start = np.where(first == offsets[active], shard.id_offsets[active], ends[np.maximum(first - 1, 0)])
        reach = np.searchsorted(ends, start + target.draw(shard.row[active], ordinal), side="left") + 1
        last = np.minimum(reach, offsets[active + 1])
        found.append((first, last, active, np.full(len(active), ordinal)))
        going = last < offsets[active + 1]
        active, first = active[going], last[going]
        ordinal += 1
    if not found:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty, empty
    return tuple(np.concatenate(columns) for columns in zip(*found, strict=True))


def write_spans(path: Path, spans: Spans) -> None:
    """Stores spans as an Arrow file, whole or not at all."""
    offsets = arrow_array(spans.sentence_offsets)
    ends = pa.LargeListArray.from_arrays(offsets, arrow_array(spans.sentence_ends))
    columns = {"example": spans.example, "start": spans.start, "stop": spans.stop, "document": spans.document}
    batch = pa.RecordBatch.from_pydict(
        {name: arrow_array(column) for name, column in columns.items()} | {"sentence_ends": ends}
    )
    write_batch(path, batch)


def read_spans(path: Path) -> Spans:
    """Memory-maps spans."""
    batch = read_batch(path)
    ends = batch.column("sentence_ends")
    return Spans(
        example=batch.column("example").to_numpy(),
        start=batch.column("start").to_numpy(),
        stop=batch.column("stop").to_numpy(),
        sentence_ends=ends.values.to_numpy(),
        sentence_offsets=ends.offsets.to_numpy(),
        document=batch.column("document").to_numpy(),
    )

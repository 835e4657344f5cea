"""Spans: the runs of whole sentences of one document that examples are made from.

Sentences accumulate until the target length is reached, as in google-research/albert (create_pretraining_data.py);
what is over is shortened when the example is made. Spans are fixed by (seed, dataset, row) when a study is prepared;
split, swap and masks are drawn anew in each epoch. A sentence longer than an example is first cut into nearly equal
parts, where the reference would drop all but its first tokens. A pair document is one span of two sentences.

    spans = cut_spans(shard, length=64, short_rate=0.1, key=stream_key(17, "spans", "wiki"))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.blocks import narrow
from lossary.data.philox import uniforms
from lossary.data.ragged import offsets_of, ranges
from lossary.data.shards import Shard

__all__ = ["EXAMPLE_BITS", "SpanRows", "Spans", "StoredSpans", "cut_spans", "example_rows", "packed_spans"]

# An example's number: the row of its document, then the ordinal of its span within the document.
EXAMPLE_BITS = 24
SPECIAL_TOKENS = 3  # [CLS], [SEP], [SEP], as ALBERT has them
# Of stored spans every so many has its place in full: to find one, as many steps are added up.
_MARK = 64


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

    def rows(self, at: NDArray[np.int64]) -> "SpanRows":
        """The spans at some places (n,)."""
        first, counts = self.sentence_offsets[at], self.sentence_offsets[at + 1] - self.sentence_offsets[at]
        start = self.start[at]
        return SpanRows(
            example=self.example[at],
            start=start,
            tokens=self.stop[at] - start,
            sentences=counts,
            sentence_ends=self.sentence_ends[ranges(first, counts)] - np.repeat(start, counts),
        )

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


class SpanRows(NamedTuple):
    """Some spans (n,) of a shard, their sentences' ends flat and relative to the span."""

    example: NDArray[np.uint64]
    start: NDArray[np.int64]  # into the shard's ids
    tokens: NDArray[np.int64]
    sentences: NDArray[np.int64]
    sentence_ends: NDArray[np.int64]

    def of(self, pieces: NDArray[Any]) -> NDArray[Any]:
        """Of the pieces of the shard (N,) theirs, one span after another."""
        return pieces[ranges(self.start, self.tokens)]


def example_rows(example: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The rows (N,) of the documents that examples (N,) come from."""
    return example >> np.uint64(EXAMPLE_BITS)


def cut_spans(shard: Shard, *, length: int, short_rate: float, key: int, added: int = SPECIAL_TOKENS) -> Spans:
    """All spans of a shard for examples of `length` tokens, in the order of documents.

    `added` of these tokens are special: what a vocabulary's template adds to two segments.
    """
    room = length - added
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


def packed_spans(spans: Spans, shard: Shard) -> dict[str, NDArray[Any]]:
    """The arrays that spans of a shard are stored as: steps from one to the next, and every 64th value in full."""
    tokens = spans.stop - spans.start
    sentences = np.diff(spans.sentence_offsets)
    lengths = np.diff(spans.sentence_ends, prepend=0)
    first = spans.sentence_offsets[:-1][sentences > 0]
    lengths[first] = spans.sentence_ends[first] - spans.start[sentences > 0]
    packed = {
        "tokens": narrow(tokens),
        "ordinal": narrow(spans.example & np.uint64((1 << EXAMPLE_BITS) - 1)),
        "sentence_tokens": narrow(lengths),
        "first_row": shard.row[:1],
    }
    rows = (example_rows(spans.example) - shard.row[:1]).astype(np.int64)
    for name, values in (("start", spans.start), ("row", rows), ("sentence", spans.sentence_offsets[:-1])):
        steps = np.diff(values)
        # Nobody asks for the step from the last one: it is as the one before, so that steps may be all the same.
        packed[f"{name}_steps"] = narrow(np.concatenate([steps, steps[-1:] if len(steps) else [0] * len(values)]))
        packed[f"{name}_marks"] = narrow(values[::_MARK])
    return packed


class StoredSpans:
    """Spans of a shard as they are stored; what is not asked for is not unpacked."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays["tokens"])

    def rows(self, at: NDArray[np.int64]) -> SpanRows:
        """The spans at some places (n,)."""
        arrays = self._arrays
        counts = self._step("sentence", at)
        first = self._value("sentence", at)
        lengths = arrays["sentence_tokens"][ranges(first, counts)].astype(np.int64)
        ends = np.cumsum(lengths)
        before = offsets_of(counts)[:-1]
        ends -= np.repeat(np.concatenate([[0], ends])[before], counts)
        row = arrays["first_row"][0] + self._value("row", at).astype(np.uint64)
        return SpanRows(
            example=(row << np.uint64(EXAMPLE_BITS)) | arrays["ordinal"][at].astype(np.uint64),
            start=self._value("start", at),
            tokens=arrays["tokens"][at].astype(np.int64),
            sentences=counts,
            sentence_ends=ends,
        )

    def document_rows(self) -> NDArray[np.uint64]:
        """The rows, each once, of the documents that have a span."""
        if not len(self):
            return np.zeros(0, np.uint64)
        # The first document of a block may have no span, so that the first span is not of the block's first row.
        first = self._arrays["first_row"][0] + self._arrays["row_marks"][0].astype(np.uint64)
        return np.unique(first + offsets_of(self._arrays["row_steps"])[:-1].astype(np.uint64))

    def _step(self, name: str, at: NDArray[np.int64]) -> NDArray[np.int64]:
        if name != "sentence":
            return self._arrays[f"{name}_steps"][at].astype(np.int64)
        total = len(self._arrays["sentence_tokens"])
        last = at == len(self) - 1
        steps = self._arrays["sentence_steps"][at].astype(np.int64)
        return np.where(last, total - self._value("sentence", at), steps)

    def _value(self, name: str, at: NDArray[np.int64]) -> NDArray[np.int64]:
        steps, marks = self._arrays[f"{name}_steps"], self._arrays[f"{name}_marks"]
        mark = at // _MARK
        places = np.minimum(mark[:, None] * _MARK + np.arange(_MARK), len(self) - 1)
        before = np.arange(_MARK) < (at % _MARK)[:, None]
        summed: NDArray[np.int64] = marks[mark].astype(np.int64) + (steps[places] * before).sum(axis=1, dtype=np.int64)
        return summed

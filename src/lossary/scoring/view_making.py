"""Frozen texts in a vocabulary: what a model of it is given, and what it is to predict.

    made = masked_block(texts, examples, vocabulary, seed=17, dataset="wiki")
    made.arrays["token_ids"], made.arrays["target_bytes"], made.left_out

A hidden word becomes the pieces that have a byte of it. All of them get what was done to the word: a mask, a random
piece that is a function of (seed, dataset, example), or nothing. Nothing is scored that the vocabulary cannot tell
apart: a word without a piece, or with an unknown one, is left as it is and counted.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.blocks import narrow
from lossary.data.examples import Examples
from lossary.data.frozen_texts import HIDDEN, RANDOM, FrozenTexts
from lossary.data.philox import stream_key, uniforms
from lossary.data.piece_places import white_codes
from lossary.data.ragged import offsets_of, ranges
from lossary.vocabulary.api import Vocabulary

__all__ = ["LEFT_OUT", "Made", "causal_block", "masked_block"]

# What a vocabulary cannot hold of an example, counted by dataset.
NO_PIECE = "examples without a piece"
ONE_SEGMENT = "segments without a piece"
LOST, UNKNOWN = "hidden words without a piece", "hidden words with an unknown piece"
SHARED = "hidden words that share a piece with others (scored)"
UNKNOWN_NEXT = "unknown pieces"
LEFT_OUT = (NO_PIECE, ONE_SEGMENT, LOST, UNKNOWN, SHARED, UNKNOWN_NEXT)


class Made(NamedTuple):
    """Examples as `packed_examples` packs them, with `target_bytes`; and what of each (B,) is left out."""

    arrays: dict[str, NDArray[Any]]
    lengths: NDArray[np.int64]  # (B,) 0 where an example has no piece: it is not in the arrays
    left_out: dict[str, NDArray[np.int64]]


class _Pieces(NamedTuple):
    """Pieces (N,) of S strings, one after another; `begin` and `end` are bytes of the texts of a block."""

    ids: NDArray[np.int32]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    offsets: NDArray[np.int64]  # (S + 1,)


class _Segments(NamedTuple):
    """Segments (S,) that hold text, as a model is given them: the example of each, and its bytes of a block."""

    row: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]


def masked_block(texts: FrozenTexts, examples: Examples, vocabulary: Vocabulary, *, seed: int, dataset: str) -> Made:
    """Texts of some frozen examples (B,) with their words hidden, by a vocabulary that has a piece to hide them by."""
    mask = vocabulary.specials.mask
    assert mask is not None
    segments = _segments(texts)
    pieces = _encode(texts, segments, vocabulary)
    row = segments.row[np.repeat(np.arange(len(segments.row)), np.diff(pieces.offsets))]
    words = _Words(texts, pieces, vocabulary.specials.unk)
    target = np.flatnonzero(words.of_piece >= 0)
    count = np.bincount(row[target], minlength=len(texts))
    ordinal = np.arange(len(target)) - offsets_of(count)[row[target]]
    labels = pieces.ids[target]
    key = stream_key(seed, "view", dataset)
    drawn = uniforms(key, examples.example, 0, int(count.max(initial=0)))[row[target], ordinal]
    free = np.flatnonzero(~vocabulary.is_special).astype(np.int32)
    done = texts.treatment[words.of_piece[target]]
    seen = pieces.ids.copy()
    seen[target] = np.where(
        done == HIDDEN,
        mask,
        np.where(done == RANDOM, free[np.floor(drawn * len(free)).astype(np.int64)], labels),
    )
    framed = _framed(segments, pieces, seen, len(texts), vocabulary)
    place = np.repeat(framed.start - pieces.offsets[:-1], np.diff(pieces.offsets)) + np.arange(len(row))
    here = framed.lengths > 0
    arrays = {
        "example": examples.example[here],
        "token_ids": narrow(framed.ids),
        "segment_ids": narrow(framed.type_ids),
        "lengths": narrow(framed.lengths[here]),
        "positions": narrow(place[target]),
        "labels": narrow(labels),
        "masked": narrow(count[here]),
        "sop_labels": np.where(framed.segments == 2, texts.swapped, -1).astype(np.int8)[here],
        "bytes": narrow((texts.first_end + np.diff(texts.offsets) - texts.second_begin)[here]),
        "target_bytes": narrow(words.bytes_of(len(texts))[here]),
    }
    left_out = words.left_out(len(texts)) | {
        NO_PIECE: (~here).astype(np.int64),
        ONE_SEGMENT: ((examples.sop_labels >= 0) & (framed.segments == 1)).astype(np.int64),
    }
    return Made(arrays, framed.lengths, left_out)


def causal_block(texts: FrozenTexts, examples: Examples, vocabulary: Vocabulary) -> Made:
    """Texts of some frozen examples (B,) in the order of the document, each piece the target of those before it.

    What the template puts in front of a text is no target; without it the first piece is none.
    """
    whole = _Segments(np.arange(len(texts)), texts.offsets[:-1], texts.offsets[1:])
    pieces = _encode(texts, whole, vocabulary)
    one = vocabulary.frame(np.zeros(1, np.int32))
    front = one.ids[: one.first]
    sizes = np.diff(pieces.offsets)
    here = sizes > 0
    lengths = np.where(here, sizes + len(front), 0)
    within = np.arange(len(pieces.ids)) - np.repeat(pieces.offsets[:-1], sizes)
    known = pieces.ids != (-1 if vocabulary.specials.unk is None else vocabulary.specials.unk)
    later = (within > 0) | (len(front) > 0)
    target = np.flatnonzero(known & later)
    row = np.repeat(np.arange(len(texts)), sizes)
    parts = [
        part for at in np.flatnonzero(here) for part in (front, pieces.ids[pieces.offsets[at] : pieces.offsets[at + 1]])
    ]
    # Bytes of what is no target: unknown pieces, and a first piece that nothing is in front of.
    no_target = np.bincount(row, weights=np.where(known & later, 0, pieces.end - pieces.begin), minlength=len(texts))
    size = np.diff(texts.offsets)
    arrays = {
        "example": examples.example[here],
        "token_ids": narrow(np.concatenate([np.zeros(0, np.int32), *parts])),
        "segment_ids": narrow(np.zeros(int(lengths.sum()), np.int32)),
        "lengths": narrow(lengths[here]),
        "positions": narrow((within + len(front) - 1)[target]),
        "labels": narrow(pieces.ids[target]),
        "masked": narrow(np.bincount(row[target], minlength=len(texts))[here]),
        "sop_labels": np.full(int(here.sum()), -1, np.int8),
        "bytes": narrow(size[here]),
        "target_bytes": narrow((size - no_target.astype(np.int64))[here]),
    }
    left_out = {
        NO_PIECE: (~here).astype(np.int64),
        UNKNOWN_NEXT: np.bincount(row[~known], minlength=len(texts)).astype(np.int64),
    }
    return Made(arrays, lengths, left_out)


def _segments(texts: FrozenTexts) -> _Segments:
    """The segments that hold text, in the order in which a model is given them."""
    base, stop = texts.offsets[:-1], texts.offsets[1:]
    begin = np.stack([base, base + texts.second_begin], axis=1)
    end = np.stack([base + texts.first_end, stop], axis=1)
    begin[texts.swapped], end[texts.swapped] = begin[texts.swapped, ::-1], end[texts.swapped, ::-1]
    row = np.repeat(np.arange(len(texts)), 2)
    holds = end.ravel() > begin.ravel()
    return _Segments(row[holds], begin.ravel()[holds], end.ravel()[holds])


def _encode(texts: FrozenTexts, segments: _Segments, vocabulary: Vocabulary) -> _Pieces:
    buffer = texts.text.tobytes()
    strings = [
        buffer[begin:end].decode() for begin, end in zip(segments.begin.tolist(), segments.end.tolist(), strict=True)
    ]
    encoded = vocabulary.encode(strings)
    sizes = np.array([len(one.ids) for one in encoded], np.int64)
    shift = np.repeat(segments.begin, sizes)

    def flat(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
        return np.concatenate([np.zeros(0, np.int32), *parts])

    begin, end = flat([one.begin for one in encoded]) + shift, flat([one.end for one in encoded]) + shift
    return _Pieces(flat([one.ids for one in encoded]), begin, end, offsets_of(sizes))


class _Words:
    """Hidden words of a block as pieces: by bytes that are not white space."""

    def __init__(self, texts: FrozenTexts, pieces: _Pieces, unknown: int | None) -> None:
        self._row = np.repeat(np.arange(len(texts)), np.diff(texts.words))
        shift = texts.offsets[self._row]
        self._begin, self._end = texts.begin + shift, texts.end + shift
        self._spoken = ~_white_bytes(texts.text)
        self._word = np.full(len(texts.text), -1, np.int64)
        sizes = self._end - self._begin
        self._word[ranges(self._begin, sizes)] = np.repeat(np.arange(len(sizes)), sizes)
        every = np.ones(len(sizes), bool)
        has = self._has(pieces, every)
        self._lost = ~self._words_of(pieces, has)
        is_unknown = has & (pieces.ids == (-1 if unknown is None else unknown))
        self._unknown = self._words_of(pieces, is_unknown)
        self._scored = ~self._lost & ~self._unknown
        # An unknown piece is of no word that is scored.
        is_target = self._has(pieces, self._scored)
        self.of_piece = np.full(len(pieces.ids), -1, np.int64)
        hidden = np.flatnonzero(self._hidden(self._scored))
        first = np.searchsorted(hidden, pieces.begin[is_target])
        self.of_piece[is_target] = self._word[hidden[first]]
        more = self._bytes(pieces, self._spoken & ~self._hidden(self._scored)) > 0
        self._shared = self._words_of(pieces, is_target & more) & self._scored

    def bytes_of(self, rows: int) -> NDArray[np.int64]:
        """(B,) bytes of the words that are scored."""
        sizes = np.where(self._scored, self._end - self._begin, 0)
        return np.bincount(self._row, weights=sizes, minlength=rows).astype(np.int64)

    def left_out(self, rows: int) -> dict[str, NDArray[np.int64]]:
        """(B,) words that are not scored, or not alone, by why."""
        return {
            name: np.bincount(self._row[which], minlength=rows).astype(np.int64)
            for name, which in ((LOST, self._lost), (UNKNOWN, self._unknown), (SHARED, self._shared))
        }

    def _hidden(self, words: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Bytes of some words (W,)."""
        found: NDArray[np.bool_] = self._spoken & (self._word >= 0) & np.append(words, False)[self._word]
        return found

    def _bytes(self, pieces: _Pieces, which: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of some bytes each piece has."""
        before = offsets_of(which)
        found: NDArray[np.int64] = before[pieces.end] - before[pieces.begin]
        return found

    def _has(self, pieces: _Pieces, words: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Pieces (N,) that have a byte of some words."""
        return self._bytes(pieces, self._hidden(words)) > 0

    def _words_of(self, pieces: _Pieces, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Words (W,) that some pieces have a byte of."""
        found = np.zeros(len(self._row) + 1, bool)
        at = ranges(pieces.begin[which], (pieces.end - pieces.begin)[which])
        found[np.where(self._spoken[at], self._word[at], -1)] = True
        return found[:-1]


class _Framed(NamedTuple):
    """Inputs with their special pieces, one after another."""

    ids: NDArray[np.int32]
    type_ids: NDArray[np.int32]
    lengths: NDArray[np.int64]  # (B,) 0 without a piece
    segments: NDArray[np.int64]  # (B,) that have a piece
    start: NDArray[np.int64]  # (S,) where each begins in its input


def _framed(
    segments: _Segments, pieces: _Pieces, seen: NDArray[np.int32], rows: int, vocabulary: Vocabulary
) -> _Framed:
    holds = np.flatnonzero(np.diff(pieces.offsets) > 0)
    counts = np.bincount(segments.row[holds], minlength=rows)
    first = offsets_of(counts)
    start = np.zeros(len(segments.row), np.int64)
    lengths = np.zeros(rows, np.int64)
    ids, type_ids = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for row in np.flatnonzero(counts):
        own = holds[first[row] : first[row + 1]]
        parts = [seen[pieces.offsets[at] : pieces.offsets[at + 1]] for at in own]
        framed = vocabulary.frame(*parts)
        start[own] = (framed.first, framed.second)[: len(own)]
        lengths[row] = len(framed.ids)
        ids.append(framed.ids)
        type_ids.append(framed.type_ids)
    return _Framed(np.concatenate(ids), np.concatenate(type_ids), lengths, counts, start)


def _white_bytes(text: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Bytes (N,) of UTF-8 that are of white space."""
    codes = np.frombuffer(text.tobytes().decode().encode("utf-32-le"), np.uint32)
    sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    return np.repeat(white_codes(codes), sizes)

"""Raw documents as one flat array of pieces, in which the text of an example is looked up.

    texts = texts_of(documents)                        # the lines and fields, in order
    corpus = Corpus.of(documents, datasets, side.encode(texts), tokenizer)
    corpus.ids[corpus.start[3] : corpus.stop[3]]       # pieces of document 3

Between documents stands −1, so that no stretch of pieces runs from one into the next unnoticed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.ragged import ranges
from lossary.data.tokenise import normalised_hash
from lossary.data.tokenizer import FIRST_PIECE, TokenizerModel
from lossary.diagnosis.adapter import Document

__all__ = ["KINDS", "LINES", "LONE", "ONE_LINE", "PAIR", "Corpus", "Grams", "texts_of"]

# What a document can be split into; makers of pairs treat these differently.
LONE, ONE_LINE, LINES, PAIR = range(4)
KINDS = ("one sentence", "one line of several sentences", "several lines", "pair of fields")
LONGEST_GRAM = 4
_BREAK = -1


def texts_of(documents: Sequence[Document]) -> list[str]:
    """The texts that documents consist of, in order: the lines of each, or its two fields."""
    texts: list[str] = []
    for document in documents:
        text = document["text"]
        texts += text.split("\n") if isinstance(text, str) else list(text)
    return texts


class Grams(NamedTuple):
    """All stretches of k pieces inside documents, sorted by content, then place."""

    hashes: NDArray[np.uint64]  # (G,) ascending
    places: NDArray[np.int64]  # (G,) where each starts in `ids`
    keys: NDArray[np.int64]  # (G,) ascending: number of the content × N + place

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of contents (Q,) the stretch [low, high) of `places`."""
        return np.searchsorted(self.hashes, hashes, "left"), np.searchsorted(self.hashes, hashes, "right")


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """D documents with L lines (fields, in pairs) and N pieces."""

    names: tuple[str, ...]  # of the datasets
    ids: NDArray[np.int32]  # (N,) -1 before, between and after documents
    start: NDArray[np.int64]  # (D,) into ids
    stop: NDArray[np.int64]  # (D,)
    dataset: NDArray[np.int16]  # (D,)
    kind: NDArray[np.int8]  # (D,) LONE, ONE_LINE, LINES or PAIR
    line_stop: NDArray[np.int64]  # (L,) into ids
    line_offsets: NDArray[np.int64]  # (D + 1,)
    same_text: NDArray[np.int64]  # (D,) the first document with this text

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def of(
        cls,
        documents: Sequence[Document],
        names: Sequence[str],
        line_ids: Sequence[Any],
        tokenizer: TokenizerModel,
    ) -> "Corpus":
        """Documents with the pieces of their `texts_of`, by whichever tokenizer."""
        counts = [
            1 + doc["text"].count("\n") if isinstance(doc["text"], str) else len(doc["text"]) for doc in documents
        ]
        line_offsets = np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))]).astype(np.int64)
        sizes = np.array([len(ids) for ids in line_ids], np.int64)
        line_document = np.repeat(np.arange(len(counts)), counts)
        flat = np.concatenate([np.zeros(0, np.int32), *(np.asarray(ids, np.int32) for ids in line_ids)])
        # One break more before each document.
        line_stop = np.cumsum(sizes) + line_document + 1
        ids = np.full(len(flat) + len(counts) + 1, _BREAK, np.int32)
        ids[ranges(line_stop - sizes, sizes)] = flat
        totals = np.add.reduceat(np.append(sizes, 0), line_offsets[:-1]) if counts else np.zeros(0, np.int64)
        stop = line_stop[line_offsets[1:] - 1]
        numbers = {name: number for number, name in enumerate(names)}
        pair = np.array([not isinstance(document["text"], str) for document in documents], bool)
        return cls(
            names=tuple(names),
            ids=ids,
            start=stop - totals,
            stop=stop,
            dataset=np.array([numbers[document["dataset"]] for document in documents], np.int16),
            kind=_kinds(ids, stop - totals, stop, _filled(sizes, line_document, len(counts)), pair, tokenizer),
            line_stop=line_stop,
            line_offsets=line_offsets,
            same_text=_first_with_text(documents),
        )

    @cached_property
    def document(self) -> NDArray[np.int64]:
        """(N,) the document of each piece; -1 at breaks."""
        numbers = np.full(len(self.ids), -1, np.int64)
        sizes = self.stop - self.start
        numbers[ranges(self.start, sizes)] = np.repeat(np.arange(len(sizes)), sizes)
        return numbers

    @cached_property
    def line_start(self) -> NDArray[np.int64]:
        """(L,) into ids."""
        starts = np.empty_like(self.line_stop)
        starts[1:] = self.line_stop[:-1]
        starts[self.line_offsets[:-1]] = self.start
        return starts

    @cached_property
    def line(self) -> NDArray[np.int64]:
        """(N,) the line of each piece; -1 at breaks."""
        numbers = np.full(len(self.ids), -1, np.int64)
        sizes = self.line_stop - self.line_start
        numbers[ranges(self.line_start, sizes)] = np.repeat(np.arange(len(sizes)), sizes)
        return numbers

    def shares_of(self, piece: int) -> NDArray[np.float64]:
        """(G,) the share of a piece in each dataset; 0 for examples of no known one."""
        inside = self.document >= 0
        dataset = self.dataset[self.document[inside]]
        total = np.bincount(dataset, minlength=len(self.names) + 1)
        return np.bincount(dataset, self.ids[inside] == piece, len(self.names) + 1) / np.maximum(1, total)

    def common(self, vocabulary_size: int) -> NDArray[np.bool_]:
        """(V,) the commonest pieces, which make up half of the text."""
        ids = self.ids[(self.ids >= FIRST_PIECE) & (self.ids < vocabulary_size)]
        count = np.bincount(ids, minlength=vocabulary_size)
        order = np.argsort(-count, kind="stable")
        common = np.zeros(vocabulary_size, bool)
        common[order[np.cumsum(count[order]) <= len(ids) / 2]] = True
        return common

    def grams(self, size: int) -> Grams:
        """The index of stretches of `size` pieces, 1 to 4."""
        return self._grams[size - 1]

    @cached_property
    def _grams(self) -> "_Lazy":
        return _Lazy(self.ids)


class _Lazy:
    """Indices that are made when they are asked for."""

    def __init__(self, ids: NDArray[np.int32]) -> None:
        self._ids = ids
        self._made: dict[int, Grams] = {}

    def __getitem__(self, index: int) -> Grams:
        if index not in self._made:
            self._made[index] = self._make(index + 1)
        return self._made[index]

    def _make(self, size: int) -> Grams:
        hashes, whole = window_hashes(self._ids, size)
        places = np.flatnonzero(whole)
        hashes = hashes[places]
        order = np.argsort(hashes, kind="stable")
        hashes, places = hashes[order], places[order]
        number = np.cumsum(np.concatenate([[0], hashes[1:] != hashes[:-1]])) if len(hashes) else np.zeros(0, np.int64)
        return Grams(hashes, places, number.astype(np.int64) * len(self._ids) + places)


def window_hashes(ids: NDArray[np.int32], size: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Of each place the hash of the `size` ids from there on, and whether all of them are ids (not negative)."""
    count = max(0, len(ids) - size + 1)
    hashes = np.zeros(count, np.uint64)
    whole = np.ones(count, bool)
    for shift in range(size):
        part = ids[shift : shift + count]
        hashes = (hashes ^ part.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
        whole &= part >= 0
    return hashes, whole


def _filled(sizes: NDArray[np.int64], document: NDArray[np.int64], documents: int) -> NDArray[np.int64]:
    """Lines of each document that hold anything."""
    return np.bincount(document[sizes > 0], minlength=documents)


def _kinds(
    ids: NDArray[np.int32],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    lines: NDArray[np.int64],
    pair: NDArray[np.bool_],
    tokenizer: TokenizerModel,
) -> NDArray[np.int8]:
    """A sentence ends at a terminal piece before the start of a word, as when a study is prepared."""
    known = np.where((ids >= 0) & (ids < tokenizer.vocabulary_size), ids, 0)
    inner = np.zeros(len(ids) + 1, np.int64)
    inner[1:-1] = np.cumsum(tokenizer.ends_sentence[known[:-1]] & tokenizer.is_word_start[known[1:]] & (ids[1:] >= 0))
    inner[-1] = inner[-2]
    several = inner[np.maximum(stop - 1, start)] > inner[start]
    kind = np.where(lines > 1, LINES, np.where(several, ONE_LINE, LONE))
    return np.where(pair, PAIR, kind).astype(np.int8)


def _first_with_text(documents: Sequence[Document]) -> NDArray[np.int64]:
    first: dict[int, int] = {}
    hashes = (
        normalised_hash((text,) if isinstance(text := document["text"], str) else tuple(text)) for document in documents
    )
    return np.array([first.setdefault(value, number) for number, value in enumerate(hashes)], np.int64)

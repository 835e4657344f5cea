"""Which words are masked: n-grams of whole words, up to a budget, all rows at once.

As google-research/albert (create_pretraining_data.py): words in random order each start an n-gram with p(n) ∝ 1/n; one
that exceeds what is left of the budget tries a smaller n; one that meets a masked word is passed over. Here n-grams
stay inside their segment. Of masked pieces 80 % become [MASK], 10 % a random piece that is not special, 10 % stay.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossary.data.philox import Key, uniforms

__all__ = ["Words", "find_words", "mask_budget", "mask_words", "replace_masked"]


@dataclass(frozen=True, kw_only=True)
class Words:
    """W words of B rows in reading order; `segment` numbers are unique over the batch."""

    row: NDArray[np.int64]  # (W,)
    start: NDArray[np.int64]  # (W,) position in the row
    stop: NDArray[np.int64]  # (W,)
    segment: NDArray[np.int64]  # (W,)
    offsets: NDArray[np.int64]  # (B + 1,)


def mask_budget(lengths: NDArray[np.int32], *, rate: float, most: int | None) -> NDArray[np.int64]:
    """Masked positions (B,) of examples of `lengths` (B,): the rounded share, at least 1, at most `most`."""
    budget: NDArray[np.int64] = np.maximum(1, np.rint(rate * lengths)).astype(np.int64)
    return budget if most is None else np.minimum(budget, most)


def find_words(starts_word: NDArray[np.bool_], segment: NDArray[np.int8]) -> Words:
    """Words of a batch from (B, T): where a piece starts a word, and its segment: 0, 1, or below 0 for none."""
    inside = segment >= 0
    first = inside.copy()
    first[:, 1:] &= segment[:, 1:] != segment[:, :-1]
    row, start = np.nonzero((starts_word & inside) | first)
    # A word ends where the next one starts or its segment ends.
    last = inside.copy()
    last[:, :-1] &= segment[:, 1:] != segment[:, :-1]
    stop_row, stop = np.nonzero(last)
    width = starts_word.shape[1] + 1
    segment_end = np.searchsorted(stop_row * width + stop, row * width + start)
    next_start = np.append(row[1:] * width + start[1:], np.iinfo(np.int64).max)
    ends = np.minimum(next_start, row * width + stop[segment_end] + 1 if len(stop) else next_start) - row * width
    offsets = np.searchsorted(row, np.arange(len(starts_word) + 1))
    return Words(row=row, start=start, stop=ends, segment=segment_end, offsets=offsets)


def mask_words(
    words: Words,
    budget: NDArray[np.int64],
    *,
    max_ngram: int,
    example: NDArray[np.uint64],
    key: Key,
    epoch: NDArray[np.int64] | int,
) -> NDArray[np.bool_]:
    """Which words (W,) are masked; the pieces of a row's masked words number at most its budget (B,)."""
    counts = np.diff(words.offsets)
    draws = uniforms(key, example, epoch, 2 * int(counts.max(initial=0))).reshape(len(example), -1, 2)
    used = np.arange(draws.shape[1]) < counts[:, None]
    priority, choice = draws[used].T
    ngram = _ngrams(choice, max_ngram)
    # One sort of all words: rows stay together, words of a row follow their priority.
    order = np.argsort(words.row + priority, kind="stable")
    return _Rounds(words, ngram, max_ngram).run(order, budget)


def _ngrams(choice: NDArray[np.float64], longest: int) -> NDArray[np.int64]:
    weight = 1.0 / np.arange(1, longest + 1)
    return 1 + np.searchsorted(np.cumsum(weight / weight.sum())[:-1], choice, side="right")


class _Rounds:
    """Turn r looks at the r-th word, by priority, of every row that still has budget."""

    def __init__(self, words: Words, ngram: NDArray[np.int64], longest: int) -> None:
        self.words = words
        self.ngram = ngram
        self.longest = longest
        total = len(words.start)
        # Room behind the last word, so that an n-gram may look past the end.
        self.masked = np.zeros(total + longest, bool)
        self.segment = np.concatenate([words.segment, np.full(longest, -1)])
        self.stop = np.concatenate([words.stop, np.zeros(longest, np.int64)])

    def run(self, order: NDArray[np.int64], budget: NDArray[np.int64]) -> NDArray[np.bool_]:
        offsets = self.words.offsets
        counts = np.diff(offsets)
        sizes = self.words.stop - self.words.start
        rows = np.flatnonzero(counts)
        shortest = np.full(len(counts), np.iinfo(np.int64).max)
        shortest[rows] = np.minimum.reduceat(sizes, offsets[rows]) if len(rows) else 0
        left = budget.copy()
        turn = 0
        while len(rows := rows[(counts[rows] > turn) & (left[rows] >= shortest[rows])]):
            left[rows] -= self._take(order[offsets[rows] + turn], left[rows])
            turn += 1
        return self.masked[: len(sizes)]

    def _take(self, word: NDArray[np.int64], left: NDArray[np.int64]) -> NDArray[np.int64]:
        """Masks the n-grams that start at `word` where they fit; returns the pieces (n,) that this used."""
        size = np.zeros(len(word), np.int64)
        length = np.zeros(len(word), np.int64)
        free = np.ones(len(word), bool)
        meets = np.zeros(len(word), bool)
        for n in range(1, self.longest + 1):
            last = word + n - 1
            free &= (self.ngram[word] >= n) & (self.segment[last] == self.segment[word])
            pieces = self.stop[last] - self.words.start[word]
            free &= pieces <= left
            meets |= free & self.masked[last]
            size = np.where(free, pieces, size)
            length = np.where(free, n, length)
        length[meets] = 0
        for n in range(self.longest):
            self.masked[(word + n)[length > n]] = True
        return np.where(meets, 0, size)


def replace_masked(
    labels: NDArray[np.int32],
    *,
    mask: int,
    ordinary: NDArray[np.int32],
    example: NDArray[np.uint64],
    key: Key,
    epoch: NDArray[np.int64] | int,
) -> NDArray[np.int32]:
    """What stands in the input at masked positions (B, P) that held `labels`.

    `mask` is the piece that hides others, `ordinary` are those that may stand there by chance.
    """
    draws = uniforms(key, example, epoch, 2 * labels.shape[1]).reshape(*labels.shape, 2)
    piece = ordinary[np.floor(draws[..., 1] * len(ordinary)).astype(np.int64)]
    kind = draws[..., 0]
    return np.where(kind < 0.8, mask, np.where(kind < 0.9, piece, labels)).astype(np.int32)

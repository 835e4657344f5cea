"""Which stretch of which document each example of a stream is made of, whatever split, swap, cut and masks it got.

units = units_of(observed, corpus)
units.number                   # (B,) equal where two examples are made of the same stretch
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossary.data.ragged import ranges
from lossary.diagnosis.calibration import LEAST_SCORED as _FEWEST_SCORED
from lossary.diagnosis.calibration import SHARED_STRETCH as SHARED
from lossary.diagnosis.feeds.corpus import Corpus
from lossary.diagnosis.feeds.observed import Observed

__all__ = ["SHARED", "Units", "masks_repeated", "previous", "units_of"]

# Of a document's examples in a stream so many are compared with each other.
_MOST_OF_DOCUMENT = 300


@dataclass(frozen=True, kw_only=True)
class Units:
    """B examples in the order of the stream."""

    number: NDArray[np.int64]  # (B,) the first example of the same stretch; -1 where it stands in no document
    document: NDArray[np.int64]  # (B,) the first document with that text; -1
    dataset: NDArray[np.int64]  # (B,) -1 where unknown
    size: NDArray[np.int64]  # (B,) pieces of the stretch
    alone: NDArray[np.bool_]  # (B,) this text stands nowhere else in the documents

    def __len__(self) -> int:
        return len(self.number)


def units_of(observed: Observed, corpus: Corpus, *, shared: float = SHARED) -> Units:
    """The units of a stream; two examples are of one if so much of the longer one's stretch is shared."""
    first, second = observed.aligned.first, observed.aligned.second
    one = second.found & (first.document == second.document)
    low = np.where(one, np.minimum(first.start, second.start), first.start)
    high = np.where(one, np.maximum(first.stop, second.stop), first.stop)
    found = first.found
    home = np.where(found, corpus.same_text[np.maximum(first.document, 0)] if len(corpus) else -1, -1)
    shift = np.where(found, corpus.start[np.maximum(first.document, 0)] if len(corpus) else 0, 0)
    number = _first_like(home, (low - shift, high - shift), found, shared)
    return Units(
        number=number,
        document=home,
        dataset=observed.aligned.dataset,
        size=np.where(found, high - low, 0),
        alone=first.alone | (one & second.alone),
    )


def _first_like(
    home: NDArray[np.int64],
    stretch: tuple[NDArray[np.int64], NDArray[np.int64]],
    found: NDArray[np.bool_],
    least: float,
) -> NDArray[np.int64]:
    low, high = stretch
    count = len(home)
    number = np.where(found, np.arange(count), -1)
    order = np.argsort(home, kind="stable")
    order = order[found[order]]
    if not len(order):
        return number
    head = np.flatnonzero(np.concatenate([[True], home[order][1:] != home[order][:-1]]))
    sizes = np.diff(np.append(head, len(order)))
    rank = np.arange(len(order)) - np.repeat(head, sizes)
    # Each example with those of its document that came before it.
    before = np.minimum(rank, _MOST_OF_DOCUMENT)
    later = np.repeat(order, before)
    earlier = order[ranges(np.repeat(head, sizes), before)]
    shared = np.minimum(high[later], high[earlier]) - np.maximum(low[later], low[earlier])
    longer = np.maximum(high[later] - low[later], high[earlier] - low[earlier])
    same = shared >= least * longer
    np.minimum.at(number, later[same], earlier[same])
    # The first of the first: chains are short, since what comes before is done before.
    while (number[number] != number)[found].any():
        number = np.where(found, number[number], -1)
    return number


def previous(number: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B,) the last earlier place with the same number, -1 if there is none or the number is -1."""
    order = np.argsort(number, kind="stable")
    result = np.full(len(number), -1, np.int64)
    same = (number[order][1:] == number[order][:-1]) & (number[order][1:] >= 0)
    result[order[1:][same]] = order[:-1][same]
    return result


def masks_repeated(
    one: Observed, other: Observed, pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of pairs of examples (rows of `one`, rows of `other`): whether both hold the same text, and the same masks, too.

    Only examples with several scored places count.
    """
    rows, others = pairs
    width = min(one.layout.tokens.shape[1], other.layout.tokens.shape[1])
    left, right = one.layout, other.layout
    same_text = (left.tokens[rows, :width] == right.tokens[others, :width]).all(axis=1)
    same_text &= left.scored[rows].sum(axis=1) >= _FEWEST_SCORED
    same_masks = (left.scored[rows, :width] == right.scored[others, :width]).all(axis=1)
    return same_text, same_text & same_masks

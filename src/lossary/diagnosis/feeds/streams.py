"""Facts about the order of a training stream: shares, repeats, epochs, resume.

    evidence = Stream.of(observed, corpus, names)
    evidence.repeats(0).early         # how likely so many examples come back so soon

A stream in which each epoch is a permutation is healthy, and so is one drawn with replacement: what is asked is
whether examples come back sooner or less evenly than either gives.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossary.diagnosis.calibration import LEAST_EPOCHS as _EPOCHS
from lossary.diagnosis.calibration import SOON as _SOON
from lossary.diagnosis.feeds.corpus import Corpus
from lossary.diagnosis.feeds.observed import Observed
from lossary.diagnosis.feeds.units import Units, masks_repeated, previous, units_of

__all__ = ["Repeats", "Resumed", "Stream", "repeats", "resumed"]

# An example is back soon if less than this share of all units is between. Drawn with replacement, so many of all
# examples do: 1 − e^(−¼); in shuffled epochs fewer, one in thirty-two.
_SOON_SHARE = 1 - np.exp(-_SOON)


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """How the examples of one dataset come back."""

    examples: int
    counts: NDArray[np.int64]  # (units,) how often each comes
    again: int  # examples that were there before
    soon: int  # examples that were there less than a quarter of all units ago

    @property
    def units(self) -> int:
        return len(self.counts)

    @property
    def early(self) -> float:
        """How likely so many of all examples come back so soon, drawn with replacement; in epochs fewer do.

        Of those that come back at all, most do so soon where a stream is short.
        """
        return float(stats.binom.sf(self.soon - 1, self.examples, _SOON_SHARE)) if self.soon else 1.0

    @property
    def long(self) -> bool:
        """Whether the stream is long enough to tell how evenly examples come."""
        return self.examples >= _EPOCHS * max(1, self.units)

    @property
    def uneven(self) -> float:
        """How likely counts differ as much, where examples are drawn with replacement; in epochs they hardly do."""
        if not self.long or self.units < 2:
            return 1.0
        mean = self.counts.mean()
        return float(stats.chi2.sf(((self.counts - mean) ** 2).sum() / mean, self.units - 1))

    @property
    def often(self) -> tuple[int, int]:
        """Units that come more than twice as often as the one in the middle, and all units."""
        return int((self.counts > 2 * np.median(self.counts)).sum()), self.units

    @property
    def times(self) -> float:
        """How much more often these come."""
        median = float(np.median(self.counts)) if self.units else 1.0
        many = self.counts[self.counts > 2 * median]
        return float(many.mean() / median) if len(many) else 1.0


def repeats(number: NDArray[np.int64]) -> Repeats:
    """The repeats in a sequence of unit numbers."""
    before = previous(number)
    again = before >= 0
    units, counts = np.unique(number, return_counts=True)
    soon = again & (np.arange(len(number)) - before < _SOON * len(units))
    return Repeats(examples=len(number), counts=counts, again=int(again.sum()), soon=int(soon.sum()))


@dataclass(frozen=True)
class Stream:
    """A stream, aligned."""

    observed: Observed
    units: Units
    names: tuple[str, ...]

    @classmethod
    def of(cls, observed: Observed, corpus: Corpus) -> "Stream":
        """The stream of a feed."""
        return cls(observed, units_of(observed, corpus), corpus.names)

    def __len__(self) -> int:
        return len(self.units)

    def rows(self, dataset: int) -> NDArray[np.int64]:
        """The examples of a dataset whose stretch is known; repeated text is no repeated example, and is left out."""
        return np.flatnonzero((self.units.dataset == dataset) & (self.units.number >= 0) & self.units.alone)

    def shares(self) -> NDArray[np.int64]:
        """(D,) examples of each dataset."""
        known = self.units.dataset[self.units.dataset >= 0]
        return np.bincount(known, minlength=len(self.names))[: len(self.names)]

    def repeats(self, dataset: int) -> Repeats:
        """How the examples of a dataset come back."""
        return repeats(self.units.number[self.rows(dataset)])

    def later(self, dataset: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places (in the dataset's part of the stream) of repeats that are epochs apart, and of what they repeat."""
        rows = self.rows(dataset)
        before = previous(self.units.number[rows])
        place = np.arange(len(rows))
        far = (before >= 0) & (place - before >= _SOON * len(np.unique(self.units.number[rows])))
        return place[far], before[far]

    def same_order(self, dataset: int) -> tuple[int, int]:
        """Repeats at the commonest distance, and all repeats, an epoch apart."""
        place, before = self.later(dataset)
        if not len(place):
            return 0, 0
        return int(np.bincount(place - before).max()), len(place)

    def same_masks(self, dataset: int) -> tuple[int, int]:
        """Examples with the same text as an epoch before that have the same masks, too; and how many have that text."""
        place, before = self.later(dataset)
        rows = self.rows(dataset)
        text, masks = masks_repeated(self.observed, self.observed, (rows[place], rows[before]))
        return int(masks.sum()), int(text.sum())


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """How a resumed stream goes on."""

    examples: int
    matching: int  # that stand where the uninterrupted stream has them
    shift: int  # by how many examples it is behind (negative) or ahead, at best
    matching_shifted: int  # that stand where the uninterrupted stream has them, shifted
    seen: int  # that were there before the interruption, where the uninterrupted stream has none
    absent: int  # that the uninterrupted stream does not have at all


def resumed(whole: Units, part: NDArray[np.int64], at: int) -> Resumed:
    """Compares the numbers of a resumed stream's units with the whole stream's from example `at` on.

    Both are numbered together, so that equal numbers are equal stretches.
    """
    number = whole.number
    count = min(len(part), len(number) - at)
    part = part[:count]
    straight = number[at : at + count]
    usable = part >= 0
    matching = int((usable & (part == straight)).sum())
    shifts = _shifts(number, part, at)
    values, votes = np.unique(shifts, return_counts=True)
    shift = int(values[np.argmax(votes)]) if len(values) else 0
    seen_before = np.isin(part, number[:at]) & usable
    seen_anyway = np.isin(straight, number[:at])
    return Resumed(
        examples=int(usable.sum()),
        matching=matching,
        shift=shift,
        matching_shifted=int(votes.max(initial=0)),
        seen=int((seen_before & ~seen_anyway).sum()),
        absent=int((usable & ~np.isin(part, number)).sum()),
    )


def _shifts(number: NDArray[np.int64], part: NDArray[np.int64], at: int) -> NDArray[np.int64]:
    """Of each example of a resumed stream how far from its place the whole stream has it, for all places that do."""
    order = np.argsort(number, kind="stable")
    low, high = (np.searchsorted(number[order], part, side) for side in ("left", "right"))
    count = np.where(part >= 0, high - low, 0)
    which = np.repeat(np.arange(len(part)), count)
    flat = np.repeat(low - np.cumsum(count) + count, count) + np.arange(count.sum())
    return order[flat] - (at + which)

"""Which rates of a feed deviate from healthy ones, and whether a faulty reference has the same.

    baseline = Baseline.of(reference_rates, [rates_of_another_style], side)
    baseline.alarms(side_rates)              # (F, G) in units of the critical value: above 1 deviates
    baseline.distance(side_rates, mixture)   # the same against the rates of a reference with faults

Every rate is tested exactly: a binomial test where the healthy rate is known or bounded, Fisher's test against counts
of a faulty reference. Counts of one example go together, so they are shrunk by how much examples differ. The family of
all facts and datasets is held at one level (Bonferroni, the first step of Holm's procedure).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from lossary.data.assemble import Settings
from lossary.diagnosis.calibration import (
    ALARM_LEVEL,
    CHANCE_MOVED,
    CHANCE_ODDS,
    FLOOR_HARD,
    FLOOR_INVARIANT,
    HALF_AN_EXAMPLE,
    NEAR_ODDS,
    REPRODUCED_LEVEL,
)
from lossary.diagnosis.calibration import NONE_OF as _NONE_OF
from lossary.diagnosis.calibration import UNMOVED as _UNMOVED
from lossary.diagnosis.feeds.facts import FACTS, MOST_HELD_OUT, ROWS, Kind
from lossary.diagnosis.feeds.observed import Observed
from lossary.diagnosis.feeds.rates import Rates

__all__ = ["NEVER", "ALARM_LEVEL", "REPRODUCED_LEVEL", "Baseline", "Counts", "detectable_dose", "moves"]

# What never happens by construction, where nothing of the kind was seen in the reference: one example of some hundred
# is no deviation yet (two are), but one is where no alignment is involved.
_FLOORS = {Kind.HARD: FLOOR_HARD, Kind.INVARIANT: FLOOR_INVARIANT}
_FARTHEST = 37.0  # standard deviations; smaller probabilities than there are floats


def _facts_of(kind: Kind) -> NDArray[np.bool_]:
    """(F,) which facts are of a kind."""
    return np.array([fact.kind is kind for fact in FACTS.values()])


_HARD, _INVARIANT = _facts_of(Kind.HARD), _facts_of(Kind.INVARIANT)
NEVER = _HARD | _INVARIANT  # (F,) facts that healthy examples do not have
_DECLARED, _MEASURED, _COMPARED = _facts_of(Kind.DECLARED), _facts_of(Kind.MEASURED), _facts_of(Kind.COMPARED)
_CHANCE = _facts_of(Kind.CHANCE)
_SHARES = {ROWS[name]: ROWS[fact.share] for name, fact in FACTS.items() if fact.share}
# Rates that differ between healthy makers, within bounds; a fault that changes one scales its bounds.
_SCALED = np.isin(list(FACTS), ["mask-rate", "unknown-pieces", "input-unknown"]) | _facts_of(Kind.NEAR)


class Counts(NamedTuple):
    """Expected counts (F, G)."""

    k: NDArray[np.float64]
    n: NDArray[np.float64]

    @property
    def rate(self) -> NDArray[np.float64]:
        return np.divide(self.k, self.n, out=np.zeros_like(self.k), where=self.n > 0)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Bounds (F, G) of healthy rates."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    tests: int

    @classmethod
    def of(
        cls,
        healthy: Sequence[Rates],
        side: Observed,
        settings: Settings,
        *,
        vocabulary_size: int,
        unknown: NDArray[np.float64],
        evaluation: bool = False,
    ) -> Self:
        """Bounds from what facts are, from the reference in healthy styles, and from declared settings.

        `unknown` (G,) are the shares of <unk> in the documents by the side's tokenizer. Examples of an `evaluation` are
        made of as few documents as one likes.
        """
        low, high = np.zeros_like(side.rates.k), np.ones_like(side.rates.k)
        for name, fact in FACTS.items():
            row = ROWS[name]
            if fact.kind in _FLOORS:
                high[row] = np.max([_noise(rates, row, _FLOORS[fact.kind]) for rates in healthy], axis=0)
            elif fact.kind is Kind.DECLARED:
                low[row], high[row] = fact.declared
            elif fact.kind is Kind.NEAR:
                found = [np.where(rates.n[row] > 0, _rate(rates, name), 0.5) for rates in healthy]
                low[row], high[row] = _within_odds(found, NEAR_ODDS)
            elif fact.kind is Kind.CHANCE:
                low[row], high[row] = _within_odds([side.chance[name]], CHANCE_ODDS)
        # A random piece is the right one, or <unk> or [MASK], now and then.
        chance = 0.1 * 6 / vocabulary_size
        high[ROWS["input-masked"]] += chance
        high[ROWS["input-kept"]] += chance
        low[ROWS["input-random"]] -= chance
        high[ROWS["input-unknown"]] = chance
        rates = [_rate(rates, "unknown-pieces") for rates in healthy]
        high[ROWS["unknown-pieces"]] = np.minimum(1.0, 1.5 * np.max([*rates, unknown], axis=0) + 0.002)
        row = ROWS["first-line-missing"]
        high[row] = np.max(
            [*(_noise(rates, row, 1e-4) for rates in healthy), _noise(side.rates, ROWS["last-line-missing"], 0.0)],
            axis=0,
        )
        row = ROWS["document-unused"]
        high[row] = 1.0 if evaluation else _kept_out(healthy[0], MOST_HELD_OUT)
        row = ROWS["mask-rate"]
        low[row], high[row] = _mask_rates(side, healthy, settings)
        tested = (side.rates.n > 0) & ~_COMPARED[:, None]
        return cls(low=low, high=high, tests=max(1, int(tested.sum() + (tested & _DECLARED[:, None]).sum())))

    def alarms(self, side: Rates) -> NDArray[np.float64]:
        """(F, G) how far rates are outside of the healthy bounds; above 1 is a deviation."""
        z = _outside(side, self.low, self.high)
        z[_COMPARED] = 0.0
        return z / self.critical(ALARM_LEVEL)

    def distance(
        self, side: Rates, base: Counts, mixture: Counts, *, shows: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """(F, G) how far rates are from those of a reference, of counts `base` without faults; at most 1: the same.

        A fact that the faults do not move is held to its healthy bounds, and deviates where it would raise an alarm.
        `shows` (F,) are facts in which the faults may show, whether or not they do in the reference's examples.
        """
        moved = moves(base, mixture)
        # What faults bring about in some examples may by chance be missing from the reference's.
        brought = moved.any(axis=1) if shows is None else moved.any(axis=1) | shows
        struck = (brought & (_INVARIANT | _MEASURED))[:, None] & moved.any(axis=0)
        z = _outside(side, self.low, self.high)
        z[~moved & _COMPARED[:, None]] = 0.0
        scaled = moved & _SCALED[:, None] & (base.rate > 0)
        z = np.where(scaled, self._rescaled(side, base, mixture), z)
        counted = (moved & ~scaled) | (struck & ~_SCALED[:, None])
        z = np.where(counted, self._two_samples(side, mixture, exact=~struck), z)
        for row, share in _SHARES.items():
            z[row] = np.where(moved[row] & (mixture.k[row] > HALF_AN_EXAMPLE), z[share], z[row])
            scaled[row] |= scaled[share]
            counted[row] |= counted[share]
        # What faults alone bring about, and the side never shows, speaks against them without regard to other tests.
        absent = counted & moved & (base.k < HALF_AN_EXAMPLE) & (side.k < HALF_AN_EXAMPLE)
        alarm, reproduced = self.critical(ALARM_LEVEL), self.critical(REPRODUCED_LEVEL)
        bound = np.select([absent, scaled | counted], [stats.norm.isf(REPRODUCED_LEVEL), reproduced], alarm)
        return np.asarray(z / bound, np.float64)

    def _rescaled(self, side: Rates, base: Counts, mixture: Counts) -> NDArray[np.float64]:
        """(F, G) tests against bounds that move as the reference's rate does; a budget may follow a fault, or not."""
        scale = np.divide(mixture.rate, base.rate, out=np.ones_like(base.rate), where=base.rate > 0)
        lower, upper = np.minimum(1.0, scale), np.maximum(1.0, scale)
        return _outside(side, self.low * lower, np.clip(self.high * upper, 0, 1))

    def _two_samples(self, side: Rates, mixture: Counts, exact: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(F, G) Fisher's test of the side's counts against a mixture's.

        Where `exact`, none or all in the mixture means none or all in the side.
        """
        shrink = side.inflation()
        floor = np.where(_HARD[:, None], _FLOORS[Kind.HARD], _FLOORS[Kind.INVARIANT]) + np.zeros_like(side.k)
        noise = np.where(_COMPARED[:, None] | _DECLARED[:, None], floor, np.maximum(self.high, floor))
        # Of choices, none of a few is not never.
        few = np.where(_COMPARED[:, None], _NONE_OF / np.maximum(mixture.n, _NONE_OF), 0.0)
        floor, noise = np.maximum(floor, few), np.maximum(noise, few)
        never = exact & (mixture.k < HALF_AN_EXAMPLE)
        always = exact & ~never & (mixture.n - mixture.k < HALF_AN_EXAMPLE)
        z = np.where(never, _outside(side, np.zeros_like(noise), noise), 0.0)
        z = np.where(always, _outside(side, 1 - floor, np.ones_like(noise)), z)
        k, n = np.rint(side.k / shrink), np.rint(side.n / shrink)
        m_k, m_n = np.rint(mixture.k / shrink), np.rint(mixture.n / shrink)
        usable = ~never & ~always & (n > 0) & (m_n > 0)
        total, hits = (n + m_n)[usable], (k + m_k)[usable]
        above = stats.hypergeom.sf(k[usable] - 1, total, hits, n[usable])
        below = stats.hypergeom.cdf(k[usable], total, hits, n[usable])
        z[usable] = _z(np.minimum(1.0, np.minimum(above, below)))
        # What faults give no example of cannot be compared with them: it is held to healthy bounds, if there are any.
        healthy = np.where(_COMPARED[:, None] | _DECLARED[:, None], 0.0, _outside(side, self.low, self.high))
        return np.where((mixture.n < HALF_AN_EXAMPLE) | (side.n == 0), healthy, z)

    def critical(self, level: float) -> float:
        """Standard deviations from which on one of the tests rejects, all together at a level."""
        return float(stats.norm.isf(level / self.tests))


def _within_odds(
    rates: Sequence[NDArray[np.float64]], factor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(G,) rates whose odds are at most `factor` times less or more than those of some of `rates`."""
    odds = [rate / np.maximum(1 - rate, 1e-9) for rate in rates]
    least, most = np.min(odds, axis=0) / factor, np.max(odds, axis=0) * factor
    return least / (1 + least), most / (1 + most)


def moves(base: Counts, mixture: Counts) -> NDArray[np.bool_]:
    """(F, G) which rates faults change; draws made anew are others, and that is no change."""
    spread = base.rate * (1 - base.rate)
    least = np.where((_COMPARED | _CHANCE)[:, None], _UNMOVED * np.minimum(base.rate, 1 - base.rate), 0.0) + 1e-9
    noise = np.sqrt(spread / np.maximum(base.n, 1) + spread / np.maximum(mixture.n, 1))
    least = np.where(_CHANCE[:, None], np.maximum(least, CHANCE_MOVED * noise), least)
    return (np.abs(mixture.rate - base.rate) > least) | ((mixture.n > 0) & (base.n == 0))


def _z(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal deviates of one-sided probabilities, 0 from one half on."""
    z: NDArray[np.float64] = stats.norm.isf(np.maximum(p, 1e-300))
    return np.clip(z, 0.0, _FARTHEST)


def _outside(side: Rates, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F, G) exact binomial tests of rates above `high` or below `low`, as normal deviates."""
    shrink = side.inflation()
    k, n = side.k / shrink, side.n / shrink
    above, below = np.ones_like(k), np.ones_like(k)
    some = (k > 0) & (high < 1)
    above[some] = special.betainc(k[some], (n - k)[some] + 1, high[some])
    rest = (n > k) & (low > 0)
    below[rest] = special.betainc((n - k)[rest], k[rest] + 1, 1 - low[rest])
    return np.maximum(_z(above), _z(below))


def _noise(rates: Rates, row: int, floor: float) -> NDArray[np.float64]:
    """(G,) an upper bound of a rate that is small: two standard deviations and one event above what was counted."""
    k, n = rates.k[row], rates.n[row]
    return np.where(k > 0, np.minimum(1.0, (k + 2 * np.sqrt(k) + 1) / np.maximum(n, 1)), floor)


def _kept_out(rates: Rates, share: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """(G,) documents that stand in no example if a share of those that do in the reference are kept out."""
    rate = _rate(rates, "document-unused")
    return rate + (1 - rate) * share


def _rate(rates: Rates, name: str) -> NDArray[np.float64]:
    return np.nan_to_num(rates.rate(name))


def _mask_rates(
    side: Observed, healthy: Sequence[Rates], settings: Settings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds (G,) of scored pieces by piece: the rate of the text alone, rounded down, to that of all, rounded up.

    The lower one allows for n-grams that do not fit any more, as often as in the reference.
    """
    lengths, groups = side.lengths.astype(np.float64), side.rates.k.shape[1]
    most = settings.max_predictions or np.inf
    low = np.minimum(most, np.floor(settings.mask_rate * np.maximum(lengths - 3, 0)))
    high = np.minimum(most, np.maximum(1, np.ceil(settings.mask_rate * lengths)))
    total = np.maximum(1, np.bincount(side.group, lengths, groups))
    achieved = np.min([_rate(rates, "mask-rate") for rates in healthy], axis=0) / settings.mask_rate
    achieved = np.where((achieved > 0) & (achieved < 1), achieved, 1.0)
    low_rate = np.bincount(side.group, low, groups) / total * achieved
    return low_rate, np.bincount(side.group, high, groups) / total


def detectable_dose(examples: int, *, kind: Kind = Kind.INVARIANT, chance: float = 0.95) -> float:
    """The smallest dose that is found with this chance in so many examples that a fault can strike.

    One example is enough for what is seen without looking into documents, two for the rest.
    """
    needed = 1 if kind is Kind.HARD else 2
    doses = np.geomspace(1e-5, 1, 20001)
    found = stats.binom.sf(needed - 1, examples, doses)
    return float(doses[np.argmax(found >= chance)])

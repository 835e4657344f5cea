"""Answers before all examples are scored: looks at fixed numbers of examples, and intervals that hold at all of them.

    monitor = Monitor(rule="obrien-fleming", looks=looks_of(20_000), level=0.05 / 4, margin=0.01)
    monitor.at(2, estimate, skewness=skewness_of_mean(y, x))    # Seen(low, high, answer) of the first three windows

What is estimated is the number of the population that examples are drawn from, in random order. An interval covers it
at every look at once with probability 1 − level, so that it also does at the one where somebody stops, for whatever
reason. An answer is read off it: "differs" if no number within the margin is in it, "equal" if no other is. Two rules
say how wide it is:

    obrien-fleming   a sequence of one-sided tests at looks that are fixed beforehand; the error that they may make is
                     spent as α(t) = 2 − 2Φ(z_{α/2} / √t) at a share t of the examples: next to nothing early, so
                     that the last look is nearly as sharp as a test that never looked
    anytime          an asymptotic confidence sequence, which holds at any number of examples: it stays valid where
                     looks are more, or others, than were planned, and is wider at the end

Both are exact for a sum that behaves as Brownian motion; critical values of the first are those of Student's t with
the examples seen, moved outwards by what their skewness adds (Cornish and Fisher's first term, for a studentised mean)
and never inwards: the skewness of a heavy-tailed sample is mostly chance, and both its errors together would be more
than one of them.

Sources: Johnson (JASA 1978) for that term; O'Brien and Fleming (Biometrics 1979), Lan and DeMets (Biometrika 1983) for
spending; Armitage, McPherson and Rowe (JRSS A 1969) for the recursion; Jennison and Turnbull (JRSS B 1989) for repeated
intervals; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Annals of Statistics 2024) for confidence sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, log, pi, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from lossary.statistics.equivalence import Answer
from lossary.statistics.estimates import Estimate

__all__ = [
    "LEAST_CHANGED",
    "RULES",
    "Monitor",
    "Rule",
    "Seen",
    "crossing_probability",
    "looks_of",
    "skewness_of_mean",
    "spending_levels",
    "variance_saved",
]

Rule = Literal["obrien-fleming", "anytime"]
RULES: tuple[Rule, ...] = ("obrien-fleming", "anytime")
# Fewer answers that changed are no sample that a normal law describes: a change as rare has not been seen yet.
LEAST_CHANGED = 20
# More looks save little and cost power; fewer examples than this are no sample that a normal law describes.
_LOOKS, _FEWEST = 10, 100
# The skewness of a few examples of a long tail is smaller than that of all: by about so many parts of n. Chosen so that
# 400 differences with lognormal noise give false answers in less than 5 % of 10,000 streams.
_FEW_SKEWED = 200
# Error below this is not spent: no critical value can be found for it in double precision.
_LEAST_SPENT = 1e-14
_NODES, _REACH, _HALVINGS = 400, 8.0, 60


def looks_of(examples: int) -> tuple[int, ...]:
    """How many of so many examples (1 or more) are scored at each look: tenths, or parts of a hundred at least."""
    count = max(1, min(_LOOKS, examples // _FEWEST))
    return tuple(round(examples * (look + 1) / count) for look in range(count))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a look shows; the interval is None where no number bounds it yet."""

    low: float | None
    high: float | None
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """The looks at one difference. `level` is the chance that it ever answers falsely."""

    rule: Rule
    looks: tuple[int, ...]
    level: float
    margin: float | None = None  # above 0; None: whether there is a difference at all

    def at(self, look: int, estimate: Estimate, *, skewness: float = 0.0) -> Seen:
        """The interval at a look, counted from 0, and whether it answers; `skewness` is that of the mean."""
        if estimate.value is None or estimate.variance is None or not estimate.degrees:
            return Seen(low=None, high=None, answer="undecided")
        if estimate.variance <= 0 and look < len(self.looks) - 1:
            # Examples that all agree say nothing of how the next ones spread.
            return Seen(low=None, high=None, answer="undecided")
        below, above = self._reach(look, estimate, skewness)
        if below == inf:
            return Seen(low=None, high=None, answer="undecided")
        low, high = estimate.value - below, estimate.value + above
        margin = self.margin or 0.0
        answer: Answer = "undecided"
        if low > margin or high < -margin:
            answer = "differs"
        elif -margin < low and high < margin:
            answer = "equal"
        return Seen(low=low, high=high, answer=answer)

    def _reach(self, look: int, estimate: Estimate, skewness: float) -> tuple[float, float]:
        """How far the interval reaches below and above the estimate."""
        deviation, degrees = sqrt(estimate.variance or 0.0), estimate.degrees or 1.0
        if self.rule == "anytime":
            width = deviation * _sequence_width(self.looks[look], self.looks[-1], self.level)
            return width, width
        nominal = spending_levels(tuple(end / self.looks[-1] for end in self.looks), self.level / 2)[look]
        if nominal <= 0:
            return inf, inf
        quantile = -float(stdtrit(degrees, nominal))
        more = skewness * (1 + _FEW_SKEWED / estimate.n) * (2 * quantile * quantile + 1) / 6
        return (quantile + max(0.0, -more)) * deviation, (quantile + max(0.0, more)) * deviation


def skewness_of_mean(y: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """The skewness of the mean residual of the ratio Σy/Σx over examples (n,); 0 where all of them agree."""
    residual = y - y.sum() / x.sum() * x
    residual -= residual.mean()
    largest = float(np.abs(residual).max())
    if largest == 0:
        return 0.0
    scaled = residual / largest
    squares = scaled * scaled
    return float(np.mean(squares * scaled) / np.mean(squares) ** 1.5 / sqrt(len(y)))


def _sequence_width(seen: int, examples: int, level: float) -> float:
    """Standard errors that an asymptotic confidence sequence reaches; it is tuned to half of the examples."""
    rho2 = (-2 * log(level) + log(-2 * log(level)) + 1) / (examples / 2)
    scaled = seen * rho2
    return sqrt(2 * (scaled + 1) / scaled * log(sqrt(scaled + 1) / level))


@lru_cache(maxsize=256)
def spending_levels(fractions: tuple[float, ...], level: float) -> tuple[float, ...]:
    """The nominal one-sided level of each look at ascending shares of the examples (the last is 1); 0 where nothing is
    spent yet. All looks together cross with probability `level` where the truth lies on the bound."""
    z = float(ndtri(level / 2))
    spent = [2 * float(ndtr(z / sqrt(fraction))) for fraction in fractions]
    levels, walk, before = list[float](), _Walk(), 0.0
    for fraction, until in zip(fractions, spent, strict=True):
        bound = walk.bound(fraction, until - before)
        levels.append(float(ndtr(-bound / sqrt(fraction))))
        walk, before = walk.below(fraction, bound), until
    return tuple(levels)


def crossing_probability(fractions: Sequence[float], levels: Sequence[float], *, drift: float = 0.0) -> float:
    """That a Brownian motion with a drift crosses the bounds of some nominal levels at one of the looks at least."""
    walk, crossed = _Walk(drift=drift), 0.0
    for fraction, level in zip(fractions, levels, strict=True):
        bound = inf if level <= 0 else -float(ndtri(level)) * sqrt(fraction)
        crossed += walk.above(fraction, bound)
        walk = walk.below(fraction, bound)
    return crossed


class _Walk(NamedTuple):
    """The density of a Brownian motion that crossed no bound so far: nodes of a quadrature, and the mass at each."""

    at: float = 0.0
    nodes: NDArray[np.float64] = np.zeros(1)
    mass: NDArray[np.float64] = np.ones(1)
    drift: float = 0.0

    def above(self, at: float, bound: float) -> float:
        """The chance to be above a bound at a later time."""
        step = at - self.at
        return float(self.mass @ ndtr((self.nodes + self.drift * step - bound) / sqrt(step)))

    def bound(self, at: float, chance: float) -> float:
        """The bound that it is above with a chance at a later time."""
        if chance < _LEAST_SPENT:
            return inf
        low, high = -_REACH * sqrt(at), _REACH * sqrt(at)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.above(at, middle) > chance else (low, middle)
        return (low + high) / 2

    def below(self, at: float, bound: float) -> "_Walk":
        """What is left below a bound at a later time."""
        reach = _REACH * sqrt(at)
        low, high = self.drift * at - reach, min(bound, self.drift * at + reach)
        points, weights = _quadrature()
        nodes = low + (points + 1) / 2 * (high - low)
        step = at - self.at
        distance = (nodes[:, None] - self.nodes - self.drift * step) / sqrt(step)
        density = np.exp(-distance * distance / 2) @ self.mass / sqrt(2 * pi * step)
        return _Walk(at, nodes, density * weights / 2 * (high - low), self.drift)


@lru_cache(maxsize=1)
def _quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points, weights = np.polynomial.legendre.leggauss(_NODES)
    return points, weights


def variance_saved(estimate: Estimate, *, share: float, more: int) -> float:
    """By how much so many more examples are expected to lower a dataset's part of the variance of a total."""
    if estimate.variance is None or estimate.n == 0:
        return inf
    return share * share * estimate.variance * more / (estimate.n + more)

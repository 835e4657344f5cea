"""Estimates with 95 % intervals from sums over examples.

    ratio      R = Σy/Σx, as MLM nats by masked positions; interval clustered by example: Fieller's, all θ for which
               Student's t does not reject that y − θ·x has mean 0. Unlike the linearised ratio estimator it keeps its
               coverage with a dozen examples of uneven length
    mean       Σy/n, as SOP nats by pair; Student's t with Hall's correction for skewness, since losses are skewed
    proportion k/n, as SOP accuracy over pairs; Wilson's score interval
    accuracy   as a ratio; with few right or wrong Clopper and Pearson's interval of an effective number of positions
    weighted   Σ w·R over datasets that were sampled independently: variances add up; degrees of freedom by Welch and
               Satterthwaite

Sources: Fieller (JRSS B 1954); Hall (JRSS B 1992), On the removal of skewness by transformation; Wilson (JASA 1927);
Satterthwaite (Biometrics 1946); Korn, Graubard (Survey Methodology 1998) for few of a kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

__all__ = [
    "LEVEL",
    "Estimate",
    "MeanSums",
    "RatioSums",
    "accuracy",
    "mean",
    "proportion",
    "ratio",
    "within",
    "weighted_mean",
]

LEVEL = 0.95
# Right positions, or wrong ones, as independent ones would be counted, below which the exact interval is taken.
_FEW = 12
# So many positions of an example count as one where all are right or none: how alike they are cannot be seen there.
_MOST_ALIKE = 3.0
# Sums beyond this overflow when they are squared; no loss comes near it.
_LARGEST = 1e100


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, or the reason why there is none; `low` and `high` bound it at 95 %, or are None for the same reason."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0  # examples, or pairs
    variance: float | None = None
    degrees: float | None = None  # of freedom of the variance
    method: str = ""
    reason: str | None = None


class RatioSums(NamedTuple):
    """Sums over examples of y, x, y², x·y and x²; enough for a ratio and its variance."""

    n: int
    y: float
    x: float
    yy: float
    xy: float
    xx: float

    @classmethod
    def of(cls, y: NDArray[np.float64], x: NDArray[np.float64]) -> Self:
        """The sums over y, x: (n,)."""
        return cls(len(y), float(y.sum()), float(x.sum()), float(y @ y), float(x @ y), float(x @ x))


class MeanSums(NamedTuple):
    """Sums over examples of y, y² and y³; enough for a mean, its variance and its skewness."""

    n: int
    y: float
    yy: float
    yyy: float

    @classmethod
    def of(cls, y: NDArray[np.float64]) -> Self:
        """The sums over y: (n,)."""
        squares = y * y
        return cls(len(y), float(y.sum()), float(squares.sum()), float(squares @ y))


_BEYOND = "losses beyond every bound: their sums are no numbers"


def _usable(sums: Sequence[float]) -> bool:
    return all(isfinite(value) and abs(value) < _LARGEST for value in sums)


def ratio(sums: RatioSums) -> Estimate:
    """Σy/Σx with Fieller's interval, clustered by example; y may be negative, as a difference of losses is.

    `variance` is that of a t interval of the same width, so that totals can add it up.
    """
    n = sums.n
    if n == 0 or sums.x <= 0:
        return Estimate(value=None, n=n, reason="no example" if n == 0 else "nothing to divide by")
    if not _usable(sums):
        return Estimate(value=None, n=n, reason=_BEYOND)
    value = sums.y / sums.x
    if n < 2:
        return Estimate(value=value, n=n, method="cluster95", reason="no interval: one example")
    x, y = sums.x / n, sums.y / n
    quantile = float(stdtrit(n - 1, 0.5 + LEVEL / 2))
    # Variances of the means times the squared quantile; rounding may leave a tiny negative where all examples agree.
    scale = quantile**2 / (n * (n - 1))
    vx = scale * max(0.0, sums.xx - n * x * x)
    vy = scale * max(0.0, sums.yy - n * y * y)
    vxy = scale * (sums.xy - n * x * y)
    a, b, c = x * x - vx, x * y - vxy, y * y - vy
    if a <= 0:
        return Estimate(value=value, n=n, method="cluster95", reason="no interval: too few examples of uneven length")
    root = sqrt(max(0.0, b * b - a * c))
    low, high = min((b - root) / a, value), max((b + root) / a, value)
    return Estimate(
        value=value,
        low=low,
        high=high,
        n=n,
        variance=((high - low) / (2 * quantile)) ** 2,
        degrees=n - 1,
        method="cluster95",
    )


def within(estimate: Estimate, least: float, most: float) -> Estimate:
    """The estimate with an interval that holds no number which cannot be."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=min(max(estimate.low, least), most), high=max(min(estimate.high, most), least))


def accuracy(sums: RatioSums) -> Estimate:
    """Right positions by masked ones, clustered by example, within 0 and 1.

    Where few are right, or all but a few, their spread says little: the exact interval of a proportion, of as many
    positions as would have that spread if each was drawn by itself (Korn and Graubard).
    """
    found = ratio(sums)
    if found.value is None:
        return found
    if found.variance is None:
        # One example: no spread between examples.
        return proportion(sums.n if sums.y else 0, sums.n) if sums.y in (0.0, sums.x) else within(found, 0.0, 1.0)
    p, alike = found.value, max(sums.n, sums.x / _MOST_ALIKE)
    is_mixed = found.variance > 0 and 0 < p < 1
    drawn = min(p * (1 - p) / found.variance, sums.x) if is_mixed else alike
    if drawn * min(p, 1 - p) >= _FEW:
        return within(found, 0.0, 1.0)
    quantiles = float(ndtri(0.5 + LEVEL / 2)), float(stdtrit(sums.n - 1, 0.5 + LEVEL / 2))
    return _exact(p, drawn * (quantiles[0] / quantiles[1]) ** 2, sums.n)


def _exact(value: float, drawn: float, n: int) -> Estimate:
    """Clopper and Pearson's interval of a share of so many draws, which need be no whole number."""
    successes, failures, tail = drawn * value, drawn * (1 - value), (1 - LEVEL) / 2
    smooth = (successes + 1) / (drawn + 2)
    return Estimate(
        value=value,
        low=float(betaincinv(successes, failures + 1, tail)) if successes > 0 else 0.0,
        high=float(betaincinv(successes + 1, failures, 1 - tail)) if failures > 0 else 1.0,
        n=n,
        variance=smooth * (1 - smooth) / drawn,
        degrees=max(1, n - 1),
        method="exact95",
    )


def mean(sums: MeanSums) -> Estimate:
    """Σy/n with Student's t, corrected for skewness."""
    n = sums.n
    if n == 0:
        return Estimate(value=None, reason="no pair")
    if not _usable(sums):
        return Estimate(value=None, n=n, reason=_BEYOND)
    value = sums.y / n
    if n < 3:
        return Estimate(value=value, n=n, method="t95", reason="no interval: fewer than three examples")
    second = max(0.0, sums.yy / n - value**2)
    deviation = sqrt(second * n / (n - 1) / n)
    quantile = float(stdtrit(n - 1, 0.5 + LEVEL / 2))
    if second <= 1e-30 + 1e-24 * value**2:
        return Estimate(value=value, low=value, high=value, n=n, variance=0.0, degrees=n - 1, method="t95")
    third = sums.yyy / n - 3 * value * sums.yy / n + 2 * value**3
    skewness = third / second**1.5 * sqrt(n * (n - 1)) / (n - 2) / sqrt(n)
    low = value - _unskewed(quantile, skewness) * deviation
    high = value - _unskewed(-quantile, skewness) * deviation
    return Estimate(value=value, low=low, high=high, n=n, variance=deviation**2, degrees=n - 1, method="t95")


def _unskewed(quantile: float, skewness: float) -> float:
    """The studentised mean that Hall's cubic maps to a quantile; `skewness` is that of the mean."""
    if abs(skewness) < 1e-9:
        return quantile
    return 3 / skewness * (float(np.cbrt(1 + skewness * (quantile - skewness / 6))) - 1)


def proportion(successes: int, n: int) -> Estimate:
    """successes/n with Wilson's interval."""
    if n == 0:
        return Estimate(value=None, reason="no pair")
    p = successes / n
    z = float(ndtri(0.5 + LEVEL / 2))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The variance with a pseudo-count: a total must not become certain because one of its parts is 0 or 1.
    smooth = (successes + 1) / (n + 2)
    return Estimate(
        value=p,
        low=max(0.0, centre - half) if successes else 0.0,
        high=min(1.0, centre + half) if successes < n else 1.0,
        n=n,
        variance=smooth * (1 - smooth) / n,
        degrees=max(1, n - 1),
        method="wilson95",
    )


def weighted_mean(parts: Sequence[tuple[float, Estimate]]) -> Estimate:
    """Σ w·value / Σ w over independent estimates; None if one of them is."""
    total = sum(weight for weight, _ in parts)
    n = sum(part.n for _, part in parts)
    if not parts or total <= 0:
        return Estimate(value=None, n=n, reason="no dataset has this metric")
    missing = [part.reason or "a dataset has no value" for _, part in parts if part.value is None]
    if missing:
        return Estimate(value=None, n=n, reason=missing[0])
    value = sum(weight * (part.value or 0.0) for weight, part in parts) / total
    if any(part.variance is None or not part.degrees for _, part in parts):
        return Estimate(value=value, n=n, method="welch95", reason="no interval: a dataset has a single example")
    variances = [((weight / total) ** 2 * (part.variance or 0.0), part.degrees or 1.0) for weight, part in parts]
    variance = sum(v for v, _ in variances)
    below = sum(v * v / degrees for v, degrees in variances)
    degrees = variance**2 / below if below > 0 else float(n)
    half = float(stdtrit(degrees, 0.5 + LEVEL / 2)) * sqrt(variance)
    return Estimate(
        value=value, low=value - half, high=value + half, n=n, variance=variance, degrees=degrees, method="welch95"
    )

"""Estimates with 95 % intervals from sums over examples.

    ratio      R = Σy/Σx, as MLM nats by masked positions; interval clustered by example (linearised ratio estimator):
               Var(R) = n/(n−1) · Σ(y − R·x)² / (Σx)², Student's t with n − 1 degrees of freedom
    proportion k/n, as SOP accuracy over pairs; Wilson's score interval
    weighted   Σ w·R over datasets that were sampled independently: variances add up; degrees of freedom by Welch and
               Satterthwaite

Sources: Cochran, Sampling Techniques (1977), section 6; Wilson (JASA 1927); Satterthwaite (Biometrics 1946).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from scipy.stats import norm, t

__all__ = ["Estimate", "RatioSums", "proportion", "ratio", "weighted_mean"]

LEVEL = 0.95


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


def ratio(sums: RatioSums) -> Estimate:
    """Σy/Σx with an interval clustered by example."""
    if sums.n == 0 or sums.x <= 0:
        return Estimate(value=None, n=sums.n, reason="no example" if sums.n == 0 else "nothing to divide by")
    value = sums.y / sums.x
    method = "cluster95"
    if sums.n < 2:
        return Estimate(value=value, n=sums.n, method=method, reason="no interval: one example")
    # Rounding may leave a tiny negative sum where all examples agree.
    residuals = max(0.0, sums.yy - 2 * value * sums.xy + value * value * sums.xx)
    variance = sums.n / (sums.n - 1) * residuals / sums.x**2
    half = float(t.ppf(0.5 + LEVEL / 2, sums.n - 1)) * sqrt(variance)
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        n=sums.n,
        variance=variance,
        degrees=sums.n - 1,
        method=method,
    )


def proportion(successes: int, n: int) -> Estimate:
    """successes/n with Wilson's interval."""
    if n == 0:
        return Estimate(value=None, reason="no pair")
    p = successes / n
    z = float(norm.ppf(0.5 + LEVEL / 2))
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
    half = float(t.ppf(0.5 + LEVEL / 2, degrees)) * sqrt(variance)
    return Estimate(
        value=value, low=value - half, high=value + half, n=n, variance=variance, degrees=degrees, method="welch95"
    )

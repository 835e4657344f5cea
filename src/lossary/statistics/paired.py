"""Differences between two runs that were scored on the same examples.

A difference of losses is a ratio, too: Σ(y_b − y_a) / Σx with the same x, so that what makes an example hard for both
runs cancels. A difference of accuracies over pairs follows from the discordant ones alone.

Sources: Agresti, Min (Biometrics 2005) for paired proportions; Cochran (Biometrics 1954) for Q.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

from scipy.special import chdtrc, ndtri, stdtr

from lossary.statistics.estimates import LEVEL, Estimate

__all__ = ["RESOLUTION", "differs_p", "heterogeneity_p", "one_sided_p", "paired_proportion", "resolved"]

# Nats: what rounding may leave of a mean over examples, whatever their number. Losses come from single precision. Two
# backends on the same weights differ by 1e-8, on weights that they trained by one recipe by some 1e-7.
RESOLUTION = 1e-6


def resolved(difference: Estimate) -> Estimate:
    """A difference of losses with what rounding may leave of it as one more part of its variance.

    One a hundred times as large stays to the bit: there it says nothing.
    """
    if not difference.value or difference.variance is None or abs(difference.value) > 100 * RESOLUTION:
        return difference
    low, high = difference.low, difference.high
    return replace(
        difference,
        low=None if low is None else low - RESOLUTION,
        high=None if high is None else high + RESOLUTION,
        variance=difference.variance + RESOLUTION**2,
    )


def paired_proportion(*, n: int, gained: int, lost: int) -> Estimate:
    """(gained − lost)/n, two proportions over the same n pairs; Wald's interval after adding two pairs."""
    if n == 0:
        return Estimate(value=None, reason="no pair")
    plus, minus, count = gained + 0.5, lost + 0.5, n + 2
    centre = (plus - minus) / count
    variance = (plus + minus - (plus - minus) ** 2 / count) / count**2
    half = float(ndtri(0.5 + LEVEL / 2)) * sqrt(variance)
    value = (gained - lost) / n
    return Estimate(
        value=value,
        low=max(-1.0, min(centre - half, value)),
        high=min(1.0, max(centre + half, value)),
        n=n,
        variance=variance,
        degrees=max(1, n - 1),
        method="paired95",
    )


def differs_p(estimate: Estimate, truth: float = 0.0) -> float | None:
    """Two-sided p that the estimated number is `truth`; None where there is no variance to judge by."""
    if estimate.value is None or estimate.variance is None or not estimate.degrees:
        return None
    if estimate.variance <= 0:
        return 1.0 if estimate.value == truth else 0.0
    return float(2 * stdtr(estimate.degrees, -abs(estimate.value - truth) / sqrt(estimate.variance)))


def one_sided_p(estimate: Estimate, bound: float) -> float | None:
    """p that the estimated number is at most `bound`: small where it is shown to lie above."""
    if estimate.value is None or estimate.variance is None or not estimate.degrees:
        return None
    if estimate.variance <= 0:
        return 0.0 if estimate.value > bound else 1.0
    return float(stdtr(estimate.degrees, (bound - estimate.value) / sqrt(estimate.variance)))


def heterogeneity_p(estimates: Sequence[Estimate]) -> float | None:
    """p that independent estimates have one true value (Cochran's Q against χ²); None for fewer than two.

    With small samples a squared t is larger than χ² says; each part is scaled by the mean of F with its degrees.
    """
    usable = [e for e in estimates if e.value is not None and e.variance is not None and e.variance > 0]
    if len(usable) < 2 or len(usable) < len(estimates):
        return None
    variances = [(e.variance or 0.0) * _inflation(e.degrees) for e in usable]
    total = sum(1 / v for v in variances)
    centre = sum((e.value or 0.0) / v for e, v in zip(usable, variances, strict=True)) / total
    q = sum(((e.value or 0.0) - centre) ** 2 / v for e, v in zip(usable, variances, strict=True))
    return float(chdtrc(len(usable) - 1, q))


def _inflation(degrees: float | None) -> float:
    return degrees / (degrees - 2) if degrees and degrees > 2 else 3.0

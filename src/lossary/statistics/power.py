"""How many examples it takes to see a difference: as it is, with the runs paired, and if they were not.

n = ((z_{1−α/2} + z_{power}) / δ)² · σ²,   σ² = n·Var, the variance that one example contributes
"""

from dataclasses import dataclass
from math import ceil

from scipy.special import ndtri

from lossary.statistics.estimates import LEVEL, Estimate

__all__ = ["Power", "examples_needed"]


@dataclass(frozen=True, kw_only=True)
class Power:
    """Examples that show a difference of this size with the given power at the 5 % level; None where it is 0."""

    paired: int | None
    unpaired: int | None
    power: float


def examples_needed(delta: Estimate, first: Estimate, second: Estimate, *, power: float = 0.8) -> Power:
    """From a paired difference and the two estimates that it lies between."""
    paired = _needed(delta.value, (delta.variance or 0.0) * delta.n, power)
    apart = (first.variance or 0.0) * first.n + (second.variance or 0.0) * second.n
    return Power(paired=paired, unpaired=_needed(delta.value, apart, power), power=power)


def _needed(delta: float | None, variance: float, power: float) -> int | None:
    if not delta:
        return None
    factor = float(ndtri(0.5 + LEVEL / 2) + ndtri(power)) / delta
    return max(2, ceil(factor * factor * variance))

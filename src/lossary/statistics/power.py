"""How many examples it takes to see a difference: as it is, with the runs paired, and if they were not.

n = ((z_{1−α} + z_{power}) / δ)² · σ² at a one-sided level α,   σ² = n·Var, the variance that one example contributes
"""

from dataclasses import dataclass
from math import ceil

from scipy.special import ndtri

from lossary.statistics.estimates import LEVEL, Estimate

__all__ = ["POWER", "Power", "examples_for", "examples_needed"]

POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Power:
    """Examples that show a difference of this size with the given power at the 5 % level; None where it is 0."""

    paired: int | None
    unpaired: int | None
    power: float


def examples_needed(delta: Estimate, first: Estimate, second: Estimate, *, power: float = POWER) -> Power:
    """From a paired difference and the two estimates that it lies between."""
    paired = _needed(delta.value, (delta.variance or 0.0) * delta.n, power)
    apart = (first.variance or 0.0) * first.n + (second.variance or 0.0) * second.n
    return Power(paired=paired, unpaired=_needed(delta.value, apart, power), power=power)


def examples_for(difference: float, spread: float, *, level: float, power: float = POWER) -> int:
    """Examples that show a difference (not 0) at a one-sided level; `spread` is what one of them adds to a variance."""
    factor = float(ndtri(1 - level) + ndtri(power)) / difference
    return max(2, ceil(factor * factor * spread))


def _needed(delta: float | None, spread: float, power: float) -> int | None:
    return examples_for(delta, spread, level=(1 - LEVEL) / 2, power=power) if delta else None

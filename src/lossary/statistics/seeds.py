"""Spread over seeds: what another seed would have changed. A column of its own, never mixed with sampling error."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

__all__ = ["SeedSpread", "seed_spread"]


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """Runs that differ in their seed only."""

    seeds: int
    mean: float
    deviation: float  # sample standard deviation between seeds


def seed_spread(values: Sequence[float]) -> SeedSpread | None:
    """Mean and standard deviation over seeds; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    centre = sum(values) / n
    return SeedSpread(seeds=n, mean=centre, deviation=sqrt(sum((v - centre) ** 2 for v in values) / (n - 1)))

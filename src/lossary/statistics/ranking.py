"""Which of several may be best, and what the spread between seeds allows to tell apart.

    may be best   of K numbers estimated on the same examples: those that no paired test shows to be worse than
                  the best one seen. A number that is truly best is left out in 5 % of cases at most: only its own test
                  can err, against K − 1 others (Bonferroni)
    intervals     of each difference to the best one seen, all K − 1 at once at 95 %
    noise floor   the deviation between runs that differ in their seed alone, pooled over groups, with its χ² interval;
                  two means over seeds are told apart only if they differ by more than that

Sources: Hsu (Annals of Statistics 1984) for multiple comparisons with the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from scipy.special import chdtri, stdtr, stdtrit

from lossary.statistics.estimates import LEVEL, Estimate

__all__ = ["NoiseFloor", "Worse", "noise_floor", "worse_than_best"]


@dataclass(frozen=True, kw_only=True)
class Worse:
    """How far a number lies from the best one seen, on the side that is worse; `p` after Bonferroni."""

    value: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def may_be_best(self) -> bool:
        """Whether nothing shows that it is worse."""
        return self.p is None or self.p >= 1 - LEVEL


def worse_than_best(difference: Estimate, *, candidates: int, lower_is_better: bool) -> Worse | None:
    """A number's paired difference to the best of `candidates`; None without a difference."""
    if difference.value is None:
        return None
    value = difference.value if lower_is_better else -difference.value
    if difference.variance is None or not difference.degrees:
        return Worse(value=value, low=None, high=None, p=None)
    tests = max(1, candidates - 1)
    deviation = sqrt(difference.variance)
    if deviation == 0:
        return Worse(value=value, low=value, high=value, p=0.0 if value > 0 else 1.0)
    half = float(stdtrit(difference.degrees, 1 - (1 - LEVEL) / (2 * tests))) * deviation
    p = min(1.0, tests * float(stdtr(difference.degrees, -value / deviation)))
    return Worse(value=value, low=value - half, high=value + half, p=p)


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """Standard deviation between seeds, pooled over groups of runs that differ in nothing else."""

    deviation: float
    low: float  # 95 %, if seeds move a number as a normal distribution would
    high: float
    degrees: int
    groups: int

    def least_difference(self, first: int = 1, second: int = 1) -> float:
        """The smallest difference of two means over so many seeds that the spread between seeds does not explain."""
        quantile = float(stdtrit(self.degrees, 0.5 + LEVEL / 2))
        return quantile * self.deviation * sqrt(1 / first + 1 / second)


def noise_floor(groups: Sequence[Sequence[float]]) -> NoiseFloor | None:
    """The pooled spread within groups of values; None if no group has two."""
    usable = [group for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in usable)
    if degrees == 0:
        return None
    squares = 0.0
    for group in usable:
        centre = sum(group) / len(group)
        squares += sum((value - centre) ** 2 for value in group)
    return NoiseFloor(
        deviation=sqrt(squares / degrees),
        low=sqrt(squares / float(chdtri(degrees, (1 - LEVEL) / 2))),
        high=sqrt(squares / float(chdtri(degrees, 0.5 + LEVEL / 2))),
        degrees=degrees,
        groups=len(usable),
    )

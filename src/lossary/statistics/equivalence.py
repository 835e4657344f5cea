"""Are two numbers equal within a margin? Three answers, each with an error rate of its own.

    equal       both one-sided tests reject: the difference lies within ±margin
    differs     the difference is shown to be larger than the margin
    undecided   neither; more examples would tell, and how many is estimated

Both claims are about the margin, so that they cannot both be made: where a difference is not 0 but within the margin,
runs are equal for whoever named the margin. Sources: Schuirmann (J. Pharmacokinetics and Biopharmaceutics 1987) for
two one-sided tests; Murphy and Myors (J. Applied Psychology 1999) for tests of a least effect.
"""

from math import sqrt
from typing import Literal, NamedTuple

from scipy.special import stdtr

from lossary.statistics.estimates import LEVEL, Estimate
from lossary.statistics.power import POWER, examples_for

__all__ = ["Answer", "MarginTests", "examples_to_decide", "margin_tests"]

Answer = Literal["equal", "differs", "undecided"]
# A difference that lies so near the margin takes more examples than anybody has.
_MOST = 1e12


class MarginTests(NamedTuple):
    """p-values: small `equal` shows a difference within the margin, small `differs` one beyond it."""

    equal: float
    differs: float


def margin_tests(estimate: Estimate, margin: float) -> MarginTests | None:
    """Both tests of a difference against ±margin; None where there is no variance to judge by. `margin` > 0."""
    if estimate.value is None or estimate.variance is None or not estimate.degrees:
        return None
    size = abs(estimate.value)
    if estimate.variance <= 0:
        return MarginTests(equal=float(size >= margin), differs=float(size <= margin))
    deviation = sqrt(estimate.variance)
    inside = float(stdtr(estimate.degrees, (size - margin) / deviation))
    # At the edge of the margin a difference as large as this comes from either side.
    beyond = stdtr(estimate.degrees, (margin - size) / deviation) + stdtr(
        estimate.degrees, -(margin + size) / deviation
    )
    return MarginTests(equal=inside, differs=min(1.0, float(beyond)))


def examples_to_decide(estimate: Estimate, margin: float, *, tests: int = 1) -> int | None:
    """Examples that decide with power 0.8 if difference and spread are what they seem; None where it lies on the edge.

    `tests` are those that Holm adjusts together: the least favourable of its levels is taken.
    """
    if estimate.value is None or not estimate.variance or estimate.n < 2:
        return None
    distance = abs(margin - abs(estimate.value))
    spread = estimate.variance * estimate.n
    if distance * sqrt(_MOST) <= sqrt(spread):
        return None
    # Equality of a difference near 0 has to hold against both edges.
    power = 1 - (1 - POWER) / (2 if abs(estimate.value) < margin / 10 else 1)
    return examples_for(distance, spread, level=(1 - LEVEL) / max(1, tests), power=power)

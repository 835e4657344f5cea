"""What scores can bear: the fewest examples that each rule needs before it speaks, and why; one table for all rules.

A rule on own scores (a table made from score files) warns only by a test whose p-value, adjusted by Holm, is below the
level. Imported numbers have no n: rules then say what the printed digits allow, and say that nothing was tested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from lossary.statistics.estimates import Estimate, weighted_mean
from lossary.tables.model import Cell, Delta
from lossary.tables.totals import estimate_of

__all__ = ["LEAST", "Least", "bears", "loss_of", "mean_above"]


class Least(NamedTuple):
    """The fewest examples of a dataset (pairs, for SOP) that a rule needs for which test; 0: nothing is sampled."""

    n: int
    test: str
    why: str


_T = "Student's t of a mean of losses skewed to the right errs to the safe side from a handful of examples on"
_COUNTED = "everything there is was counted: nothing is sampled"
_STEPS = "every recorded step is looked at: nothing is sampled"

# Simulated in tests/unit/findings: with so many examples, no more than one healthy study out of twenty is warned of.
LEAST: Mapping[str, Least] = {
    "L101": Least(8, "one-sided t", _T),
    "L102": Least(8, "one-sided t, all datasets of a run", _T),
    "L103": Least(8, "one-sided t, all datasets of a run", _T),
    "L104": Least(8, "t of a new point; one-sided t", "the spread of a loss and of an accuracy have to be estimated"),
    "L105": Least(12, "Cochran's Q of paired differences", "Q weighs by variances that are themselves estimated"),
    "L106": Least(8, "one-sided t, the worst contrast of both runs", _T),
    "L107": Least(8, "t of the difference of totals", "each dataset's part has to have a variance of its own"),
    "L108": Least(
        12, "none", "decisions of equality are tested in a family of their own; a spread has to be estimated"
    ),
    "L109": Least(0, "none", "its intervals hold for all datasets and looks at once: they were tested before"),
    "L201": Least(0, "none", "own totals are computed from their parts; printed ones are judged by their digits"),
    "L202": Least(0, "none", "shares are settings, not samples"),
    "L203": Least(0, "none", _COUNTED),
    "L204": Least(0, "none", _COUNTED),
    "L205": Least(2, "none", "it speaks of the interval itself, and never warns"),
    "L206": Least(0, "none", _COUNTED),
    "L207": Least(0, "none", "examples are the same or not: nothing is sampled"),
    "L301": Least(0, "none", _COUNTED),
    "L302": Least(0, "none", _COUNTED),
    "L303": Least(0, "none", _COUNTED),
    "L304": Least(0, "none", _COUNTED),
    "L305": Least(6, "exact binomial", "five equal labels are no rarer than one in sixteen: no test can tell"),
    "L401": Least(0, "none", _STEPS),
    "L402": Least(0, "none", _STEPS),
    "L403": Least(0, "none", _STEPS),
    "L404": Least(8, "one-sided t, of unpaired losses, times the steps it could have been", _T),
    "L405": Least(12, "one-sided t of two paired changes, times the steps it could have been", _T),
}


def bears(code: str, *numbers: Cell | Delta) -> bool:
    """Whether own scores suffice for a rule's test: a value, a variance, and at least as many examples as it needs."""
    return all(
        number.value is not None and number.variance is not None and number.n >= LEAST[code].n for number in numbers
    )


def loss_of(cell: Cell) -> Estimate:
    """The estimate of a loss, of at least the spread that one more example without any loss would bring.

    Equal losses do not prove that the next one is equal, too.
    """
    found = estimate_of(cell)
    if found.variance is None or found.value is None:
        return found
    return replace(found, variance=max(found.variance, (found.value / (found.n + 1)) ** 2))


def mean_above(cells: Sequence[tuple[Cell, float]]) -> Estimate:
    """How far losses lie above numbers that are known, on average over datasets with equal weights."""
    parts = [(loss_of(cell), floor) for cell, floor in cells]
    return weighted_mean([(1.0, replace(loss, value=(loss.value or 0.0) - floor)) for loss, floor in parts])

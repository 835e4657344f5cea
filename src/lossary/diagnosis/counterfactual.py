"""Counterfactual rescoring: which other way of scoring turns stored scores into the numbers that were reported.

    reported = {"new_views": {"mlm_loss": "4.04", "mlm_accuracy": "51.52"}}
    for told in rescore(scores, reported, vocabulary_size=30000):
        print(told.says, told.numbers["new_views"], told.reproduces_reported)

A hypothesis that gives every reported number it touches, to its printed digits, leads; `coincidence` says how likely
one of those tried would have done so by luck. It may hold in some datasets only: then all others have to be as they
were computed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from typing import Any

from lossary.diagnosis.calibration import LUCK_LEVEL as _LUCK
from lossary.diagnosis.missed import CostlyPositions, MissedShare, costly_positions, missed_share, missed_share_of
from lossary.diagnosis.polarity import SopPolarity, sop_polarity
from lossary.diagnosis.printed import Printed
from lossary.diagnosis.rescoring import SCORINGS, Scoring, Setting, as_computed
from lossary.diagnosis.stored import Scores, read_scores
from lossary.statistics.estimates import Estimate, weighted_mean
from lossary.tables.model import Metric

__all__ = [
    "CostlyPositions",
    "Counterfactual",
    "MissedShare",
    "Printed",
    "Scores",
    "SopPolarity",
    "TotalWeighting",
    "costly_positions",
    "missed_share",
    "missed_share_of",
    "read_scores",
    "rescore",
    "sop_polarity",
    "total_weightings",
]

Numbers = Mapping[Metric, float]
Reported = Mapping[str, Mapping[Metric, "Printed | str | float"]]


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """Numbers by dataset under one way of scoring, and how they fit those reported."""

    names: tuple[str, ...]  # faults; none: as computed
    says: str
    numbers: Mapping[str, Numbers]  # by dataset: those that this way touches
    datasets: tuple[str, ...] = ()  # where it holds; empty: everywhere
    reproduces_reported: bool  # all reported numbers that it touches, and the others as computed
    digits: int  # printed digits that it gives and the usual way does not
    coincidence: float  # chance that one of the ways tried gives them by luck; 1 where it gives none
    gap: Mapping[str, Numbers] = field(default_factory=dict)  # to another run's numbers, as computed
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def leads(self) -> bool:
        """Whether it gives what was reported, and luck is no explanation."""
        return self.reproduces_reported and bool(self.names) and self.coincidence < _LUCK


def rescore(
    scores: Scores,
    reported: Reported | None = None,
    *,
    other: Scores | None = None,
    slots: int | None = None,
    vocabulary_size: int | None = None,
) -> list[Counterfactual]:
    """Every way of scoring, those first that give what was reported; `other` is a run to compare with.

    `reported`: by dataset and metric, as printed ("4.04": known to ±0.005); accuracies as fractions or in percent.
    `slots`: masked positions that an example has room for; without, the most that one has.
    """
    setting = Setting(slots=slots, vocabulary_size=vocabulary_size)
    given = {
        dataset: {metric: Printed.of(value, metric) for metric, value in metrics.items()}
        for dataset, metrics in (reported or {}).items()
    }
    parts = {name: scores.of(name) for name in scores.datasets}
    usual = {name: as_computed(part) for name, part in parts.items()}
    tried = [(scoring, {name: scoring.numbers(part, setting) for name, part in parts.items()}) for scoring in SCORINGS]
    ranges = _ranges([numbers for _, numbers in tried])
    found = [_judged(scoring, numbers, usual, given, ranges) for scoring, numbers in tried]
    if vocabulary_size is not None:
        found += _uniform_share(usual, given, vocabulary_size)
    if other is not None:
        base = {name: as_computed(other.of(name)) for name in other.datasets}
        found = [_with_gap(one, base) for one in found]
    return sorted(found, key=lambda one: (not one.reproduces_reported, len(one.names), one.coincidence, -one.digits))


Ranges = Mapping[tuple[str, Metric], tuple[float, float, int]]


def _ranges(tried: Sequence[Mapping[str, Numbers]]) -> Ranges:
    """The least and the largest number that any way gives, and how many ways do, by dataset and metric."""
    found: dict[tuple[str, Metric], list[float]] = {}
    for numbers in tried:
        for dataset, metrics in numbers.items():
            for metric, value in metrics.items():
                found.setdefault((dataset, metric), []).append(value)
    return {key: (min(values), max(values), len(values)) for key, values in found.items()}


def _judged(
    scoring: Scoring,
    numbers: Mapping[str, Numbers],
    usual: Mapping[str, Numbers],
    given: Mapping[str, Mapping[Metric, Printed]],
    ranges: Ranges,
) -> Counterfactual:
    touched = [(d, m) for d, metrics in given.items() for m in metrics if m in numbers.get(d, {})]
    right = {key: given[key[0]][key[1]].fits(numbers[key[0]][key[1]]) for key in touched}
    before = {key: given[key[0]][key[1]].fits(usual[key[0]][key[1]]) for key in touched if key[1] in usual[key[0]]}
    datasets: tuple[str, ...] = ()
    gives = bool(touched) and all(right.values())
    if scoring.names and touched and not gives:
        # In some datasets only: those that are not as computed.
        off = sorted({key[0] for key in touched if not before.get(key, False)})
        if off and all(right[key] for key in touched if key[0] in off) and len(off) < len({key[0] for key in touched}):
            datasets, gives = tuple(off), True
    won = [key for key in touched if right[key] and not before.get(key, False)]
    if scoring.names and not won:
        gives = False
    if not scoring.names:
        won = [key for key in touched if right[key]]
    return Counterfactual(
        names=scoring.names,
        says=scoring.says,
        numbers={dataset: dict(metrics) for dataset, metrics in numbers.items() if metrics},
        datasets=datasets,
        reproduces_reported=gives,
        digits=sum(given[d][m].digits for d, m in won),
        coincidence=_luck(won, given, ranges) if gives else 1.0,
        values=dict(scoring.values),
    )


def _luck(won: Sequence[tuple[str, Metric]], given: Mapping[str, Mapping[Metric, Printed]], ranges: Ranges) -> float:
    """Ways tried on these numbers × the chance that one anywhere in its range fits, for each that was gained."""
    chance = float(max((ranges[key][2] for key in won), default=1))
    for dataset, metric in won:
        low, high, _ = ranges[dataset, metric]
        chance *= min(1.0, 2 * given[dataset][metric].rounding / (high - low)) if high > low else 1.0
    return min(1.0, chance) if won else 1.0


def _uniform_share(
    usual: Mapping[str, Numbers], given: Mapping[str, Mapping[Metric, Printed]], vocabulary_size: int
) -> list[Counterfactual]:
    """A share f of positions that is guessed uniformly: f from the accuracy, and the loss has to follow."""
    found = []
    for dataset, metrics in given.items():
        loss, accuracy = metrics.get("mlm_loss"), metrics.get("mlm_accuracy")
        now = usual[dataset]
        if loss is None or accuracy is None or not now.get("mlm_accuracy"):
            continue
        shares = [1 - (accuracy.value + sign * accuracy.rounding) / now["mlm_accuracy"] for sign in (0, 1, -1)]
        # Within rounding of none there is nothing to explain.
        if min(shares) <= 0 or shares[0] >= 1:
            continue
        losses = [(1 - f) * now["mlm_loss"] + f * log(vocabulary_size) for f in shares]
        gives = min(losses) - loss.rounding <= loss.value <= max(losses) + loss.rounding
        width = max(losses) - min(losses) + 2 * loss.rounding
        found.append(
            Counterfactual(
                names=("padding-scored",),
                says=f"{100 * shares[0]:.1f} % of positions are scored on top, at what a uniform guess costs",
                numbers={dataset: {"mlm_loss": losses[0], "mlm_accuracy": accuracy.value}},
                datasets=(dataset,),
                reproduces_reported=gives,
                digits=loss.digits if gives else 0,
                # One number is left to be right, anywhere between its usual value and a uniform guess.
                coincidence=min(1.0, width / max(abs(log(vocabulary_size) - now["mlm_loss"]), 1e-9)) if gives else 1.0,
                values={"share": shares[0]},
            )
        )
    return found


def _with_gap(one: Counterfactual, base: Mapping[str, Numbers]) -> Counterfactual:

    gap = {
        dataset: {m: value - base[dataset][m] for m, value in metrics.items() if m in base.get(dataset, {})}
        for dataset, metrics in one.numbers.items()
    }
    return replace(one, gap={dataset: metrics for dataset, metrics in gap.items() if metrics})


@dataclass(frozen=True, kw_only=True)
class TotalWeighting:
    """A total over datasets under one weighting, and whether it is the reported one, to its printed digits."""

    weighting: str
    value: float
    reproduces_reported: bool


def total_weightings(
    values: Mapping[str, float], reported: "Printed | str | float", weightings: Mapping[str, Mapping[str, float]]
) -> list[TotalWeighting]:
    """Which weights over datasets give a reported total, the closest first.

    `weightings`: by name, as validation share, train share, rows, masked positions; equal weights are always tried.
    """
    printed = Printed.of(reported)
    named = {**weightings, "equal weights": dict.fromkeys(values, 1.0)}
    found = []
    for name, weights in named.items():
        total = weighted_mean([(weights.get(d, 0.0), Estimate(value=value)) for d, value in values.items()]).value
        if total is not None:
            found.append(TotalWeighting(weighting=name, value=total, reproduces_reported=printed.fits(total)))
    return sorted(found, key=lambda one: abs(one.value - printed.value))

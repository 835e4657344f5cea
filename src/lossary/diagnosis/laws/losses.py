"""Which losses and metrics a side computes from given outputs: the law that reproduces its numbers on all of them.

    feeds = measure_feeds(feed, seed=1)                          # ragged, so that laws differ
    outputs = [measure_outputs(feed, 800, seed=i) for i, feed in enumerate(feeds)]
    seen = [MeasureObservation(outputs=o, feed=f, measured=side.measure(o, f.arrays())) for …]
    identify_measures(seen)["mlm_loss"].best                     # e.g. mean-of-means

For each number a space of laws is searched: which positions count × what their sum is divided by × a factor, a base of
logarithms, label smoothing. A law is believed if it gives the number of *every* observation to within rounding.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import FIRST_PIECE
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.calibration import LEAST_MEASURED as _FEWEST
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.probes import measure_feeds, measure_outputs
from lossary.diagnosis.laws.ranking import Hypothesis, fit_of
from lossary.diagnosis.laws.ratios import LOG2, NUMBERS, Columns, LossLaw, Number, columns_of
from lossary.diagnosis.laws.reported import ReportedObservation, identify_reported_loss
from lossary.diagnosis.laws.scales import LOG_PART, Trial, factor_part, scaled, smoothing_part, snapped
from lossary.diagnosis.laws.scored import Precision, Sums, mlm_sums, sop_sums
from lossary.diagnosis.laws.totals import identify_total, laws_of_total

__all__ = [
    "MEASURES",
    "MeasureObservation",
    "ReportedObservation",
    "identify_measures",
    "identify_reported_loss",
    "laws_of",
    "measure_feeds",
    "measure_outputs",
    "not_separated",
    "weights_of",
]

MEASURES = ("loss", *NUMBERS)
_KEPT = 40  # hypotheses a way of scaling that are looked at further
_HOW = (
    "each position's loss in float32 in two ways and with logits moved by one unit of their last place{low}, sums from "
    "the front and from the back, against float64; {count} observations, all of which a law has to give"
)


@dataclass(frozen=True, kw_only=True)
class MeasureObservation:
    """What a side said of given outputs.

    `outputs`: `mlm` (B, P, V) at the feed's positions or (B, T, V), `sop` (B, 2). `rounding`: for a number that was
    printed, half a unit of its last digit; for outputs that are known with noise only, what that noise may change.
    """

    outputs: Mapping[str, Any]
    feed: Feed
    measured: Mapping[str, float]  # any of MEASURES
    rounding: Mapping[str, float] = field(default_factory=dict)


def identify_measures(observations: Sequence[MeasureObservation], *, precision: Precision = "fp32") -> dict[str, Fit]:
    """For each number that all observations have: whether it is the reference's, else which law gives it.

    At least three observations are needed; to fit two free values (as a factor and smoothing at once), four.
    `precision` is what the side means to compute in: fp32, bf16 or fp16. Raises ValueError for fewer observations.
    """
    if len(observations) < _FEWEST:
        raise ValueError(f"{len(observations)} observations; at least {_FEWEST} are needed to tell laws apart")
    sums = _sums_of(observations, precision)
    low = "" if precision == "fp32" else f" or rounded to {precision}"
    how = _HOW.format(low=low, count=len(observations))
    found: dict[str, Fit] = {}
    laws: dict[str, list[LossLaw]] = {}
    for number in NUMBERS:
        batches = sums[number[:3]]
        if batches and all(number in observation.measured for observation in observations):
            found[number], laws[number] = _identified(observations, batches, number, how)
    if all("loss" in observation.measured for observation in observations):
        measured, rounding = _measured(observations, "loss")
        found["loss"] = identify_total(
            sums["mlm"], sums["sop"], measured=measured, rounding=rounding, laws=laws, how=how
        )
    return found


def _sums_of(observations: Sequence[MeasureObservation], precision: Precision) -> dict[str, list[Sums]]:
    labels = [observation.feed.labels[observation.feed.weights > 0] for observation in observations]
    classes = [int(label) for label in np.unique(np.concatenate(labels))]
    # All special pieces at once are another hypothesis only where there are several.
    classes += [-1] if sum(label < FIRST_PIECE for label in classes) > 1 else []
    return {
        "mlm": [mlm_sums(o.outputs, o.feed, classes, precision=precision) for o in observations],
        "sop": [sop_sums(o.outputs, o.feed, precision=precision) for o in observations]
        if all(o.outputs.get("sop") is not None for o in observations)
        else [],
    }


def _measured(
    observations: Sequence[MeasureObservation], number: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    measured = np.array([float(observation.measured[number]) for observation in observations])
    return measured, np.array([float(observation.rounding.get(number, 0.0)) for observation in observations])


def _identified(
    observations: Sequence[MeasureObservation], batches: Sequence[Sums], number: Number, how: str
) -> tuple[Fit, list[LossLaw]]:
    """The fit of one number, and the laws that give it, the simplest and closest first."""
    measured, rounding = _measured(observations, number)
    columns = columns_of(batches, number)
    trials = list(scaled(columns, measured, rounding))
    healthy = [i for i, law in enumerate(columns.laws) if not law.parts]
    distance = float(trials[0].residual[healthy].min())
    found = list(_hypotheses(columns, trials, number))
    giving = sorted(
        (item for item in found if item[0].residual <= 1.0),
        key=lambda item: (len(item[0].parts), item[0].fitted, item[0].residual),
    )
    laws = [law for _, law in giving]
    return fit_of([hypothesis for hypothesis, _ in found], distance=distance, how=how), laws


def _hypotheses(columns: Columns, trials: Sequence[Trial], number: Number) -> Iterator[tuple[Hypothesis, LossLaw]]:
    """The closest laws of each way of scaling; a way that contains another that reproduces is left out."""
    by_key = {trial.key: trial for trial in trials}
    for trial in trials:
        residual = trial.residual.copy()
        for key in trial.contains:
            if key in by_key:
                residual[by_key[key].residual <= 1.0] = np.inf
        order = np.argsort(residual, kind="stable")
        reproducing = int((residual <= 1.0).sum())
        for i in order[: max(reproducing, _KEPT)]:
            if np.isfinite(residual[i]):
                law = _scaled_law(columns.laws[i], trial, int(i), number)
                hypothesis = Hypothesis(parts=law.parts, residual=float(residual[i]), fitted=len(trial.values))
                yield hypothesis, law


def _scaled_law(law: LossLaw, trial: Trial, i: int, number: Number) -> LossLaw:
    values = {name: snapped(float(value[i]), float(trial.errors[name][i])) for name, value in trial.values.items()}
    parts = law.parts
    if trial.key.startswith("log"):
        parts = (*parts, LOG_PART)
    if "factor" in values:
        parts = (*parts, factor_part(values["factor"], what=_WHAT[number]))
    if "smoothing" in values:
        parts = (*parts, smoothing_part(values["smoothing"]))
    factor = LOG2 if trial.key.startswith("log") else values.get("factor", 1.0)
    smoothing = values.get("smoothing", 0.0)
    return LossLaw(space=law.space, denominator=law.denominator, smoothing=smoothing, factor=factor, parts=parts)


_WHAT: dict[Number, str] = {
    "mlm_loss": "the masked language model's loss",
    "sop_loss": "the sentence-order loss",
    "mlm_accuracy": "the masked language model's accuracy",
    "sop_accuracy": "the sentence-order accuracy",
}


def laws_of(observations: Sequence[MeasureObservation], *, precision: Precision = "fp32") -> dict[str, LossLaw]:
    """The law of each number that is known: the reference's where it gives the number, else the leading one.

    Of a side that measures the total alone, those of its parts, where the total is not the reference's. Means of
    batches are how an evaluation loops, and no law of the loss that is trained with.
    """
    sums = _sums_of(observations, precision)
    found: dict[str, LossLaw] = {}
    for number in NUMBERS:
        batches = sums[number[:3]]
        if batches and all(number in observation.measured for observation in observations):
            _, laws = _identified(observations, batches, number, "")
            if laws and laws[0].denominator.batching is None:
                found[number] = laws[0]
    if not found and all("loss" in observation.measured for observation in observations):
        measured, rounding = _measured(observations, "loss")
        of_total = laws_of_total(sums["mlm"], sums["sop"], measured=measured, rounding=rounding)
        found |= {key: law for key, law in of_total.items() if law.denominator.batching is None}
    return found


def weights_of(total: Fit) -> tuple[float, float]:
    """Weights of the MLM and of the SOP loss in a total that was identified, for what follows from it: (1, 1) if it is
    right, or not known."""
    if not total.confirmed or total.best is None:
        return 1.0, 1.0
    values = total.best.values
    # A factor of the total; one of a part belongs to that part's law.
    factor = float(values["factor"]) if total.best.names == ("loss-scaled",) and "factor" in values else 1.0
    return factor * float(values.get("mlm_weight", 1.0)), factor * float(values.get("sop_weight", 1.0))


def not_separated(observations: Sequence[MeasureObservation], number: Number) -> tuple[str, ...]:
    """Names of faults that these outputs and feeds cannot show: the number is the reference's under them, too."""
    batches = _sums_of(observations, "fp32")[number[:3]]
    columns = columns_of(batches, number)
    reference = next(i for i, law in enumerate(columns.laws) if not law.parts)
    measured, none = columns.plain[reference], np.zeros(len(observations))
    residual = next(scaled(columns, measured, none)).residual
    return _names(law for law, far in zip(columns.laws, residual, strict=True) if far <= 1.0)


def _names(laws: Iterable[LossLaw]) -> tuple[str, ...]:
    return tuple(sorted({part.name for law in laws if len(law.parts) == 1 for part in law.parts}))

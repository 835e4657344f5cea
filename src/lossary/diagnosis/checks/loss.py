"""Which losses and metrics does the side compute from given outputs, and what does it log for a step?"""

from typing import Any

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.losses import (
    MeasureObservation,
    identify_measures,
    laws_of,
    measure_feeds,
    measure_outputs,
    weights_of,
)
from lossary.diagnosis.subject import Subject

__all__ = ["LOSS"]

_OBSERVATIONS = 6


def _run(subject: Subject) -> list[Told]:
    feeds = measure_feeds(subject.probes.feed, count=_OBSERVATIONS, seed=subject.setup.seed)
    observations = [_observed(subject, feed, number) for number, feed in enumerate(feeds)]
    fits = identify_measures(observations, precision=subject.precision)  # type: ignore[arg-type]
    subject.known["losses"] = laws_of(observations, precision=subject.precision)  # type: ignore[arg-type]
    if "loss" in fits:
        subject.known["loss weights"] = weights_of(fits["loss"])
    differing = [Told(fit=fit, measured=_measured(number, fit)) for number, fit in fits.items() if not fit.equal]
    if differing:
        return differing
    worst = max(fits.values(), key=lambda fit: fit.distance)
    return [
        Told(
            fit=worst,
            measured=f"{', '.join(fits)} of {len(feeds)} made-up outputs: all are the reference's, to rounding",
        )
    ]


def _observed(subject: Subject, feed: Feed, number: int) -> MeasureObservation:
    outputs: dict[str, Any] = measure_outputs(
        feed, subject.setup.shape.vocabulary_size, whole=subject.gives_all_tokens, seed=subject.setup.seed + number
    )
    measured = subject.session.ask("measure", outputs=outputs, feed=feed.arrays())
    return MeasureObservation(outputs=outputs, feed=feed, measured=measured)


def _measured(number: str, fit: Fit) -> str:
    times = f"{fit.distance:,.3g} × the tolerance"
    return f"{number} of {_OBSERVATIONS} made-up outputs differs from the reference's by {times}"


LOSS = Check(
    name="loss",
    stage="loss",
    about="Losses and metrics of given logits, on ragged feeds; a space of laws is searched for theirs.",
    needs=("measure",),
    run=_run,
)

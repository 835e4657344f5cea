"""Which losses and metrics does the side compute from given outputs, and what does it log for a step?"""

from typing import Any

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.losses import (
    MEASURES,
    MeasureObservation,
    identify_measures,
    laws_of,
    measure_feeds,
    measure_outputs,
    weights_of,
)
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject

__all__ = ["LOSS"]

_OBSERVATIONS = 6


def _run(subject: Subject) -> list[Told]:
    feeds = measure_feeds(subject.probes.feed, count=_OBSERVATIONS, seed=subject.setup.seed)
    observations = [_observed(subject, feed, number) for number, feed in enumerate(feeds)]
    fits = identify_measures(observations, precision=subject.precision)  # type: ignore[arg-type]
    subject.known["losses"] = laws_of(observations, precision=subject.precision)  # type: ignore[arg-type]
    if not fits:
        raise NotCompared(f"`measure` returns none of {', '.join(MEASURES)}")
    skipped = {number: "`measure` does not return it" for number in MEASURES if number not in fits}
    if "loss" in fits:
        subject.known["loss weights"] = weights_of(fits["loss"])
    differing = {number: fit for number, fit in fits.items() if not fit.equal}
    if differing:
        return [_told(numbers, skipped) for numbers in _alike(differing)]
    worst = max(fits.values(), key=lambda fit: fit.distance)
    return [
        Told(
            fit=worst,
            measured=f"{', '.join(fits)} of {len(feeds)} made-up outputs: all are the reference's, to rounding",
            skipped=skipped,
        )
    ]


def _observed(subject: Subject, feed: Feed, number: int) -> MeasureObservation:
    outputs: dict[str, Any] = measure_outputs(
        feed, subject.setup.shape.vocabulary_size, whole=subject.gives_all_tokens, seed=subject.setup.seed + number
    )
    measured = subject.session.ask("measure", outputs=outputs, feed=feed.arrays())
    return MeasureObservation(outputs=outputs, feed=feed, measured=measured)


def _alike(fits: dict[str, Fit]) -> list[dict[str, Fit]]:
    """The numbers that one cause explains together: it is told once. So are those that nothing explains."""
    groups: dict[tuple[str, ...], dict[str, Fit]] = {}
    for number, fit in fits.items():
        cause = (*fit.best.names, fit.best.says) if fit.confirmed and fit.best is not None else ()
        groups.setdefault(cause, {})[number] = fit
    return list(groups.values())


def _told(fits: dict[str, Fit], skipped: dict[str, str]) -> Told:
    worst = max(fits.values(), key=lambda fit: fit.distance)
    differ, by = ("differ", "up to ") if len(fits) > 1 else ("differs", "")
    return Told(
        fit=worst,
        measured=f"{', '.join(fits)} of {_OBSERVATIONS} made-up outputs {differ} from the reference's by {by}"
        f"{worst.distance:,.3g} × the tolerance",
        skipped=skipped,
    )


LOSS = Check(
    name="loss",
    stage="loss",
    about="Losses and metrics of given logits, on ragged feeds; a space of laws is searched for theirs.",
    needs=("measure",),
    run=_run,
)

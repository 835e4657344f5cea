"""Which function do the side's logits follow, given weights and a feed?"""

from collections.abc import Sequence

import numpy as np

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.laws.architecture import Observation, identify_architecture, stage_distances
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject
from lossary.models.arbiter import Architecture
from lossary.models.parameters import Parameters

__all__ = ["FORWARD"]

# Runs of the reference that measure the tolerance: fewer at a real size, but of less than four no bound comes.
_WAYS, _WAYS_LARGE = 8, 4


def _run(subject: Subject) -> Told:
    if subject.known.get("random"):
        raise NotCompared("evaluation passes differ at random; mend that first (see the check `dropout`)")
    probes = [subject.probes.plain]
    if not subject.probes.is_large:
        probes.append(subject.probes.low_variance)
    observations = [_observed(subject, weights, subject.probes.feed) for weights in probes]
    declared = Architecture.of(subject.setup.shape)
    ways = _WAYS_LARGE if subject.probes.is_large else _WAYS
    fit = identify_architecture(observations, declared, precision=subject.precision, ways=ways)
    if not fit.equal:
        subject.known["forward deviates"] = True
        if fit.architecture is not None and fit.confirmed:
            subject.known["architecture"] = fit.architecture
            subject.known["forward deviates"] = False
    heads = {
        name: f"`forward` returns no `{name}`" for name in ("mlm", "sop") if getattr(observations[0], name) is None
    }
    where = "" if fit.equal else _stages(subject, observations, declared, ways)
    return Told(
        fit=fit, measured=f"logits differ from float64 by {_times(fit.distance)} the tolerance{where}", skipped=heads
    )


def _times(distance: float) -> str:
    return f"{distance:,.3g} ×" if np.isfinite(distance) else "no finite multiple of"


def _stages(subject: Subject, observations: Sequence[Observation], declared: Architecture, ways: int) -> str:
    """The first stage that differs given the side's own input to it, where the side shows its activations."""
    if not any(one.activations for one in observations):
        return ""
    found = stage_distances(observations, declared, precision=subject.precision, ways=ways)
    wrong = [name for name, distance in found.items() if not distance <= 1.0]
    return f"; given its own inputs, the first stage that differs is {wrong[0]}" if wrong else ""


def _observed(subject: Subject, weights: Parameters, feed: Feed) -> Observation:
    first, second = subject.forward(weights, feed, repeats=2)
    noise = {
        name: float(np.sqrt(np.mean(np.square(second[name].astype(np.float64) - first[name]))))
        for name in ("mlm", "sop")
        if first.get(name) is not None
    }
    return Observation(
        parameters=weights,
        feed=feed,
        mlm=first.get("mlm"),
        sop=first.get("sop"),
        activations=first["activations"],
        noise=noise,
    )


FORWARD = Check(
    name="forward",
    stage="forward",
    about="Logits of both heads on probe weights, against float64; settings that shapes do not show are searched.",
    needs=("load", "forward"),
    run=_run,
)

"""What people do without a diagnosis: compare the loss, or look for the first array that differs by more than 1e-5.

Both see the same answers of the side as the diagnosis did (its traces), and the same reference. Both are spared what
would make them useless at once: comparing inputs that were masked by other random numbers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lossary.diagnosis.laws.update_probe import probe_gradients, probe_weights
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject
from lossary.models.arbiter import Architecture, forward, loss_gradients, record
from lossary.models.update_laws import UpdateLaw, learning_rate, reference_update

__all__ = ["first_difference", "metric_difference"]

_FIXED = 1e-5
_RELATIVE = 0.01
_STEPS = 3


def metric_difference(subject: Subject) -> str | None:
    """ "loss" where the side's own loss of a batch differs from the reference's by more than a hundredth."""
    try:
        outputs = subject.forward(subject.probes.plain, subject.probes.feed)[0]
        given = {"mlm": outputs.get("mlm_all", outputs["mlm"]), "sop": outputs["sop"]}
        measured = subject.session.ask("measure", outputs=given, feed=subject.probes.feed.arrays())
    except NotCompared:
        return "loss"
    reference = _losses(subject)
    differs = any(
        not abs(measured[name] - value) <= _RELATIVE * abs(value)
        for name, value in reference.items()
        if name in measured
    )
    return "loss" if differs else None


def _losses(subject: Subject) -> dict[str, float]:
    feed = subject.probes.feed
    outputs = forward(subject.probes.plain, Architecture.of(subject.setup.shape), feed)
    losses = loss_gradients(outputs, feed.labels, feed.weights, feed.sop_labels)
    return {"mlm_loss": float(losses.mlm), "sop_loss": float(losses.sop)}


def first_difference(subject: Subject) -> str | None:
    """The first stage, in the order of a step, where an array differs by more than 1e-5 anywhere."""
    for stage, pairs in _stages(subject):
        try:
            if any(not np.max(np.abs(np.asarray(a, np.float64) - b), initial=0.0) <= _FIXED for a, b in pairs):
                return stage
        except NotCompared:
            return stage
    return None


def _stages(subject: Subject) -> Iterator[tuple[str, Iterator[tuple[Any, Any]]]]:
    yield "weights", _weights(subject)
    yield "forward", _forward(subject)
    yield "gradients", _gradients(subject)
    yield "update", _update(subject)
    yield "schedule", _schedule(subject)


def _weights(subject: Subject) -> Iterator[tuple[Any, Any]]:
    given = subject.probes.plain
    returned = subject.session.ask("roundtrip", weights=given)
    return ((returned[name], value) for name, value in given.items())


def _forward(subject: Subject) -> Iterator[tuple[Any, Any]]:
    outputs = subject.forward(subject.probes.plain, subject.probes.feed)[0]
    exact = forward(subject.probes.plain, Architecture.of(subject.setup.shape), subject.probes.feed)
    used = subject.probes.feed.weights > 0
    yield outputs["mlm"][used], exact.mlm[used]
    yield outputs["sop"], exact.sop


def _gradients(subject: Subject) -> Iterator[tuple[Any, Any]]:
    feed = subject.probes.feed
    run = record(subject.probes.plain, Architecture.of(subject.setup.shape), feed)
    losses = loss_gradients(run.outputs, feed.labels, feed.weights, feed.sop_labels)
    exact = run.gradients(losses.d_mlm, losses.d_sop).parameters
    own = subject.session.ask("gradients", weights=subject.probes.plain, micro_batches=[feed.arrays()])
    return ((own[name], value) for name, value in exact.items())


def _update(subject: Subject) -> Iterator[tuple[Any, Any]]:
    weights = probe_weights(subject.probes.plain, seed=subject.setup.seed)
    gradients = probe_gradients(weights, seed=subject.setup.seed, steps=_STEPS)
    after = subject.session.ask("updates", weights=weights, gradients=gradients, first=subject.first_update)
    law = UpdateLaw.of(subject.setup.recipe.optimizer)
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    m = {name: np.zeros_like(value) for name, value in w.items()}
    v = {name: np.zeros_like(value) for name, value in w.items()}
    for step, (found, replicas) in enumerate(zip(after, gradients, strict=True)):
        rate = learning_rate(subject.first_update + step, subject.setup.recipe.optimizer, subject.setup.recipe.steps)
        g = {name: value.astype(np.float64) for name, value in replicas[0].items()}
        updated = reference_update(law, w, g, (m, v), step=step, rate=rate)
        w, m, v = updated.parameters, updated.m, updated.v
        yield from ((found[name], value) for name, value in w.items())


def _schedule(subject: Subject) -> Iterator[tuple[Any, Any]]:
    recipe = subject.setup.recipe
    rates = subject.session.ask("learning_rates", start=0, stop=recipe.steps)
    yield (
        np.array(rates),
        np.array([learning_rate(step, recipe.optimizer, recipe.steps) for step in range(recipe.steps)]),
    )

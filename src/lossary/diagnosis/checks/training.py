"""Do whole training steps lead where the reference's gradients and the declared law lead?"""

from dataclasses import replace
from typing import Any

import numpy as np

from lossary.diagnosis.adapter import Arrays
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.replay import TrainingObservation, identify_training
from lossary.diagnosis.laws.update_space import LawSettings
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject
from lossary.models.arbiter import Arithmetic, loss_gradients, record
from lossary.models.update_laws import UpdateLaw, learning_rate

__all__ = ["TRAINING"]

_STEPS = 4


def _run(subject: Subject) -> Told:
    _require_parts(subject)
    recipe, feed = subject.setup.recipe, subject.probes.feed
    feeds = [feed.take(rows) for rows in np.array_split(np.arange(len(feed)), _STEPS)]
    weights = subject.probes.plain
    question: dict[str, Any] = {
        "weights": weights,
        "feeds": [part.arrays() for part in feeds],
        "first": subject.first_update,
    }

    def gradient_of(at: Arrays, number: int, way: Arithmetic | str = "float64") -> Arrays:
        part = feeds[number]
        run = record(at, subject.architecture, part, precision=way)  # type: ignore[arg-type]
        losses = loss_gradients(run.outputs, part.labels, part.weights, part.sop_labels)
        return run.gradients(losses.d_mlm, losses.d_sop).parameters

    low = {"bf16": Arithmetic("bf16_products"), "fp16": Arithmetic("fp16_products")}.get(subject.precision)
    law = LawSettings.of(UpdateLaw.of(recipe.optimizer), subject.declared)

    def identified(steps: list[dict[str, Any]], settings: LawSettings) -> Fit:
        after = [step["weights"] for step in steps]
        seen = TrainingObservation(start=weights, weights=after, first=subject.first_update)
        return identify_training(
            seen,
            settings,
            gradient_of=gradient_of,
            rate_of=lambda step: learning_rate(step, recipe.optimizer, recipe.steps),
            rough_gradient_of=None if low is None else lambda at, number: gradient_of(at, number, low),
        )

    def closest(steps: list[dict[str, Any]]) -> Fit:
        fit = identified(steps, law)
        if not fit.equal and subject.first_update:
            # Corrections of moments may count the updates since the restart, or take the number of the step.
            fit = min(fit, identified(steps, replace(law, counts="steps")), key=lambda one: one.distance)
        return fit

    fit = closest(subject.session.ask("train", **question))
    if not fit.equal and not fit.confirmed:
        # What was asked before may have left something over: in a process of its own nothing was.
        with subject.session.sibling(subject.session.setup) as fresh:
            again = fresh.ask("train", attempt=1, **question)
            subject.session.cpu_s += fresh.cpu_s
        fit = closest(again)
    return Told(
        fit=fit,
        measured=f"{_STEPS} whole training steps differ from the reference's by {fit.distance:,.3g} × the tolerance",
    )


def _require_parts(subject: Subject) -> None:
    """Whole steps are judged where their parts are right: else every one of them would differ for a known reason."""
    if subject.probes.is_large:
        raise NotCompared("the model is too large for this fit; a loop shows at a small size, too (--like)")
    if subject.known.get("drops"):
        raise NotCompared("training passes drop at random; diagnose the same code with its dropout at 0")
    wrong = [name for name in subject.known.get("deviating", []) if name in _PARTS]
    if wrong:
        raise NotCompared(f"steps are made of parts that differ: {', '.join(wrong)}; mend those first")


_PARTS = ("schedule", "weights", "dropout", "forward", "loss", "gradients", "update")

TRAINING = Check(
    name="training",
    stage="training",
    about="Whole training steps, replayed from the reference's gradients: what is done between the parts of a step.",
    needs=("load", "weights", "restart", "train_step"),
    run=_run,
)

"""Does training go well, and does it go better with a third or a tenth of the learning rate?

A lower rate learns more slowly at first: where it leads to a lower loss within so few steps, the rate was too high.

Where every part of the side's steps was ruled out, and whole steps too, its course is the reference's: then lossary's
fastest backend takes the steps, which a side that steps without a compiler would be long about.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.adapter import Feed, Setup
from lossary.diagnosis.calibration import COURSE_FEWEST as _FEWEST
from lossary.diagnosis.calibration import COURSE_MOST as _MOST
from lossary.diagnosis.calibration import SUSPECT_RISE as _SUSPECT
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.feeds.reference import reference_stream
from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.laws.course import Course, course_of, late_gap
from lossary.diagnosis.session import NotCompared, Session, SideSpec
from lossary.diagnosis.subject import Subject
from lossary.models.parameters import initial_parameters

__all__ = ["DYNAMICS"]

_PARTS = ((1 / 3, "a third"), (1 / 10, "a tenth"))
_BROKEN = 1e4  # in the place of a loss that is no number
_HOW = "noise of a mean over steps, from the differences of consecutive ones, at level 1e-4"


def _run(subject: Subject) -> Told:
    if subject.probes.is_large:
        raise NotCompared("so many steps of a model of this size are dear; runs show their course (RUN as a side)")
    wrong = [name for name in subject.known.get("deviating", []) if name not in _ELSEWHERE]
    if wrong:
        raise NotCompared(f"steps are made of parts that differ: {', '.join(wrong)}; mend those first")
    steps = min(subject.setup.recipe.steps, max(_FEWEST, min(_MOST, 4 * subject.setup.recipe.optimizer.warmup)))
    feeds = _feeds(subject, steps)
    spec = _reference(subject)
    courses = {} if spec is None else _of_reference(subject, spec, feeds)
    losses = courses[1.0] if courses else _losses(subject.session, subject, feeds)
    course = course_of(losses)
    whose = "" if spec is None else ", taken by the reference"
    told = f"loss of {steps} steps from initial weights{whose}: least {course.best:.3f}, last {course.last:.3f}"
    distance = max(0.0, course.rise / course.noise)
    if distance <= _SUSPECT and spec is None:
        return Told(fit=Fit(distance=distance, tried=(), how=_HOW), measured=f"{told}; no rise beyond noise")
    slower = [
        _slower(losses, courses[part] if courses else _with_less(subject, feeds, part), part, words)
        for part, words in _PARTS
    ]
    best = max(slower, key=lambda one: one.excess)
    fit = Fit(distance=max(distance, best.excess), tried=(best.candidate(subject, course),), how=_HOW)
    ends = ", ".join(
        f"with {words} of the rate {one.course.last:.3f}" for (_, words), one in zip(_PARTS, slower, strict=True)
    )
    return Told(fit=fit, measured=f"{told}; {ends}")


@dataclass(frozen=True, kw_only=True)
class _Slower:
    """The course at a part of the rate."""

    part: float
    words: str
    course: Course
    excess: float  # by how much the loss at the whole rate is higher, in units of what is noise

    def candidate(self, subject: Subject, whole: Course) -> Candidate:
        """The hypothesis that the rate is too high."""
        rate = subject.setup.recipe.optimizer.learning_rate
        return Candidate(
            names=("learning-rate-too-high",),
            says=f"a learning rate of {rate:.3g} is too high for this size and batch: with {self.words} of it the loss "
            f"of the same batches ends at {self.course.last:.3f}, not {whole.last:.3f}",
            residual=max(0.0, self.course.rise / self.course.noise) if self.excess > 1 else 2.0,
            values={"learning_rate": rate, "tried": rate * self.part},
        )


def _slower(losses: NDArray[np.float64], less: NDArray[np.float64], part: float, words: str) -> _Slower:
    # On the same batches, what differs between them cancels.
    gap, noise = late_gap(losses, less)
    return _Slower(part=part, words=words, course=course_of(less), excess=max(0.0, gap / noise))


def _feeds(subject: Subject, steps: int) -> list[Feed]:
    """The reference's stream, so that what a side feeds does not matter here."""
    stream = reference_stream(subject.documents, subject.setup, start=0, stop=steps)
    batch = subject.setup.recipe.batch_size
    return [stream.take(np.arange(step * batch, (step + 1) * batch)) for step in range(steps)]


def _losses(session: Session, subject: Subject, feeds: list[Feed]) -> NDArray[np.float64]:
    losses = session.ask("course", **_steps(subject, feeds))
    if any(loss is None for loss in losses):
        raise NotCompared("`train_step` tells no loss: return {'loss': …}")
    return _numbers(losses)


def _steps(subject: Subject, feeds: list[Feed]) -> dict[str, Any]:
    """Steps on feeds, from initial weights."""
    weights = initial_parameters(subject.setup.shape, subject.setup.seed)
    return {"weights": weights, "feeds": [feed.arrays() for feed in feeds], "first": subject.first_update}


def _numbers(losses: list[float]) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(losses, np.float64), nan=_BROKEN, posinf=_BROKEN)


def _reference(subject: Subject) -> SideSpec | None:
    """lossary's own backend, if its steps are known to be the side's."""
    known = all(name in subject.known.get("ruled out", []) for name in _STEPS_ARE_MADE_OF)
    if not known or set(subject.declared) - _NO_OTHER_COURSE:
        return None
    backend = next((name for name in ("torch", "jax", "tensorflow") if find_spec(name)), None)
    return None if backend is None else SideSpec(label="reference", kind="backend", backend=backend)


def _of_reference(subject: Subject, spec: SideSpec, feeds: list[Feed]) -> dict[float, NDArray[np.float64]]:
    """Losses of the reference's steps, by the factor of the learning rate; one process takes all."""
    factors = [1.0, *(part for part, _ in _PARTS)]
    with _sibling(subject, subject.setup, spec) as session:
        courses = session.ask("courses", **_steps(subject, feeds), factors=factors)
    return {factor: _numbers(losses) for factor, losses in zip(factors, courses, strict=True)}


@contextmanager
def _sibling(subject: Subject, setup: Setup, spec: SideSpec | None = None) -> Iterator[Session]:
    """Another side, or the same under another setup; its processor time counts as the side's."""
    with subject.session.sibling(setup, spec) as session:
        yield session
        subject.session.cpu_s += session.cpu_s


def _with_less(subject: Subject, feeds: list[Feed], part: float) -> NDArray[np.float64]:
    with _sibling(subject, _with_rate(subject.setup, part)) as session:
        if session.can("learning_rates"):
            whole, less = (
                np.asarray(one.ask("learning_rates", start=0, stop=len(feeds))) for one in (subject.session, session)
            )
            if not np.allclose(less, part * whole, rtol=1e-3):
                raise NotCompared(
                    "the side's rates do not follow the setup's recipe, so that no lower one can be tried"
                )
        return _losses(session, subject, feeds)


def _with_rate(setup: Setup, part: float) -> Setup:
    optimizer = setup.recipe.optimizer
    smaller = optimizer.model_copy(update={"learning_rate": optimizer.learning_rate * part})
    return replace(setup, recipe=setup.recipe.model_copy(update={"optimizer": smaller}))


_STEPS_ARE_MADE_OF = ("schedule", "weights", "dropout", "forward", "loss", "gradients", "update", "training")
# Declared differences that no rise of a loss comes from; a side that drops has steps that were not ruled out.
_NO_OTHER_COURSE = {"precision", "dropout", "epsilon_placement"}
# Checks of what is not used here: the reference's stream is fed, no checkpoint is read.
_ELSEWHERE = ("tokenizer", "checkpoint", "initial", "evaluation", "examples", "stream", "validation")

DYNAMICS = Check(
    name="dynamics",
    stage="dynamics",
    about="Steps on the reference's stream: does the loss rise again; is it lower with less of the learning rate?",
    needs=("load", "restart", "train_step"),
    run=_run,
)

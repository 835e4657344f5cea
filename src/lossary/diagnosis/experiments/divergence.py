"""When a run went wrong: from the start, or after it had been good; and whether a smaller learning rate mends it.

The loss by step tells the two apart: a run that was never good has a fault that loading or feeding explains, one that
rose again after a minimum diverged in training. Then two branches go on from the last good checkpoint on the run's own
batches, one with the run's learning rate and one with a third of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.validation import load_validation
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.calibration import LEAST_LOSSES
from lossary.diagnosis.experiments.pair import Experiment, Pair
from lossary.diagnosis.laws.course import Course, course_of
from lossary.diagnosis.model import Cause, Gap
from lossary.diagnosis.session import Session, SideSpec
from lossary.diagnosis.sides import Side, run_setup
from lossary.models.arbiter import Architecture, forward
from lossary.models.checkpoints import Checkpoint, list_checkpoints, load_own_checkpoint
from lossary.models.shapes import AlbertShape
from lossary.results.records import read_steps

__all__ = ["DIVERGENCE"]

# Of the telemetry: enough for a maximum and a share, at any size.
_EXAMPLES = 16
_BRANCH_STEPS = 150
_FACTORS = (1.0, 1 / 3)


def _run(pair: Pair) -> Iterator[Gap]:
    for side in pair.sides:
        if side.run is not None:
            yield from _of_run(pair, side, side.run)


def _of_run(pair: Pair, side: Side, run: str) -> Iterator[Gap]:
    losses = _losses(pair.folder.steps(run))
    if len(losses) < LEAST_LOSSES:
        return
    course = course_of(losses)
    text = [
        f"MLM loss in training: least {course.best:.3f} around step {course.best_step:,}, last {course.last:.3f}",
    ]
    if not course.rose:
        text.append(f"no rise beyond the noise of {course.noise:.3f}: it did not diverge")
        yield Gap(title=f"Course of {run}", text=tuple(text), rows=tuple(_telemetry(pair, run)))
        return
    text.append(f"it rose by {course.rise:.3f} after having been good, noise {course.noise:.3f}: late divergence")
    branches = _branches(pair, side, run, course)
    text += [branch.text for branch in branches]
    full, third = (branch.course for branch in branches)
    causes: tuple[Cause, ...] = ()
    if full.last - third.last > max(full.noise, third.noise) and full.last > third.best:
        text.append("with a third of the rate it does not: the learning rate is too high for this size and batch")
        causes = (
            Cause(
                name="learning-rate-too-high",
                says="the learning rate is too high for this size and batch",
                stage="dynamics",
                side=side.label,
                values={"learning_rate": pair.study.recipe_of(run).optimizer.learning_rate, "good": 1 / 3},
                before=course.rise / course.noise,
                after=max(0.0, third.rise / third.noise),
            ),
        )
    yield Gap(title=f"Course of {run}", text=tuple(text), rows=tuple(_telemetry(pair, run)), causes=causes)


def _losses(path: Path) -> NDArray[np.float64]:
    steps = read_steps(path)
    if not steps.num_rows:
        return np.zeros(0)
    sums = steps.group_by("step").aggregate([("mlm_nats", "sum"), ("masked", "sum")]).sort_by("step")
    masked = sums["masked_sum"].to_numpy().astype(np.float64)
    return np.asarray(sums["mlm_nats_sum"].to_numpy()[masked > 0] / masked[masked > 0])


@dataclass(frozen=True, kw_only=True)
class _Branch:
    text: str
    course: Course


def _branches(pair: Pair, side: Side, run: str, course: Course) -> list[_Branch]:
    """Both branches from the newest checkpoint at or before the minimum, or from the start."""
    kept = [path for path in list_checkpoints(pair.folder.checkpoints(run)) if _step(path) <= course.best_step]
    start = kept[-1] if kept else None
    setup = run_setup(pair.study, pair.folder, run, threads=side.setup.threads)
    spec = SideSpec(label=run, kind="backend", backend=pair.study.runs[run].backend)
    recipe = pair.study.recipe_of(run)
    first = _step(start) if start else 0
    # Without a good checkpoint the branch must reach the place where the run went wrong.
    count = min(recipe.steps - first, max(_BRANCH_STEPS, 2 * (course.best_step - first)))
    found = []
    with Session(spec, setup, pair.folder.diagnosis / "traces", launch=pair.launch) as session:
        for factor in _FACTORS:
            losses = session.ask(
                "branch",
                study_file=str(pair.folder.study_file),
                run=run,
                checkpoint=str(start) if start else None,
                start=first,
                steps=count,
                factor=factor,
            )
            branch = course_of(np.asarray(losses, np.float64))
            rate = "the run's learning rate" if factor == 1.0 else "a third of it"
            came = f"last {branch.last:.3f}, least {branch.best:.3f}"
            text = f"branch from step {first:,}, {count:,} steps with {rate}: {came}"
            found.append(_Branch(text=text, course=branch))
    return found


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _telemetry(pair: Pair, run: str) -> Iterator[dict[str, Any]]:
    """Of each checkpoint: norms, updates against weights, the largest logits, how saturated the pooler is."""
    examples = load_validation(pair.folder).examples
    feed = Feed.of(examples.take(np.linspace(0, len(examples) - 1, min(_EXAMPLES, len(examples))).astype(int)))
    for path in list_checkpoints(pair.folder.checkpoints(run)):
        checkpoint = load_own_checkpoint(path)
        assert isinstance(checkpoint.shape, AlbertShape), "sides of other models are refused"
        outputs = forward(
            checkpoint.parameters,
            Architecture.of(checkpoint.shape),
            feed,
            precision="float32",
            activations=True,
        )
        pooled = np.abs(outputs.activations["pooled"])
        yield {
            "step": _step(path),
            "weight norm": _norm(checkpoint.parameters),
            "update/weight": _update_ratio(checkpoint, pair.study.recipe_of(run).optimizer.learning_rate),
            "largest logit": float(np.abs(outputs.mlm).max()),
            "pooler beyond 0.99": float((pooled > 0.99).mean()),
        }


def _norm(tensors: dict[str, NDArray[Any]]) -> float:
    return float(np.sqrt(sum(float(np.square(value, dtype=np.float64).sum()) for value in tensors.values())))


def _update_ratio(checkpoint: Checkpoint, peak: float) -> float | None:
    """‖m/(√v + ε)‖·peak rate/‖w‖: how far one step at the peak moves the weights."""
    if checkpoint.moments is None:
        return None
    update = {
        name: checkpoint.moments.m[name] / (np.sqrt(checkpoint.moments.v[name]) + 1e-6)
        for name in checkpoint.parameters
    }
    return peak * _norm(update) / _norm(checkpoint.parameters)


DIVERGENCE = Experiment(
    name="divergence",
    title="Course of training",
    about="Loss by step of a run: never good, or good and then risen; branches with its rate and a third of it.",
    run=_run,
)

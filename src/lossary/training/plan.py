"""What a run is, and what becomes of one that was begun when the study file changes.

    plan = plan_run(study, folder, "torch_xxl")
    course_of(plan, folder).fate        # made, kept, goes on or refused

`run.json` keeps what a run was begun with. Datasets that come later do not change it: it goes on with its own mixture,
and is scored on theirs as well. More steps make it go on, under the schedule of all steps from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lossary.data.batches import training_shares
from lossary.data.manifests import MANIFEST, read_manifest
from lossary.data.parts import read_run_record
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import CheckpointError
from lossary.files import digest_json
from lossary.folder import StudyFolder
from lossary.models.architectures import ModelShape, run_shape, shape_value
from lossary.models.checkpoints import list_checkpoints, misplaced
from lossary.study import NOT_OF_WEIGHTS, Recipe, Study

__all__ = [
    "Course",
    "RunPlan",
    "branch_point",
    "course_of",
    "is_finished",
    "plan_run",
    "run_record",
    "steps_done",
]

Fate = Literal["made", "kept", "goes on", "refused"]


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run is: everything that its weights depend on, but for the backend.

    `weights` are the sampling weights of the datasets that it trains on.
    """

    run: str
    backend: str
    recipe: Recipe
    shape: ModelShape
    weights: dict[str, float]
    description: dict[str, Any]
    before: Mapping[str, Any] | None  # its record, if it was begun
    branches: frozenset[int]  # steps that other runs start from: their checkpoints are written, and stay

    @property
    def digest(self) -> str:
        return digest_json(self.description)


@dataclass(frozen=True, kw_only=True)
class Course:
    """What happens to a run, and why."""

    fate: Fate
    why: str = ""
    done: int = 0


def plan_run(study: Study, folder: StudyFolder, run: str) -> RunPlan:
    """The plan of a run of a prepared study."""
    recipe = study.recipe_of(run)
    tokenizer = open_tokenizer(folder)
    shape = run_shape(study, folder, run, vocabulary_size=tokenizer.vocabulary_size, specials=tokenizer.specials)
    before = read_run_record(folder, run)
    weights = _weights(study, folder, run, before)
    spans = {
        name: manifest["request"]
        for name in weights
        if (manifest := _spans_manifest(folder, name, recipe.sequence_length))
    }
    start = study.runs[run].start
    description = {
        "recipe": recipe.model_dump(exclude={*NOT_OF_WEIGHTS, "precision", "steps"}),
        "shape": shape_value(shape),
        "tokenizer": tokenizer.digest,
        "training_examples": spans,
        "datasets": study.runs[run].datasets,
        "start": None if start is None else start.run,
    }
    return RunPlan(
        run=run,
        backend=study.runs[run].backend,
        recipe=recipe,
        shape=shape,
        weights=weights,
        description=description,
        before=before,
        branches=_steps_branched_at(study, run),
    )


def _weights(study: Study, folder: StudyFolder, run: str, before: Mapping[str, Any] | None) -> dict[str, float]:
    """Sampling weights: those that the run was begun with, else those of the study."""
    if before is not None and "weights" in before:
        # JSON sorts keys, and the order of datasets is part of the mixture.
        return {name: before["weights"][name] for name in before["datasets"]}
    names = study.datasets_of(run) if before is None else before["datasets"]
    return training_shares(study, folder, study.recipe_of(run).sequence_length, datasets=names)


def _spans_manifest(folder: StudyFolder, name: str, length: int) -> dict[str, Any] | None:
    path = folder.spans(name, length)
    return read_manifest(path) if (path / MANIFEST).is_file() else None


def steps_done(folder: StudyFolder, run: str) -> int:
    """Steps of the newest checkpoint of a run; 0 if it has none."""
    checkpoints = list_checkpoints(folder.checkpoints(run))
    return int(checkpoints[-1].name.removeprefix("step-")) if checkpoints else 0


def is_finished(study: Study, folder: StudyFolder, run: str) -> bool:
    """Whether a run has its last checkpoint."""
    return course_of(plan_run(study, folder, run), folder).fate == "kept"


def course_of(plan: RunPlan, folder: StudyFolder) -> Course:
    """Whether a run is still to be made, stays, goes on, or cannot as the study file now asks."""
    done, steps = steps_done(folder, plan.run), plan.recipe.steps
    if plan.before is None or not done:
        return Course(fate="made")
    # Nothing goes on from what is not its own, nor takes it away as damaged.
    for path in list_checkpoints(folder.checkpoints(plan.run)):
        if why := misplaced(path):
            return Course(fate="refused", why=f"{path.name} is not its own: {why}", done=done)
    differences = _differences(plan)
    if differences:
        return Course(fate="refused", why=f"it was begun with another recipe: {'; '.join(differences[:5])}", done=done)
    if steps < done:
        return Course(fate="refused", why=f"{done:,} steps are done, and {steps:,} are asked for", done=done)
    if steps == done:
        return Course(fate="kept", why=f"{done:,} steps", done=done)
    planned = plan.before["recipe"]["steps"]
    more = f", {planned:,} before: under the schedule of {steps:,} from here on" if planned != steps else ""
    return Course(fate="goes on", why=f"from step {done:,} to {steps:,}{more}", done=done)


def _differences(plan: RunPlan) -> list[str]:
    """What a run that was begun was planned with, and is no longer."""
    assert plan.before is not None
    before = dict(plan.before["description"])
    # An earlier lossary kept steps in the recipe, and shares in the place of weights.
    before["recipe"] = {name: value for name, value in before["recipe"].items() if name != "steps"}
    before.pop("shares", None)
    now = {name: value for name, value in plan.description.items() if name in before or value is not None}
    if "datasets" not in before:
        now.pop("datasets", None)
    return [f"{name}: {old!r} before, {new!r} now" for name, old, new in _compare("", before, now)]


def _compare(path: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [found for key in keys for found in _compare(f"{path}.{key}", old.get(key), new.get(key))]
    return [] if old == new else [(path.removeprefix("."), old, new)]


def branch_point(study: Study, folder: StudyFolder, run: str) -> Path | None:
    """The checkpoint that a run starts from, if it is a branch; CheckpointError if it is not there."""
    start = study.runs[run].start
    if start is None:
        return None
    kept = list_checkpoints(folder.checkpoints(start.run))
    path = kept[-1] if start.step is None and kept else folder.checkpoint(start.run, start.step or 0)
    if path in kept:
        return path
    steps = ", ".join(f"{int(found.name.removeprefix('step-')):,}" for found in kept)
    asked = "a checkpoint" if start.step is None else f"step {start.step:,}"
    raise CheckpointError(
        f"it starts from {asked} of run {start.run!r}, which is not there",
        where=f"{folder.study_file}: $.runs.{run}.start",
        hint=f"There are the steps {steps}." if kept else f"Run `lossary train --run {start.run}` first.",
    )


def _steps_branched_at(study: Study, run: str) -> frozenset[int]:
    starts = (settings.start for settings in study.runs.values())
    return frozenset(
        start.step for start in starts if start is not None and start.run == run and start.step is not None
    )


def run_record(
    study: Study, plan: RunPlan, *, device: str, first_step: int, start: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What `run.json` says once training begins at `first_step`; `start` tells of the checkpoint of another run."""
    settings, before = study.runs[plan.run], plan.before or {}
    record = {
        "schema": 1,
        "run": plan.run,
        "backend": settings.backend,
        "device": device,
        "size": settings.size_value,
        "datasets": list(plan.weights),
        "weights": plan.weights,
        "recipe": plan.recipe.model_dump(),
        "description": plan.description,
        "history": _history(before, plan.recipe.steps, first_step),
        "digest": plan.digest,
    }
    start = before.get("start", start)
    return record if start is None else record | {"start": dict(start)}


def _history(before: Mapping[str, Any], steps: int, first_step: int) -> list[dict[str, int]]:
    """From which step on the run was trained for how many steps."""
    planned: Sequence[Mapping[str, int]] = before.get("history", [])
    if not planned and before:
        planned = [{"from": 0, "steps": before["recipe"]["steps"]}]
    kept = [dict(part) for part in planned if part["from"] < first_step]
    if not kept or kept[-1]["steps"] != steps:
        kept.append({"from": first_step, "steps": steps})
    return kept

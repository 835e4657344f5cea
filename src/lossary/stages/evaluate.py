"""From checkpoints to scores: of runs, and of checkpoints from elsewhere."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lossary.data.manifests import MANIFEST
from lossary.data.parts import read_validation_manifest
from lossary.engines.api import Engine
from lossary.errors import CheckpointError, UsageError
from lossary.folder import StudyFolder
from lossary.launcher import Listener, Tools, each_run
from lossary.models.checkpoints import check_place, checkpoint_step, list_checkpoints
from lossary.results.origins import again, keep_origin, origins
from lossary.results.records import read_header
from lossary.scoring.foreign import Foreign, foreign_request
from lossary.scoring.score import ScoreJob, is_scored, job_of_run
from lossary.stages.runs import needs_of, some_runs
from lossary.study import Study

__all__ = ["Which", "check_step", "check_trained", "checkpoints_of", "evaluate", "evaluate_foreign", "score_by_backend"]

# Which of the checkpoints that are kept of a run.
Which = Literal["newest", "all"]


def evaluate(
    study: Study,
    folder: StudyFolder,
    *,
    runs: Sequence[str] | None = None,
    jobs: int | None = None,
    batch_size: int | None = None,
    which: Which | int = "newest",
    engine: Engine | None = None,
    listener: Listener,
) -> None:
    """Scores checkpoints of each run on the validation set: the newest, all that are kept, or that of a step.

    What is scored already is left alone.
    """

    def job(run: str, tools: Tools) -> None:
        checkpoints = checkpoints_of(folder, run, which)
        of_run = [job_of_run(study, run, checkpoint, batch_size=batch_size) for checkpoint in checkpoints]
        wanted = [job for job in of_run if not is_scored(folder.as_drawn, job)]
        if wanted:
            score_by_backend(folder, wanted, tools)

    if runs is None:
        _tell_lacking(folder, study.runs, listener)
    chosen = some_runs(study, folder, runs)
    if isinstance(which, int):
        check_step(folder, chosen, which)
    begun = partial(check_trained, folder)
    each_run(
        "evaluate",
        chosen,
        job,
        folder=folder,
        jobs=jobs,
        begin=begun,
        needs=needs_of(study),
        engine=engine,
        listener=listener,
    )


def evaluate_foreign(
    folder: StudyFolder,
    foreign: Sequence[Foreign],
    *,
    jobs: int | None = None,
    batch_size: int | None = None,
    listener: Listener,
) -> dict[str, list[int]]:
    """Scores checkpoints from elsewhere on the validation set; returns the steps of each name."""
    named: dict[str, list[Foreign]] = {}
    for found in foreign:
        _refuse_other_origin(folder, found)
        named.setdefault(found.name, []).append(found)
    for name, column in named.items():
        _refuse_unknown_step(folder, name, column)
    steps: dict[str, list[int]] = {}

    def job(name: str, tools: Tools) -> None:
        steps[name] = []
        by_backend = [found for found in named[name] if found.kind != "transformers"]
        for found in by_backend:
            steps[name] += score_by_backend(folder, [found.job(batch_size)], tools)
        others = [found for found in named[name] if found.kind == "transformers"]
        asked = [*by_backend, *others]
        if others:
            request = foreign_request(folder, others, batch_size)
            steps[name] += _steps_of(tools.run("lossary.scoring.foreign_job", request, "torch"))
        # Steps come in the order in which they were scored.
        keep_origin(folder, name, [one.scored_from(step) for one, step in zip(asked, steps[name], strict=True)])

    each_run("evaluate", list(named), job, folder=folder, jobs=jobs, listener=listener)
    return steps


def score_by_backend(
    folder: StudyFolder, jobs: Sequence[ScoreJob], tools: Tools, more: Mapping[str, Any] | None = None
) -> list[int]:
    """Scores checkpoints that differ in nothing else, by one worker or all ranks of a run; returns their steps."""
    request = {key: value for key, value in vars(jobs[0]).items() if key != "checkpoint"}
    request |= {"folder": str(folder.root), "checkpoints": [str(job.checkpoint) for job in jobs], **(more or {})}
    return _steps_of(tools.run_ranks("lossary.scoring.job", request, jobs[0].backend))


def _steps_of(result: Mapping[str, Any]) -> list[int]:
    return [int(scored["step"]) for scored in result["scored"]]


def _tell_lacking(folder: StudyFolder, others: Collection[str], listener: Listener) -> None:
    """A line for every column but others whose scores lack a dataset: no stage scores what is from elsewhere."""
    if not (folder.validation / MANIFEST).is_file():
        return
    parts = read_validation_manifest(folder)["parts"]
    for run in sorted(path.parent.name for path in (folder.root / "runs").glob("*/scores")):
        if run in others or not (files := sorted((folder.run(run) / "scores").glob("*.parquet"))):
            continue
        header = read_header(files[-1])
        if lacking := [name for name, digest in parts.items() if header.part(name) != digest]:
            command = again(folder, run, header.step or 0)
            listener.note(f"{run} is not scored on the present examples of {', '.join(lacking)}: {command} scores it")


def _refuse_other_origin(folder: StudyFolder, asked: Foreign) -> None:
    """UsageError if a column of a name that nobody chose holds the scores of others: folders of one name are many."""
    known = origins(folder, asked.name)
    if not known or asked.is_named or str(asked.origin) in known:
        return
    raise UsageError(
        f"the column {asked.name!r} has the scores of {', '.join(known)}, and {asked.origin} is another checkpoint",
        where="--name",
        hint=f"Give it a column of its own, as `--name {asked.origin.parent.name}-{asked.name}`, "
        f"or `--name {asked.name}` if it is the same.",
    )


def _refuse_unknown_step(folder: StudyFolder, name: str, column: Sequence[Foreign]) -> None:
    """UsageError where a checkpoint that says no step would stand before all steps of its column, as their begin."""
    unknown = [found for found in column if found.kind == "transformers" and found.step is None]
    scored = [int(path.stem) for path in (folder.run(name) / "scores").glob("*.parquet") if path.stem.isdecimal()]
    steps = sorted({step for step in [*scored, *(found.step for found in column)] if step})
    if unknown and steps:
        raise UsageError(
            f"it does not say of which step it is, and {name!r} has {', '.join(f'{step:,}' for step in steps)}",
            where=str(unknown[0].checkpoint),
            hint="Give it alone, with --step N (step=N in Python) if it is of the same training, or a name of its own.",
        )


def check_trained(folder: StudyFolder, run: str) -> None:
    if not list_checkpoints(folder.checkpoints(run)):
        raise CheckpointError(f"run {run!r} has no checkpoint", where=str(folder.run(run)), hint="Run `lossary train`.")


def check_step(folder: StudyFolder, runs: Sequence[str], step: int) -> None:
    """UsageError, and nothing scored, if a run does not have the checkpoint of a step that is asked for."""
    lacking = {}
    for run in runs:
        kept = list_checkpoints(folder.checkpoints(run))
        if folder.checkpoint(run, step) not in kept:
            lacking[run] = ", ".join(f"{checkpoint_step(path):,}" for path in kept) or "none"
    if lacking:
        having = [run for run in runs if run not in lacking]
        others = f"; {', '.join(having)} would be scored with --run" if having else ""
        raise UsageError(
            f"no checkpoint of step {step:,} is kept of {', '.join(lacking)}",
            where="--step",
            hint=f"Kept: {'; '.join(f'{run} {steps}' for run, steps in lacking.items())}. "
            f"`keep_checkpoints` and `keep_best` say which are{others}.",
        )


def checkpoints_of(folder: StudyFolder, run: str, which: Which | int) -> list[Path]:
    kept = list_checkpoints(folder.checkpoints(run))
    chosen = kept if which == "all" else kept[-1:] if which == "newest" else [folder.checkpoint(run, which)]
    for path in chosen:
        check_place(path)
    return chosen

"""A study end to end: prepare → train → evaluate → report; each stage keeps what is done already.

    run_study(study, folder, settings=Settings(), listener=listener)

Runs go one after another, or several at a time on parts of the cores. A run that fails does not take others with it:
the stage ends with an error that names all that failed.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Literal, NamedTuple

from lossary.backends.devices import lacking_device
from lossary.backends.process import Emit, WarmWorkers
from lossary.data.manifests import MANIFEST, read_manifest
from lossary.data.parts import present_validation, read_validation_manifest
from lossary.data.prepare import prepare_datasets
from lossary.data.source_files import list_files
from lossary.data.validation import prepare_examples
from lossary.engines.api import Engine, Needs
from lossary.engines.local import share_cores
from lossary.errors import (
    ChangeRefused,
    CheckpointError,
    Interrupted,
    LossaryError,
    RunError,
    StudyError,
    UsageError,
)
from lossary.files import clear_leftovers, read_json, write_json
from lossary.folder import StudyFolder
from lossary.launcher import Listener, Tools, each_run
from lossary.lease import STUDY, hold, refuse_beside_runs, run_lease
from lossary.models.checkpoints import checkpoint_step, list_checkpoints
from lossary.planning.generations import begin_generation, remember_study_file
from lossary.planning.plan import make_plan
from lossary.planning.text import plan_lines, refusal
from lossary.reports.closing import Page, kept_page, load_ahead, make_page
from lossary.results.endings import remembered
from lossary.results.records import ScoreHeader
from lossary.scoring.foreign import Foreign, foreign_request
from lossary.scoring.score import ScoreJob, is_scored, job_of_run
from lossary.statistics.sequential import Rule
from lossary.study import Study
from lossary.tables.build import Scored, best_run, scored_files, scored_runs
from lossary.training.plan import course_of, is_finished, plan_run, steps_done

__all__ = [
    "Allowed",
    "Decide",
    "Page",
    "Settings",
    "StepTime",
    "Which",
    "chosen_runs",
    "evaluate",
    "evaluate_foreign",
    "evaluate_until_decided",
    "prepare",
    "run_study",
    "time_steps",
    "train",
]

# Bytes of sources that are prepared about as soon as a framework is imported.
_LITTLE_TEXT = 64 << 20
# Which of the checkpoints that are kept of a run.
Which = Literal["newest", "all"]


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What may be done with changes that would lose what stands: some datasets stay as they were prepared; or all that
    stands is kept as a generation, and made anew."""

    keep_prepared: Sequence[str] = ()
    new_generation: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is done at once, and what."""

    runs: Sequence[str] | None = None
    jobs: int | None = None
    workers: int | None = None
    allowed: Allowed = Allowed()
    engine: Engine | None = None  # this machine if None


class StepTime(NamedTuple):
    """Seconds that a step of a run takes, and that its worker takes before the second one."""

    step_s: float
    start_s: float


def prepare(
    study: Study,
    folder: StudyFolder,
    *,
    workers: int | None = None,
    allowed: Allowed = Allowed(),
    engine: Engine | None = None,
    listener: Listener,
) -> None:
    """Tokenizer, shards, validation set and training examples.

    Raises ChangeRefused, before anything is touched, if that would lose what stands, and BusyError if another process
    makes them.
    """
    with hold(folder, STUDY, doing="prepare"):
        _clear(folder)
        _settle(study, folder, allowed, listener)
        _prepare(study, folder, workers, (allowed, engine), listener)


def _clear(folder: StudyFolder) -> None:
    """Takes away what a preparation left that was killed; large data leave much."""
    for path in (folder.tokenizer, folder.made_by):
        clear_leftovers(folder.root, path.name)
    prepared = folder.root / "prepared"
    for place in (folder.generations, folder.validation, prepared, *folder.validation.glob("*/"), *prepared.glob("*/")):
        clear_leftovers(place)


def _prepare(
    study: Study,
    folder: StudyFolder,
    workers: int | None,
    asked: tuple[Allowed, Engine | None],
    listener: Listener,
) -> None:
    allowed, engine = asked
    names = folder.names
    keep = [names.drawn_as(name) for name in allowed.keep_prepared]
    manifests = prepare_datasets(
        study.drawn(),
        folder.as_drawn,
        workers=workers,
        keep=keep,
        tokenisers=None if engine is None else engine.tokenisers,
        progress=listener.progress,
    )
    for name, manifest in ((names.called(drawn), manifest) for drawn, manifest in manifests.items()):
        for note in manifest["notes"]:
            listener.note(f"{name}: {names.told(note)}")
        if manifest["bad_rows"]:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(manifest["bad_reasons"].items()))
            quarantine = folder.dataset(name) / "quarantine.jsonl"
            listener.note(f"{name}: {manifest['bad_rows']:,} bad rows left out ({reasons}); samples in {quarantine}")
    before = _validation_digest(folder)
    notes = prepare_examples(study.drawn(), folder.as_drawn, progress=listener.progress)
    if _validation_digest(folder) != before:
        for note in read_validation_manifest(folder)["notes"]:
            listener.note(f"validation: {note}")
    for note in notes:
        listener.note(f"validation: {names.told(note)}")
    remember_study_file(folder)


def _settle(study: Study, folder: StudyFolder, allowed: Allowed, listener: Listener) -> None:
    """The plan stands before anything is touched, and is told."""
    unknown = [name for name in allowed.keep_prepared if name not in study.datasets]
    if unknown:
        known = ", ".join(study.datasets)
        raise UsageError(f"no dataset is called {unknown[0]!r}", where="--keep-prepared", hint=f"Datasets: {known}.")
    plan = make_plan(study, folder, keep=allowed.keep_prepared)
    if allowed.new_generation and not plan.refused:
        # Asked for where nothing is lost: then the examples that would stay are to be as many as the study file says.
        plan = make_plan(study, folder, keep=allowed.keep_prepared, renew=True)
    if plan.refused:
        if not allowed.new_generation:
            raise ChangeRefused(refusal(plan), where=str(folder.study_file))
        with ExitStack() as held:
            for run in sorted(plan.lost_runs):
                held.enter_context(hold(folder, run_lease(run)))
            listener.note(f"all that stood is kept in {begin_generation(folder, plan)}")
        plan = make_plan(study, folder, keep=allowed.keep_prepared)
    again = [
        item.what for item in plan.items if item.fate == "anew" and item.kind in ("tokenizer", "dataset", "validation")
    ]
    if again:
        refuse_beside_runs(folder, f"making {', '.join(again)} anew")
    for line in plan_lines(plan.changes):
        listener.note(f"plan: {line}")


def _validation_digest(folder: StudyFolder) -> str | None:
    found = (folder.validation / MANIFEST).is_file()
    return str(read_manifest(folder.validation)["digest"]) if found else None


def train(
    study: Study,
    folder: StudyFolder,
    *,
    runs: Sequence[str] | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    score_last: bool = False,
    warm: WarmWorkers | None = None,
    engine: Engine | None = None,
    listener: Listener,
) -> None:
    """Trains runs to their last step, each on `threads` cores or its part of all of them, by warm workers if there are.

    Steps that the recipe says are scored on the way; `score_last`: the last one even where it says nothing.
    Raises RunError if one failed, Interrupted if asked to stop.
    """

    def job(run: str, tools: Tools) -> None:
        recipe = study.recipe_of(run)
        scored = score_last or recipe.evaluate_every is not None
        last = folder.checkpoint(run, recipe.steps)
        drawn = folder.as_drawn
        finished = is_finished(study.drawn(), drawn, run)
        if not finished or (scored and not is_scored(drawn, job_of_run(study, run, last))):
            # The study as it is here: a file that is changed meanwhile, or overridden, is not read again.
            resolved = study.model_dump(mode="json", by_alias=True)
            request = {"study": resolved, "folder": str(folder.root), "run": run, "score_last": scored}
            if score_last:
                # The worker imports its framework meanwhile; the page is not far.
                Thread(target=load_ahead, name="load ahead").start()
            tools.share("lossary.worker", request, study.runs[run].backend)

    chosen = _some_runs(study, folder, runs)
    _check_courses(study, folder, chosen)
    _check_devices(study, folder, [run for run in chosen if not is_finished(study.drawn(), folder.as_drawn, run)])
    after = {run: start.run for run in chosen if (start := study.runs[run].start) is not None and start.run in chosen}
    each_run(
        "train",
        chosen,
        job,
        folder=folder,
        jobs=jobs,
        threads=threads,
        after=after,
        warm=warm,
        needs=_needs(study),
        engine=engine,
        listener=listener,
    )


def _needs(study: Study) -> dict[str, Needs]:
    return {run: Needs.of(settings) for run, settings in study.runs.items()}


def train_launched(study: Study, folder: StudyFolder, *, runs: Sequence[str] | None = None, listener: Listener) -> None:
    """Trains one run in this process, one of those that `torchrun` started; it starts them again if one is lost.

    UsageError if it is not one run of torch.
    """
    chosen = _some_runs(study, folder, runs)
    if len(chosen) != 1 or study.runs[chosen[0]].backend != "torch":
        named = f"{len(chosen)} runs" if len(chosen) != 1 else f"a run of {study.runs[chosen[0]].backend}"
        hint = "Name it by --run; `lossary train` alone starts as many processes as `ranks` in the study file says."
        raise UsageError(f"torchrun starts one run of torch, and {named} would be trained", hint=hint)
    [run] = chosen
    size, rows = int(os.environ.get("WORLD_SIZE", "1")), study.recipe_of(run).batch_size
    if size > rows:
        raise UsageError(f"{size} ranks cannot share a batch of {rows} examples", where=run)
    _check_courses(study, folder, chosen)
    # Imports of a worker process: this is one, of a launcher of its own.
    from lossary.backends.api import join_ranks
    from lossary.worker import train_as_rank

    ranks = join_ranks(0, 0, "")
    with ExitStack() as held:
        if ranks.rank == 0:
            held.enter_context(hold(folder, run_lease(run), doing="train"))
            held.enter_context(remembered(folder, run, "train"))
        scored = study.recipe_of(run).evaluate_every is not None
        emit: Emit = lambda event: listener.event(run, event)  # noqa: E731
        train_as_rank(study, folder, run, score_last=scored, ranks=ranks, emit=emit)


def time_steps(
    study: Study,
    folder: StudyFolder,
    *,
    steps: int,
    jobs: int | None = None,
    listener: Listener,
) -> dict[str, StepTime]:
    """How long a step of each run takes here while `jobs` of them go on, and a run until it begins; nothing is kept."""
    times: dict[str, StepTime] = {}

    def job(run: str, tools: Tools) -> None:
        resolved = study.model_dump(mode="json", by_alias=True)
        request = {"study": resolved, "folder": str(folder.root), "run": run, "steps": steps}
        began = time.monotonic()
        step_s = float(tools.run("lossary.training.timing", request, study.runs[run].backend)["step_s"])
        times[run] = StepTime(step_s, max(0.0, time.monotonic() - began - steps * step_s))

    each_run("time", list(study.runs), job, folder=folder, jobs=jobs, listener=listener)
    return {run: times[run] for run in study.runs}


def _check_courses(study: Study, folder: StudyFolder, runs: Sequence[str]) -> None:
    """No run is trained where one of them cannot go on as the study file asks."""
    for run in runs:
        course = course_of(plan_run(study.drawn(), folder.as_drawn, run), folder)
        if course.fate == "refused":
            raise ChangeRefused(
                f"run {run}: {course.why}",
                where=str(folder.study_file),
                hint="Undo the change, or give the changed run another name; `lossary plan` says what else there is.",
            )


def _check_devices(study: Study, folder: StudyFolder, runs: Sequence[str]) -> None:
    """No run is begun where this machine lacks the device of one of them."""
    for run in runs:
        lacking = lacking_device(study.runs[run].device)
        if lacking is not None:
            raise RunError(
                lacking,
                where=f"{folder.study_file}: $.runs.{run}.device",
                hint=f"Leave it out for the best one there is, or `--set runs.{run}.device=cpu` for now.",
            )


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
        checkpoints = _checkpoints(folder, run, which)
        of_run = [job_of_run(study, run, checkpoint, batch_size=batch_size) for checkpoint in checkpoints]
        wanted = [job for job in of_run if not is_scored(folder.as_drawn, job)]
        if wanted:
            _score_by_backend(folder, wanted, tools)

    chosen = _some_runs(study, folder, runs)
    if isinstance(which, int):
        _refuse_step(folder, chosen, which)
    begun = partial(_refuse_without_checkpoint, folder)
    each_run(
        "evaluate",
        chosen,
        job,
        folder=folder,
        jobs=jobs,
        begin=begun,
        needs=_needs(study),
        engine=engine,
        listener=listener,
    )


class Decide(NamedTuple):
    """Until what is evaluated: how runs differ from a base (the best run that is scored if None) is clear."""

    base: str | None = None
    margin: float | None = None
    rule: Rule = "obrien-fleming"


def evaluate_until_decided(
    study: Study,
    folder: StudyFolder,
    decide: Decide,
    *,
    runs: Sequence[str] | None = None,
    jobs: int | None = None,
    step: int | None = None,
    listener: Listener,
) -> list[str]:
    """Scores the newest checkpoint of each run, or that of a step, until it is clear how it differs from the base.

    Returns those that were not scored whole before; what was is left alone. UsageError if there is no base to compare
    with.
    """
    base = _base_scores(study, folder, decide.base, runs)
    chosen = [run for run in _some_runs(study, folder, runs) if run != base.header.run]
    if not chosen:
        raise UsageError(
            f"{base.header.run!r} is compared with itself", where="--base", hint="Name another run with --run."
        )
    if step is not None:
        _refuse_step(folder, chosen, step)
    described = present_validation(study, folder)["per_dataset"]
    until = {
        "base": str(base.path),
        "shares": {folder.names.drawn_as(name): row["share"] for name, row in described.items()},
        "rule": decide.rule,
        "margin": decide.margin,
    }

    stood = set[str]()

    def job(run: str, tools: Tools) -> None:
        for checkpoint in _checkpoints(folder, run, step or "newest"):
            one = job_of_run(study, run, checkpoint)
            if is_scored(folder.as_drawn, one):
                stood.add(run)
                listener.note(f"{run}: all examples are scored; `lossary compare {base.header.run} {run}` compares")
            else:
                _score_by_backend(folder, [one], tools, {"until": until})

    begun = partial(_refuse_without_checkpoint, folder)
    each_run("evaluate", chosen, job, folder=folder, jobs=jobs, begin=begun, listener=listener)
    return [run for run in chosen if run not in stood]


def _base_scores(study: Study, folder: StudyFolder, base: str | None, runs: Sequence[str] | None) -> Scored:
    """The newest whole scores of the base. UsageError if it has none in the study's own vocabulary."""
    validation = present_validation(study, folder)
    own = validation["tokenizer_digest"]
    scored = scored_files(study, folder, None if base is None else [base])
    whole = [
        files[-1]
        for run, every in scored.items()
        if run not in (runs or []) or run == base
        if (files := [file for file in every if _is_whole(file.header, validation["parts"], own)])
    ]
    if not whole:
        raise _lacks_base(study, base, runs or [])
    if len(whole) == 1:
        return whole[0]
    best = best_run(study, folder, runs=[found.header.run for found in whole])
    return next((found for found in whole if found.header.run == best), whole[0])


def _lacks_base(study: Study, base: str | None, runs: Sequence[str]) -> UsageError:
    """Says that nothing is scored whole that the runs could be compared with: a run is not its own base."""
    others = [run for run in study.runs if run not in runs]
    if base is not None:
        said, score = f"{base} has no whole scores in the study's vocabulary", [base]
    elif runs:
        said, score = f"no run but {', '.join(runs)} has whole scores, and a run cannot be its own base", others
    else:
        said, score = "no run has whole scores in the study's vocabulary to compare with", others
    hint = (
        f"Run `lossary evaluate --run {score[0]}` first."
        if len(score) == 1
        else (
            f"Run `lossary evaluate --run RUN` first, for one of: {', '.join(score)}."
            if score
            else "Add another run to the study, or name fewer with --run."
        )
    )
    return UsageError(said, where="--base", hint=hint)


def _is_whole(header: ScoreHeader, parts: Mapping[str, str], own: str) -> bool:
    is_own = header.pieces in ("", own) and "mlm" in header.objectives
    return is_own and all(header.part(name) == part for name, part in parts.items())


def _some_runs(study: Study, folder: StudyFolder, runs: Sequence[str] | None) -> list[str]:
    if not study.runs:
        raise UsageError(
            "the study has no runs",
            where=str(folder.study_file),
            hint="Add [runs.NAME] with backend and size; `lossary evaluate --checkpoint FOLDER` scores what you have.",
        )
    return chosen_runs(study, runs)


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
    steps: dict[str, list[int]] = {}

    def job(name: str, tools: Tools) -> None:
        steps[name] = []
        for found in (found for found in named[name] if found.kind != "transformers"):
            steps[name] += _score_by_backend(folder, [found.job(batch_size)], tools)
        others = [found for found in named[name] if found.kind == "transformers"]
        if others:
            request = foreign_request(folder, others, batch_size)
            steps[name] += _steps_of(tools.run("lossary.scoring.foreign_job", request, "torch"))
        origins = [*_origins(folder, name), *(str(found.origin) for found in named[name])]
        write_json(folder.origin(name), {"checkpoints": list(dict.fromkeys(origins))})

    each_run("evaluate", list(named), job, folder=folder, jobs=jobs, listener=listener)
    return steps


def _score_by_backend(
    folder: StudyFolder, jobs: Sequence[ScoreJob], tools: Tools, more: Mapping[str, Any] | None = None
) -> list[int]:
    """Scores checkpoints that differ in nothing else, in one process; returns their steps."""
    request = {key: value for key, value in vars(jobs[0]).items() if key != "checkpoint"}
    request |= {"folder": str(folder.root), "checkpoints": [str(job.checkpoint) for job in jobs], **(more or {})}
    return _steps_of(tools.run("lossary.scoring.job", request, jobs[0].backend))


def _steps_of(result: Mapping[str, Any]) -> list[int]:
    return [int(scored["step"]) for scored in result["scored"]]


def _origins(folder: StudyFolder, name: str) -> list[str]:
    """Where checkpoints whose scores a column holds were."""
    path = folder.origin(name)
    return list(read_json(path)["checkpoints"]) if path.is_file() else []


def _refuse_other_origin(folder: StudyFolder, asked: Foreign) -> None:
    """UsageError if a column of a name that nobody chose holds the scores of others: folders of one name are many."""
    known = _origins(folder, asked.name)
    if not known or asked.is_named or str(asked.origin) in known:
        return
    raise UsageError(
        f"the column {asked.name!r} has the scores of {', '.join(known)}, and {asked.origin} is another checkpoint",
        where="--name",
        hint=f"Give it a column of its own, as `--name {asked.origin.parent.name}-{asked.name}`, "
        f"or `--name {asked.name}` if it is the same.",
    )


def _refuse_without_checkpoint(folder: StudyFolder, run: str) -> None:
    if not list_checkpoints(folder.checkpoints(run)):
        raise CheckpointError(f"run {run!r} has no checkpoint", where=str(folder.run(run)), hint="Run `lossary train`.")


def _refuse_step(folder: StudyFolder, runs: Sequence[str], step: int) -> None:
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


def _checkpoints(folder: StudyFolder, run: str, which: Which | int) -> list[Path]:
    kept = list_checkpoints(folder.checkpoints(run))
    if which == "all":
        return kept
    return kept[-1:] if which == "newest" else [folder.checkpoint(run, which)]


def chosen_runs(study: Study, runs: Sequence[str] | None) -> list[str]:
    """The runs of a study that are asked for, in its order; UsageError if one of them is unknown."""
    unknown = [run for run in runs or [] if run not in study.runs]
    if unknown:
        raise UsageError(f"no run is called {unknown[0]!r}", hint=f"Runs: {', '.join(study.runs)}.")
    return [run for run in study.runs if runs is None or run in runs]


def run_study(study: Study, folder: StudyFolder, *, settings: Settings, listener: Listener) -> Page | None:
    """Everything from text to report. A run that failed is left out of the page, and said, by an error at the end.

    None if nothing is scored: a study without runs has a page once checkpoints from elsewhere are scored.
    """
    if folder.study_file.name != "study.toml":
        raise StudyError("the study file must be called study.toml", where=str(folder.study_file))
    chosen = chosen_runs(study, settings.runs)
    _check_devices(study, folder, [run for run in chosen if steps_done(folder, run) < study.recipe_of(run).steps])
    failed: LossaryError | None = None
    with _warmed(study, folder, settings) as warm:
        prepare(
            study,
            folder,
            workers=settings.workers,
            allowed=settings.allowed,
            engine=settings.engine,
            listener=listener,
        )
        try:
            if chosen:
                train(
                    study,
                    folder,
                    runs=chosen,
                    jobs=settings.jobs,
                    score_last=True,
                    warm=warm,
                    engine=settings.engine,
                    listener=listener,
                )
        except Interrupted:
            raise
        except RunError as error:
            failed = error
    scorable = [run for run in chosen if list_checkpoints(folder.checkpoints(run))]
    page: Page | None = None
    if scorable:
        evaluate(study, folder, runs=scorable, jobs=settings.jobs, engine=settings.engine, listener=listener)
    if scorable or (not study.runs and scored_runs(study, folder)):
        page = kept_page(study, folder) or make_page(study, folder)
        if page.note:
            listener.note(f"no report.html: {page.note}")
    if failed is not None:
        raise failed
    return page


def _warmed(study: Study, folder: StudyFolder, settings: Settings) -> WarmWorkers:
    """Workers that import their frameworks while a small study is prepared; a large one may need the memory."""
    warm = WarmWorkers()
    runs = chosen_runs(study, settings.runs)
    at_once, cores_each = share_cores(len(runs), settings.jobs)
    waiting = [
        run
        for run in runs
        if study.runs[run].start is None
        and study.runs[run].ranks == 1
        and steps_done(folder, run) < study.recipe_of(run).steps
    ]
    is_local = settings.engine is None or settings.engine.is_local
    if is_local and (os.cpu_count() or 1) > 1 and waiting and _has_little_text(study, folder):
        for run in waiting[:at_once]:
            warm.start("lossary.worker", backend=study.runs[run].backend, threads=cores_each)
    return warm


def _has_little_text(study: Study, folder: StudyFolder) -> bool:
    size = 0
    for name, dataset in study.datasets.items():
        if any(not source.startswith("builtin:") for source in dataset.sources):
            try:
                size += sum(file.bytes for file in list_files(dataset, folder.root, where=name, waits=False))
            except LossaryError:
                # Far away, or missing; that is told later.
                return False
    return size <= _LITTLE_TEXT

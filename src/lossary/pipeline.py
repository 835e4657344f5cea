"""A study end to end: prepare → train → evaluate → report; each stage keeps what is done already.

    run_study(study, folder, settings=Settings(), listener=listener)

Runs go one after another, or several at a time on parts of the cores. A run that fails does not take others with it:
the stage ends with an error that names all that failed.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from lossary.backends.process import WarmWorkers
from lossary.data.source_files import list_files
from lossary.engines.api import Engine
from lossary.engines.local import share_cores
from lossary.errors import Interrupted, LossaryError, RunError, StudyError
from lossary.folder import StudyFolder
from lossary.launcher import Listener
from lossary.models.checkpoints import list_checkpoints
from lossary.reports.closing import Page, kept_page, make_page
from lossary.stages.evaluate import Which, evaluate, evaluate_foreign
from lossary.stages.prepare import Allowed, prepare
from lossary.stages.runs import check_devices, chosen_runs
from lossary.stages.train import StepTime, time_steps, train, train_launched
from lossary.stages.until_decided import Decide, evaluate_until_decided
from lossary.study import Study
from lossary.tables.build import scored_runs
from lossary.training.plan import steps_done

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
    "train_launched",
]

# Bytes of sources that are prepared about as soon as a framework is imported.
_LITTLE_TEXT = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is done at once, and what."""

    runs: Sequence[str] | None = None
    jobs: int | None = None
    workers: int | None = None
    allowed: Allowed = field(default_factory=Allowed)
    engine: Engine | None = None  # this machine if None


def run_study(study: Study, folder: StudyFolder, *, settings: Settings, listener: Listener) -> Page | None:
    """Everything from text to report. A run that failed is left out of the page, and said, by an error at the end.

    None if nothing is scored: a study without runs has a page once checkpoints from elsewhere are scored.
    """
    if folder.study_file.name != "study.toml":
        raise StudyError("the study file must be called study.toml", where=str(folder.study_file))
    chosen = chosen_runs(study, settings.runs)
    begun = [run for run in chosen if steps_done(folder, run) < study.recipe_of(run).steps]
    check_devices(study, folder, begun, settings.engine)
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

"""A whole diagnosis: two sides, every check on each, and what the difference between them rests on.

diagnosis = diagnose(study, folder, Request(first="adapter.py", second="torch_xxl"))
"""

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lossary.diagnosis.checks import CHECKS
from lossary.diagnosis.documents import sample_documents
from lossary.diagnosis.engine import Check, Progress, chosen, examine, not_compared
from lossary.diagnosis.experiments import EXPERIMENTS, Experiment, Pair
from lossary.diagnosis.model import Diagnosis, Gap
from lossary.diagnosis.session import Launch, NotCompared, Session, launch_process
from lossary.diagnosis.sides import REFERENCE, Side, resolve
from lossary.diagnosis.subject import Probes, Subject, as_declared
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["Request", "diagnose"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be diagnosed."""

    first: str
    second: str = REFERENCE
    like: str | None = None  # the run whose recipe and size an adapter has; of the pair, or the study's first
    checks: Sequence[str] = ()  # only these (checks: and what they build on); empty: all
    without: Sequence[str] = ()  # switched off
    datasets: Sequence[str] = ()  # only these; empty: all
    documents: int = 400  # of each dataset
    threads: int = 1
    reported: Path | None = None  # a folder of imported tables, whose numbers are held against the runs' scores


def diagnose(
    study: Study,
    folder: StudyFolder,
    request: Request,
    *,
    launch: Launch = launch_process,
    progress: Progress = lambda _: None,
) -> Diagnosis:
    """Runs all checks and experiments that the sides allow.

    Raises UsageError if a name means nothing, ShardError if the study is not prepared, WorkerError if a side's process
    died. What a side's own code raises is part of the diagnosis.
    """
    started = time.process_time()
    checks, experiments = _chosen(request)
    names = [request.first] if request.second == REFERENCE else [request.first, request.second]
    if len(set(names)) < len(names):
        raise UsageError(
            f"both sides are {names[0]!r}", hint="Name two sides, or one, which is held against the reference."
        )
    sides = resolve(names, study, folder, like=request.like, threads=request.threads)
    documents = _documents(study, folder, request)
    with ExitStack() as stack:
        subjects = [_subject(stack, side, folder, documents, launch) for side in sides if side.spec is not None]
        outcomes = [outcome for subject in subjects for outcome in examine(subject, checks, progress=progress)]
        outcomes += [
            not_compared(check.name, check.stage, subject.label, "not asked for (--check, --without)")
            for subject in subjects
            for check in CHECKS
            if check not in checks
        ]
        pair = Pair(
            study=study,
            folder=folder,
            sides=tuple(sides),
            subjects=tuple(subjects),
            documents=documents,
            reported=request.reported,
            launch=launch,
        )
        gaps = tuple(_gaps(pair, experiments, progress))
        cost = time.process_time() - started + sum(subject.session.cpu_s for subject in subjects)
    return Diagnosis(
        study=study.name,
        sides=tuple(side.label for side in sides) if len(sides) > 1 else (sides[0].label, REFERENCE),
        outcomes=tuple(outcomes),
        gaps=gaps,
        command=_command(request, folder),
        cost_s=cost,
    )


def _chosen(request: Request) -> tuple[list[Check], list[Experiment]]:
    """The checks and experiments to be run."""
    known = [*(check.name for check in CHECKS), *(experiment.name for experiment in EXPERIMENTS)]
    for name in (*request.checks, *request.without):
        if name not in known:
            raise UsageError(f"no check is called {name!r}", hint=f"Checks: {', '.join(known)}.")
    checks = chosen(CHECKS, request.checks) if request.checks else list(CHECKS)
    experiments = [e for e in EXPERIMENTS if not request.checks or e.name in request.checks]
    return (
        [check for check in checks if check.name not in request.without],
        [experiment for experiment in experiments if experiment.name not in request.without],
    )


def _documents(study: Study, folder: StudyFolder, request: Request) -> list[dict[str, object]]:
    unknown = [name for name in request.datasets if name not in study.datasets]
    if unknown:
        raise UsageError(f"no dataset is called {unknown[0]!r}", hint=f"Datasets: {', '.join(study.datasets)}.")
    documents = sample_documents(study, folder, most=request.documents)
    return [document for document in documents if not request.datasets or document["dataset"] in request.datasets]


def _subject(
    stack: ExitStack, side: Side, folder: StudyFolder, documents: list[dict[str, object]], launch: Launch
) -> Subject:
    assert side.spec is not None
    session = stack.enter_context(Session(side.spec, side.setup, folder.diagnosis / "traces", launch=launch))
    session.check_shape()
    setup = as_declared(side.setup, session.description["declared"])
    return Subject(session=session, setup=setup, documents=documents, probes=Probes(setup=setup))


def _gaps(pair: Pair, experiments: Sequence[Experiment], progress: Progress) -> Iterator[Gap]:
    for experiment in experiments:
        progress(f"both: {experiment.name}")
        try:
            yield from experiment.run(pair)
        except NotCompared as reason:
            yield Gap(title=experiment.title, text=(f"not compared: {reason}",))


def _command(request: Request, folder: StudyFolder) -> str:
    parts = ["lossary", "diagnose", request.first, request.second, str(folder.root)]
    if request.like:
        parts += ["--like", request.like]
    if request.reported:
        parts += ["--reported", str(request.reported)]
    return shlex.join(parts)

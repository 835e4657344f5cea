"""Evaluations that stop where it is clear how a run differs from a base."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from lossary.data.parts import present_validation
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.launcher import Listener, Tools, each_run
from lossary.objectives import OBJECTIVES, objective_of
from lossary.results.records import ScoreHeader
from lossary.scoring.score import is_scored, job_of_run
from lossary.stages.evaluate import check_step, check_trained, checkpoints_of, score_by_backend
from lossary.stages.runs import some_runs
from lossary.statistics.sequential import Rule
from lossary.study import Study
from lossary.tables.build import Scored, best_run, scored_files

__all__ = ["Decide", "evaluate_until_decided"]


class Decide(NamedTuple):
    """Until what is evaluated: how runs differ from a base (the best run that is scored if None) is clear."""

    base: str | None = None
    margin: float | None = None
    rule: Rule = "obrien-fleming"
    metric: str = "mlm_loss"


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
    objective = _objective_of(decide.metric)
    base = _base_scores(study, folder, decide, objective, runs, listener)
    chosen = [run for run in some_runs(study, folder, runs) if run != base.header.run]
    if not chosen:
        raise UsageError(
            f"{base.header.run!r} is compared with itself", where="--base", hint="Name another run with --run."
        )
    if lacking := [run for run in chosen if objective not in study.recipe_of(run).objective]:
        raise UsageError(
            f"{', '.join(lacking)} has no {decide.metric}: {OBJECTIVES[objective].lacking}",
            where="--metric",
            hint="Name a metric of what the runs are trained on, or other runs with --run.",
        )
    if step is not None:
        check_step(folder, chosen, step)
    described = present_validation(study, folder)["per_dataset"]
    until = {
        "base": str(base.path),
        "shares": {folder.names.drawn_as(name): row["share"] for name, row in described.items()},
        "rule": decide.rule,
        "margin": decide.margin,
        "metric": decide.metric,
    }

    stood = set[str]()

    def job(run: str, tools: Tools) -> None:
        for checkpoint in checkpoints_of(folder, run, step or "newest"):
            one = job_of_run(study, run, checkpoint)
            if is_scored(folder.as_drawn, one):
                stood.add(run)
                listener.note(f"{run}: all examples are scored; `lossary compare {base.header.run} {run}` compares")
            else:
                score_by_backend(folder, [one], tools, {"until": until})

    begun = partial(check_trained, folder)
    each_run("evaluate", chosen, job, folder=folder, jobs=jobs, begin=begun, listener=listener)
    return [run for run in chosen if run not in stood]


def _objective_of(metric: str) -> str:
    """The objective of a metric; UsageError if it is not one that runs of a study are decided by."""
    objective = objective_of(metric)
    if objective is None or metric not in objective.metrics:
        known = ", ".join(name for one in OBJECTIVES.values() for name in one.metrics)
        raise UsageError(f"no metric is called {metric!r}", where="--metric", hint=f"Known: {known}.")
    return objective.name


def _base_scores(
    study: Study,
    folder: StudyFolder,
    decide: Decide,
    objective: str,
    runs: Sequence[str] | None,
    listener: Listener,
) -> Scored:
    """The newest whole scores of the base. UsageError if it has none in the study's own vocabulary."""
    base = decide.base
    validation = present_validation(study, folder)
    own = validation["tokenizer_digest"]
    scored = scored_files(study, folder, None if base is None else [base])
    whole = [
        files[-1]
        for run, every in scored.items()
        if run not in (runs or []) or run == base
        if (files := [file for file in every if _is_whole(file.header, validation["parts"], own, objective)])
    ]
    if not whole:
        raise _lacks_base(study, base, runs or [], decide.metric)
    if len(whole) == 1:
        return whole[0]
    notes: list[str] = []
    best = best_run(study, folder, runs=[found.header.run for found in whole], notes=notes)
    if best is None and notes:
        raise UsageError("no run has a loss of every dataset", where="--base", hint=f"{'; '.join(notes)}. Name a base.")
    for note in notes:
        listener.note(note)
    return next((found for found in whole if found.header.run == best), whole[0])


def _lacks_base(study: Study, base: str | None, runs: Sequence[str], metric: str) -> UsageError:
    """Says that nothing is scored whole that the runs could be compared with: a run is not its own base."""
    others = [run for run in study.runs if run not in runs]
    of = "" if metric == Decide().metric else f" with {metric}"
    if base is not None:
        said, score = f"{base} has no whole scores{of} in the study's vocabulary", [base]
    elif runs:
        said, score = f"no run but {', '.join(runs)} has whole scores{of}, and a run cannot be its own base", others
    else:
        said, score = f"no run has whole scores{of} in the study's vocabulary to compare with", others
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


def _is_whole(header: ScoreHeader, parts: Mapping[str, str], own: str, objective: str) -> bool:
    is_own = header.pieces in ("", own) and objective in header.objectives
    return is_own and all(header.part(name) == part for name, part in parts.items())

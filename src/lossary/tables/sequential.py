"""Evaluations that stopped where it was clear how a run differs from a base: shown beside the table, never in it.

    answers, notes = sequential_answers(study, folder, ["tf_xl"])
    [(answer.dataset, answer.answer, answer.examples, answer.available) for answer in answers]

A cell is of all frozen examples. What stopped earlier is of a random part of them that its own numbers chose the size
of, so that it has no cell: its difference has an interval that holds wherever it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lossary.data.parts import present_validation
from lossary.errors import ScoreError
from lossary.folder import StudyFolder
from lossary.results.records import ScoreHeader, read_header
from lossary.results.stopped import Stopped, StoppedPart
from lossary.statistics.equivalence import Answer
from lossary.study import Study
from lossary.tables.model import Metric, SequentialAnswer, measure_of
from lossary.tables.own_scores import is_of_other_weights, score_files

__all__ = ["IN_PART", "is_scored_in_part", "sequential_answers"]

IN_PART = "not scored on all examples"


def is_scored_in_part(folder: StudyFolder, run: str) -> bool:
    """Whether some examples alone were scored of a step of the run."""
    return any((folder.run(run) / "sequential").glob("*.parquet"))


@dataclass(frozen=True, kw_only=True)
class _Found:
    header: ScoreHeader
    stopped: Stopped


def sequential_answers(
    study: Study, folder: StudyFolder, runs: Sequence[str], *, step: int | None = None, superseded: bool = False
) -> tuple[list[SequentialAnswer], list[str]]:
    """Each run's answers at a step, or its newest ones if it has no whole scores as new; notes on what they are.

    With `superseded`, also those beside whole scores.
    """
    parts = present_validation(study, folder)["parts"]
    answers, notes = list[SequentialAnswer](), list[str]()
    for run in runs:
        found = _newest(folder, run, step)
        if found is None:
            continue
        if not superseded and _is_superseded(folder, run, found.header.step, newest=step is None):
            continue
        if why := _stale(folder, found.stopped, parts):
            notes.append(f"{run}: what was decided early at step {found.header.step:,} is left out: {why}")
            continue
        answers += _answers(found)
        scored = sum(part.examples for part in found.stopped.parts.values())
        available = sum(part.available for part in found.stopped.parts.values())
        notes.append(
            f"{run}: step {found.header.step:,} was scored on {scored:,} of {available:,} examples, to decide how it "
            f"differs from {found.stopped.base}; that is in no cell, `lossary evaluate` scores it for the table"
        )
    return answers, notes


def _newest(folder: StudyFolder, run: str, step: int | None) -> _Found | None:
    files = sorted((folder.run(run) / "sequential").glob("*.parquet"), reverse=True)
    for path in (path for path in files if step is None or int(path.stem) == step):
        if is_of_other_weights(folder, run, path):
            continue
        header = read_header(path)
        if header.stopped is None:
            raise ScoreError("these scores do not say how they stopped", where=str(path), hint="Delete the file.")
        return _Found(header=header, stopped=header.stopped)
    return None


def _is_superseded(folder: StudyFolder, run: str, step: int, *, newest: bool) -> bool:
    """Whether the table has whole scores that say more."""
    whole = [int(path.stem) for path in score_files(folder, run)]
    return step in whole or (newest and any(other > step for other in whole))


def _stale(folder: StudyFolder, stopped: Stopped, parts: dict[str, str]) -> str | None:
    if {name: part.part for name, part in stopped.parts.items()} != parts:
        return "the validation set is another one now"
    path = folder.scores(stopped.base, stopped.base_step)
    if not path.is_file() or read_header(path).weights_digest != stopped.base_weights_digest:
        return f"the scores of {stopped.base} that it was compared with are not there any more"
    return None


def _answers(found: _Found) -> list[SequentialAnswer]:
    stopped = found.stopped
    rows = [_answer(found, name, part) for name, part in stopped.parts.items()]
    return [*rows, _answer(found, None, _total(stopped))]


def _answer(found: _Found, dataset: str | None, part: StoppedPart) -> SequentialAnswer:
    metric: Metric = found.stopped.metric
    return SequentialAnswer(
        run=found.header.run,
        step=found.header.step,
        base=found.stopped.base,
        base_step=found.stopped.base_step,
        dataset=dataset,
        metric=metric,
        unit=measure_of(metric).unit,
        rule=found.stopped.rule,
        level=found.stopped.level,
        margin=found.stopped.margin,
        value=part.value,
        low=part.low,
        high=part.high,
        examples=part.examples,
        available=part.available,
        answer=part.answer,
        reason=part.reason,
    )


def _total(stopped: Stopped) -> StoppedPart:
    """By validation share. All intervals hold at once, so that their weighted sum holds, wherever each stopped."""
    weight = sum(stopped.shares.values())
    parts = [(stopped.shares[name] / weight, part) for name, part in stopped.parts.items()]
    reason = next((f"{name}: {part.reason}" for name, part in stopped.parts.items() if part.value is None), None)
    value = sum(share * (part.value or 0.0) for share, part in parts)
    low = high = None
    answer: Answer = "undecided"
    if reason is None and all(part.low is not None and part.high is not None for _, part in parts):
        low = sum(share * (part.low or 0.0) for share, part in parts)
        high = sum(share * (part.high or 0.0) for share, part in parts)
        margin = stopped.margin or 0.0
        if low > margin or high < -margin:
            answer = "differs"
        elif max(high, -low) < margin:
            answer = "equal"
    return StoppedPart(
        examples=sum(part.examples for _, part in parts),
        available=sum(part.available for _, part in parts),
        part="",
        value=None if reason else value,
        low=low,
        high=high,
        answer=answer,
        reason=reason,
    )

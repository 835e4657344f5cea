"""Runs, or all their checkpoints, by one total: what may be best, and what the noise of training covers.

    found = rank(study, folder)                                  # by the loss; by bits a byte across vocabularies
    found = rank(study, folder, Criterion.parse("mlm_loss:macro", where="--by"))
    [c.name for c in found.candidates if c.may_be_best]

Each candidate is paired with the best one seen, on the examples that both were scored on. That another
checkpoint would be measured as well says nothing of what another seed would have done: that is a floor of its own, from
runs that differ in their seed alone.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from lossary.data.parts import present_validation
from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.objectives import objective_of
from lossary.results.records import ScoreHeader
from lossary.results.scorefile import ScoreFile
from lossary.statistics.estimates import weighted_mean
from lossary.statistics.ranking import NoiseFloor, Worse, noise_floor, worse_than_best
from lossary.study import Study
from lossary.tables.best import Criterion, totals_on_one_set, weights_of
from lossary.tables.build import Scored, has_several_vocabularies, left_out_notes, ranked_by, scored_files
from lossary.tables.components import ComponentsRow, components_of
from lossary.tables.deltas import compare_files
from lossary.tables.model import Metric, is_across_vocabularies, measure_of
from lossary.tables.seeds import configurations

__all__ = ["Candidate", "Configuration", "Difference", "Ranking", "rank", "ranking_of", "repeats"]

Key = TypeVar("Key", bound=Hashable)

_THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run at a step, and how much worse than the best one seen it is."""

    run: str
    step: int | None  # None where an import does not say
    value: float
    worse: float | None  # None of the best one itself; `low` and `high` bound all of them at once at 95 %
    low: float | None
    high: float | None
    p: float | None  # that it is no worse, after Bonferroni
    may_be_best: bool  # never without a difference to the best one seen
    reason: str | None  # why there is no difference
    exceeds_noise: bool | None  # whether seeds do not explain the difference; None where their spread is not known

    @property
    def name(self) -> str:
        return self.run if self.step is None else f"{self.run}@{self.step:,}"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Runs that differ in their seed alone, at their last step, by their mean."""

    runs: list[str]
    value: float
    worse: float  # than the best mean; 0 of that one
    exceeds_noise: bool | None


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Candidates, best first; `configurations` only where a run has repeats."""

    criterion: Criterion
    datasets: list[str]
    candidates: list[Candidate]
    configurations: list[Configuration]
    floor: NoiseFloor | None
    notes: list[str]
    components: list[ComponentsRow] = field(default_factory=list)  # only where a run has repeats


def rank(
    study: Study,
    folder: StudyFolder,
    criterion: Criterion | None = None,
    *,
    runs: Sequence[str] | None = None,
    every_step: bool = False,
) -> Ranking:
    """Ranks the newest scores of runs, or every scored checkpoint; by what tables are ranked by if nothing is said.

    UsageError for unknown runs, and for what is of other pieces in each of several vocabularies; ScoreError where fewer
    than two have such a total.
    """
    validation = present_validation(study, folder)
    weighting = criterion.weighting if criterion else Criterion().weighting
    weights = weights_of(study, folder, weighting, validation)
    notes: list[str] = []
    scored = _candidates(scored_files(study, folder, runs), validation["parts"], weights, notes, every_step=every_step)
    criterion = criterion or Criterion(_ranked_by([found.header for found in scored]), weighting)
    used, totals = _totals(scored, weights, criterion.metric, notes)
    headers = [found.header for found in scored if found.path in totals]
    if has_several_vocabularies(headers) and not is_across_vocabularies(criterion.metric):
        raise UsageError(
            f"{criterion.metric} is of other pieces in each vocabulary",
            where="--by",
            hint=f"Rank by {_ranked_by(headers)}, or name runs of one vocabulary with --run.",
        )
    if len(totals) < 2:
        raise ScoreError(
            f"{len(totals)} scored checkpoints have a {criterion}; two are the fewest that can be ranked",
            where=str(folder.root),
            hint="; ".join(notes) or "Run `lossary evaluate`.",
        )
    notes += list(dict.fromkeys(left_out_notes(validation, list(used), headers)))
    order = _best_first(totals, criterion)
    found = _differences(order, used, criterion.metric)
    last = _last(totals, newest=not every_step)
    groups = repeats((study, folder), last, {run: int(path.stem) for run, path in last.items()})
    return ranking_of(
        criterion,
        {path: (path.parent.parent.name, int(path.stem), totals[path]) for path in order},
        found,
        groups,
        datasets=list(used),
        notes=notes,
        components=components_of(groups, used, criterion.metric),
    )


def _best_first(totals: Mapping[Key, float], criterion: Criterion) -> list[Key]:
    return sorted(totals, key=lambda key: totals[key], reverse=not measure_of(criterion.metric).lower_is_better)


def ranking_of(
    criterion: Criterion,
    known: Mapping[Key, tuple[str, int | None, float]],
    differences: Mapping[Key, "Difference"],
    groups: Sequence[Sequence[Key]],
    *,
    datasets: Sequence[str],
    notes: Sequence[str],
    components: Sequence[ComponentsRow] = (),
) -> Ranking:
    """A ranking of what is known (run, step, total), from differences of all others to the best one.

    `groups` are the configurations: what differs in its seed alone, of one step.
    """
    totals = {key: total for key, (_, _, total) in known.items()}
    order = _best_first(totals, criterion)
    sign = 1 if measure_of(criterion.metric).lower_is_better else -1
    floor = noise_floor([[totals[key] for key in group] for group in groups])
    candidates = []
    for key in order:
        run, step, total = known[key]
        difference = differences.get(key, _NO_DIFFERENCE)
        worse = difference.worse
        exceeds = _exceeds(floor, sign * (total - totals[order[0]]))
        candidates.append(
            Candidate(
                run=run,
                step=step,
                value=total,
                worse=None if worse is None else worse.value,
                low=None if worse is None else worse.low,
                high=None if worse is None else worse.high,
                p=None if worse is None else worse.p,
                may_be_best=key == order[0] or (worse is not None and worse.may_be_best),
                reason=difference.reason,
                exceeds_noise=None if worse is None else exceeds,
            )
        )
    return Ranking(
        criterion=criterion,
        datasets=list(datasets),
        candidates=candidates,
        configurations=_configurations([[(known[k][0], totals[k]) for k in group] for group in groups], floor, sign),
        floor=floor,
        notes=[*notes, *_difference_notes(candidates, [differences[key] for key in order[1:]])],
        components=list(components),
    )


class Difference(NamedTuple):
    """A candidate's paired difference to the best one seen, or why there is none; examples that one of both lacks."""

    worse: Worse | None
    reason: str | None
    unmatched: int


_NO_DIFFERENCE = Difference(None, None, 0)


def _ranked_by(headers: Sequence[ScoreHeader]) -> Metric:
    """The first loss, or bits a byte across vocabularies, that two candidates may have."""
    having = [name for header in headers for name in header.objectives]
    asked = [(metric, measure_of(metric).objective or "") for metric in ranked_by(headers)]
    twice = [metric for metric, objective in asked if having.count(objective) > 1]
    return next(iter([*twice, *(metric for metric, _ in asked), Criterion().metric]))


def _candidates(
    scored: Mapping[str, list[Scored]],
    parts: Mapping[str, str],
    datasets: Iterable[str],
    notes: list[str],
    *,
    every_step: bool,
) -> list[Scored]:
    """The newest, or all, files of each run that hold scores of the present examples of all datasets."""
    found = []
    for run, files in scored.items():
        whole = [file for file in files if all(file.header.part(name) == parts[name] for name in datasets)]
        if not whole:
            notes.append(f"{run}: no scores of all examples of all datasets; left out")
        found += whole if every_step else whole[-1:]
    return found


def _totals(
    scored: Sequence[Scored], weights: Mapping[str, float], metric: Metric, notes: list[str]
) -> tuple[dict[str, float], dict[Path, float]]:
    """The weights of datasets that can have such a number, and the totals of files that have one of each of them.

    What has no number anywhere, as the order of sentences in single ones, is in no total. A dataset that others have
    is in all: without one that is hard for it a checkpoint would look better than it is.
    """
    totals = totals_on_one_set({file.path: file.path for file in scored}, weights, metric)
    unknown = [name for name in weights if name not in totals.datasets]
    if unknown:
        notes.append(f"without {', '.join(unknown)}: no candidate has a number")
    for file in scored:
        if lacking := totals.lacking.get(file.path):
            why = next(iter(lacking.values()))
            notes.append(f"{file.header.run}@{file.header.step:,}: {', '.join(lacking)}: {why}; left out")
    return {name: weights[name] for name in totals.datasets}, totals.values


def _differences(order: list[Path], weights: Mapping[str, float], metric: Metric) -> dict[Path, Difference]:
    """The paired difference of every other candidate to the best one seen."""
    objective = objective_of(metric)
    asked = [] if objective is None else [objective.name]

    def difference(path: Path) -> Difference:
        paired = compare_files(ScoreFile(order[0]), ScoreFile(path), list(weights), asked)
        total = weighted_mean([(weight, paired.estimates[name][metric]) for name, weight in weights.items()])
        lower = measure_of(metric).lower_is_better
        worse = worse_than_best(total, candidates=len(order), lower_is_better=lower)
        unmatched = sum(of_dataset[metric] for of_dataset in paired.unmatched.values())
        return Difference(worse, None if worse else total.reason, unmatched)

    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(order[1:], pool.map(difference, order[1:]), strict=True))


def _difference_notes(candidates: Sequence[Candidate], found: Sequence[Difference]) -> list[str]:
    """Differences that could not be made, and those that do not rest on all examples."""
    best, notes = candidates[0], []
    for candidate, difference in zip(candidates[1:], found, strict=True):
        if difference.worse is None:
            notes.append(
                f"{candidate.name} has no difference to {best.name} and may not be the best: {difference.reason}"
            )
        if difference.unmatched:
            what = f"{difference.unmatched:,} examples that only one of both has"
            notes.append(f"{candidate.name} is compared with {best.name} without {what}")
    return notes


def _last(totals: Iterable[Path], *, newest: bool) -> dict[str, Path]:
    """The newest file of each run."""
    last: dict[str, Path] = {}
    for path in totals:
        run = path.parent.parent.name
        if newest or run not in last or int(path.stem) > int(last[run].stem):
            last[run] = path
    return last


def repeats(
    opened: tuple[Study, StudyFolder], keys: Mapping[str, Key], steps: Mapping[str, int | None]
) -> list[list[Key]]:
    """Keys of runs by configuration; repeats that are not equally far say nothing about seeds and are left out."""
    groups = configurations(opened, list(keys))
    return [[keys[run] for run in group] for group in groups if len({steps[run] for run in group}) == 1]


def _exceeds(floor: NoiseFloor | None, difference: float, first: int = 1, second: int = 1) -> bool | None:
    if floor is None:
        return None
    return difference > floor.least_difference(first, second)


def _configurations(
    groups: Sequence[Sequence[tuple[str, float]]], floor: NoiseFloor | None, sign: int
) -> list[Configuration]:
    if floor is None or len(groups) < 2:
        return []
    means = [sum(total for _, total in group) / len(group) for group in groups]
    order = sorted(range(len(groups)), key=lambda index: sign * means[index])
    best = order[0]
    return [
        Configuration(
            runs=[run for run, _ in groups[index]],
            value=means[index],
            worse=sign * (means[index] - means[best]),
            exceeds_noise=None
            if index == best
            else _exceeds(floor, sign * (means[index] - means[best]), len(groups[best]), len(groups[index])),
        )
        for index in order
    ]

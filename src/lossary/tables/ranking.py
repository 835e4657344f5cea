"""Runs, or all their checkpoints, by one total: what may be best, and what the noise of training covers.

    found = rank(study, folder, Criterion.parse("mlm_loss:macro", where="--by"))
    [c.name for c in found.candidates if c.may_be_best]

Candidates are compared on the examples that all were scored on, each paired with the best one seen. That another
checkpoint would be measured as well says nothing of what another seed would have done: that is a floor of its own, from
runs that differ in their seed alone.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lossary.data.parts import present_validation
from lossary.errors import ScoreError
from lossary.folder import StudyFolder
from lossary.objectives import objective_of
from lossary.results.scorefile import ScoreFile
from lossary.statistics.estimates import weighted_mean
from lossary.statistics.ranking import NoiseFloor, Worse, noise_floor, worse_than_best
from lossary.study import Study
from lossary.tables.best import Criterion, total_of, weights_of
from lossary.tables.build import scored_files
from lossary.tables.deltas import compare_files
from lossary.tables.model import measure_of
from lossary.tables.seeds import configurations

__all__ = ["Candidate", "Configuration", "Ranking", "rank"]

_THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run at a step, and how much worse than the best one seen it is."""

    run: str
    step: int
    value: float
    worse: float | None  # None of the best one itself; `low` and `high` bound all of them at once at 95 %
    low: float | None
    high: float | None
    p: float | None  # that it is no worse, after Bonferroni
    may_be_best: bool
    exceeds_noise: bool | None  # whether seeds do not explain the difference; None where their spread is not known

    @property
    def name(self) -> str:
        return f"{self.run}@{self.step:,}"


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


def rank(
    study: Study,
    folder: StudyFolder,
    criterion: Criterion,
    *,
    runs: Sequence[str] | None = None,
    every_step: bool = False,
) -> Ranking:
    """Ranks the newest scores of runs, or every scored checkpoint.

    UsageError for unknown runs, ScoreError where fewer than two have such a total.
    """
    validation = present_validation(study, folder)
    weights = weights_of(study, folder, criterion.weighting, validation)
    totals, notes = _totals(study, folder, criterion, (runs, every_step), (weights, validation["parts"]))
    if len(totals) < 2:
        raise ScoreError(
            f"{len(totals)} scored checkpoints have a {criterion}; two are the fewest that can be ranked",
            where=str(folder.root),
            hint="; ".join(notes) or "Run `lossary evaluate`.",
        )
    sign = 1 if measure_of(criterion.metric).lower_is_better else -1
    order = sorted(totals, key=lambda path: sign * totals[path])
    groups = _groups((study, folder), totals, newest=not every_step)
    floor = noise_floor([[totals[path] for path in group.values()] for group in groups])
    found = _differences(order, weights, criterion)
    candidates = [
        _candidate(path, totals[path], found.get(path), _exceeds(floor, sign * (totals[path] - totals[order[0]])))
        for path in order
    ]
    return Ranking(
        criterion=criterion,
        datasets=list(weights),
        candidates=candidates,
        configurations=_configurations(groups, totals, floor, sign),
        floor=floor,
        notes=notes,
    )


def _candidate(path: Path, value: float, worse: Worse | None, exceeds_noise: bool | None) -> Candidate:
    return Candidate(
        run=path.parent.parent.name,
        step=int(path.stem),
        value=value,
        worse=None if worse is None else worse.value,
        low=None if worse is None else worse.low,
        high=None if worse is None else worse.high,
        p=None if worse is None else worse.p,
        may_be_best=worse is None or worse.may_be_best,
        exceeds_noise=None if worse is None else exceeds_noise,
    )


def _totals(
    study: Study,
    folder: StudyFolder,
    criterion: Criterion,
    which: tuple[Sequence[str] | None, bool],
    wanted: tuple[dict[str, float], Mapping[str, str]],
) -> tuple[dict[Path, float], list[str]]:
    """Totals by file of scores; and why some have none."""
    runs, every_step = which
    weights, parts = wanted
    totals: dict[Path, float] = {}
    notes = []
    for run, files in scored_files(study, folder, runs).items():
        usable = {
            found.path: value
            for found in files
            if all(found.header.part(name) == parts[name] for name in weights)
            and (value := total_of(found.path, weights, criterion.metric)) is not None
        }
        if not usable:
            notes.append(f"{run}: no scores of all datasets that give a {criterion}; left out")
        totals |= usable if every_step else dict(list(usable.items())[-1:])
    return totals, notes


def _differences(order: list[Path], weights: Mapping[str, float], criterion: Criterion) -> dict[Path, Worse | None]:
    """The paired difference of every other candidate to the best one seen."""

    objective = objective_of(criterion.metric)
    asked = [] if objective is None else [objective.name]

    def worse(path: Path) -> Worse | None:
        estimates = compare_files(ScoreFile(order[0]), ScoreFile(path), list(weights), asked).estimates
        parts = [(weight, estimates[name][criterion.metric]) for name, weight in weights.items()]
        total = weighted_mean([part for part in parts if part[1].value is not None])
        lower = measure_of(criterion.metric).lower_is_better
        return worse_than_best(total, candidates=len(order), lower_is_better=lower)

    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(order[1:], pool.map(worse, order[1:]), strict=True))


def _groups(opened: tuple[Study, StudyFolder], totals: Mapping[Path, float], *, newest: bool) -> list[dict[str, Path]]:
    """Files of runs by configuration, each run at its newest step, of one step within a configuration."""
    last: dict[str, Path] = {}
    for path in totals:
        run = path.parent.parent.name
        if newest or run not in last or int(path.stem) > int(last[run].stem):
            last[run] = path
    groups = [{run: last[run] for run in group} for group in configurations(opened, list(last))]
    # Repeats that are not equally far say nothing about seeds.
    return [group for group in groups if len({path.stem for path in group.values()}) == 1]


def _exceeds(floor: NoiseFloor | None, difference: float, first: int = 1, second: int = 1) -> bool | None:
    if floor is None:
        return None
    return difference > floor.least_difference(first, second)


def _configurations(
    groups: list[dict[str, Path]], totals: Mapping[Path, float], floor: NoiseFloor | None, sign: int
) -> list[Configuration]:
    if floor is None or len(groups) < 2:
        return []
    means = [sum(totals[path] for path in group.values()) / len(group) for group in groups]
    order = sorted(range(len(groups)), key=lambda index: sign * means[index])
    best = order[0]
    return [
        Configuration(
            runs=list(groups[index]),
            value=means[index],
            worse=sign * (means[index] - means[best]),
            exceeds_noise=None
            if index == best
            else _exceeds(floor, sign * (means[index] - means[best]), len(groups[best]), len(groups[index])),
        )
        for index in order
    ]

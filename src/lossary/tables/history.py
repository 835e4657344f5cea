"""What runs scored on the validation set on their way: every file of scores of the set, not the newest only."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lossary.folder import StudyFolder
from lossary.results.records import ScoreHeader, read_header
from lossary.results.scorefile import ScoreFile
from lossary.statistics.estimates import Estimate, weighted_mean
from lossary.tables.deltas import compare_files
from lossary.tables.model import DatasetRow, Metric, Table
from lossary.tables.own_scores import score_files
from lossary.tables.scores import file_estimates

__all__ = ["Evaluation", "Rise", "evaluations", "rises"]

_THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A number of the validation set at one step of a run."""

    run: str
    dataset: str
    metric: Metric
    step: int
    tokens: int | None
    value: float
    low: float | None
    high: float | None
    variance: float | None = None
    n: int = 0


def evaluations(table: Table, folder: StudyFolder) -> list[Evaluation]:
    """All evaluations of the table's runs on its validation set; the newest are the table's own cells."""
    tokens = {run.name: run.tokens for run in table.runs}
    found = [
        Evaluation(
            run=cell.run,
            dataset=cell.dataset,
            metric=cell.metric,
            step=cell.step,
            tokens=tokens[cell.run],
            value=cell.value,
            low=cell.low,
            high=cell.high,
            variance=cell.variance,
            n=cell.n,
        )
        for cell in table.cells
        if cell.value is not None and cell.step is not None
    ]
    older = [
        (path, read_header(path))
        for run in table.runs
        for path in score_files(folder, run.name)
        if (run.step is None or int(path.stem) != run.step)
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(partial(_of_file, table.datasets), older):
            found += part
    return found


def _of_file(rows: Sequence[DatasetRow], found: tuple[Path, ScoreHeader]) -> list[Evaluation]:
    path, header = found
    names = [row.name for row in rows if row.validation_digest == header.part(row.name)]
    estimates = file_estimates(ScoreFile(path), names)
    return [
        Evaluation(
            run=header.run,
            dataset=name,
            metric=metric,
            step=header.step,
            tokens=header.tokens,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            variance=estimate.variance,
            n=estimate.n,
        )
        for name in names
        for metric, estimate in estimates[name].items()
        if estimate.value is not None
    ]


@dataclass(frozen=True, kw_only=True)
class Rise:
    """A dataset of a run from the step where its loss was lowest to the one in the table, beside the total.

    Both changes are of the same examples, paired; by validation share in total.
    """

    run: str
    dataset: str
    metric: Metric
    best_step: int
    step: int
    best: float
    value: float
    change: Estimate
    total_change: Estimate
    earlier: int  # steps among which the lowest was chosen


def rises(table: Table, folder: StudyFolder, points: Sequence[Evaluation], *, least: float) -> list[Rise]:
    """What lies more than `least` above its lowest earlier step; of the main loss, where all datasets were scored."""
    metric = table.main_loss
    values: dict[tuple[str, int], dict[str, float]] = {}
    for point in points:
        if point.metric == metric:
            values.setdefault((point.run, point.step), {})[point.dataset] = point.value
    names = [row.name for row in table.datasets]
    whole = {key: found for key, found in values.items() if len(found) == len(names)}
    found = []
    for run in table.runs:
        now = whole.get((run.name, run.step or 0))
        earlier = {step: at for (name, step), at in whole.items() if name == run.name and step < (run.step or 0)}
        if now is None or not earlier:
            continue
        lowest = {name: min(earlier, key=lambda step: earlier[step][name]) for name in names}
        risen = [name for name in names if now[name] - earlier[lowest[name]][name] > least]
        for best_step in dict.fromkeys(lowest[name] for name in risen):
            files = [ScoreFile(folder.scores(run.name, step)) for step in (best_step, run.step or 0)]
            paired = compare_files(files[0], files[1], names).estimates
            parts = [(row.validation_share or 0.0, paired[row.name][metric]) for row in table.datasets]
            total = weighted_mean(parts)
            found += [
                Rise(
                    run=run.name,
                    dataset=name,
                    metric=metric,
                    best_step=best_step,
                    step=run.step or 0,
                    best=earlier[best_step][name],
                    value=now[name],
                    change=paired[name][metric],
                    total_change=total,
                    earlier=len(earlier),
                )
                for name in risen
                if lowest[name] == best_step
            ]
    return found

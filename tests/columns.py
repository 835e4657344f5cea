"""Scores of a run as columns by objective, and what follows from them without a file and without DuckDB."""

from pathlib import Path

import numpy as np

from lossary.objectives import OBJECTIVES
from lossary.results.scorefile import Columns, PairedSums, ScoreFile, ScoreSums, paired_sums
from lossary.statistics.estimates import Estimate
from lossary.tables.deltas import PairedRuns
from lossary.tables.scores import differences, estimates_of

__all__ = ["RunColumns", "columns_of", "compare_columns", "estimates_of_columns", "file_columns"]

RunColumns = dict[str, Columns]


def columns_of(
    datasets: list[str],
    dataset: np.ndarray,
    example: np.ndarray,
    *,
    masked: np.ndarray,
    mlm: tuple[np.ndarray, np.ndarray],
    sop: tuple[np.ndarray, np.ndarray] | None = None,
) -> RunColumns:
    """Columns of nats and right answers; targets have three bytes a masked position."""
    n = len(example)
    found = {}
    for name, pair in (("mlm", mlm), ("sop", sop)):
        nats, correct = (np.zeros(0), np.zeros(0)) if pair is None else pair
        rows = slice(None) if pair is not None else slice(0)
        targets = masked if name == "mlm" else np.ones(n)
        found[name] = Columns(
            datasets=datasets,
            dataset=dataset[rows],
            example=example.astype(np.uint64)[rows],
            tokens=(7.0 * masked)[rows],
            targets=targets[rows],
            bytes=(3.0 * masked)[rows] if name == "mlm" else np.full(n, np.nan)[rows],
            nats=nats,
            correct=correct,
            label=np.full(n, -1)[rows],
            target_nats=np.zeros(0, np.float32),
        )
    return found


def file_columns(path: Path, names: list[str]) -> RunColumns:
    """The columns of a file."""
    return {objective: ScoreFile(path).columns(objective, names) for objective in ScoreFile(path).objectives}


def estimates_of_columns(scores: RunColumns) -> dict[str, dict[str, Estimate]]:
    """Every metric of every dataset."""
    names = next(iter(scores.values())).datasets
    found: dict[str, dict[str, Estimate]] = {name: {} for name in names}
    for index, name in enumerate(names):
        has_any = any((columns.dataset == index).any() for columns in scores.values())
        for objective, columns in scores.items():
            part = columns.take(columns.dataset == index)
            sums = ScoreSums.of(nats=part.nats, correct=part.correct, targets=part.targets, bytes=part.bytes)
            reason = OBJECTIVES[objective].nothing if has_any else "no validation example"
            found[name] |= estimates_of(OBJECTIVES[objective], sums if len(part) else None, reason)
    return found


def compare_columns(first: RunColumns, second: RunColumns) -> PairedRuns:
    """Differences on the examples of both."""
    names = next(iter(first.values())).datasets
    estimates: dict[str, dict[str, Estimate]] = {name: {} for name in names}
    unmatched: dict[str, dict[str, int]] = {name: {} for name in names}
    examples: dict[str, int] = {}
    for name, objective in OBJECTIVES.items():
        if name in first or name in second:
            both = name in first and name in second
            found = paired_sums(first[name], second[name]) if both else PairedSums({}, dict.fromkeys(names, 0))
            examples = examples or found.unmatched
            for dataset in names:
                estimates[dataset] |= differences(objective, found.sums.get(dataset))
                unmatched[dataset] |= dict.fromkeys(objective.metrics, examples[dataset])
    return PairedRuns(estimates, unmatched)

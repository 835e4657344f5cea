"""Stored scores as columns, with what rescoring needs beyond a table's sums: labels, and the nats of every position.

scores = read_scores(folder.scores("tf_xxl", 1000), ["old_reform", "new_views"])
scores.of("new_views").mlm_nats.sum() / scores.of("new_views").masked.sum()
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.errors import ScoreError
from lossary.results.scorefile import ScoreFile, shared

__all__ = ["Scores", "matched", "read_scores"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What one run got on N validation examples, sorted by dataset and example; (N,) each unless told otherwise."""

    datasets: tuple[str, ...]
    dataset: NDArray[np.int64]  # index into `datasets`
    example: NDArray[np.uint64]
    tokens: Floats
    masked: Floats
    mlm_nats: Floats
    mlm_correct: Floats
    sop_label: NDArray[np.int64]  # −1 where there is no pair
    sop_nats: Floats  # 0 where there is no pair
    sop_correct: Floats  # 0 where there is no pair
    positions: NDArray[np.float32]  # (Σ masked,) nats of each scored position, one example after another; or empty

    def __len__(self) -> int:
        return len(self.example)

    @property
    def pairs(self) -> NDArray[np.bool_]:
        """Examples with an order label."""
        return self.sop_label >= 0

    def take(self, rows: NDArray[Any]) -> "Scores":
        """The examples at some rows."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        arrays = {name: value[rows] for name, value in vars(self).items() if name not in ("datasets", "positions")}
        positions = self.positions
        if len(positions):
            starts = np.concatenate([[0], np.cumsum(self.masked)]).astype(np.int64)
            parts = [positions[starts[row] : starts[row + 1]] for row in rows]
            positions = np.concatenate(parts) if parts else positions[:0]
        return Scores(datasets=self.datasets, positions=positions, **arrays)

    def of(self, dataset: str) -> "Scores":
        """The examples of one dataset."""
        return self.take(self.dataset == self.datasets.index(dataset))


def read_scores(path: Path, datasets: list[str], *, positions: bool = False) -> Scores:
    """A file of scores; nats of single positions only if asked for.

    Raises ScoreError if it is damaged, or if losses in it are not finite: what is rescored rests on every example.
    """
    file = ScoreFile(path)
    mlm, sop = file.columns("mlm", datasets, target_nats=positions), file.columns("sop", datasets)
    broken = sum(int(np.count_nonzero(np.isnan(columns.nats))) for columns in (mlm, sop))
    if broken:
        raise ScoreError(f"{broken:,} losses are NaN or infinite", where=str(path), hint="Diagnose an earlier step.")
    at, rows = shared(mlm, sop)
    of_pairs = {"sop_label": np.full(len(mlm), -1), "sop_nats": np.zeros(len(mlm)), "sop_correct": np.zeros(len(mlm))}
    for name, values in of_pairs.items():
        values[at] = getattr(sop, name.removeprefix("sop_"))[rows]
    return Scores(
        datasets=tuple(datasets),
        dataset=mlm.dataset,
        example=mlm.example,
        tokens=mlm.tokens,
        masked=mlm.targets,
        mlm_nats=mlm.nats,
        mlm_correct=mlm.correct,
        positions=mlm.target_nats,
        **of_pairs,
    )


def matched(first: Scores, second: Scores) -> tuple[Scores, Scores]:
    """The examples that both were scored on, with the same masked positions, in the same order."""
    if first.datasets != second.datasets:
        raise ValueError(f"scores are of {first.datasets} and of {second.datasets}; the same datasets are expected")
    left, right = shared(first, second)
    same = first.masked[left] == second.masked[right]
    return first.take(left[same]), second.take(right[same])

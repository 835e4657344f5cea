"""Stored scores as columns, with what rescoring needs beyond a table's sums: labels, and the nats of every position.

scores = read_scores(folder.scores("tf_xxl", 1000), ["old_reform", "new_views"])
scores.of("new_views").mlm_nats.sum() / scores.of("new_views").masked.sum()
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.errors import ScoreError
from lossary.naming import names_beside
from lossary.seals import read_sealed

__all__ = ["Scores", "matched", "read_scores"]

Floats = NDArray[np.float64]
_COLUMNS = ["dataset", "example", "tokens", "masked", "mlm_nats", "mlm_correct", "sop_label", "sop_nats", "sop_correct"]


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
    columns = [*_COLUMNS, "position_nats"] if positions else _COLUMNS
    table = read_sealed(path, columns)
    broken = int(np.count_nonzero(~np.isfinite(_floats(table.column("mlm_nats")))))
    broken += int(np.count_nonzero(~np.isfinite(_floats(table.column("sop_nats").filter(_pairs_of(table))))))
    if broken:
        raise ScoreError(f"{broken:,} losses are NaN or infinite", where=str(path), hint="Diagnose an earlier step.")
    names = table.column("dataset").to_pylist()
    drawn_as = names_beside(path).drawn_as
    known = {drawn_as(name): index for index, name in enumerate(datasets)}
    dataset = np.array([known.get(name, -1) for name in names], np.int64)
    lists = table.column("position_nats").combine_chunks() if positions else None
    found = Scores(
        datasets=tuple(datasets),
        dataset=dataset,
        example=table.column("example").to_numpy(),
        sop_label=_filled(table.column("sop_label"), -1).astype(np.int64),
        positions=_flat(lists) if lists is not None else np.zeros(0, np.float32),
        **{
            name: _filled(table.column(name), 0).astype(np.float64)
            for name in ("tokens", "masked", "mlm_nats", "mlm_correct", "sop_nats", "sop_correct")
        },
    )
    order = np.lexsort((found.example, found.dataset))
    order = order[found.dataset[order] >= 0]
    return found if np.array_equal(order, np.arange(len(found))) else found.take(order)


def _pairs_of(table: pa.Table) -> pa.ChunkedArray:
    """Whether an order was asked of an example, and answered."""
    return table.column("sop_correct").is_valid()


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(), np.float64)


def _flat(lists: pa.ListArray) -> NDArray[np.float32]:
    return np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.float32)


def _filled(column: pa.ChunkedArray, missing: int) -> NDArray[Any]:
    column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
    return np.asarray(column.fill_null(missing).to_numpy())


def matched(first: Scores, second: Scores) -> tuple[Scores, Scores]:
    """The examples that both were scored on, with the same masked positions, in the same order."""
    if first.datasets != second.datasets:
        raise ValueError(f"scores are of {first.datasets} and of {second.datasets}; the same datasets are expected")
    keys = []
    for scores in (first, second):
        key = np.empty(len(scores), [("dataset", np.int64), ("example", np.uint64)])
        key["dataset"], key["example"] = scores.dataset, scores.example
        keys.append(key)
    _, left, right = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    same = first.masked[left] == second.masked[right]
    return first.take(left[same]), second.take(right[same])

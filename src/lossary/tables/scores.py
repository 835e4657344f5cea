"""Scores of one run as columns, and the estimates of each dataset from them; lists of positions are never read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lossary.errors import ScoreError
from lossary.statistics.estimates import Estimate, MeanSums, RatioSums, mean, proportion, ratio
from lossary.tables.model import METRICS, Metric

__all__ = ["ScoreColumns", "dataset_estimates", "file_estimates", "read_columns"]

# Files whose estimates are remembered: a few numbers a dataset, where reading takes a second for ten million scores.
_REMEMBERED = 1024
_COLUMNS = ["dataset", "example", "masked", "mlm_nats", "mlm_correct", "sop_nats", "sop_correct"]


@dataclass(frozen=True, kw_only=True)
class ScoreColumns:
    """Scores of one run, sorted by dataset and example; (N,) each, `sop_nats` NaN where there is no pair."""

    datasets: list[str]
    dataset: NDArray[np.int64]  # index into `datasets`
    example: NDArray[np.uint64]
    masked: NDArray[np.float64]
    mlm_nats: NDArray[np.float64]
    mlm_correct: NDArray[np.float64]
    sop_nats: NDArray[np.float64]
    sop_correct: NDArray[np.float64]

    def take(self, rows: NDArray[Any]) -> "ScoreColumns":
        """The scores at these rows."""
        arrays = {name: value[rows] for name, value in vars(self).items() if name != "datasets"}
        return ScoreColumns(datasets=self.datasets, **arrays)


def dataset_estimates(scores: ScoreColumns, *, has_sop: bool = True) -> dict[str, dict[Metric, Estimate]]:
    """Every metric of every dataset; what does not exist has its reason."""
    counts = np.bincount(scores.dataset, minlength=len(scores.datasets))
    ends = np.cumsum(counts)
    return {
        name: _estimates(scores, slice(end - count, end), has_sop=has_sop)
        for name, count, end in zip(scores.datasets, counts, ends, strict=True)
    }


def file_estimates(path: Path, datasets: Sequence[str], *, has_sop: bool) -> dict[str, dict[Metric, Estimate]]:
    """As `dataset_estimates` of a file; remembered while the file stays what it is. ScoreError if it is damaged."""
    try:
        status = path.stat()
    except OSError as error:
        raise ScoreError(f"not readable: {error}", where=str(path), hint="Evaluate again.") from None
    return _remembered(path, (status.st_ino, status.st_mtime_ns, status.st_size), tuple(datasets), has_sop)


@lru_cache(maxsize=_REMEMBERED)
def _remembered(
    path: Path, _: tuple[int, int, int], datasets: tuple[str, ...], has_sop: bool
) -> dict[str, dict[Metric, Estimate]]:
    return dataset_estimates(read_columns(path, datasets), has_sop=has_sop)


def _estimates(scores: ScoreColumns, part: slice, *, has_sop: bool) -> dict[Metric, Estimate]:
    x = scores.masked[part]
    if not len(x):
        return {metric: Estimate(value=None, reason="no validation example") for metric in METRICS}
    found: dict[Metric, Estimate] = {}
    for metric, y in (("mlm_loss", scores.mlm_nats[part]), ("mlm_accuracy", scores.mlm_correct[part])):
        found[metric] = ratio(RatioSums.of(y, x))  # type: ignore[index]
    sop = scores.sop_nats[part]
    labelled = ~np.isnan(sop)
    sop = sop[labelled]
    if not len(sop):
        why = "no example has two sentences" if has_sop else "the checkpoint has no sentence-order head"
        return found | {metric: Estimate(value=None, reason=why) for metric in ("sop_loss", "sop_accuracy")}
    found["sop_loss"] = mean(MeanSums.of(sop))
    found["sop_accuracy"] = proportion(int(scores.sop_correct[part][labelled].sum()), len(sop))
    return found


def read_columns(path: Path, datasets: Sequence[str]) -> ScoreColumns:
    """The sums of a file of scores; lists of positions are not read. ScoreError if it is damaged."""
    try:
        # `pq.read_table` plans for datasets of many files; that takes longer than reading this one.
        table = pq.ParquetFile(path).read(columns=_COLUMNS, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ScoreError(f"not readable: {error}", where=str(path), hint="Delete it and evaluate again.") from None
    names = table.column("dataset").combine_chunks()
    names = names if pa.types.is_dictionary(names.type) else names.dictionary_encode()
    known = {name: index for index, name in enumerate(datasets)}
    code = np.array([known.get(name, -1) for name in names.dictionary.to_pylist()], np.int64)
    found = ScoreColumns(
        datasets=list(datasets),
        dataset=code[names.indices.to_numpy(zero_copy_only=False)],
        example=table.column("example").to_numpy(),
        **{name: _floats(table.column(name)) for name in _COLUMNS[2:]},
    )
    step = np.diff(found.dataset)
    in_order = (step > 0) | ((step == 0) & (found.example[1:] > found.example[:-1]))
    if in_order.all() and (code >= 0).all():
        return found
    order = np.lexsort((found.example, found.dataset))
    return found.take(order[found.dataset[order] >= 0])


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values = column.cast(pa.float64()) if not pa.types.is_boolean(column.type) else column.cast(pa.int8())
    return np.asarray(values.to_numpy(), np.float64)

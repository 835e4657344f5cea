"""Scores of one run as columns, and the estimates of each dataset from their sums; lists of positions are not read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.errors import ScoreError
from lossary.naming import names_beside
from lossary.results.parquet import ask, file_name
from lossary.seals import read_sealed
from lossary.statistics.estimates import Estimate, MeanSums, RatioSums, accuracy, mean, proportion, ratio, within
from lossary.tables.model import METRICS, Metric

__all__ = ["NO_NUMBER", "ScoreColumns", "dataset_estimates", "file_estimates", "no_number", "read_columns"]

# Files whose estimates are remembered: a few numbers a dataset, where reading takes a second for ten million scores.
_REMEMBERED = 1024
_COLUMNS = ["dataset", "example", "masked", "mlm_nats", "mlm_correct", "sop_nats", "sop_correct"]
NO_NUMBER = "gave no finite loss"


@dataclass(frozen=True, kw_only=True)
class ScoreColumns:
    """Scores of one run, sorted by dataset and example; (N,) each.

    `mlm_nats` is NaN where an example gave no finite loss; `sop_nats` is infinite there, NaN where there is no pair.
    """

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


class ScoreSums(NamedTuple):
    """Sums over the scores of one dataset; enough for every estimate."""

    nats: RatioSums
    correct: RatioSums
    sop_nats: MeanSums
    sop_correct: int
    broken: int = 0  # examples whose loss is no number
    sop_broken: int = 0


def no_number(broken: int, n: int, what: str = "examples") -> str:
    """The reason of a cell some of whose examples gave NaN or infinite losses."""
    return f"{broken:,} of {n:,} {what} {NO_NUMBER}"


def dataset_estimates(scores: ScoreColumns, *, has_sop: bool = True) -> dict[str, dict[Metric, Estimate]]:
    """Every metric of every dataset; what does not exist has its reason."""
    counts = np.bincount(scores.dataset, minlength=len(scores.datasets))
    ends = np.cumsum(counts)
    return {
        name: _estimates(_sums(scores, slice(end - count, end)), has_sop=has_sop)
        for name, count, end in zip(scores.datasets, counts, ends, strict=True)
    }


def file_estimates(path: Path, datasets: Sequence[str], *, has_sop: bool) -> dict[str, dict[Metric, Estimate]]:
    """As `dataset_estimates` of a file; remembered while the file stays what it is. ScoreError if it is damaged."""
    try:
        status = path.stat()
    except OSError as error:
        raise ScoreError(f"not readable: {error}", where=str(path), hint="Evaluate again.") from None
    sums = _remembered(path, (status.st_ino, status.st_mtime_ns, status.st_size))
    names = names_beside(path)
    return {name: _estimates(sums.get(names.drawn_as(name)), has_sop=has_sop) for name in datasets}


# Sums of doubles are compensated: they do not lose digits over millions of examples. Losses that are no numbers are
# counted instead of added, also those that an earlier version stored as NaN; only a pair has `sop_correct`.
_SUMS = """
SELECT dataset, count(*), fsum(masked), fsum(masked::DOUBLE * masked),
       fsum(mlm), fsum(mlm * mlm), fsum(mlm * masked),
       fsum(mlm_correct), fsum(mlm_correct::DOUBLE * mlm_correct), fsum(mlm_correct::DOUBLE * masked),
       count(sop), fsum(sop), fsum(sop * sop), fsum(sop * sop * sop), count(*) FILTER (sop IS NOT NULL AND sop_correct),
       count(*) FILTER (mlm IS NULL), count(*) FILTER (sop IS NULL AND sop_correct IS NOT NULL)
FROM (SELECT *, CASE WHEN isfinite(mlm_nats) THEN mlm_nats END AS mlm,
                CASE WHEN isfinite(sop_nats) THEN sop_nats END AS sop
      FROM read_parquet(?, hive_partitioning = false)) GROUP BY dataset
"""


@lru_cache(maxsize=_REMEMBERED)
def _remembered(path: Path, _: tuple[int, int, int]) -> dict[str, ScoreSums]:
    found = {}
    for dataset, n, x, xx, y, yy, xy, c, cc, cx, pairs, s, ss, sss, right, *broken in ask(_SUMS, [file_name(path)]):
        found[dataset] = ScoreSums(
            nats=RatioSums(n, y or 0.0, x, yy or 0.0, xy or 0.0, xx),
            correct=RatioSums(n, c, x, cc, cx, xx),
            sop_nats=MeanSums(pairs, s or 0.0, ss or 0.0, sss or 0.0),
            sop_correct=right,
            broken=broken[0],
            sop_broken=broken[1],
        )
    return found


def _sums(scores: ScoreColumns, part: slice) -> ScoreSums | None:
    """The sums of one dataset; None without examples."""
    x = scores.masked[part]
    if not len(x):
        return None
    mlm, sop = scores.mlm_nats[part], scores.sop_nats[part]
    labelled = np.isfinite(sop)
    return ScoreSums(
        nats=RatioSums.of(mlm, x),
        correct=RatioSums.of(scores.mlm_correct[part], x),
        sop_nats=MeanSums.of(sop[labelled]),
        sop_correct=int(scores.sop_correct[part][labelled].sum()),
        broken=int(np.count_nonzero(~np.isfinite(mlm))),
        sop_broken=int(np.count_nonzero(np.isinf(sop))),
    )


def _estimates(sums: ScoreSums | None, *, has_sop: bool) -> dict[Metric, Estimate]:
    if sums is None:
        return {metric: Estimate(value=None, reason="no validation example") for metric in METRICS}
    found: dict[Metric, Estimate] = {
        "mlm_loss": within(ratio(sums.nats), 0.0, inf),
        "mlm_accuracy": accuracy(sums.correct),
    }
    if sums.broken:
        none = Estimate(value=None, n=sums.nats.n, reason=no_number(sums.broken, sums.nats.n))
        found = {"mlm_loss": none, "mlm_accuracy": none}
    if sums.sop_broken:
        pairs = sums.sop_nats.n + sums.sop_broken
        none = Estimate(value=None, n=pairs, reason=no_number(sums.sop_broken, pairs, "pairs"))
        return found | {"sop_loss": none, "sop_accuracy": none}
    if not sums.sop_nats.n:
        why = "no example has two sentences" if has_sop else "the checkpoint has no sentence-order head"
        return found | {metric: Estimate(value=None, reason=why) for metric in ("sop_loss", "sop_accuracy")}
    found["sop_loss"] = within(mean(sums.sop_nats), 0.0, inf)
    found["sop_accuracy"] = proportion(sums.sop_correct, sums.sop_nats.n)
    return found


def read_columns(path: Path, datasets: Sequence[str]) -> ScoreColumns:
    """The sums of a file of scores; lists of positions are not read. ScoreError if it is damaged."""
    table = read_sealed(path, _COLUMNS)
    names = table.column("dataset").combine_chunks()
    names = names if pa.types.is_dictionary(names.type) else names.dictionary_encode()
    drawn_as = names_beside(path).drawn_as
    known = {drawn_as(name): index for index, name in enumerate(datasets)}
    code = np.array([known.get(name, -1) for name in names.dictionary.to_pylist()], np.int64)
    found = ScoreColumns(
        datasets=list(datasets),
        dataset=code[names.indices.to_numpy(zero_copy_only=False)],
        example=table.column("example").to_numpy(),
        **{name: _floats(table.column(name)) for name in _COLUMNS[2:]},
    )
    found.mlm_nats[~np.isfinite(found.mlm_nats)] = np.nan
    found.sop_nats[~np.isfinite(found.sop_nats) & ~np.isnan(found.sop_correct)] = np.inf
    step = np.diff(found.dataset)
    in_order = (step > 0) | ((step == 0) & (found.example[1:] > found.example[:-1]))
    if in_order.all() and (code >= 0).all():
        return found
    order = np.lexsort((found.example, found.dataset))
    return found.take(order[found.dataset[order] >= 0])


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values = column.cast(pa.float64()) if not pa.types.is_boolean(column.type) else column.cast(pa.int8())
    return np.array(values.to_numpy(), np.float64)

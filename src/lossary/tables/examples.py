"""The examples that make the gap between two runs: paired by example, in the order of what they cost.

    gap = open_gap(study, folder, Pair(first="tf_xxl", second="torch_xxl", dataset="old_reform"))
    gap.delta                       # second minus first, in nats, as `lossary compare` has it
    gap.page("worse", offset=0, limit=20)

DuckDB reads the columns of two files that it takes to pair them; what is kept are a difference and two row numbers an
example, so that a page of millions of examples reads the rows that it shows. Texts are another module's: `texts.py`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.naming import names_beside
from lossary.results.parquet import ask, ask_arrays, file_name
from lossary.study import Study
from lossary.tables.build import scored_runs

__all__ = [
    "MEASURES",
    "ORDERS",
    "Gap",
    "GapRow",
    "Histogram",
    "Measure",
    "Order",
    "Pair",
    "Score",
    "open_gap",
    "read_gap",
]

Measure = Literal["mlm", "sop"]
# `worse`: where the second run loses most comes first; `better`: where it gains most; `largest`: either.
Order = Literal["worse", "better", "largest"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
ORDERS: tuple[Order, ...] = get_args(Order)

_BINS = 40
# A histogram ends where so small a part of the examples lies beyond; what lies there is counted in its end bins.
_BEYOND = 0.002


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs on one dataset; differences are of the second minus the first."""

    first: str
    second: str
    dataset: str
    measure: Measure = "mlm"


class Score(NamedTuple):
    """What one run got on one example; nats and predicted pieces by masked position."""

    nats: float
    correct: int
    sop_nats: float | None
    sop_correct: bool | None
    position_nats: list[float]
    predicted: list[int]


@dataclass(frozen=True, kw_only=True)
class GapRow:
    """One example that two runs were scored on."""

    rank: int  # from 1, in the order asked for
    example: int
    tokens: int
    masked: int
    sop_label: int | None  # 0 in order, 1 swapped
    delta: float  # nats, second minus first
    first: Score
    second: Score

    @property
    def document(self) -> int:
        """The row of the dataset that the example was made from."""
        return self.example >> 24


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of differences in bins of one width; the first and the last bin also hold what lies beyond them."""

    edges: list[float]  # one more than counts
    counts: list[int]
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class Gap:
    """All paired examples of one dataset, sorted by what the second run loses on them; (N,) each."""

    pair: Pair
    paths: tuple[Path, Path]
    deltas: NDArray[np.float64]  # ascending, nats
    rows: tuple[NDArray[np.int64], NDArray[np.int64]]  # of both files
    weight: int  # what the sum of differences is divided by: masked positions, or pairs
    unmatched: int  # examples that one run only was scored on

    def __len__(self) -> int:
        return len(self.deltas)

    @property
    def total(self) -> float:
        """Nats that the second run loses on all examples together."""
        return float(self.deltas.sum())

    @property
    def delta(self) -> float | None:
        """The difference of the losses, Σ nats / Σ masked or pairs; None without examples."""
        return self.total / self.weight if self.weight else None

    @cached_property
    def worse(self) -> int:
        """Examples on which the second run loses."""
        return len(self) - int(np.searchsorted(self.deltas, 0.0, side="right"))

    @cached_property
    def better(self) -> int:
        """Examples on which the second run gains."""
        return int(np.searchsorted(self.deltas, 0.0, side="left"))

    @cached_property
    def histogram(self) -> Histogram | None:
        """How differences are spread; None without examples."""
        if not len(self):
            return None
        low, high = np.quantile(self.deltas, [_BEYOND, 1 - _BEYOND])
        # No difference is a number that readers look for: it is the edge of a bin.
        width = max(float(high) - min(float(low), 0.0), 1e-9) / _BINS
        first = np.floor(min(float(low), 0.0) / width)
        edges = (first + np.arange(_BINS + 2)) * width
        counts, _ = np.histogram(np.clip(self.deltas, edges[0], edges[-1]), edges)
        return Histogram(
            edges=edges.tolist(), counts=counts.tolist(), lowest=float(self.deltas[0]), highest=float(self.deltas[-1])
        )

    def ranks(self, order: Order, *, offset: int, limit: int) -> NDArray[np.int64]:
        """Positions in `deltas` of one page."""
        if order == "largest":
            return self._by_size[offset : offset + limit]
        positions = np.arange(offset, min(offset + limit, len(self)))
        return positions if order == "better" else len(self) - 1 - positions

    @cached_property
    def _by_size(self) -> NDArray[np.int64]:
        return np.argsort(-np.abs(self.deltas), kind="stable")

    def page(self, order: Order = "worse", *, offset: int = 0, limit: int = 20) -> list[GapRow]:
        """The examples of one page with everything that is known of their scores.

        Raises ScoreError if the files of scores are no longer those that were paired.
        """
        at = self.ranks(order, offset=offset, limit=limit)
        with ThreadPoolExecutor(len(self.paths)) as pool:
            found = list(pool.map(_read_rows, self.paths, (rows[at] for rows in self.rows)))
        sop = self.pair.measure == "sop"
        page = []
        for number, position in enumerate(at):
            first, second = (part[number] for part in found)
            delta = float(self.deltas[position])
            if first.key != second.key or delta != _delta(first.score, second.score, sop=sop):
                raise ScoreError("the scores were replaced while they were read", where=str(self.paths[0]))
            example, tokens, masked = first.key
            # A run without a sentence-order head has no label.
            label = second.label if first.label is None else first.label
            row = GapRow(
                rank=offset + number + 1,
                example=example,
                tokens=tokens,
                masked=masked,
                sop_label=label,
                delta=delta,
                first=first.score,
                second=second.score,
            )
            page.append(row)
        return page

    def share(self, order: Order, count: int) -> float | None:
        """The part of the gap that the first `count` examples of an order make; None where there is no gap."""
        return float(self.deltas[self.ranks(order, offset=0, limit=count)].sum()) / self.total if self.total else None


class _Row(NamedTuple):
    key: tuple[int, int, int]
    label: int | None
    score: Score


def _delta(first: Score, second: Score, *, sop: bool) -> float:
    if sop:
        return (second.sop_nats or 0.0) - (first.sop_nats or 0.0)
    return second.nats - first.nats


def open_gap(study: Study, folder: StudyFolder, pair: Pair) -> Gap:
    """The gap between the newest scores of two runs of a study.

    Raises UsageError for an unknown run or dataset, ScoreError for a run that was not scored.
    """
    if pair.first == pair.second:
        raise UsageError("a run is compared with itself", hint="Name two runs.")
    if pair.dataset not in study.datasets:
        raise UsageError(
            f"no dataset is called {pair.dataset!r}", where="--dataset", hint=f"Datasets: {', '.join(study.datasets)}."
        )
    paths = {scored.header.run: scored.path for scored in scored_runs(study, folder, [pair.first, pair.second])}
    for run in (pair.first, pair.second):
        if run not in paths:
            raise ScoreError(f"run {run!r} has no scores of this validation set", hint="Run `lossary evaluate`.")
    return read_gap((paths[pair.first], paths[pair.second]), pair)


_SCORED = """
SELECT file_row_number AS row, example, masked, {nats} AS nats
FROM read_parquet(?, hive_partitioning = false) WHERE dataset = ? AND isfinite({nats}) AND isfinite(mlm_nats)
"""
_ROWS = """
SELECT file_row_number, example, tokens, masked, sop_label, mlm_nats, mlm_correct,
       CASE WHEN isfinite(sop_nats) THEN sop_nats END, sop_correct,
       position_nats, predicted
FROM read_parquet(?, hive_partitioning = false) WHERE file_row_number IN ({rows})
"""


def read_gap(paths: tuple[Path, Path], pair: Pair) -> Gap:
    """Pairs two files of scores on one dataset; an example counts as the same if its masked positions do."""
    query = _SCORED.format(nats="mlm_nats" if pair.measure == "mlm" else "sop_nats")
    with ThreadPoolExecutor(len(paths)) as pool:
        first, second = pool.map(
            lambda path: ask_arrays(query, [file_name(path), names_beside(path).drawn_as(pair.dataset)]), paths
        )
    scored = len(first["row"]) + len(second["row"])
    if not np.array_equal(first["example"], second["example"]):
        _, left, right = np.intersect1d(first["example"], second["example"], assume_unique=True, return_indices=True)
        first, second = _take(first, left), _take(second, right)
    same = first["masked"] == second["masked"]
    if not same.all():
        first, second = _take(first, same), _take(second, same)
    delta = np.asarray(second["nats"] - first["nats"], np.float64)
    # Of equal differences the smaller example comes first where the largest come first.
    order = np.lexsort((np.iinfo(np.uint64).max - first["example"], delta))
    return Gap(
        pair=pair,
        paths=paths,
        deltas=delta[order],
        rows=(first["row"][order], second["row"][order]),
        weight=int(first["masked"].sum()) if pair.measure == "mlm" else len(delta),
        unmatched=scored - 2 * len(delta),
    )


def _take(columns: dict[str, NDArray[Any]], rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {name: column[rows] for name, column in columns.items()}


def _read_rows(path: Path, rows: NDArray[np.int64]) -> list[_Row]:
    """The scores at some rows of a file, in their order."""
    if not len(rows):
        return []
    # Numbers of rows are ours; as literals they let DuckDB skip what holds none of them.
    query = _ROWS.format(rows=", ".join(map(str, rows.tolist())))
    found = {row[0]: row[1:] for row in ask(query, [file_name(path)])}
    if len(found) < len(rows):
        raise ScoreError("the scores were replaced while they were read", where=str(path))
    return [_Row(found[row][:3], found[row][3], Score(*found[row][4:])) for row in rows.tolist()]

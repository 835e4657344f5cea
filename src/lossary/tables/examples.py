"""The examples that make the gap between two runs: paired by example, in the order of what they cost.

    gap = open_gap(study, folder, Pair(first="tf_xxl", second="torch_xxl", dataset="old_reform"))
    gap.delta                       # second minus first, in nats, as `lossary compare` has it
    gap.page("worse", offset=0, limit=20)

DuckDB reads the columns of two files that it takes to pair them; what is kept are a difference and the number of an
example, so that a page of millions of examples reads the rows that it shows. Texts are another module's: `texts.py`.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lossary.data.parts import read_validation_manifest
from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.objectives import OBJECTIVES
from lossary.results.scorefile import Columns, ScoreFile, ScoreRow, paired_rows
from lossary.study import Study
from lossary.tables.build import scored_runs
from lossary.tables.deltas import is_across

__all__ = [
    "ORDERS",
    "Gap",
    "GapRow",
    "Histogram",
    "Order",
    "Pair",
    "Scores",
    "open_gap",
]

# `worse`: where the second run loses most comes first; `better`: where it gains most; `largest`: either.
Order = Literal["worse", "better", "largest"]
ORDERS: tuple[Order, ...] = get_args(Order)

_BINS = 40
# A histogram ends where so small a part of the examples lies beyond; what lies there is counted in its end bins.
_BEYOND = 0.002


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs on one dataset under one objective; differences are of the second minus the first."""

    first: str
    second: str
    dataset: str
    measure: str = ""  # the first that both were scored on, unless one is named


# All that one run got on one example, by objective.
Scores = Mapping[str, ScoreRow]


@dataclass(frozen=True, kw_only=True)
class GapRow:
    """One example that two runs were scored on."""

    rank: int  # from 1, in the order asked for
    example: int
    delta: float  # nats, second minus first
    first: Scores
    second: Scores
    is_own: bool = True  # whether both were scored in pieces of the study's own vocabulary

    @property
    def document(self) -> int:
        """The row of the dataset that the example was made from."""
        return self.example >> 24

    @property
    def objectives(self) -> list[str]:
        """What either run was scored on."""
        return [name for name in OBJECTIVES if name in self.first or name in self.second]

    def of(self, objective: str) -> tuple[ScoreRow, ScoreRow] | None:
        """What both runs got under an objective; None if one was not scored on it."""
        if objective not in self.first or objective not in self.second:
            return None
        return self.first[objective], self.second[objective]

    @property
    def by_token(self) -> tuple[ScoreRow, ScoreRow] | None:
        """What both runs got under an objective with many targets."""
        return next((self.of(name) for name in self.objectives if OBJECTIVES[name].is_of_tokens), None)

    @property
    def label(self) -> int | None:
        """0 in order, 1 swapped; None without a pair, or where no run was asked for its order."""
        rows = (*self.first.values(), *self.second.values())
        return next((row.label for row in rows if row.label is not None), None)


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
    files: tuple[ScoreFile, ScoreFile]
    deltas: NDArray[np.float64]  # ascending, nats
    examples: NDArray[np.uint64]
    weight: float  # what the sum of differences is divided by
    unit: str  # of the quotient
    unmatched: int  # examples that one run only was scored on
    is_own: bool  # whether both were scored in pieces of the study's own vocabulary

    def __len__(self) -> int:
        return len(self.deltas)

    @property
    def objectives(self) -> list[str]:
        """What either run was scored on."""
        return [name for name in OBJECTIVES if any(name in file.objectives for file in self.files)]

    @property
    def total(self) -> float:
        """Nats that the second run loses on all examples together."""
        return float(self.deltas.sum())

    @property
    def delta(self) -> float | None:
        """The difference of the losses, or of bits a byte across vocabularies; None without examples."""
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
        wanted = [(self.pair.dataset, int(example)) for example in self.examples[at]]
        with ThreadPoolExecutor(len(self.files)) as pool:
            first, second = pool.map(lambda file: file.rows(wanted), self.files)
        page = []
        for number, (position, key) in enumerate(zip(at, wanted, strict=True)):
            row = GapRow(
                rank=offset + number + 1,
                example=key[1],
                delta=float(self.deltas[position]),
                first=first.get(key, {}),
                second=second.get(key, {}),
                is_own=self.is_own,
            )
            if _delta(row.of(self.pair.measure)) != row.delta:
                raise ScoreError("the scores were replaced while they were read", where=str(self.files[0].path))
            page.append(row)
        return page

    def share(self, order: Order, count: int) -> float | None:
        """The part of the gap that the first `count` examples of an order make; None where there is no gap."""
        return float(self.deltas[self.ranks(order, offset=0, limit=count)].sum()) / self.total if self.total else None


def _delta(rows: tuple[ScoreRow, ScoreRow] | None) -> float | None:
    if rows is None or rows[0].nats is None or rows[1].nats is None:
        return None
    return rows[1].nats - rows[0].nats


def open_gap(study: Study, folder: StudyFolder, pair: Pair) -> Gap:
    """The gap between the newest scores of two runs of a study.

    Raises UsageError for an unknown run, dataset or objective, ScoreError for a run that was not scored.
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
    files = (ScoreFile(paths[pair.first]), ScoreFile(paths[pair.second]))
    both = [name for name in OBJECTIVES if all(name in file.objectives for file in files)]
    if pair.measure not in ("", *OBJECTIVES):
        raise UsageError(
            f"no objective is called {pair.measure!r}", where="--measure", hint=f"Known: {', '.join(both)}."
        )
    pair = replace(pair, measure=pair.measure or next(iter(both), files[0].objectives[0]))
    own = read_validation_manifest(folder)["tokenizer_digest"]
    is_own = OBJECTIVES[pair.measure].is_masked and all(file.header.pieces in ("", own) for file in files)
    return _paired(files, pair, is_own=is_own)


def _paired(files: tuple[ScoreFile, ScoreFile], pair: Pair, *, is_own: bool) -> Gap:
    """An example counts as the same if its targets do, or their bytes across vocabularies."""
    objective = OBJECTIVES[pair.measure]
    is_scored = all(pair.measure in file.objectives for file in files)
    across = objective.is_of_tokens and is_across(files[0].header, files[1].header)

    def columns(file: ScoreFile) -> Columns:
        found = file.columns(pair.measure, [pair.dataset] if is_scored else [])
        return found.take(np.isfinite(found.nats))

    with ThreadPoolExecutor(len(files)) as pool:
        whole = list(pool.map(columns, files))
    first, second = paired_rows(whole[0], whole[1], by="bytes" if across else "targets")
    delta = second.nats - first.nats
    # Of equal differences the smaller example comes first where the largest come first.
    order = np.lexsort((np.iinfo(np.uint64).max - first.example, delta))
    return Gap(
        pair=pair,
        files=files,
        deltas=delta[order],
        examples=first.example[order],
        weight=float(first.bytes.sum()) * log(2) if across else float(first.targets.sum()),
        unit="bits a byte" if across else f"nats a {objective.target}",
        unmatched=len(whole[0]) + len(whole[1]) - 2 * len(first),
        is_own=is_own,
    )

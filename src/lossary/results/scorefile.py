"""A file of scores as rows of one example under one objective, whichever schema it was written in.

    file = ScoreFile(folder.scores("tf_xl", 1000))
    file.sums()["mlm"]["wiki"].nats                     # Σ nats, Σ targets and their squares
    file.paired(other, "mlm", ["wiki"])                 # the same sums of differences, other minus this one
    file.rows({("wiki", 17)})                           # all that was scored of some examples

DuckDB adds up the rows of one objective without one of them in Python; sums do not depend on how rows were written.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.errors import ScoreError
from lossary.naming import Names, names_beside
from lossary.objectives import OBJECTIVES
from lossary.results.parquet import ask, ask_arrow, file_name
from lossary.results.records import ScoreHeader, read_header
from lossary.statistics.estimates import MeanSums, RatioSums

__all__ = [
    "Columns",
    "PairedSums",
    "ScoreFile",
    "ScoreRow",
    "ScoreSums",
    "Unit",
    "paired_rows",
    "paired_sums",
    "shared",
]

# Files whose sums are remembered: a few numbers a dataset, where reading takes a second for ten million scores.
_REMEMBERED = 1024
Floats = NDArray[np.float64]
# What has to agree for an example to count as the same: its length and targets, or their bytes across vocabularies.
Unit = Literal["targets", "bytes"]
_SAME: dict[Unit, tuple[str, ...]] = {"targets": ("targets", "tokens"), "bytes": ("bytes",)}


class ScoreRow(NamedTuple):
    """What a run got on one example under one objective; lists are by target, None of objectives with one."""

    objective: str
    dataset: str
    example: int
    tokens: int
    targets: int
    bytes: int | None
    nats: float | None  # None where they are no number
    correct: int
    label: int | None
    target_nats: list[float] | None
    predicted: list[int] | None


class ScoreSums(NamedTuple):
    """Sums over the rows of one objective and dataset, or over differences of paired ones; enough for all estimates."""

    nats: RatioSums  # by targets
    correct: RatioSums  # by targets
    bytes: RatioSums  # nats by bytes of the targets
    mean: MeanSums  # of nats, for objectives with one target
    broken: int = 0  # rows whose nats are no number: they are in none of the sums of nats
    unknown: int = 0  # rows whose bytes nobody knows

    @classmethod
    def of(cls, *, nats: Floats, correct: Floats, targets: Floats, bytes: Floats) -> Self:
        """The sums over rows, (n,) each: NaN where nats are no number, or bytes not known."""
        known = np.isfinite(nats)
        return cls(
            nats=RatioSums.of(nats[known], targets[known]),
            correct=RatioSums.of(correct, targets),
            bytes=RatioSums.of(nats[known], bytes[known]),
            mean=MeanSums.of(nats[known]),
            broken=int(np.count_nonzero(~known)),
            unknown=int(np.count_nonzero(np.isnan(bytes))),
        )

    @classmethod
    def nothing(cls) -> Self:
        """Of no row."""
        none = np.zeros(0)
        return cls.of(nats=none, correct=none, targets=none, bytes=none)


class PairedSums(NamedTuple):
    """By dataset: sums of differences over the examples of both, and how many rows are without a partner."""

    sums: dict[str, ScoreSums]
    unmatched: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Rows of one objective, sorted by dataset and example; (N,) each unless told otherwise."""

    datasets: list[str]
    dataset: NDArray[np.int64]  # index into `datasets`
    example: NDArray[np.uint64]
    tokens: Floats
    targets: Floats
    bytes: Floats  # NaN where nobody knows
    nats: Floats  # NaN where they are no number
    correct: Floats
    label: NDArray[np.int64]  # −1 where there is none
    target_nats: NDArray[np.float32]  # (Σ targets,) one row after another; or empty

    def __len__(self) -> int:
        return len(self.example)

    def take(self, rows: NDArray[Any]) -> Self:
        """The rows at some places."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        taken = {name: value[rows] for name, value in arrays.items() if name not in ("datasets", "target_nats")}
        if len(self.target_nats):
            starts = np.concatenate([[0], np.cumsum(self.targets)]).astype(np.int64)
            parts = [self.target_nats[starts[row] : starts[row + 1]] for row in rows]
            taken["target_nats"] = np.concatenate(parts) if parts else self.target_nats[:0]
        return type(self)(**arrays | taken)

    def counts(self) -> NDArray[np.int64]:
        """Rows by dataset."""
        return np.bincount(self.dataset, minlength=len(self.datasets))


class Keyed(Protocol):
    """Rows of examples, sorted by dataset and example."""

    @property
    def dataset(self) -> NDArray[np.int64]: ...

    @property
    def example(self) -> NDArray[np.uint64]: ...


def shared(first: Keyed, second: Keyed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the examples of both are in the first and in the second, in the same order."""
    if np.array_equal(first.dataset, second.dataset) and np.array_equal(first.example, second.example):
        return np.arange(len(first.example)), np.arange(len(first.example))
    keys = []
    for rows in (first, second):
        key = np.empty(len(rows.example), [("dataset", np.int64), ("example", np.uint64)])
        key["dataset"], key["example"] = rows.dataset, rows.example
        keys.append(key)
    _, left, right = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    return left, right


def paired_rows(first: Columns, second: Columns, *, by: Unit = "targets") -> tuple[Columns, Columns]:
    """The rows of the examples of both, in the same order; an example counts as the same if its targets do."""
    left, right = shared(first, second)
    same = np.ones(len(left), bool)
    for name in _SAME[by]:
        one, other = getattr(first, name)[left], getattr(second, name)[right]
        same &= (one == other) | (np.isnan(one) & np.isnan(other))
    if len(first) == len(second) == len(left) and same.all():
        return first, second
    return first.take(left[same]), second.take(right[same])


def paired_sums(first: Columns, second: Columns, *, by: Unit = "targets") -> PairedSums:
    """Sums of the second minus the first on the examples of both."""
    left, right = paired_rows(first, second, by=by)
    counts = left.counts()
    found = {}
    for name, end, count in zip(left.datasets, np.cumsum(counts), counts, strict=True):
        if count:
            part = slice(end - count, end)
            nats, correct = right.nats[part] - left.nats[part], right.correct[part] - left.correct[part]
            found[name] = ScoreSums.of(nats=nats, correct=correct, targets=left.targets[part], bytes=left.bytes[part])
    unmatched = first.counts() + second.counts() - 2 * counts
    return PairedSums(found, {name: int(n) for name, n in zip(left.datasets, unmatched, strict=True)})


class ScoreFile:
    """A file of scores. ScoreError if it is missing, damaged or of another kind, whatever is asked of it first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def header(self) -> ScoreHeader:
        """What it says of itself."""
        return read_header(self.path)

    @cached_property
    def names(self) -> Names:
        """What its datasets are called now: rows have the names that they were drawn as."""
        return names_beside(self.path)

    @property
    def objectives(self) -> tuple[str, ...]:
        """What was scored."""
        return self.header.objectives

    def sums(self) -> Mapping[str, Mapping[str, ScoreSums]]:
        """By objective and dataset; remembered while the file stays what it is."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise ScoreError(f"not readable: {error}", where=str(self.path), hint="Evaluate again.") from None
        found = _remembered(self.path, (status.st_ino, status.st_mtime_ns, status.st_size))
        return {
            objective: {self.names.called(name): sums for name, sums in by_dataset.items()}
            for objective, by_dataset in found.items()
        }

    def paired(
        self, other: "ScoreFile", objective: str, datasets: Sequence[str], *, by: Unit = "targets"
    ) -> PairedSums:
        """Sums of `other` minus this one on the examples of both, of some datasets."""
        sides = {"first": self.relation(objective, "first"), "second": other.relation(objective, "second")}
        odd = " OR ".join(f"a.{name} IS DISTINCT FROM b.{name}" for name in ("example", "dataset", *_SAME[by]))
        query = _PAIRED.format(sums=_summed(objective), odd=odd, **sides)
        rows = ask(query, {"first": file_name(self.path), "second": file_name(other.path)})
        if not any(odd for _, odd, *_ in rows):
            found = {self.names.called(dataset): _sums(*rest) for dataset, _, *rest in rows}
            return PairedSums({name: found[name] for name in datasets if name in found}, dict.fromkeys(datasets, 0))
        whole = [file.columns(objective, datasets) for file in (self, other)]
        return paired_sums(whole[0], whole[1], by=by)

    def columns(self, objective: str, datasets: Sequence[str], *, target_nats: bool = False) -> Columns:
        """The rows of some datasets as arrays; nats of single targets only if asked for."""
        lists = ", target_nats" if target_nats else ""
        query = f"""SELECT list_position($datasets, dataset)::BIGINT - 1 AS dataset, example, tokens::DOUBLE AS tokens,
            targets::DOUBLE AS targets, bytes::DOUBLE AS bytes, CASE WHEN isfinite(nats) THEN nats END AS nats,
            correct::DOUBLE AS correct, coalesce(label, -1)::BIGINT AS label {lists}
            FROM {self.relation(objective)} WHERE list_contains($datasets, dataset)"""
        table = ask_arrow(query, {"path": file_name(self.path), "datasets": list(map(self.names.drawn_as, datasets))})
        arrays = {name: _array(table[name]) for name in table.column_names if name != "target_nats"}
        flat = table["target_nats"].combine_chunks().flatten() if target_nats else pa.array([], pa.float32())
        found = Columns(datasets=list(datasets), target_nats=flat.to_numpy(zero_copy_only=False), **arrays)
        step = np.diff(found.dataset)
        if ((step > 0) | ((step == 0) & (found.example[1:] > found.example[:-1]))).all():
            return found
        return found.take(np.lexsort((found.example, found.dataset)))

    def rows(self, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], dict[str, ScoreRow]]:
        """By dataset and example, then by objective: all that was scored of the wanted ones."""
        found: dict[tuple[str, int], dict[str, ScoreRow]] = {}
        if not wanted:
            return found
        keys = set(wanted)
        # As literals they let DuckDB skip what holds none of them.
        examples = ", ".join(map(str, sorted({int(example) for _, example in keys})))
        for objective in self.objectives:
            query = f"""SELECT dataset, example, tokens, targets, bytes, CASE WHEN isfinite(nats) THEN nats END,
                correct, label, target_nats, predicted FROM {self.relation(objective)}
                WHERE example IN ({examples}) AND list_contains($datasets, dataset)"""
            names = sorted({self.names.drawn_as(dataset) for dataset, _ in keys})
            for dataset, *row in ask(query, {"path": file_name(self.path), "datasets": names}):
                key = (self.names.called(dataset), row[0])
                if key in keys:
                    found.setdefault(key, {})[objective] = ScoreRow(objective, key[0], *row)
        return found

    def relation(self, objective: str, path: str = "path") -> str:
        """Its rows of an objective as what a query of DuckDB selects from, with the file's name as that parameter."""
        return _relation(self.header.schema, objective, path)


# The rows that files of schema 1 would have; only a pair has `sop_correct`.
_SCHEMA_1 = {
    "mlm": "masked AS targets, NULL::INTEGER AS bytes, mlm_nats AS nats, mlm_correct AS correct, "
    "NULL::TINYINT AS label, position_nats AS target_nats, predicted",
    "sop": "1 AS targets, NULL::INTEGER AS bytes, sop_nats AS nats, sop_correct::INTEGER AS correct, "
    "sop_label AS label, NULL::FLOAT[] AS target_nats, NULL::INTEGER[] AS predicted",
}


def _relation(schema: int, objective: str, path: str) -> str:
    if objective not in OBJECTIVES:
        raise ValueError(f"no objective is called {objective!r}")
    read = f"read_parquet(${path}, hive_partitioning = false)"
    if schema > 1:
        return f"(SELECT * FROM {read} WHERE objective = '{objective}')"
    if objective not in _SCHEMA_1:
        return f"(SELECT dataset, example, tokens, {_SCHEMA_1['mlm']} FROM {read} WHERE false)"
    where = " WHERE sop_correct IS NOT NULL" if objective == "sop" else ""
    return f"(SELECT dataset, example, tokens, {_SCHEMA_1[objective]} FROM {read}{where})"


# Sums of doubles are compensated: they do not lose digits over millions of rows. Losses that are no numbers are counted
# instead of added.
_OF_TOKENS = """
count(nats), fsum(nats), fsum(nats * nats), 0, count(*), fsum(correct), fsum(correct::DOUBLE * correct),
fsum(targets), fsum(targets::DOUBLE * targets), fsum(nats * targets), fsum(correct::DOUBLE * targets),
fsum(bytes), fsum(bytes::DOUBLE * bytes), fsum(nats * bytes), count(*) - count(bytes)
"""
_OF_ONE = """
count(nats), fsum(nats), fsum(nats * nats), fsum(nats * nats * nats), count(*), fsum(correct),
fsum(correct::DOUBLE * correct)
"""
_SUMS = """
SELECT dataset, {sums} FROM (SELECT * REPLACE (CASE WHEN isfinite(nats) THEN nats END AS nats) FROM {rows})
GROUP BY dataset
"""
# Two files that hold the same examples in the same order, as those of one view do, are paired row by row.
_PAIRED = """
SELECT dataset, count(*) FILTER (odd), {sums}
FROM (SELECT a.dataset AS dataset, a.targets AS targets, a.bytes AS bytes,
             CASE WHEN isfinite(b.nats - a.nats) THEN b.nats - a.nats END AS nats,
             (b.correct - a.correct)::DOUBLE AS correct,
             {odd} AS odd
      FROM {first} a POSITIONAL JOIN {second} b)
GROUP BY dataset
"""


def _summed(objective: str) -> str:
    return _OF_TOKENS if OBJECTIVES[objective].is_of_tokens else _OF_ONE


@lru_cache(maxsize=_REMEMBERED)
def _remembered(path: Path, _: tuple[int, int, int]) -> dict[str, dict[str, ScoreSums]]:
    file = ScoreFile(path)
    found = {}
    for objective in file.objectives:
        query = _SUMS.format(sums=_summed(objective), rows=file.relation(objective))
        found[objective] = {dataset: _sums(*rest) for dataset, *rest in ask(query, {"path": file_name(path)})}
    return found


def _sums(n: int, *more: float | None) -> ScoreSums:
    y, yy, yyy, rows, c, cc, *by = (value or 0.0 for value in more)
    x, xx, xy, cx, b, bb, yb, unknown = by or (rows, rows, y, c, 0.0, 0.0, 0.0, rows)
    return ScoreSums(
        nats=RatioSums(n, y, x, yy, xy, xx),
        correct=RatioSums(int(rows), c, x, cc, cx, xx),
        bytes=RatioSums(n, y, b, yy, yb, bb),
        mean=MeanSums(n, y, yy, yyy),
        broken=int(rows) - n,
        unknown=int(unknown),
    )


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.array(column.to_numpy())

"""Questions to files of scores that DuckDB answers without a row of them in Python: spreads, extremes, single examples.

loss_spread({"tf_xl": path})                              # counts by run, dataset and bin
widest_gaps(path_a, path_b, 5)                            # the examples that cost b most over a
scores_of({"tf_xl": path}, {("wiki", 17)})                # all that was scored of some examples
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossary.naming import names_beside
from lossary.results.parquet import ask, file_name

__all__ = ["BINS", "BIN_NATS", "ExampleScore", "dearest", "loss_spread", "scores_of", "widest_gaps"]

# Bins of a loss: fine enough to be put together to any picture; the last one takes what lies beyond.
BIN_NATS, BINS = 0.05, 500
_THREADS = 2


@dataclass(frozen=True, kw_only=True)
class ExampleScore:
    """What one run got on one example, position by position."""

    run: str
    dataset: str
    example: int
    masked: int
    mlm_nats: float
    mlm_correct: int
    sop_label: int | None  # 0 in order, 1 swapped
    sop_nats: float | None
    sop_correct: bool | None
    position_nats: list[float] | None
    predicted: list[int] | None


def loss_spread(paths: Mapping[str, Path]) -> dict[tuple[str, str], dict[int, int]]:
    """By run and dataset: how many examples have an MLM loss (nats a masked position) in which bin of `BIN_NATS`."""
    found: dict[tuple[str, str], dict[int, int]] = {}
    query = f"""
        SELECT dataset, least(greatest(floor(mlm_nats / masked / {BIN_NATS}), 0), {BINS - 1})::INTEGER AS bin,
        count(*) FROM read_parquet(?) WHERE masked > 0 AND isfinite(mlm_nats) GROUP BY dataset, bin"""
    for run, rows in _ask_each(query, paths):
        names = names_beside(paths[run])
        for dataset, place, count in rows:
            found.setdefault((run, names.called(dataset)), {})[place] = count
    return found


def widest_gaps(first: Path, second: Path, most: int) -> dict[str, list[int]]:
    """By dataset: the examples on which the second run lost most nats more than the first, widest first.

    An example counts as the same if as many positions of it were masked.
    """
    rows = ask(
        f"""SELECT dataset, max_by(a.example, b.mlm_nats - a.mlm_nats, {int(most)}) FROM read_parquet(?) a
        JOIN read_parquet(?) b USING (dataset, example)
        WHERE a.masked = b.masked AND a.masked > 0 AND isfinite(b.mlm_nats - a.mlm_nats) GROUP BY dataset""",
        [file_name(first), file_name(second)],
    )
    names = names_beside(first)
    return {names.called(dataset): list(examples) for dataset, examples in rows}


def dearest(path: Path, most: int) -> dict[str, list[int]]:
    """By dataset: the examples with the highest loss a masked position, highest first."""
    rows = ask(
        f"""SELECT dataset, max_by(example, mlm_nats / masked, {int(most)}) FROM read_parquet(?)
        WHERE masked > 0 AND isfinite(mlm_nats) GROUP BY dataset""",
        [file_name(path)],
    )
    names = names_beside(path)
    return {names.called(dataset): list(examples) for dataset, examples in rows}


def scores_of(paths: Mapping[str, Path], wanted: Collection[tuple[str, int]]) -> list[ExampleScore]:
    """What each run got on the wanted examples (dataset, example); those without a finite loss are left out."""
    if not wanted:
        return []
    called = {run: names_beside(path).called for run, path in paths.items()}
    drawn = {names_beside(path).drawn_as(name) for path in paths.values() for name, _ in wanted}
    examples = sorted({example for _, example in wanted})
    keys = set(wanted)
    query = """
        SELECT dataset, example, masked, mlm_nats, mlm_correct, sop_label,
        CASE WHEN isfinite(sop_nats) THEN sop_nats END, sop_correct, position_nats,
        predicted FROM read_parquet(?) WHERE isfinite(mlm_nats) AND example IN (SELECT unnest(?::UBIGINT[]))
        AND dataset IN (SELECT unnest(?::VARCHAR[]))"""
    columns = [name for name in ExampleScore.__dataclass_fields__ if name not in ("run", "dataset")]
    return [
        ExampleScore(run=run, dataset=called[run](dataset), **dict(zip(columns, row, strict=True)))
        for run, rows in _ask_each(query, paths, examples, sorted(drawn))
        for dataset, *row in rows
        if (called[run](dataset), row[0]) in keys
    ]


def _ask_each(query: str, paths: Mapping[str, Path], *more: Any) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The answer of each run's file, some files at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = pool.map(lambda path: ask(query, [file_name(path), *more]), paths.values())
        return list(zip(paths, answers, strict=True))

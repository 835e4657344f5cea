"""Questions to files of scores that DuckDB answers without a row of them in Python: spreads and extremes.

loss_spread({"tf_xl": file}, "mlm")                       # counts by run, dataset and bin
widest_gaps(file_a, file_b, "mlm", 5)                     # the examples that cost b most over a
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from lossary.results.parquet import ask, file_name
from lossary.results.scorefile import ScoreFile, Unit

__all__ = ["BINS", "BIN_NATS", "dearest", "loss_spread", "widest_gaps"]

# Bins of a loss: fine enough to be put together to any picture; the last one takes what lies beyond.
BIN_NATS, BINS = 0.05, 500
_THREADS = 2


def loss_spread(files: Mapping[str, ScoreFile], objective: str) -> dict[tuple[str, str], dict[int, int]]:
    """By run and dataset: how many examples have a loss (nats a target) in which bin of `BIN_NATS`."""

    def of_file(file: ScoreFile) -> list[tuple[str, int, int]]:
        query = f"""
            SELECT dataset, least(greatest(floor(nats / targets / {BIN_NATS}), 0), {BINS - 1})::INTEGER AS bin,
            count(*) FROM {file.relation(objective)} WHERE targets > 0 AND isfinite(nats) GROUP BY dataset, bin"""
        return [(dataset, place, count) for dataset, place, count in ask(query, {"path": file_name(file.path)})]

    found: dict[tuple[str, str], dict[int, int]] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for run, rows in zip(files, pool.map(of_file, files.values()), strict=True):
            for dataset, place, count in rows:
                found.setdefault((run, files[run].names.called(dataset)), {})[place] = count
    return found


def widest_gaps(
    first: ScoreFile, second: ScoreFile, objective: str, most: int, *, by: Unit = "targets"
) -> dict[str, list[int]]:
    """By dataset: the examples on which the second run lost most nats more than the first, widest first.

    An example counts as the same if as many targets of it, or bytes of them, were scored.
    """
    rows = ask(
        f"""SELECT dataset, max_by(a.example, b.nats - a.nats, {int(most)}) FROM {first.relation(objective, "first")} a
        JOIN {second.relation(objective, "second")} b USING (dataset, example)
        WHERE a.{by} = b.{by} AND a.{by} > 0 AND isfinite(b.nats - a.nats) GROUP BY dataset""",
        {"first": file_name(first.path), "second": file_name(second.path)},
    )
    return {first.names.called(dataset): list(examples) for dataset, examples in rows}


def dearest(file: ScoreFile, objective: str, most: int) -> dict[str, list[int]]:
    """By dataset: the examples with the highest loss a target, highest first."""
    rows = ask(
        f"""SELECT dataset, max_by(example, nats / targets, {int(most)}) FROM {file.relation(objective)}
        WHERE targets > 0 AND isfinite(nats) GROUP BY dataset""",
        {"path": file_name(file.path)},
    )
    return {file.names.called(dataset): list(examples) for dataset, examples in rows}

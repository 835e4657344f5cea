"""Run against run on the examples that both were scored on.

compare_runs(scores_a, scores_b) -> {dataset: {metric: Estimate}}    b − a, paired by example
add_deltas(table, paths, base="tf_xxl") -> Table                     every run against the base, Holm over all
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.errors import UsageError
from lossary.naming import names_beside
from lossary.results.parquet import ask, file_name
from lossary.statistics.estimates import Estimate, MeanSums, RatioSums, mean, ratio, weighted_mean, within
from lossary.statistics.multiplicity import holm
from lossary.statistics.paired import differs_p, paired_proportion
from lossary.statistics.power import examples_needed
from lossary.tables.model import METRICS, DatasetRow, Delta, Metric, Table
from lossary.tables.scores import ScoreColumns, no_number, read_columns
from lossary.tables.totals import estimate_of

__all__ = ["PairedRuns", "add_deltas", "compare_files", "compare_runs", "with_deltas"]

_LEVEL = 0.05
# Between these a difference may lie.
_RANGES = {metric: (-1.0, 1.0) if metric.endswith("accuracy") else (-inf, inf) for metric in METRICS}


class PairedRuns(NamedTuple):
    """Differences by dataset and metric, and how many examples only one of both runs was scored on."""

    estimates: dict[str, dict[Metric, Estimate]]
    unmatched: dict[str, int]


def compare_runs(first: ScoreColumns, second: ScoreColumns) -> PairedRuns:
    """Second minus first on the examples of both; an example counts as the same if its masked positions do."""
    unmatched = _count(first) + _count(second)
    aligned = len(first.example) == len(second.example)
    aligned = aligned and np.array_equal(first.dataset, second.dataset)
    if not (aligned and np.array_equal(first.example, second.example)):
        first, second = _align(first, second)
    same = first.masked == second.masked
    if not same.all():
        first, second = first.take(same), second.take(same)
    counts = _count(first)
    ends = np.cumsum(counts)
    estimates: dict[str, dict[Metric, Estimate]] = {}
    for index, name in enumerate(first.datasets):
        part = slice(ends[index] - counts[index], ends[index])
        estimates[name] = _differences(first, second, part)
    unmatched -= 2 * counts
    return PairedRuns(estimates, {name: int(n) for name, n in zip(first.datasets, unmatched, strict=True)})


def _count(columns: ScoreColumns) -> NDArray[np.int64]:
    return np.bincount(columns.dataset, minlength=len(columns.datasets))


def _align(first: ScoreColumns, second: ScoreColumns) -> tuple[ScoreColumns, ScoreColumns]:
    kind = [("dataset", np.int64), ("example", np.uint64)]
    keys: list[NDArray[Any]] = []
    for columns in (first, second):
        key = np.empty(len(columns.example), kind)
        key["dataset"], key["example"] = columns.dataset, columns.example
        keys.append(key)
    _, left, right = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    return first.take(left), second.take(right)


# Two files that hold the same examples in the same order, as those of one validation set do, are paired row by row.
_ROW_BY_ROW = """
SELECT dataset, count(*), count(*) FILTER (odd), fsum(masked), fsum(masked::DOUBLE * masked),
       fsum(nats), fsum(nats * nats), fsum(nats * masked),
       fsum(correct), fsum(correct * correct), fsum(correct * masked),
       count(sop), fsum(sop), fsum(sop * sop), fsum(sop * sop * sop),
       count(*) FILTER (sop IS NOT NULL AND gain > 0), count(*) FILTER (sop IS NOT NULL AND gain < 0),
       count(*) FILTER (nats IS NULL), count(*) FILTER (sop IS NULL AND gain IS NOT NULL)
FROM (SELECT a.dataset AS dataset, a.masked AS masked,
             CASE WHEN isfinite(b.mlm_nats - a.mlm_nats) THEN b.mlm_nats - a.mlm_nats END AS nats,
             (b.mlm_correct - a.mlm_correct)::DOUBLE AS correct,
             CASE WHEN isfinite(b.sop_nats - a.sop_nats) THEN b.sop_nats - a.sop_nats END AS sop,
             b.sop_correct::INT - a.sop_correct::INT AS gain,
             a.example IS DISTINCT FROM b.example OR a.dataset IS DISTINCT FROM b.dataset
             OR a.masked IS DISTINCT FROM b.masked AS odd
      FROM read_parquet($first, hive_partitioning = false) a
      POSITIONAL JOIN read_parquet($second, hive_partitioning = false) b)
GROUP BY dataset
"""


def compare_files(first: Path, second: Path, names: Sequence[str]) -> PairedRuns:
    """As `compare_runs` of two files of scores, on some datasets. ScoreError if one is damaged."""
    rows = ask(_ROW_BY_ROW, {"first": file_name(first), "second": file_name(second)})
    if any(odd for _, _, odd, *_ in rows):
        return compare_runs(read_columns(first, names), read_columns(second, names))
    called = names_beside(first).called
    sums = {called(dataset): (n, *rest) for dataset, n, _, *rest in rows}
    nothing = (0,) * 17
    return PairedRuns({name: _differences_of_sums(*sums.get(name, nothing)) for name in names}, dict.fromkeys(names, 0))


def _differences_of_sums(n: int, x: float, xx: float, *more: float) -> dict[Metric, Estimate]:
    y, yy, xy, c, cc, cx, pairs, s, ss, sss, gained, lost, broken, sop_broken = (value or 0 for value in more)
    found: dict[Metric, Estimate] = {
        "mlm_loss": ratio(RatioSums(n, y, x, yy, xy, xx)),
        "mlm_accuracy": within(ratio(RatioSums(n, c, x, cc, cx, xx)), -1.0, 1.0),
        "sop_loss": mean(MeanSums(int(pairs), s, ss, sss)),
        "sop_accuracy": paired_proportion(n=int(pairs), gained=int(gained), lost=int(lost)),
    }
    return found | _without_numbers((int(broken), n), (int(sop_broken), int(pairs + sop_broken)))


def _without_numbers(mlm: tuple[int, int], sop: tuple[int, int]) -> dict[Metric, Estimate]:
    """No estimate where some of the paired examples gave no number, each given as how many of how many."""
    found: dict[Metric, Estimate] = {}
    if mlm[0]:
        none = Estimate(value=None, n=mlm[1], reason=no_number(*mlm))
        found = {"mlm_loss": none, "mlm_accuracy": none}
    if sop[0]:
        none = Estimate(value=None, n=sop[1], reason=no_number(*sop, "pairs"))
        found |= {"sop_loss": none, "sop_accuracy": none}
    return found


def _differences(first: ScoreColumns, second: ScoreColumns, part: slice) -> dict[Metric, Estimate]:
    x = first.masked[part]
    found: dict[Metric, Estimate] = {}
    for metric, name in (("mlm_loss", "mlm_nats"), ("mlm_accuracy", "mlm_correct")):
        y = getattr(second, name)[part] - getattr(first, name)[part]
        found[metric] = within(ratio(RatioSums.of(y, x)), *_RANGES[metric])
    broken = (int(np.count_nonzero(np.isnan(second.mlm_nats[part] - first.mlm_nats[part]))), len(x))
    with np.errstate(invalid="ignore"):
        y = second.sop_nats[part] - first.sop_nats[part]
    change = second.sop_correct[part] - first.sop_correct[part]
    pairs = np.isfinite(y)
    both = int(np.count_nonzero(~np.isnan(change)))
    if not pairs.all():
        y, change = y[pairs], change[pairs]
    found["sop_loss"] = mean(MeanSums.of(y))
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    found["sop_accuracy"] = paired_proportion(n=len(y), gained=gained, lost=lost)
    return found | _without_numbers(broken, (both - len(y), both))


def add_deltas(table: Table, paths: Mapping[str, Path], *, base: str, threads: int = 2) -> Table:
    """The table with every run's differences to `base`, by dataset and in total; Holm over all of them.

    `paths` are the files of scores by run. Raises UsageError if there is no such run.
    """
    if base not in paths:
        raise UsageError(f"no run of the table is called {base!r}", hint=f"Runs: {', '.join(paths)}.")
    others = [run for run in paths if run != base]
    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(others, pool.map(partial(_paired, table, paths, base), others), strict=True))
    return with_deltas(table, base, found)


def _paired(table: Table, paths: Mapping[str, Path], base: str, run: str) -> PairedRuns:
    """Differences on the datasets whose frozen examples both runs were scored on; the others have a reason."""
    digests = {
        row.name: [table.cell(which, row.name, "mlm_loss").validation_digest for which in (base, run)]
        for row in table.datasets
    }
    same = [row.name for row in table.datasets if set(digests[row.name]) == {row.validation_digest}]
    found = compare_files(paths[base], paths[run], same)
    nothing = Estimate(value=None, reason="not scored on the same examples")
    absent = [name for name in digests if name not in same]
    estimates = found.estimates | {name: dict.fromkeys(METRICS, nothing) for name in absent}
    return PairedRuns(estimates, found.unmatched | dict.fromkeys(absent, 0))


def with_deltas(table: Table, base: str, paired: Mapping[str, PairedRuns]) -> Table:
    """The table with differences to `base`, by run, that were computed before; Holm over all of them."""
    deltas = [delta for run, found in paired.items() for delta in _deltas(table, base, run, found)]
    return replace(table, base=base, deltas=_adjusted(deltas))


def _deltas(table: Table, base: str, run: str, paired: PairedRuns) -> list[Delta]:
    deltas = []
    for metric in METRICS:
        of_metric = {row.name: paired.estimates[row.name][metric] for row in table.datasets}
        for name, estimate in of_metric.items():
            ends = [estimate_of(table.cell(which, name, metric)) for which in (base, run)]
            deltas.append(_delta(base, run, name, metric, estimate, ends, paired.unmatched[name]))
        total = within(weighted_mean(_weighted(table.datasets, of_metric)), *_RANGES[metric])
        without = [name for name, estimate in of_metric.items() if estimate.value is None and estimate.reason]
        if without and total.value is not None:
            total = replace(total, reason=f"without {', '.join(without)}")
        deltas.append(_delta(base, run, None, metric, total, None, sum(paired.unmatched.values())))
    return deltas


def _weighted(rows: Sequence[DatasetRow], estimates: Mapping[str, Estimate]) -> list[tuple[float, Estimate]]:
    having = [(row.validation_share or 0.0, estimates[row.name]) for row in rows]
    return [(share, estimate) for share, estimate in having if estimate.value is not None]


def _delta(
    base: str,
    run: str,
    dataset: str | None,
    metric: Metric,
    estimate: Estimate,
    ends: list[Estimate] | None,
    unmatched: int,
) -> Delta:
    power = examples_needed(estimate, *ends) if ends and estimate.variance is not None else None
    return Delta(
        run=run,
        base=base,
        dataset=dataset,
        metric=metric,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        variance=estimate.variance,
        n=estimate.n,
        unmatched=unmatched,
        p=differs_p(estimate),
        adjusted_p=None,
        differs=None,
        examples_paired=power.paired if power else None,
        examples_unpaired=power.unpaired if power else None,
        reason=estimate.reason,
        degrees=estimate.degrees,
    )


def _adjusted(deltas: list[Delta]) -> list[Delta]:
    tested = [delta for delta in deltas if delta.p is not None]
    adjusted = dict(zip(map(id, tested), holm([delta.p or 0.0 for delta in tested]), strict=True))
    return [
        replace(delta, adjusted_p=adjusted[id(delta)], differs=adjusted[id(delta)] < _LEVEL)
        if id(delta) in adjusted
        else delta
        for delta in deltas
    ]

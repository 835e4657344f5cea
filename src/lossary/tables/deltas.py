"""Run against run on the examples that both were scored on.

compare_files(file_a, file_b, ["wiki"]).estimates["wiki"]["mlm_loss"]    b − a, paired by example
add_deltas(table, paths, base="tf_xxl") -> Table                         every run against the base, Holm over all
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import NamedTuple

from lossary.errors import UsageError
from lossary.objectives import OBJECTIVES
from lossary.results.records import ScoreHeader
from lossary.results.scorefile import PairedSums, ScoreFile
from lossary.statistics.estimates import Estimate, within
from lossary.statistics.multiplicity import holm
from lossary.statistics.paired import RESOLUTION, differs_p
from lossary.statistics.power import examples_needed
from lossary.tables.model import DatasetRow, Delta, Metric, Table, is_across_vocabularies, measure_of
from lossary.tables.scores import differences
from lossary.tables.totals import estimate_of, of_parts

__all__ = ["PairedRuns", "add_deltas", "compare_files", "compare_forced", "is_across", "with_deltas"]

_LEVEL = 0.05
_OTHER_PIECES = Estimate(value=None, reason="pieces of another vocabulary: compare bits a byte")


class PairedRuns(NamedTuple):
    """Differences by dataset and metric, and how many rows only one of both runs has."""

    estimates: dict[str, dict[Metric, Estimate]]
    unmatched: dict[str, dict[Metric, int]]


def compare_files(
    first: ScoreFile, second: ScoreFile, names: Sequence[str], objectives: Sequence[str] | None = None
) -> PairedRuns:
    """Second minus first on the examples of both, by some datasets and objectives (those of either file if None).

    An example counts as the same if its targets do: as many of them in one vocabulary. Across vocabularies it is as
    many bytes, and only bits a byte have a difference. ScoreError if a file is damaged.
    """
    return _compared(first, second, names, objectives, across=is_across(first.header, second.header))


def compare_forced(
    first: ScoreFile, second: ScoreFile, names: Sequence[str], objectives: Sequence[str] | None = None
) -> PairedRuns:
    """As `compare_files`, as if both runs had one vocabulary."""
    return _compared(first, second, names, objectives, across=False)


def is_across(first: ScoreHeader, second: ScoreHeader) -> bool:
    """Whether what was scored are pieces of two vocabularies."""
    return bool(first.pieces and second.pieces) and first.pieces != second.pieces


def _compared(
    first: ScoreFile, second: ScoreFile, names: Sequence[str], objectives: Sequence[str] | None, *, across: bool
) -> PairedRuns:
    either = objectives or [*first.objectives, *second.objectives]
    estimates: dict[str, dict[Metric, Estimate]] = {name: {} for name in names}
    unmatched: dict[str, dict[Metric, int]] = {name: {} for name in names}
    # Of pairs, examples are counted: those of the first objective of tokens.
    examples: dict[str, int] = {}
    for objective in (objective for name, objective in OBJECTIVES.items() if name in either):
        found = PairedSums({}, {})
        if objective.name in first.objectives and objective.name in second.objectives:
            found = first.paired(second, objective.name, names, by="bytes" if across else "targets")
            examples = examples or found.unmatched
        counted = found.unmatched if objective.is_of_tokens else examples
        for name in names:
            of_dataset = differences(objective, found.sums.get(name))
            estimates[name] |= {
                metric: _OTHER_PIECES if across and not is_across_vocabularies(metric) else estimate
                for metric, estimate in of_dataset.items()
            }
            unmatched[name] |= dict.fromkeys(objective.metrics, counted.get(name, 0))
    return PairedRuns(estimates, unmatched)


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
    metrics = table.measured
    digests = {
        row.name: [table.cell(which, row.name, metrics[0]).validation_digest for which in (base, run)]
        for row in table.datasets
    }
    same = [row.name for row in table.datasets if set(digests[row.name]) == {row.validation_digest}]
    found = compare_files(ScoreFile(paths[base]), ScoreFile(paths[run]), same, table.objectives)
    nothing = Estimate(value=None, reason="not scored on the same examples")
    absent = [name for name in digests if name not in same]
    return PairedRuns(
        found.estimates | {name: dict.fromkeys(metrics, nothing) for name in absent},
        found.unmatched | {name: dict.fromkeys(metrics, 0) for name in absent},
    )


def with_deltas(table: Table, base: str, paired: Mapping[str, PairedRuns]) -> Table:
    """The table with differences to `base`, by run, that were computed before; Holm over all of them."""
    deltas = [delta for run, found in paired.items() for delta in _deltas(table, base, run, found)]
    return replace(table, base=base, deltas=_adjusted(deltas))


def _deltas(table: Table, base: str, run: str, paired: PairedRuns) -> list[Delta]:
    deltas = []
    for metric in table.measured:
        of_metric = {row.name: paired.estimates[row.name][metric] for row in table.datasets}
        for name, estimate in of_metric.items():
            ends = [estimate_of(table.cell(which, name, metric)) for which in (base, run)]
            deltas.append(_delta(base, run, name, metric, estimate, ends, paired.unmatched[name][metric]))
        unmatched = sum(of_dataset[metric] for of_dataset in paired.unmatched.values())
        without = [name for name, estimate in of_metric.items() if estimate.value is None and estimate.reason]
        total = within(of_parts(_weighted(table.datasets, of_metric), is_whole=not without), *_range(metric))
        if without and total.value is not None:
            total = replace(total, reason=f"without {', '.join(without)}")
        deltas.append(_delta(base, run, None, metric, total, None, unmatched))
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
    # What rounding makes is not seen with more examples.
    is_seen = estimate.variance is not None and abs(estimate.value or 0.0) > RESOLUTION
    power = examples_needed(estimate, *ends) if ends and is_seen else None
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


def _range(metric: Metric) -> tuple[float, float]:
    """Between what a difference may lie."""
    return (-1.0, 1.0) if measure_of(metric).unit == "fraction" else (-inf, inf)


def _adjusted(deltas: list[Delta]) -> list[Delta]:
    """Holm over all deltas; bits a byte are losses in another unit, no more questions: they are adjusted apart."""
    adjusted: dict[int, float] = {}
    for of_bits in (False, True):
        family = [d for d in deltas if d.p is not None and is_across_vocabularies(d.metric) == of_bits]
        adjusted |= zip(map(id, family), holm([delta.p or 0.0 for delta in family]), strict=True)
    return [
        replace(delta, adjusted_p=adjusted[id(delta)], differs=adjusted[id(delta)] < _LEVEL)
        if id(delta) in adjusted
        else delta
        for delta in deltas
    ]

"""A table's own runs by a total: what `rank` says of files of scores, from differences that the table has already.

    found = rank_table(open_paired(path))
    [c.run for c in found.candidates if c.may_be_best]

It is of the steps that the table shows, and of imported scores of examples as well.
"""

from dataclasses import replace
from pathlib import Path

from lossary.errors import ScoreError
from lossary.statistics.estimates import Estimate, weighted_mean
from lossary.statistics.ranking import worse_than_best
from lossary.tables.best import Criterion
from lossary.tables.components import components_of
from lossary.tables.deltas import add_deltas
from lossary.tables.imported import imported_table
from lossary.tables.load import OpenTable
from lossary.tables.model import Delta, Table, measure_of
from lossary.tables.ranking import Difference, Ranking, ranking_of, repeats
from lossary.tables.totals import weight_of

__all__ = ["rank_table"]


def rank_table(opened: OpenTable, criterion: Criterion | None = None) -> Ranking:
    """The runs of a table; by its main loss, and by validation share where that is known, if nothing is said.

    ScoreError where fewer than two runs have such a total, or none has scores of single examples.
    """
    table = opened.table
    where = str(opened.folder.root)
    criterion = criterion or _criterion(table)
    weights = {row.name: weight_of(row, criterion.weighting) for row in table.datasets}
    having = {cell.dataset for cell in table.cells if cell.metric == criterion.metric and cell.value is not None}
    used = {name: weight for name, weight in weights.items() if weight and name in having}
    if unknown := [name for name in having if weights[name] is None]:
        raise ScoreError(f"no {criterion.weighting} of {', '.join(sorted(unknown))} is known", where=where)
    notes = (
        [f"without {', '.join(sorted(set(weights) - having))}: no run has a number"]
        if len(having) < len(weights)
        else []
    )
    totals = _totals(table, criterion, used, notes)
    if len(totals) < 2:
        raise ScoreError(
            f"{len(totals)} runs have a {criterion}; two are the fewest that can be ranked",
            where=where,
            hint="; ".join(notes) or None,
        )
    pick = min if measure_of(criterion.metric).lower_is_better else max
    best = pick(totals, key=lambda run: totals[run])
    paired = table if table.base == best else _paired_with(opened, best)
    others = [run for run in totals if run != best]
    found = {run: _difference(paired, run, criterion, used, len(totals)) for run in others}
    if all(difference.worse is None or difference.worse.p is None for difference in found.values()):
        why = next(iter(found.values())).reason
        raise ScoreError(f"no two of these runs can be paired by example{f': {why}' if why else ''}", where=where)
    steps = {run.name: run.step or 0 for run in table.runs if run.name in totals}
    study = opened.study
    groups = [] if study is None else repeats((study, opened.folder), {run: run for run in totals}, steps)
    shown = {run.name: run.step for run in table.runs}
    known = {run: (run, shown[run], total) for run, total in totals.items()}
    paths = [[opened.folder.scores(run, steps[run]) for run in group] for group in groups]
    parts = components_of(paths, used, criterion.metric)
    return ranking_of(criterion, known, found, groups, datasets=list(used), notes=notes, components=parts)


def _criterion(table: Table) -> Criterion:
    shares = [row.validation_share for row in table.datasets]
    return Criterion(table.main_loss, "macro" if None in shares or not any(shares) else "validation_share")


def _totals(table: Table, criterion: Criterion, used: dict[str, float], notes: list[str]) -> dict[str, float]:
    """Totals of the runs that have a number of every dataset that any has."""
    totals = {}
    for run in table.runs:
        cells = {name: table.cell(run.name, name, criterion.metric) for name in used}
        if lacking := [f"{name}: {cell.reason or 'no number'}" for name, cell in cells.items() if cell.value is None]:
            notes.append(f"{run.name}: {'; '.join(lacking)}; left out")
            continue
        whole = sum(used.values())
        totals[run.name] = sum(used[name] * (cell.value or 0.0) for name, cell in cells.items()) / whole
    return totals


def _paired_with(opened: OpenTable, base: str) -> Table:
    table = opened.table
    if opened.study is None:
        return imported_table(opened.folder.root, runs=[run.name for run in table.runs], base=base)
    paths: dict[str, Path] = {
        run.name: opened.folder.scores(run.name, run.step) for run in table.runs if run.step is not None
    }
    return add_deltas(replace(table, base=None, deltas=[]), paths, base=base)


def _difference(table: Table, run: str, criterion: Criterion, used: dict[str, float], candidates: int) -> Difference:
    deltas = [(weight, table.delta(run, name, criterion.metric)) for name, weight in used.items()]
    total = weighted_mean([(weight, _estimate(delta)) for weight, delta in deltas])
    lower = measure_of(criterion.metric).lower_is_better
    worse = worse_than_best(total, candidates=candidates, lower_is_better=lower)
    unmatched = sum(delta.unmatched for _, delta in deltas if delta is not None)
    return Difference(worse, None if worse else total.reason, unmatched)


def _estimate(delta: Delta | None) -> Estimate:
    if delta is None:
        return Estimate(value=None, reason="not paired by example")
    return Estimate(
        value=delta.value,
        low=delta.low,
        high=delta.high,
        n=delta.n,
        variance=delta.variance,
        degrees=delta.degrees,
        reason=delta.reason,
    )

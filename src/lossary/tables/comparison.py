"""Two runs side by side: may they be subtracted, what was set differently, what came of it, dataset by dataset."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.naming import names_beside
from lossary.objectives import OBJECTIVES, objective_of
from lossary.results.parquet import ask, file_name
from lossary.results.scorefile import ScoreFile, paired_rows
from lossary.statistics.bootstrap import bootstrap_ratio
from lossary.statistics.decomposition import Decomposition, decompose
from lossary.statistics.estimates import Estimate
from lossary.study import Study
from lossary.tables.best import Criterion
from lossary.tables.build import build_table
from lossary.tables.comparability import (
    Check,
    Comparability,
    Setting,
    bits_per_byte,
    common_examples,
    comparability,
    differing_settings,
    realised_shares,
    run_settings,
)
from lossary.tables.deltas import add_deltas, compare_forced, with_deltas
from lossary.tables.equality import Decision, Margins
from lossary.tables.imported import imported_table
from lossary.tables.model import Delta, Table, with_objectives

__all__ = ["Comparison", "Side", "compare", "compare_imported"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run and the study that it is of."""

    study: Study
    folder: StudyFolder
    run: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `lossary compare` shows; `table` has deltas only where they do not mislead, or where they were forced."""

    first: str
    second: str
    checks: Comparability
    settings: list[Setting]
    table: Table | None
    bits_per_byte: dict[str, tuple[float | None, float | None]]  # by dataset, where losses cannot be subtracted
    own_mixture: Decomposition | None  # of the total MLM loss by each run's realised shares
    bootstrap: dict[str, Estimate]  # of the MLM loss, by dataset
    forced: bool
    margins: Margins = field(default_factory=dict)  # within which they may be called equal, if somebody asked
    decisions: list[Decision] = field(default_factory=list)


def compare(
    first: Side,
    second: Side,
    *,
    force: bool = False,
    step: int | Criterion | None = None,
    bootstrap_seed: int | None = None,
    tables: tuple[Table, Table] | None = None,
) -> Comparison:
    """Compares two runs of one study or of two. Raises UsageError for unknown runs, ScoreError for missing scores.

    `tables` are those that hold the runs, where somebody has them already.
    """
    tables = tables or (
        build_table(first.study, first.folder, runs=[first.run], step=step),
        build_table(second.study, second.folder, runs=[second.run], step=step),
    )
    columns = [(table, side.run, side.folder) for table, side in zip(tables, (first, second), strict=True)]
    checks = comparability(columns[0], columns[1])
    paths = [_score_path(table, side) for table, side in zip(tables, (first, second), strict=True)]
    names = _titles(first, second)
    table, bits, bootstrap = None, {}, {}
    # Across vocabularies of one text bits a byte have a difference, and nats the reason why they have none.
    bits_only = [check.what for check in checks.refused] == ["tokenizer"] and bool(common_examples(*tables))
    if not checks.refused or force or bits_only:
        forced = bool(checks.refused) and force
        table = _subtracted(tables, names, paths, [side.run for side in (first, second)], forced=forced)
        if bootstrap_seed is not None:
            bootstrap = _bootstrap(table, paths, bootstrap_seed)
    else:
        bits = _bits(tables, (first.run, second.run), paths)
    return Comparison(
        first=names[0],
        second=names[1],
        checks=checks,
        settings=differing_settings([run_settings(side.folder, side.run) for side in (first, second)]),
        table=table,
        bits_per_byte=bits,
        own_mixture=_own_mixture(tables, first, second) if table is not None and not bits_only else None,
        bootstrap=bootstrap,
        forced=bool(checks.refused) and force,
    )


def compare_imported(table: Table, root: Path, first: str, second: str, *, force: bool = False) -> Comparison:
    """Two runs of a folder of imports: paired by example where those are known, else subtracted as printed.

    Of printed numbers nobody knows whether they may be subtracted. Raises UsageError for unknown runs.
    """
    known = [run.name for run in table.runs]
    for name in (first, second):
        if name not in known:
            raise UsageError(f"no run is called {name!r}", hint=f"Runs: {', '.join(known)}.")
    if first == second:
        raise UsageError("a run is compared with itself", hint=f"Runs: {', '.join(known)}.")
    if not table.is_imported:
        return _compare_examples(root, first, second, force=force)
    kept = replace(
        table,
        runs=[replace(run, section=None) for name in (first, second) for run in table.runs if run.name == name],
        cells=[cell for cell in table.cells if cell.run in (first, second)],
        totals=[total for total in table.totals if total.run in (first, second)],
    )
    return Comparison(
        first=first,
        second=second,
        checks=comparability((table, first, None), (table, second, None)),
        settings=[],
        table=replace(kept, base=first, deltas=_printed_deltas(kept, first, second)),
        bits_per_byte={},
        own_mixture=None,
        bootstrap={},
        forced=False,
    )


def _compare_examples(root: Path, first: str, second: str, *, force: bool) -> Comparison:
    """Two runs whose scores of examples others made, on the datasets of which both were asked the same.

    Refused, with the first example that differs, where there is no such dataset; forced, examples of one name are the
    same.
    """
    table = imported_table(root, runs=[first, second], base=first)
    having = [{cell.dataset for cell in table.cells if cell.run == run and cell.n} for run in (first, second)]
    both = [row.name for row in table.datasets if all(row.name in names for names in having)]
    odd = {d.dataset: d.reason for d in table.deltas if d.dataset in both and d.value is None and d.reason and not d.n}
    same = [name for name in both if name not in odd]
    why = next((reason or "" for reason in odd.values()), "no dataset of both")
    examples = Check(
        what="validation set",
        verdict="same" if same else "differs",
        first=", ".join(same),
        second=", ".join(same) or why,
        forbids=True,
    )
    forced = force and not same
    if forced:
        table = imported_table(root, runs=[first, second], base=first, forced=True)
    checks = comparability((table, first, None), (table, second, None))
    return Comparison(
        first=first,
        second=second,
        checks=replace(checks, checks=[examples, *checks.checks[1:]]),
        settings=[],
        table=table if same or forced else None,
        bits_per_byte={},
        own_mixture=None,
        bootstrap={},
        forced=forced,
    )


def _printed_deltas(table: Table, first: str, second: str) -> list[Delta]:
    found = []
    for metric in table.metrics:
        for row in table.datasets:
            values = [table.cell(run, row.name, metric).value for run in (first, second)]
            known = values[0] is not None and values[1] is not None
            found.append(
                Delta(
                    run=second,
                    base=first,
                    dataset=row.name,
                    metric=metric,
                    value=(values[1] or 0.0) - (values[0] or 0.0) if known else None,
                    low=None,
                    high=None,
                    variance=None,
                    n=0,
                    unmatched=0,
                    p=None,
                    adjusted_p=None,
                    differs=None,
                    examples_paired=None,
                    examples_unpaired=None,
                    reason="of printed numbers: no n, so no interval" if known else "not on the page",
                )
            )
    return found


def _titles(first: Side, second: Side) -> list[str]:
    """Names that tell the sides apart: the run; with another study its name, too, or its folder if that is the same."""
    if first.folder == second.folder:
        return [first.run, second.run]
    by_study = [f"{side.study.name}: {side.run}" for side in (first, second)]
    return by_study if by_study[0] != by_study[1] else [f"{side.folder.root}: {side.run}" for side in (first, second)]


def _score_path(table: Table, side: Side) -> Path:
    column = next(column for column in table.runs if column.name == side.run)
    assert column.step is not None
    return side.folder.scores(side.run, column.step)


def _subtracted(
    tables: tuple[Table, Table], names: list[str], paths: list[Path], runs: list[str], *, forced: bool
) -> Table:
    """One table of both runs under their titles, the second with its differences to the first.

    Datasets whose frozen examples differ are left out, unless forced.
    """
    if names[0] == names[1]:
        raise UsageError("a run is compared with itself", hint="Name two runs, or another study with --other.")
    renamed = []
    objectives = sorted({name for table in tables for name in table.objectives}, key=list(OBJECTIVES).index)
    for table, run, name in zip((with_objectives(table, objectives) for table in tables), runs, names, strict=True):
        renamed.append(
            replace(
                table,
                runs=[replace(column, name=name) for column in table.runs if column.name == run],
                cells=[replace(cell, run=name) for cell in table.cells if cell.run == run],
                totals=[replace(total, run=name) for total in table.totals if total.run == run],
            )
        )
    first, second = renamed
    both_have = [row for row in first.datasets if any(row.name == other.name for other in second.datasets)]
    same = common_examples(first, second)
    common = both_have if forced else [row for row in both_have if row.name in same]
    kept = {row.name for row in common}
    others = [row.name for row in both_have if row.name not in kept]
    left_out = [f"{', '.join(others)}: other validation examples on either side; left out"] if others else []
    both = replace(
        first,
        datasets=common,
        runs=first.runs + second.runs,
        cells=[cell for cell in first.cells + second.cells if cell.dataset in kept],
        totals=first.totals + second.totals,
        notes=list(dict.fromkeys([*first.notes, *second.notes, *left_out])),
    )
    if forced:
        names_of_both = [row.name for row in common]
        found = compare_forced(ScoreFile(paths[0]), ScoreFile(paths[1]), names_of_both, both.objectives)
        return with_deltas(both, names[0], {names[1]: found})
    return add_deltas(both, dict(zip(names, paths, strict=True)), base=names[0])


def _bootstrap(table: Table, paths: list[Path], seed: int) -> dict[str, Estimate]:
    objective = objective_of(table.main_loss)
    files = [ScoreFile(path) for path in paths]
    if objective is None or not all(objective.name in file.objectives for file in files):
        return {}
    found = {}
    for name in (row.name for row in table.datasets):
        first, second = paired_rows(*(file.columns(objective.name, [name]) for file in files))
        delta = table.delta(table.runs[1].name, name, table.main_loss)
        difference = second.nats - first.nats
        if delta is not None and delta.n and not delta.unmatched and np.isfinite(difference).all():
            found[name] = bootstrap_ratio(difference, first.targets, seed=seed)
    return found


def _bits(
    tables: tuple[Table, Table], runs: tuple[str, str], paths: list[Path]
) -> dict[str, tuple[float | None, float | None]]:
    """Bits a byte of either side, by dataset."""
    sides = [_bits_of(*side) for side in zip(tables, runs, paths, strict=True)]
    return {name: (value, sides[1][name]) for name, value in sides[0].items() if name in sides[1]}


def _bits_of(table: Table, run: str, path: Path) -> dict[str, float | None]:
    objective = objective_of(table.main_loss)
    metric = f"{objective.name}_bits_per_byte" if objective is not None else ""
    found = {row.name: table.cell(run, row.name, metric).value for row in table.datasets if metric in table.measured}
    if ScoreFile(path).header.schema > 1:
        return found
    # Schema 1 counted bytes of whole examples: as many nats a byte as hidden pieces are of all.
    rows = ask("SELECT dataset, sum(tokens), sum(bytes) FROM read_parquet(?) GROUP BY dataset", [file_name(path)])
    called = names_beside(path).called
    sizes = {called(name): (int(tokens), int(count)) for name, tokens, count in rows}
    for row in table.datasets:
        loss, (tokens, count) = table.cell(run, row.name, "mlm_loss").value, sizes.get(row.name, (0, 0))
        found[row.name] = None if loss is None else bits_per_byte(loss, tokens=tokens, bytes_=count)
    return found


def _own_mixture(tables: tuple[Table, Table], first: Side, second: Side) -> Decomposition | None:
    shares = [realised_shares(side.folder, side.run) for side in (first, second)]
    # Of a dataset that left the study there is no loss to weight.
    if any(
        name not in {row.name for row in table.datasets}
        for table, share in zip(tables, shares, strict=True)
        for name in share
    ):
        return None
    values = [
        {name: table.cell(side.run, name, table.main_loss).value for name in share}
        for table, side, share in zip(tables, (first, second), shares, strict=True)
    ]
    if not all(shares) or any(value is None for value in [*values[0].values(), *values[1].values()]):
        return None
    names = {*shares[0], *shares[1]}
    if set(values[0]) != names or set(values[1]) != names:
        return None
    filled = [{name: value[name] or 0.0 for name in names} for value in values]
    return decompose(shares=(shares[0], shares[1]), values=(filled[0], filled[1]))

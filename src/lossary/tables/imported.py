"""Tables of numbers that others printed, kept in a folder as `imported.json` and curves in `imported-curves.parquet`.

Of printed numbers there is no n and so no interval: a cell holds the number as it was printed, and its rounding; of a
curve, the last finite point, or that of a step that is asked for. Where scores of single examples were imported, cells
have intervals, and runs are paired by example. A folder may take several imports; one of the same path replaces the
older one.
"""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lossary.errors import DataError, UsageError
from lossary.files import digest_json, read_json, write_json
from lossary.objectives import metrics_of
from lossary.results.importers.model import ALL, Curve, ExampleScores, Imported, ImportedDataset, Mapped, Number
from lossary.seals import read_sealed, write_sealed
from lossary.tables.best import StepChoice
from lossary.tables.deltas import with_deltas
from lossary.tables.example_sets import differing_sets, sets_text
from lossary.tables.import_steps import chosen_steps, mixed_steps, numbers_at
from lossary.tables.imported_examples import (
    OF_EXAMPLES,
    examples_table,
    number_of,
    paired_examples,
    read_examples,
    with_counts,
    with_intervals,
    write_examples,
)
from lossary.tables.model import Cell, DatasetRow, Metric, RunColumn, Table, Total, is_across_vocabularies, measure_of
from lossary.tables.totals import totals_of

__all__ = ["CURVES", "IMPORTED", "imported_curves", "imported_table", "save_import"]

# What every imported page has a place for.
_ALWAYS = [metric for metric in metrics_of(("mlm", "sop")) if not is_across_vocabularies(metric)]
IMPORTED, CURVES = "imported.json", "imported-curves.parquet"
_SCHEMA = 2
# Of a number and its text: six digits are written of a point of a curve.
_SAME = 1e-4
_TEXTS = ("run", "dataset", "metric", "split", "axis", "place", "section", "source")
_CURVE_SCHEMA = pa.schema(
    [
        *((name, pa.dictionary(pa.int32(), pa.string())) for name in _TEXTS),
        ("step", pa.int64()),
        ("value", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One import of a folder, with its runs under the names that the table gives them."""

    path: str
    kind: str
    mapping: list[Mapped]
    datasets: list[ImportedDataset]
    numbers: list[Number]
    curves: list[Curve]
    examples: list[ExampleScores]
    notes: list[str]


def save_import(root: Path, name: str, found: Sequence[Imported]) -> None:
    """Adds imports to a folder, each whole or not at all. Runs of one name are told apart by their sources."""
    before = _read(root)["sources"] if (root / IMPORTED).is_file() else []
    new = {_identity(imported) for imported in found}
    kept = [source for source in before if source["path"] not in new]
    sources = [*kept, *map(_source, found)]
    curves = _curve_table(found)
    if (root / CURVES).is_file():
        old = read_sealed(root / CURVES)
        mask = pa.array([source not in new for source in old.column("source").to_pylist()], pa.bool_())
        curves = pa.concat_tables([old.filter(mask).cast(_CURVE_SCHEMA), curves])
    if curves.num_rows:
        write_sealed(root / CURVES, curves)
    elif (root / CURVES).is_file():
        (root / CURVES).unlink()
    examples = [(_identity(imported), scores) for imported in found for scores in imported.examples]
    write_examples(root, examples_table(examples), new)
    write_json(root / IMPORTED, {"schema": _SCHEMA, "name": name, "sources": sources})


def _read(root: Path) -> Any:
    value = read_json(root / IMPORTED)
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != _SCHEMA:
        paths = [source["path"] for source in value["sources"]] if schema == 1 else []
        again = shlex.join(["lossary", "import", *paths[:5], "--out", str(root)])
        raise DataError(
            "made by another version of lossary, which took names for datasets and objectives that they are not"
            if schema == 1
            else "made by another version of lossary",
            where=str(root / IMPORTED),
            hint=f"Move it away and import again: {again}",
        )
    return value


def _identity(imported: Imported) -> str:
    return str(Path(imported.path).resolve())


def _source(imported: Imported) -> dict[str, Any]:
    return {
        "path": _identity(imported),
        "kind": imported.kind,
        "datasets": [asdict(dataset) for dataset in imported.datasets],
        "numbers": [asdict(number) for number in imported.numbers],
        "mapping": [asdict(replace(mapped, file="")) for mapped in imported.mapping],
        "notes": [*imported.notes, *_curve_notes(imported)],
    }


def _curve_notes(imported: Imported) -> list[str]:
    notes = []
    curves = imported.curves
    evaluated = {curve.run for curve in curves if curve.split != "train"} | {
        number.run for number in imported.numbers if not number.metric.startswith("train_")
    }
    trained = sorted({curve.run for curve in curves if curve.run not in evaluated})
    if trained:
        notes.append(f"{', '.join(trained)}: losses are of training; no evaluation is in the file")
    unsaid = sorted({curve.run for curve in curves if curve.split == "unknown"})
    if unsaid:
        notes.append(f"{', '.join(unsaid)}: the file does not say whether losses are of training or evaluation")
    for curve in curves:
        broken = int((~np.isfinite(curve.value)).sum())
        if broken:
            first = int(curve.step[~np.isfinite(curve.value)][0])
            notes.append(
                f"{curve.run}, {curve.dataset}, {curve.metric}: {broken} points are no number, first at {first:,}"
            )
    return notes


def _curve_table(found: Sequence[Imported]) -> pa.Table:
    parts = []
    for imported in found:
        for curve in imported.curves:
            n = len(curve.step)
            texts = {name: getattr(curve, name) for name in _TEXTS if name != "source"} | {
                "source": _identity(imported)
            }
            columns = {
                key: pa.DictionaryArray.from_arrays(
                    pa.array(np.zeros(n, np.int32)), pa.array([text or ""], pa.string())
                )
                for key, text in texts.items()
            }
            table = pa.table(columns | {"step": curve.step, "value": curve.value})
            parts.append(table.select(_CURVE_SCHEMA.names).cast(_CURVE_SCHEMA))
    return pa.concat_tables(parts) if parts else _CURVE_SCHEMA.empty_table()


def imported_table(
    root: Path,
    *,
    runs: Sequence[str] | None = None,
    step: StepChoice = None,
    base: str | None = None,
    forced: bool = False,
) -> Table:
    """The table of a folder of imports, of curves at their last finite point or at `step`.

    With `base`, the differences to that run of all whose scores of examples are known; forced, of examples of one name
    whatever was asked. Raises DataError if there is none or it is damaged, UsageError if no run is called so, no curve
    has the step, or nothing can be paired.
    """
    value = _read(root)
    if base is not None and runs is not None and base not in runs:
        runs = [base, *runs]
    try:
        sources = _sources(root, value)
        sources = sources if runs is None else _only(sources, runs)
        table = _table(value["name"], sources, step)
        return table if base is None else _paired(table, sources, base, forced=forced)
    except (KeyError, TypeError) as error:
        raise DataError(f"damaged: {error}", where=str(root / IMPORTED), hint="Delete it and import again.") from None


def _only(sources: Sequence[_Source], runs: Sequence[str]) -> list[_Source]:
    known = dict.fromkeys(run for source in sources for run in _runs_of(source))
    unknown = [run for run in runs if run not in known]
    if unknown:
        raise UsageError(f"no run is called {unknown[0]!r}", hint=f"Runs: {', '.join(known)}.")
    kept = [
        replace(
            source,
            numbers=[number for number in source.numbers if number.run in runs],
            curves=[curve for curve in source.curves if curve.run in runs],
            examples=[scores for scores in source.examples if scores.run in runs],
        )
        for source in sources
    ]
    return [source for source in kept if source.numbers or source.curves or source.examples]


def _runs_of(source: _Source) -> dict[str, None]:
    return dict.fromkeys(
        [*(n.run for n in source.numbers), *(c.run for c in source.curves), *(e.run for e in source.examples)]
    )


def imported_curves(root: Path) -> list[Curve]:
    """The curves of a folder of imports, their runs called as in the table."""
    return [curve for source in _sources(root, _read(root)) for curve in source.curves]


def _sources(root: Path, value: Any) -> list[_Source]:
    curves, examples = _read_curves(root / CURVES), read_examples(root)
    sources = [
        _Source(
            path=source["path"],
            kind=source["kind"],
            mapping=[Mapped(**mapped) for mapped in source["mapping"]],
            datasets=[ImportedDataset(**dataset) for dataset in source["datasets"]],
            numbers=[Number(**number) for number in source["numbers"]],
            curves=curves.get(source["path"], []),
            examples=examples.get(source["path"], []),
            notes=source["notes"],
        )
        for source in value["sources"]
    ]
    return _named_apart(sources)


def _read_curves(path: Path) -> dict[str, list[Curve]]:
    """Curves by source, each in the order of its steps."""
    if not path.is_file():
        return {}
    table = read_sealed(path).combine_chunks()
    step, value = table.column("step").to_numpy(), table.column("value").to_numpy()
    code = np.zeros(len(step), np.int64)
    texts = {}
    for name in _TEXTS:
        column = table.column(name).combine_chunks()
        column = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        texts[name] = column
        indices = column.indices.to_numpy(zero_copy_only=False)
        indices = np.where(np.isnan(indices), -1, indices).astype(np.int64) if indices.dtype.kind == "f" else indices
        _, code = np.unique(code * (len(column.dictionary) + 1) + indices + 1, return_inverse=True)
    found: dict[str, list[Curve]] = defaultdict(list)
    order = np.lexsort((step, code))
    blocks = np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(order) else []
    blocks.sort(key=lambda rows: int(rows.min()))
    for rows in blocks:
        first = int(rows[0])
        said = {name: texts[name][first].as_py() for name in _TEXTS}
        source = said.pop("source")
        said["section"] = said["section"] or None
        found[source].append(Curve(**said, step=step[rows], value=value[rows]))
    return found


def _named_apart(sources: list[_Source]) -> list[_Source]:
    """Runs that several sources have get what tells the sources' paths apart: a folder, a file's name."""
    having: dict[str, list[int]] = defaultdict(list)
    runs_of = [_runs_of(source) for source in sources]
    for index, runs in enumerate(runs_of):
        for run in runs:
            having[run].append(index)
    names: dict[tuple[int, str], str] = {}
    for run, indices in having.items():
        if len(indices) < 2:
            continue
        for index, label in zip(indices, _labels([Path(sources[i].path) for i in indices]), strict=True):
            names[index, run] = label if len(runs_of[index]) == 1 else f"{label}: {run}"
    if not names:
        return sources
    return [
        replace(
            source,
            numbers=[replace(n, run=names.get((index, n.run), n.run)) for n in source.numbers],
            curves=[replace(c, run=names.get((index, c.run), c.run)) for c in source.curves],
            examples=[replace(e, run=names.get((index, e.run), e.run)) for e in source.examples],
            mapping=[replace(m, run=names.get((index, m.run), m.run)) for m in source.mapping],
        )
        for index, source in enumerate(sources)
    ]


def _labels(paths: Sequence[Path]) -> list[str]:
    """The parts of paths in which they differ."""
    parts = [[*path.parts[:-1], path.stem] for path in paths]
    while all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    while all(len(part) > 1 for part in parts) and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    return ["/".join(part) for part in parts]


def _table(name: str, sources: list[_Source], step: StepChoice) -> Table:
    notes = [note for source in sources for note in source.notes]
    described: dict[str, ImportedDataset] = {}
    for source in sources:
        for dataset in source.datasets:
            described.setdefault(dataset.name, dataset)
    curves = [curve for source in sources for curve in source.curves]
    named = dict.fromkeys([*described, *(curve.dataset for curve in curves)])
    rows = [_row(described.get(dataset, ImportedDataset(name=dataset))) for dataset in named]
    chosen = chosen_steps(curves, step, rows, notes)
    numbers: list[Number] = []
    for source in sources:
        found = numbers_at(source.numbers, source.curves, chosen, notes)
        path = Path(source.path)
        called = defaultdict(list)
        for at, mapped in enumerate(source.mapping):
            if mapped.reason is None:
                called[mapped.metric, mapped.run, mapped.dataset].append((at, mapped.source))
        numbers += [
            replace(
                n,
                section=n.section or path.stem,
                place=", ".join(part for part in (path.name, n.place) if part),
                reading=_reading(source.kind, called, n),
            )
            for n in found
        ]
        of_examples = [number_of(scores) for scores in source.examples]
        numbers += [replace(n, reading=_reading(source.kind, called, n)) for n in of_examples]
    examples = [scores for source in sources for scores in source.examples]
    names = dict.fromkeys([*described, *(n.dataset for n in numbers if n.dataset is not None)])
    rows = with_counts([_row(described.get(dataset, ImportedDataset(name=dataset))) for dataset in names], examples)
    runs = _runs(numbers)
    is_measured = len(examples) == len(numbers) > 0
    metrics = list(dict.fromkeys([*([] if is_measured else _ALWAYS), *(number.metric for number in numbers)]))
    cells = with_intervals(_cells(numbers, runs, rows, metrics), examples)
    totals = _totals(runs, rows, cells, metrics)
    return Table(
        study=name,
        datasets=rows,
        runs=runs,
        cells=cells,
        totals=[*_reported(numbers), *totals],
        notes=list(dict.fromkeys([*notes, *_mixed_notes(numbers), *_examples_notes(cells)])),
        signature=OF_EXAMPLES if is_measured else "as imported: no n, no intervals",
        validation_digest=digest_json([[row.name, row.validation_digest] for row in rows]) if is_measured else None,
        tokenizer_digest=None,
    )


def _paired(table: Table, sources: Sequence[_Source], base: str, *, forced: bool) -> Table:
    """The table with the differences of its runs to one of them; those without scores of examples have a reason."""
    examples = [scores for source in sources for scores in source.examples]
    if base not in {scores.run for scores in examples}:
        known = dict.fromkeys(scores.run for scores in examples)
        hint = f"Runs with scores of examples: {', '.join(known)}." if known else "Leave it out."
        raise UsageError(f"nothing is known of single examples of {base!r}: it cannot be paired", hint=hint)
    others = [run.name for run in table.runs if run.name != base]
    paired = {run: paired_examples(table, examples, base, run, forced=forced) for run in others}
    found = with_deltas(table, base, paired)
    without = [
        f"{delta.run}, {delta.dataset}: no difference to {base}: {delta.reason}"
        for delta in found.deltas
        if delta.dataset and delta.value is None and delta.reason and not delta.n
    ]
    return replace(found, notes=[*found.notes, *dict.fromkeys(without)])


def _reading(kind: str, called: Mapping[tuple[str, str, str], list[tuple[int, str]]], number: Number) -> str:
    """Why a number is what the table calls it: its name in the file and what that was read as, and its conversion.

    `called`: the names of a file with their order, by the metric, run and dataset that they were read as; "" is any.
    """
    owners = [(run, dataset) for run in ("", number.run) for dataset in dict.fromkeys(("", number.dataset or ""))]
    found = [name for _, name in sorted(item for owner in owners for item in called.get((number.metric, *owner), ()))]
    # Several columns of one metric: the place ends with the name of its own.
    own = [name for name in found if number.place.endswith(f", {name}")] or found
    names = " and ".join(f"“{name}”" for name in dict.fromkeys(own)) or "a number"
    reading = f"{names} of {kind} is read as {measure_of(number.metric).title}"
    scale = _scale_of(number)
    return f"{reading}; {scale}" if scale else reading


def _scale_of(number: Number) -> str:
    try:
        printed = float(number.text.strip().rstrip("%").strip().replace(",", ""))
    except ValueError:
        return ""
    if not printed or abs(number.value / printed - 1) < _SAME:
        return ""
    known = {0.01: "per cent, divided by 100", log(2): "in bits, multiplied by ln 2", 1 / log(2): "divided by ln 2"}
    factor = number.value / printed
    return next((text for at, text in known.items() if abs(factor / at - 1) < _SAME), f"multiplied by {factor:.4g}")


def _mixed_notes(numbers: Iterable[Number]) -> list[str]:
    return [
        f"{run}: {measure_of(metric).title} is of different steps, {steps[0]:,} to {steps[-1]:,}, as its cells say; "
        "its totals mix them"
        for (run, metric), steps in mixed_steps(n for n in numbers if n.dataset is not None).items()
    ]


def _examples_notes(cells: Iterable[Cell]) -> list[str]:
    return [
        f"{dataset}: runs have different examples: {sets_text(sets)}; their numbers and totals cannot be compared"
        for dataset, sets in differing_sets(cells).items()
    ]


def _totals(runs: Sequence[RunColumn], rows: list[DatasetRow], cells: list[Cell], metrics: list[Metric]) -> list[Total]:
    """Totals over the datasets that any run has the metric of; a loss of no dataset is a part of none."""
    having: dict[Metric, set[str]] = defaultdict(set)
    of_run: dict[tuple[str, Metric], list[Cell]] = defaultdict(list)
    for cell in cells:
        of_run[cell.run, cell.metric].append(cell)
        if cell.value is not None:
            having[cell.metric].add(cell.dataset)
    parts = {
        metric: [row for row in rows if row.name in having[metric] and (row.name != ALL or having[metric] == {ALL})]
        for metric in metrics
    }
    return [
        total
        for run in runs
        for metric in metrics
        for total in totals_of(run.name, parts[metric] or rows, of_run[run.name, metric], metrics=[metric])
    ]


def _row(dataset: ImportedDataset) -> DatasetRow:
    return DatasetRow(
        name=dataset.name,
        train_rows=dataset.train_rows,
        train_share=dataset.train_share,
        validation_share=dataset.validation_share,
        validation_examples=None,
        link=dataset.link,
        train_share_rounding=dataset.train_share_rounding,
        validation_share_rounding=dataset.validation_share_rounding,
    )


def _runs(numbers: list[Number]) -> list[RunColumn]:
    sections = {number.run: number.section for number in reversed(numbers)}
    steps: dict[str, set[int | None]] = defaultdict(set)
    for number in numbers:
        steps[number.run].add(number.step)
    return [
        RunColumn(
            name=run,
            backend=None,
            size=None,
            step=next(iter(steps[run])) if len(steps[run]) == 1 else None,
            tokens=None,
            datasets=None,
            device=None,
            precision=None,
            weights_digest=None,
            link=None,
            section=sections[run],
        )
        for run in dict.fromkeys(number.run for number in numbers)
    ]


def _cells(numbers: list[Number], runs: list[RunColumn], rows: list[DatasetRow], metrics: list[Metric]) -> list[Cell]:
    at = {(number.run, number.dataset, number.metric): number for number in numbers}
    mixed = mixed_steps(n for n in numbers if n.dataset is not None)
    return [
        _cell(run.name, row.name, metric, number, has_own_step=number is not None and (run.name, metric) in mixed)
        for run in runs
        for row in rows
        for metric in metrics
        for number in [at.get((run.name, row.name, metric))]
    ]


def _cell(run: str, dataset: str, metric: Metric, number: Number | None, *, has_own_step: bool) -> Cell:
    return Cell(
        run=run,
        dataset=dataset,
        metric=metric,
        value=None if number is None else number.value,
        low=None,
        high=None,
        variance=None,
        n=0,
        unit=measure_of(metric).unit,
        interval="",
        reason="not on the page" if number is None else None,
        floor=None,
        standing=None,
        step=None if number is None else number.step,
        validation_digest=None,
        link=None if number is None else number.link,
        reported=None if number is None else number.text,
        rounding=0.0 if number is None else number.rounding,
        place=None if number is None else number.place,
        statistic=None if number is None else number.statistic,
        reading=None if number is None else number.reading,
        has_own_step=has_own_step,
    )


def _reported(numbers: list[Number]) -> list[Total]:
    return [
        Total(
            run=number.run,
            metric=number.metric,
            weighting="reported",
            value=number.value,
            low=None,
            high=None,
            n=0,
            interval="",
            reason=None,
            link=number.link,
            reported=number.text,
            rounding=number.rounding,
            place=number.place,
            statistic=number.statistic,
            reading=number.reading,
        )
        for number in numbers
        if number.dataset is None
    ]

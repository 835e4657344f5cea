"""Tables of numbers that others printed, kept in a folder as `imported.json` and curves in `imported-curves.parquet`.

There is no n and so no interval: a cell holds the number as it was printed, and its rounding. A folder may take several
imports; one of the same path replaces the older one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lossary.errors import DataError
from lossary.files import read_json, write_json
from lossary.results.importers.model import ALL, Curve, Imported, ImportedDataset, Number
from lossary.results.seals import read_sealed, write_sealed
from lossary.tables.model import METRICS, Cell, DatasetRow, Metric, RunColumn, Table, Total
from lossary.tables.totals import totals_of

__all__ = ["CURVES", "IMPORTED", "imported_table", "save_import"]

IMPORTED, CURVES = "imported.json", "imported-curves.parquet"
_SCHEMA = 1
_CURVE_SCHEMA = pa.schema(
    [
        ("run", pa.dictionary(pa.int32(), pa.string())),
        ("dataset", pa.dictionary(pa.int32(), pa.string())),
        ("metric", pa.dictionary(pa.int32(), pa.string())),
        ("split", pa.dictionary(pa.int32(), pa.string())),
        ("step", pa.int64()),
        ("value", pa.float64()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
    ]
)


def save_import(root: Path, name: str, found: Sequence[Imported]) -> None:
    """Adds imports to a folder, each whole or not at all. Names that two sources share are told apart by the source."""
    before = read_json(root / IMPORTED) if (root / IMPORTED).is_file() else {"sources": []}
    new = {_identity(imported) for imported in found}
    kept = [source for source in before["sources"] if source["path"] not in new]
    sources = [*kept, *map(_source, found)]
    curves = _curve_table(found)
    if (root / CURVES).is_file():
        old = read_sealed(root / CURVES)
        mask = pa.array([source not in new for source in old.column("source").to_pylist()], pa.bool_())
        curves = pa.concat_tables([old.filter(mask).cast(_CURVE_SCHEMA), curves])
    if curves.num_rows:
        write_sealed(root / CURVES, curves)
    write_json(root / IMPORTED, {"schema": _SCHEMA, "name": name, "sources": sources})


def _identity(imported: Imported) -> str:
    return str(Path(imported.path).resolve())


def _source(imported: Imported) -> dict[str, Any]:
    return {
        "path": _identity(imported),
        "kind": imported.kind,
        "datasets": [asdict(dataset) for dataset in imported.datasets],
        "numbers": [asdict(number) for number in [*imported.numbers, *_final_numbers(imported.curves)]],
        "mapping": [asdict(mapped) for mapped in imported.mapping],
        "notes": [*imported.notes, *_curve_notes(imported.curves)],
    }


def _final_numbers(curves: Iterable[Curve]) -> list[Number]:
    """The last finite point of every curve; of a run's metric with curves of evaluation, only those."""
    curves = list(curves)
    evaluated = {(curve.run, curve.metric) for curve in curves if curve.split == "eval"}
    found = []
    for curve in curves:
        if curve.split == "train" and (curve.run, curve.metric) in evaluated:
            continue
        finite = np.flatnonzero(np.isfinite(curve.value))
        if len(finite):
            value = float(curve.value[finite[-1]])
            scale = 0.01 if curve.metric.endswith("accuracy") and value > 1 else 1.0
            found.append(
                Number(
                    run=curve.run,
                    dataset=curve.dataset,
                    metric=curve.metric,
                    value=value * scale,
                    text=f"{value:.6g}",
                    rounding=0.0,
                )
            )
    return found


def _curve_notes(curves: Sequence[Curve]) -> list[str]:
    notes = []
    evaluated = {(curve.run, curve.metric) for curve in curves if curve.split == "eval"}
    trained = sorted({curve.run for curve in curves if (curve.run, curve.metric) not in evaluated})
    if trained:
        notes.append(f"{', '.join(trained)}: losses are of training; no evaluation is in the file")
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
            names = {"run": curve.run, "dataset": curve.dataset, "metric": curve.metric, "split": curve.split}
            columns = {
                key: pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([text]))
                for key, text in (names | {"source": _identity(imported)}).items()
            }
            table = pa.table(columns | {"step": curve.step, "value": curve.value})
            parts.append(table.select(_CURVE_SCHEMA.names).cast(_CURVE_SCHEMA))
    return pa.concat_tables(parts) if parts else _CURVE_SCHEMA.empty_table()


def imported_table(root: Path) -> Table:
    """The table of a folder of imports. Raises DataError if there is none or it is damaged."""
    value = read_json(root / IMPORTED)
    try:
        if value["schema"] != _SCHEMA:
            raise DataError("made by another version of lossary", where=str(root / IMPORTED), hint="Import again.")
        sources = [
            (
                source["path"],
                [ImportedDataset(**dataset) for dataset in source["datasets"]],
                [Number(**number) for number in source["numbers"]],
                source["notes"],
            )
            for source in value["sources"]
        ]
        return _table(value["name"], sources)
    except (KeyError, TypeError) as error:
        raise DataError(f"damaged: {error}", where=str(root / IMPORTED), hint="Delete it and import again.") from None


def _table(name: str, sources: list[tuple[str, list[ImportedDataset], list[Number], list[str]]]) -> Table:
    numbers, notes = [], []
    described: dict[str, ImportedDataset] = {}
    taken: set[str] = set()
    for path, datasets, found, more in sources:
        label = Path(path).stem
        clash = {number.run for number in found} & taken
        for number in found:
            run = f"{label}: {number.run}" if number.run in clash else number.run
            section = number.section or label
            numbers.append(Number(**(vars(number) | {"run": run, "section": section})))
        taken |= {number.run for number in found}
        for dataset in datasets:
            described.setdefault(dataset.name, dataset)
        notes += more
    names = dict.fromkeys([*described, *(n.dataset for n in numbers if n.dataset is not None)])
    rows = [_row(described.get(dataset, ImportedDataset(name=dataset))) for dataset in names]
    runs = _runs(numbers)
    cells = _cells(numbers, runs, rows)
    totals = [total for run in runs for total in totals_of(run.name, rows, cells)]
    if ALL in names and len(names) > 1:
        notes.append(f"{ALL!r} holds losses that name no dataset; totals over datasets count it as one")
    return Table(
        study=name,
        datasets=rows,
        runs=runs,
        cells=cells,
        totals=[*_reported(numbers), *totals],
        notes=notes,
        signature="as imported: no n, no intervals",
        validation_digest=None,
        tokenizer_digest=None,
    )


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
    return [
        RunColumn(
            name=run,
            backend=None,
            size=None,
            step=None,
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


def _cells(numbers: list[Number], runs: list[RunColumn], rows: list[DatasetRow]) -> list[Cell]:
    at = {(number.run, number.dataset, number.metric): number for number in numbers}
    return [
        _cell(run.name, row.name, metric, at.get((run.name, row.name, metric)))
        for run in runs
        for row in rows
        for metric in METRICS
    ]


def _cell(run: str, dataset: str, metric: Metric, number: Number | None) -> Cell:
    return Cell(
        run=run,
        dataset=dataset,
        metric=metric,
        value=None if number is None else number.value,
        low=None,
        high=None,
        variance=None,
        n=0,
        unit="nats" if metric.endswith("loss") else "fraction",
        interval="",
        reason="not on the page" if number is None else None,
        floor=None,
        standing=None,
        step=None,
        validation_digest=None,
        link=None if number is None else number.link,
        reported=None if number is None else number.text,
        rounding=0.0 if number is None else number.rounding,
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
        )
        for number in numbers
        if number.dataset is None
    ]

"""The table as data: JSON, CSV, Parquet, LaTeX."""

import csv
import io
import json
import types
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from lossary.reports.text import (
    WEIGHTING_TITLES,
    metric_title,
    percent,
    plain,
    short_count,
    shown,
    step_mark,
    total_counts,
    weightings,
)
from lossary.tables.model import Cell, Table, Total
from lossary.version import __version__

__all__ = ["arrow_table", "csv_text", "json_value", "latex_text", "parquet_table"]

SCHEMA = 1


def json_value(table: Table) -> dict[str, Any]:
    """The whole table; what does not exist is null with a reason."""
    return {
        "schema": SCHEMA,
        "lossary": __version__,
        "study": table.study,
        "signature": table.signature,
        "validation_digest": table.validation_digest,
        "tokenizer_digest": table.tokenizer_digest,
        "datasets": [asdict(row) for row in table.datasets],
        "runs": [asdict(run) for run in table.runs],
        "cells": [asdict(cell) for cell in table.cells],
        "totals": [asdict(total) for total in table.totals],
        "base": table.base,
        "deltas": [asdict(delta) for delta in table.deltas],
        "seed_spreads": [asdict(row) for row in table.seed_spreads],
        "sequential": [asdict(row) for row in table.sequential],
        "notes": table.notes,
    }


def parquet_table(table: Table) -> pa.Table:
    """The cells, one row each."""
    return arrow_table(Cell, table.cells)


def arrow_table(kind: type, rows: Sequence[Any]) -> pa.Table:
    """Dataclasses of one kind, a row each; columns have the types of the fields, also where every value is missing.

    What Arrow has no plain type for is JSON.
    """
    kinds = {name: _arrow_type(hint) for name, hint in get_type_hints(kind).items()}
    columns = []
    for name, arrow in kinds.items():
        values = [getattr(row, name) for row in rows]
        if arrow is None:
            values = [json.dumps(value, ensure_ascii=False, default=dict) for value in values]
        columns.append(pa.array(values, arrow or pa.string()))
    return pa.Table.from_arrays(columns, names=list(kinds))


_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _arrow_type(hint: Any) -> pa.DataType | None:
    """The column of a field; None where there is none that is plain."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _arrow_type(type(arguments[0]))
    if origin in (Union, types.UnionType):
        found = {_arrow_type(argument) for argument in arguments if argument is not type(None)}
        return found.pop() if len(found) == 1 else None
    if origin in (list, Sequence):
        item = _arrow_type(arguments[0])
        return None if item is None else pa.list_(item)
    return _ARROW.get(hint)


def csv_text(table: Table) -> str:
    """Cells and totals in long form, one line each; `kind` tells them apart."""
    names = ["kind", "dataset", "weighting", *(f.name for f in fields(Cell) if f.name != "dataset")]
    shares = {row.name: row for row in table.datasets}
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, [*names, "train_rows", "train_share", "validation_share"], restval="", lineterminator="\n"
    )
    writer.writeheader()
    for cell in table.cells:
        row = shares[cell.dataset]
        extra = {key: getattr(row, key) for key in ("train_rows", "train_share", "validation_share")}
        writer.writerow(_harmless({"kind": "cell", **asdict(cell), **extra}))
    for total in table.totals:
        writer.writerow(_harmless({"kind": "total", **asdict(total)}))
    return buffer.getvalue()


def _harmless(row: dict[str, Any]) -> dict[str, Any]:
    """Text that a spreadsheet would take for a formula gets a quote in front."""
    return {
        key: "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
        for key, value in row.items()
    }


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def latex_text(table: Table) -> str:
    """A booktabs table: datasets down, runs and metrics across, totals by validation share below."""
    metrics = table.shown
    groups = " & ".join(rf"\multicolumn{{{len(metrics)}}}{{c}}{{{_latex(run.name)}}}" for run in table.runs)
    titles = " & ".join(metric_title(metric) for _ in table.runs for metric in metrics)
    lines = [
        rf"\begin{{tabular}}{{lrrr{'r' * len(metrics) * len(table.runs)}}}",
        r"\toprule",
        rf" & & & & {groups} \\",
        rf"dataset & train rows & train \% & val.\ \% & {titles} \\",
        r"\midrule",
    ]
    for row in table.datasets:
        cells = [table.cell(run.name, row.name, metric) for run in table.runs for metric in metrics]
        shares = [short_count(row.train_rows), percent(row.train_share), percent(row.validation_share)]
        lines.append(" & ".join([_latex(row.name), *shares, *map(_number, cells)]) + r" \\")
    weighting = weightings(table)[0]
    totals = [table.find_total(run.name, metric, weighting) for run in table.runs for metric in metrics]
    title = f"total {WEIGHTING_TITLES[weighting]}"
    lines += [r"\midrule", " & ".join([title, *total_counts(table), *map(_number, totals)]) + r" \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _number(cell: Cell | Total | None) -> str:
    if cell is None or cell.value is None:
        return "---"
    return _latex(" ".join(part for part in (shown(cell), step_mark(cell)) if part))


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in plain(text))

"""The numbers of a table's rows, each with all that its row and its column say of it: run, dataset, metric, step.

facts_of of   dataset | step | loss      →  a fact of dataset wiki at step 10, and one at step 20
              wiki    | 10   | 2.5
              wiki    | 20   | 2.25
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from lossary.results.importers.audit import contradiction
from lossary.results.importers.columns import Column, column_of, run_name
from lossary.results.importers.grids import (
    OPEN_MARKS,
    SPREADS,
    Grid,
    Marks,
    Parsed,
    has_spread,
    is_all,
    is_total,
    marks_of,
    may_be_thousands,
    plain,
    read_cell,
    unlink,
)
from lossary.results.importers.maps import Maps
from lossary.results.importers.meanings import base_metric
from lossary.results.importers.model import ALL, Axis, Imported, ImportedDataset, Mapped, Role, Split, metric_name
from lossary.results.importers.names import of_data, read_name, row_scale, split_word
from lossary.results.importers.series import OF_ONE_RUN
from lossary.results.importers.titles import STRONG

__all__ = ["AXES", "Fact", "Found", "dataset_of", "facts_of", "filled_down", "telling_columns"]

AXES: tuple[Axis, ...] = ("step", "epoch", "tokens")
# What names a row, the first that a table has.
_NAMES: tuple[Role, ...] = ("dataset", "run")
_ALONE = "names alone on their rows are left out, and say nothing of the rows below"
_DIFFERENCE = re.compile(
    r"((abs\w*|rel\w*)?[\s_]*(change|diff\.?|difference|delta|[Δ∆])|std\.?( dev\.?)?|stdev|stddev|sd|sem|stderr"
    r"|variance|p[\s_-]?values?)\s*([(%].*)?",
    re.IGNORECASE,
)
_SPREAD_WORD = re.compile(
    r"(std\.?|stdev|stddev|sd|sem|var(iance)?|min|max|median|range|ci|±)([\s_.-].*)?", re.IGNORECASE
)
_OF_SPLIT = re.compile(r"(.+)/(\w+)")
# What a metric is taken by, and not of.
_INTERVALS = {"epoch", "step", "batch", "iteration"}
_NO_METRIC = "rows of what is no loss, accuracy or perplexity are left out"
_KEYS: tuple[Role, ...] = ("dataset", "run", "split", *AXES, "metric", "value")


class Fact(NamedTuple):
    """A number of a table with all that its row says."""

    run: str
    dataset: str | None
    metric: str
    step: int | None
    parsed: Parsed
    scale: float
    link: str | None
    line: int
    header: str
    telling: tuple[str, ...]


@dataclass
class Found:
    """What the tables of one file gave so far."""

    imported: Imported
    path: Path
    maps: Maps
    datasets: dict[str, ImportedDataset] = field(default_factory=dict)
    taken: dict[tuple[str, str | None, str], str] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)
    marks: Marks = field(default_factory=lambda: marks_of(()))

    def tell(self, said: str, where: str) -> None:
        """Adds a place to what is told once of all places: `cells with more than a number: line 3, …`."""
        self.told.setdefault(said, []).append(where)


class _Layout(NamedTuple):
    """What the columns of one table are: where each role stands, which are per cent, and what tells rows apart."""

    columns: list[Column]
    at: dict[Role, int | None]
    percent: set[int]
    telling: list[Column]
    are_models: bool


def telling_columns(columns: list[Column]) -> list[Column]:
    """The columns without a role or metric, by which rows of one dataset are told apart."""
    return [c for c in columns if c.role is None and not c.metric and not (c.name and c.name.statistic)]


def filled_down(grid: Grid, columns: list[Column]) -> Grid:
    """The table with merged cells written into every row: texts in front of the column that names the rows."""
    key = min((c.at for c in columns if c.role in ("dataset", "run")), default=0)
    merged_cells = [c.at for c in columns if c.at < key and c.role is None and not c.metric and c.is_text]
    rows, above = [grid.rows[0]], grid.rows[0]
    for row in grid.rows[1:]:
        is_first = len(rows) == 1
        above = [
            above[at] if at in merged_cells and not cell.strip() and not is_first else cell
            for at, cell in enumerate(row)
        ]
        rows.append(above)
    return replace(grid, rows=rows) if merged_cells else grid


def facts_of(grid: Grid, columns: list[Column], found: Found) -> list[Fact]:
    """The numbers of all rows."""
    at = {kind: column_of(columns, kind) for kind in _KEYS}
    percent = {c.at for c in columns if c.metric.endswith("accuracy") and _is_percent(grid, c.at)}
    layout = _Layout(columns, at, percent, telling_columns(columns), _are_models(columns, at))
    if layout.are_models:
        found.imported.notes.append(
            "columns sound like models beside the runs of the rows: read as runs of one dataset"
        )
    found.marks = marks_of(row[c.at] for row in grid.rows[1:] for c in columns if c.metric or c.role == "value")
    facts: list[Fact] = []
    above: dict[Role, str] = {}
    merges = _merged_keys(grid, at)
    for offset, row in enumerate(grid.rows[1:], 1):
        keys = {kind: plain(row[index]) if index is not None else "" for kind, index in at.items()}
        if not any(cell.strip() for index, cell in enumerate(row) if index not in (at["dataset"], at["run"])):
            for cell in filter(str.strip, row):
                found.tell(_ALONE, f"{plain(cell)!r} (line {grid.line(offset)})")
            continue
        written = dict(keys)
        for kind in merges:
            outer = [k for k in _NAMES if at[k] is not None and (at[k] or 0) < (at[kind] or 0)]
            goes_on = all(not written[k] or (at["metric"] is not None and keys[k] == above.get(k)) for k in outer)
            if not keys[kind] and goes_on:
                keys[kind] = above.get(kind, "")
        above = keys
        if is_total(keys["dataset"], at_end=offset == len(grid.rows) - 1):
            keys["dataset"] = "total"
        elif is_all(keys["dataset"]):
            keys["dataset"] = ALL
        facts += _row_facts(row, keys, grid.line(offset), layout, found)
        _about_dataset(row, keys, layout, found)
    return _without_contradictions(facts, columns, found)


def _merged_keys(grid: Grid, at: Mapping[Role, int | None]) -> list[Role]:
    """The columns of names whose empty cells may go on with the one above, outer ones first.

    None where a table writes one name on two rows after one another: there an empty cell is no merged one. Nor is one
    behind a name that is written anew on its row: `B | (empty)` below `A | books` does not say that it is of books.
    """
    named: list[Role] = [kind for kind in ("dataset", "run") if at[kind] is not None]
    if len(named) < 2 and (not named or at["metric"] is None):
        return []
    columns = {kind: [plain(row[at[kind] or 0]) for row in grid.rows[1:]] for kind in named}
    merged = [kind for kind in named if not any(a == b != "" for a, b in pairwise(columns[kind]))]
    return sorted(merged, key=lambda kind: at[kind] or 0)


def _without_contradictions(facts: list[Fact], columns: list[Column], found: Found) -> list[Fact]:
    """The numbers without those of columns that cannot be what they are called; a map's word stands."""
    mapped = {column.header for column in columns if column.owner is not None}
    groups: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[fact.header, fact.metric].append(fact)
    wrong: set[tuple[str, str]] = set()
    for (header, metric), group in groups.items():
        values = [fact.parsed.value * fact.scale for fact in group]
        name = metric.removeprefix("train_").removeprefix("test_")
        texts = [fact.parsed.text for fact in group]
        reason = contradiction(name, values, texts)
        is_bare = metric == "loss" and read_name(header).split is None
        if is_bare and len(texts) > 1 and all(map(str.isdigit, texts)):
            # Of a team, of money, of packets; losses that models have are printed with fractions.
            reason = "they are whole numbers, as counts are"
        if reason is not None and header not in mapped:
            wrong.add((header, metric))
            found.imported.mapping.append(Mapped(source=header, meaning="left out", reason=f"no {metric}: {reason}"))
    return [fact for fact in facts if (fact.header, fact.metric) not in wrong]


def _row_facts(row: list[str], keys: dict[Role, str], line: int, layout: _Layout, found: Found) -> list[Fact]:
    named_by: Role | None = next((kind for kind in _NAMES if layout.at[kind] is not None and not keys[kind]), None)
    if named_by is None:
        named_by = next((kind for kind in _NAMES if layout.at[kind] is not None), None)
    if named_by is not None and not keys[named_by]:
        if any(c.metric and _number(unlink(row[c.at])[0]) is not None for c in layout.columns):
            found.tell(f"lines that name no {named_by} are left out", f"line {line}")
        return []
    if named_by == "run" and (is_total(keys["run"]) or _DIFFERENCE.fullmatch(keys["run"])):
        found.tell("lines that are over runs are left out", f"line {line}, {keys['run']!r}")
        return []
    if layout.at["metric"] is not None and (of_split := _OF_SPLIT.fullmatch(keys["run"])) and split_word(of_split[2]):
        # TensorBoard's runs are folders: `base/train`, `base/validation`.
        keys = keys | {"run": of_split[1], "split": keys["split"] or of_split[2]}
    step = next((int(cell.value) for kind in AXES if (cell := _number(keys[kind])) is not None), None)
    shown = tuple(plain(row[c.at]) for c in layout.telling)
    over = next((text for text, c in zip(shown, layout.telling, strict=True) if _is_over(text, c)), None)
    if over is not None:
        found.tell("lines that are over runs are left out", f"line {line}, {over!r}")
        return []
    facts = []
    for column in layout.columns:
        measured = _measured(column, keys)
        if measured is None:
            if column.role == "value" and keys["metric"] and _number(unlink(row[column.at])[0]) is not None:
                found.tell(_NO_METRIC, f"line {line}, {keys['metric']!r}")
            continue
        metric, split = measured
        text, link = unlink(row[column.at])
        number = _printed(text, f"line {line}, {column.header!r}", metric, found)
        if number is None:
            continue
        if keys["split"] and (column.name is None or column.name.split is None or column.role == "value"):
            split = split_word(keys["split"]) or split
        run, dataset = _owner(column, keys, layout)
        scale = 0.01 if column.at in layout.percent and not number.is_percent else 1.0
        if column.name is not None and column.name.is_in_bits:
            scale = math.log(2)
        full = metric_name(metric, split)
        facts.append(Fact(run, dataset, full, step, number, scale, link, line, column.header, shown))
    return facts


def _is_over(text: str, column: Column) -> bool:
    """Whether a row is over the others by what stands where others say a seed: `mean`, `std`."""
    return OF_ONE_RUN.fullmatch(column.header) is not None and (
        is_total(text) or _SPREAD_WORD.fullmatch(text) is not None
    )


def _measured(column: Column, keys: dict[Role, str]) -> tuple[str, Split] | None:
    """Metric and split of a cell; None if it is of none: a column of values is of the metric that its row names."""
    metric, split = column.metric, column.split
    if column.role == "value":
        name = read_name(keys["metric"]) if keys["metric"] else read_name(column.header)
        if name.quantity is None and name.objective not in STRONG:
            return None
        metric, split = base_metric(name, has_pairs=False), name.split or "unknown"
        if name.rest and name.rest.lower() not in _INTERVALS:
            metric = "_".join([*re.findall(r"[^\W_]+", name.rest.lower()), metric])
    if not metric or (column.name is not None and column.name.statistic == "deviation"):
        return None
    return metric, split


def _printed(text: str, where: str, metric: str, found: Found) -> Parsed | None:
    """The number of a cell, with a note of what is odd about it; None if it is missing."""
    if may_be_thousands(text, found.marks, is_large=metric.endswith("perplexity")):
        found.tell(OPEN_MARKS, f"{where}: {text[:60]!r}")
        return None
    cell = read_cell(text)
    if cell.odd is not None:
        found.tell(
            "cells with more than a number", f"{where}: {cell.odd[:60]!r}" + ("" if cell.number else " (missing)")
        )
    elif cell.number is not None and has_spread(text):
        found.tell(SPREADS, f"{where}: {text[:60]!r}")
    return cell.number


def _owner(column: Column, keys: dict[Role, str], layout: _Layout) -> tuple[str, str | None]:
    """Run and dataset of a number; None is a total over datasets."""
    rest = column.name.rest if column.name is not None and column.role != "value" else ""
    entry = column.owner
    if layout.at["dataset"] is not None:
        dataset = None if is_total(keys["dataset"]) else keys["dataset"]
        if entry is not None:
            return entry.run or entry.owner or keys["run"] or "run", dataset
        run = " ".join(part for part in (keys["run"], run_name(rest)) if part)
        return run or "run", dataset
    run = entry.run if entry is not None and entry.run else keys["run"] or "run"
    if layout.are_models and entry is None and rest and not is_total(rest):
        return f"{run} · {run_name(rest)}", ALL
    return run, dataset_of(column, layout.columns)


def _are_models(columns: Sequence[Column], at: Mapping[Role, int | None]) -> bool:
    """Whether columns beside rows of runs are called by models, one and all: a method on `LLaMA-7B`, `LLaMA-13B`."""
    rests = [c.name.rest for c in columns if c.metric and c.owner is None and c.name is not None and c.name.rest]
    of_runs = at["dataset"] is None and at["run"] is not None
    return of_runs and len(set(rests)) > 1 and of_data(rests) == -len(set(rests))


def dataset_of(column: Column, columns: list[Column]) -> str | None:
    """The dataset of a column where rows are runs: what its header, or the map, says; None is a total over datasets."""
    if column.owner is not None:
        named = column.owner.dataset or column.owner.owner
        return None if is_total(named) else named or ALL
    rest = column.name.rest if column.name is not None and column.role != "value" else ""
    alike = [c for c in columns if c.metric and (c.metric, c.split) == (column.metric, column.split)]
    of_datasets = [c for c in alike if c.name is not None and c.name.rest and not is_total(c.name.rest)]
    last = of_datasets and column.at == of_datasets[-1].at
    if is_total(rest, at_end=bool(last) and len(of_datasets) > 1) or (
        not rest and len({c.name.rest for c in of_datasets if c.name}) > 1
    ):
        return None
    return ALL if is_all(rest) else rest or ALL


def _number(text: str) -> Parsed | None:
    return read_cell(text).number if text else None


def _is_percent(grid: Grid, at: int) -> bool:
    """Accuracies and shares above 1 are per cent, though no sign says so."""
    cells = [read_cell(unlink(row[at])[0]).number for row in grid.rows[1:]]
    return any(cell is not None and not cell.is_percent and cell.value > 1 for cell in cells)


def _about_dataset(row: list[str], keys: dict[Role, str], layout: _Layout, found: Found) -> None:
    """What a row says of its dataset, completed by what a table above said of it."""
    name = keys["dataset"]
    if not name or is_total(name):
        return
    old = found.datasets.get(name) or ImportedDataset(name=name)
    index = layout.at["dataset"]
    values = vars(old) | {"link": old.link or (unlink(row[index])[1] if index is not None else None)}
    for column in layout.columns:
        if column.role not in ("train_rows", "train_share", "validation_share") or values[column.role] is not None:
            continue
        number = read_cell(unlink(row[column.at])[0], decimal_comma=column.role != "train_rows").number
        if number is None:
            continue
        if column.role == "train_rows":
            values["train_rows"] = round(number.value * row_scale(column.header))
        else:
            scale = 0.01 if number.value > 1 and not number.is_percent else 1.0
            values |= {column.role: number.value * scale, f"{column.role}_rounding": number.rounding * scale}
    found.datasets[name] = ImportedDataset(**values)

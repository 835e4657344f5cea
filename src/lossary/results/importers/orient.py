"""What a table says: which axis are datasets, runs, steps, splits or metrics, from its headers and values together.

A table whose rows are steps or epochs is curves. Two numbers for one cell are told apart by the columns that differ
between their rows; if none does, the file is refused and both are named.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lossary.errors import SourceError
from lossary.results.importers.collect import Collector, merged
from lossary.results.importers.columns import (
    DEVIATION,
    STRONG,
    Column,
    are_dates,
    by_title,
    column_of,
    columns_of,
    is_metric,
    named_by_title,
    plain,
    row_axis,
    run_name,
    sections_of,
    unsaid,
)
from lossary.results.importers.grids import (
    OPEN_MARKS,
    SPREADS,
    Grid,
    Marks,
    Parsed,
    has_spread,
    is_all,
    is_missing,
    is_total,
    marks_of,
    may_be_thousands,
    read_cell,
    unlink,
)
from lossary.results.importers.headers import joined_headers
from lossary.results.importers.maps import Maps
from lossary.results.importers.meanings import base_metric
from lossary.results.importers.model import (
    ALL,
    Axis,
    Curve,
    Imported,
    ImportedDataset,
    Mapped,
    Number,
    Role,
    Split,
    metric_name,
)
from lossary.results.importers.names import of_data, read_name, role, row_scale, split_word
from lossary.results.importers.series import is_series_grid, names_of_runs, series_of_grid

__all__ = ["read_grids"]

_MANY_ODD = 8
_AXES: tuple[Axis, ...] = ("step", "epoch", "tokens")
_KEYS: tuple[Role, ...] = ("dataset", "run", "split", *_AXES, "metric", "value")
_IN_BITS = "losses in bits are multiplied by ln 2: "


# `10k`, `1,000 steps`, `epoch 3` as a column.
_STEP_HEADER = re.compile(
    r"\d[\d,.]*\s*[kKmMbB]?\s*(steps?|iter\w*|it|updates?|epochs?|tokens?)?|(step|epoch|iter\w*)\s*\d+", re.IGNORECASE
)


class _Fact(NamedTuple):
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
class _Found:
    """What the tables of one file gave so far."""

    imported: Imported
    path: Path
    maps: Maps
    datasets: dict[str, ImportedDataset] = field(default_factory=dict)
    taken: dict[tuple[str, str | None, str], str] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)
    open_marks: list[str] = field(default_factory=list)
    spreads: list[str] = field(default_factory=list)
    marks: Marks = field(default_factory=lambda: marks_of(()))


def read_grids(grids: Iterable[Grid], path: Path, kind: str, maps: Maps) -> Imported:
    """The numbers and curves of a file's tables; a table without either is left out, with a note."""
    found = _Found(Imported(path=str(path), kind=kind), path, maps)
    collectors: list[Imported] = []
    parts = (part for grid in grids for part in sections_of(joined_headers(_tidied(grid), str(path))))
    for number, grid in enumerate(parts, 1):
        if len(grid.rows) < 2:
            continue
        grid = _with_one_name_each(grid, found)
        if is_series_grid(grid, maps):
            collector = Collector(path, kind, maps)
            run = path.stem if not collectors else grid.title or f"{path.stem} ({number})"
            series_of_grid(grid, collector, run)
            collectors.append(collector.finish())
            continue
        problem = _read_grid(grid, number, found)
        if problem:
            found.imported.notes.append(f"table {number} (line {grid.first_line}) {problem}; left out")
    found.imported.datasets.extend(found.datasets.values())
    for said, cells in (
        ("cells with more than a number", found.odd),
        (OPEN_MARKS, found.open_marks),
        (SPREADS, found.spreads),
    ):
        if cells:
            more = f" and {len(cells) - _MANY_ODD} more" if len(cells) > _MANY_ODD else ""
            found.imported.notes.append(f"{said}: {'; '.join(cells[:_MANY_ODD])}{more}")
    return replace(merged([found.imported, *collectors], path), kind=kind) if collectors else found.imported


def _tidied(grid: Grid) -> Grid:
    """Rows of one length below a header that says something; empty ones are gone."""
    start = next((index for index, row in enumerate(grid.rows) if any(unlink(cell)[0] for cell in row)), 0)
    rows = grid.rows[start:]
    width = max((len(row) for row in rows), default=0)
    return Grid(
        title=grid.title,
        rows=[[*row, *[""] * (width - len(row))] for row in rows],
        first_line=grid.line(start),
        ruled=grid.ruled and start == 0,
        lines=grid.lines[start:],
    )


def _with_one_name_each(grid: Grid, found: _Found) -> Grid:
    """W&B's table of runs with runs of one name told apart by their ids, or by their rows."""
    at = names_of_runs(grid)
    if at is None:
        return grid
    names = [row[at] for row in grid.rows[1:]]
    headers = [plain(cell).lower() for cell in grid.rows[0]]
    by_id = headers.index("id") if "id" in headers else None
    rows = [grid.rows[0]]
    for offset, row in enumerate(grid.rows[1:], 1):
        name = row[at]
        if name and names.count(name) > 1:
            name = f"{name} ({row[by_id] if by_id is not None and row[by_id] else f'line {grid.line(offset)}'})"
        rows.append([*row[:at], name, *row[at + 1 :]])
    if rows[1:] != grid.rows[1:]:
        found.imported.notes.append(
            f"several runs have one name; they are told apart by their {'lines' if by_id is None else 'ids'}"
        )
    return replace(grid, rows=rows)


def _read_grid(grid: Grid, number: int, found: _Found) -> str | None:
    """Reads one table whose rows are no steps; what is wrong with it, or None."""
    columns = columns_of(grid, found.maps)
    metrics = [column for column in columns if column.metric]
    if named_by_title(grid, columns) and not any(column.role == "value" for column in columns):
        transposed = _transposed(grid, found) if not metrics else None
        if transposed is not None:
            return _read_grid(transposed, number, found)
        columns = by_title(grid, columns)
        metrics = [column for column in columns if column.metric]
        if not metrics:
            return "names no loss and no accuracy; --map HEADER=RUN:METRIC says what a column is"
    rows_are = row_axis(grid, columns, found.imported.notes)
    if rows_are is None:
        dated = next((c.header for c in columns if c.role is None and not c.metric and are_dates(grid, c.at)), None)
        if dated is not None:
            return (
                f"has rows that only {dated!r} tells apart, which names no dataset and no run; "
                f"--map '{dated}=run' takes each for a run, --map '{dated}=dataset' for a dataset"
            )
        return "has no column of datasets or runs; --map HEADER=dataset or HEADER=run names it"
    columns = rows_are
    numbered = [
        c.header for c in columns if c.metric and c.owner is None and c.name and _STEP_HEADER.fullmatch(c.name.rest)
    ]
    key = column_of(columns, "dataset") if column_of(columns, "dataset") is not None else column_of(columns, "run")
    named = next((c for c in columns if c.at == key), None)
    sized = named is not None and role(named.header) is None and all(
        _STEP_HEADER.fullmatch(plain(row[named.at])) for row in grid.rows[1:]
    )  # fmt: skip
    if numbered and (sized or not any(c.role == "dataset" for c in columns)):
        return f"has columns that are called {', '.join(numbered[:3])}, which may be steps and name no dataset"
    if key is not None and _is_header(grid.rows[1], key, columns):
        return "has a second row of headers that cannot be joined to the first; write both into one row"
    in_bits = [repr(c.header) for c in columns if c.metric and c.name is not None and c.name.is_in_bits]
    if in_bits:
        found.imported.notes.append(_IN_BITS + ", ".join(in_bits))
    facts = _facts(_filled_down(grid, columns), columns, found)
    facts = _told_apart(facts, columns, found)
    axis: Axis = next((kind for kind in _AXES if column_of(columns, kind) is not None), "step")
    _keep(facts, grid, (number, axis), found)
    _note_columns(columns, found)
    return None


def _is_header(row: list[str], key: int, columns: list[Column]) -> bool:
    """Whether a row names nothing, and says words where numbers would stand."""
    said = [plain(row[c.at]) for c in columns if c.metric and not is_missing(row[c.at])]
    return not plain(row[key]) and bool(said) and all(read_cell(text).number is None for text in said)


def _transposed(grid: Grid, found: _Found) -> Grid | None:
    """The table with its rows as columns, if it is the rows that are metrics."""
    first = [plain(row[0]) for row in grid.rows[1:]]
    are_metrics = [name for name in first if is_metric(name, read_name(name))]
    if len(are_metrics) * 2 < len(first) or not are_metrics:
        return None
    rows = [list(row) for row in zip(*grid.rows, strict=True)]
    names_too = not first[0] or role(first[0]) in ("dataset", "run")
    if names_too and not any(read_cell(row[1]).number for row in rows[1:]):
        return _with_two_keys(grid, rows, found)
    entry = found.maps.get(plain(rows[0][0]))
    if entry is not None and entry.role in ("dataset", "run"):
        rows[0][0] = entry.role
    elif role(plain(rows[0][0])) not in ("dataset", "run"):
        found.imported.notes.append(unsaid([plain(row[0]) for row in rows[1:]], "runs", "dataset", plain(rows[0][0])))
        rows[0][0] = "run"
    return Grid(title=grid.title, rows=rows, first_line=grid.first_line)


def _with_two_keys(grid: Grid, rows: list[list[str]], found: _Found) -> Grid | None:
    """Datasets above runs, or runs above datasets: a header, a map or the names themselves say which is which."""
    outer: list[str] = []
    inner = [plain(row[1]) for row in rows[1:]]
    for row in rows[1:]:
        outer.append(plain(row[0]) or (outer[-1] if outer else ""))
    counts = {outer.count(name) for name in outer}
    if not all(outer) or not all(inner) or (len(counts) > 1 and not all(row[0] for row in rows[1:])):
        return None
    entry = found.maps.get(plain(rows[0][0]))
    said = entry.role if entry is not None else role(plain(rows[0][0])) or _other(role(plain(rows[0][1])))
    kind = said if said in ("dataset", "run") else "dataset" if of_data(outer) >= of_data(inner) else "run"
    if said not in ("dataset", "run"):
        names = [", ".join(repr(name) for name in dict.fromkeys(level)) for level in (outer, inner)]
        found.imported.notes.append(
            f"two rows of names: {names[0]} read as {kind}s, {names[1]} as {_other(kind)}s; "
            f"--map '{plain(rows[0][0])}={_other(kind)}' says the other"
        )
    header = [kind, _other(kind) or "", *rows[0][2:]]
    body = [[name, *row[1:]] for name, row in zip(outer, rows[1:], strict=True)]
    return Grid(title=grid.title, rows=[header, *body], first_line=grid.first_line)


def _other(kind: Role | None) -> Role | None:
    return "run" if kind == "dataset" else "dataset" if kind == "run" else None


def _facts(grid: Grid, columns: list[Column], found: _Found) -> list[_Fact]:
    """The numbers of all rows."""
    at = {kind: column_of(columns, kind) for kind in _KEYS}
    percent = {c.at for c in columns if c.metric.endswith("accuracy") and _is_percent(grid, c.at)}
    telling = [c for c in columns if c.role is None and not c.metric and not (c.name and c.name.statistic)]
    found.marks = marks_of(row[c.at] for row in grid.rows[1:] for c in columns if c.metric or c.role == "value")
    facts: list[_Fact] = []
    above: dict[Role, str] = {}
    alone: list[str] = []
    for offset, row in enumerate(grid.rows[1:], 1):
        keys = {kind: plain(row[index]) if index is not None else "" for kind, index in at.items()}
        if not any(cell.strip() for index, cell in enumerate(row) if index not in (at["dataset"], at["run"])):
            alone += [f"{plain(cell)!r} (line {grid.line(offset)})" for cell in row if cell.strip()]
            continue
        merges: list[Role] = [kind for kind in ("dataset", "run") if at[kind] is not None]
        if len(merges) == 2 or (merges and at["metric"] is not None):
            # Cells that were merged are empty but for the first.
            keys |= {kind: keys[kind] or above.get(kind, "") for kind in merges}
            above = keys
        if is_total(keys["dataset"], at_end=offset == len(grid.rows) - 1):
            keys["dataset"] = "total"
        elif is_all(keys["dataset"]):
            keys["dataset"] = ALL
        facts += _row_facts(row, keys, columns, grid.line(offset), (percent, telling, at, found))
        _about_dataset(row, keys, columns, at, found)
    if alone:
        more = f" and {len(alone) - 3} more" if alone[3:] else ""
        found.imported.notes.append(
            f"names alone on their rows are left out, and say nothing of the rows below: {', '.join(alone[:3])}{more}"
        )
    return facts


def _filled_down(grid: Grid, columns: list[Column]) -> Grid:
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


def _row_facts(
    row: list[str],
    keys: dict[Role, str],
    columns: list[Column],
    line: int,
    known: tuple[set[int], list[Column], dict[Role, int | None], _Found],
) -> list[_Fact]:
    percent, telling, at, found = known
    if (at["dataset"] is not None and not keys["dataset"]) or (
        at["dataset"] is None and at["run"] is not None and not keys["run"]
    ):
        if any(c.metric and read_cell(unlink(row[c.at])[0]).number is not None for c in columns):
            found.imported.notes.append(
                f"line {line} names no {'dataset' if at['dataset'] is not None else 'run'}; left out"
            )
        return []
    if at["dataset"] is None and at["run"] is not None and is_total(keys["run"]):
        found.imported.notes.append(f"line {line}: {keys['run']!r} is over runs; left out")
        return []
    step = next((int(cell.value) for kind in _AXES if (cell := _number(keys[kind])) is not None), None)
    shown = tuple(plain(row[c.at]) for c in telling)
    facts = []
    for column in columns:
        metric, split = column.metric, column.split
        if column.role == "value":
            name = read_name(keys["metric"]) if keys["metric"] else read_name(column.header)
            if name.quantity is None and name.objective not in STRONG:
                continue
            metric, split = base_metric(name, has_pairs=False), name.split or "unknown"
            if name.rest:
                metric = "_".join([*re.findall(r"[^\W_]+", name.rest.lower()), metric])
        if not metric or (column.name is not None and column.name.statistic == "deviation"):
            continue
        text, link = unlink(row[column.at])
        if may_be_thousands(text, found.marks, is_large=metric.endswith("perplexity")):
            found.open_marks.append(f"line {line}, {column.header!r}: {text[:60]!r}")
            continue
        printed = read_cell(text)
        if printed.odd is not None:
            found.odd.append(
                f"line {line}, {column.header!r}: {printed.odd[:60]!r}" + ("" if printed.number else " (missing)")
            )
        if printed.number is None:
            continue
        if printed.odd is None and has_spread(text):
            found.spreads.append(f"line {line}, {column.header!r}: {text[:60]!r}")
        if keys["split"]:
            split = split_word(keys["split"]) or split
        run, dataset = _owner(column, keys, at, columns)
        scale = 0.01 if column.at in percent and not printed.number.is_percent else 1.0
        if column.name is not None and column.name.is_in_bits:
            scale = math.log(2)
        full = metric_name(metric, split)
        facts.append(_Fact(run, dataset, full, step, printed.number, scale, link, line, column.header, shown))
    return facts


def _owner(
    column: Column, keys: dict[Role, str], at: dict[Role, int | None], columns: list[Column]
) -> tuple[str, str | None]:
    """Run and dataset of a number; None is a total over datasets."""
    rest = column.name.rest if column.name is not None and column.role != "value" else ""
    entry = column.owner
    if at["dataset"] is not None:
        dataset = None if is_total(keys["dataset"]) else keys["dataset"]
        if entry is not None:
            return entry.run or entry.owner or keys["run"] or "run", dataset
        run = " ".join(part for part in (keys["run"], run_name(rest)) if part)
        return run or "run", dataset
    run = keys["run"] or "run"
    if entry is not None:
        return entry.run or run, entry.dataset or entry.owner or ALL
    alike = [c for c in columns if c.metric and (c.metric, c.split) == (column.metric, column.split)]
    of_datasets = [c for c in alike if c.name is not None and c.name.rest and not is_total(c.name.rest)]
    last = of_datasets and column.at == of_datasets[-1].at
    if is_total(rest, at_end=bool(last) and len(of_datasets) > 1) or (
        not rest and len({c.name.rest for c in of_datasets if c.name}) > 1
    ):
        return run, None
    return run, ALL if is_all(rest) else rest or ALL


def _number(text: str) -> Parsed | None:
    return read_cell(text).number if text else None


def _is_percent(grid: Grid, at: int) -> bool:
    """Accuracies and shares above 1 are per cent, though no sign says so."""
    cells = [read_cell(unlink(row[at])[0]).number for row in grid.rows[1:]]
    return any(cell is not None and not cell.is_percent and cell.value > 1 for cell in cells)


def _about_dataset(
    row: list[str], keys: dict[Role, str], columns: list[Column], at: dict[Role, int | None], found: _Found
) -> None:
    """What a row says of its dataset, completed by what a table above said of it."""
    name = keys["dataset"]
    if not name or is_total(name):
        return
    old = found.datasets.get(name) or ImportedDataset(name=name)
    index = at["dataset"]
    values = vars(old) | {"link": old.link or (unlink(row[index])[1] if index is not None else None)}
    for column in columns:
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


def _told_apart(facts: list[_Fact], columns: list[Column], found: _Found) -> list[_Fact]:
    """Numbers of one place told apart by the columns that differ; SourceError names two that nothing tells apart."""
    telling = [c for c in columns if c.role is None and not c.metric and not (c.name and c.name.statistic)]
    varying = _varying(facts, len(telling))
    if varying:
        facts = [
            fact._replace(run=" · ".join([*([fact.run] if fact.run != "run" else []), *(
                _label(telling[index], fact.telling[index]) for index in varying if fact.telling[index])]) or fact.run)
            for fact in facts
        ]  # fmt: skip
        names = ", ".join(repr(telling[index].header) for index in varying)
        found.imported.notes.append(f"rows of one dataset are told apart by {names}")
    facts = _one_total(facts, found)
    for group in _grouped(facts).values():
        steps = {fact.step for fact in group}
        if len(steps) == len(group):
            continue
        first, second = next((a, b) for index, a in enumerate(group) for b in group[index + 1 :] if a.step == b.step)
        if first.parsed.value == second.parsed.value:
            continue
        raise SourceError(
            f"{first.header!r} of {first.dataset or 'total'!r} is {first.parsed.text} on line {first.line} and "
            f"{second.parsed.text} on line {second.line}"
            + ("" if first.header == second.header else f" ({second.header!r})")
            + ", and nothing tells them apart",
            where=str(found.path),
            hint=f"Name the column that does with --map HEADER=run, or leave one out: --map {first.header!r}=ignore.",
        )
    return facts


def _one_total(facts: list[_Fact], found: _Found) -> list[_Fact]:
    """The first total of each run and metric; a page with several is told which one stands."""
    first: dict[tuple[str, str, int | None], int] = {}
    for fact in facts:
        if fact.dataset is None:
            first.setdefault((fact.run, fact.metric, fact.step), fact.line)
    left = [f for f in facts if f.dataset is None and first[f.run, f.metric, f.step] != f.line]
    if left:
        lines = ", ".join(str(line) for line in sorted({fact.line for fact in left}))
        found.imported.notes.append(f"several totals; the first stands, those of lines {lines} are left out")
    return [fact for fact in facts if fact not in left]


def _label(column: Column, text: str) -> str:
    return text if column.is_text else f"{column.header} {text}"


def _grouped(facts: Iterable[_Fact]) -> dict[tuple[str, str | None, str], list[_Fact]]:
    groups: dict[tuple[str, str | None, str], list[_Fact]] = defaultdict(list)
    for fact in facts:
        groups[fact.run, fact.dataset, fact.metric].append(fact)
    return groups


def _varying(facts: list[_Fact], count: int) -> list[int]:
    """Columns that differ between rows of one place: the first that tells all apart alone, else all that differ."""
    groups = [group for group in _grouped(facts).values() if len({(f.step, f.line) for f in group}) > 1]
    clashing = [group for group in groups if len({fact.step for fact in group}) < len(group)]
    if not clashing:
        return []
    varying = [i for i in range(count) if any(len({fact.telling[i] for fact in group}) > 1 for group in clashing)]
    for index in varying:
        if all(len({(fact.step, fact.telling[index]) for fact in group}) == len(group) for group in clashing):
            return [index]
    return varying


def _keep(facts: list[_Fact], grid: Grid, which: tuple[int, Axis], found: _Found) -> None:
    """Numbers, and curves where a cell has several steps; a run that a table above has takes this table's number."""
    number, axis = which
    section = grid.title or None
    groups = _grouped(facts)
    again = {run for (run, dataset, metric) in groups if (run, dataset, metric) in found.taken}
    for (run, dataset, metric), group in groups.items():
        name = f"{run} ({number})" if run in again else run
        found.taken.setdefault((run, dataset, metric), section or "")
        steps = sorted({fact.step for fact in group if fact.step is not None})
        last = max(group, key=lambda fact: -1 if fact.step is None else fact.step)
        if len(steps) > 1 and dataset is not None:
            found.imported.curves.append(_curve((name, dataset, metric), axis, group, section))
            continue
        found.imported.numbers.append(
            Number(
                run=name,
                dataset=dataset,
                metric=metric,
                value=last.parsed.value * last.scale,
                text=last.parsed.text,
                rounding=last.parsed.rounding * last.scale,
                link=last.link,
                section=section,
                step=last.step,
                place=f"line {last.line}, {last.header}",
            )
        )


def _curve(place: tuple[str, str, str], axis: Axis, group: list[_Fact], section: str | None) -> Curve:
    run, dataset, metric = place
    points = sorted({fact.step or 0: fact.parsed.value * fact.scale for fact in group}.items())
    split: Split = "train" if metric.startswith("train_") else "test" if metric.startswith("test_") else "eval"
    return Curve(
        run=run,
        dataset=dataset,
        metric=metric.removeprefix("train_").removeprefix("test_"),
        split=split,
        step=np.array([step for step, _ in points], np.int64),
        value=np.array([value for _, value in points], np.float64),
        axis=axis,
        place=f"line {group[0].line}, {group[0].header}",
        section=section,
    )


def _note_columns(columns: list[Column], found: _Found) -> None:
    for column in columns:
        if column.metric and column.name is not None and column.name.statistic == "deviation":
            found.imported.mapping.append(Mapped(source=column.header, meaning="left out", reason=DEVIATION))
        elif column.metric:
            rest = run_name(column.name.rest) if column.name is not None else ""
            full = metric_name(column.metric, column.split)
            run = column.owner.owner or column.owner.run if column.owner is not None else rest
            found.imported.mapping.append(
                Mapped(source=column.header, meaning=f"{run or 'run'}: {full}", run=run, metric=full)
            )
        elif column.role is not None and column.role != "ignore":
            found.imported.mapping.append(Mapped(source=column.header, meaning=column.role))
        else:
            reason = "as it says or as the map says" if column.role == "ignore" else "no metric is recognised"
            found.imported.mapping.append(Mapped(source=column.header, meaning="left out", reason=reason))

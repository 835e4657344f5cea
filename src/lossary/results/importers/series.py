"""Tables whose rows are steps or epochs: CSV logs (Keras, Lightning, W&B), and epoch tables of model cards."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from lossary.errors import SourceError
from lossary.results.importers.collect import Collector
from lossary.results.importers.dates import are_dates
from lossary.results.importers.grids import (
    OPEN_MARKS,
    SPREADS,
    Grid,
    has_spread,
    is_missing,
    marks_of,
    may_be_thousands,
    read_cell,
    unlink,
)
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Axis, Split, Tag
from lossary.results.importers.names import of_data, read_name, role, row_scale
from lossary.results.importers.titles import is_beside, said_by_title

__all__ = [
    "OF_ONE_RUN",
    "clearml_scalars",
    "is_clearml",
    "is_series_grid",
    "kind_of_series",
    "names_of_runs",
    "path_run",
    "series_of_grid",
    "wandb_column",
    "with_runs",
]

# Columns that only a tracker's table of runs has: W&B's, and Neptune's behind `sys/`.
_OF_RUNS = {
    "state", "runtime", "created", "user", "sweep", "tags", "notes", "hostname", "last updated",
    "owner", "creation_time", "running_time", "ping_time", "failed",
}  # fmt: skip
_ENVELOPE = ("__MIN", "__MAX")


def wandb_column(header: str) -> tuple[str, str] | None:
    """Run and metric of a column that W&B exports of a chart: `run - eval/loss`."""
    run, separator, metric = header.rpartition(" - ")
    return (run, metric) if separator and run and metric else None


def names_of_runs(grid: Grid) -> int | None:
    """The column that names a run on each row, as W&B's table of runs has it: its steps are where each run stands."""
    headers = [unlink(cell)[0].strip().lower().removeprefix("sys/") for cell in grid.rows[0]]
    at = next((headers.index(name) for name in ("name", "id") if name in headers), None)
    if at is None:
        return None
    names = [unlink(row[at])[0].strip() for row in grid.rows[1:]]
    if _OF_RUNS & set(headers) and (headers[at] == "name" or not any(map(str.isdigit, names))):
        return at
    # Without W&B's own columns: another text on each row, which is no checkpoint's name with its step.
    is_text = all(name and _value(name) is None for name in names)
    if "_step" not in headers or not is_text or len(set(names)) < len(names):
        return None
    step = headers.index("_step")
    return None if all(row[step].strip() in name for name, row in zip(names, grid.rows[1:], strict=True)) else at


def _axis(grid: Grid, maps: Maps) -> int | None:
    """The column of steps or epochs: steps before epochs; in a chart's export the first column, whatever it is."""
    headers = [unlink(cell)[0].strip() for cell in grid.rows[0]]
    kinds = [entry.role if (entry := maps.get(header)) and entry.role else role(header) for header in headers]
    if len(headers) > 1 and all(wandb_column(header) for header in headers[1:]) and not wandb_column(headers[0]):
        return 0
    if any(kind in ("dataset", "run", "split", "value") for kind in kinds) or names_of_runs(grid) is not None:
        return None
    for wanted in ("step", "epoch"):
        if wanted in kinds:
            return kinds.index(wanted)
    if "tokens" in kinds and _grows(grid, kinds.index("tokens")):
        return kinds.index("tokens")
    return 0 if _is_history(grid, headers) else None


def _grows(grid: Grid, at: int) -> bool:
    """Whether a column is an axis: from row to row it has more, and no other column is of texts."""
    values = [_axis_value(row[at]) for row in grid.rows[1:]]
    known = [value for value in values if value is not None]
    texts = (unlink(cell)[0] for row in grid.rows[1:] for cell in row)
    has_texts = any(not is_missing(text) and _value(text) is None for text in texts)
    return len(known) == len(values) > 1 and all(a < b for a, b in pairwise(known)) and not has_texts


def _is_history(grid: Grid, headers: list[str]) -> bool:
    """Keras' history as pandas writes it: its rows counted in a column without a header, `loss` beside `val_loss`."""
    names = [read_name(header) for header in headers[1:]]
    counted = [row[0] for row in grid.rows[1:]] == [str(index) for index in range(len(grid.rows) - 1)]
    measured = {(name.split, name.objective, name.quantity) for name in names if name.quantity and not name.rest}
    return not headers[0] and counted and any(("eval", *rest) in measured for split, *rest in measured if split is None)


# What one run has one of.
OF_ONE_RUN = re.compile(
    r"(#|n|num|number of|total|trainable|model|non[\s_-]?embedding)?[\s_]*"
    r"(params?|parameters|layers|heads|hidden([\s_]size)?|d_?model|width|depth|seeds?|model[\s_]size)",
    re.IGNORECASE,
)


def with_runs(grid: Grid, maps: Maps) -> Grid:
    """The table with its rows named as runs where a seed or a size tells them apart: they are no curve of one run."""
    at = _axis(grid, maps)
    if at is None:
        return grid
    axis = [row[at] for row in grid.rows[1:]]
    for index, header in enumerate(unlink(cell)[0].strip() for cell in grid.rows[0]):
        if index == at or maps.get(header) is not None or not OF_ONE_RUN.fullmatch(header):
            continue
        values = [unlink(row[index])[0] for row in grid.rows[1:]]
        pairs = set(zip(axis, values, strict=True))
        is_apart = len(pairs) == len(values) and (len(set(axis)) < len(axis) or len(set(values)) == len(values))
        if all(values) and len(set(values)) > 1 and is_apart:
            rows = [
                [*r[:index], f"{header} {value}", *r[index + 1 :]]
                for r, value in zip(grid.rows[1:], values, strict=True)
            ]
            return replace(grid, rows=[[*grid.rows[0][:index], "run", *grid.rows[0][index + 1 :]], *rows])
    return grid


def is_series_grid(grid: Grid, maps: Maps) -> bool:
    """Whether the rows of a table are points."""
    at = _axis(grid, maps)
    if at is None:
        return False
    return any(_axis_value(row[at]) is not None for row in grid.rows[1:])


def kind_of_series(headers: list[str]) -> str:
    """What wrote a CSV of points, by its header."""
    lower = [header.strip().lower() for header in headers]
    if len(lower) > 1 and all(wandb_column(header) for header in headers[1:]):
        return "W&B chart export"
    if any(name in lower for name in ("_step", "_runtime", "_timestamp")):
        return "W&B history"
    if "epoch" in lower and "step" in lower:
        return "Lightning metrics.csv"
    if "epoch" in lower:
        return "Keras CSVLogger"
    return "CSV of points"


def series_of_grid(grid: Grid, found: Collector, run: str) -> None:
    """Adds the points of a table; a cell that is no number is missing."""
    at = _axis(grid, found.maps)
    assert at is not None
    headers = [unlink(cell)[0].strip().strip("*_` ") if not unlink(cell)[0].startswith("_") else unlink(cell)[0].strip()
               for cell in grid.rows[0]]  # fmt: skip
    entry = found.maps.get(headers[at])
    kind = entry.role if entry is not None and entry.role else role(headers[at])
    axis: Axis = "epoch" if not headers[at] else kind if kind in ("epoch", "tokens") else "step"
    tags = {index: _tag(header, headers, run, axis) for index, header in enumerate(headers) if index != at and header}
    for index, tag in tags.items():
        if headers.index(headers[index]) != index:
            tags[index] = tag._replace(name=f"{tag.name} (column {index + 1})")
    tags = _named_by(grid.title, tags, found)
    odd = 0
    found.lines.update(range(grid.line(0), grid.line(len(grid.rows) - 1) + 1))
    marks = marks_of(row[index] for row in grid.rows[1:] for index in tags if index < len(row))
    steps = _steps(grid, at, found)
    _check_one_row_a_step(grid, {index: tag.name for index, tag in tags.items()}, steps, found)
    for offset, row in enumerate(grid.rows[1:], 1):
        step = steps[offset - 1]
        if len(row) > len(headers):
            raise SourceError("more cells than the header has", where=f"{found.path}, line {grid.line(offset)}")
        if step is None:
            if any(_value(unlink(row[index])[0]) is not None for index in tags if index < len(row)):
                found.tell("rows without a step are left out", f"line {grid.line(offset)}: {' '.join(row)[:60]!r}")
            continue
        for index, tag in tags.items():
            text = unlink(row[index])[0]
            if not text:
                continue
            if may_be_thousands(text, marks, is_large=read_name(tag.core).quantity == "perplexity"):
                found.tell(OPEN_MARKS, f"line {grid.line(offset)}, {tag.name}: {text[:60]!r}")
                continue
            value = _value(text)
            if value is None:
                odd += text.strip().lower() not in ("no log", "-", "none", "null")
                continue
            found.add(tag, step, value, f"line {grid.line(offset)}, {tag.name}")
            if has_spread(text):
                found.tell(SPREADS, f"line {grid.line(offset)}, {tag.name}: {text[:60]!r}")
    if odd:
        found.note(f"{odd} cells are no number; left out")


# What ClearML calls a plot, a line of it, and its axis; a task is a run.
_CLEARML = (("title", "metric"), ("series", "variant"), ("iteration", "iter"), ("value",))


def _of_clearml(grid: Grid) -> list[int] | None:
    heads = [cell.strip().lower() for cell in grid.rows[0]]
    found = [next((heads.index(name) for name in names if name in heads), -1) for names in _CLEARML]
    return found if min(found) >= 0 else None


def is_clearml(grid: Grid) -> bool:
    """Whether a CSV is ClearML's of scalars: `title,series,iteration,value`."""
    return _of_clearml(grid) is not None


def clearml_scalars(grid: Grid, found: Collector, run: str) -> None:
    """Adds the points of ClearML's scalars, each called by its plot and its line: `loss` and `validation`."""
    columns = _of_clearml(grid)
    assert columns is not None
    task = next(
        (at for at, cell in enumerate(grid.rows[0]) if cell.strip().lower() in ("task", "task_name", "run")), None
    )
    found.lines.update(range(grid.line(0), grid.line(len(grid.rows) - 1) + 1))
    for offset, row in enumerate(grid.rows[1:], 1):
        title, series, at, text = (row[column].strip() for column in columns)
        step, value = _axis_value(at), _value(text)
        if step is None or value is None:
            found.tell(
                "rows without a step or a number are left out", f"line {grid.line(offset)}: {' '.join(row)[:60]!r}"
            )
            continue
        name = title if series == title or not series else f"{title}/{series}"
        owner = row[task].strip() if task is not None and row[task].strip() else run
        found.add(Tag(owner, name, name), int(step), value, f"line {grid.line(offset)}")


def _check_one_row_a_step(
    grid: Grid, headers: Mapping[int, str], steps: Sequence[float | None], found: Collector
) -> None:
    """SourceError where texts tell rows of one step apart: they are of several runs, say, and no point twice."""
    rows = [(step, row) for step, row in zip(steps, grid.rows[1:], strict=True) if step is not None]
    if len({step for step, _ in rows}) == len(rows):
        return
    for index, header in headers.items():
        entry = found.maps.get(header)
        texts = [unlink(row[index])[0].strip() for _, row in rows]
        is_label = all(text and not is_missing(text) and _value(text) is None for text in texts)
        if entry is not None or not is_label or are_dates(grid, index):
            continue
        if len({(step, text) for (step, _), text in zip(rows, texts, strict=True)}) == len(rows):
            first, *others = dict.fromkeys(texts)
            raise SourceError(
                f"several rows have one step, and the column {header!r} tells them apart: {first!r}, {others[0]!r}",
                where=str(found.path),
                hint=f"Say what it names: --map {header!r}=run or --map {header!r}=dataset. "
                f"With --map {header!r}=ignore the last row of a step counts.",
            )


def _named_by(title: str, tags: dict[int, Tag], found: Collector) -> dict[int, Tag]:
    """The series of a table whose title says what was measured, where no header does: `Validation loss`."""
    said = said_by_title(title)
    # A file's name is no title that stands above a table.
    if said is None or title == found.path.stem or any(read_name(tag.core).quantity for tag in tags.values()):
        return tags
    named = {at: tag for at, tag in tags.items() if not is_beside(tag.core) and found.maps.get(tag.name) is None}
    found.note(f"the title says what was measured: {title[:80]!r}")
    metric = " ".join(filter(None, (said.objective, said.quantity.replace("_", " "))))
    if len(named) > 1 and of_data([tag.core for tag in named.values()]) < 0:
        found.note(f"columns that sound like models are read as runs: {', '.join(tag.core for tag in named.values())}")
        runs = {at: tag._replace(run=tag.core, core=metric, split=tag.split or said.split) for at, tag in named.items()}
        return tags | runs
    return tags | {
        at: tag._replace(core=f"{tag.core}/{metric}", split=tag.split or read_name(tag.core).split or said.split)
        for at, tag in named.items()
    }


_SHORT = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMbB])(?:\s*(?:steps?|iter\w*|updates?))?")
_SCALES = {"k": 10**3, "m": 10**6, "b": 10**9}


def _axis_value(cell: str) -> float | None:
    """A step as it is printed: 1000, 1,000, `10k`, 2.5M."""
    text = unlink(cell)[0].strip()
    short = _SHORT.fullmatch(text)
    if short:
        return round(float(short[1]) * _SCALES[short[2].lower()])
    thousands = re.fullmatch(r"\d{1,3}(?:,\d{3})+", text)
    return float(text.replace(",", "")) if thousands else _value(text)


def _value(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        number = read_cell(text).number
        return None if number is None else number.value


def _tokens_scale(header: str) -> int:
    """`Tokens (B)` are billions."""
    return row_scale(header) if role(header) == "tokens" else 1


def _steps(grid: Grid, at: int, found: Collector) -> list[int | None]:
    """Steps of the rows; where the axis has fractions that would fall together, rows are counted instead."""
    scale = _tokens_scale(grid.rows[0][at])
    values = [None if (value := _axis_value(row[at])) is None else value * scale for row in grid.rows[1:]]
    known = [value for value in values if value is not None and value == value and abs(value) < 2**62]
    if any(value != int(value) for value in known) and len({int(value) for value in known}) < len(set(known)):
        found.note(f"the axis {grid.rows[0][at]!r} has fractions; points are counted in its order instead")
        order = {value: index for index, value in enumerate(sorted(set(known)))}
        return [None if value is None else order.get(value) for value in values]
    return [None if value is None or value != value or abs(value) >= 2**62 else int(value) for value in values]


def _tag(header: str, headers: list[str], run: str, axis: Axis) -> Tag:
    exported = wandb_column(header)
    if exported is not None:
        refused = "an envelope of the values, not the values" if exported[1].endswith(_ENVELOPE) else None
        return Tag(exported[0], header if refused else exported[1], exported[1], refused=refused)
    if role(header) is not None:
        return Tag(run, header, header, refused="no loss or accuracy")
    name = read_name(header)
    split: Split | None = None
    splits = {read_name(other).split for other in headers if read_name(other).quantity is not None}
    if name.split is None and "eval" in splits:
        # Keras marks evaluation only; where training is marked, too, what is left is evaluated, as in model cards.
        split = "eval" if "train" in splits else "train"
    return Tag(run, header, header, split=split, axis=axis)


def path_run(path: Path) -> str:
    """The run of a CSV of points: its file's name, or its folder's where the file's says nothing."""
    generic = path.stem.lower() in ("metrics", "log", "logs", "training", "history", "progress", "results", "train")
    exported = re.fullmatch(r"run-(.+)-tag-.+", path.stem)
    if exported:
        return exported[1]
    parent = path.resolve().parent
    if generic and re.fullmatch(r"version_\d+", parent.name):
        return f"{parent.parent.name}/{parent.name}"
    return path.stem

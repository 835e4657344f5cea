"""Records in JSON: lines of a log with a step each, and graphs of x and y."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lossary.errors import SourceError
from lossary.results.importers.collect import Collector, as_float
from lossary.results.importers.grids import Grid
from lossary.results.importers.lines import KeyTwice, is_number, lines_of, parsed_json, python_value, read_json_text
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Axis, Imported, Tag
from lossary.results.importers.names import of_data, read_name, role, split_word

__all__ = [
    "MEAN_OVER_RUN",
    "Gathered",
    "by_rows",
    "gathered",
    "is_graph",
    "flat",
    "grid_of_json",
    "is_history",
    "is_records",
    "objects_of",
    "points_of_records",
    "read_graph",
    "read_history",
    "read_json_lines",
    "read_json_records",
    "read_parquet",
]

MEAN_OVER_RUN = "a mean over the whole run, not the loss of a step"
_MOST_DEPTH = 6
# Between two objects.
_MOST_BLANKS = 1000


def read_json_lines(path: Path, maps: Maps) -> Imported:
    """A log of one JSON object a line, each with its step or epoch; what is nested is named with slashes."""
    found = Collector(path, "JSON lines", maps)
    points_of_records(_records(path, found), found, path.stem)
    return found.finish()


def read_parquet(path: Path, maps: Maps) -> Imported:
    """A Parquet file whose rows are records with a step: an export of W&B's history, Trackio's, Levanter's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = Collector(path, "Parquet records", maps)
    try:
        with pq.ParquetFile(path) as file:
            wanted = [field.name for field in file.schema_arrow if _is_plain(field.type)]
            if not any(role(name) in ("step", "epoch") for name in wanted):
                raise SourceError(
                    "a Parquet table without a column of steps or epochs",
                    where=str(path),
                    hint=f"Columns: {', '.join(file.schema_arrow.names[:12])}.",
                )
            points_of_records(_parquet_rows(file, wanted), found, path.stem)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"not a Parquet file: {str(error)[:200]}", where=str(path)) from None
    return found.finish()


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as types

    return any(
        is_kind(kind) for is_kind in (types.is_integer, types.is_floating, types.is_string, types.is_large_string)
    )


def _parquet_rows(file: Any, wanted: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    count = 0
    for batch in file.iter_batches(columns=wanted):
        for row in batch.to_pylist():
            count += 1
            yield f"row {count}", row


def _records(path: Path, found: Collector) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in lines_of(path):
        if not line.strip():
            continue
        try:
            value = parsed_json(line)
        except KeyTwice as error:
            raise KeyTwice(error.message, where=f"{path}, line {number}", hint=error.hint) from None
        except (ValueError, RecursionError):
            value = python_value(line)
            if value is None:
                found.tell("lines that are no JSON are left out", f"line {number}: {line.strip()[:60]!r}")
                continue
        if isinstance(value, dict):
            yield f"line {number}", value


def points_of_records(records: Iterator[tuple[str, dict[str, Any]]], found: Collector, run: str) -> None:
    """Adds records of names and values, by the step that each has; one without is left out with a note."""
    for place, record in records:
        values = dict(_with_numbers(_counted(flat(record))))
        axis = _axis_of(values)
        if axis is None:
            found.tell("records without a step or epoch are left out", f"{place} ({', '.join(list(record)[:3])})")
            continue
        name, kind = axis
        said = {role(key): value for key, value in values.items() if isinstance(value, str)}
        owner, dataset, metric = str(said.get("run") or run), said.get("dataset"), said.get("metric")
        for key, value in values.items():
            if key == name or not is_number(value) or role(key) not in (None, "value"):
                continue
            if (role(key) == "value") != (metric is not None):
                continue
            title = str(metric or key)
            split = split_word(said.get("split", ""))
            if split is None and read_name(title).split is None:
                split = "train" if any(read_name(other).split == "eval" for other in values) else None
            # What a record says of its numbers belongs to the series: two of one name are not one.
            shown = " ".join(said[kind] for kind in ("split", "dataset") if said.get(kind))
            refused = MEAN_OVER_RUN if key == "train_loss" and "train_runtime" in values else None
            tag = Tag(
                owner,
                f"{title} ({shown})" if shown else title,
                title,
                split=split,
                dataset=dataset,
                axis=kind,
                refused=refused,
            )
            found.add(tag, int(values[name]), float(value), place)


def _counted(items: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The values with `"global_step/max_steps": "10/100"` as a step."""
    for key, value in items:
        first = key.partition("/")[0]
        counted = re.fullmatch(r"(\d+)/\d+", value) if isinstance(value, str) else None
        if counted and role(first) in ("step", "epoch"):
            yield first, int(counted[1])
        else:
            yield key, value


def _with_numbers(items: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The values with numbers that stand in quotes, where a number is meant: Comet's `"metricValue": "2.31"`."""
    for key, value in items:
        is_meant = isinstance(value, str) and (role(key) in ("step", "epoch", "tokens", "value") or _quantity(key))
        number = as_float(value) if is_meant else None
        yield key, value if number is None else int(number) if number.is_integer() else number


def _axis_of(values: Mapping[str, Any]) -> tuple[str, Axis] | None:
    kinds = {role(key): key for key, value in values.items() if is_number(value)}
    axes: tuple[Axis, ...] = ("step", "epoch", "tokens")
    return next(((kinds[axis], axis) for axis in axes if axis in kinds), None)


def objects_of(text: str) -> list[Any]:
    """The objects of a text that has one after another, indented; none if anything else stands there."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    at = len(text) - len(text.lstrip())
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            found.append(value)
            at += len(text[at : at + _MOST_BLANKS]) - len(text[at : at + _MOST_BLANKS].lstrip())
    except (ValueError, RecursionError):
        return []
    return found if all(isinstance(value, dict) for value in found) else []


def is_history(value: object) -> bool:
    """Whether a JSON value is Keras' `History.history`: a list of numbers, or pandas' index of them, for each name."""
    return bool(isinstance(value, dict) and value and all(map(_values, value.values())) and set(map(_quantity, value)) - {None})  # fmt: skip  # noqa: E501


def _quantity(name: str) -> str | None:
    return read_name(name).quantity


def _values(value: object) -> list[float]:
    if isinstance(value, dict) and list(value) == [str(index) for index in range(len(value))]:
        value = list(value.values())
    return value if isinstance(value, list) and all(map(is_number, value)) else []


def read_history(path: Path, maps: Maps) -> Imported:
    """Keras' `History.history` as JSON: a value for each epoch; `loss` beside `val_loss` is of training."""
    found = Collector(path, "Keras history", maps)
    columns = {name: _values(item) for name, item in read_json_text(path).items()}
    named = _axis_of({name: values[0] for name, values in columns.items() if values})
    name_of_axis, axis = named if named is not None else ("", "epoch")
    for name, values in columns.items():
        steps = [int(step) for step in columns[name_of_axis]] if name_of_axis else list(range(len(values)))
        if len(steps) != len(values):
            raise SourceError(f"{name!r} has {len(values)} values and {name_of_axis!r} {len(steps)}", where=str(path))
        if name != name_of_axis:
            found.extend(Tag(path.stem, name, name, axis=axis), steps, values, name)
    return found.finish()


def is_records(value: object) -> bool:
    """Whether a JSON value is a list of records with a step each; how many tokens a dataset has is none."""
    records = [dict(flat(item)) for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    return any(map(_axis_of, records)) and not are_sizes(records)


def are_sizes(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the tokens of flat records, which have no other axis, are of what a text names in each: no two alike."""
    if not records or any((axis := _axis_of(record)) is None or axis[1] != "tokens" for record in records):
        return False
    texts = [tuple(value for value in record.values() if isinstance(value, str)) for record in records]
    return all(texts) and len(set(texts)) == len(texts)


def read_json_records(path: Path, value: list[Any], maps: Maps) -> Imported:
    """A list of records with a step, in one JSON value."""
    found = Collector(path, "JSON records", maps)
    records = ((f"[{index}]", item) for index, item in enumerate(value) if isinstance(item, dict))
    points_of_records(records, found, path.stem)
    return found.finish()


def grid_of_json(value: object, title: str) -> Grid | None:
    """Records without a step, and objects of results by name, as a table; lm-evaluation-harness' `results` by task."""
    named = ""
    if isinstance(value, dict) and isinstance(value.get("results"), dict | list):
        value, named = value["results"], "dataset"
    if isinstance(value, dict):
        rows = [{named: name, **dict(flat(item))} for name, item in value.items() if isinstance(item, dict)]
    elif isinstance(value, list):
        rows = [dict(flat(item)) for item in value if isinstance(item, dict)]
    else:
        return None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    # lm-evaluation-harness puts the filter behind the metric: `acc,none`.
    heads = [key.removesuffix(",none") for key in keys]
    is_tidy = {"metric", "value"} <= set(map(role, heads))
    if len(keys) < 2 or not (is_tidy or any(read_name(head).quantity for head in heads)):
        return None
    cells = [["" if row.get(key) is None else str(row[key]) for key in keys] for row in rows]
    return Grid(title=title, rows=[heads, *cells], first_line=1)


class Gathered(NamedTuple):
    """A JSON value whose lists of records are one list, and what nothing says of the names above them, or ""."""

    value: Any
    unsaid: str


def gathered(value: Any) -> Gathered:
    """Lists of records in an object as one list, each record with what the object says of it.

    `{"run": "a", "metrics": [{"step": 1, "loss": 2.5}]}`, where the record gets the run; `{"a": [{…}], "b": [{…}]}`,
    where keys are splits if they are words for them, else what the records do not name themselves, runs or datasets.
    """
    lists = {key: item for key, item in value.items() if _are_objects(item)} if isinstance(value, dict) else {}
    others = {key: item for key, item in value.items() if key not in lists} if lists else {}
    if not lists or any(isinstance(item, dict | list) for item in others.values()):
        return Gathered(value, "")
    if len(lists) == 1 and others:
        kinds = ("run", "dataset", "split")
        said = {key: item for key, item in others.items() if isinstance(item, str) and role(key) in kinds}
        return Gathered([said | record for record in next(iter(lists.values()))], "")
    if len(lists) != len(value):
        return Gathered(value, "")
    within = {role(key) for records in lists.values() for record in records for key in record}
    kind, unsaid = "split", ""
    if not all(map(split_word, lists)):
        sound = of_data([*lists])
        kind = "run" if "dataset" in within or ("run" not in within and sound <= 0) else "dataset"
        if sound == 0 and not {"dataset", "run"} & within:
            shown = ", ".join(repr(name) for name in [*lists][:3])
            unsaid = f"nothing says whether {shown} are datasets or runs; read as runs"
    if kind in within:
        return Gathered(value, "")
    return Gathered([{kind: key} | record for key, records in lists.items() for record in records], unsaid)


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def by_rows(value: Any) -> Any:
    """A table of pandas' or of columns as a list of rows: `orient="split"`, `orient="columns"`, a list a column."""
    if not isinstance(value, dict):
        return value
    heads, data = value.get("columns"), value.get("data")
    if isinstance(heads, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, heads), row, strict=False)) for row in data]
    columns = list(value.values())
    if all(isinstance(column, dict) and list(column) == list(map(str, range(len(column)))) for column in columns):
        columns = [list(column.values()) for column in columns]
    if not columns or not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return value
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def flat(record: dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict) and depth < _MOST_DEPTH:
            yield from flat(value, f"{prefix}{key}/", depth + 1)
        else:
            yield f"{prefix}{key}", value


def is_graph(value: object) -> bool:
    """Whether a JSON value is graphs: series of x and y, as lists or as points."""
    return any(True for _ in _series(value, ""))


def read_graph(path: Path, maps: Maps) -> Imported:
    """Graphs as JSON: `{"name": …, "x": […], "y": […]}`, alone, in a list or by name; or points `{"x": …, "y": …}`."""
    found = Collector(path, "graph JSON", maps)
    for name, xs, ys in _series(read_json_text(path), ""):
        pairs = [(int(x), float(y)) for x, y in zip(xs, ys, strict=False) if is_number(x) and is_number(y)]
        if len(pairs) < max(len(xs), len(ys)):
            found.note(f"{name or 'a series'}: {max(len(xs), len(ys)) - len(pairs)} points are no number; left out")
        tag = Tag(path.stem, name or path.stem, name or path.stem)
        found.extend(tag, [x for x, _ in pairs], [y for _, y in pairs], f"series {name}")
    return found.finish()


def _series(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, list[Any], list[Any]]]:
    if depth > _MOST_DEPTH:
        return
    if isinstance(value, dict):
        title = next((value[key] for key in ("name", "title", "label", "id") if isinstance(value.get(key), str)), name)
        xs, ys = (next((value[k] for k in keys if isinstance(value.get(k), list)), None) for keys in (("x", "xs", "steps"), ("y", "ys", "values")))  # fmt: skip  # noqa: E501
        if xs and ys and is_number(xs[0]) and is_number(ys[0]):
            yield title, xs, ys
            return
        for key, item in value.items():
            if isinstance(item, dict | list):
                nameless = key in ("series", "data", "points", "graphs", "charts", "lines", "traces")
                for found, xs, ys in _series(item, title if nameless else key, depth + 1):
                    # ClearML has `loss` above `train` and `validation`.
                    above = f"{title}/" if title and not nameless and _quantity(found) is None else ""
                    yield f"{above}{found}", xs, ys
    elif isinstance(value, list) and value:
        if all(isinstance(item, dict) and is_number(item.get("x")) and is_number(item.get("y")) for item in value):
            yield name, [item["x"] for item in value], [item["y"] for item in value]
        elif all(isinstance(item, list) and len(item) == 2 and all(map(is_number, item)) for item in value):
            yield name, [item[0] for item in value], [item[1] for item in value]
        else:
            for item in value:
                if isinstance(item, dict):
                    yield from _series(item, name, depth + 1)

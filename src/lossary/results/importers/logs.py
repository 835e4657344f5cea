"""Logs of training programs to curves: transformers, Keras, W&B, Megatron, fairseq, MLflow.

Every series is mapped by its name; what is no loss and no accuracy is left out and listed.
"""

import csv
import json
import math
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lossary.errors import SourceError
from lossary.results.importers.grids import MOST_LINE, read_text
from lossary.results.importers.model import Curve, Imported, Mapped
from lossary.results.importers.names import Maps, Series, series

__all__ = [
    "MOST_POINTS",
    "Collector",
    "read_csv_logger",
    "read_fairseq",
    "read_megatron",
    "read_mlflow_files",
    "read_mlflow_sqlite",
    "read_trainer_state",
    "read_wandb",
]

MOST_POINTS = 20_000_000


class Collector:
    """Points by run and series name, mapped when all are in."""

    def __init__(self, path: Path, kind: str, maps: Maps) -> None:
        self.path = path
        self.kind = kind
        self.maps = maps
        self.notes: list[str] = []
        self._points: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
        self._count = 0

    def add(self, run: str, name: str, step: int, value: float) -> None:
        """One point; SourceError if there are more than fit into memory."""
        self.extend(run, name, [step], [value])

    def extend(self, run: str, name: str, steps: list[int], values: list[float]) -> None:
        """Many points of one series."""
        self._count += len(steps)
        if self._count > MOST_POINTS:
            raise SourceError(f"more than {MOST_POINTS:,} points", where=str(self.path))
        old = self._points.setdefault((run, name), ([], []))
        old[0].extend(steps)
        old[1].extend(values)

    def finish(self) -> Imported:
        """Curves of the series that are understood; of points with one step the last written counts."""
        found = Imported(path=str(self.path), kind=self.kind, notes=self.notes)
        mapped = self._map({name for _, name in self._points}, found)
        for (run, name), (steps, values) in self._points.items():
            meaning = mapped[name]
            if meaning is not None:
                step, value = _last_of_each(np.array(steps, np.int64), np.array(values, np.float64))
                found.curves.append(
                    Curve(
                        run=run,
                        dataset=meaning.dataset,
                        metric=meaning.metric,
                        split=meaning.split,
                        step=step,
                        value=value,
                    )
                )
        return found

    def _map(self, names: set[str], found: Imported) -> dict[str, Series | None]:
        """What each series means. Of two with one meaning the one that says more counts: `mlm_loss` before `loss`."""
        mapped: dict[str, Series | None] = {}
        taken: dict[Series, str] = {}
        for name in sorted(names, key=lambda name: (name not in self.maps.series, -len(name), name)):
            meaning = self.maps.series[name] if name in self.maps.series else series(name)
            reason = None if meaning is not None else "no loss or accuracy"
            if meaning is not None and meaning in taken:
                reason = f"means the same as {taken[meaning]}"
            mapped[name] = None if reason else meaning
            if meaning is not None and reason is None:
                taken[meaning] = name
                text = f"{meaning.split} {meaning.dataset}: {meaning.metric}"
                found.mapping.append(Mapped(source=name, meaning=text))
            else:
                found.mapping.append(Mapped(source=name, meaning="left out", reason=reason))
        return mapped


def _last_of_each(step: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(step, kind="stable")
    step, value = step[order], value[order]
    last = np.append(step[1:] != step[:-1], True)
    return step[last], value[last]


def read_trainer_state(path: Path, maps: Maps) -> Imported:
    """`trainer_state.json` of transformers' Trainer: `log_history`."""
    found = Collector(path, "transformers trainer_state", maps)
    run = path.resolve().parent.name
    history = _json(path)["log_history"]
    if not isinstance(history, list):
        raise SourceError("log_history is no list", where=str(path))
    for index, entry in enumerate(history):
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            raise SourceError(f"entry {index} of log_history has no step", where=str(path))
        for name, value in entry.items():
            if name not in ("step", "epoch") and _is_number(value):
                found.add(run, name if name.startswith("eval") else f"train_{name}", entry["step"], float(value))
    return found.finish()


def _json(path: Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"not JSON: {error}", where=str(path)) from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(read_text(path).splitlines(), strict=True)
    try:
        for row in reader:
            if None in row:
                raise SourceError("more cells than the header has", where=f"{path}, line {reader.line_num}")
            yield reader.line_num, row
    except csv.Error as error:
        raise SourceError(f"not CSV: {error}", where=f"{path}, line {reader.line_num}") from None


def _float(text: str | None, where: str) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise SourceError(f"{text[:80]!r} is not a number", where=where) from None


def read_csv_logger(path: Path, maps: Maps) -> Imported:
    """Keras `CSVLogger`: a column `epoch`, the others are series; `val_` marks evaluation."""
    found = Collector(path, "Keras CSVLogger", maps)
    for line, row in _csv_rows(path):
        where = f"{path}, line {line}"
        step = _float(row.get("epoch"), where)
        if step is None:
            raise SourceError("no epoch", where=where)
        for name, text in row.items():
            value = _float(text, where) if name != "epoch" else None
            if value is not None:
                found.add(path.stem, name if name.startswith("val") else f"train_{name}", int(step), value)
    return found.finish()


def read_wandb(path: Path, maps: Maps) -> Imported:
    """A chart exported from W&B: a column of steps, and `run - metric` with its `__MIN` and `__MAX`."""
    found = Collector(path, "W&B CSV export", maps)
    for line, row in _csv_rows(path):
        where = f"{path}, line {line}"
        at = next(name for name in row if name.lower() in ("step", "_step", "global_step", "train/global_step"))
        step = _float(row[at], where)
        for name, text in row.items():
            run, separator, metric = name.rpartition(" - ")
            if not separator or metric.endswith(("__MIN", "__MAX")) or step is None:
                continue
            value = _float(text, where)
            if value is not None:
                found.add(run, metric, int(step), value)
    return found.finish()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a log of any size, one at a time; a line beyond bounds is an error, not memory."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_LINE + 1):
            number += 1
            if len(line) > MOST_LINE:
                raise SourceError(f"the line is longer than {MOST_LINE:,} bytes", where=f"{path}, line {number}")
            yield number, line.decode("utf-8", "replace")


_MEGATRON_TRAIN = re.compile(r"\biteration\s+(\d+)\s*/\s*\d+\s*\|")
_MEGATRON_EVAL = re.compile(r"\b(validation|test) loss at (?:iteration\s+(\d+)|the end of training)")
_MEGATRON_VALUE = re.compile(r"\|\s*([\w\- ]*?(?:lm|sop)[\w\- ]*?loss)(?: value)?:\s*([-+\d.eEnaif]+)")


def read_megatron(path: Path, maps: Maps) -> Imported:
    """Megatron-LM's log: `iteration 100/ 1000 | … | lm loss: 7.1E+00 | sop loss: …`, and its validation lines."""
    found = Collector(path, "Megatron log", maps)
    step = 0
    for _, line in _lines(path):
        train, evaluated = _MEGATRON_TRAIN.search(line), _MEGATRON_EVAL.search(line)
        if train:
            step = int(train[1])
        elif evaluated:
            step = int(evaluated[2] or step)
        else:
            continue
        prefix = "train" if train else "validation"
        for name, text in _MEGATRON_VALUE.findall(line):
            value = _loose_float(text)
            if value is not None:
                found.add(path.stem, f"{prefix} {name.strip()}", step, value)
    return found.finish()


def _loose_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_FAIRSEQ_JSON = re.compile(r"\|\s*(train_inner|train|valid\w*|test)\s*\|\s*(\{.*\})\s*$")
_FAIRSEQ_TEXT = re.compile(
    r"\|\s*(train|valid) on '([^']+)' subset\s*\|(.*)$|\|\s*epoch\s+\d+\s*\|\s*(valid)[^|]*\|(.*)$"
)
_FAIRSEQ_LOSS = re.compile(r"\|?\s*(loss|nll_loss)\s+([-+\d.eEnaif]+)")
_FAIRSEQ_STEP = re.compile(r"num_updates\s+(\d+)")


def read_fairseq(path: Path, maps: Maps) -> Imported:
    """fairseq's log, with `--log-format json` or `simple`. Its losses are in bits: they are turned into nats."""
    found = Collector(path, "fairseq log", maps)
    found.notes.append("fairseq prints losses in base 2; they were multiplied by ln 2")
    for _, line in _lines(path):
        as_json, as_text = _FAIRSEQ_JSON.search(line), _FAIRSEQ_TEXT.search(line)
        if as_json:
            _fairseq_entry(found, path.stem, as_json[1], as_json[2])
        elif as_text:
            body = as_text[3] or as_text[5] or ""
            step = _FAIRSEQ_STEP.search(body)
            losses = dict(_FAIRSEQ_LOSS.findall(body))
            value = _loose_float(str(losses.get("nll_loss", losses.get("loss", ""))))
            if step and value is not None:
                name = f"{as_text[1] or as_text[4]} {as_text[2] or ''} loss"
                found.add(path.stem, name.replace("valid valid", "valid"), int(step[1]), value * math.log(2))
    return found.finish()


def _fairseq_entry(found: Collector, run: str, split: str, text: str) -> None:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return
    prefix = "train" if split.startswith("train") else split
    plain = {key.removeprefix(f"{prefix}_"): value for key, value in entry.items()}
    step, value = _loose_float(str(plain.get("num_updates", ""))), _loose_float(str(plain.get("loss", "")))
    if step is not None and value is not None:
        found.add(run, f"{prefix} loss", int(step), value * math.log(2))


def read_mlflow_files(path: Path, maps: Maps) -> Imported:
    """MLflow's file store: `<experiment>/<run>/metrics/<name>`, a line `time value step` a point."""
    found = Collector(path, "MLflow file store", maps)
    for folder, names, files in os.walk(path, followlinks=False):
        names.sort()
        if Path(folder).name != "metrics" and "metrics" not in Path(folder).relative_to(path).parts:
            continue
        here = Path(folder)
        top = next(parent for parent in [here, *here.parents] if parent.name == "metrics")
        run = _mlflow_name(top.parent)
        for name in sorted(files):
            series_name = str((here / name).relative_to(top))
            for number, line in _lines(here / name):
                parts = line.split()
                values = [_loose_float(part) for part in parts]
                if len(parts) not in (2, 3) or None in values:
                    raise SourceError("not a line of MLflow's", where=f"{here / name}, line {number}")
                found.add(run, series_name, int(values[2] or 0) if len(parts) == 3 else number, float(values[1] or 0))
    return found.finish()


def _mlflow_name(run: Path) -> str:
    meta = run / "meta.yaml"
    if meta.is_file() and meta.stat().st_size < MOST_LINE:
        match = re.search(r"^run_name:\s*['\"]?(.+?)['\"]?\s*$", meta.read_text("utf-8", "replace"), re.MULTILINE)
        if match:
            return match[1]
    return run.name


def read_mlflow_sqlite(path: Path, maps: Maps) -> Imported:
    """MLflow's SQLite store: tables `metrics` and `runs`; opened read-only."""
    found = Collector(path, "MLflow SQLite", maps)
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            # A view may hide a query without end, and a schema functions of its own.
            connection.execute("PRAGMA trusted_schema = OFF")
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {"runs", "metrics"} <= tables:
                raise SourceError("no tables `runs` and `metrics`, as MLflow has them", where=str(path))
            columns = {row[1] for row in connection.execute("PRAGMA table_info(runs)")}
            name = "coalesce(r.name, r.run_uuid)" if "name" in columns else "r.run_uuid"
            rows: Iterable[tuple[str, str, int, float]] = connection.execute(
                f"SELECT {name}, m.key, m.step, CASE WHEN m.is_nan THEN NULL ELSE m.value END FROM metrics m "
                "JOIN runs r USING (run_uuid) ORDER BY m.timestamp"
            )
            for run, key, step, value in rows:
                found.add(str(run), str(key), int(step), math.nan if value is None else float(value))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise SourceError(f"not an MLflow database: {error}", where=str(path)) from None
    return found.finish()

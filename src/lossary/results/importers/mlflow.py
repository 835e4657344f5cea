"""MLflow's stores: the folder of files, and SQLite, which is opened read-only. Deleted runs are left out."""

import math
import os
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from lossary.errors import SourceError
from lossary.results.importers.collect import Collector, as_float
from lossary.results.importers.databases import Database
from lossary.results.importers.lines import MOST_LINE, lines_of
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported, Tag

__all__ = ["read_mlflow_files", "read_mlflow_sqlite"]


class _Run(NamedTuple):
    """What a store says of a run."""

    id: str
    name: str
    experiment: str
    is_deleted: bool


def _names(runs: Iterable[_Run]) -> dict[str, str]:
    """Names by id; runs that share one are told apart by their experiment, then by their id."""
    runs = list(runs)
    count = Counter(run.name for run in runs)
    with_experiment = Counter((run.name, run.experiment) for run in runs)
    found = {}
    for run in runs:
        if count[run.name] == 1:
            found[run.id] = run.name
        elif run.experiment and with_experiment[run.name, run.experiment] == 1:
            found[run.id] = f"{run.name} ({run.experiment})"
        else:
            found[run.id] = f"{run.name} ({run.id[:8]})"
    if len(set(found.values())) < len(found):
        found = {run.id: f"{run.name} ({run.id})" for run in runs}
    return found


def _note_deleted(found: Collector, runs: Mapping[str, _Run]) -> dict[str, str]:
    deleted = [run.name for run in runs.values() if run.is_deleted]
    if deleted:
        found.note(f"{len(deleted)} deleted runs are left out: {', '.join(deleted[:5])}")
    return _names(run for run in runs.values() if not run.is_deleted)


def read_mlflow_files(path: Path, maps: Maps) -> Imported:
    """MLflow's file store: `<experiment>/<run>/metrics/<name>`, a line `time value step` a point."""
    found = Collector(path, "MLflow file store", maps)
    tops = _metric_folders(path)
    runs = {str(top): _run_of(top.parent, path) for top in tops}
    by_id = _note_deleted(found, {run.id: run for run in runs.values()})
    for top in tops:
        run = runs[str(top)]
        if run.is_deleted:
            continue
        for folder, names, files in os.walk(top, followlinks=False):
            names.sort()
            for name in sorted(files):
                file = Path(folder) / name
                if not file.is_symlink():
                    _read_metric(found, by_id[run.id], file, str(file.relative_to(top)))
    return found.finish()


def _metric_folders(path: Path) -> list[Path]:
    found = []
    for folder, names, _ in os.walk(path, followlinks=False):
        if Path(folder).name == "metrics":
            found.append(Path(folder))
            names.clear()
        names.sort()
    return sorted(found)


def _read_metric(found: Collector, run: str, file: Path, name: str) -> None:
    for number, line in lines_of(file):
        parts = line.split()
        values = [as_float(part) for part in parts]
        if len(parts) not in (2, 3) or None in values:
            raise SourceError("not a line of MLflow's", where=f"{file}, line {number}")
        step = int(values[2] or 0) if len(parts) == 3 else number
        found.add(Tag(run, name, name), step, float(values[1] or 0), f"{file.name}, line {number}")


def _run_of(folder: Path, root: Path) -> _Run:
    meta = _meta(folder / "meta.yaml")
    tag = folder / "tags" / "mlflow.runName"
    name = meta.get("run_name", "")
    if not name and tag.is_file() and tag.stat().st_size < MOST_LINE:
        name = tag.read_text("utf-8", "replace").strip()
    experiment = _meta(folder.parent / "meta.yaml")
    return _Run(
        meta.get("run_uuid")
        or meta.get("run_id")
        or (str(folder.relative_to(root)) if folder != root else folder.name),
        name or folder.name,
        experiment.get("name", folder.parent.name),
        "deleted" in (meta.get("lifecycle_stage"), experiment.get("lifecycle_stage")) or ".trash" in folder.parts,
    )


def _meta(path: Path) -> dict[str, str]:
    """The plain lines of a meta.yaml: `key: value`."""
    if not path.is_file() or path.stat().st_size >= MOST_LINE:
        return {}
    text = path.read_text("utf-8", "replace")
    return {
        key: value for key, value in re.findall(r"^(\w+):[ \t]*['\"]?(.*?)['\"]?[ \t]*$", text, re.MULTILINE) if value
    }


def read_mlflow_sqlite(path: Path, database: Database, maps: Maps) -> Imported:
    """MLflow's SQLite store: tables `metrics` and `runs`."""
    found = Collector(path, "MLflow SQLite", maps)
    _read_database(database.connection, database.tables, found)
    return found.finish()


def _read_database(connection: sqlite3.Connection, tables: set[str], found: Collector) -> None:
    by_id = _note_deleted(found, _runs_of(connection, tables))
    columns = {row[1] for row in connection.execute("PRAGMA table_info(metrics)")}
    is_nan = "CASE WHEN is_nan THEN NULL ELSE value END" if "is_nan" in columns else "value"
    rows: Iterable[tuple[str, str, int, float]] = connection.execute(
        f"SELECT run_uuid, key, step, {is_nan} FROM metrics ORDER BY timestamp"
    )
    for run, key, step, value in rows:
        if run in by_id:
            # A database has no infinities: MLflow writes the largest number there is.
            point = (
                math.nan if value is None else math.inf * value if abs(value) >= sys.float_info.max else float(value)
            )
            found.add(Tag(by_id[run], str(key), str(key)), int(step), point, f"metrics.{key}")


def _runs_of(connection: sqlite3.Connection, tables: set[str]) -> dict[str, _Run]:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(runs)")}
    wanted = [name if name in columns else "NULL" for name in ("name", "experiment_id", "lifecycle_stage")]
    tagged: dict[str, str] = {}
    if "tags" in tables:
        tagged = dict(connection.execute("SELECT run_uuid, value FROM tags WHERE key = 'mlflow.runName'"))
    experiments: dict[object, tuple[str, str]] = {}
    if "experiments" in tables:
        rows = connection.execute("SELECT experiment_id, name, lifecycle_stage FROM experiments")
        experiments = {row[0]: (str(row[1]), str(row[2])) for row in rows}
    found = {}
    for run, name, experiment, stage in connection.execute(f"SELECT run_uuid, {', '.join(wanted)} FROM runs"):
        title, experiment_stage = experiments.get(experiment, ("" if experiment is None else str(experiment), ""))
        found[run] = _Run(run, name or tagged.get(run) or run, title, "deleted" in (stage, experiment_stage))
    return found

"""Trackio's database of a project: a row a step, with its metrics as JSON.

Its folder is ~/.cache/huggingface/trackio, a file `PROJECT.db` each. The package itself opens it for writing.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossary.results.importers.collect import Collector
from lossary.results.importers.databases import Database
from lossary.results.importers.lines import finite_texts, parsed_json
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported
from lossary.results.importers.records import points_of_records

__all__ = ["is_trackio", "read_trackio"]


def is_trackio(database: Database) -> bool:
    """Whether a database is Trackio's."""
    return "metrics" in database.tables and {"run_name", "step", "metrics"} <= database.columns("metrics")


def read_trackio(path: Path, database: Database, maps: Maps) -> Imported:
    """The runs of a project; runs of one name are told apart by their ids."""
    found = Collector(path, "Trackio", maps)
    names = _names(database)
    for run, rows in _rows(database, found):
        points_of_records(rows, found, names[run])
    return found.finish()


def _id(database: Database) -> str:
    return "run_id" if "run_id" in database.columns("metrics") else "run_name"


def _names(database: Database) -> dict[str, str]:
    ids: dict[str, list[str]] = defaultdict(list)
    for run, name in database.connection.execute(f"SELECT DISTINCT {_id(database)}, run_name FROM metrics"):
        ids[str(name)].append(str(run))
    return {run: name if len(runs) == 1 else f"{name} ({run[:8]})" for name, runs in ids.items() for run in runs}


def _rows(database: Database, found: Collector) -> Iterator[tuple[str, Iterator[tuple[str, dict[str, Any]]]]]:
    for run in _names(database):
        rows = database.connection.execute(
            f"SELECT id, step, metrics FROM metrics WHERE {_id(database)} = ? ORDER BY step, timestamp", (run,)
        )
        yield run, _records(rows, found)


def _records(rows: Any, found: Collector) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, step, text in rows:
        try:
            values = parsed_json(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            found.note("rows whose metrics are no JSON object are left out")
            continue
        yield f"metrics, row {number}", {**finite_texts(values), "step": step}

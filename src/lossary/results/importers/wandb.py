"""W&B's local files of a run, read by the `wandb` package itself, which alone knows their format."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossary.errors import LossaryError, SourceError
from lossary.results.importers.collect import Collector
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported
from lossary.results.importers.records import points_of_records

__all__ = ["read_wandb_file"]


def read_wandb_file(path: Path, maps: Maps) -> Imported:
    """The history of a `run-….wandb` file."""
    try:
        from wandb.proto import wandb_internal_pb2
        from wandb.sdk.internal.datastore import DataStore
    except ImportError:
        raise LossaryError(
            "reading W&B's local files needs their package", where=str(path), hint="pip install wandb"
        ) from None
    found = Collector(path, "W&B run", maps)
    store = DataStore()
    name = [path.stem]
    try:
        store.open_for_scan(str(path))
        points_of_records(_history(store, wandb_internal_pb2, name), found, path.stem)
    except (AssertionError, OSError, ValueError) as error:
        raise SourceError(f"not a W&B file: {str(error)[:200]}", where=str(path)) from None
    imported = found.finish()
    return imported if name[0] == path.stem else _renamed(imported, name[0])


def _history(store: Any, messages: Any, name: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    count = 0
    while (data := store.scan_data()) is not None:
        record = messages.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            name[0] = record.run.display_name or record.run.run_id or name[0]
        if record.WhichOneof("record_type") != "history":
            continue
        count += 1
        values: dict[str, Any] = {}
        for item in record.history.item:
            try:
                values[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
            except ValueError:
                continue
        values.setdefault("_step", record.history.step.num)
        yield f"record {count}", values


def _renamed(imported: Imported, run: str) -> Imported:
    from dataclasses import replace

    return replace(imported, curves=[replace(curve, run=run) for curve in imported.curves])

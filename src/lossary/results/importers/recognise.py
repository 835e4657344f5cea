"""Which importer reads a file: told by its content, not by its name."""

import json
import os
import re
from pathlib import Path

from lossary.errors import SourceError
from lossary.results.importers.grids import grid_numbers, read_csv_grid, read_markdown_grids, read_text
from lossary.results.importers.logs import (
    read_csv_logger,
    read_fairseq,
    read_megatron,
    read_mlflow_files,
    read_mlflow_sqlite,
    read_trainer_state,
    read_wandb,
)
from lossary.results.importers.model import Imported
from lossary.results.importers.names import Maps
from lossary.results.importers.tensorboard import event_files, looks_like_events, read_tensorboard

__all__ = ["KINDS", "read_any"]

KINDS = (
    "Markdown tables, CSV tables, TensorBoard event files or folders, MLflow (file store, SQLite), W&B CSV exports, "
    "transformers' trainer_state.json, Keras' CSVLogger, Megatron logs, fairseq logs"
)
_HEAD = 1 << 16


def read_any(path: Path, maps: Maps) -> Imported:
    """Reads a file or folder of any known kind.

    Raises SourceError if it is missing, of no known kind or damaged, or if no number of it is understood.
    """
    found = _read_folder(path, maps) if path.is_dir() else _read_file(path, maps)
    if not found.numbers and not found.curves:
        names = ", ".join(repr(mapped.source) for mapped in found.mapping[:8])
        raise SourceError(
            f"no number in it is understood ({found.kind})",
            where=str(path),
            hint=(f"Found {names}. " if names else "")
            + "Say what they mean with --map NAME=RUN:METRIC, NAME=DATASET:METRIC or NAME=ROLE.",
        )
    return found


def _read_file(path: Path, maps: Maps) -> Imported:
    if not path.is_file():
        raise SourceError("no such file or folder", where=str(path))
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise SourceError("the file is empty", where=str(path))
    if head.startswith(b"SQLite format 3\0"):
        return read_mlflow_sqlite(path, maps)
    if looks_like_events(head):
        return read_tensorboard(path, maps)
    if b"\0" in head:
        raise _unknown(path)
    return _read_text_file(path, head.decode("utf-8", "replace"), maps)


def _read_folder(path: Path, maps: Maps) -> Imported:
    if event_files(path):
        return read_tensorboard(path, maps)
    if any(Path(folder).name == "metrics" for folder, _, _ in os.walk(path, followlinks=False)):
        return read_mlflow_files(path, maps)
    raise SourceError("no event file and no MLflow store in the folder", where=str(path), hint=f"Known: {KINDS}.")


def _read_text_file(path: Path, head: str, maps: Maps) -> Imported:
    first = head.lstrip("﻿ \r\n").split("\n", 1)[0].strip()
    if first.startswith("{") and '"log_history"' in _whole(path, head):
        return read_trainer_state(path, maps)
    if re.search(r"\biteration\s+\d+\s*/\s*\d+\s*\|", head):
        return read_megatron(path, maps)
    if re.search(r"\|\s*(train_inner|train|valid\w*)\s*\|\s*\{|num_updates\s+\d|\| valid on '", head):
        return read_fairseq(path, maps)
    if re.search(r"^\s*\|.*\|\s*$", head, re.MULTILINE) and re.search(
        r"^\s*\|?[\s:|-]*--[\s:|-]*$", head, re.MULTILINE
    ):
        return grid_numbers(read_markdown_grids(read_text(path)), path, "Markdown tables", maps)
    if _is_json(first):
        raise _unknown(path)
    names = [name.strip().strip('"').lower() for name in first.split(",")]
    if any(" - " in name for name in names) and any(name in ("step", "_step", "global_step") for name in names):
        return read_wandb(path, maps)
    if "epoch" in names:
        return read_csv_logger(path, maps)
    if any(separator in first for separator in ",;\t"):
        return grid_numbers([read_csv_grid(read_text(path), path)], path, "CSV table", maps)
    raise _unknown(path)


def _whole(path: Path, head: str) -> str:
    return head if len(head) < _HEAD else read_text(path)


def _is_json(first: str) -> bool:
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return first[:1] in "{["
    return first[:1] in "{["


def _unknown(path: Path) -> SourceError:
    return SourceError("of no kind that is known here", where=str(path), hint=f"Known: {KINDS}.")

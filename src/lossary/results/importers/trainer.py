"""transformers' Trainer: `log_history` of its trainer_state.json, and the JSON that its examples write of results."""

import re
from pathlib import Path
from typing import Any

from lossary.errors import SourceError
from lossary.results.importers.collect import Collector
from lossary.results.importers.lines import is_number, read_json_text
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported, Split, Tag
from lossary.results.importers.names import read_name, role
from lossary.results.importers.records import MEAN_OVER_RUN, points_of_records

__all__ = ["entry_tag", "read_results_json", "read_trainer_state", "run_of"]

_PREFIXES: tuple[tuple[str, Split], ...] = (("eval_", "eval"), ("test_", "test"), ("predict_", "test"))
_ABOUT_THE_ENTRY = ("step", "epoch", "global_step", "total_flos")


def run_of(path: Path) -> str:
    """The name of a run's folder; a checkpoint's folder is none."""
    folder = path.resolve().parent
    while re.fullmatch(
        r"(checkpoint|step|global_step|epoch)[-_]?\d+|checkpoints?|logs?|output|outputs|files", folder.name
    ):
        folder = folder.parent
    return folder.name or path.stem


def read_trainer_state(path: Path, maps: Maps) -> Imported:
    """Every entry: `eval_…` is of evaluation, what has no prefix of training, the closing summary of no step."""
    found = Collector(path, "transformers trainer_state", maps)
    run = run_of(path)
    history = read_json_text(path)["log_history"]
    if not isinstance(history, list):
        raise SourceError("log_history is no list", where=str(path))
    for index, entry in enumerate(history):
        place = f"log_history[{index}]"
        if not isinstance(entry, dict):
            found.note(f"{place} is no entry; left out")
        elif not is_number(entry.get("step")):
            found.note(f"{place} has no step ({', '.join(list(entry)[:3])}); left out")
        else:
            _add(found, run, entry, int(entry["step"]), place)
    return found.finish()


def _add(found: Collector, run: str, entry: dict[str, Any], step: int, place: str) -> None:
    is_summary = "train_runtime" in entry
    for name, value in entry.items():
        if name in _ABOUT_THE_ENTRY or not is_number(value):
            continue
        found.add(entry_tag(run, name, is_summary=is_summary), step, float(value), place)


def entry_tag(run: str, name: str, *, is_summary: bool) -> Tag:
    """A value of an entry: `eval_…` is of evaluation, what has no prefix of training."""
    prefix, split = next(((p, s) for p, s in _PREFIXES if name.startswith(p)), ("", "train"))
    if not prefix and not name.startswith("train_") and read_name(name).split is not None:
        # Of a loop of one's own: `valid_en_mlm_ppl`; AllenNLP's `training_loss`.
        return Tag(run, name, name)
    refused = MEAN_OVER_RUN if is_summary and name == "train_loss" else None
    core = name.removeprefix("train_" if split == "train" else prefix)
    return Tag(run, name, core, split=split, refused=refused)


def read_results_json(path: Path, maps: Maps) -> Imported:
    """`eval_results.json`, `all_results.json`: the results of one evaluation, with its epoch or step."""
    found = Collector(path, "transformers results", maps)
    entry = read_json_text(path)
    step = next((int(entry[name]) for name in ("global_step", "step", "epoch") if is_number(entry.get(name))), 0)
    if any("/" in name for name in entry) or not any(
        name.startswith(("train_", *(prefix for prefix, _ in _PREFIXES))) for name in entry
    ):
        # A summary of W&B's or AllenNLP's, whose names say their splits themselves.
        placed = entry if any(role(name) in ("step", "epoch") for name in entry) else {"step": 0, **entry}
        points_of_records(iter([("", placed)]), found, run_of(path))
        return found.finish()
    # What its examples add to the metrics of an evaluation has no prefix: `perplexity`.
    evaluated = any(name.startswith("eval_") for name in entry)
    prefix = "eval_" if evaluated else ""
    named = {
        n if n.startswith(("eval_", "train_", "test_", "predict_")) else f"{prefix}{n}": v for n, v in entry.items()
    }
    _add(found, run_of(path), {"train_runtime": 0, **named}, step, "")
    return found.finish()

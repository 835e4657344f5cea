"""Aim's stores, which only its package reads: a copy is opened with it, for opening a store writes to it.

The context of a series says its split, `{"subset": "val"}`; what else it says is the dataset.
"""

import importlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from lossary.errors import SourceError
from lossary.results.importers.collect import Collector
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported, Split, Tag
from lossary.results.importers.names import split_word

__all__ = ["is_aim", "read_aim"]

_FILES = (".aim", "run_metadata.sqlite")
# More would fill the disk with the copy.
_MOST_BYTES = 4 << 30


def is_aim(folder: Path) -> bool:
    """Whether a folder is a store of Aim's, or holds one."""
    return any((folder / name).exists() for name in _FILES)


def read_aim(path: Path, maps: Maps) -> Imported:
    """The metrics of all runs; SourceError says how to export them where the package is missing or cannot read them."""
    store = path.parent if path.is_file() else path / ".aim" if (path / ".aim").is_dir() else path
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    try:
        aim = importlib.import_module("aim")
    except ImportError:
        raise _refused(path, "a store of Aim's, which only its package reads", "pip install aim. Or write") from None
    if size > _MOST_BYTES:
        raise _refused(path, f"a store of Aim's of {size:,} bytes, too large to be copied", "Write")
    found = Collector(path, "Aim", maps)
    with tempfile.TemporaryDirectory(prefix="lossary-aim-") as name:
        try:
            shutil.copytree(store, Path(name) / ".aim", symlinks=True)
            _add_runs(aim, name, found)
        # Whatever its package raises: the store may be damaged, or of another version.
        except Exception as error:
            raise _refused(path, f"Aim's package cannot read its store: {str(error)[:200]}", "Write") from None
    return found.finish()


def _add_runs(aim: Any, folder: str, found: Collector) -> None:
    repo = aim.Repo(folder)
    quiet = {"system_tracking_interval": None, "log_system_params": False, "capture_terminal_logs": False}
    runs = [aim.Run(run_hash=name, repo=repo, **quiet) for name in repo.list_all_runs()]
    names = [_name(run) for run in runs]
    count = Counter(names)
    for run, title in zip(runs, names, strict=True):
        title = f"{title} ({run.hash[:8]})" if count[title] > 1 else title
        for metric, context, _ in run.iter_metrics_info():
            if not metric.startswith("__system__"):
                tag = _tag(title, metric, context.to_dict())
                points = sorted(
                    (int(step), float(item[0])) for step, item in run.get_metric(metric, context).data.items()
                )
                found.extend(tag, [step for step, _ in points], [value for _, value in points], f"run {run.hash}")
        run.close()


def _name(run: Any) -> str:
    """The name that somebody gave a run, else its experiment's."""
    given = str(run.name or "")
    return given if given and given != f"Run: {run.hash}" else str(run.experiment or run.hash)


def _tag(run: str, metric: str, context: dict[str, Any]) -> Tag:
    said = [str(value) for value in context.values()]
    splits: set[Split] = {found for value in said if (found := split_word(value)) is not None}
    split = next(iter(splits)) if len(splits) == 1 else None
    dataset = "/".join(value for value in said if split is None or split_word(value) is None) or None
    shown = f"{metric} ({', '.join(said)})" if said else metric
    return Tag(run, shown, metric, split=split, dataset=dataset)


def _refused(path: Path, what: str, how: str) -> SourceError:
    return SourceError(
        what,
        where=str(path),
        hint=f"{how} its metrics with their package as JSON lines, and import those: "
        '{"run": "base", "step": 100, "eval/wiki/loss": 2.3}',
    )

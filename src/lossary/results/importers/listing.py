"""Files of a folder: those that are read, and those that are not though they seem to hold losses, for a note."""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lossary.errors import SourceError
from lossary.results.importers.samples import has_samples, is_of_examples
from lossary.results.importers.unread import may_hold_data

__all__ = ["Files", "files_of", "newest_states"]

_MOST_FILES = 20_000
# What is read of a folder.
_NAMES = ("trainer_state.json", "train.txt", "log.txt", "output.txt")
_SUFFIXES = (
    ".csv", ".tsv", ".md", ".tex", ".log", ".out", ".jsonl", ".html", ".xlsx",
    ".wandb", ".db", ".sqlite", ".parquet", ".eval",
)  # fmt: skip
# As Inspect calls its logs in JSON.
_INSPECT = re.compile(r"\d{4}-\d\d-\d\dT[\d+-]+_.+\.json")
# Texts of any kind, of which a folder has many that hold no losses.
_TEXTS = (".txt", ".json", ".ipynb", ".rst", ".org", ".adoc", ".tsv", ".dat")
_MOST_TEXTS = 300


class Files(NamedTuple):
    """The files of a folder that are read, and texts that nobody named and that are not."""

    folder: Path
    wanted: list[Path]
    others: list[Path]

    def not_looked_at(self) -> list[str]:
        """Names of the texts among the first ones that seem to hold losses."""
        texts = islice(self.others, _MOST_TEXTS)
        return [str(file.relative_to(self.folder)) for file in texts if may_hold_data(file)]


def files_of(path: Path) -> Files:
    """Files of a folder that may hold numbers, without those that the folder's own readers take."""
    found: list[Path] = []
    others: list[Path] = []
    for folder, names, files in os.walk(path, followlinks=False):
        of_mlflow = ("metrics", "params", "tags") if "meta.yaml" in files else ()
        names[:] = sorted(name for name in names if _is_to_enter(Path(folder) / name) and name not in of_mlflow)
        is_hidden = Path(folder) != path and Path(folder).name.startswith(".")
        names[:] = [] if is_hidden else names
        for name in sorted(files):
            file = Path(folder) / name
            if is_hidden and not is_of_examples(file):
                continue
            if name in ("debug.log", "debug-internal.log", "debug-core.log") and "wandb" in Path(folder).parts:
                continue
            wanted = (
                name in _NAMES or file.suffix.lower() in _SUFFIXES or name.endswith("results.txt")
                or _INSPECT.fullmatch(name) is not None
            )  # fmt: skip
            if wanted and not file.is_symlink() and "tfevents" not in name:
                found.append(file)
            elif file.suffix.lower() in _TEXTS and not file.is_symlink():
                others.append(file)
            if len(found) > _MOST_FILES:
                raise SourceError(f"more than {_MOST_FILES:,} files", where=str(path))
    return Files(path, found, others)


def _is_to_enter(folder: Path) -> bool:
    return not folder.name.startswith(".") or has_samples(folder)


def newest_states(files: list[Path]) -> Iterator[Path]:
    """Of the states of one run, which its checkpoints keep, the one with the most steps: it holds the others."""
    newest: dict[Path, tuple[int, Path]] = {}
    for file in files:
        if file.name != "trainer_state.json":
            yield file
            continue
        match = re.fullmatch(r"checkpoint-(\d+)", file.parent.name)
        run = file.parent.parent if match else file.parent
        # The state in the run's own folder is written last.
        step = int(match[1]) if match else 1 << 62
        newest[run] = max(newest.get(run, (-1, file)), (step, file))
    yield from (file for _, file in newest.values())

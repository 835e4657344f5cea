"""A dataset or a run leaves the study file, and what was made of it steps aside.

The study file is written first: whatever a crash leaves is no longer part of the study, and the same command again
takes it away. Frozen validation examples of a dataset stay: texts that were held out stay held out.
"""

import shutil
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from lossary.data.parts import read_run_record, runs_with_results
from lossary.editing.document import StudyDocument
from lossary.errors import DataError, UsageError
from lossary.files import read_json
from lossary.folder import StudyFolder

__all__ = ["Removed", "remove", "set_diagnoses_aside", "step_aside"]


class Removed(NamedTuple):
    """Where the artifacts are now, None if there were none or they were deleted; and what stays, and why."""

    moved_to: Path | None
    notes: list[str]


def remove(file: Path, folder: StudyFolder, kind: str, name: str, *, delete: bool = False) -> Removed:
    """Takes a dataset or a run out of the study; UsageError, and nothing changed, if something else needs it."""
    document = StudyDocument.read(file)
    # Once it has left the study file, nothing translates its name.
    drawn, folder = folder.names.drawn_as(name), folder.as_drawn
    made = folder.dataset(drawn) if kind == "datasets" else folder.run(name)
    listed = document.wanted[kind]
    if name in listed:
        _take_out(document, folder, kind, name, drawn)
    elif not made.is_dir():
        known = ", ".join(listed)
        raise UsageError(f"no {kind[:-1]} is called {name!r}", where=str(file), hint=f"Known: {known}.")
    notes = []
    if kind == "datasets":
        if folder.validation_part(drawn).is_dir():
            notes.append("its validation examples stay frozen, and count again if it comes back")
        users = [run for run in _trained_on(folder, drawn) if run in document.wanted["runs"]]
        if users and made.is_dir():
            notes.append(f"what was prepared of it stays: runs were trained on it ({', '.join(users)})")
            return Removed(None, notes)
    else:
        notes += set_diagnoses_aside(folder, name)
        for path in folder.said_of(name):
            path.unlink(missing_ok=True)
    moved = step_aside(folder, f"{kind[:-1]}-{name}", made)
    if delete and moved is not None:
        if moved.is_symlink():
            notes.append(f"a link led to {moved.resolve()}: what is there stays")
            moved.unlink()
        else:
            shutil.rmtree(moved)
        if not any(folder.removed.iterdir()):
            folder.removed.rmdir()
        moved = None
    return Removed(moved, notes)


def _take_out(document: StudyDocument, folder: StudyFolder, kind: str, name: str, drawn: str) -> None:
    where = str(document.path)
    runs = document.wanted["runs"]
    if len(document.wanted[kind]) == 1:
        raise UsageError(
            f"{name!r} is the last {kind[:-1]} of the study",
            where=where,
            hint="Add another one first, or delete the folder.",
        )
    if kind == "runs":
        branches = [run for run, settings in runs.items() if settings.get("start", {}).get("run") == name]
        if branches:
            raise UsageError(
                f"{', '.join(branches)} starts from {name!r}",
                where=where,
                hint=f"Remove it first: `lossary rm runs.{branches[0]}`.",
            )
    else:
        _refuse_lists(_trained_on(folder, drawn), document, name)
        document.drop_from_runs(name)
        for section in ("mixture", "validation"):
            document.drop_share(section, name)
    document.drop(kind, name)
    document.check()
    document.write()


def _refuse_lists(begun: Collection[str], document: StudyDocument, dataset: str) -> None:
    """Runs that list the dataset: one with nothing else has none left, one that was begun would be another run."""
    for run, settings in document.wanted["runs"].items():
        if dataset not in settings.get("datasets", ()):
            continue
        if settings["datasets"] == [dataset]:
            why = f"run {run!r} is trained on {dataset!r} alone"
        elif run in begun:
            why = f"run {run!r} lists {dataset!r} and was begun with it"
        else:
            continue
        hint = f"Remove the run first: `lossary rm runs.{run}`."
        raise UsageError(why, where=f"{document.path}: $.runs.{run}.datasets", hint=hint)


def _trained_on(folder: StudyFolder, dataset: str) -> list[str]:
    """Runs that were begun with a dataset in their mixture."""
    records = {run: read_run_record(folder, run) or {} for run in runs_with_results(folder)}
    return [run for run, record in records.items() if dataset in record.get("datasets", ())]


def step_aside(folder: StudyFolder, name: str, made: Path) -> Path | None:
    """Moves a folder to removed/, in one step; returns where it is, None if there is none."""
    if not made.is_dir():
        return None
    first = target = folder.removed / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}-{name}"
    number = 1
    while target.exists():
        number += 1
        target = first.with_name(f"{first.name}.{number}")
    target.parent.mkdir(exist_ok=True)
    if made.is_symlink():
        # It would lead elsewhere from its new place.
        target.symlink_to(made.resolve())
        made.unlink()
    else:
        made.replace(target)
    return target


def set_diagnoses_aside(folder: StudyFolder, run: str) -> list[str]:
    """Diagnoses that speak of a run by a name that it loses go to removed/: another run may get it. Returns notes."""
    spoken = [path for path in sorted(folder.diagnosis.glob("*.json")) if run in _sides(path)]
    for path in spoken:
        for file in (path, path.with_suffix(".md")):
            if file.is_file():
                folder.removed.mkdir(exist_ok=True)
                file.replace(folder.removed / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}-diagnosis-{file.name}")
    names = ", ".join(path.stem for path in spoken)
    return [f"diagnoses that speak of {run} are in {folder.removed}: {names}"] if spoken else []


def _sides(path: Path) -> Collection[str]:
    try:
        sides = read_json(path)["sides"]
    except (OSError, DataError, KeyError, TypeError):
        return ()
    return sides if isinstance(sides, list) else ()

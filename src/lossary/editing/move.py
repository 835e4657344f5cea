"""A run or a dataset under another name.

A run takes along all that was made of it: what its folder is called is its name, and no file in it changes. A
dataset's draws go by its name, so that one that runs depend on keeps it.

The study file is written first; the same command again ends what a crash left.
"""

from pathlib import Path
from typing import NamedTuple

from lossary.data.parts import known_parts, runs_with_results
from lossary.editing.document import StudyDocument
from lossary.editing.remove import step_aside
from lossary.errors import LossaryError, UsageError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.results.records import read_header
from lossary.study import check_name

__all__ = ["Move", "move"]


class Move(NamedTuple):
    """What is renamed."""

    kind: str
    old: str
    new: str


def move(file: Path, folder: StudyFolder, asked: Move) -> list[str]:
    """Renames it in the study file and in the folder; returns what there is to say.

    UsageError, and nothing changed, if the name is unknown, taken, or cannot change.
    """
    kind, old, new = asked
    check_name(new, where=f"{kind}.{new}")
    document = StudyDocument.read(file)
    listed = document.wanted[kind]
    before, after = (folder.run(name) if kind == "runs" else folder.dataset(name) for name in (old, new))
    if old in listed:
        _refuse(document, folder, asked, after)
        _rename(document, asked)
        document.write()
    elif new not in listed or not before.is_dir() or after.exists():
        known = ", ".join(listed)
        raise UsageError(f"no {kind[:-1]} is called {old!r}", where=str(file), hint=f"Known: {known}.")
    notes = []
    if kind == "datasets" and (aside := step_aside(folder, f"validation-{old}", folder.validation_part(old))):
        notes.append(f"its validation examples are drawn by its name: the next run makes others, these are in {aside}")
    if before.is_dir():
        before.replace(after)
        notes.append(f"what was made of it is in {after}")
    return notes


def _refuse(document: StudyDocument, folder: StudyFolder, asked: Move, after: Path) -> None:
    kind, old, new = asked
    where = str(document.path)
    taken = new in document.wanted[kind] or (kind == "datasets" and new in known_parts(folder))
    if taken or after.exists():
        place = f" ({after} is there)" if after.exists() else ""
        raise UsageError(f"the name {new!r} is taken{place}", where=where, hint="Choose another one.")
    if kind == "runs":
        begun = [run for run in document.wanted["runs"] if _started_from(folder, run) == old]
        if begun:
            raise UsageError(
                f"{', '.join(begun)} was begun from {old!r}, and remembers that name",
                where=where,
                hint="Keep the name, or remove what starts from it first.",
            )
    elif users := [run for run in runs_with_results(folder) if _uses(folder, run, old)]:
        raise UsageError(
            f"runs depend on dataset {old!r}, whose examples are drawn by its name: {', '.join(users)}",
            where=where,
            hint="Keep the name, or begin a study of that name in a new folder.",
        )


def _started_from(folder: StudyFolder, run: str) -> str | None:
    path = folder.run(run) / "run.json"
    start = read_json(path).get("start") if path.is_file() else None
    return None if start is None else str(start["run"])


def _uses(folder: StudyFolder, run: str, dataset: str) -> bool:
    record = folder.run(run) / "run.json"
    if record.is_file() and dataset in read_json(record).get("datasets", ()):
        return True
    try:
        return any(read_header(path).part(dataset) for path in (folder.run(run) / "scores").glob("*.parquet"))
    except LossaryError:
        # What a damaged file was scored on is not known: it may be anything.
        return True


def _rename(document: StudyDocument, asked: Move) -> None:
    kind, old, new = asked
    if kind == "runs":
        for name, run in document.wanted["runs"].items():
            if run.get("start", {}).get("run") == old:
                document.toml["runs"][name]["start"]["run"] = new
                run["start"]["run"] = new
        document.rename_key(("runs",), old, new)
        return
    for name, run in document.wanted["runs"].items():
        if old in run.get("datasets", ()):
            place = run["datasets"].index(old)
            document.toml["runs"][name]["datasets"][place] = new
            run["datasets"][place] = new
    for section in ("mixture", "validation"):
        if document.has_shares(section):
            document.rename_key((section, "shares"), old, new)
    document.rename_key(("datasets",), old, new)

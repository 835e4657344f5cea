"""A run or a dataset under another name.

A run takes along all that was made and said of it: what its folder is called is its name, and no file in it changes.
A dataset's draws, digests and files go by the name that it had when they were made: the study file keeps that as
`drawn_as`, and nothing else is touched.

The study file is written first; the same command again ends what a crash left.
"""

from pathlib import Path
from typing import NamedTuple

from lossary.data.parts import known_parts, read_run_record
from lossary.editing.document import StudyDocument
from lossary.editing.remove import set_diagnoses_aside
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.study_file import check_name

__all__ = ["Move", "move"]


class Move(NamedTuple):
    """What is renamed."""

    kind: str
    old: str
    new: str


def move(file: Path, folder: StudyFolder, asked: Move) -> list[str]:
    """Renames it in the study file and, if it is a run, in the folder; returns what there is to say.

    UsageError, and nothing changed, if the name is unknown, taken, or cannot change.
    """
    check_name(asked.new, where=f"{asked.kind}.{asked.new}")
    document = StudyDocument.read(file)
    return _move_run(document, folder, asked) if asked.kind == "runs" else _move_dataset(document, folder, asked)


def _move_run(document: StudyDocument, folder: StudyFolder, asked: Move) -> list[str]:
    before, after = folder.run(asked.old), folder.run(asked.new)
    if asked.old in document.wanted["runs"]:
        _refuse_taken(document, asked, after)
        begun = [run for run in document.wanted["runs"] if _started_from(folder, run) == asked.old]
        if begun:
            raise UsageError(
                f"{', '.join(begun)} was begun from {asked.old!r}, and remembers that name",
                where=str(document.path),
                hint="Keep the name, or remove what starts from it first.",
            )
        _rename_run(document, asked)
        document.write()
    elif asked.new not in document.wanted["runs"] or not before.is_dir() or after.exists():
        raise _unknown(document, asked)
    notes = set_diagnoses_aside(folder, asked.old)
    for path in folder.said_of(asked.old):
        path.replace(path.with_name(path.name.replace(asked.old, asked.new, 1)))
    if not before.is_dir():
        return notes
    before.replace(after)
    return [f"what was made of it is in {after}", *notes]


def _move_dataset(document: StudyDocument, folder: StudyFolder, asked: Move) -> list[str]:
    tables = document.wanted["datasets"]
    if asked.old not in tables:
        if tables.get(asked.new, {}).get("drawn_as") == asked.old:
            return []
        raise _unknown(document, asked)
    _refuse_taken(document, asked)
    drawn = tables[asked.old].get("drawn_as", asked.old)
    others = {name: table.get("drawn_as", name) for name, table in tables.items() if name != asked.old}
    _rename_dataset(document, asked)
    free = not any(map(_is_made, (folder, folder), (drawn, asked.new))) and asked.new not in others.values()
    if free or drawn == asked.new:
        document.drop_key("datasets", asked.new, "drawn_as")
        document.write()
        return []
    document.put_key("datasets", asked.new, "drawn_as", drawn)
    document.write()
    return [f'its draws and files go by {drawn!r}, as before (drawn_as = "{drawn}"): all that was made of it counts']


def _is_made(folder: StudyFolder, drawn: str) -> bool:
    """Whether anything stands that goes by a name."""
    bare = folder.as_drawn
    return bare.dataset(drawn).exists() or drawn in known_parts(bare)


def _refuse_taken(document: StudyDocument, asked: Move, after: Path | None = None) -> None:
    is_there = after is not None and after.exists()
    if asked.new in document.wanted[asked.kind] or is_there:
        place = f" ({after} is there)" if is_there else ""
        raise UsageError(
            f"the name {asked.new!r} is taken{place}", where=str(document.path), hint="Choose another one."
        )


def _unknown(document: StudyDocument, asked: Move) -> UsageError:
    known = ", ".join(document.wanted[asked.kind])
    return UsageError(
        f"no {asked.kind[:-1]} is called {asked.old!r}", where=str(document.path), hint=f"Known: {known}."
    )


def _started_from(folder: StudyFolder, run: str) -> str | None:
    start = (read_run_record(folder, run) or {}).get("start")
    return None if start is None else str(start["run"])


def _rename_run(document: StudyDocument, asked: Move) -> None:
    for name, run in document.wanted["runs"].items():
        if run.get("start", {}).get("run") == asked.old:
            document.toml["runs"][name]["start"]["run"] = asked.new
            run["start"]["run"] = asked.new
    document.rename_key(("runs",), asked.old, asked.new)


def _rename_dataset(document: StudyDocument, asked: Move) -> None:
    for name, run in document.wanted["runs"].items():
        if asked.old in run.get("datasets", ()):
            place = run["datasets"].index(asked.old)
            document.toml["runs"][name]["datasets"][place] = asked.new
            run["datasets"][place] = asked.new
    for section in ("mixture", "validation"):
        if document.has_shares(section):
            document.rename_key((section, "shares"), asked.old, asked.new)
    document.rename_key(("datasets",), asked.old, asked.new)

"""A dataset or a run comes into the study file; nothing is made."""

from itertools import count
from pathlib import Path
from typing import Any

from lossary.data.parts import known_parts
from lossary.editing.document import StudyDocument
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["add", "added"]

# The option that gives the share in a section's table.
_OPTIONS = {"mixture": "--share", "validation": "--validation-share"}


def add(file: Path, kind: str, name: str, settings: dict[str, Any], *, shares: dict[str, float | None]) -> Study:
    """Writes the study file with one more table, and returns the study; a refused one changes nothing."""
    document = added(file, kind, name, settings, shares=shares)
    document.write()
    return document.check()


def added(
    file: Path, kind: str, name: str, settings: dict[str, Any], *, shares: dict[str, float | None]
) -> StudyDocument:
    """The study file with one more table, checked and not written yet.

    `shares` are the weights of a new dataset by section (mixture, validation).
    """
    document = StudyDocument.read(file)
    if name in document.wanted[kind]:
        raise UsageError(f"{kind}.{name} is there already", where=str(file))
    for section, option in _OPTIONS.items():
        share = shares.get(section)
        if kind == "datasets" and document.has_shares(section):
            if share is None:
                raise UsageError(
                    f"[{section}] gives every dataset a share, and none is given for {name!r}",
                    where=str(file),
                    hint=f"Add `{option} 0.1`; weights need not add up to 1.",
                )
            document.put_share(section, name, share)
        elif share is not None:
            why = "only a dataset has a share" if kind != "datasets" else f"[{section}] has no table of shares"
            raise UsageError(why, where=option, hint="Leave it out.")
    if kind == "datasets" and "drawn_as" not in settings:
        settings = settings | _drawn_apart(document, name)
    document.put(kind, name, settings)
    document.check()
    return document


def _drawn_apart(document: StudyDocument, name: str) -> dict[str, str]:
    """Draws and files of its own for a dataset whose name another one is drawn as: that was called so before."""
    taken = {table.get("drawn_as", other).casefold() for other, table in document.wanted["datasets"].items()}
    if name.casefold() not in taken:
        return {}
    folder = StudyFolder(document.path.parent, drawn=True)
    stands = {*taken, *(path.name.casefold() for path in folder.dataset(name).parent.glob("*")), *known_parts(folder)}
    return {"drawn_as": next(free for n in count(2) if (free := f"{name}-{n}").casefold() not in stands)}

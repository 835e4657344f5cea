"""A dataset or a run comes into the study file; nothing is made."""

from pathlib import Path
from typing import Any

from lossary.data.changes import data_changes
from lossary.data.parts import free_name
from lossary.editing.document import StudyDocument
from lossary.errors import LossaryError, UsageError
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
    taken = [table.get("drawn_as", other) for other, table in document.wanted["datasets"].items()]
    document.put(kind, name, settings)
    if kind == "datasets" and "drawn_as" not in settings:
        folder = StudyFolder(document.path.parent, drawn=True)
        # The name is that of another dataset before it was renamed, or of one that was removed.
        if name.casefold() in map(str.casefold, taken) or _has_other_text(document.check(), folder, name):
            document.put_key(kind, name, "drawn_as", free_name(folder, taken, name))
    document.check()
    return document


def _has_other_text(study: Study, folder: StudyFolder, name: str) -> bool:
    """Whether what was made of a dataset of this name is not what the new one holds."""
    try:
        change = data_changes(study, folder).datasets[name]
    except LossaryError:
        # Whoever plans the study says what is wrong with its sources.
        return False
    return change.fate == "anew"

"""Whole studies to a URL, and from it."""

from pathlib import Path

from lossary.errors import UsageError
from lossary.files import write_directory_atomic
from lossary.remote.cache import place
from lossary.remote.claims import Claim
from lossary.remote.copies import WorkingCopy
from lossary.remote.manifests import newest_manifest
from lossary.remote.readers import reading
from lossary.remote.scan import scan
from lossary.remote.wants import Wants

__all__ = ["pull", "push"]


def push(folder: Path, url: str, *, replace: bool = False) -> int:
    """Makes a folder the newest state of a study at a URL; returns how many files it has.

    UsageError if there is a study already, unless it is to be replaced; BusyError while another process writes it.
    """
    copy = WorkingCopy(url)
    with Claim(copy.store, doing="push") as claim:
        if newest_manifest(copy.store).name and not replace:
            hint = "--replace makes this folder its newest state; another URL is free."
            raise UsageError("there is a study already", where=url, hint=hint)
        copy.push(claim, folder)
    return len(scan(folder))


def pull(url: str, folder: Path) -> int:
    """Writes the newest state of a study as a new folder; returns how many files it has. UsageError if it exists."""
    if folder.exists():
        raise UsageError("it exists already", where=str(folder), hint="Name a folder that does not.")
    with reading(url, Wants.ALL) as state, write_directory_atomic(folder) as target:
        files = scan(state)
        for path in files:
            place(state / path, target / path, is_own=True)
    return len(files)

"""The files of a folder as they are at one moment, while others write there."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["LOGS", "Look", "look", "scan"]

LOGS = "logs/"
_TRIES = 20
_PAUSE_S = 0.05


class Look(NamedTuple):
    """What a file system says of a file: another one in its place looks different."""

    bytes: int
    time: int  # of change, in ns
    inode: int


def look(path: Path) -> Look:
    """One file. FileNotFoundError if it is gone."""
    status = path.stat()
    return Look(status.st_size, status.st_mtime_ns, status.st_ino)


def scan(root: Path) -> dict[str, Look]:
    """All files but leases and what is being written, by their paths below `root`.

    Looked at twice until both looks are the same: all of it stood at once then, as after a kill. Logs, which grow all
    the time, do not count.
    """
    before = dict(_walk(root))
    for _ in range(_TRIES):
        now = dict(_walk(root))
        if _but_logs(now) == _but_logs(before):
            break
        before = now
        time.sleep(_PAUSE_S)
    return now


def _walk(root: Path) -> Iterator[tuple[str, Look]]:
    for folder, folders, names in os.walk(root):
        place = Path(folder)
        top = place == root
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (top and name == "leases"))
        for name in sorted(names):
            path = place / name
            if name.startswith("."):
                continue
            try:
                if path.is_file():
                    yield path.relative_to(root).as_posix(), look(path)
            except FileNotFoundError:
                continue


def _but_logs(found: dict[str, Look]) -> dict[str, Look]:
    return {path: seen for path, seen in found.items() if not path.startswith(LOGS)}

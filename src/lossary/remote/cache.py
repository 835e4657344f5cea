"""Contents by their digest on this machine, for all studies at URLs: `$XDG_CACHE_HOME/lossary/contents`.

    path = Contents(folder).get(store, stored)        # fetched, compared with its digest, and kept

Any number of processes use it at once: a content appears whole, and whoever wants one makes a hard link to it, so that
it may go at any time. It is held below `LOSSARY_CACHE_BYTES` (20 GB): what was used least lately goes first.
"""

import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from lossary.errors import DataError, StoreError, UsageError
from lossary.files import digest_file
from lossary.remote.manifests import Stored, object_name
from lossary.remote.store import ObjectStore

__all__ = ["Contents", "cache_folder", "place"]

_VARIABLE = "LOSSARY_CACHE_BYTES"
_MOST_BYTES = 20 * 10**9
_FETCHES = 3
_ABANDONED_S = 86_400.0


def cache_folder() -> Path:
    """Where this user keeps what can be fetched again."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "lossary"
    except RuntimeError:
        raise StoreError("there is no home for a cache", hint="Set XDG_CACHE_HOME to a folder of yours.") from None


def place(content: Path, target: Path, *, is_own: bool = False) -> None:
    """A content at a path: a link, or a copy where it may be appended to (`is_own`) or links cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        linked = False
        if not is_own:
            with suppress(OSError):
                os.link(content, temporary)
                linked = True
        if not linked:
            shutil.copy2(content, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


class Contents:
    """Contents below a folder, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, store: ObjectStore, stored: Stored) -> Path:
        """A file with a content, fetched if it is not there; what is there is compared with its digest, too.

        FileNotFoundError if the store has no such object any more, DataError if it is another one there.
        """
        path = self._path(stored.digest)
        if self._is_whole(path, stored):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_FETCHES):
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
            try:
                store.fetch(object_name(stored.digest), temporary, stored.bytes)
                # Connections break, and some clients take what came for all there is.
                if self._is_whole(temporary, stored):
                    os.utime(temporary, ns=(time.time_ns(), stored.time))
                    temporary.replace(path)
                    return path
                came = temporary.stat().st_size
            finally:
                temporary.unlink(missing_ok=True)
        raise DataError(
            f"not what was written: another content, {_FETCHES} times ({came:,} bytes; {stored.bytes:,} are expected)",
            where=f"{store.url}/{object_name(stored.digest)}",
            hint="Restore it from a copy or an earlier version of the object, if the store keeps any.",
        )

    def add(self, source: Path, stored: Stored) -> None:
        """Keeps a content that was made here; as good as nothing where that cannot be."""
        path = self._path(stored.digest)
        with suppress(OSError):
            if not path.exists():
                place(source, path)

    def prune(self) -> None:
        """Deletes what was used least lately until all is below the limit; what studies here hold costs nothing."""
        most = _most_bytes()
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*/*"):
            with suppress(OSError):
                status = path.stat()
                if path.name.startswith(".") and time.time() - status.st_mtime > _ABANDONED_S:
                    path.unlink()
                elif status.st_nlink == 1:
                    found.append((status.st_atime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= most:
                break
            with suppress(OSError):
                path.unlink()
            total -= size

    def _path(self, digest: str) -> Path:
        name = digest.rpartition(":")[2]
        return self._folder / name[:2] / name

    def _is_whole(self, path: Path, stored: Stored) -> bool:
        with suppress(OSError):
            if path.stat().st_size == stored.bytes and digest_file(path) == stored.digest:
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
                return True
        return False


def _most_bytes() -> int:
    written = os.environ.get(_VARIABLE, "")
    if written and not written.isdecimal():
        raise UsageError(f"{_VARIABLE} is {written!r}; a number of bytes is expected", where=_VARIABLE)
    return int(written) if written else _MOST_BYTES

"""What a source holds, told by content: files that were moved, copied, linked or touched are the same.

    contents = Contents({"wiki.txt": {"bytes": 9, "stamp": "…", "digest": "…"}})    # of an earlier manifest
    contents.of(file)["digest"]

Size and time of change spare reading a file again where nothing else changed; they are never what is compared.
"""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossary.data.source_files import SourceFile
from lossary.errors import SourceError, UnreadSource
from lossary.files import digest_stream

__all__ = ["Content", "Contents", "check_unchanged", "same_contents"]

# Bytes that nobody minds to wait for.
_QUICKLY_READ = 8 << 20
Content = dict[str, Any]  # path, bytes, stamp, digest


class Contents:
    """Digests of source files, each read at most once."""

    def __init__(self, remembered: Mapping[str, Mapping[str, Any]], *, waits: bool = True) -> None:
        self._remembered = remembered
        self._waits = waits
        self._found: dict[str, Content] = {}

    def of(self, file: SourceFile) -> Content:
        """Path, size, stamp and digest of a file. SourceError if it cannot be read, UnreadSource if it is not."""
        if file.path not in self._found:
            stamp, size = _stamp(file)
            before = self._remembered.get(file.path, {})
            known = stamp and (before.get("bytes"), before.get("stamp")) == (size, stamp)
            known = known and "digest" in before
            if not known and not self._waits and size > _QUICKLY_READ and file.kind != "builtin":
                raise UnreadSource("it may have changed since it was read", where=file.path)
            digest = before["digest"] if known else _digest(file)
            self._found[file.path] = {"path": file.path, "bytes": size, "stamp": stamp, "digest": digest}
        return self._found[file.path]


def same_contents(before: list[Content], now: list[Content]) -> bool:
    """Whether two lists of files hold the same, in the same order, wherever they lie."""
    if any("digest" not in content for content in before):
        # A manifest of an earlier lossary knows paths and sizes only.
        return [(c["path"], c["bytes"]) for c in before] == [(c["path"], c["bytes"]) for c in now]
    return [c["digest"] for c in before] == [c["digest"] for c in now]


def check_unchanged(file: SourceFile, content: Content) -> None:
    """Raises SourceError if a file is no longer the one whose content was told."""
    if _stamp(file) != (content["stamp"], content["bytes"]):
        raise SourceError("the file changed while it was read", where=file.path, hint="Run the command again.")


def _stamp(file: SourceFile) -> tuple[str, int]:
    if file.kind == "builtin" or "://" in file.path:
        return file.stamp, file.bytes
    try:
        found = Path(file.path).stat()
    except OSError as error:
        raise SourceError(f"not readable: {error.strerror}", where=file.path) from None
    if not stat.S_ISREG(found.st_mode):
        raise SourceError("not an ordinary file", where=file.path)
    return f"{found.st_mtime_ns}:{found.st_ino}", found.st_size


def _digest(file: SourceFile) -> str:
    if file.kind == "builtin":
        return f"builtin:{file.stamp}:{file.bytes}"
    if file.kind == "yt":
        # The cluster counts changes of a table's content.
        return f"yt:{file.stamp}"
    try:
        with file.open() as handle:
            return digest_stream(handle)
    except OSError as error:
        raise SourceError(f"not readable: {error.strerror or error}", where=file.path) from None

"""What goes wrong outside of lossary's own errors, as one of them: a full disk, a folder without permission, no memory.

The two boundaries use it, the command line and a worker's `main`; code between them lets an OSError rise. What is left
over is a mistake of lossary's own: `internal` says so, and keeps the traceback where it can be sent from.
"""

import errno
import os
import re
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from lossary.errors import DataError, InternalError, Interrupted, LossaryError, MachineError, UsageError

__all__ = ["STREAMS", "TRACEBACK_VARIABLE", "error_code", "explain", "internal", "reason"]

TRACEBACK_VARIABLE = "LOSSARY_TRACEBACK"
# What stands for a file's name in errors of a stream.
STREAMS = {1: "standard output", 2: "standard error"}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_OTHER_KIND = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR})
_HINTS = {
    errno.EACCES: "Give yourself the permission, or use a folder of your own.",
    errno.EPERM: "Give yourself the permission, or use a folder of your own.",
    errno.EROFS: "Copy the study to a file system that can be written to.",
    errno.EFBIG: "Raise the limit of a file's size (`ulimit -f`), or use another file system.",
    errno.ENAMETOOLONG: "Use shorter names, or a folder with a shorter path.",
    errno.ELOOP: "A symbolic link leads back to itself: remove it.",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`).",
    errno.ENFILE: "The machine has too many files open: close other programs.",
    errno.EIO: "The disk or the network file system fails; the machine's log says more.",
    errno.ESTALE: "A network file system lost the file: try again.",
    errno.ENOMEM: "Free memory, or ask for less at once: fewer --jobs and --workers, a smaller batch.",
    errno.EAGAIN: "The machine allows no more processes or threads (`ulimit -u`): use fewer --jobs and --workers.",
    errno.ENOENT: "It was there a moment ago, or a part of its path is missing.",
}
# What libraries in C++ and Rust make of an errno.
_ERRNO = re.compile(r"\b(?:os error|errno:?) (\d+)\b", re.IGNORECASE)
_NAMED = {os.strerror(code).lower(): code for code in (*_FULL, *_HINTS) if code not in (errno.ENOENT, errno.EAGAIN)}
# Libraries by which file systems reach other machines; their errors are of no common kind.
_OF_NETWORKS = frozenset(
    {
        "aiohttp",
        "httpx",
        "httpcore",
        "requests",
        "urllib3",
        "botocore",
        "aiobotocore",
        "gcsfs",
        "google",
        "azure",
        "adlfs",
        "huggingface_hub",
        "paramiko",
    }
)
_NO_MEMORY = re.compile(
    r"out of memory|can.t allocate memory|unable to allocate|bad_alloc|resource_?exhausted|OOM when", re.IGNORECASE
)


def explain(error: BaseException) -> LossaryError | None:
    """`error` as one that a user can read; None if nothing but a mistake of lossary's own can have caused it."""
    if isinstance(error, LossaryError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    if isinstance(error, UnicodeEncodeError):
        return UsageError(
            f"the terminal's encoding, {error.encoding}, cannot show {error.object[error.start]!a}",
            hint="Set PYTHONIOENCODING=utf-8, or write to a file with --out.",
        )
    if isinstance(error, RecursionError):
        return DataError(
            "a file is nested too deeply to be read", hint="A JSON or TOML file of so many levels is damaged."
        )
    code = error_code(error)
    if code is not None or isinstance(error, OSError):
        return _refused(error, code)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return MachineError(f"not enough memory: {_first_line(error)}".rstrip(": "), hint=_HINTS[errno.ENOMEM])
    if _is_of_network(error):
        return MachineError(
            f"no usable answer: {type(error).__name__}: {_first_line(error)}".rstrip(": "),
            hint="Is the address right, is the network there, and may you read it? Then run the command again.",
        )
    if isinstance(error, RuntimeError) and "symlink loop" in str(error).lower():
        return MachineError(_first_line(error), hint=_HINTS[errno.ELOOP])
    return None


def _is_of_network(error: BaseException) -> bool:
    """Whether a library that reaches other machines says it, or what such a library raised stands behind it."""
    # Some libraries have their number in their name: httpx2.
    if type(error).__module__.partition(".")[0].rstrip("0123456789") in _OF_NETWORKS:
        return True
    return error.__cause__ is not None and _is_of_network(error.__cause__)


def reason(error: BaseException) -> str:
    """Why, in a few words, for a message that names the file itself: `permission denied`."""
    code = error_code(error)
    return os.strerror(code).lower() if code is not None else _first_line(error) or type(error).__name__


def internal(error: BaseException, *, keep: bool = True) -> InternalError:
    """A mistake of lossary's own. The traceback goes to a file, or to standard error if that is wished or all there is.

    `keep` False: standard error is a log already.
    """
    text = "".join(traceback.format_exception(error))
    path = _write(text) if keep and not os.environ.get(TRACEBACK_VARIABLE) else None
    if path is None:
        print(text, file=sys.stderr, flush=True)
    place = f"; the traceback is in {path}" if path else ""
    said = f"{type(error).__name__}: {_first_line(error)}".rstrip(": ")
    return InternalError(
        f"a mistake of lossary's own, not of yours: {said}{place}",
        hint="Please report it where you have lossary from, with the traceback and the command.",
    )


def _write(text: str) -> Path | None:
    try:
        handle, name = tempfile.mkstemp(prefix="lossary-traceback-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return None
    return Path(name)


def error_code(error: BaseException) -> int | None:
    """The errno of an error, also of one that a library wrapped into its text."""
    if isinstance(error, OSError) and error.errno:
        # Names of hosts that are not found have numbers of their own, below zero.
        return error.errno if error.errno > 0 else None
    if isinstance(error, MemoryError | LookupError | AssertionError):
        return None
    text = str(error)
    if found := _ERRNO.search(text):
        return int(found[1])
    return next((code for words, code in _NAMED.items() if words in text.lower()), None)


def _refused(error: BaseException, code: int | None) -> MachineError:
    name = getattr(error, "filename", None)
    where = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else None
    message = os.strerror(code).lower() if code is not None else _first_line(error) or type(error).__name__
    # What a library says may name the file that the error itself does not.
    if where is None and code is not None and not isinstance(error, OSError | BlockingIOError):
        message = f"{message}: {_first_line(error)}"
    details = [message, *getattr(error, "__notes__", [])]
    hint = _HINTS.get(code or 0)
    if code in _OTHER_KIND and where is not None and (found := _of_other_kind(Path(where))) is not None:
        where, details = str(found[0]), [found[1]]
        hint = "Move it away, or put what was there in its place."
    if code in _FULL and where not in STREAMS.values():
        hint = f"Free space{_free(where)}, then run the command again: it goes on where it stopped."
    return MachineError("; ".join(details), where=where, hint=hint)


def _of_other_kind(path: Path) -> tuple[Path, str] | None:
    """What stands in the way of a file or a folder, because it is the other, or a link to nothing."""
    if path.is_dir():
        return path, "a file is expected here, and there is a folder"
    for found in (path, *path.parents):
        if found.is_symlink() and not found.exists():
            return found, f"a link leads to {os.readlink(found)}, which is not there"
        if found.exists():
            return None if found.is_dir() else (found, "a folder is expected here, and there is a file")
    return None


def _free(where: str | None) -> str:
    """How much is free where a file should have been written."""
    path = Path(where or os.curdir).absolute()
    for folder in (path, *path.parents):
        if folder.is_dir():
            found = os.statvfs(folder)
            if found.f_files and not found.f_favail:
                return " (there are too many files: none can be made, whatever space is left)"
            return f" (there are {shutil.disk_usage(folder).free / 1e6:,.0f} MB left)"
    return ""


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else ""

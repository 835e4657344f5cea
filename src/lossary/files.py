"""Files that are whole or absent: atomic writes, JSON with checksums, and digests.

with write_atomic(path) as temporary:
    temporary.write_bytes(data)         # `path` appears, complete, when the block ends
"""

import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lossary.errors import DataError, LossaryError
from lossary.failures import error_code, reason

__all__ = [
    "Kept",
    "check_json",
    "checksummed",
    "clear_leftovers",
    "digest_bytes",
    "digest_file",
    "digest_json",
    "digest_stream",
    "is_kept",
    "kept_in_cache",
    "made_folder",
    "parse_json",
    "read_json",
    "write_atomic",
    "write_directory_atomic",
    "write_json",
    "write_plain_json",
]

_CHECKSUM = "checksum"
# Names of `_sibling`, and of folders that `tempfile` made in the same way.
_LEFTOVER = re.compile(r"\..+\.[0-9a-z_]{8,12}\.(tmp|old)")
_DIGEST = "blake2b:"


@contextmanager
def write_atomic(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` that takes its place when the block ends, and vanishes if the block fails.

    An OSError names `path`, and how much of it was written. Modes follow the umask. What is no file but a device, a
    pipe or a stream of this process (`/dev/stdout`) stays what it is: it is given all bytes when the block ends.
    """
    if _is_stream(path):
        with tempfile.TemporaryDirectory(prefix="lossary-") as folder:
            whole = Path(folder) / path.name
            whole.touch()
            yield whole
            _pour(whole, path)
        return
    temporary = _sibling(path, "tmp")
    with made_folder(path.parent):
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
            _sync(temporary)
            temporary.replace(path)
        except Exception as error:
            raise _named(error, path, temporary) from error.__cause__
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def made_folder(path: Path) -> Iterator[Path]:
    """A folder that is there while something is written to it; those that were made for it go again after an error.

    What stands in one of them by then stays, and it with that.
    """
    made = list(takewhile(lambda folder: not folder.exists(), (path, *path.parents)))
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield path
    except BaseException:
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def write_directory_atomic(path: Path) -> Iterator[Path]:
    """As `write_atomic`, for a directory; one that stands at `path` already is replaced."""
    temporary = _sibling(path, "tmp")
    with made_folder(path.parent):
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
            _put(temporary, path)
            _sync(path.parent)
        except Exception as error:
            raise _named(error, path, temporary) from error.__cause__
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.replace(path)
        return
    # A directory cannot be replaced in one step: the old one steps aside first, so that one of both is whole.
    aside = _sibling(path, "old")
    path.replace(aside)
    try:
        temporary.replace(path)
    except BaseException:
        aside.replace(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _is_stream(path: Path) -> bool:
    """Whether a file that takes the place of `path` would take the place of a device, a pipe or a process' stream."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    if stat.S_ISREG(mode):
        # Streams of a process are links, and what stands behind them may be a file that somebody else holds open.
        return path.is_symlink() and path.absolute().parts[1:2] in (("dev",), ("proc",))
    return not stat.S_ISDIR(mode)


def _pour(whole: Path, stream: Path) -> None:
    try:
        with stream.open("wb") as out:
            out.write(whole.read_bytes())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(stream)) from None


def clear_leftovers(folder: Path, name: str = "", *, older_than_s: float | None = None) -> None:
    """Removes what writes in a folder left that were killed, all or those of one name.

    For whoever alone may write there: nothing tells them from writes that are going on. Where others may write,
    `older_than_s` spares what was changed since.
    """
    for path in folder.glob(f".{name}*"):
        if _LEFTOVER.fullmatch(path.name):
            with suppress(FileNotFoundError):
                if older_than_s is not None and time.time() - path.lstat().st_mtime < older_than_s:
                    continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.{suffix}")


def _named(error: Exception, path: Path, temporary: Path) -> Exception:
    """An error of a file that is written says which, and how far it came; any other is left as it is."""
    code = error_code(error)
    named = getattr(error, "filename", None)
    if code is None or isinstance(error, LossaryError):
        return error
    if named is not None and temporary not in (own := Path(os.fsdecode(named)), *own.parents) and own != path:
        return error
    found = OSError(code, os.strerror(code), str(path)).with_traceback(error.__traceback__)
    with suppress(OSError):
        if temporary.is_file() and (size := temporary.stat().st_size):
            found.add_note(f"{size:,} bytes of it were written")
    return found


def write_json(path: Path, value: Any) -> None:
    """Writes canonical JSON: sorted keys, no NaN, a newline at the end; an object with a checksum of itself."""
    write_plain_json(path, checksummed(value) if isinstance(value, Mapping) else value)


def write_plain_json(path: Path, value: Any) -> None:
    """As `write_json`, for files of other programs: nothing is added."""
    with write_atomic(path) as temporary:
        temporary.write_text(_text_of(value), encoding="utf-8")


def _text_of(value: Any) -> str:
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def checksummed(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object with the digest of its content, as it will be read back; `read_json` compares and drops it."""
    content = json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False))
    return {**content, _CHECKSUM: digest_json(content)}


def read_json(path: Path) -> Any:
    """Reads JSON, and compares its checksum where it has one, as all that `write_json` wrote has.

    DataError names the file if it is missing, not JSON, not what was written, or when a key is asked for that it lacks.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError("no such file", where=str(path)) from None
    except OSError as error:
        raise DataError(f"not readable: {reason(error)}", where=str(path)) from None
    except ValueError as error:
        raise DataError(f"not readable as JSON: {error}", where=str(path)) from None
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> Any:
    """As `read_json`, of a text that was read at `where`."""
    try:
        value = json.loads(text, object_pairs_hook=lambda pairs: _Object(where, pairs))
    except RecursionError:
        raise DataError("not readable as JSON: nested too deeply", where=where) from None
    except ValueError as error:
        raise DataError(f"not readable as JSON: {error}", where=where) from None
    if not isinstance(value, _Object):
        return value
    found = value.pop(_CHECKSUM) if isinstance(value.get(_CHECKSUM), str) else None
    if found is None and any(_is_damaged_key(*item) for item in value.items()):
        raise _changed(where, "the name of its checksum is damaged")
    if found is not None and found != digest_json(value):
        raise _changed(where, "its checksum is another, so something in it changed")
    return value


def _is_damaged_key(name: str, value: Any) -> bool:
    """Whether this is a checksum, but for one character of its name."""
    is_near = len(name) == len(_CHECKSUM) and sum(a != b for a, b in zip(name, _CHECKSUM, strict=True)) == 1
    return is_near and isinstance(value, str) and value.startswith(_DIGEST)


def _changed(where: str, why: str) -> DataError:
    hint = "Restore it from a copy; `lossary verify` says what can be made again, and how."
    return DataError(f"not what was written: {why}", where=where, hint=hint)


def check_json(path: Path) -> bool:
    """Compares a JSON file with its checksum, and its text with what `write_json` makes of it, down to white space.

    False if it has no checksum; DataError as `read_json`.
    """
    read_json(path)
    text = path.read_text(encoding="utf-8")
    value = json.loads(text)
    if not isinstance(value, dict) or not isinstance(value.get(_CHECKSUM), str):
        return False
    if text != _text_of(value):
        raise _changed(str(path), "every value in it is, and its white space or spelling is another")
    return True


class _Object(dict[str, Any]):
    """An object of a JSON file: the file is to blame if it lacks a key."""

    def __init__(self, where: str, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._where = where

    def __missing__(self, key: str) -> Any:
        raise DataError(f"damaged, or of another version of lossary: it has no {key!r}", where=self._where)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Object, (self._where, list(self.items()))


def digest_bytes(data: bytes) -> str:
    """`blake2b:` and 32 hexadecimal digits."""
    return _DIGEST + hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_file(path: Path) -> str:
    """The digest of a file's bytes, in constant memory."""
    with path.open("rb") as file:
        return digest_stream(file)


def digest_stream(file: BinaryIO) -> str:
    """The digest of what a stream yields to its end, in constant memory."""
    found = GrowingDigest()
    while data := file.read(1 << 20):
        found.add(data)
    return str(found)


class GrowingDigest:
    """The digest of what is added, part after part."""

    def __init__(self) -> None:
        self._hasher = hashlib.blake2b(digest_size=16)

    def add(self, data: bytes | memoryview) -> None:
        """Adds bytes to the end."""
        self._hasher.update(data)

    def __str__(self) -> str:
        return _DIGEST + self._hasher.hexdigest()


def digest_json(value: Any) -> str:
    """The digest of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return digest_bytes(text.encode())


class Kept(NamedTuple):
    """What was made once, and the same compressed (gzip)."""

    content: bytes
    packed: bytes


def kept_in_cache(name: str, make: Callable[[], bytes]) -> Kept:
    """What `make` gives, kept in the user's cache (`$XDG_CACHE_HOME/lossary`) under a name that says all it depends on.

    What is damaged there is made again. Without a cache, as in a read-only home, it takes longer; nothing else changes.
    """
    packed = b""
    path = _in_cache(name)
    with suppress(OSError, EOFError, zlib.error):
        if path is not None:
            packed = path.read_bytes()
            return Kept(gzip.decompress(packed), packed)
    content = make()
    packed = gzip.compress(content, compresslevel=9, mtime=0)
    with suppress(OSError):
        if path is not None:
            with write_atomic(path) as temporary:
                temporary.write_bytes(packed)
    return Kept(content, packed)


def is_kept(name: str) -> bool:
    """Whether something lies in the user's cache."""
    path = _in_cache(name)
    return path is not None and path.is_file()


def _in_cache(name: str) -> Path | None:
    with suppress(RuntimeError):  # Nobody knows where this user's home is.
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lossary" / name
    return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

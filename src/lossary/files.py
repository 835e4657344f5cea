"""Files that are whole or absent: atomic writes, JSON and digests.

with write_atomic(path) as temporary:
    temporary.write_bytes(data)         # `path` appears, complete, when the block ends
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lossary.errors import DataError

__all__ = [
    "digest_bytes",
    "digest_file",
    "digest_json",
    "read_json",
    "write_atomic",
    "write_directory_atomic",
    "write_json",
]


@contextmanager
def write_atomic(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` that takes its place when the block ends, and vanishes if the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_directory_atomic(path: Path) -> Iterator[Path]:
    """As `write_atomic`, for a directory; one that stands at `path` already is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        temporary.chmod(0o755)
        if path.exists():
            # A directory cannot be replaced in one step: the old one steps aside first, so that one of both is whole.
            aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(aside / path.name)
            temporary.replace(path)
            shutil.rmtree(aside)
        else:
            temporary.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes canonical JSON: sorted keys, no NaN, a newline at the end."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    with write_atomic(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads JSON; DataError names the file if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("no such file", where=str(path)) from None
    except (ValueError, OSError) as error:
        raise DataError(f"not readable as JSON: {error}", where=str(path)) from None


def digest_bytes(data: bytes) -> str:
    """`blake2b:` and 32 hexadecimal digits."""
    return "blake2b:" + hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_file(path: Path) -> str:
    """The digest of a file's bytes, in constant memory."""
    with path.open("rb") as file:
        return "blake2b:" + hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_json(value: Any) -> str:
    """The digest of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return digest_bytes(text.encode())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Objects at a URL that fsspec opens: put, read, listed, deleted, patiently; what cannot be is a StoreError.

    store = ObjectStore("s3://bucket/study")
    store.put("manifests/000000000001-ab.json", data)

Nothing is changed in place: a name is written once, or again with the same bytes; only signs of life are replaced.
"""

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import fsspec

from lossary.errors import StoreError
from lossary.files import write_atomic

__all__ = ["Entry", "ObjectStore"]

_ATTEMPTS = 6
_LONGEST_PAUSE_S = 8.0
_CHUNK = 1 << 20
_PART = 8 << 20
_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials, as for other clients."
# What a store says that no patience changes: what is told, and what to do.
_FINAL = (
    (r"no.?such.?bucket|bucket.*(not|n't) exist", "there is no such bucket", "Make it, or look at its name."),
    (
        r"invalid.?access.?key|invalid.?client.?token|unrecognized.?client|expired.?token|signature.?does.?not.?match"
        r"|no.?credentials|unable to locate credentials|http status 401|unauthori[sz]ed",
        "the store does not take the credentials, or there are none",
        _CREDENTIALS,
    ),
    (
        r"access.?denied|forbidden|http status 403|permission denied",
        "no permission, or no credentials",
        f"Ask whoever keeps it. {_CREDENTIALS}",
    ),
    (r"no space left|quota", "it is full", "Free space there, then run the command again: what is made is kept here."),
)
_Found = TypeVar("_Found")


class Entry(NamedTuple):
    """An object: its name, its bytes, and when it was written by the store's clock, in seconds since 1970."""

    name: str
    bytes: int
    time: float


class ObjectStore:
    """Objects under one URL."""

    pause_s = 0.25  # before the second attempt; each other one waits for twice as long

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._is_folder = url.startswith("file://")
        try:
            self.system, self._root = _opened(self.url)
        except ImportError as error:
            raise StoreError(str(error), where=url, hint="Install the package that the message names.") from None
        except (ValueError, OSError) as error:
            raise StoreError(f"no store: {error}", where=url) from None

    def read(self, name: str) -> bytes:
        """The bytes of an object. FileNotFoundError if there is none."""
        found: bytes = self._patiently(name, lambda: self.system.cat_file(self._path(name)))
        return found

    def fetch(self, name: str, path: Path, size: int) -> None:
        """Writes the first `size` bytes of an object to a file, in constant memory. FileNotFoundError if there is none.

        Part by part, so that a connection that breaks costs no more than one.
        """

        def part(start: int) -> bytes:
            with self.system.open(self._path(name), "rb") as source:
                source.seek(start)
                found: bytes = source.read(min(_PART, size - start))
                return found

        with path.open("wb") as target:
            for start in range(0, size, _PART):
                target.write(self._patiently(name, partial(part, start)))

    def put(self, name: str, data: bytes) -> None:
        """Stores an object."""

        def action() -> None:
            if self._is_folder:
                with write_atomic(Path(self._path(name))) as temporary:
                    temporary.write_bytes(data)
            else:
                self.system.pipe_file(self._path(name), data)

        self._patiently(name, action)

    def send(self, name: str, path: Path) -> None:
        """Stores a file as an object, in constant memory."""

        def action() -> None:
            if self._is_folder:
                with write_atomic(Path(self._path(name))) as temporary:
                    shutil.copyfile(path, temporary)
                return
            with path.open("rb") as source, self.system.open(self._path(name), "wb") as target:
                while data := source.read(_CHUNK):
                    target.write(data)

        self._patiently(name, action)

    def bytes_of(self, name: str) -> int | None:
        """The size of an object; None if there is none."""
        try:
            return int(self._patiently(name, lambda: self.system.info(self._path(name)))["size"])
        except FileNotFoundError:
            return None

    def entries(self, folder: str) -> list[Entry]:
        """The objects right below a folder, in the order of their names; none where it is not there."""

        def action() -> list[dict[str, Any]]:
            self.system.invalidate_cache()
            return list(self.system.ls(self._path(folder), detail=True))

        try:
            found = self._patiently(folder, action)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(
            Entry(f"{folder}/{info['name'].rstrip('/').rpartition('/')[2]}", int(info["size"] or 0), _time_of(info))
            for info in found
            if info["type"] == "file"
        )

    def delete(self, name: str) -> None:
        """Deletes an object, if there is one."""

        def action() -> None:
            try:
                self.system.rm_file(self._path(name))
            except FileNotFoundError:
                return

        self._patiently(name, action)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _patiently(self, name: str, action: Callable[[], _Found]) -> _Found:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return action()
            except (FileNotFoundError, NotADirectoryError) as error:
                if _final(error) is None:
                    raise
                failed: Exception = error
            except Exception as error:
                # Clients raise errors of their own kinds: aiohttp, botocore, google, arrow.
                failed = error
            final = _final(failed)
            if final is not None:
                raise StoreError(final[0], where=self.url, hint=final[1]) from failed
            if attempt < _ATTEMPTS:
                pause = min(_LONGEST_PAUSE_S, self.pause_s * 2 ** (attempt - 1))
                time.sleep(pause * random.uniform(0.5, 1.0))
        said = (str(failed).splitlines() or [""])[0] or type(failed).__name__
        raise StoreError(
            f"the store did not answer, {_ATTEMPTS} times: {said}",
            where=f"{self.url}/{name}",
            hint="Is the network there, and the address right? What is made is kept on this machine: run it again.",
        ) from failed


def _opened(url: str) -> tuple[Any, str]:
    scheme, _, path = url.partition("://")
    if scheme != "s3":
        more = {"auto_mkdir": True} if scheme == "file" else {"use_listings_cache": False}
        system, root = fsspec.core.url_to_fs(url, **more)
        return system, str(root).rstrip("/")
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    kind, _, address = endpoint.rpartition("://")
    system = S3FileSystem(
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        endpoint_override=address or None,
        scheme=kind or None,
        connect_timeout=10.0,
        request_timeout=60.0,
        # Small objects in one request, so that they are there at once or not at all.
        allow_delayed_open=True,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=2),
    )
    return ArrowFSWrapper(system, use_listings_cache=False, skip_instance_cache=True), path


def _final(error: Exception) -> tuple[str, str] | None:
    """What no patience changes: what is told, and what to do."""
    if isinstance(error, PermissionError):
        return _FINAL[2][1:]
    said = str(error)
    return next(((told, hint) for words, told, hint in _FINAL if re.search(words, said, re.IGNORECASE)), None)


def _time_of(info: dict[str, Any]) -> float:
    found = next(info[key] for key in ("mtime", "LastModified", "last_modified", "updated", "created") if key in info)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    return found.timestamp() if isinstance(found, datetime) else float(found)

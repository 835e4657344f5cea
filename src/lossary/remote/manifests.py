"""What a study at a URL holds: contents, and manifests of which path has which; the one with the highest number counts.

    manifests/000000000012-1f03a9c2.json     paths with digest, bytes and time; number; the manifest that it follows
    objects/<32 hex digits>                  a file's bytes, named by their digest

A manifest is written once, last, in one step, so that what is read is one state or the next. Not all stores have
conditional writes: a writer looks again when it has written, and takes its manifest back where another has the number.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lossary.errors import BusyError, DataError
from lossary.files import checksummed, parse_json
from lossary.remote.store import Entry, ObjectStore

__all__ = [
    "Manifest",
    "Stored",
    "add_manifest",
    "manifest_entries",
    "manifest_of",
    "moved_on",
    "new_name",
    "newest_manifest",
    "next_number",
    "object_name",
]

_FOLDER = "manifests"
_SCHEMA = 1
_DIGEST = re.compile(r"blake2b:[0-9a-f]{32}")
_NAME = re.compile(rf"{_FOLDER}/(\d{{12}})-[0-9a-f]{{8}}\.json")


class Stored(NamedTuple):
    """A file's content: its digest (`blake2b:` and hex), its bytes, and its time of change in ns since 1970."""

    digest: str
    bytes: int
    time: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One state of a study; `name` is "" where there is none yet."""

    name: str = ""
    number: int = 0
    parent: str = ""
    files: Mapping[str, Stored] = field(default_factory=dict)


def object_name(digest: str) -> str:
    """Where the content of a digest lies."""
    return f"objects/{digest.rpartition(':')[2]}"


def new_name(number: int) -> str:
    """A name for a manifest that nobody else gives."""
    return f"{_FOLDER}/{number:012d}-{secrets.token_hex(4)}.json"


def manifest_entries(store: ObjectStore) -> list[Entry]:
    """All manifests, the newest at the head; of two with a number, the one that was there first."""
    found = [entry for entry in store.entries(_FOLDER) if _NAME.fullmatch(entry.name)]
    return sorted(found, key=lambda entry: (-_number(entry.name), entry.time, entry.name))


def newest_manifest(store: ObjectStore) -> Manifest:
    """The newest whole manifest; an empty one if there is none. DataError if it is damaged."""
    for entry in manifest_entries(store):
        if (manifest := manifest_of(store, entry.name)).name:
            return manifest
    return Manifest()


def manifest_of(store: ObjectStore, name: str) -> Manifest:
    """A manifest by its name; an empty one if it is gone, or a part of one. DataError if it is damaged."""
    try:
        data = store.read(name)
    except FileNotFoundError:
        return Manifest()
    # Where a write is no single step, the one that was killed in it left a part.
    return _parsed(name, data, store.url) if data.endswith(b"}\n") else Manifest()


def next_number(store: ObjectStore) -> int:
    """Above all that are there, whole or not."""
    return max((_number(entry.name) for entry in manifest_entries(store)), default=0) + 1


def add_manifest(store: ObjectStore, manifest: Manifest) -> None:
    """Makes a manifest the newest. BusyError, and nothing changed, where another one has its number by then."""
    value = {
        "schema": _SCHEMA,
        "number": manifest.number,
        "parent": manifest.parent,
        "files": {path: list(stored) for path, stored in manifest.files.items()},
    }
    text = json.dumps(checksummed(value), sort_keys=True, ensure_ascii=False, allow_nan=False)
    store.put(manifest.name, f"{text}\n".encode())
    if any(_number(entry.name) >= manifest.number for entry in manifest_entries(store) if entry.name != manifest.name):
        store.delete(manifest.name)
        raise moved_on(store)


def moved_on(store: ObjectStore) -> BusyError:
    """What is told to a writer whose study is another one by now."""
    return BusyError(
        "somebody else changed the study there while this process worked on it; nothing of it was replaced",
        where=store.url,
        hint="Run the command again: it begins with what is there now.",
    )


def _number(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else -1


def _parsed(name: str, data: bytes, url: str) -> Manifest:
    where = f"{url}/{name}"
    value = parse_json(data.decode(errors="replace"), where)
    if not isinstance(value, dict) or value["schema"] != _SCHEMA:
        raise DataError("a manifest of another version of lossary", where=where)
    try:
        files = {
            path: Stored(str(digest), int(size), int(time)) for path, (digest, size, time) in value["files"].items()
        }
    except (AttributeError, TypeError, ValueError):
        raise DataError("no manifest of a study", where=where) from None
    for path, stored in files.items():
        if not _DIGEST.fullmatch(stored.digest):
            raise DataError(f"{path} has the digest {stored.digest!r}", where=where)
        if path.startswith("/") or ".." in path.split("/") or "\\" in path or not path:
            raise DataError(f"it names the path {path!r}, which leaves the folder", where=where)
    return Manifest(name=name, number=int(value["number"]), parent=str(value["parent"]), files=files)

"""A study at a URL for reading: a folder with one state of it, or one that follows the newest.

    with reading("s3://bucket/study", Wants.TABLES) as folder: ...

Nothing is waited for and nothing written there. Folders of one state are shared by processes, and go when another state
is read and nobody uses them.
"""

import fcntl
import os
import secrets
import shlex
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lossary.errors import DataError, LossaryError, StudyError
from lossary.files import digest_bytes, write_json
from lossary.remote.cache import Contents, cache_folder, place
from lossary.remote.claims import Claimed, claims_of
from lossary.remote.manifests import Manifest, Stored, newest_manifest
from lossary.remote.scan import LOGS
from lossary.remote.store import ObjectStore
from lossary.remote.wants import Wants

__all__ = ["Following", "bring", "contents", "gone", "known_state", "reading", "said_of", "study_cache"]

_REFRESH_S = 10.0
_TRIES = 3


def contents() -> Contents:
    """The contents that this user's studies share."""
    return Contents(cache_folder() / "contents")


def study_cache(url: str) -> Path:
    """Where folders of a study at a URL are kept here."""
    return cache_folder() / "studies" / digest_bytes(url.rstrip("/").encode()).rpartition(":")[2][:16]


def known_state(store: ObjectStore) -> Manifest:
    """The newest state. StudyError where there is no study."""
    manifest = newest_manifest(store)
    if not manifest.name:
        raise StudyError(
            "there is no study",
            where=store.url,
            hint=f"`lossary push FOLDER {shlex.quote(store.url)}` puts one there; a plain copy of a folder is none.",
        )
    return manifest


def bring(
    store: ObjectStore, files: Mapping[str, Stored], root: Path, wants: Wants, *, anew: bool = False
) -> Iterator[str]:
    """Puts files of a state below `root`, those that are not there or all; yields the path of each.

    FileNotFoundError where the store has a content no more: another state took the place of this one.
    """
    kept = contents()
    for path, stored in files.items():
        if wants.takes(path, stored) and (anew or not (root / path).exists()):
            place(kept.get(store, stored), root / path, is_own=path.startswith(LOGS) or "/" not in path)
            yield path


@contextmanager
def reading(url: str, wants: Wants) -> Iterator[Path]:
    """A folder with the newest state of a study, which others may share: it is for reading alone."""
    store = ObjectStore(url)
    folders = study_cache(url) / "read"
    folders.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _TRIES + 1):
        manifest = known_state(store)
        root = folders / Path(manifest.name).stem
        with (folders / f"{root.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            root.mkdir(exist_ok=True)
            try:
                for _ in bring(store, manifest.files, root, wants):
                    pass
            except FileNotFoundError:
                if attempt < _TRIES:
                    continue
                raise gone(store) from None
            _mirror_claims(store, root)
            _forget(folders, but=root.name)
            contents().prune()
            with said_of(root, url):
                yield root
            return


class Following:
    """A folder of this process that is brought up to date every ten seconds, for those who watch."""

    def __init__(self, url: str, wants: Wants = Wants.TABLES) -> None:
        self._store, self._wants = ObjectStore(url), wants
        self.root = study_cache(url) / "read" / f"follow-{secrets.token_hex(8)}"
        self._lock = self.root.with_name(f"{self.root.name}.lock")
        self._state = Manifest()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="follow")

    def __enter__(self) -> Path:
        self.root.mkdir(parents=True)
        # What a process that was killed leaves is unlocked, and goes with the next state.
        self._held = self._lock.open("a")
        fcntl.flock(self._held, fcntl.LOCK_SH)
        known_state(self._store)
        self.refresh()
        self._thread.start()
        return self.root

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        shutil.rmtree(self.root, ignore_errors=True)
        self._held.close()
        self._lock.unlink(missing_ok=True)

    def refresh(self) -> None:
        """The newest state in place of the one before, file by file, as whoever writes a folder does."""
        newest = newest_manifest(self._store)
        if newest.name and newest.name != self._state.name:
            before = self._state.files
            other = {path: stored for path, stored in newest.files.items() if before.get(path) != stored}
            with suppress(FileNotFoundError):  # There is a newer state already: the next look finds it.
                for _ in bring(self._store, other, self.root, self._wants, anew=True):
                    pass
                for path in before.keys() - newest.files.keys():
                    (self.root / path).unlink(missing_ok=True)
                    _drop_empty((self.root / path).parent, self.root)
                self._state = newest
        _mirror_claims(self._store, self.root)

    def _follow(self) -> None:
        while not self._ended.wait(_REFRESH_S):
            # What cannot be reached now may be in ten seconds; what was read stays.
            with suppress(LossaryError, OSError):
                self.refresh()


@contextmanager
def said_of(root: Path, url: str) -> Iterator[None]:
    """Errors name the study as the user does."""
    try:
        yield
    except LossaryError as error:
        error.message = error.message.replace(str(root), url)
        error.where = error.where and error.where.replace(str(root), url)
        error.hint = error.hint and error.hint.replace(str(root), url)
        raise


def _mirror_claims(store: ObjectStore, root: Path) -> None:
    """Who works there, as leases of the folder: `status` and others read these."""
    leases = root / "leases"
    wanted = {name: (record, claim) for claim in claims_of(store) for name, record in _leases_of(claim)}
    if leases.is_dir():
        for path in leases.glob("*.json"):
            if path.stem not in wanted:
                path.unlink(missing_ok=True)
    for name, (record, claim) in wanted.items():
        status = root.stat()
        write_json(
            leases / f"{name}.json",
            record | {"root": str(root.resolve()), "inode": [status.st_dev, status.st_ino]},
        )
        # Silence is counted by our clock from here on.
        seen = min(claim.seen, time.time())
        os.utime(leases / f"{name}.json", (seen, seen))


def _leases_of(claim: Claimed) -> Iterator[tuple[str, dict[str, object]]]:
    for lease in claim.leases:
        name, record = lease.get("name"), lease.get("record")
        if isinstance(name, str) and name and "/" not in name and not name.startswith(".") and isinstance(record, dict):
            yield name, record


def _forget(folders: Path, *, but: str) -> None:
    """Deletes folders of other states that nobody reads."""
    for folder in folders.iterdir():
        if folder.is_dir() and folder.name != but:
            with suppress(OSError), (folders / f"{folder.name}.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)


def _drop_empty(folder: Path, root: Path) -> None:
    with suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def gone(store: ObjectStore) -> DataError:
    """What is told where the newest state cannot be read."""
    return DataError(
        "contents that the newest state names are not there", where=store.url, hint="Restore them from a copy."
    )

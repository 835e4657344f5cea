"""A study at a URL for writing: a folder of this machine, whose changes go there as new states.

    with working("s3://bucket/study", doing="train", wants=Wants.WORK) as folder: ...

What stands is committed whenever something became whole in it (a dataset, a checkpoint, scores), and at the end: new
contents first, then the manifest. The folder stays: what could not be committed, because the network was gone or the
process was killed, is there when the command is run again on this machine, unless somebody else went on meanwhile;
then it steps aside, and is said.
"""

import atexit
import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lossary.errors import BusyError, DataError, LossaryError, StoreError
from lossary.files import digest_file, read_json, write_json
from lossary.remote.claims import Claim
from lossary.remote.manifests import (
    Manifest,
    Stored,
    add_manifest,
    manifest_entries,
    manifest_of,
    moved_on,
    new_name,
    newest_manifest,
    next_number,
    object_name,
)
from lossary.remote.readers import bring, contents, gone, known_state, said_of, study_cache
from lossary.remote.scan import LOGS, Look, look, scan
from lossary.remote.store import ObjectStore
from lossary.remote.wants import Wants

__all__ = ["WorkingCopy", "working"]

Note = Callable[[str], None]
_LOOK_EVERY_S = 2.0
# What is whole when it is there, and worth a commit.
_WHOLE = (
    "*/manifest.json",
    "*/*/manifest.json",
    "*/*/*/manifest.json",
    "runs/*/checkpoints/step-*",
    "runs/*/scores/*.parquet",
    "runs/*/sequential/*.parquet",
)
# Readers of a state have so long before it goes.
_GRACE_S = 3600.0
_KEPT_STATES = 2


@contextmanager
def working(
    url: str, *, doing: str, wants: Wants = Wants.WORK, is_new: bool = False, note: Note = lambda _: None
) -> Iterator[Path]:
    """The folder of a study, this process being the only one that writes it; what changed is committed at the end.

    After an error, too: what is made by then is whole. BusyError if another process writes it; StudyError if there is
    no study, unless it `is_new`.
    """
    copy = WorkingCopy(url, note)
    with (
        said_of(copy.root, url),
        Claim(copy.store, doing=doing, leases=copy.leases) as claim,
        copy.opened(claim, wants, is_new=is_new),
    ):
        try:
            yield copy.root
        except BaseException:
            try:
                copy.finish()
            except LossaryError as error:
                note(f"not stored: {error}")
            raise
        copy.finish()


class WorkingCopy:
    """The folder on this machine, and what is known of it."""

    def __init__(self, url: str, note: Note = lambda _: None) -> None:
        self.store = ObjectStore(url)
        self._cache = study_cache(url)
        self.root = self._cache / "work"
        self._record = self._cache / "work.json"
        self._is_user_s = False
        self._note = note
        self._base, self._pending = Manifest(), ""
        self._index: dict[str, tuple[Look, Stored]] = {}  # contents of files that look so
        self._brought: set[str] = set()  # what is deleted of these is deleted there
        self._claim: Claim | None = None
        self._committing = threading.Lock()
        self._ended = threading.Event()

    def leases(self) -> list[dict[str, Any]]:
        """Who works on which part, for those who look at the claim."""
        found = []
        for path in sorted((self.root / "leases").glob("*.json")):
            with suppress(LossaryError):
                found.append({"name": path.stem, "record": read_json(path)})
        return found

    @contextmanager
    def opened(self, claim: Claim, wants: Wants, *, is_new: bool = False) -> Iterator[None]:
        """Brings the folder to the newest state, and commits while it is open."""
        self._claim = claim
        self._cache.mkdir(parents=True, exist_ok=True)
        with (self._cache / "work.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._settle(newest_manifest(self.store) if is_new else known_state(self.store))
            try:
                for path in bring(self.store, self._base.files, self.root, wants):
                    self._index[path] = (look(self.root / path), self._base.files[path])
            except FileNotFoundError:
                raise gone(self.store) from None
            self._brought = {path for path in self._base.files if (self.root / path).exists()}
            self._save()
            follower = threading.Thread(target=self._keep_up, daemon=True, name="commits")
            follower.start()
            # A process that ends in ways that no block sees still gives the claim back.
            atexit.register(claim.__exit__)
            try:
                yield
            finally:
                self._ended.set()
                follower.join()
                atexit.unregister(claim.__exit__)

    def push(self, claim: Claim, folder: Path) -> None:
        """Makes a folder of the user's the newest state, whatever was there."""
        self._claim, self._base = claim, newest_manifest(self.store)
        self.root, self._record, self._is_user_s = folder, self._cache / "push.json", True
        self._cache.mkdir(parents=True, exist_ok=True)
        self._brought = set(self._base.files)
        self.commit()

    def finish(self) -> None:
        """The last commit."""
        self._ended.set()
        self.commit()
        with suppress(LossaryError, OSError):
            self._collect(everything=True)
        contents().prune()

    def commit(self) -> bool:
        """Makes what stands the newest state; False if that is what it is.

        BusyError, and nothing changed there, where it is another's by now; StoreError where the store does not answer.
        """
        with self._committing:
            assert self._claim is not None
            self._claim.check()
            if newest_manifest(self.store).name != self._base.name:
                raise moved_on(self.store)
            files = self._staged()
            if files == self._base.files:
                return False
            number = next_number(self.store)
            manifest = Manifest(name=new_name(number), number=number, parent=self._base.name, files=files)
            self._claim.check()
            self._pending = manifest.name
            self._save()
            add_manifest(self.store, manifest)
            self._base = manifest
            self._brought = {path for path in files if (self.root / path).exists() or path in self._brought}
            self._save()
            with suppress(LossaryError):
                self._collect()
            return True

    def _settle(self, newest: Manifest) -> None:
        """The folder at the newest state: as it stands if it was made from that one, else anew."""
        try:
            record = read_json(self._record)
            base = Manifest(**record["base"] | {"files": {p: Stored(*s) for p, s in record["base"]["files"].items()}})
            index = {path: (Look(*seen), Stored(*stored)) for path, (seen, stored) in record["index"].items()}
            pending = str(record["pending"])
        except (DataError, TypeError, ValueError, AttributeError):
            base, index, pending = Manifest(), {}, ""
        self._index = {path: (seen, stored) for path, (seen, stored) in index.items() if self._looks(path, seen)}
        if self.root.is_dir() and newest.name not in (base.name, pending):
            made = [path for path, seen in scan(self.root).items() if index.get(path, (None,))[0] != seen]
            if made:
                aside = self.root.with_name(f"work-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
                self.root.rename(aside)
                self._note(
                    f"{self.store.url} was changed by somebody else; what this machine had made of the state before "
                    f"lies in {aside}: delete it if nobody needs it"
                )
            shutil.rmtree(self.root, ignore_errors=True)
            self._index = {}
        self.root.mkdir(parents=True, exist_ok=True)
        self._base = newest

    def _looks(self, path: str, seen: Look) -> bool:
        with suppress(OSError):
            return look(self.root / path) == seen
        return False

    def _staged(self) -> dict[str, Stored]:
        """The files as they stand at one moment, their contents stored: they may go or change while it lasts."""
        staging = self._cache / f"staging-{os.getpid()}"
        while True:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            found = scan(self.root)
            new = [path for path, seen in found.items() if self._index.get(path, (None,))[0] != seen]
            try:
                held = {path: _held(self.root / path, staging / str(number)) for number, path in enumerate(new)}
                if all(path.startswith(LOGS) or look(self.root / path) == found[path] for path in new):
                    break
            except FileNotFoundError:
                continue
        try:
            for path, file in held.items():
                self._index[path] = (found[path], self._stored(file))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        gone = self._brought - found.keys()
        kept = {path: stored for path, stored in self._base.files.items() if path not in found and path not in gone}
        now = {path: self._index[path][1] for path in found}
        # Of the same content the older time stays: nothing changed.
        same = {path: old for path, new in now.items() if (old := self._base.files.get(path)) and old[:2] == new[:2]}
        return dict(sorted((kept | now | same).items()))

    def _stored(self, file: Path) -> Stored:
        status = file.stat()
        stored = Stored(digest_file(file), status.st_size, status.st_mtime_ns)
        name = object_name(stored.digest)
        if self.store.bytes_of(name) != stored.bytes:
            self.store.send(name, file)
        if not self._is_user_s:
            contents().add(file, stored)
        return stored

    def _save(self) -> None:
        base = {"name": self._base.name, "number": self._base.number, "parent": self._base.parent}
        files = {path: list(stored) for path, stored in self._base.files.items()}
        index = {path: [list(seen), list(stored)] for path, (seen, stored) in self._index.items()}
        record = {"base": base | {"files": files}, "pending": self._pending, "index": index, "url": self.store.url}
        write_json(self._record, record)

    def _keep_up(self) -> None:
        seen = self._whole()
        while not self._ended.wait(_LOOK_EVERY_S):
            if (now := self._whole()) == seen:
                continue
            try:
                self.commit()
                seen = now
            except StoreError as error:
                self._note(f"not stored yet, and tried again: {error.message}")
            except BusyError:
                # The end of the work tells; the claim's own thread asks to stop.
                return
            except OSError as error:
                self._note(f"not stored yet, and tried again: {error}")

    def _whole(self) -> set[tuple[str, int]]:
        found = set()
        for pattern in _WHOLE:
            for path in self.root.glob(pattern):
                with suppress(OSError):
                    found.add((str(path), path.stat().st_ino))
        return {(path, inode) for path, inode in found if "/." not in path.removeprefix(str(self.root))}

    def _collect(self, *, everything: bool = False) -> None:
        """Deletes states that no reader can be reading any more, and contents of theirs alone; `everything`: also what
        commits left that were cut short."""
        entries = manifest_entries(self.store)
        old = [entry for entry in entries[_KEPT_STATES:] if entries[0].time - entry.time > _GRACE_S]
        if not old and not everything:
            return
        kept: set[str] = set()
        for entry in entries:
            if entry not in old:
                kept |= self._named(entry.name)
        for entry in old:
            self.store.delete(entry.name)
        for entry in self.store.entries("objects"):
            if entry.name not in kept and entries[0].time - entry.time > _GRACE_S:
                self.store.delete(entry.name)

    def _named(self, name: str) -> set[str]:
        manifest = self._base if name == self._base.name else manifest_of(self.store, name)
        return {object_name(stored.digest) for stored in manifest.files.values()}


def _held(path: Path, target: Path) -> Path:
    """A file under a second name, which stays when the first one goes; of a log, which grows, a copy."""
    if not path.as_posix().endswith(".log"):
        with suppress(OSError):
            os.link(path, target)
            return target
    shutil.copy2(path, target)
    return target

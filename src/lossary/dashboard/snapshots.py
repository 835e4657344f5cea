"""A study as it was at one moment: table, findings and progress that belong together.

Everything a page says comes from one snapshot. It is made again when a file that it depends on changes, and taken only
if no such file changed meanwhile; until then the last good one is shown, and says so.

    watched = WatchedStudy(Path("study"))
    watched.snapshot().opened.table
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import NamedTuple

from lossary.errors import LossaryError, ScoreError, ShardError
from lossary.files import digest_json
from lossary.findings.engine import Checked, check
from lossary.findings.folder import subject_of
from lossary.folder import StudyFolder
from lossary.lease import Holder, who_works
from lossary.results.inputs import INPUTS, identities
from lossary.results.progress import RunProgress, run_progress
from lossary.study import Study
from lossary.study_file import find_study_file, load_study
from lossary.tables.imported import CURVES
from lossary.tables.load import OpenTable, is_imported, open_paired

__all__ = ["Snapshot", "WatchedStudy"]

_PATTERNS = (*INPUTS, "logs/*.ended.json")
# Steps of a run in training come every few seconds; a table that is half a second old is as good.
_LOOK_EVERY_S = 0.5
_ATTEMPTS = 5
# Of a long reading, the part of the time that it may take.
_BUSY = 0.2
# A reading that takes no longer is waited for; a longer one goes on behind the last good pages.
_PATIENCE_S = 0.4

Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What is known of a study. Without a table, `reason` says why; `note` says why it may be old."""

    path: Path
    version: str
    fingerprint: Fingerprint
    study: Study | None = None
    folder: StudyFolder | None = None
    opened: OpenTable | None = None
    checked: Checked | None = None
    reason: LossaryError | None = None
    progress: tuple[RunProgress, ...] = ()
    working: tuple[Holder, ...] = ()
    note: str | None = None

    @property
    def name(self) -> str:
        """As its file calls it; the folder's name as long as that cannot be read."""
        if self.opened is not None:
            return self.opened.table.study
        return self.study.name if self.study is not None else self.path.resolve().name

    @property
    def has_old_scores(self) -> bool:
        """Whether scores were replaced, or came or went, since it was taken."""
        return _scores(self.fingerprint) != _scores(fingerprint(self.path))

    @property
    def has_curves(self) -> bool:
        """Whether steps of any run are on record."""
        return any(name.endswith(("/steps.parquet", CURVES)) for name, *_ in self.fingerprint)

    @property
    def is_running(self) -> bool:
        """Whether somebody works on it."""
        return bool(self.working)


class _Reading(NamedTuple):
    snapshot: Snapshot
    took_s: float


class WatchedStudy:
    """A study, or a folder of imports, and its newest whole snapshot."""

    def __init__(self, path: Path, *, on_newer: Callable[[Snapshot], None] = lambda _: None) -> None:
        """`on_newer` is told of every snapshot that was read, in the thread that read it: it must not take long."""
        self.path = path
        self._on_newer = on_newer
        self._lock = threading.Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reading")
        self._looked = float("-inf")
        self._last: _Reading | None = None
        self._pending: Future[_Reading] | None = None
        self._not_before = float("-inf")

    def snapshot(self, *, wait: bool = False) -> Snapshot:
        """The newest snapshot; only the first one, and one that is quickly read, is waited for, unless asked to."""
        with self._lock:
            now = time.monotonic()
            if self._last is not None and self._pending is None:
                if now - self._looked < _LOOK_EVERY_S and not wait:
                    return self._last.snapshot
                self._looked = now
                if self._last.snapshot.fingerprint == fingerprint(self.path):
                    return self._last.snapshot
                if now < self._not_before and not wait:
                    return replace(self._last.snapshot, note="newer files are there; they are read in a moment")
            if self._pending is None:
                self._pending = self._reader.submit(self._read)
            pending, last = self._pending, self._last
        if last is None or wait:
            return pending.result().snapshot
        if last.took_s < _PATIENCE_S:
            with suppress(NotYet):
                return pending.result(_PATIENCE_S).snapshot
        return replace(last.snapshot, note="newer files are being read")

    def _read(self) -> _Reading:
        try:
            started = time.monotonic()
            found = self._whole()
            took = time.monotonic() - started
            reading = _Reading(found, took)
            with self._lock:
                self._last = reading
                self._not_before = time.monotonic() + took * (1 / _BUSY - 1)
            self._on_newer(found)
            return reading
        finally:
            with self._lock:
                self._pending = None

    def _whole(self) -> Snapshot:
        """A snapshot during whose making no file changed; the last good one with a note where that cannot be had."""
        for attempt in range(_ATTEMPTS):
            before = fingerprint(self.path)
            found = _take(self.path, before)
            if before == fingerprint(self.path):
                return self._kept(found)
            time.sleep(0.05 * (attempt + 1))
        note = "files were replaced as often as they were read"
        last = self._last
        if last is not None:
            # With its old fingerprint, so that the next look reads again.
            return replace(last.snapshot, note=note)
        reason = ScoreError(note, where=str(self.path))
        return replace(found, fingerprint=(), opened=None, checked=None, reason=reason)

    def _kept(self, found: Snapshot) -> Snapshot:
        """What was found, or the last good snapshot with a note if a study that could be read no longer can."""
        last = self._last.snapshot if self._last is not None else None
        if found.reason is None or last is None or last.opened is None:
            return found
        note = f"the study cannot be read as it is now: {found.reason}"
        return replace(
            last,
            note=note,
            version=found.version,
            fingerprint=found.fingerprint,
            progress=found.progress or last.progress,
            working=found.working,
        )


def _take(path: Path, files: Fingerprint) -> Snapshot:
    """One attempt; what can be read is there even if there is no table yet."""
    snapshot = Snapshot(path=path, version=digest_json(files), fingerprint=files)
    try:
        if not is_imported(path):
            file = find_study_file(path)
            study, folder = load_study(file), StudyFolder(file.resolve().parent)
            progress, working = tuple(run_progress(study, folder)), tuple(who_works(folder))
            snapshot = replace(snapshot, study=study, folder=folder, progress=progress, working=working)
            if not (folder.validation / "manifest.json").is_file():
                raise ShardError("the study is not prepared yet", where=str(path), hint="Run `lossary run`.")
        opened = open_paired(path)
        subject = subject_of(opened, where=str(path))
        ignore = opened.study.check.ignore if opened.study is not None else {}
        return replace(snapshot, folder=opened.folder, opened=opened, checked=check(subject, ignore=ignore))
    except LossaryError as error:
        return replace(snapshot, reason=error)
    except (OSError, ValueError, KeyError, IndexError) as error:
        # A file that is replaced while it is read looks damaged in ways that no reader foresees.
        return replace(snapshot, reason=ScoreError(f"not readable: {error}", where=str(path)))


def fingerprint(path: Path) -> Fingerprint:
    """Name, inode, time and size of every file that a snapshot depends on: another one takes its place as a whole."""
    return tuple(sorted(_identities(path)))


def _scores(files: Fingerprint) -> Fingerprint:
    return tuple(file for file in files if "/scores/" in file[0])


def _identities(path: Path) -> Iterator[tuple[str, int, int, int]]:
    root = path if path.is_dir() else path.parent
    named = "study.toml" if path.is_dir() else escape(path.name)
    # Signs of life come every few seconds: who works is what counts, and that a process ended shows in no file.
    for holder in who_works(StudyFolder(root)):
        yield f"leases/{holder.name}.json", holder.pid, int(holder.since * 1e9), 0
    yield from identities(root, (named, *_PATTERNS))

"""Who works on a study: a lease for what one process at a time may write, which goes when its process ends.

    with hold(folder, run_lease("tf_xl")):
        …                                    # BusyError if another process trains or scores that run

A lease is a file, `leases/<name>.json`, that says who holds it; its time of change is a sign of life, renewed every 15
seconds. It is free again when its owner is gone: on the same host when no process has its pid and start time, on
another one when there was no sign for two minutes. A copy of a study has no owner: the record names its folder.
Readers look (`who_works`), and neither wait nor take one.

Judging and taking is one step under a lock of the file system (flock), so that of many that want a lease one gets it.
Where a file system has none, a file that only one can create stands in for it. There, a process that stops for half
a minute in the middle of that step could let two in; the one that was replaced finds out by its next sign of life.
"""

import errno
import fcntl
import getpass
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lossary.errors import BusyError, DataError
from lossary.files import read_json, write_json
from lossary.folder import StudyFolder

__all__ = [
    "STUDY",
    "Holder",
    "Leases",
    "hold",
    "leases_of",
    "refuse_beside_runs",
    "run_lease",
    "start_of",
    "this_machine",
    "user_name",
    "who_works",
]

# The data of a study: sources to training examples.
STUDY = "study"
_RUN = "run-"
_SIGN_EVERY_S = 15.0
_SILENT_S = 120.0
_GUARD_S = 30.0
_ORPHANS_S = 1.0
_LONGEST_COMMAND = 200
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def run_lease(run: str) -> str:
    """The lease of a run: its training, and its scores."""
    return f"{_RUN}{run}"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that works on a part of a study. Times are seconds since 1970."""

    name: str  # of the lease
    pid: int
    started: str  # when the process started, as its host counts: a pid is used again
    host: str
    machine: str  # host, boot and name space of pids: where a pid means what it means here
    user: str
    command: str
    root: str  # the study's folder, and what the file system calls it: of neither in a copy
    inode: tuple[int, ...]
    token: str
    since: float
    seen: float  # the last sign of life
    doing: str = ""  # the stage: "prepare", "train", "evaluate"; an earlier lossary did not say

    def __post_init__(self) -> None:
        """TypeError if it is no record of a lease: anybody may have written the file."""
        numbers = (self.pid, self.since, *self.inode)
        words = (self.started, self.host, self.machine, self.user, self.command, self.root, self.token, self.doing)
        if not all(isinstance(one, int | float) for one in numbers) or not all(isinstance(one, str) for one in words):
            raise TypeError("the record of a lease is damaged")

    @property
    def run(self) -> str | None:
        """The run that it trains or scores; None if it makes the study's data."""
        return self.name.removeprefix(_RUN) if self.name.startswith(_RUN) else None

    @property
    def work(self) -> str:
        return "makes the study's data" if self.run is None else f"works on run {self.run!r}"

    @property
    def is_own(self) -> bool:
        """Whether it is this process."""
        return (self.machine, self.pid, self.started) == (this_machine(), os.getpid(), start_of(os.getpid()))


class Leases(NamedTuple):
    """Who works, the one that began first at the head; who ended without giving a lease back; what is no lease."""

    working: list[Holder]
    left: list[Holder]
    unreadable: list[Path]


def leases_of(folder: StudyFolder) -> Leases:
    """All leases of a study as they are now."""
    return _sorted_out(folder, now=time.time())


def who_works(folder: StudyFolder) -> list[Holder]:
    """The processes that work on a study now, the one that began first at the head."""
    return leases_of(folder).working


def refuse_beside_runs(folder: StudyFolder, doing: str) -> None:
    """Raises BusyError if another process works on a run; for who holds `STUDY` and is to change what runs read."""
    for other in who_works(folder):
        if other.run is not None and not other.is_own:
            raise _busy(other, folder, hint=f"It may read what {doing} would change.")


@contextmanager
def hold(folder: StudyFolder, name: str, *, doing: str = "") -> Iterator[None]:
    """Holds a lease: `STUDY`, or that of a run, which nobody gets while another process holds `STUDY`.

    `doing` is the stage, for those who look.
    Raises BusyError naming the holder. What this process holds already does not stand in its way.
    """
    folder.leases.mkdir(parents=True, exist_ok=True)
    path = folder.leases / f"{name}.json"
    with _alone(folder.leases) as now:
        working = _sorted_out(folder, now=now).working
        for other in working:
            if other.name in (name, STUDY) and not other.is_own:
                raise _busy(other, folder)
        is_held = any(other.name == name for other in working)
        if not is_held:
            before = _read(path)
            token = _take(path, folder, doing)
    if is_held:
        yield
        return
    if before is not None and before.machine == this_machine():
        # It was killed: its workers look for it twice a second, and end.
        time.sleep(_ORPHANS_S)
    signs = _Signs(path, token)
    signs.start()
    try:
        yield
    except BaseException as error:
        if signs.is_lost:
            raise _lost(path) from error
        raise
    finally:
        signs.stop()
        with suppress(OSError, BusyError), _alone(folder.leases):
            if (record := _read(path)) is not None and record.token == token:
                path.unlink()
    if signs.is_lost:
        raise _lost(path)


def _take(path: Path, folder: StudyFolder, doing: str) -> str:
    record = {
        "pid": os.getpid(),
        "started": start_of(os.getpid()),
        "host": socket.gethostname(),
        "machine": this_machine(),
        "user": user_name(),
        "command": " ".join(["lossary", *sys.argv[1:]])[:_LONGEST_COMMAND],
        "root": str(folder.root.resolve()),
        "inode": _inode(folder),
        "token": secrets.token_hex(16),
        "since": time.time(),
        "doing": doing,
    }
    write_json(path, record)
    return str(record["token"])


class _Signs(threading.Thread):
    """Signs of life, until it is stopped or finds that the lease is another's."""

    def __init__(self, path: Path, token: str) -> None:
        super().__init__(daemon=True, name=f"lease {path.stem}")
        self.is_lost = False
        self._path = path
        self._token = token
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_SIGN_EVERY_S):
            record = _read(self._path)
            if record is not None and record.token != self._token:
                self.is_lost = True
                # As if somebody had asked to stop; where nobody listens for that, the end of the work tells.
                if callable(signal.getsignal(signal.SIGTERM)):
                    os.kill(os.getpid(), signal.SIGTERM)
                return
            with suppress(OSError):
                os.utime(self._path)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _sorted_out(folder: StudyFolder, *, now: float) -> Leases:
    leases = Leases([], [], [])
    for path in sorted(folder.leases.glob("*.json")):
        holder = _read(path)
        if holder is not None:
            (leases.working if _is_alive(holder, folder, now) else leases.left).append(holder)
        elif path.exists():
            leases.unreadable.append(path)
    for holders in leases[:2]:
        holders.sort(key=lambda one: one.since)
    return leases


def _read(path: Path) -> Holder | None:
    """The record of a lease; None if there is none that can be read."""
    try:
        seen = path.stat().st_mtime
        record = read_json(path)
        return Holder(**record | {"name": path.stem, "seen": seen, "inode": tuple(record["inode"])})
    except (OSError, DataError, TypeError):
        return None


def _is_alive(holder: Holder, folder: StudyFolder, now: float) -> bool:
    if holder.machine != this_machine():
        return now - holder.seen < _SILENT_S
    # Moved, a folder keeps what the file system calls it; replaced in its place, it keeps its path.
    if holder.root != str(folder.root.resolve()) and holder.inode != _inode(folder):
        return False
    start = start_of(holder.pid)
    return start == holder.started if start else start is not None and now - holder.seen < _SILENT_S


def start_of(pid: int) -> str | None:
    """When a process started; "" if it cannot be told, None if there is no such process."""
    try:
        # The name of a program, in parentheses, may hold anything.
        state, *fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except (OSError, ValueError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return ""
        except (OSError, OverflowError):
            return None
        return ""
    return None if state in "ZX" else fields[18]


@cache
def this_machine() -> str:
    """Host, boot and name space of pids: where a pid means what it means here."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _inode(folder: StudyFolder) -> tuple[int, int]:
    status = folder.root.stat()
    return status.st_dev, status.st_ino


def user_name() -> str:
    """Who this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _busy(other: Holder, folder: StudyFolder, *, hint: str = "") -> BusyError:
    since = datetime.fromtimestamp(other.since).strftime("%Y-%m-%d %H:%M:%S")
    where = f"{other.host}, process {other.pid} of {other.user}"
    return BusyError(
        f"another process {other.work} since {since}: {other.command!r} ({where})",
        where=str(folder.root),
        hint=f"{hint} Wait for it, or end it there; what is made already can be read meanwhile.".strip(),
    )


def _lost(path: Path) -> BusyError:
    return BusyError(
        "this process gave no sign of life for so long that another one took over",
        where=str(path),
        hint="Was it stopped, or the machine suspended? Run the command again: it goes on from what there is.",
    )


@contextmanager
def _alone(leases: Path) -> Iterator[float]:
    """A step that one process at a time takes; gives the time by the clock that the signs of life are stamped with."""
    lock = leases / ".lock"
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        handle = os.open(lock, os.O_RDONLY)
    try:
        if _locked(handle, lock):
            yield _clock(leases)
        else:
            with _guarded(leases / ".guard"):
                yield _clock(leases)
    finally:
        os.close(handle)


def _locked(handle: int, lock: Path) -> bool:
    """Whether the file system locked the file; False if it knows no locks."""
    for _ in _attempts(lock):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
        return True
    raise AssertionError


@contextmanager
def _guarded(guard: Path) -> Iterator[None]:
    for _ in _attempts(guard):
        with suppress(FileExistsError):
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            break
        with suppress(FileNotFoundError):
            status = guard.stat()
            if _clock(guard.parent) - status.st_mtime > _GUARD_S:
                # Its owner died in the middle. One alone may clear it away: it is named by what it clears.
                broken = guard.with_name(f".broken-{status.st_ino}-{status.st_mtime_ns}")
                with suppress(FileExistsError):
                    os.close(os.open(broken, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                    guard.unlink()
    try:
        yield
    finally:
        guard.unlink(missing_ok=True)


def _attempts(lock: Path) -> Iterator[None]:
    """Moments to try again, until it takes longer than any such step."""
    until = time.monotonic() + 2 * _GUARD_S
    while time.monotonic() < until:
        yield
        time.sleep(0.01)
    raise BusyError(
        "another process takes or gives back a lease, and does not come to an end",
        where=str(lock),
        hint="If no lossary runs on any machine, delete this file.",
    )


def _clock(leases: Path) -> float:
    handle, name = tempfile.mkstemp(prefix=".clock-", dir=leases)
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)
        os.unlink(name)

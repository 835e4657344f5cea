"""Who writes a study at a URL: one process at a time, by a claim with owner, host and age among its objects.

    with Claim(store, doing="train") as claim:
        ...
        claim.check()                   # BusyError where it is another's by now; before anything is committed

Stores have no locks. A claim is asked for, then all are listed: of two that ask at once, the one that lists last sees
the other, and steps back. It is held when nobody else's was seen, renewed every 15 seconds, and free again when its
process is gone (on one host) or silent for two minutes (on others). Each has a higher number than those before, so that
who was replaced finds out, whatever it writes. Ages are told by the store's own clock.
"""

import json
import os
import random
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from lossary.errors import BusyError, DataError, LossaryError, StoreError
from lossary.files import checksummed, parse_json
from lossary.lease import start_of, this_machine, user_name
from lossary.remote.store import Entry, ObjectStore

__all__ = ["Claim", "Claimed", "claims_of"]

_FOLDER = "claims"
_NAME = re.compile(rf"{_FOLDER}/(\d{{8}})-[0-9a-f]{{16}}\.json")
_SIGN_EVERY_S = 15.0
_SILENT_S = 120.0
_TRIES = 4
_AT_ONCE_S = 10.0
_LONGEST_COMMAND = 200
_UNREADABLE: dict[str, Any] = {
    **dict.fromkeys(("started", "machine", "doing"), ""),
    **dict.fromkeys(("host", "user", "command"), "not readable"),
    "pid": 0,
    "since": 0.0,
    "held": False,
    "leases": [],
}


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A claim as it stands there; times are seconds since 1970, `seen` by the store's clock."""

    pid: int
    started: str
    host: str
    machine: str
    user: str
    command: str
    doing: str
    since: float
    held: bool  # False: it is asked for
    leases: list[dict[str, Any]]  # of its working copy: which runs it works on
    name: str = ""
    seen: float = 0.0

    def is_alive(self, now: float) -> bool:
        """Whether its process is there, as far as can be told from here."""
        if self.machine != this_machine():
            return now - self.seen < _SILENT_S
        start = start_of(self.pid)
        return start == self.started if start else start is not None and now - self.seen < _SILENT_S


def claims_of(store: ObjectStore, *, now: float | None = None) -> list[Claimed]:
    """The claims of processes that are alive, the highest at the head; `now` by the store's clock, ours if None."""
    found = [_read(store, entry) for entry in store.entries(_FOLDER)]
    at = time.time() if now is None else now
    alive = [claim for claim in found if claim is not None and claim.is_alive(at)]
    return sorted(alive, key=lambda claim: claim.name, reverse=True)


class Claim:
    """The claim of this process, from `__enter__` to `__exit__`."""

    def __init__(self, store: ObjectStore, *, doing: str, leases: Callable[[], list[dict[str, Any]]] = list) -> None:
        self._store, self._doing, self._leases = store, doing, leases
        self._name, self._since = "", time.time()
        self._held = self.is_lost = False
        self._ended = threading.Event()
        self._signs = threading.Thread(target=self._sign, daemon=True, name="claim")

    def __enter__(self) -> Self:
        for attempt in range(1, _TRIES + 1):
            other = self._ask()
            if other is None:
                self._signs.start()
                return self
            # Two that ask at the same time both step back: the second time they hardly meet.
            if attempt == _TRIES or (other.held and time.time() - other.since > _AT_ONCE_S):
                raise _busy(other, self._store)
            time.sleep(random.uniform(0.1, 0.6) * attempt)
        raise AssertionError

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._signs.is_alive():
            self._signs.join()
        with suppress(LossaryError):
            self._store.delete(self._name)

    def check(self) -> None:
        """Raises BusyError if another process took over, StoreError if that cannot be told."""
        own = _number(self._name)
        names = {entry.name: entry for entry in self._store.entries(_FOLDER)}
        later = [entry for name, entry in names.items() if name != self._name and _number(name) >= own]
        if self.is_lost or self._name not in names or any(_is_held(self._store, entry) for entry in later):
            self.is_lost = True
            raise _lost(self._store)

    def _ask(self) -> Claimed | None:
        """Takes the claim; else who has it, or asks for it at the same time."""
        entries = self._store.entries(_FOLDER)
        highest = max((_number(entry.name) for entry in entries), default=0)
        self._name = f"{_FOLDER}/{highest + 1:08d}-{secrets.token_hex(8)}.json"
        if (other := self._other(time.time())) is not None and other.held:
            return other
        try:
            self._write()
            # By the store's clock, those of hosts may differ.
            entries = self._store.entries(_FOLDER)
            own = next((entry for entry in entries if entry.name == self._name), None)
            other = self._other(time.time() if own is None else own.time)
            if other is None and own is not None:
                self._held = True
                self._write()
                for entry in entries:
                    if entry.name != self._name:
                        self._store.delete(entry.name)
                return None
        except BaseException:
            with suppress(LossaryError):
                self._store.delete(self._name)
            raise
        self._store.delete(self._name)
        if other is None:
            raise StoreError("what was written a moment ago is not listed", where=self._store.url)
        return other

    def _other(self, now: float) -> Claimed | None:
        return next((claim for claim in claims_of(self._store, now=now) if claim.name != self._name), None)

    def _write(self) -> None:
        record = Claimed(
            pid=os.getpid(),
            started=start_of(os.getpid()) or "",
            host=socket.gethostname(),
            machine=this_machine(),
            user=user_name(),
            command=" ".join(["lossary", *sys.argv[1:]])[:_LONGEST_COMMAND],
            doing=self._doing,
            since=self._since,
            held=self._held,
            leases=self._leases(),
        )
        kept = {key: value for key, value in vars(record).items() if key not in ("name", "seen")}
        self._store.put(self._name, json.dumps(checksummed(kept), sort_keys=True).encode())

    def _sign(self) -> None:
        while not self._ended.wait(_SIGN_EVERY_S):
            # Without the network there is no sign; who waits for one takes over after two minutes, and `check` tells.
            with suppress(StoreError):
                try:
                    self.check()
                except BusyError:
                    # As if somebody had asked to stop; where nobody listens for that, the next commit tells.
                    if callable(signal.getsignal(signal.SIGTERM)):
                        os.kill(os.getpid(), signal.SIGTERM)
                    return
                self._write()


def _read(store: ObjectStore, entry: Entry) -> Claimed | None:
    """A claim; None if it is gone or was none. One that cannot be read may be half written: it counts for as long as
    one of another host does."""
    if _NAME.fullmatch(entry.name) is None:
        return None
    placed: dict[str, Any] = {"name": entry.name, "seen": entry.time}
    try:
        value = parse_json(store.read(entry.name).decode(errors="replace"), entry.name)
        return Claimed(**value | placed)
    except FileNotFoundError:
        return None
    except (DataError, TypeError):
        return Claimed(**_UNREADABLE | placed)


def _is_held(store: ObjectStore, entry: Entry) -> bool:
    claim = _read(store, entry)
    return claim is not None and claim.held


def _number(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else -1


def _busy(other: Claimed, store: ObjectStore) -> BusyError:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(other.since))
    return BusyError(
        f"another process works on it since {since}: {other.command!r} "
        f"({other.host}, process {other.pid} of {other.user})",
        where=store.url,
        hint="Wait for it, or end it there; what is made already can be read meanwhile.",
    )


def _lost(store: ObjectStore) -> BusyError:
    return BusyError(
        "this process gave no sign of life for so long that another one took over",
        where=store.url,
        hint="Was it stopped, or the machine without network? Run the command again: it begins with what is there now.",
    )

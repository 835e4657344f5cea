"""Several workers for one job: they work together, and begin again from what the job kept where one of them is lost.

run_ranks("lossary.worker", job, ranks=4, threads=2, log=log, emit=print, stop=StopRequest())
"""

import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from lossary.backends.process import Emit, StopRequest, WorkerKind, events_of, outcome_of, send_signal, start_worker
from lossary.errors import Interrupted, RankLost

__all__ = ["Attempts", "RankWorker", "log_of_rank", "run_ranks", "run_together"]

# So often in a row a job is started again that came no further than before.
_MOST = 3


class RankWorker(Protocol):
    """The worker of one rank, here or elsewhere."""

    log: Path

    def send_signal(self, sig: int) -> None: ...

    def events(self) -> Iterator[dict[str, Any]]:
        """What it says, to its end."""
        ...

    def ended(self) -> int:
        """Waits until it is gone; its exit code."""
        ...


class Attempts:
    """Whether to start a job again whose workers were lost: not time after time without progress."""

    def __init__(self) -> None:
        self.count = 0  # of those in a row that came no further
        self._reached = -1

    def again(self, step: int) -> bool:
        """Counts an attempt that was lost at a step."""
        self.count = self.count + 1 if step <= self._reached else 1
        self._reached = max(self._reached, step)
        return self.count < _MOST


def run_ranks(
    module: str, job: Mapping[str, Any], *, ranks: int, threads: int, log: Path, emit: Emit, stop: StopRequest
) -> dict[str, Any]:
    """Runs a job on torch by several workers of this machine that work together; as `run_worker`, of the first of them.

    A job knows its place by `rank`, `ranks` and `store`, the file where they meet.
    """

    @contextmanager
    def gathered() -> Iterator[Iterator[RankWorker]]:
        with tempfile.TemporaryDirectory(prefix="lossary-ranks-") as place:
            own = {**job, "ranks": ranks, "store": f"file://{place}/store"}
            kind = WorkerKind(module, "torch", threads)
            yield (_LocalRank(kind, {**own, "rank": rank}, log_of_rank(log, rank)) for rank in range(ranks))

    return run_together(gathered, ranks=ranks, emit=emit, stop=stop)


def log_of_rank(log: Path, rank: int) -> Path:
    """Where a rank logs, beside the first one."""
    return log if rank == 0 else log.with_name(f"{log.stem}.rank{rank}{log.suffix}")


def run_together(
    gathered: Callable[[], AbstractContextManager[Iterable[RankWorker]]], *, ranks: int, emit: Emit, stop: StopRequest
) -> dict[str, Any]:
    """Runs the workers of a job that work together, which `gathered` starts in the order of their ranks.

    Returns the `done` event of the first one, whose events are told. Where a worker dies, all are started again: the
    job has to go on from what it kept. WorkerError if that happens time after time without progress.
    """
    attempts = Attempts()
    while True:
        group = _Group(emit, stop)
        with gathered() as workers:
            for worker in workers:
                group.begin(worker)
            lost = group.ended()
        if lost is None or stop.asked or not attempts.again(group.step):
            return group.outcome()
        emit({"event": "note", "text": f"{lost} of {ranks} was lost: all go on from the last checkpoint"})


class _LocalRank:
    """See `RankWorker`."""

    def __init__(self, kind: WorkerKind, job: Mapping[str, Any], log: Path) -> None:
        self.log = log
        self._worker = start_worker(kind, job, log=log, stdin=subprocess.DEVNULL)

    def send_signal(self, sig: int) -> None:
        self._worker.send_signal(sig)

    def events(self) -> Iterator[dict[str, Any]]:
        return events_of(self._worker)

    def ended(self) -> int:
        code = self._worker.wait()
        assert self._worker.stdout is not None
        self._worker.stdout.close()
        return code


class _Group:
    """Workers that work together: the first one that fails ends the others."""

    def __init__(self, emit: Emit, stop: StopRequest) -> None:
        self.step = -1  # the furthest that was told
        self._emit, self._stop = emit, stop
        self._workers: list[RankWorker] = []
        self._readers: list[threading.Thread] = []
        self._ends: list[tuple[int, int, dict[str, Any]]] = []  # ranks, codes and last events, as they ended
        self._lock = threading.Lock()
        self._over = False

    def begin(self, worker: RankWorker) -> None:
        """Takes up the next rank."""
        with self._lock:
            rank = len(self._workers)
            self._workers.append(worker)
            if self._over:
                send_signal(worker, signal.SIGKILL)
        self._stop.add(worker)
        reader = threading.Thread(target=self._follow, args=(rank, worker), name=f"rank {rank}")
        self._readers.append(reader)
        reader.start()

    def ended(self) -> str | None:
        """Waits for all of them; which rank died without a word before any other failed, None if none did."""
        try:
            for reader in self._readers:
                reader.join()
        except BaseException:
            self._kill()
            raise
        rank, _, last = self._first_failure() or (0, 0, {"event": "error"})
        if self._hears_of_a_loss(last):
            # All were killed then, and which one was gone before is not to be seen.
            return "a rank"
        return None if last.get("event") == "error" else f"rank {rank}"

    def outcome(self) -> dict[str, Any]:
        """What the first rank said last; raises the error of the rank that failed first."""
        rank, code, last = self._first_failure() or min(self._ends, key=lambda end: end[0])
        return outcome_of(last, code, self._workers[rank].log, self._stop)

    def _first_failure(self) -> tuple[int, int, dict[str, Any]] | None:
        """How the rank that failed first ended; of ranks that say that another is gone, what that one said counts."""
        failed = [end for end in self._ends if self._failed(end[2])]
        if failed and self._hears_of_a_loss(failed[0][2]):
            told = (end for end in failed if end[2].get("event") == "error" and not self._hears_of_a_loss(end[2]))
            return next(told, failed[0])
        return next(iter(failed), None)

    @staticmethod
    def _hears_of_a_loss(last: Mapping[str, Any]) -> bool:
        return last.get("kind") == RankLost.__name__

    def _follow(self, rank: int, worker: RankWorker) -> None:
        last: dict[str, Any] = {}
        for last in worker.events():
            if rank == 0:
                self.step = max(self.step, int(last.get("step") or 0))
                self._emit(last)
        code = worker.ended()
        self._stop.remove(worker)
        with self._lock:
            self._ends.append((rank, code, last))
            # Ranks that are interrupted end by themselves, the first one once its checkpoint is written.
            if self._failed(last) and last.get("kind") != Interrupted.__name__:
                self._kill()

    @staticmethod
    def _failed(last: Mapping[str, Any]) -> bool:
        return last.get("event") != "done"

    def _kill(self) -> None:
        self._over = True
        for worker in self._workers:
            send_signal(worker, signal.SIGKILL)

"""Several workers for one job: they work together, and begin again from what the job kept where one of them is lost.

run_ranks("lossary.worker", job, ranks=4, threads=2, log=log, emit=print, stop=StopRequest())
"""

import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossary.backends.process import Emit, StopRequest, WorkerKind, events_of, outcome_of, send_signal, start_worker
from lossary.errors import Interrupted

__all__ = ["Attempts", "run_ranks"]

# So often in a row a job is started again that came no further than before.
_MOST = 3


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
    """Runs a job on torch by several workers that work together; as `run_worker`, of the first of them.

    A job knows its place by `rank`, `ranks` and `store`, the file where they meet. Where a worker dies, all are started
    again: the job has to go on from what it kept. WorkerError if that happens time after time without progress.
    """
    attempts = Attempts()
    while True:
        group = _Group(emit)
        with tempfile.TemporaryDirectory(prefix="lossary-ranks-") as place:
            for rank in range(ranks):
                own = {**job, "rank": rank, "ranks": ranks, "store": str(Path(place) / "store")}
                own_log = log if rank == 0 else log.with_name(f"{log.stem}.rank{rank}{log.suffix}")
                kind = WorkerKind(module, "torch", threads)
                group.begin(start_worker(kind, own, log=own_log, stdin=subprocess.DEVNULL), own_log, stop)
            lost = group.ended()
        if lost is None:
            return group.outcome(stop)
        if not attempts.again(group.step) or stop.asked:
            return group.outcome(stop)
        emit({"event": "note", "text": f"rank {lost} of {ranks} was lost: all go on from the last checkpoint"})


class _Group:
    """Workers that work together: the first one that fails ends the others."""

    def __init__(self, emit: Emit) -> None:
        self.step = -1  # the furthest that was told
        self._emit = emit
        self._workers: list[tuple[subprocess.Popen[str], Path]] = []
        self._readers: list[threading.Thread] = []
        self._ends: list[tuple[int, dict[str, Any]]] = []  # ranks and their last events, as they ended
        self._lock = threading.Lock()
        self._over = False
        self._stop: StopRequest | None = None

    def begin(self, worker: "subprocess.Popen[str]", log: Path, stop: StopRequest) -> None:
        """Takes up the next rank."""
        with self._lock:
            rank = len(self._workers)
            self._workers.append((worker, log))
            if self._over:
                send_signal(worker, signal.SIGKILL)
        self._stop = stop
        stop.add(worker)
        reader = threading.Thread(target=self._follow, args=(rank, worker), name=f"rank {rank}")
        self._readers.append(reader)
        reader.start()

    def ended(self) -> int | None:
        """Waits for all of them; the rank that died without a word before any other failed, None if there is none."""
        try:
            for reader in self._readers:
                reader.join()
        except BaseException:
            self._kill()
            raise
        failed = next(((rank, last) for rank, last in self._ends if self._failed(last)), None)
        return None if failed is None or failed[1].get("event") == "error" else failed[0]

    def outcome(self, stop: StopRequest) -> dict[str, Any]:
        """What the first rank said last; raises the error of the rank that failed first."""
        rank, last = next(((r, e) for r, e in self._ends if self._failed(e)), min(self._ends, key=lambda end: end[0]))
        worker, log = self._workers[rank]
        return outcome_of(last, worker.returncode, log, stop)

    def _follow(self, rank: int, worker: "subprocess.Popen[str]") -> None:
        last: dict[str, Any] = {}
        for last in events_of(worker):
            if rank == 0:
                self.step = max(self.step, int(last.get("step") or 0))
                self._emit(last)
        worker.wait()
        assert worker.stdout is not None
        assert self._stop is not None
        worker.stdout.close()
        self._stop.remove(worker)
        with self._lock:
            self._ends.append((rank, last))
            # Ranks that are interrupted end by themselves, the first one once its checkpoint is written.
            if self._failed(last) and last.get("kind") != Interrupted.__name__:
                self._kill()

    @staticmethod
    def _failed(last: Mapping[str, Any]) -> bool:
        return last.get("event") != "done"

    def _kill(self) -> None:
        self._over = True
        for worker, _ in self._workers:
            send_signal(worker, signal.SIGKILL)

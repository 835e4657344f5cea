"""Worker processes: one for each job, so that each has one framework.

The parent writes the job as JSON, starts `python -m MODULE JOB.json` and reads events, JSON lines on the worker's
standard output; what frameworks print goes to a log file. A worker dies with its parent. Signals: the first SIGINT or
SIGTERM lets the worker finish its step and write a checkpoint, one that comes more than a second later kills it.

`WarmWorkers` are started before there is a job: they import their framework while the parent does something else.
`run_ranks` runs one job by several workers, and begins again from the last checkpoint where one of them is lost.
A `Conversation` is a worker that stays: it answers one request after another, read from its standard input.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, Self

from lossary.errors import InternalError, Interrupted, WorkerError, error_class
from lossary.failures import explain, internal
from lossary.files import read_json, write_atomic

__all__ = [
    "ATTEMPTS",
    "Conversation",
    "Emit",
    "StopRequest",
    "WarmWorkers",
    "Worker",
    "converse",
    "emit_events",
    "outcome_of",
    "run_ranks",
    "run_worker",
    "stop_on_signals",
    "worker_main",
]

Emit = Callable[[Mapping[str, Any]], None]
_LOG_TAIL = 12
# How long a worker that has nothing left to answer may take to end.
_PATIENCE_S = 10.0
# `timeout` signals a command and then its group: two signals so close are one request.
_ONE_REQUEST_S = 1.0
# So often in a row ranks are started again that came no further than those before.
ATTEMPTS = 3
# In place of a job, on the command line of a worker that is to wait for one.
_WAIT = "--wait"


class Worker(Protocol):
    """What can be told to stop, or be killed: a process, here or elsewhere."""

    def send_signal(self, sig: int) -> None: ...


class StopRequest:
    """Whether the user asked to stop, and the workers to tell."""

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0
        self._workers: set[Worker] = set()
        self._lock = threading.Lock()

    def add(self, worker: Worker) -> None:
        with self._lock:
            self._workers.add(worker)
            if self.asked:
                _signal(worker, signal.SIGTERM)

    def remove(self, worker: Worker) -> None:
        with self._lock:
            self._workers.discard(worker)

    def ask(self) -> None:
        """The first time asks workers to stop at the next step; more than a second later ends them."""
        now = time.monotonic()
        if self.asked and now - self._since < _ONE_REQUEST_S:
            return
        kind = signal.SIGKILL if self.asked else signal.SIGTERM
        if not self.asked:
            self.asked, self._since = True, now
        for worker in list(self._workers):
            _signal(worker, kind)


def _signal(worker: Worker, kind: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        worker.send_signal(kind)


@contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """While it lasts, SIGINT and SIGTERM ask to stop. Outside the main thread it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda *_: stop.ask()) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


class _Kind(NamedTuple):
    """Workers of one kind can stand in for each other."""

    module: str
    backend: str | None
    threads: int


class WarmWorkers:
    """Workers that wait for a job; those that got none end with the block."""

    def __init__(self) -> None:
        self._waiting: dict[_Kind, list[subprocess.Popen[str]]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in chain.from_iterable(self._waiting.values()):
            _bury(worker)

    def start(self, module: str, *, backend: str, threads: int) -> None:
        """Starts a worker whose `worker_main` knows how to warm up."""
        kind = _Kind(module, backend, threads)
        worker = _spawn(kind, [_WAIT, backend], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._waiting.setdefault(kind, []).append(worker)

    def take(self, kind: _Kind, job: Path, log: Path) -> "subprocess.Popen[str] | None":
        """A worker that has the job now; None if there is none of this kind."""
        with self._lock:
            worker = self._waiting[kind].pop() if self._waiting.get(kind) else None
        if worker is None:
            return None
        assert worker.stdin is not None
        try:
            with worker.stdin as told:
                told.write(json.dumps({"job": str(job), "log": str(log)}) + "\n")
            return worker
        except BrokenPipeError:
            _bury(worker)
            return None


def _bury(worker: "subprocess.Popen[str]") -> None:
    worker.kill()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    worker.wait()


def run_worker(
    module: str,
    job: Mapping[str, Any],
    *,
    backend: str,
    threads: int,
    log: Path,
    emit: Emit,
    stop: StopRequest,
    warm: WarmWorkers | None = None,
) -> dict[str, Any]:
    """Runs a job to its end, by a worker that is warm if there is one; returns its `done` event.

    Raises the error that the worker reported, Interrupted if it was asked to stop, WorkerError if it died.
    """
    worker = _start(_Kind(module, backend, threads), job, log=log, stdin=subprocess.DEVNULL, warm=warm)
    stop.add(worker)
    try:
        last = _read_events(worker, emit)
    except BaseException:
        worker.kill()
        raise
    finally:
        code = worker.wait()
        stop.remove(worker)
        if worker.stdout is not None:
            worker.stdout.close()
    return _outcome(last, code, log, stop)


def run_ranks(
    module: str, job: Mapping[str, Any], *, ranks: int, threads: int, log: Path, emit: Emit, stop: StopRequest
) -> dict[str, Any]:
    """Runs a job on torch by several workers that work together; as `run_worker`, of the first of them.

    A job knows its place by `rank`, `ranks` and `store`, the file where they meet. Where a worker dies, all are started
    again: the job has to go on from what it kept. WorkerError if that happens time after time without progress.
    """
    reached, failures = -1, 0
    while True:
        group = _Group(emit)
        with tempfile.TemporaryDirectory(prefix="lossary-ranks-") as place:
            for rank in range(ranks):
                own = {**job, "rank": rank, "ranks": ranks, "store": str(Path(place) / "store")}
                own_log = log if rank == 0 else log.with_name(f"{log.stem}.rank{rank}{log.suffix}")
                kind = _Kind(module, "torch", threads)
                group.begin(_start(kind, own, log=own_log, stdin=subprocess.DEVNULL), own_log, stop)
            lost = group.ended()
        if lost is None:
            return group.outcome(stop)
        failures = failures + 1 if group.step <= reached else 1
        reached = max(reached, group.step)
        if failures == ATTEMPTS or stop.asked:
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
                _signal(worker, signal.SIGKILL)
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
        return _outcome(last, worker.returncode, log, stop)

    def _follow(self, rank: int, worker: "subprocess.Popen[str]") -> None:
        last: dict[str, Any] = {}
        for last in _events(worker):
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
            _signal(worker, signal.SIGKILL)


def _start(
    kind: _Kind, job: Mapping[str, Any], *, log: Path, stdin: int, warm: WarmWorkers | None = None
) -> "subprocess.Popen[str]":
    log.parent.mkdir(parents=True, exist_ok=True)
    job_file = log.with_suffix(".job.json")
    # Keys keep their order: that of a study's datasets is part of its mixture.
    with write_atomic(job_file) as temporary:
        temporary.write_text(json.dumps(dict(job), allow_nan=False), encoding="utf-8")
    with log.open("w", encoding="utf-8") as log_file:
        ready = None if warm is None else warm.take(kind, job_file, log)
        return ready or _spawn(kind, [str(job_file)], stdin=stdin, stderr=log_file)


def _spawn(kind: _Kind, arguments: list[str], *, stdin: int, stderr: "IO[str] | int") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", kind.module, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=_environment(kind.backend, kind.threads),
        text=True,
        encoding="utf-8",
        # A Ctrl-C reaches the parent alone, which then tells its workers in order.
        start_new_session=True,
    )


class Conversation:
    """A worker that answers requests until it is closed."""

    def __init__(self, worker: "subprocess.Popen[str]", log: Path) -> None:
        self._worker = worker
        self._log = log

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request. Raises the error that the worker reported, WorkerError if it died."""
        assert self._worker.stdin is not None
        with suppress(BrokenPipeError):
            self._worker.stdin.write(json.dumps(request, allow_nan=False) + "\n")
            self._worker.stdin.flush()
        return self.heard()

    def heard(self) -> dict[str, Any]:
        """What the worker says next, as `ask`."""
        event = next(_events(self._worker), None)
        if event is None or event["event"] == "error":
            if event is not None:
                self._worker.kill()
            code = self._worker.wait()
            self._close_pipes()
            return _outcome(event or {}, code, self._log, StopRequest())
        return event

    def close(self) -> None:
        """Ends the worker."""
        self._close_pipes()
        try:
            self._worker.wait(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()

    def _close_pipes(self) -> None:
        for pipe in (self._worker.stdin, self._worker.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def converse(module: str, job: Mapping[str, Any], *, backend: str | None, threads: int, log: Path) -> Conversation:
    """Starts a worker that answers requests, and waits until it says that it is ready.

    `backend` None leaves the choice of a framework to the worker's code.
    """
    worker = Conversation(_start(_Kind(module, backend, threads), job, log=log, stdin=subprocess.PIPE), log)
    worker.heard()
    return worker


def _environment(backend: str | None, threads: int) -> dict[str, str]:
    environment = dict(os.environ)
    count = str(threads)
    environment |= {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    environment |= {"PYTHONUNBUFFERED": "1", "LOSSARY_PARENT": str(os.getpid()), "HF_HUB_OFFLINE": "1"}
    if backend != "torch":
        environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
    if backend not in (None, "torch"):
        environment["KERAS_BACKEND"] = backend
    if backend == "jax":
        environment["XLA_FLAGS"] = (
            environment.get("XLA_FLAGS", "") + f" --xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
        ).strip()
    # Deterministic matrix products on NVIDIA devices need this before the framework starts.
    environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return environment


def _read_events(worker: "subprocess.Popen[str]", emit: Emit) -> dict[str, Any]:
    last: dict[str, Any] = {}
    for event in _events(worker):
        last = event
        emit(event)
    return last


def _events(worker: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert worker.stdout is not None
    for line in worker.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # Not ours: a library printed to standard output.
        if isinstance(event, dict) and "event" in event:
            yield event


def outcome_of(last: dict[str, Any], log: Path, stop: StopRequest) -> dict[str, Any]:
    """A worker's `done` event, if it said so last; raises the error that it reported, or that it was interrupted."""
    return _outcome(last, 1, log, stop)


def _outcome(last: dict[str, Any], code: int, log: Path, stop: StopRequest) -> dict[str, Any]:
    # What is done stands, however its process ended: some frameworks fail while they shut down.
    if last.get("event") == "done":
        return last
    if last.get("event") == "error":
        kind = error_class(last["kind"])
        where = str(log) if kind is InternalError else last.get("where")
        raise kind(last["message"], where=where, hint=last.get("hint"))
    if stop.asked:
        raise Interrupted("stopped before it had anything new to keep")
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    hint = "The system may have run out of memory." if code == -signal.SIGKILL else None
    tail = "\n    ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL:])
    raise WorkerError(f"the worker {how}; its last words:\n    {tail or '(none)'}", where=str(log), hint=hint)


def worker_main(
    work: Callable[[dict[str, Any], Emit], dict[str, Any]], *, warm_up: Callable[[str], object] | None = None
) -> None:
    """`main` of a worker's module: reads the job that the command line names, works, reports.

    Of one of `WarmWorkers`, `warm_up` imports what a backend takes before there is a job.
    """
    _die_with_parent()
    events = _claim_standard_output()
    emit = emit_events(events)
    try:
        job = _awaited(warm_up) if sys.argv[1] == _WAIT else Path(sys.argv[1])
        emit({"event": "done", **work(read_json(job), emit)})
    except (Exception, KeyboardInterrupt) as error:
        # A mistake of our own leaves its traceback on standard error: the log.
        told = explain(error) or internal(error, keep=False)
        event = {"kind": type(told).__name__, "message": told.message, "where": told.where, "hint": told.hint}
        emit({"event": "error", **event})
        sys.exit(told.exit_code)


def _awaited(warm_up: Callable[[str], object] | None) -> Path:
    """The job that standard input names, once it does."""
    with suppress(Exception):
        # What goes wrong goes wrong again with the job, and is told then.
        if warm_up is not None:
            warm_up(sys.argv[2])
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    told = json.loads(line)
    log = os.open(told["log"], os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    return Path(told["job"])


def emit_events(events: IO[str]) -> Emit:
    """A function that writes events as JSON lines."""

    def emit(event: Mapping[str, Any]) -> None:
        events.write(json.dumps(event, ensure_ascii=True, allow_nan=False) + "\n")
        events.flush()

    return emit


def _claim_standard_output() -> IO[str]:
    """Standard output for events alone: what libraries print there goes to standard error, the log."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _die_with_parent() -> None:
    """A worker whose parent was killed would train on for nobody."""
    parent = int(os.environ.get("LOSSARY_PARENT") or 0)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        threading.Event().wait(0.5)
    os._exit(1)

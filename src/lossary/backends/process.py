"""Worker processes: one for each job, so that each has one framework.

The parent writes the job as JSON, starts `python -m MODULE JOB.json` and reads events, JSON lines on the worker's
standard output; what frameworks print goes to a log file. A worker dies with its parent. Signals: the first SIGINT or
SIGTERM lets the worker finish its step and write a checkpoint, one that comes more than a second later kills it.

`WarmWorkers` are started before there is a job: they import their framework while the parent does something else.
A `Conversation` is a worker that stays: it answers one request after another, read from its standard input.
"""

import json
import os
import signal
import subprocess
import sys
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
    "Conversation",
    "REPEATABLE",
    "Emit",
    "StopRequest",
    "WarmWorkers",
    "Worker",
    "WorkerKind",
    "converse",
    "emit_events",
    "events_of",
    "outcome_of",
    "run_worker",
    "send_signal",
    "start_worker",
    "stop_on_signals",
    "worker_main",
]

Emit = Callable[[Mapping[str, Any]], None]
# Deterministic matrix products on NVIDIA devices need this in the environment before the framework starts.
REPEATABLE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
_LOG_TAIL = 12
# How long a worker that has nothing left to answer may take to end.
_PATIENCE_S = 10.0
# `timeout` signals a command and then its group: two signals so close are one request.
_ONE_REQUEST_S = 1.0
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
                send_signal(worker, signal.SIGTERM)

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
            send_signal(worker, kind)


def send_signal(worker: Worker, kind: signal.Signals) -> None:
    """Signals a worker; one that is gone needs none."""
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


class WorkerKind(NamedTuple):
    """Workers of one kind can stand in for each other."""

    module: str
    backend: str | None
    threads: int


class WarmWorkers:
    """Workers that wait for a job; those that got none end with the block."""

    def __init__(self) -> None:
        self._waiting: dict[WorkerKind, list[subprocess.Popen[str]]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in chain.from_iterable(self._waiting.values()):
            _bury(worker)

    def start(self, module: str, *, backend: str, threads: int) -> None:
        """Starts a worker whose `worker_main` knows how to warm up."""
        kind = WorkerKind(module, backend, threads)
        worker = _spawn(kind, [_WAIT, backend], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._waiting.setdefault(kind, []).append(worker)

    def take(self, kind: WorkerKind, job: Path, log: Path) -> "subprocess.Popen[str] | None":
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
    worker = start_worker(WorkerKind(module, backend, threads), job, log=log, stdin=subprocess.DEVNULL, warm=warm)
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
    return outcome_of(last, code, log, stop)


def start_worker(
    kind: WorkerKind, job: Mapping[str, Any], *, log: Path, stdin: int, warm: WarmWorkers | None = None
) -> "subprocess.Popen[str]":
    """Writes a job beside its log and starts a worker with it, or hands it to a warm one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    job_file = log.with_suffix(".job.json")
    # Keys keep their order: that of a study's datasets is part of its mixture.
    with write_atomic(job_file) as temporary:
        temporary.write_text(json.dumps(dict(job), allow_nan=False), encoding="utf-8")
    with log.open("w", encoding="utf-8") as log_file:
        ready = None if warm is None else warm.take(kind, job_file, log)
        return ready or _spawn(kind, [str(job_file)], stdin=stdin, stderr=log_file)


def _spawn(kind: WorkerKind, arguments: list[str], *, stdin: int, stderr: "IO[str] | int") -> "subprocess.Popen[str]":
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
        event = next(events_of(self._worker), None)
        if event is None or event["event"] == "error":
            if event is not None:
                self._worker.kill()
            code = self._worker.wait()
            self._close_pipes()
            return outcome_of(event or {}, code, self._log, StopRequest())
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
    worker = Conversation(start_worker(WorkerKind(module, backend, threads), job, log=log, stdin=subprocess.PIPE), log)
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
    return REPEATABLE | environment


def _read_events(worker: "subprocess.Popen[str]", emit: Emit) -> dict[str, Any]:
    last: dict[str, Any] = {}
    for event in events_of(worker):
        last = event
        emit(event)
    return last


def events_of(worker: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    """What a worker says, to its end."""
    assert worker.stdout is not None
    for line in worker.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # Not ours: a library printed to standard output.
        if isinstance(event, dict) and "event" in event:
            yield event


def outcome_of(last: dict[str, Any], code: int, log: Path, stop: StopRequest) -> dict[str, Any]:
    """A worker's `done` event if that was its last; else raises what it reported, or how it ended: with `code`."""
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

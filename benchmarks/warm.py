"""Commands and workers that start at once: forks of processes that have imported what each of them needs.

A user pays a second of imports for a command and several for a framework; thousands of commands in a row would spend
nearly all of their time on it. What is forked is `lossary.cli.main.main` and a worker module's `main`: all that happens
after the imports is what happens to a user.

    with Warm("torch", "tensorflow") as warm:
        done = warm.run("train", str(root))             # Done(code, stdout, stderr)
        command = warm.start("train", str(root))        # a Command, to be waited for or killed

A worker of a framework that is not warm starts as it does for a user.
"""

import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import psutil

from lossary.backends import process

_WORKERS = (
    "lossary.worker",
    "lossary.scoring.job",
    "lossary.scoring.foreign_job",
    "lossary.training.timing",
    "lossary.tables.best",
)
_FRAMEWORKS = {"torch": "lossary.backends.torch.backend", "tensorflow": "lossary.backends.keras.backend"}
# What the verbs import when they are called; none of it starts a thread by being imported.
_COMMANDS = (
    "altair",
    "duckdb",
    "jinja2",
    "lossary.cli.main",
    "lossary.diagnosis.diagnose",
    "lossary.pipeline",
    "lossary.tables.comparison",
    "lossary.tables.examples",
    "lossary.verify",
    "scipy.stats",
    "sentencepiece",
    "vl_convert",
)
Who = Literal["all", "parent", "workers"]
_POLL_S = 0.01
_FOREVER_S = 600.0


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int  # negative: the signal that ended it
    stdout: str
    stderr: str


class Warm:
    """Starts commands as forks of this process, and their workers as forks of one process a framework."""

    def __init__(self, *frameworks: str) -> None:
        for name in _COMMANDS:
            importlib.import_module(name)
        self.folder = Path(tempfile.mkdtemp(prefix="lossary-warm-"))
        self._started = 0
        self._servers = {name: self._serve(name) for name in frameworks}

    def _serve(self, framework: str) -> "subprocess.Popen[str]":
        own = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": framework, "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.warm", framework, str(self.folder / framework)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / f"{framework}.log").open("w"),
            text=True,
            env=os.environ | own,
        )

    def __enter__(self) -> Self:
        for name, server in self._servers.items():
            assert server.stdout is not None
            if not server.stdout.readline():
                sys.exit(f"{name} did not start: {(self.folder / f'{name}.log').read_text()[-2000:]}")
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.kill()
            server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *arguments: str) -> Done:
        """Runs a command to its end."""
        return self.start(*arguments).wait()

    def start(self, *arguments: str) -> "Command":
        """Starts a command, leader of a process group of its own."""
        self._started += 1
        outputs = self.folder / f"{self._started}"
        # What is waiting to be written would be written by both.
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _become_command(list(arguments), outputs, self.folder, set(self._servers))
        return Command(pid, outputs)


def _children(pid: int) -> list[psutil.Process]:
    """All descendants of a process that lives."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


class Command:
    """A command at work."""

    def __init__(self, pid: int, outputs: Path) -> None:
        self.pid = pid
        self._outputs = outputs
        self._done: Done | None = None

    @property
    def workers(self) -> list[int]:
        """The pids of all warm workers that it ever started."""
        path = self._outputs.with_suffix(".workers")
        return [int(line) for line in path.read_text().split()] if path.is_file() else []

    def kill(self, who: Who = "all") -> int:
        """kill −9 of the command, of its workers, or of all at once; returns how many processes that ended."""
        group = [process.pid for process in _children(self.pid)]
        pids = {
            "all": [self.pid, *group, *self.workers],
            "parent": [self.pid],
            "workers": [*group, *self.workers],
        }[who]
        ended = 0
        for pid in pids if self._done is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                ended += 1
        return ended

    def poll(self) -> int | None:
        """Its exit code; None while it works."""
        if self._done is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == 0:
                return None
            texts = []
            for kind in ("out", "err"):
                # Killed as it was born, it has said nothing.
                path = self._outputs.with_suffix(f".{kind}")
                texts.append(path.read_text(errors="replace") if path.is_file() else "")
                path.unlink(missing_ok=True)
            self._done = Done(os.waitstatus_to_exitcode(status), *texts)
        return self._done.code

    def wait(self, timeout: float = _FOREVER_S) -> Done:
        """How it ended. A command that does not is a defect, and is killed."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                self.kill()
                until = float("inf")
            time.sleep(_POLL_S)
        assert self._done is not None
        return self._done


def _become_command(arguments: list[str], outputs: Path, folder: Path, warm: set[str]) -> None:
    """The forked child: its streams go to files, its workers come from warm processes."""
    code = 70
    try:
        os.setsid()
        for stream, kind in ((1, "out"), (2, "err")):
            handle = os.open(outputs.with_suffix(f".{kind}"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
            os.dup2(handle, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["lossary", *arguments]
        start = process.start_worker

        def start_warm(kind: Any, job: Mapping[str, Any], *, log: Path, stdin: int, **more: Any) -> Any:
            if kind.backend not in warm or kind.module not in _WORKERS:
                return start(kind, job, log=log, stdin=stdin, **more)
            environment = process._environment(kind.backend, kind.threads)
            worker = _Worker(folder / kind.backend, kind.module, job, environment, log)
            with outputs.with_suffix(".workers").open("a") as file:
                file.write(f"{worker.pid}\n")
            return worker

        process.start_worker = start_warm
        # Those of `lossary run` would import what is imported here.
        process.WarmWorkers.start = lambda *_, **__: None
        from lossary.cli.main import main as lossary

        lossary()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _Worker:
    """A warm worker, as far as `lossary.backends.process` uses a `Popen`."""

    def __init__(
        self, path: Path, module: str, job: Mapping[str, Any], environment: Mapping[str, str], log: Path
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        job_file = log.with_suffix(".job.json")
        with process.write_atomic(job_file) as temporary:
            temporary.write_text(json.dumps(dict(job), allow_nan=False), encoding="utf-8")
        changed = {name: value for name, value in environment.items() if os.environ.get(name) != value}
        request = {"module": module, "job": str(job_file), "environment": changed}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        events, write = os.pipe()
        with log.open("w", encoding="utf-8") as log_file:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [write, log_file.fileno()])
        os.close(write)
        self.stdin = None
        self.stdout = os.fdopen(events, encoding="utf-8")
        self._answers = self._socket.makefile(encoding="ascii")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        del timeout
        if self.returncode is None:
            self.returncode = int(self._answers.readline() or -signal.SIGKILL)
        return self.returncode

    def send_signal(self, kind: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, kind)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.send_signal(signal.SIGKILL)


def main() -> None:
    """Imports a framework and what a worker needs, then forks a keeper and a worker for every connection."""
    framework, path = sys.argv[1:3]
    for name in (*_WORKERS, _FRAMEWORKS[framework]):
        importlib.import_module(name)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(8)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in ready:
            return  # whoever started it is gone
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _keep(connection)
        connection.close()


def _keep(connection: socket.socket) -> None:
    """Forks the worker and tells how it ends; it goes when the command goes, so that the worker notices."""
    data, handles, _, _ = socket.recv_fds(connection, 1 << 20, 2)
    keeper, pid = os.getpid(), os.fork()
    if pid == 0:
        connection.close()
        _become_worker(json.loads(data), handles, keeper)
    for handle in handles:
        os.close(handle)
    connection.sendall(f"{pid}\n".encode())
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with suppress(OSError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
        if select.select([connection], [], [], _POLL_S)[0]:
            os._exit(0)


def _become_worker(request: Mapping[str, Any], handles: list[int], parent: int) -> None:
    code = 70
    try:
        os.setsid()
        os.dup2(handles[0], 1)
        os.dup2(handles[1], 2)
        for handle in handles:
            os.close(handle)
        os.environ.update(request["environment"])
        os.environ["LOSSARY_PARENT"] = str(parent)
        sys.argv = [str(request["module"]), str(request["job"])]
        importlib.import_module(request["module"]).main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

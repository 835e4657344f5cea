"""Sides that start at once: a process that has imported a framework and forks for every diagnosis.

A user pays the import once a diagnosis; hundreds of diagnoses in a row would spend most of their time on it. What the
import costs is measured here and added to each diagnosis, so that the costs in the table are those of a user.

    with Zygote("torch") as zygote:
        diagnose(study, folder, request, launch=zygote.launch)
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.job import answer, load_adapter, setup_of, setup_value
from lossary.diagnosis.session import SideSpec
from lossary.errors import LossaryError, WorkerError

MODULES = {"torch": ("torch", "safetensors.torch", "sentencepiece"), "keras": ("tensorflow", "keras", "sentencepiece")}


class Zygote:
    """Forks sides of one framework."""

    def __init__(self, framework: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lossary-zygote-")
        self._path = str(Path(self._folder.name) / "socket")
        environment = dict(os.environ) | {
            "OMP_NUM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": "tensorflow",
        }
        self._log = Path(self._folder.name) / "log"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.zygote", framework, self._path],
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"the zygote of {framework} did not start: {self._log.read_text()[-2000:]}")
        self.import_s: float = json.loads(line)["cpu_s"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def launch(self, spec: SideSpec, setup: Setup, log: Path) -> "Forked":
        """A forked side."""
        del log
        return Forked(self._path, {"side": spec.value(), "setup": setup_value(setup)})


class Forked:
    """A channel to a forked side."""

    def __init__(self, path: str, job: Mapping[str, Any]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._file = self._socket.makefile("rw", encoding="utf-8")
        self.ask(job)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._file.write(json.dumps(request) + "\n")
        self._file.flush()
        line = self._file.readline()
        if not line:
            raise WorkerError("the forked side died")
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "error":
            raise WorkerError(event["message"])
        return event

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def main() -> None:
    """Imports the framework, then forks for every connection."""
    framework, path = sys.argv[1:3]
    for name in MODULES[framework]:
        importlib.import_module(name)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(8)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print(json.dumps({"cpu_s": time.process_time()}), flush=True)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            try:
                _serve(connection)
            finally:
                os._exit(0)
        connection.close()


def _serve(connection: socket.socket) -> None:
    file = connection.makefile("rw", encoding="utf-8")
    adapter = None
    for line in file:
        request = json.loads(line)
        try:
            if adapter is None:
                adapter = load_adapter(request["side"], setup_of(request["setup"]))
                event = {"event": "ready"}
            else:
                event = answer(adapter, request)
        except (LossaryError, Exception) as error:
            traceback.print_exc()
            event = {"event": "error", "message": str(error)}
        file.write(json.dumps(event) + "\n")
        file.flush()


if __name__ == "__main__":
    main()

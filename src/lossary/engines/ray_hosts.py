"""Machines of a Ray cluster as hosts of workers: an actor starts one beside it and hands on what it says."""

import platform
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from lossary.backends.process import StopRequest
from lossary.backends.rank_workers import log_of_rank
from lossary.engines.api import Needs, Work
from lossary.engines.local import LocalEngine
from lossary.errors import RunError, WorkerError
from lossary.failures import explain, internal

__all__ = ["Host", "HostHandle", "RankOnRay", "begin", "check_shared"]


def begin(host: Any, work: Work, ranks: int, options: dict[str, Any]) -> Any:
    """References of what the worker of a host says."""
    how = (ranks, max(1, int(options["num_cpus"])))
    run = host.run.options(num_returns="streaming")
    return run.remote(work.module, work.request, work.backend, str(work.log), how)


class HostHandle:
    """A worker on a cluster as something that signals are sent to."""

    def __init__(self, ray: Any, host: Any) -> None:
        self._ray, self._host = ray, host

    def send_signal(self, kind: int) -> None:
        if kind == signal.SIGKILL:
            self._ray.kill(self._host)
        else:
            self._host.ask_to_stop.remote()


class RankOnRay:
    """See `lossary.backends.rank_workers.RankWorker`."""

    def __init__(self, ray: Any, host: Any, work: Work, options: dict[str, Any]) -> None:
        self.log = log_of_rank(work.log, work.request["rank"])
        self._ray = ray
        self._handle = HostHandle(ray, host)
        self._said = begin(host, replace(work, log=self.log), 1, options)

    def send_signal(self, sig: int) -> None:
        self._handle.send_signal(sig)

    def events(self) -> Iterator[dict[str, Any]]:
        """What its worker says; one that died, or whose machine did, has no last word."""
        with suppress(self._ray.exceptions.RayError):
            for reference in self._said:
                event = self._ray.get(reference)
                if event.get("kind") == WorkerError.__name__:
                    return
                yield event

    def ended(self) -> int:
        return 1


class Host:
    """On a machine of the cluster: starts a worker there and says what it says."""

    def __init__(self) -> None:
        self._stop = StopRequest()

    def ask_to_stop(self) -> None:
        """Lets the worker finish its step and write a checkpoint."""
        self._stop.ask()

    def meeting(self) -> str:
        """An address of this machine where nobody listens."""
        import ray

        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        with socket.socket() as found:
            found.bind((host, 0))
            return f"tcp://{host}:{found.getsockname()[1]}"

    def run(
        self, module: str, request: Mapping[str, Any], backend: str, log: str, how: tuple[int, int]
    ) -> Iterator[Mapping[str, Any]]:
        """The events of the worker, the last of which says how it ended."""
        ranks, threads = how
        events: SimpleQueue[Mapping[str, Any] | None] = SimpleQueue()

        def work() -> None:
            try:
                check_shared(request["folder"])
                job = Work(module=module, request=request, backend=backend, log=Path(log), needs=Needs(ranks=ranks))
                LocalEngine().run(job, threads=threads, emit=events.put, stop=self._stop)
            except Exception as error:
                told = explain(error) or internal(error, keep=False)
                where = {"message": told.message, "where": told.where, "hint": told.hint}
                events.put({"event": "error", "kind": type(told).__name__, **where})
            events.put(None)

        Thread(target=work, name="worker").start()
        while (event := events.get()) is not None:
            yield event


def check_shared(folder: str) -> None:
    if not Path(folder).is_dir():
        raise RunError(
            f"the machine {platform.node()} of the cluster does not see the study's folder",
            where=folder,
            hint="All machines have to share it, under one path.",
        )

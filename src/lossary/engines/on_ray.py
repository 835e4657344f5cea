"""Processes of a Ray cluster. The study's folder has to be shared by its machines; lossary has to be installed on them.

Blocks are tokenised by tasks, each run has an actor that starts its worker beside it: what a worker is, says and logs
is as on one machine. Where a machine is lost, a run goes on from its last checkpoint on another one.
"""

import logging
import os
import platform
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from lossary.backends.process import Emit, StopRequest, WarmWorkers, outcome_of
from lossary.backends.rank_workers import Attempts
from lossary.data.parsing import Block
from lossary.data.prepare import Promised
from lossary.data.tokenise import BlockSummary, tokenise_block
from lossary.data.tokenizer import StudyTokenizer
from lossary.engines.api import Cores, Needs, Work
from lossary.engines.local import LocalEngine
from lossary.errors import MissingPackage, RunError, UsageError, WorkerError
from lossary.failures import explain, internal

__all__ = ["ray_engine"]

# For somebody to answer at an address.
_PATIENCE_S = 10.0


@contextmanager
def ray_engine(address: str | None) -> Iterator["RayEngine"]:
    """The cluster at an address (`auto`: the one that this machine is of), or one of this machine alone if None.

    MissingPackage without Ray; UsageError where there is no such cluster.
    """
    # Nothing is sent to anybody about how Ray is used here.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingPackage(
            "the engine ray needs ray", hint='pip install "lossary[ray]" installs it, on every machine of the cluster.'
        ) from None
    if ray.is_initialized():
        yield RayEngine(ray)
        return
    dashboard = False if address is None else None
    _check_answers(address)
    try:
        ray.init(address=address, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}",
            where="$.engine.address",
            hint="`ray status` says whether there is one; without an address Ray runs on this machine alone.",
        ) from None
    try:
        yield RayEngine(ray)
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """UsageError where nobody listens at HOST:PORT: Ray would try for minutes, and say so in words of its own."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster at {address!r}: {error}",
            where="$.engine.address",
            hint="`ray status` says whether there is one.",
        ) from None


class RayEngine:
    """See `lossary.engines.api.Engine`."""

    is_local = False

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._resources: dict[str, float] = ray.cluster_resources()

    def share(self, runs: int, jobs: int | None) -> Cores:
        """All at once: the cluster lets those wait that it has no room for."""
        return Cores(min(runs, jobs or runs) or 1, 0)

    def run(
        self, work: Work, *, threads: int, emit: Emit, stop: StopRequest, warm: WarmWorkers | None = None
    ) -> dict[str, Any]:
        del warm
        options = self._options(work.needs, threads)
        attempts = Attempts()
        while True:
            told = self._follow(work, options, emit, stop)
            if stop.asked or told.last.get("event") in ("done", "error"):
                return outcome_of(told.last, 1, work.log, stop)
            if not attempts.again(told.step):
                said = f"Ray lost the machine of its worker {attempts.count} times: {told.lost}"
                raise WorkerError(said, where=str(work.log))
            emit({"event": "note", "text": "Ray lost the machine of its worker: it goes on from the last checkpoint"})

    def _options(self, needs: Needs, threads: int) -> dict[str, Any]:
        """What Ray keeps for a worker: what is asked for, else a core and, where there are any, a GPU for each rank."""
        gpus = needs.gpus if needs.gpus is not None else (needs.ranks if self._resources.get("GPU") else 0)
        options: dict[str, Any] = {
            "num_cpus": needs.cpus or max(threads, needs.ranks),
            "num_gpus": gpus,
            "memory": needs.memory,
        }
        for name, key in (("num_cpus", "CPU"), ("num_gpus", "GPU"), ("memory", "memory")):
            most = max((node["Resources"].get(key, 0) for node in self._ray.nodes() if node["Alive"]), default=0)
            asked = float(options[name] or 0)
            if asked > most:
                wanted, has = (
                    f"{found / 1e9:,.1f} GB of memory" if key == "memory" else f"{found:g} {key}s"
                    for found in (asked, most)
                )
                raise RunError(
                    f"it needs {wanted}, and the largest machine of the cluster has {has}",
                    hint="`cpus`, `gpus` and `memory` in the run's table say what it needs.",
                )
        return options

    def _follow(self, work: Work, options: dict[str, Any], emit: Emit, stop: StopRequest) -> "_Told":
        """Starts the worker of a job and tells what it says, to its end or until its machine is lost."""
        host = self._ray.remote(_Host).options(**options, max_concurrency=2).remote()
        handle = _Handle(self._ray, host)
        stop.add(handle)
        told = _Told()
        request = {**work.request, "folder": str(Path(work.request["folder"]).resolve())}
        threads = max(1, int(options["num_cpus"]))
        try:
            said = host.run.options(num_returns="streaming").remote(
                work.module, request, work.backend, str(work.log.resolve()), (work.needs.ranks, threads)
            )
            for reference in said:
                told.last = self._ray.get(reference)
                told.step = max(told.step, int(told.last.get("step") or 0))
                emit(told.last)
        except self._ray.exceptions.RayError as error:
            told.last, told.lost = {}, str(error).strip().splitlines()[0]
        finally:
            stop.remove(handle)
            self._ray.kill(host)
        return told

    @contextmanager
    def tokenisers(self, count: int, model: StudyTokenizer) -> Iterator["RayTokenisers"]:
        """Tasks of one core each, on whatever machine has one free."""
        del count
        yield RayTokenisers(self._ray, model, int(self._resources.get("CPU", 1)))


class _Told:
    """What a worker said last, how far it had come, and why nothing more is heard of it."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}
        self.step = -1
        self.lost = ""


class _Handle:
    """A worker on a cluster as something that signals are sent to."""

    def __init__(self, ray: Any, host: Any) -> None:
        self._ray, self._host = ray, host

    def send_signal(self, kind: int) -> None:
        if kind == signal.SIGKILL:
            self._ray.kill(self._host)
        else:
            self._host.ask_to_stop.remote()


class _Host:
    """On a machine of the cluster: starts a worker there and says what it says."""

    def __init__(self) -> None:
        self._stop = StopRequest()

    def ask_to_stop(self) -> None:
        """Lets the worker finish its step and write a checkpoint."""
        self._stop.ask()

    def run(
        self, module: str, request: Mapping[str, Any], backend: str, log: str, how: tuple[int, int]
    ) -> Iterator[Mapping[str, Any]]:
        """The events of the worker, the last of which says how it ended."""
        ranks, threads = how
        events: SimpleQueue[Mapping[str, Any] | None] = SimpleQueue()

        def work() -> None:
            try:
                _check_shared(request["folder"])
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


def _check_shared(folder: str) -> None:
    if not Path(folder).is_dir():
        raise RunError(
            f"the machine {platform.node()} of the cluster does not see the study's folder",
            where=folder,
            hint="All machines have to share it, under one path.",
        )


class RayTokenisers:
    """See `lossary.data.prepare.Tokenisers`."""

    def __init__(self, ray: Any, model: StudyTokenizer, cores: int) -> None:
        self._ray = ray
        self._model = ray.put(model)
        self._most = 2 * cores
        self._pending: list[Any] = []
        self._task = ray.remote(num_cpus=1, max_retries=3)(_tokenise)

    def tokenise(self, block: Block, *, directory: Path, number: int) -> Promised:
        while len(self._pending) >= self._most:
            _, self._pending = self._ray.wait(self._pending, num_returns=1)
        reference = self._task.remote(block, self._model, str(directory.resolve()), number)
        self._pending.append(reference)
        return _Promised(self._ray, reference)


def _tokenise(block: Block, model: StudyTokenizer, directory: str, number: int) -> BlockSummary:
    _check_shared(directory)
    return tokenise_block(block, directory=Path(directory), number=number, model=model)


class _Promised:
    """See `lossary.data.prepare.Promised`."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    def done(self) -> bool:
        return bool(self._ray.wait([self._reference], timeout=0)[0])

    def result(self) -> BlockSummary:
        try:
            found: BlockSummary = self._ray.get(self._reference)
            return found
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            said = str(error).strip().splitlines()[0]
            raise WorkerError(
                f"Ray lost a task that tokenises: {said}", hint="Finished blocks are kept. Run the command again."
            ) from None

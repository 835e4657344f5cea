"""Processes of a Ray cluster. The study's folder has to be shared by its machines; lossary has to be installed on them.

Blocks are tokenised by tasks, each run has an actor that starts its worker beside it: what a worker is, says and logs
is as on one machine. Where a machine is lost, a run goes on from its last checkpoint on another one. The ranks of a run
stay on one machine where one has room for all of them, else each has an actor where Ray finds a place for it.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lossary.backends.process import Emit, StopRequest, WarmWorkers, outcome_of
from lossary.backends.rank_workers import Attempts, RankWorker, run_together
from lossary.data.parsing import Block
from lossary.data.prepare import Promised
from lossary.data.tokenise import BlockSummary, tokenise_block
from lossary.data.tokenizer import StudyTokenizer
from lossary.engines.api import Cores, Needs, Work
from lossary.engines.ray_hosts import Host, HostHandle, RankOnRay, begin, check_shared
from lossary.errors import Interrupted, MissingPackage, RunError, UsageError, WorkerError

__all__ = ["ray_engine"]

# For somebody to answer at an address.
_PATIENCE_S = 10.0
# Whether somebody asked to stop, while there is no room yet.
_ASK_EVERY_S = 1.0
# What options of an actor are called as resources of a machine.
_RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


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
        # Without an address Ray would take a cluster that somebody else started on this machine.
        ray.init(
            address=address or "local", include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR
        )
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
        request = {**work.request, "folder": str(Path(work.request["folder"]).resolve())}
        work = replace(work, request=request, log=work.log.resolve())
        whole = self._options(work.needs, threads)
        lacking = self._lacking(whole)
        if lacking is None:
            return self._run_on_one(work, whole, emit, stop)
        ranks = work.needs.ranks
        each = {**whole, "num_cpus": max(1, whole["num_cpus"] // ranks)}
        each |= {"num_gpus": whole["num_gpus"] / ranks, "memory": whole["memory"] and whole["memory"] // ranks}
        if ranks == 1 or any(self._lacking(part, count) for part, count in ((each, 1), (each, ranks))):
            raise RunError(lacking, hint="`cpus`, `gpus` and `memory` in the run's table say what it needs.")
        return run_together(partial(self._spread, work, each, stop), ranks=ranks, emit=emit, stop=stop)

    def _run_on_one(self, work: Work, options: dict[str, Any], emit: Emit, stop: StopRequest) -> dict[str, Any]:
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
        return {"num_cpus": needs.cpus or max(threads, needs.ranks), "num_gpus": gpus, "memory": needs.memory}

    def _lacking(self, options: dict[str, Any], count: int = 1) -> str | None:
        """What the machines have no room for, were they empty: `count` things of such needs; None if they have."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        asked = {key: float(options[name] or 0) for name, key in _RESOURCES.items()}
        room = [
            min((int(node.get(key, 0) / need) for key, need in asked.items() if need), default=count) for node in nodes
        ]
        if sum(room) >= count:
            return None
        most = {key: max((node.get(key, 0) for node in nodes), default=0) for key in asked}
        short = next((key for key in asked if asked[key] > most[key]), "CPU")
        wanted, has = (_amount(short, found[short]) for found in (asked, most))
        return f"it needs {wanted}, and the largest machine of the cluster has {has}"

    @contextmanager
    def _spread(self, work: Work, each: dict[str, Any], stop: StopRequest) -> Iterator[Iterator[RankWorker]]:
        """Starts the worker of each rank where Ray finds room for it, the first ones on as few machines as it can."""
        from ray.util import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        ranks = work.needs.ranks
        bundle = {key: each[name] for name, key in _RESOURCES.items() if each[name]}
        places = placement_group([bundle] * ranks, strategy="PACK")
        hosts: list[Any] = []
        try:
            self._await(places.ready(), stop)
            for rank in range(ranks):
                where = PlacementGroupSchedulingStrategy(places, placement_group_bundle_index=rank)
                options = {**each, "scheduling_strategy": where, "max_concurrency": 2}
                hosts.append(self._ray.remote(Host).options(**options).remote())
            own = {**work.request, "ranks": ranks, "store": self._meeting(hosts[0])}
            yield (
                RankOnRay(self._ray, hosts[rank], replace(work, request={**own, "rank": rank}), each)
                for rank in range(ranks)
            )
        finally:
            for host in hosts:
                self._ray.kill(host)
            remove_placement_group(places)

    def _await(self, ready: Any, stop: StopRequest) -> None:
        """Waits for room on the cluster, or until somebody asks to stop: Interrupted."""
        while not self._ray.wait([ready], timeout=_ASK_EVERY_S)[0]:
            if stop.asked:
                raise Interrupted("stopped while it waited for room on the cluster")

    def _meeting(self, host: Any) -> str:
        """Where ranks meet: on the machine of the first one."""
        try:
            address: str = self._ray.get(host.meeting.remote())
            return address
        except self._ray.exceptions.RayError as error:
            raise WorkerError(f"Ray lost the machine of the first rank: {str(error).strip().splitlines()[0]}") from None

    def _follow(self, work: Work, options: dict[str, Any], emit: Emit, stop: StopRequest) -> "_Told":
        """Starts the worker of a job and tells what it says, to its end or until its machine is lost."""
        host = self._ray.remote(Host).options(**options, max_concurrency=2).remote()
        handle = HostHandle(self._ray, host)
        stop.add(handle)
        told = _Told()
        try:
            self._await(host.__ray_ready__.remote(), stop)
            for reference in begin(host, work, work.needs.ranks, options):
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


def _amount(resource: str, amount: float) -> str:
    return f"{amount / 1e9:,.1f} GB of memory" if resource == "memory" else f"{amount:g} {resource}s"


class _Told:
    """What a worker said last, how far it had come, and why nothing more is heard of it."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}
        self.step = -1
        self.lost = ""


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
    check_shared(directory)
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

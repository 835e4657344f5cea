"""What a launcher asks of whatever runs its processes.

with open_engine("local") as engine:
    engine.run(Work(module="lossary.worker", request={...}, backend="torch", log=path), emit=print, stop=StopRequest())
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from lossary.backends.process import Emit, StopRequest, WarmWorkers
from lossary.data.prepare import Tokenisers
from lossary.data.tokenizer import StudyTokenizer
from lossary.study import Run

__all__ = ["Cores", "Engine", "Needs", "Work", "open_engine"]


class Cores(NamedTuple):
    """How cores are shared: runs at once, and cores of each."""

    at_once: int
    cores_each: int


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a run takes of a machine; None leaves it to the engine."""

    ranks: int = 1
    cpus: int | None = None
    gpus: float | None = None
    memory: int | None = None  # bytes

    @classmethod
    def of(cls, run: Run) -> "Needs":
        """As the study file says."""
        return cls(ranks=run.ranks, cpus=run.cpus, gpus=run.gpus, memory=run.memory)


@dataclass(frozen=True, kw_only=True)
class Work:
    """The job of a worker process, of several where `needs` has ranks: its module, its request, where it logs."""

    module: str
    request: Mapping[str, Any]
    backend: str
    log: Path
    needs: Needs = Needs()


class Engine(Protocol):
    """Runs worker processes, and tokenises blocks."""

    is_local: bool  # whether its processes are of this machine, and may be started before there is a job

    def share(self, runs: int, jobs: int | None) -> Cores:
        """How many of so many runs are handed over at a time, at most `jobs`, and with how many cores."""
        ...

    def run(
        self, work: Work, *, threads: int, emit: Emit, stop: StopRequest, warm: WarmWorkers | None = None
    ) -> dict[str, Any]:
        """Runs a job to its end, on `threads` cores where it does not say what it needs; returns its `done` event.

        Raises the error that the worker reported, Interrupted if it was asked to stop, WorkerError if it died.
        """
        ...

    def tokenisers(self, count: int, model: StudyTokenizer) -> AbstractContextManager[Tokenisers]:
        """Processes that make shards of blocks of text: `count` of them, where this machine makes them."""
        ...


@contextmanager
def open_engine(kind: Literal["local", "ray"], address: str | None = None) -> Iterator[Engine]:
    """The engine of a kind: `local` or `ray`. MissingPackage, with the install line, where Ray is not there."""
    if kind == "local":
        from lossary.engines.local import LocalEngine

        yield LocalEngine()
        return
    from lossary.engines.on_ray import ray_engine

    with ray_engine(address) as engine:
        yield engine

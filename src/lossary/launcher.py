"""Where the work of runs goes: on this machine, one after another or several at a time, each in a process of its own.

    each_run("train", ["tf_xl", "tf_xxl"], job, folder=folder, jobs=2, listener=listener)

A run that fails does not take others with it: the stage ends with an error that names all that failed.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from typing import Any, NamedTuple, Protocol

from lossary.backends.process import Emit, StopRequest, WarmWorkers, run_ranks, run_worker, stop_on_signals
from lossary.errors import BusyError, DataError, Interrupted, LossaryError, RunError, UsageError
from lossary.files import clear_leftovers
from lossary.folder import StudyFolder
from lossary.lease import hold, run_lease
from lossary.results.endings import remembered

__all__ = ["Cores", "Listener", "NotesOnly", "Tools", "each_run", "share_cores"]

_CORES_A_RUN = 8


class Listener(Protocol):
    """Who is told what happens."""

    def progress(self, text: str, done: float, total: float | None) -> None: ...
    def event(self, run: str, event: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


class NotesOnly:
    """Tells notes, those of workers too, and nothing else."""

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self.note = tell

    def progress(self, text: str, done: float, total: float | None) -> None: ...

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        del run
        if event.get("event") == "note":
            self.note(str(event["text"]))


class Tools(NamedTuple):
    """What a job needs to start its worker."""

    run: Callable[[str, dict[str, Any], str], dict[str, Any]]
    run_ranks: Callable[[str, dict[str, Any], int], dict[str, Any]]  # several processes that work together


class Cores(NamedTuple):
    """How the cores of this machine are shared: runs at once, and cores of each."""

    at_once: int
    cores_each: int


def share_cores(runs: int, jobs: int | None) -> Cores:
    """At most `jobs` runs at once; as many as have enough cores if None."""
    cores = os.cpu_count() or 1
    at_once = min(runs, jobs or max(1, cores // _CORES_A_RUN)) or 1
    return Cores(at_once, max(1, cores // at_once))


def each_run(
    stage: str,
    runs: Sequence[str],
    job: Callable[[str, Tools], None],
    *,
    folder: StudyFolder,
    jobs: int | None,
    threads: int | None = None,
    after: Mapping[str, str] | None = None,
    warm: WarmWorkers | None = None,
    begin: Callable[[str], None] = lambda _: None,
    listener: Listener,
) -> None:
    """Does a job for each run, `jobs` at a time, a run after the one that it waits for; collects failures.

    What `begin` raises of a run is no failure of it, and nothing to remember.
    """
    at_once, cores_each = share_cores(len(runs), jobs)
    stop = StopRequest()
    errors: dict[str, LossaryError] = {}

    def work(run: str) -> None:
        if stop.asked:
            return
        emit: Emit = lambda event: listener.event(run, event)  # noqa: E731
        tools = Tools(
            lambda module, request, backend: run_worker(
                module,
                request,
                backend=backend,
                threads=threads or cores_each,
                log=folder.log(run, stage),
                emit=emit,
                stop=stop,
                warm=warm,
            ),
            lambda module, request, ranks: run_ranks(
                module,
                request,
                ranks=ranks,
                threads=max(1, (threads or cores_each) // ranks),
                log=folder.log(run, stage),
                emit=emit,
                stop=stop,
            ),
        )
        try:
            with hold(folder, run_lease(run), doing=stage):
                begin(run)
                with remembered(folder, run, stage):
                    _clear_run(folder, run)
                    job(run, tools)
        except LossaryError as error:
            errors[run] = error
            if isinstance(error, BusyError) and len(runs) > 1:
                # Others go on, for hours perhaps.
                listener.note(f"{run}: left out, {error.message}")

    order = TopologicalSorter({run: [after[run]] if after and run in after else [] for run in runs})
    order.prepare()
    going: dict[Future[None], str] = {}
    with stop_on_signals(stop), ThreadPoolExecutor(at_once) as pool:
        while order.is_active():
            for run in sorted(order.get_ready(), key=list(runs).index):
                going[pool.submit(work, run)] = run
            for future in wait(going, return_when=FIRST_COMPLETED).done:
                future.result()
                order.done(going.pop(future))
    _raise(stage, errors, stop)


def _raise(stage: str, errors: dict[str, LossaryError], stop: StopRequest) -> None:
    if stop.asked:
        kept = "; ".join(f"{run}: {error.message}" for run, error in errors.items())
        raise Interrupted(kept or "interrupted")
    if len(errors) == 1:
        run, error = next(iter(errors.items()))
        if isinstance(error, UsageError | DataError):
            raise error
        message = error.message if error.where == run else f"{run}: {error.message}"
        raise type(error)(message, where=error.where, hint=error.hint)
    if errors:
        lines = "\n".join(f"  {run}: {error}" for run, error in errors.items())
        if all(isinstance(error, BusyError) for error in errors.values()):
            raise BusyError(f"{len(errors)} runs are worked on by others:\n{lines}")
        raise RunError(f"{len(errors)} runs failed to {stage}:\n{lines}")


def _clear_run(folder: StudyFolder, run: str) -> None:
    """As `_clear`, for what training and scoring left."""
    for place in (folder.run(run), folder.checkpoints(run), folder.scores(run, 0).parent):
        clear_leftovers(place)

"""The runs of a study, one after another or several at a time, each in processes of its own, here or on a cluster.

    each_run("train", ["tf_xl", "tf_xxl"], job, folder=folder, jobs=2, listener=listener)

A run that fails does not take others with it: the stage ends with an error that names all that failed.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from graphlib import TopologicalSorter
from typing import Any, NamedTuple, Protocol

from lossary.backends.process import Emit, StopRequest, WarmWorkers, stop_on_signals
from lossary.engines.api import Engine, Needs, Work
from lossary.engines.local import LocalEngine
from lossary.errors import BusyError, DataError, Interrupted, LossaryError, RunError, UsageError
from lossary.files import clear_leftovers
from lossary.folder import StudyFolder
from lossary.lease import hold, run_lease
from lossary.results.endings import remembered

__all__ = ["Listener", "NotesOnly", "Tools", "each_run"]


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
        if event.get("event") == "note":
            self.note(f"{run}: {event['text']}")


class Tools(NamedTuple):
    """What a job needs to start its worker, `run(module, request, backend)`; with `run_ranks`, one for each rank."""

    run: Callable[[str, dict[str, Any], str], dict[str, Any]]
    run_ranks: Callable[[str, dict[str, Any], str], dict[str, Any]]


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
    needs: Mapping[str, Needs] | None = None,
    engine: Engine | None = None,
    listener: Listener,
) -> None:
    """Does a job for each run, `jobs` at a time, a run after the one that it waits for; collects failures.

    What `begin` raises of a run is no failure of it, and nothing to remember. `engine` is this machine if None.
    """
    engine = LocalEngine() if engine is None else engine
    at_once, cores_each = engine.share(len(runs), jobs)
    stop = StopRequest()
    errors: dict[str, LossaryError] = {}

    def work(run: str) -> None:
        if stop.asked:
            return
        emit: Emit = lambda event: listener.event(run, event)  # noqa: E731

        def start(asked: Needs, module: str, request: dict[str, Any], backend: str) -> dict[str, Any]:
            job = Work(module=module, request=request, backend=backend, log=folder.log(run, stage), needs=asked)
            return engine.run(job, threads=threads or cores_each, emit=emit, stop=stop, warm=warm)

        own = (needs or {}).get(run, Needs())
        tools = Tools(partial(start, replace(own, ranks=1)), partial(start, own))
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

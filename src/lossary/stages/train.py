"""From training examples to checkpoints, in worker processes or as one of the processes of `torchrun`."""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from threading import Thread
from typing import NamedTuple

from lossary.backends.process import REPEATABLE, Emit, WarmWorkers
from lossary.engines.api import Engine
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.launcher import Listener, Tools, each_run
from lossary.lease import hold, run_lease
from lossary.reports.closing import load_ahead
from lossary.results.endings import remembered
from lossary.scoring.score import is_scored, job_of_run
from lossary.stages.runs import check_courses, check_devices, needs_of, some_runs
from lossary.study import Study
from lossary.training.plan import is_finished

__all__ = ["StepTime", "time_steps", "train", "train_launched"]


class StepTime(NamedTuple):
    """Seconds that a step of a run takes, and that its worker takes before the second one."""

    step_s: float
    start_s: float


def train(
    study: Study,
    folder: StudyFolder,
    *,
    runs: Sequence[str] | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    score_last: bool = False,
    warm: WarmWorkers | None = None,
    engine: Engine | None = None,
    listener: Listener,
) -> None:
    """Trains runs to their last step, each on `threads` cores or its part of all of them, by warm workers if there are.

    Steps that the recipe says are scored on the way; `score_last`: the last one even where it says nothing.
    Raises RunError if one failed, Interrupted if asked to stop.
    """

    def job(run: str, tools: Tools) -> None:
        recipe = study.recipe_of(run)
        scored = score_last or recipe.evaluate_every is not None
        last = folder.checkpoint(run, recipe.steps)
        drawn = folder.as_drawn
        finished = is_finished(study.drawn(), drawn, run)
        if not finished or (scored and not is_scored(drawn, job_of_run(study, run, last))):
            # The study as it is here: a file that is changed meanwhile, or overridden, is not read again.
            resolved = study.model_dump(mode="json", by_alias=True)
            request = {"study": resolved, "folder": str(folder.root), "run": run, "score_last": scored}
            if score_last:
                # The worker imports its framework meanwhile; the page is not far.
                Thread(target=load_ahead, name="load ahead").start()
            tools.run_ranks("lossary.worker", request, study.runs[run].backend)

    chosen = some_runs(study, folder, runs)
    check_courses(study, folder, chosen)
    begun = [run for run in chosen if not is_finished(study.drawn(), folder.as_drawn, run)]
    check_devices(study, folder, begun, engine)
    after = {run: start.run for run in chosen if (start := study.runs[run].start) is not None and start.run in chosen}
    each_run(
        "train",
        chosen,
        job,
        folder=folder,
        jobs=jobs,
        threads=threads,
        after=after,
        warm=warm,
        needs=needs_of(study),
        engine=engine,
        listener=listener,
    )


def train_launched(study: Study, folder: StudyFolder, *, runs: Sequence[str] | None = None, listener: Listener) -> None:
    """Trains one run in this process, one of those that `torchrun` started; it starts them again if one is lost.

    UsageError if it is not one run of torch.
    """
    chosen = some_runs(study, folder, runs)
    if len(chosen) != 1 or study.runs[chosen[0]].backend != "torch":
        named = f"{len(chosen)} runs" if len(chosen) != 1 else f"a run of {study.runs[chosen[0]].backend}"
        hint = "Name it by --run; `lossary train` alone starts as many processes as `ranks` in the study file says."
        raise UsageError(f"torchrun starts one run of torch, and {named} would be trained", hint=hint)
    [run] = chosen
    size, rows = int(os.environ.get("WORLD_SIZE", "1")), study.recipe_of(run).batch_size
    if size > rows:
        raise UsageError(f"{size} ranks cannot share a batch of {rows} examples", where=run)
    check_courses(study, folder, chosen)
    # Imports of a worker process: this is one, of a launcher of its own.
    from lossary.backends.api import join_ranks
    from lossary.worker import train_as_rank

    for name, value in REPEATABLE.items():
        os.environ.setdefault(name, value)
    ranks = join_ranks(0, 0, "")
    with ExitStack() as held:
        if ranks.rank == 0:
            held.enter_context(hold(folder, run_lease(run), doing="train"))
            held.enter_context(remembered(folder, run, "train"))
        scored = study.recipe_of(run).evaluate_every is not None
        emit: Emit = lambda event: listener.event(run, event)  # noqa: E731
        train_as_rank(study, folder, run, score_last=scored, ranks=ranks, emit=emit)


def time_steps(
    study: Study,
    folder: StudyFolder,
    *,
    steps: int,
    jobs: int | None = None,
    listener: Listener,
) -> dict[str, StepTime]:
    """How long a step of each run takes here while `jobs` of them go on, and a run until it begins; nothing is kept."""
    times: dict[str, StepTime] = {}

    def job(run: str, tools: Tools) -> None:
        resolved = study.model_dump(mode="json", by_alias=True)
        request = {"study": resolved, "folder": str(folder.root), "run": run, "steps": steps}
        began = time.monotonic()
        step_s = float(tools.run("lossary.training.timing", request, study.runs[run].backend)["step_s"])
        times[run] = StepTime(step_s, max(0.0, time.monotonic() - began - steps * step_s))

    each_run("time", list(study.runs), job, folder=folder, jobs=jobs, listener=listener)
    return {run: times[run] for run in study.runs}

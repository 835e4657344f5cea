"""A diagnosis of any model's training loop: no study, no adapter.

diagnose_script("my_script.py:trainer", LoopRequest())
"""

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lossary.backends.process import StopRequest, run_worker
from lossary.diagnosis import traces
from lossary.diagnosis.engine import Progress, Told, concluded, not_compared
from lossary.diagnosis.loop import course, losses, updates
from lossary.diagnosis.loop.record import Record
from lossary.diagnosis.model import Diagnosis, Outcome, Stage
from lossary.diagnosis.session import NotCompared
from lossary.errors import UsageError

__all__ = ["LOOP_CHECKS", "LoopCheck", "LoopRequest", "diagnose_script", "judge"]


@dataclass(frozen=True, kw_only=True)
class LoopCheck:
    """One comparison of a loop with what follows from its own forward passes."""

    name: str
    stage: Stage
    about: str
    run: Callable[[Record], Told | list[Told]]


LOOP_CHECKS: tuple[LoopCheck, ...] = (
    LoopCheck(
        name="conditions",
        stage="forward",
        about="training mode, and pads that the model is told of",
        run=losses.conditions,
    ),
    LoopCheck(
        name="loss", stage="loss", about="the loss of each micro batch, from its logits and labels", run=losses.loss
    ),
    LoopCheck(
        name="gradients",
        stage="gradients",
        about="the gradient of a step, as a combination of those of its micro batches",
        run=losses.gradients,
    ),
    LoopCheck(
        name="clipping", stage="gradients", about="the gradient that the optimizer is given", run=updates.clipping
    ),
    LoopCheck(name="update", stage="update", about="steps of weights, by group of the optimizer", run=updates.update),
    LoopCheck(
        name="schedule", stage="schedule", about="learning rates, and the law of the schedule", run=course.schedule
    ),
    LoopCheck(name="logged", stage="training", about="the loss of each line of the log", run=course.logged),
    LoopCheck(name="evaluation", stage="evaluation", about="the loss of an evaluation", run=course.evaluation),
)


# What no check of a loop looks at yet: said in every answer, so that nobody takes silence for health.
_NOT_LOOKED_AT = "order and repeats of the data, masks of the collator, checkpoints, repeatability"


@dataclass(frozen=True, kw_only=True)
class LoopRequest:
    """What is to be looked at."""

    checks: Sequence[str] = ()  # empty: all
    without: Sequence[str] = ()
    steps: int = 8
    log: Path | None = None  # of the script's own output; None: a temporary file, which stays where the worker dies


def diagnose_script(trainer: str, request: LoopRequest, *, progress: Progress = lambda _: None) -> Diagnosis:
    """Records the loop of `FILE.py:NAME` in a process of its own and judges it.

    Raises UsageError if there is no such Trainer, or its training fails; WorkerError if the process died.
    """
    started = time.process_time()
    checks = _chosen(request)
    script, _, name = trainer.rpartition(":")
    if not script or not name.isidentifier():
        raise UsageError(f"{trainer!r} names no Trainer", where="--trainer", hint="Write FILE.py:NAME.")
    if not Path(script).is_file():
        raise UsageError("there is no such file", where=script, hint="Write FILE.py:NAME.")
    progress(f"{name}: {request.steps} steps")
    with tempfile.TemporaryDirectory(prefix="lossary-record-") as folder:
        result = Path(folder) / "record.json"
        log = request.log or Path(tempfile.mkdtemp(prefix="lossary-log-")) / "trainer.log"
        job = {"script": str(Path(script).resolve()), "name": name, "steps": request.steps, "result": str(result)}
        done = run_worker(
            "lossary.diagnosis.loop.job",
            job,
            backend="torch",
            threads=os.cpu_count() or 1,
            log=log,
            emit=lambda _: None,
            stop=StopRequest(),
        )
        record = Record.of(traces.load(result))
    if request.log is None:
        shutil.rmtree(log.parent)
    found = judge(record, checks, command=shlex.join(["lossary", "diagnose", "--trainer", trainer]), progress=progress)
    return replace(found, cost_s=time.process_time() - started + done["cpu_s"])


def judge(
    record: Record,
    checks: Sequence[LoopCheck] = LOOP_CHECKS,
    *,
    command: str = "",
    progress: Progress = lambda _: None,
) -> Diagnosis:
    """What a record shows."""
    outcomes = []
    for check in checks:
        progress(f"{record.trainer}: {check.name}")
        outcomes += _outcomes(check, record)
    needs = f"an adapter, or a check that is still to be written: {_NOT_LOOKED_AT}"
    rest = not_compared("the rest of the loop", "training", record.trainer, needs)
    return Diagnosis(
        study=f"{record.model}, {len(record.steps)} of {record.total_steps} steps",
        sides=(record.trainer, "its own forward passes"),
        outcomes=(*outcomes, rest),
        command=command,
    )


def _outcomes(check: LoopCheck, record: Record) -> list[Outcome]:
    try:
        told = check.run(record)
    except NotCompared as reason:
        return [not_compared(check.name, check.stage, record.trainer, str(reason))]
    return concluded(check.name, check.stage, record.trainer, told)


def _chosen(request: LoopRequest) -> list[LoopCheck]:
    known = [check.name for check in LOOP_CHECKS]
    for name in (*request.checks, *request.without):
        if name not in known:
            raise UsageError(f"no check of a loop is called {name!r}", hint=f"Checks: {', '.join(known)}.")
    return [
        check
        for check in LOOP_CHECKS
        if (not request.checks or check.name in request.checks) and check.name not in request.without
    ]

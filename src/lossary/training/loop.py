"""The training loop: batches in, checkpoints and step records out. It runs in a worker process.

A run goes on from its newest whole checkpoint and ends with the same weights, to the bit, as one that was never
stopped. A checkpoint of another backend is as good; the bits are then those of the new backend from there on.
"""

import math
import shutil
import signal
import time
from collections import deque
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lossary.backends.api import (
    Backend,
    OutOfDeviceMemory,
    RowSums,
    StepOutput,
    initial_weights,
    new_backend,
    resolved,
)
from lossary.backends.process import Emit
from lossary.data.batches import MicroBatch, TrainingData, micro_batches
from lossary.data.examples import Examples
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import CheckpointError, DivergenceError, Interrupted, RunError, StudyError
from lossary.files import clear_leftovers, write_json
from lossary.folder import StudyFolder
from lossary.models.architectures import EncoderShape, ModelShape, objectives_of, shape_value
from lossary.models.checkpoints import (
    Checkpoint,
    checkpoint_step,
    list_checkpoints,
    load_own_checkpoint,
    save_checkpoint,
)
from lossary.models.update_laws import UpdateLaw, learning_rate
from lossary.results.records import STEP_SCHEMA, read_steps, write_steps
from lossary.study import Study
from lossary.training.plan import RunPlan, branch_point, course_of, plan_run, run_record

__all__ = ["OnTheWay", "time_steps", "train"]

_EVENT_EVERY_S = 0.5
_STEPS_EVERY_S = 10.0
# Of the running means that progress shows, in steps.
_WINDOW = 50


class OnTheWay(Protocol):
    """What is done at some steps with the backend that trains; it changes no weight."""

    def due(self, step: int) -> bool: ...
    def at(self, checkpoint: Path, backend: Backend) -> None: ...
    def kept(self, step: int) -> Set[int]: ...  # steps up to this one whose checkpoints stay


def train(study: Study, folder: StudyFolder, run: str, *, on_the_way: OnTheWay, emit: Emit) -> dict[str, Any]:
    """Trains a run to its last step, or goes on with it; returns step and digest of its last checkpoint.

    Where `on_the_way` is due a checkpoint is written first, so that a run that is stopped takes it up there.

    Raises CheckpointError if the run was begun with another recipe, DivergenceError if the loss is no number or stays
    far above that of a uniform guess, Interrupted after a checkpoint if a signal asked to stop.
    """
    plan = plan_run(study, folder, run)
    course = course_of(plan, folder)
    if course.fate == "refused":
        raise CheckpointError(
            course.why,
            where=str(folder.run(run)),
            hint="Undo the change, or let the changed run have another name; `lossary plan` says what else there is.",
        )
    for place in (folder.run(run), folder.checkpoints(run), folder.scores(run, 0).parent):
        clear_leftovers(place)
    start, branched = _newest(folder, run, emit), None
    shape = start.shape if start is not None else _begun_shape(plan, folder, emit)
    if start is None:
        start, branched = _branch(study, folder, plan, shape)
    loop = _Loop(study, plan, folder, shape, (on_the_way, emit))
    first_step = int(start.state["step"]) if start else 0
    record = run_record(study, plan, device=loop.backend.device, first_step=first_step, start=branched)
    if isinstance(shape, EncoderShape):
        record |= {"model": shape_value(shape), "model_digest": shape.digest}
    write_json(folder.run(run) / "run.json", record)
    return loop.run(start)


def _begun_shape(plan: RunPlan, folder: StudyFolder, emit: Emit) -> ModelShape:
    """The model of a run that begins, and what is to be said of it."""
    try:
        shape, notes = resolved(plan.shape)
    except StudyError as error:
        where = f"{folder.study_file}: $.runs.{plan.run}.model"
        raise StudyError(error.message, where=where, hint=error.hint) from None
    if plan.recipe.has_sop and "sop" not in objectives_of(shape):
        notes = [*notes, "it has no sentence-order head: trained by MLM alone, on the same examples; SOP stays empty"]
    for note in notes:
        emit({"event": "note", "text": f"{plan.run}: {note}"})
    return shape


class _Nothing:
    """Nothing is done on the way."""

    def due(self, step: int) -> bool:
        del step
        return False

    def at(self, checkpoint: Path, backend: Backend) -> None:
        raise AssertionError(f"nothing is due at {checkpoint} for {backend}")

    def kept(self, step: int) -> Set[int]:
        del step
        return frozenset()


def time_steps(study: Study, folder: StudyFolder, run: str, *, steps: int, emit: Emit) -> float:
    """The seconds that a step of a run usually takes, from its first steps; nothing is written.

    The very first one, which may compile, is not among them.
    """
    plan = plan_run(study, folder, run)
    shape, _ = resolved(plan.shape)
    return _Loop(study, plan, folder, shape, (_Nothing(), emit)).usual_step_s(steps)


def _newest(folder: StudyFolder, run: str, emit: Emit) -> Checkpoint | None:
    """The newest whole checkpoint; damaged ones are passed over and said."""
    for path in reversed(list_checkpoints(folder.checkpoints(run))):
        try:
            return load_own_checkpoint(path)
        except CheckpointError as error:
            emit({"event": "note", "text": f"passed over a damaged checkpoint: {error}"})
            shutil.rmtree(path)
    return None


def _branch(
    study: Study, folder: StudyFolder, plan: RunPlan, shape: ModelShape
) -> tuple[Checkpoint, dict[str, Any]] | tuple[None, None]:
    """The checkpoint of another run that this one starts from, if it does, and what is remembered of it."""
    path = branch_point(study, folder, plan.run)
    if path is None:
        return None, None
    checkpoint = load_own_checkpoint(path)
    where = f"{folder.study_file}: $.runs.{plan.run}"
    step = int(checkpoint.state["step"])
    if checkpoint.shape != shape:
        raise CheckpointError(f"its size is not that of {path}, which it starts from", where=where)
    if step >= plan.recipe.steps:
        raise CheckpointError(f"it starts at step {step:,} and has {plan.recipe.steps:,} steps", where=where)
    start = study.runs[plan.run].start
    assert start is not None
    return checkpoint, {"run": start.run, "step": step, "weights_digest": checkpoint.state["weights_digest"]}


class _Loop:
    def __init__(
        self, study: Study, plan: RunPlan, folder: StudyFolder, shape: ModelShape, told: tuple[OnTheWay, Emit]
    ) -> None:
        self.plan = plan
        self.recipe = plan.recipe
        self.folder = folder
        self.shape = shape
        self.data = TrainingData(study, folder, plan.run, weights=plan.weights)
        self.seed = plan.recipe.seed or 0
        self.backend = backend = new_backend(
            plan.backend,
            shape,
            precision=plan.recipe.precision,
            device=study.runs[plan.run].device,
            seed=self.seed,
        )
        self.on_the_way, self.emit = told
        self.max_tokens = backend.max_tokens
        self.records = _StepRecords(folder.steps(plan.run), plan.run, self.data.datasets)
        self.guard = _Guard(plan)
        self.stopping = False
        self.total_tokens = 0

    def run(self, start: Checkpoint | None) -> dict[str, Any]:
        step = self._restore(start)
        steps = self.recipe.steps
        every = self.recipe.checkpoint_every or max(1, steps // 10)
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, self._ask_to_stop)
        meter = _Meter(self.emit, self.plan.run, steps)
        state = start.state if start else {}
        if start is not None and start.path == self.folder.checkpoint(self.plan.run, step):
            self._at(step)
        while step < steps:
            meter.begin()
            output, batch, micro = self._step(step)
            step += 1
            self.total_tokens += batch.tokens
            sums = _by_dataset(batch, output, micro, len(self.data.datasets))
            rate = learning_rate(step - 1, self.recipe.optimizer, steps)
            self.guard.check(step, sums, output.gradient_norm, rate, self.data.called)
            self.records.add(step, sums, (rate, output.gradient_norm, self.total_tokens))
            meter.show(step, sums, self.data.called, batch.tokens)
            due = step in self.plan.branches or self.on_the_way.due(step)
            if step % every == 0 or step == steps or self.stopping or due:
                state = self._save(step)
                self._at(step)
            if self.stopping and step < steps:
                raise Interrupted(f"stopped after step {step:,} of {steps:,}; `lossary run` goes on from there")
        return {"step": step, "weights_digest": state.get("weights_digest"), "tokens": self.total_tokens}

    def usual_step_s(self, steps: int) -> float:
        """The median over so many steps from the beginning, and one before them."""
        self._restore(None)
        seconds = []
        for step in range(steps + 1):
            began = time.monotonic()
            self._step(step)
            seconds.append(time.monotonic() - began)
        return median(seconds[1:])

    def _at(self, step: int) -> None:
        """What is due at a step whose checkpoint is written; then old checkpoints go."""
        # Who is asked to stop does so soon: the run takes it up at this step when it goes on.
        if self.on_the_way.due(step) and not self.stopping:
            with self.records.paused():
                self.on_the_way.at(self.folder.checkpoint(self.plan.run, step), self.backend)
        kept = {*self.plan.branches, *self.on_the_way.kept(step)}
        for old in list_checkpoints(self.folder.checkpoints(self.plan.run))[: -self.recipe.keep_checkpoints]:
            if checkpoint_step(old) not in kept:
                shutil.rmtree(old)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.stopping = True

    def _restore(self, start: Checkpoint | None) -> int:
        self.backend.set_law(UpdateLaw.of(self.recipe.optimizer))
        if start is None:
            self.backend.load_parameters(initial_weights(self.shape, self.seed))
            self.backend.load_moments(None)
            self.records.restore(0)
            return 0
        step = int(start.state["step"])
        if step < self.recipe.steps:
            is_own = start.path == self.folder.checkpoint(self.plan.run, step)
            told = f"goes on from step {step:,}" if is_own else _started_from(start)
            if start.state["backend"] != self.plan.backend:
                told += f", a checkpoint of {start.state['backend']}"
            self.emit({"event": "note", "text": told})
        self.backend.load_parameters(start.parameters)
        self.backend.load_moments(start.moments)
        self.records.restore(step)
        self.total_tokens = int(start.state["tokens"])
        return step

    def _step(self, step: int) -> tuple[StepOutput, Examples, list[MicroBatch]]:
        batch = self.data.batch(step)
        if "sop" not in objectives_of(self.shape):
            batch = replace(batch, sop_labels=np.full_like(batch.sop_labels, -1))
        denominators = (float(batch.masked.sum()) + 1e-5, float(np.count_nonzero(batch.sop_labels >= 0)))
        rate = learning_rate(step, self.recipe.optimizer, self.recipe.steps)
        while True:
            micro = micro_batches(
                batch,
                max_tokens=self.max_tokens,
                sequence_length=self.recipe.sequence_length,
                few_shapes=self.backend.few_shapes,
            )
            try:
                parts = [part.examples for part in micro]
                return self.backend.train_step(parts, denominators, step=step, rate=rate), batch, micro
            except OutOfDeviceMemory as error:
                if self.max_tokens <= self.recipe.sequence_length:
                    raise RunError(
                        f"{self.backend.device} has too little memory for one example: {error}",
                        hint="Choose a smaller size or a shorter sequence_length.",
                    ) from None
                self.max_tokens //= 2
                text = f"out of memory: micro batches of {self.max_tokens:,} tokens from here on (same result)"
                self.emit({"event": "note", "text": text})

    def _save(self, step: int) -> dict[str, Any]:
        parameters = self.backend.parameters()
        self.guard.check_weights(step, parameters)
        self.records.write()
        state = {
            "step": step,
            "tokens": self.total_tokens,
            "backend": self.plan.backend,
            "device": self.backend.device,
            "precision": self.recipe.precision,
            "plan_digest": self.plan.digest,
            "run": self.plan.run,
        }
        path = self.folder.checkpoint(self.plan.run, step)
        return save_checkpoint(
            path,
            shape=self.shape,
            parameters=parameters,
            moments=self.backend.moments(),
            state=state,
            tokenizer=open_tokenizer(self.folder),
        )


_SUMS = ("examples", "tokens", "masked", "mlm_nats", "mlm_correct", "sop_pairs", "sop_nats", "sop_correct")
Sums = dict[str, Any]  # of arrays (D,)


def _by_dataset(batch: Examples, output: StepOutput, micro: list[MicroBatch], datasets: int) -> Sums:
    """Sums of a step by dataset (D,)."""
    rows = np.concatenate([part.rows for part in micro])

    def in_order(field: str) -> np.ndarray[Any, Any]:
        values = np.empty(len(batch))
        parts = zip(output.rows, micro, strict=True)
        values[rows] = np.concatenate([getattr(row, field)[: len(part.rows)] for row, part in parts])
        return values

    columns: dict[str, Any] = {
        "examples": np.ones(len(batch)),
        "tokens": batch.lengths,
        "masked": batch.masked,
        "sop_pairs": batch.sop_labels >= 0,
        **{field: in_order(field) for field in RowSums.__dataclass_fields__},
    }
    return {name: np.bincount(batch.dataset, columns[name], minlength=datasets) for name in _SUMS}


def _started_from(start: Checkpoint) -> str:
    return f"starts from step {start.state['step']:,} of {start.path.parent.parent.name}"


class _StepRecords:
    """The step records of a run, kept in memory and written now and then."""

    def __init__(self, path: Path, run: str, datasets: list[str]) -> None:
        self.path = path
        self.run = run
        self.datasets = datasets
        self._kept = STEP_SCHEMA.empty_table()
        self._rows: list[dict[str, Any]] = []
        self._started = self._written = time.monotonic()
        self._before_s = 0.0

    def restore(self, step: int) -> None:
        """Takes up the records of steps that the checkpoint has seen."""
        table = read_steps(self.path, as_drawn=True)
        self._kept = table.filter(pc.less_equal(table["step"], step))
        self._before_s = pc.max(self._kept["elapsed_s"]).as_py() or 0.0
        self._started = time.monotonic()

    def add(self, step: int, sums: Sums, measured: tuple[float, float, int]) -> None:
        rate, norm, total_tokens = measured
        now = time.monotonic()
        for number, name in enumerate(self.datasets):
            if sums["examples"][number]:
                row = {key: values[number] for key, values in sums.items()}
                counts = {key: row[key] if key.endswith("_nats") else int(row[key]) for key in row}
                self._rows.append(
                    {
                        "run": self.run,
                        "step": step,
                        "dataset": name,
                        **counts,
                        "learning_rate": rate,
                        "gradient_norm": norm,
                        "total_tokens": total_tokens,
                        "elapsed_s": self._before_s + now - self._started,
                    }
                )
        if now - self._written > _STEPS_EVERY_S:
            self.write()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While it lasts, nothing is trained."""
        began = time.monotonic()
        yield
        self._started += time.monotonic() - began

    def write(self) -> None:
        fresh = pa.Table.from_pylist(self._rows, schema=STEP_SCHEMA)
        self._kept = pa.concat_tables([self._kept, fresh], promote_options="permissive").combine_chunks()
        self._rows.clear()
        write_steps(self.path, self._kept)
        # Writing all records again must not come to dominate a long run.
        self._written = time.monotonic() + self._kept.num_rows / 1e5


class _Guard:
    """Stops a run that cannot come to anything, before its checkpoint is overwritten."""

    # So many steps in a row above the loss of a uniform guess, by this factor, are no beginning of learning.
    _patience = 50
    _factor = 3.0

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self.uniform = math.log(plan.shape.vocabulary_size)
        self.bad_steps = 0

    def check(self, step: int, sums: Sums, norm: float, rate: float, datasets: list[str]) -> None:
        loss = float(sums["mlm_nats"].sum() / max(1.0, sums["masked"].sum()))
        if not (math.isfinite(loss) and math.isfinite(norm) and np.isfinite(sums["sop_nats"]).all()):
            self._stop(f"step {step:,}: the loss is {loss:g}, the gradient norm {norm:g}", sums, rate, datasets)
        self.bad_steps = self.bad_steps + 1 if loss > self._factor * self.uniform else 0
        if self.bad_steps >= self._patience:
            seen = f"the MLM loss was above {self._factor:g} times a uniform guess for {self.bad_steps} steps"
            self._stop(f"step {step:,}: {seen}, now {loss:.3g}", sums, rate, datasets)

    def check_weights(self, step: int, parameters: dict[str, Any]) -> None:
        bad = [name for name, value in parameters.items() if not np.isfinite(value).all()]
        if bad:
            raise DivergenceError(f"step {step:,}: {len(bad)} parameters hold no numbers, {bad[0]} first", hint=_LOWER)

    def _stop(self, seen: str, sums: Sums, rate: float, datasets: list[str]) -> None:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums["mlm_nats"] / sums["masked"]
        losses = ", ".join(f"{name} {mean:.3g}" for name, mean in zip(datasets, means, strict=True) if mean == mean)
        raise DivergenceError(
            f"{seen}; learning rate {rate:.3g}; MLM by dataset: {losses or 'no number'}",
            where=self.plan.run,
            hint=_LOWER,
        )


_LOWER = (
    "The last good checkpoint is kept. Lower the learning rate: a rate for one batch size is √(b/B) times as "
    "large for another; or warm up longer."
)


class _Meter:
    """Progress events at a bounded rate: speed, time left, losses over the last steps.

    A backend's first step is not counted, since it may compile; steps that compile another shape later, or wait, do
    not move the median. Between steps checkpoints are written and scored: as much of that is expected as there was.
    """

    def __init__(self, emit: Emit, run: str, steps: int) -> None:
        self.emit = emit
        self.run = run
        self.steps = steps
        self._window: list[Sums] = []
        self._seconds: deque[float] = deque(maxlen=_WINDOW)
        self._tokens: deque[int] = deque(maxlen=_WINDOW)
        self._done = 0
        self._between = 0.0
        self._began = self._ended = time.monotonic()
        self._shown = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._began = time.monotonic()
        if self._done:
            self._between += self._began - self._ended

    def show(self, step: int, sums: Sums, datasets: list[str], tokens: int) -> None:
        """A step ended."""
        self._ended = now = time.monotonic()
        self._window = [*self._window[-_WINDOW + 1 :], sums]
        if self._done:
            self._seconds.append(max(now - self._began, 1e-9))
            self._tokens.append(tokens)
        self._done += 1
        if now - self._shown < _EVENT_EVERY_S and step < self.steps:
            return
        self._shown = now
        usual = median(self._seconds) if self._seconds else None
        pooled = {key: np.sum([part[key] for part in self._window], axis=0) for key in _SUMS}
        self.emit(
            {
                "event": "progress",
                "run": self.run,
                "step": step,
                "steps": self.steps,
                "tokens_per_s": None if usual is None else float(np.mean(self._tokens)) / usual,
                "eta_s": None if usual is None else (usual + self._between / self._done) * (self.steps - step),
                "loss": {name: _means(pooled, number) for number, name in enumerate(datasets)},
            }
        )


def _means(pooled: Sums, number: int) -> dict[str, float | None]:
    masked, pairs = pooled["masked"][number], pooled["sop_pairs"][number]
    return {
        "mlm": float(pooled["mlm_nats"][number] / masked) if masked else None,
        "sop": float(pooled["sop_nats"][number] / pairs) if pairs else None,
    }

"""The training loop: batches in, checkpoints and step records out. It runs in a worker process.

A run goes on from its newest whole checkpoint and ends with the same weights, to the bit, as one that was never
stopped. A checkpoint of another backend is as good; the bits are then those of the new backend from there on.

Several ranks train one run: each makes the same batch, computes on its rows of it, and has the same sums and weights
after each step as the others. The first one alone writes. How many there are changes nothing but rounding, and of a
model with dropout what it drops.
"""

import shutil
import signal
import time
from collections.abc import Mapping, Set
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any, NamedTuple, Protocol

import numpy as np

from lossary.backends.api import Backend, OutOfDeviceMemory, initial_weights, new_backend, resolved
from lossary.backends.process import Emit
from lossary.backends.ranks import OneRank, Ranks
from lossary.data.batches import TrainingData, micro_batches
from lossary.data.examples import Examples
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import CheckpointError, Interrupted, RunError, StudyError, UsageError
from lossary.files import clear_leftovers, write_json
from lossary.folder import StudyFolder
from lossary.models.architectures import EncoderShape, ModelShape, objectives_of, shape_value
from lossary.models.checkpoints import (
    Checkpoint,
    begun_as,
    checkpoint_step,
    list_checkpoints,
    load_own_checkpoint,
    save_checkpoint,
    weights_digest,
)
from lossary.models.update_laws import UpdateLaw, learning_rate
from lossary.study import Study
from lossary.training.ahead import Ahead
from lossary.training.guard import Guard
from lossary.training.meter import Meter
from lossary.training.plan import RunPlan, branch_point, course_of, plan_run, run_record
from lossary.training.step_records import StepRecords
from lossary.training.sums import Sums, by_dataset

__all__ = ["NothingDue", "OnTheWay", "time_steps", "train"]


class OnTheWay(Protocol):
    """What is done at some steps with the backend that trains; it changes no weight."""

    def due(self, step: int) -> bool: ...
    def at(self, checkpoint: Path, backend: Backend) -> None: ...
    def kept(self, step: int) -> Set[int]: ...  # steps up to this one whose checkpoints stay


def train(
    study: Study, folder: StudyFolder, run: str, *, on_the_way: OnTheWay, ranks: Ranks | None = None, emit: Emit
) -> dict[str, Any]:
    """Trains a run to its last step, or goes on with it; returns step and digest of its last checkpoint.

    Where `on_the_way` is due a checkpoint is written first, so that a run that is stopped takes it up there. Of several
    `ranks` all call it alike.

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
    ranks = OneRank() if ranks is None else ranks
    if ranks.size > plan.recipe.batch_size:
        raise UsageError(f"{ranks.size} ranks cannot share a batch of {plan.recipe.batch_size} examples", where=run)
    if ranks.rank == 0:
        for place in (folder.run(run), folder.checkpoints(run), folder.scores(run, 0).parent):
            clear_leftovers(place)
    start, branched = _newest(folder, run, ranks, emit), None
    shape = start.shape if start is not None else _begun_shape(plan, folder, emit)
    if start is None:
        start, branched = _branch(study, folder, plan, shape)
    loop = _Loop(study, plan, folder, shape, (on_the_way, ranks, emit))
    first_step = int(start.state["step"]) if start else 0
    record = run_record(study, plan, device=loop.backend.device, first_step=first_step, start=branched)
    if isinstance(shape, EncoderShape):
        record |= {"model": shape_value(shape), "model_digest": shape.digest}
    if ranks.size > 1:
        record |= {"ranks": ranks.size}
    if ranks.rank == 0:
        write_json(folder.run(run) / "run.json", record)
    return loop.run(start, record)


def _begun_shape(plan: RunPlan, folder: StudyFolder, emit: Emit) -> ModelShape:
    """The model of a run that begins, and what is to be said of it."""
    try:
        shape, notes = resolved(plan.shape, plan.backend)
    except StudyError as error:
        where = f"{folder.study_file}: $.runs.{plan.run}.model"
        raise StudyError(error.message, where=where, hint=error.hint) from None
    if plan.recipe.has_sop and "sop" not in objectives_of(shape):
        notes = [*notes, "it has no sentence-order head: trained by MLM alone, on the same examples; SOP stays empty"]
    for note in notes:
        emit({"event": "note", "text": note})
    return shape


class NothingDue:
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
    shape, _ = resolved(plan.shape, plan.backend)
    return _Loop(study, plan, folder, shape, (NothingDue(), OneRank(), emit)).usual_step_s(steps)


def _newest(folder: StudyFolder, run: str, ranks: Ranks, emit: Emit) -> Checkpoint | None:
    """The newest whole checkpoint, which the first rank finds."""
    found = _newest_whole(folder, run, emit) if ranks.rank == 0 else None
    step = -1 if found is None else int(found.state["step"])
    told = int(ranks.add(np.array([step if ranks.rank == 0 else 0.0]))[0])
    return found if ranks.rank == 0 or told < 0 else load_own_checkpoint(folder.checkpoint(run, told))


def _newest_whole(folder: StudyFolder, run: str, emit: Emit) -> Checkpoint | None:
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


class _Stepped(NamedTuple):
    """What all ranks know of a step once it is done."""

    sums: Sums
    tokens: int
    gradient_norm: float
    stopping: bool  # whether one of them was asked to stop


class _Loop:
    def __init__(
        self, study: Study, plan: RunPlan, folder: StudyFolder, shape: ModelShape, told: tuple[OnTheWay, Ranks, Emit]
    ) -> None:
        self.plan = plan
        self.recipe = plan.recipe
        self.folder = folder
        self.shape = shape
        self.study = study
        self.seed = plan.recipe.seed or 0
        self.on_the_way, self.ranks, self.emit = told
        self.backend = backend = new_backend(
            plan.backend,
            shape,
            precision=plan.recipe.precision,
            device=study.runs[plan.run].device,
            seed=self.seed,
            ranks=self.ranks,
        )
        self.max_tokens = backend.max_tokens
        self.records = StepRecords(folder.steps(plan.run), plan.run, list(study.datasets))
        self.guard = Guard(plan)
        self.record: Mapping[str, Any] = {}
        self.stopping = False
        self.total_tokens = 0

    @cached_property
    def data(self) -> TrainingData:
        # A run whose steps are done is scored without: a dataset of it may have left the study.
        return TrainingData(self.study, self.folder, self.plan.run, weights=self.plan.weights)

    @cached_property
    def batches(self) -> Ahead:
        return Ahead(self.data.batch, self.recipe.steps)

    def run(self, start: Checkpoint | None, record: Mapping[str, Any]) -> dict[str, Any]:
        self.record = record
        step = self._restore(start)
        steps = self.recipe.steps
        every = self.recipe.checkpoint_every or max(1, steps // 10)
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, self._ask_to_stop)
        meter = Meter(self.emit, self.plan.run, steps)
        state = start.state if start else {}
        if start is not None and start.path == self.folder.checkpoint(self.plan.run, step):
            self._at(step, stopping=False)
        while step < steps:
            meter.begin()
            done = self._step(step)
            step += 1
            self.total_tokens += done.tokens
            rate = learning_rate(step - 1, self.recipe.optimizer, steps)
            self.guard.check(step, done.sums, done.gradient_norm, rate, self.data.called)
            self.records.add(step, done.sums, (rate, done.gradient_norm, self.total_tokens))
            meter.show(step, done.sums, self.data.called, done.tokens)
            due = step in self.plan.branches or self.on_the_way.due(step)
            if step % every == 0 or step == steps or done.stopping or due:
                state = self._save(step)
                self._at(step, stopping=done.stopping)
            if done.stopping and step < steps:
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

    def _at(self, step: int, *, stopping: bool) -> None:
        """What is due at a step whose checkpoint is written; then old checkpoints go."""
        # Who is asked to stop does so soon: the run takes it up at this step when it goes on.
        if self.on_the_way.due(step) and not stopping:
            with self.records.paused():
                self.on_the_way.at(self.folder.checkpoint(self.plan.run, step), self.backend)
        if self.ranks.rank:
            return
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
            self.backend.load_parameters(initial_weights(self.shape, self.seed, self.plan.backend))
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

    def _step(self, step: int) -> _Stepped:
        """One step: each rank computes on its rows, and all know the sums of the whole batch."""
        batch = self.batches.batch(step)
        if "sop" not in objectives_of(self.shape):
            batch = replace(batch, sop_labels=np.full_like(batch.sop_labels, -1))
        denominators = (float(batch.masked.sum()) + 1e-5, float(np.count_nonzero(batch.sop_labels >= 0)))
        rate = learning_rate(step, self.recipe.optimizer, self.recipe.steps)
        mine = _rows_of_rank(batch, self.ranks)
        while True:
            micro = micro_batches(
                mine,
                max_tokens=self.max_tokens,
                sequence_length=self.recipe.sequence_length,
                few_shapes=self.backend.few_shapes,
            )
            try:
                parts = [part.examples for part in micro]
                output = self.backend.train_step(parts, denominators, step=step, rate=rate)
                sums = by_dataset(mine, output, micro, len(self.data.datasets))
                sums, stopping = self._agreed(sums)
                return _Stepped(sums, batch.tokens, output.gradient_norm, stopping)
            except OutOfDeviceMemory as error:
                if self.max_tokens <= self.recipe.sequence_length:
                    raise RunError(
                        f"{self.backend.device} has too little memory for one example: {error}",
                        hint="Choose a smaller size or a shorter sequence_length.",
                    ) from None
                self.max_tokens //= 2
                text = f"out of memory: micro batches of {self.max_tokens:,} tokens from here on (same result)"
                self.emit({"event": "note", "text": text})

    def _agreed(self, sums: Sums) -> tuple[Sums, bool]:
        """Sums over all ranks, and whether any was asked to stop: all do so at one step."""
        told = np.concatenate([*sums.values(), [float(self.stopping)]])
        added = self.ranks.add(told)
        return dict(zip(sums, np.split(added[:-1], len(sums)), strict=True)), bool(added[-1])

    def _save(self, step: int) -> dict[str, Any]:
        parameters = self.backend.parameters()
        self.guard.check_weights(step, parameters)
        self._check_equal(step, parameters)
        stored = self._store(step, parameters) if self.ranks.rank == 0 else {}
        # Nobody reads it before it is there.
        self.ranks.add(np.zeros(1))
        return stored

    def _store(self, step: int, parameters: dict[str, Any]) -> dict[str, Any]:
        self.records.write()
        state = {
            "step": step,
            "tokens": self.total_tokens,
            "backend": self.plan.backend,
            "device": self.backend.device,
            "precision": self.recipe.precision,
            "plan_digest": self.plan.digest,
            "run": self.plan.run,
            "begun": begun_as(self.record, step),
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

    def _check_equal(self, step: int, parameters: dict[str, Any]) -> None:
        """RunError unless all ranks hold the same weights, to the bit."""
        if self.ranks.size == 1:
            return
        # So many bits of a digest are a whole number in double precision, added up over a thousand ranks too.
        own = float(int(weights_digest(parameters)[-10:], 16))
        low, high = self.ranks.add(np.array([own, own * (self.ranks.rank == 0)]))
        if low != high * self.ranks.size:
            raise RunError(
                f"step {step:,}: the {self.ranks.size} ranks no longer hold the same weights; nothing is stored",
                hint="Are their devices and libraries the same? The last checkpoint is whole.",
            )


def _rows_of_rank(batch: Examples, ranks: Ranks) -> Examples:
    """The rows of a batch that a rank computes on: about as many tokens as any other."""
    if ranks.size == 1:
        return batch
    return batch.take(np.argsort(-batch.lengths, kind="stable")[ranks.rank :: ranks.size])


def _started_from(start: Checkpoint) -> str:
    return f"starts from step {start.state['step']:,} of {start.path.parent.parent.name}"

"""The frozen validation set to score records, window by window. It runs in a worker process.

Sums do not depend on batch size, buckets or order: each example's nats are added up on their own, in float64.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.backends.api import Backend, OutOfDeviceMemory, ScoreOutput, new_backend
from lossary.backends.process import Emit
from lossary.backends.ranks import Ranks
from lossary.data.batches import micro_batches
from lossary.data.examples import Examples
from lossary.data.frozen_texts import known_texts
from lossary.data.parts import known_part, read_validation_manifest
from lossary.data.tokenizer import open_tokenizer
from lossary.data.validation import ValidationSet, load_validation
from lossary.errors import CheckpointError, RunError, ScoreError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.models.architectures import objectives_of
from lossary.models.checkpoints import Checkpoint, load_checkpoint, weights_digest
from lossary.models.vocabularies import compare_vocabulary
from lossary.naming import names_of
from lossary.objectives import OBJECTIVES
from lossary.results.records import SCORE_SCHEMA, ScoreHeader, read_header, write_score_windows
from lossary.scoring.api import Scorer, View, Window
from lossary.scoring.kept import KeptScores
from lossary.scoring.views import open_view
from lossary.study import Precision, Study
from lossary.vocabulary.api import Vocabulary

__all__ = [
    "BackendScorer",
    "Begun",
    "ScoreJob",
    "begin_scoring",
    "is_scored",
    "job_of_run",
    "open_backend",
    "score_checkpoint",
    "score_windows",
    "store_alone",
    "text_digests",
]

_EVENT_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class ScoreJob:
    """What is scored on what, and under which name the scores are kept."""

    name: str
    checkpoint: Path
    backend: str
    precision: Precision = "fp32"
    device: str | None = None
    batch_size: int | None = None  # examples a forward pass; by memory if None
    size: str = ""
    step: int | None = None  # of training; what the checkpoint says if None


# Gives a backend that has a checkpoint's weights.
OpenBackend = Callable[[ScoreJob, Checkpoint], Backend]


def job_of_run(study: Study, run: str, checkpoint: Path, *, batch_size: int | None = None) -> ScoreJob:
    """How a checkpoint of a run is scored: as it was trained."""
    settings = study.runs[run]
    return ScoreJob(
        name=run,
        checkpoint=checkpoint,
        backend=settings.backend,
        precision=study.recipe_of(run).precision,
        device=settings.device,
        batch_size=batch_size,
        size=settings.size_label,
    )


def _version() -> str:
    # Asking the installation for it takes a while.
    from lossary.version import __version__

    return __version__


def is_scored(folder: StudyFolder, job: ScoreJob) -> bool:
    """Whether the scores of one of lossary's own checkpoints are there; no weight is read."""
    state = read_json(job.checkpoint / "state.json")
    path = folder.scores(job.name, int(state["step"]))
    if not path.is_file():
        return False
    try:
        found = read_header(path, as_drawn=True)
    except ScoreError:
        return False
    asked = {
        "weights_digest": state["weights_digest"],
        "backend": job.backend,
        "precision": job.precision,
        "size": job.size,
        "lossary": _version(),
    }
    validation = read_validation_manifest(folder)
    whole = all(found.part(name) == validation["parts"][name] for name in validation["datasets"])
    # Scores of schema 1 stand as they are: their targets have no bytes.
    if whole and found.schema > 1:
        whole = text_digests(folder, validation["datasets"]).items() <= found.texts.items()
    return whole and all(getattr(found, name) == value for name, value in asked.items())


def open_backend(job: ScoreJob, checkpoint: Checkpoint, ranks: Ranks | None = None) -> Backend:
    """A new model with the weights of a checkpoint, on the device of a rank where there are several."""
    backend = new_backend(job.backend, checkpoint.shape, precision=job.precision, device=job.device, ranks=ranks)
    backend.load_parameters(checkpoint.parameters)
    return backend


class Begun(NamedTuple):
    """A checkpoint that fits the study, and what its scores will say of themselves."""

    job: ScoreJob
    checkpoint: Checkpoint
    view: View
    header: ScoreHeader

    def scorer(self, open_backend: OpenBackend) -> "BackendScorer":
        """A model that has its weights."""
        backend = open_backend(self.job, self.checkpoint)
        longest = self.checkpoint.shape.max_positions
        return BackendScorer(backend=backend, objectives=self.header.objectives, max_length=longest)


def begin_scoring(folder: StudyFolder, job: ScoreJob) -> Begun:
    """Opens a checkpoint. CheckpointError if it does not fit the study's tokenizer or sequence length."""
    validation = load_validation(folder)
    checkpoint = load_checkpoint(job.checkpoint)
    if job.step is not None:
        checkpoint = replace(checkpoint, state={**checkpoint.state, "step": job.step})
    _check_fit(checkpoint, validation, open_tokenizer(folder).vocabulary_size)
    view = open_view(folder, None, "mlm")
    return Begun(job, checkpoint, view, _header(folder, job, checkpoint, validation, view))


def store_alone(
    scorer: Scorer,
    view: View,
    to: tuple[ScoreHeader, Path],
    *,
    batch_size: int | None,
    kept: KeptScores,
    emit: Emit,
) -> None:
    """Scores a view and stores the scores."""
    header, path = to
    scores = score_windows(scorer, view.windows(), header, total=len(view), batch_size=batch_size, kept=kept, emit=emit)
    write_score_windows(path, scores, header)


def score_checkpoint(
    folder: StudyFolder,
    job: ScoreJob,
    *,
    open_backend: OpenBackend = open_backend,
    store: Callable[..., None] = store_alone,
    emit: Emit,
) -> dict[str, Any]:
    """Scores a checkpoint on the validation set and stores the scores; keeps those that are there for the same weights.

    `store` scores and writes, as `store_alone`: of several ranks all call this alike, to store together.
    Raises CheckpointError if the checkpoint does not fit the study's tokenizer or sequence length.
    """
    begun = begin_scoring(folder, job)
    _, checkpoint, view, header = begun
    step, path = header.step, folder.scores(job.name, header.step)
    if path.is_file() and _same(path, header):
        return {"scores": str(path), "step": step}
    scorer = begun.scorer(open_backend)
    if not checkpoint.has_sop and "sop" in objectives_of(checkpoint.shape):
        emit({"event": "note", "text": f"{job.checkpoint} has no sentence-order head: SOP is not scored"})
    header = replace(header, device=scorer.device)
    kept = KeptScores(path, header)
    if kept.datasets:
        stand = ", ".join(sorted(map(names_of(folder.root).called, kept.datasets)))
        emit({"event": "note", "text": f"step {step:,}: the scores of {stand} stand"})
    store(scorer, view, (header, path), batch_size=job.batch_size, kept=kept, emit=emit)
    return {"scores": str(path), "step": step}


def _header(
    folder: StudyFolder, job: ScoreJob, checkpoint: Checkpoint, validation: ValidationSet, view: View
) -> ScoreHeader:
    tokenizer = open_tokenizer(folder)
    return ScoreHeader(
        run=job.name,
        step=int(checkpoint.state.get("step", 0)),
        validation_digest=validation.digest,
        tokenizer_digest=tokenizer.digest,
        tokenizer=compare_vocabulary(checkpoint.path, tokenizer.path, checkpoint.vocabularies),
        weights_digest=weights_digest(checkpoint.parameters),
        backend=job.backend,
        device="",
        precision=job.precision,
        size=job.size,
        tokens=checkpoint.state.get("tokens"),
        objectives=("mlm", "sop") if checkpoint.has_sop else ("mlm",),
        lossary=_version(),
        validation=validation.parts,
        texts=text_digests(folder, validation.datasets),
        vocabulary=view.vocabulary_title,
        folds_case=view.folds_case,
        vocabulary_digest=view.vocabulary_digest,
        view_digest=view.digest,
    )


def text_digests(folder: StudyFolder, names: Iterable[str]) -> dict[str, str]:
    """The digest of the text of each dataset that has one: targets have bytes in it."""
    found = {name: known_texts(folder, known_part(folder, name)) for name in names}
    return {name: manifest["digest"] for name, manifest in found.items() if manifest is not None}


def _same(path: Path, header: ScoreHeader) -> bool:
    try:
        found = read_header(path, as_drawn=True)
    except ScoreError:
        return False
    # Scores of a dataset that has left the study do no harm.
    still = found.validation.items() >= header.validation.items()
    kept = {"device": "", "validation": header.validation, "validation_digest": header.validation_digest}
    kept |= {"view_digest": header.view_digest}
    return still and vars(found) | kept == vars(header)


def _check_fit(checkpoint: Checkpoint, validation: ValidationSet, vocabulary_size: int) -> None:
    shape, longest = checkpoint.shape, validation.longest
    if shape.vocabulary_size != vocabulary_size:
        raise CheckpointError(
            f"its vocabulary has {shape.vocabulary_size:,} pieces, the study's tokenizer {vocabulary_size:,}",
            where=str(checkpoint.path),
            hint="--tokenizer PATH scores a checkpoint from elsewhere in its own vocabulary; the study's, all of whose "
            "numbers can be subtracted, is [tokenizer] model = …",
        )
    if shape.max_positions < longest:
        raise CheckpointError(
            f"it has {shape.max_positions} positions, and validation examples have up to {longest} tokens",
            where=str(checkpoint.path),
        )


def score_windows(
    scorer: Scorer,
    windows: Iterable[Window],
    header: ScoreHeader,
    *,
    total: int,
    batch_size: int | None = None,
    kept: KeptScores | None = None,
    emit: Emit,
) -> Iterator[pa.Table]:
    """Scores of `total` examples as `write_score_windows` takes them, in the order of their windows.

    Scores that are kept are taken over. Examples are sorted by length within a window: little padding, bounded memory.
    `header` says what is scored and by whom; `batch_size` are examples a forward pass, by memory if None.
    """
    max_tokens = scorer.max_tokens
    started = shown = time.monotonic()
    done = 0
    for window in windows:
        if kept is not None and window.dataset in kept.datasets:
            yield from _kept_tables(kept, window, header)
        else:
            collected = _Collected(window.examples)
            max_tokens = _score_window(scorer, collected, (max_tokens, batch_size, emit))
            yield from _tables(collected, window, header)
        done += len(window.examples)
        now = time.monotonic()
        if now - shown > _EVENT_EVERY_S or done == total:
            shown = now
            rate = done / max(now - started, 1e-9)
            emit({"event": "progress", "run": header.run, "done": done, "total": total, "examples_per_s": rate})


@dataclass(frozen=True, kw_only=True)
class BackendScorer:
    """A backend as what scores examples of the study's own vocabulary."""

    backend: Backend
    objectives: tuple[str, ...]
    max_length: int | None = None
    vocabulary: Vocabulary | None = None

    @property
    def max_tokens(self) -> int:
        return self.backend.max_tokens

    @property
    def device(self) -> str:
        return self.backend.device

    @property
    def few_shapes(self) -> bool:
        return self.backend.few_shapes

    def score(self, examples: Examples) -> ScoreOutput:
        return self.backend.score(examples)


class _Collected:
    """Outputs of the examples of a window (N,) and their positions (N, P)."""

    def __init__(self, examples: Examples) -> None:
        count, width = examples.positions.shape
        self.examples = examples
        self.mlm_nats = np.zeros(count)
        self.mlm_correct = np.zeros(count, np.int32)
        self.sop_nats = np.zeros(count)
        self.sop_correct = np.zeros(count, bool)
        self.position_nats = np.zeros((count, width), np.float32)
        self.predicted = np.zeros((count, width), np.int32)

    def put(self, rows: NDArray[np.int64], output: ScoreOutput) -> None:
        used = slice(len(rows))
        for field in ("mlm_nats", "mlm_correct", "sop_nats", "sop_correct"):
            getattr(self, field)[rows] = getattr(output.rows, field)[used]
        width = min(self.position_nats.shape[1], output.position_nats.shape[1])
        self.position_nats[rows, :width] = output.position_nats[used, :width]
        self.predicted[rows, :width] = output.predicted[used, :width]


def _score_window(scorer: Scorer, collected: _Collected, limits: tuple[int, int | None, Emit]) -> int:
    """Scores the examples of a window; returns the tokens a forward pass that the device took."""
    max_tokens, batch_size, emit = limits
    examples = collected.examples
    longest = int(examples.lengths.max())
    while True:
        try:
            for chunk in _chunks(examples, batch_size):
                part = examples.take(chunk)
                for micro in micro_batches(
                    part, max_tokens=max_tokens, sequence_length=longest, few_shapes=scorer.few_shapes
                ):
                    collected.put(chunk[micro.rows], scorer.score(micro.examples))
            return max_tokens
        except OutOfDeviceMemory as error:
            if max_tokens <= longest:
                raise RunError(f"{scorer.device} has too little memory for one example: {error}") from None
            max_tokens //= 2
            emit({"event": "note", "text": f"out of memory: {max_tokens:,} tokens a pass from here on (same result)"})


def _chunks(examples: Examples, batch_size: int | None) -> list[NDArray[np.int64]]:
    order = np.argsort(-examples.lengths, kind="stable")
    if batch_size is None:
        return [order]
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _rows_of(objective: str, examples: Examples) -> NDArray[np.int64]:
    """The examples that have a target."""
    return np.arange(len(examples)) if OBJECTIVES[objective].is_of_tokens else np.flatnonzero(examples.sop_labels >= 0)


def _kept_tables(kept: KeptScores, window: Window, header: ScoreHeader) -> Iterator[pa.Table]:
    """Rows of another file of scores as they would stand in this one: the text is the window's."""
    for objective in header.objectives:
        rows = _rows_of(objective, window.examples)
        if len(rows):
            found = kept.take(objective, window.dataset, window.examples.example[rows])
            places = _places(objective, rows, window, header)
            yield pa.table({name: places.get(name, found[name]) for name in SCORE_SCHEMA.names})


def _places(objective: str, rows: NDArray[np.int64], window: Window, header: ScoreHeader) -> dict[str, Any]:
    """The columns that say what was scored."""
    examples, zeros = window.examples, np.zeros(len(rows), np.int32)
    names = {"run": header.run, "objective": objective, "dataset": window.dataset}
    encoded = {key: pa.DictionaryArray.from_arrays(zeros, [name]) for key, name in names.items()}
    of_tokens = OBJECTIVES[objective].is_of_tokens
    weights = window.target_bytes if of_tokens else None
    return {
        **encoded,
        "step": np.full(len(rows), header.step, np.int64),
        "example": examples.example[rows],
        "tokens": examples.lengths[rows],
        "targets": examples.masked[rows] if of_tokens else zeros + 1,
        "bytes": weights[rows] if weights is not None else pa.nulls(len(rows), pa.int32()),
    }


def _tables(collected: _Collected, window: Window, header: ScoreHeader) -> Iterator[pa.Table]:
    """The rows of each objective. Finite weights can overflow: such a loss is stored as null."""
    for objective in header.objectives:
        found = _of_tokens(collected) if OBJECTIVES[objective].is_of_tokens else _of_pairs(collected)
        rows = _rows_of(objective, window.examples)
        if len(rows):
            columns = _places(objective, rows, window, header) | found
            yield pa.table({name: columns[name] for name in SCORE_SCHEMA.names})


def _of_tokens(collected: _Collected) -> dict[str, Any]:
    examples = collected.examples
    used = examples.weights > 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(examples.masked)]).astype(np.int32))
    broken = ~np.isfinite(collected.mlm_nats) | ~np.isfinite(np.where(used, collected.position_nats, 0)).all(axis=1)
    return {
        "nats": pa.array(collected.mlm_nats, mask=broken),
        "correct": collected.mlm_correct,
        "label": pa.nulls(len(examples), pa.int8()),
        "target_nats": pa.ListArray.from_arrays(
            offsets, pa.array(collected.position_nats[used]), mask=pa.array(broken)
        ),
        "predicted": pa.ListArray.from_arrays(offsets, pa.array(collected.predicted[used])),
    }


def _of_pairs(collected: _Collected) -> dict[str, Any]:
    """Of one target nats and answer say all: there are no lists."""
    rows = collected.examples.sop_labels >= 0
    nats = collected.sop_nats[rows]
    return {
        "nats": pa.array(nats, mask=~np.isfinite(nats)),
        "correct": collected.sop_correct[rows].astype(np.int32),
        "label": collected.examples.sop_labels[rows],
        "target_nats": pa.nulls(len(nats), pa.list_(pa.float32())),
        "predicted": pa.nulls(len(nats), pa.list_(pa.int32())),
    }

"""How long steps take here: `python -m lossary.training.timing JOB.json`. Nobody keeps what they make.

JOB.json      {"study", "folder", "run", "steps"}         steps of a run whose examples are prepared
              {..., "shape"}                              steps of a model of this shape on random pieces, nothing read
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from lossary.backends.api import initial_weights, new_backend, resolved, sizes_of
from lossary.backends.process import Emit, worker_main
from lossary.data.batches import micro_batches
from lossary.data.examples import Examples
from lossary.folder import StudyFolder
from lossary.models.architectures import ModelShape, shape_from
from lossary.models.update_laws import UpdateLaw, learning_rate
from lossary.study import Recipe, Study
from lossary.study_file import check_study
from lossary.training.loop import time_steps

__all__ = ["main", "random_examples"]

# Multiplications forward of the rows that are timed: some seconds on a core.
_OPERATIONS = 2e10
_ENOUGH_S = 5.0


def main() -> None:
    """Times the run that the job names."""
    worker_main(_work)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    study, run, steps = check_study(job["study"]), job["run"], job["steps"]
    if job.get("shape"):
        shape, _ = resolved(shape_from(job["shape"]), study.runs[run].backend)
        return _time_random(study, run, shape, steps)
    return {
        "step_s": time_steps(study.drawn(), StudyFolder(Path(job["folder"]), drawn=True), run, steps=steps, emit=emit)
    }


def _time_random(study: Study, run: str, shape: ModelShape, steps: int) -> dict[str, Any]:
    """Median seconds of a step and of scoring an example, where every example is as long as it may be.

    A step is that of one micro batch, times how many a batch has: its update counts with each, which is little.
    """
    recipe, settings = study.recipe_of(run), study.runs[run]
    backend = new_backend(settings.backend, shape, precision=recipe.precision, device=settings.device)
    backend.set_law(UpdateLaw.of(recipe.optimizer))
    backend.load_parameters(initial_weights(shape, 0, settings.backend))
    backend.load_moments(None)
    rows = _rows(recipe, shape, backend.max_tokens)
    [micro] = micro_batches(
        random_examples(recipe, shape, rows=rows),
        max_tokens=max(backend.max_tokens, rows * recipe.sequence_length),
        sequence_length=recipe.sequence_length,
        few_shapes=backend.few_shapes,
    )
    sizes = float(micro.examples.masked.sum()), float(rows)

    def train(step: int) -> None:
        rate = learning_rate(step, recipe.optimizer, recipe.steps)
        backend.train_step([micro.examples], sizes, step=step, rate=rate)

    def score(step: int) -> None:
        del step
        backend.score(micro.examples)

    return {
        "step_s": _usual_s(train, steps) * recipe.batch_size / rows,
        "score_s": _usual_s(score, steps) / rows,
    }


def _rows(recipe: Recipe, shape: ModelShape, max_tokens: int) -> int:
    """So few that a large model is timed in minutes, and no more than a micro batch has."""
    sizes = sizes_of(shape)
    assert sizes is not None, "a worker has the framework of its run"
    quick = _OPERATIONS / (sizes.operations * recipe.sequence_length)
    return max(1, min(recipe.batch_size, max_tokens // recipe.sequence_length, round(quick)))


def _usual_s(work: Callable[[int], None], steps: int) -> float:
    """The median of so many, or of as many as end in time; the first, which may compile, is not among them."""
    work(0)
    seconds: list[float] = []
    while len(seconds) < steps and sum(seconds) < _ENOUGH_S:
        began = time.monotonic()
        work(len(seconds) + 1)
        seconds.append(time.monotonic() - began)
    return median(seconds)


def random_examples(recipe: Recipe, shape: ModelShape, *, rows: int) -> Examples:
    """Rows of random pieces, each as long as the recipe allows."""
    length = recipe.sequence_length
    masked = min(max(1, round(length * recipe.mask_rate)), recipe.max_predictions or length)
    random = np.random.default_rng(0)
    pieces = random.integers(shape.vocabulary_size, size=(rows, length), dtype=np.int32)
    where = np.sort(random.permuted(np.tile(np.arange(1, length, dtype=np.int32), (rows, 1)), axis=1)[:, :masked])
    return Examples(
        dataset=np.zeros(rows, np.int16),
        example=np.arange(rows, dtype=np.uint64),
        token_ids=pieces,
        segment_ids=(np.arange(length) >= length // 2).astype(np.int32)[None].repeat(rows, axis=0),
        lengths=np.full(rows, length, np.int32),
        positions=where,
        labels=np.take_along_axis(pieces, where, axis=1),
        masked=np.full(rows, masked, np.int32),
        sop_labels=(np.arange(rows) % 2).astype(np.int8),
        bytes=np.full(rows, 4 * length, np.int32),
    )


if __name__ == "__main__":
    main()

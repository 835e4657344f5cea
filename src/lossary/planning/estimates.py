"""How large a study is: shapes, parameters, examples, tokens, memory, disk, and time where a like run was timed here.

Counts of datasets are known once they are prepared. Time is that of runs of this study on the same backend: of the same
size as it is, of another size in proportion to the operations of a token. Runs that were timed beforehand have that.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from lossary.backends.api import sizes_of
from lossary.data.parts import known_parts
from lossary.data.shards import MANIFEST
from lossary.data.tokenizer import named_model
from lossary.errors import LossaryError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.models.architectures import ModelShape, run_shape
from lossary.results.records import read_steps
from lossary.study import Study
from lossary.tables.begun import begun_with
from lossary.training.plan import steps_done
from lossary.vocabulary import open_vocabulary

__all__ = ["DatasetEstimate", "Estimates", "RunEstimate", "Timed", "estimate", "shape_of_run"]

_FLOAT = 4
# Weights, gradients and two moments.
_COPIES = 4
# By so much more or less than its tokens would give it, sampling by rows makes a dataset seen.
_UNEVEN = 3.0


class Timed(NamedTuple):
    """Seconds of a step, and of scoring one example, where every example is as long as it may be."""

    step_s: float
    score_s: float


@dataclass(frozen=True, kw_only=True)
class DatasetEstimate:
    """Counts of one dataset; None where it is not prepared. `share` is that of sampling in training."""

    name: str
    documents: int | None
    tokens: int | None
    training_examples: int | None
    validation_examples: int | None
    share: float | None


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """What one run is and takes; None where it is not known. Memory is that of weights, gradients and moments."""

    name: str
    backend: str
    label: str
    shape: ModelShape
    parameters: int | None
    steps: int
    steps_left: int
    examples: int
    tokens: int | None
    memory_bytes: int | None
    disk_bytes: int | None
    seconds_left: float | None
    timed_by: str | None  # the run that the time is from; None where steps were timed for the plan
    scoring_seconds: float | None  # of all validation examples, once


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """All of a study."""

    datasets: list[DatasetEstimate]
    runs: list[RunEstimate]
    notes: list[str]


def estimate(study: Study, folder: StudyFolder, timed: Mapping[str, Timed] | None = None) -> Estimates:
    """Asks manifests and step records; writes nothing. `timed` are runs that were timed beforehand."""
    datasets = list(_datasets(study, folder))
    rates = {run: rate for run in study.runs if (rate := _rate(folder, run)) is not None}
    runs = []
    for run in study.runs:
        bare = _run(study, folder, run, datasets)
        known = (timed or {}).get(run)
        if known is not None:
            runs.append(_as_timed(study, bare, known, datasets))
        else:
            runs.append(_as_others(study, folder, bare, rates))
    return Estimates(datasets=datasets, runs=runs, notes=_notes(study, folder, datasets))


def _datasets(study: Study, folder: StudyFolder) -> Iterator[DatasetEstimate]:
    length = study.recipe.sequence_length
    parts = known_parts(folder)
    found = {}
    for name in study.datasets:
        paths = folder.dataset(name) / MANIFEST, folder.spans(name, length) / MANIFEST
        found[name] = [read_json(path) if path.is_file() else {} for path in paths]
    shares = study.mixture.shares
    weights = {
        name: shares[name] if not isinstance(shares, str) else spans.get(shares) for name, (_, spans) in found.items()
    }
    known = [float(weight) for weight in weights.values() if weight is not None]
    for name, (documents, spans) in found.items():
        weight = weights[name]
        yield DatasetEstimate(
            name=name,
            documents=documents.get("documents"),
            tokens=documents.get("tokens"),
            training_examples=spans.get("examples"),
            validation_examples=parts[name]["examples"] if name in parts else None,
            share=float(weight) / (sum(known) or 1.0) if weight is not None and len(known) == len(weights) else None,
        )


def _run(study: Study, folder: StudyFolder, run: str, datasets: list[DatasetEstimate]) -> RunEstimate:
    recipe, shape = study.recipe_of(run), shape_of_run(study, folder, run)
    sizes = sizes_of(shape)
    parameters = None if sizes is None else sizes.parameters
    tokens = _tokens_an_example(study, folder, run, datasets)
    left = max(0, recipe.steps - (steps_done(folder, run) or _steps_before(study, folder, run)))
    return RunEstimate(
        name=run,
        backend=study.runs[run].backend,
        label=study.runs[run].size_label,
        shape=shape,
        parameters=parameters,
        steps=recipe.steps,
        steps_left=left,
        examples=recipe.steps * recipe.batch_size,
        tokens=None if tokens is None else round(recipe.steps * recipe.batch_size * tokens),
        memory_bytes=None if parameters is None else _COPIES * _FLOAT * parameters,
        # Weights and two moments each; one checkpoint more while the oldest is still there.
        disk_bytes=None if parameters is None else 3 * _FLOAT * parameters * (recipe.keep_checkpoints + 1),
        seconds_left=None if left else 0.0,
        scoring_seconds=None,
        timed_by=None,
    )


def _steps_before(study: Study, folder: StudyFolder, run: str) -> int:
    """The step that a run begins at: that of the checkpoint that it starts from, as it will be, or 0."""
    start = study.runs[run].start
    if start is None:
        return 0
    return start.step or max(steps_done(folder, start.run), study.recipe_of(start.run).steps)


def _as_timed(study: Study, run: RunEstimate, timed: Timed, datasets: list[DatasetEstimate]) -> RunEstimate:
    """With the time of steps whose examples are all as long as they may be; shorter where their tokens are known."""
    counts = [dataset.validation_examples for dataset in datasets]
    scored = study.validation.examples if None in counts else sum(count or 0 for count in counts)
    longest = run.examples * study.recipe_of(run.name).sequence_length
    part = 1.0 if run.tokens is None else run.tokens / longest
    return replace(
        run, seconds_left=run.steps_left * timed.step_s * part, scoring_seconds=scored * timed.score_s * part
    )


def _as_others(study: Study, folder: StudyFolder, run: RunEstimate, rates: Mapping[str, float]) -> RunEstimate:
    """With the time that it took so far, or another run of its backend, in proportion to the operations of a token."""
    here = sizes_of(run.shape)
    if here is None:
        return run
    other = _timed_by(study, folder, run, rates)
    there = None if other is None else sizes_of(shape_of_run(study, folder, other))
    if other is None or there is None or run.tokens is None or not run.steps_left:
        return run
    rate = rates[other] * there.operations / here.operations
    return replace(run, seconds_left=run.tokens * run.steps_left / run.steps / rate, timed_by=other)


def _timed_by(study: Study, folder: StudyFolder, run: RunEstimate, rates: Mapping[str, float]) -> str | None:
    """The run whose time tells most of this one: itself, one of its size, one of its backend."""
    like = [other for other in rates if study.runs[other].backend == run.backend]
    counted = {other: sizes_of(shape_of_run(study, folder, other)) for other in [*like, run.name]}
    known = {other: sizes.operations for other, sizes in counted.items() if sizes is not None}
    distance = {other: abs(known[other] / known[run.name] - 1.0) for other in like if other in known}
    return min(distance, key=lambda other: (other != run.name, distance[other]), default=None)


def shape_of_run(study: Study, folder: StudyFolder, run: str) -> ModelShape:
    """With the vocabulary that the tokenizer has, or is to have."""
    return run_shape(study, folder, run, vocabulary_size=_vocabulary_size(study, folder))


def _vocabulary_size(study: Study, folder: StudyFolder) -> int:
    manifest = folder.tokenizer / MANIFEST
    if manifest.is_file():
        return int(read_json(manifest)["vocabulary_size"])
    if study.tokenizer.model is not None:
        # What is wrong with the file is said where it is taken.
        with suppress(LossaryError):
            return _size_of(named_model(folder, study.tokenizer.model))
    return study.tokenizer.vocabulary_size


@lru_cache(maxsize=4)
def _size_of(path: Path) -> int:
    return open_vocabulary(path).size


def _tokens_an_example(study: Study, folder: StudyFolder, run: str, datasets: list[DatasetEstimate]) -> float | None:
    """The mean over the mixture, special pieces included; None where not all datasets are prepared at this length.

    A run that was begun keeps its mixture: what came later need not be prepared.
    """
    length, begun = study.recipe_of(run).sequence_length, begun_with(folder, run)
    planned = {dataset.name: dataset.share for dataset in datasets if dataset.name in study.datasets_of(run)}
    total = weight = 0.0
    for name, share in (begun.shares if begun is not None and begun.shares else planned).items():
        path = folder.spans(name, length) / MANIFEST
        spans = read_json(path) if path.is_file() else {}
        if not spans.get("examples") or share is None:
            return None
        total += share * (min(length, spans["tokens"] / spans["examples"] + 3))
        weight += share
    return total / weight if weight else None


def _rate(folder: StudyFolder, run: str) -> float | None:
    """Tokens a second of training, over all steps that are recorded."""
    try:
        steps = read_steps(folder.steps(run), ["total_tokens", "elapsed_s"])
    except LossaryError:
        return None
    tokens, elapsed = pc.max(steps["total_tokens"]).as_py(), pc.max(steps["elapsed_s"]).as_py()
    return tokens / elapsed if tokens and elapsed else None


def _notes(study: Study, folder: StudyFolder, datasets: list[DatasetEstimate]) -> list[str]:
    """What is not known yet, what families of models lack, and where sampling by rows and by what there is to read
    differ widely.
    """
    return [*_not_known(study, folder, datasets), *_without_order(study), *_uneven(study, datasets)]


def _not_known(study: Study, folder: StudyFolder, datasets: list[DatasetEstimate]) -> list[str]:
    names = ", ".join(dataset.name for dataset in datasets if dataset.documents is None)
    notes = [f"{names}: counts are known once `lossary prepare` has read the text"] if names else []
    tokenizer = study.tokenizer
    if study.runs and tokenizer.model is None and not (folder.tokenizer / MANIFEST).is_file():
        asked = "vocabulary_size" in tokenizer.model_fields_set
        notes.append(
            f"parameters, memory and disk are those of a vocabulary of {tokenizer.vocabulary_size:,} pieces"
            + ("" if asked else ", which is the most there can be: a small text has fewer")
        )
    return notes


def _without_order(study: Study) -> list[str]:
    names = [name for name, run in study.runs.items() if run.model is not None and study.recipe_of(name).has_sop]
    lack = "has" if len(names) == 1 else "have"
    if not names:
        return []
    return [
        f"{', '.join(names)} {lack} no sentence-order head: trained by MLM alone, on the same examples; SOP stays empty"
    ]


def _uneven(study: Study, datasets: list[DatasetEstimate]) -> list[str]:
    if study.mixture.shares != "rows" or any(d.share is None or not d.training_examples for d in datasets):
        return []
    whole = sum(d.training_examples or 0 for d in datasets)
    notes = []
    for dataset in datasets:
        by_examples, share = (dataset.training_examples or 0) / whole, dataset.share or 0.0
        ratio = by_examples / share if share else 1.0
        if 1 / _UNEVEN <= ratio <= _UNEVEN:
            continue
        length, seen = ("long", "seldom") if ratio > 1 else ("short", "often")
        notes.append(
            f"{dataset.name} has {length} documents: {share:.1%} of the rows, {by_examples:.1%} of the training "
            f"examples; sampled by rows it is seen {seen}. "
            '[mixture] shares = "examples" follows what there is to read'
        )
    return notes

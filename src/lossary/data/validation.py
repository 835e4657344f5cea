"""The validation set: one frozen part a dataset; and the training spans left over.

Every document of any dataset whose text is in a part leaves training, so that duplicates never straddle. A part stays
byte for byte when datasets come and go (data/parts.py says when it does not), and so do the training spans of the
others: what is frozen later is chosen among texts that they do not hold (data/freeze.py).
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.arrow import read_batch
from lossary.data.examples import Examples, concatenate, load_examples
from lossary.data.freeze import Cut, freeze_parts
from lossary.data.parts import (
    PART_SCHEMA,
    examples_plan,
    is_earlier,
    known_parts,
    read_validation_manifest,
    refuse_earlier_layout,
    validation_shares,
)
from lossary.data.prepare import Progress
from lossary.data.shards import MANIFEST, PreparedDataset, open_dataset
from lossary.data.spans import write_spans
from lossary.errors import DataError, ShardError
from lossary.files import digest_file, digest_json, read_json, write_directory_atomic, write_json
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["ValidationSet", "held_out_hashes", "load_validation", "prepare_examples"]


@dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """The frozen examples; `datasets` gives the names to which `examples.dataset` points."""

    examples: Examples
    manifest: dict[str, Any]

    @property
    def datasets(self) -> list[str]:
        return list(self.manifest["datasets"])

    @property
    def digest(self) -> str:
        return str(self.manifest["digest"])

    @property
    def parts(self) -> dict[str, str]:
        """The digest of each dataset's part."""
        return {name: self.manifest["parts"][name] for name in self.datasets}


def load_validation(folder: StudyFolder) -> ValidationSet:
    """The frozen validation set; ShardError if it is missing or not what was frozen."""
    manifest = read_validation_manifest(folder)
    refuse_earlier_layout(folder, manifest)
    parts = []
    for number, name in enumerate(manifest["datasets"]):
        path = _whole_file(folder, name, "examples.arrow")
        parts.append(load_examples(path, dataset=number))
    return ValidationSet(examples=concatenate(parts), manifest=manifest)


def held_out_hashes(folder: StudyFolder) -> NDArray[np.uint64]:
    """Hashes (H,) of the texts of all validation examples, ascending; ShardError if they are not what was frozen."""
    manifest = read_validation_manifest(folder)
    paths = [_whole_file(folder, name, "hashes.arrow") for name in manifest["datasets"]]
    return np.unique(np.concatenate([read_batch(path).column("text_hash").to_numpy() for path in paths]))


def _whole_file(folder: StudyFolder, name: str, file: str) -> Path:
    path = folder.validation_part(name) / file
    part = known_parts(folder).get(name)
    if part is None or not path.is_file() or digest_file(path) != part["files"][file]:
        raise ShardError(
            "the frozen validation set is missing or was changed",
            where=str(path),
            hint="Restore it from a copy; scores made on it cannot be compared with scores made on another one.",
        )
    return path


def prepare_examples(study: Study, folder: StudyFolder, *, progress: Progress = lambda *_: None) -> None:
    """Freezes what is not frozen yet and writes the training spans of each sequence length that a run uses.

    Raises DataError if the study file asks for other validation examples than those that runs of this folder depend on.
    """
    datasets = {name: open_dataset(folder, name) for name in study.datasets}
    plans = examples_plan(study, folder)
    refused = [f"{name}: {plan.why}" for name, plan in plans.items() if plan.fate == "refused"]
    if refused:
        raise DataError(
            "the study file or its data now asks for another validation set than the frozen one; " + "; ".join(refused),
            where=str(folder.validation),
            hint="Undo the change (sources, seed, length or masks), or copy study.toml to a new folder.",
        )
    fresh = [name for name, plan in plans.items() if plan.fate == "frozen"]
    if fresh:
        progress("validation set", 0, None)
        if (folder.validation / MANIFEST).is_file() and is_earlier(read_json(folder.validation / MANIFEST)):
            shutil.rmtree(folder.validation)
        kept = {name: open_dataset(folder, name) for name in _kept(folder, fresh)}
        freeze_parts(study, folder, datasets, fresh=fresh, kept=kept)
    _list_parts(study, folder, datasets)
    held_out = held_out_hashes(folder)
    for length in sorted({study.recipe_of(run).sequence_length for run in study.runs}):
        for name, dataset in datasets.items():
            _write_training_spans(study, folder, dataset, Cut(study, name, length), held_out, progress)


def _kept(folder: StudyFolder, fresh: list[str]) -> list[str]:
    """Datasets, removed ones among them, whose part stays and whose documents are still here."""
    return [name for name in known_parts(folder) if name not in fresh and (folder.dataset(name) / MANIFEST).is_file()]


def _list_parts(study: Study, folder: StudyFolder, datasets: Mapping[str, PreparedDataset]) -> None:
    """Writes what the validation set consists of now; the last step of freezing, and nothing where nothing changed."""
    removed = {name: part["digest"] for name, part in known_parts(folder).items() if name not in datasets}
    parts = {name: read_json(folder.validation_part(name) / MANIFEST) for name in datasets}
    shares = validation_shares(study, {name: dataset.manifest for name, dataset in datasets.items()})
    described = ("examples", "tokens", "masked", "sop_pairs", "unigram_entropy_nats", "sop_entropy_nats")
    manifest = {
        "schema": PART_SCHEMA,
        "digest": digest_json([PART_SCHEMA, {name: part["digest"] for name, part in parts.items()}]),
        "tokenizer_digest": next(iter(parts.values()))["tokenizer_digest"],
        "datasets": list(datasets),
        "parts": removed | {name: part["digest"] for name, part in parts.items()},
        "asked": study.validation.examples,
        "max_fraction": study.validation.max_fraction,
        "examples": sum(part["examples"] for part in parts.values()),
        "sequence_length": study.recipe.sequence_length,
        "seed": study.seed,
        "notes": _notes(study, parts, shares),
        "per_dataset": {
            name: {"share": shares[name]} | {key: part[key] for key in described} for name, part in parts.items()
        },
    }
    path = folder.validation / MANIFEST
    if not path.is_file() or read_json(path) != manifest:
        write_json(path, manifest)


def _notes(study: Study, parts: Mapping[str, Mapping[str, Any]], shares: Mapping[str, float]) -> list[str]:
    notes = list(dict.fromkeys(note for part in parts.values() for note in part["notes"]))
    asked = study.validation.examples
    kept = [
        f"{name} {part['examples']:,} (now {shares[name]:.1%} of {asked:,})"
        for name, part in parts.items()
        if part["asked"] != asked or abs(part["share"] - shares[name]) > 1e-9
    ]
    if kept:
        notes.append(
            "validation examples stay as they were frozen, totals are weighted by the present shares: "
            + ", ".join(kept)
        )
    return notes


def _write_training_spans(
    study: Study,
    folder: StudyFolder,
    dataset: PreparedDataset,
    cut: Cut,
    held_out: NDArray[np.uint64],
    progress: Progress,
) -> None:
    path: Path = folder.spans(dataset.name, cut.length)
    request = digest_json([PART_SCHEMA, dataset.manifest["digest"], cut.length, cut.key, study.recipe.short_rate])
    if _current_spans(folder, path, dataset, request):
        return
    against = _present_parts(folder)
    totals = {"examples": 0, "rows": 0, "tokens": 0}
    with write_directory_atomic(path) as temporary:
        for number, shard_path in enumerate(dataset.shard_paths):
            progress(f"{dataset.name}: training examples of length {cut.length}", number, len(dataset.shard_paths))
            shard = dataset.shards[number]
            training = ~np.isin(shard.text_hash, held_out)
            spans = cut.spans(dataset, number)
            kept = spans.take(training[spans.document])
            write_spans(temporary / shard_path.name, kept)
            totals["examples"] += len(kept)
            totals["rows"] += int(training.sum())
            totals["tokens"] += int((kept.stop - kept.start).sum())
        manifest = {"schema": PART_SCHEMA, "request": request, "against": against, "length": cut.length, **totals}
        write_json(temporary / MANIFEST, manifest)


def _present_parts(folder: StudyFolder) -> dict[str, str]:
    manifest = read_validation_manifest(folder)
    return {name: manifest["parts"][name] for name in manifest["datasets"]}


def _current_spans(folder: StudyFolder, path: Path, dataset: PreparedDataset, request: str) -> bool:
    """Whether spans leave out every validation text: cut against its part, or chosen later among other texts."""
    if not (path / MANIFEST).is_file():
        return False
    manifest = read_json(path / MANIFEST)
    known = known_parts(folder)
    return manifest["request"] == request and all(
        manifest["against"].get(name) == digest
        or known[name]["checked_against"].get(dataset.name) == dataset.manifest["digest"]
        for name, digest in _present_parts(folder).items()
    )

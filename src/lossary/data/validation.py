"""The validation set: one frozen part a dataset; and the training spans left over.

Every document of any dataset whose text is in a part leaves training, so that duplicates never straddle. A part stays
byte for byte when datasets come and go (data/parts.py says when it does not), and so do the training spans of the
others: what is frozen later is chosen among texts that they do not hold (data/freeze.py).
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.blocks import BlockWriter
from lossary.data.examples import Examples, concatenate, unpacked_examples
from lossary.data.freeze import Cut, freeze_parts, within
from lossary.data.freeze_texts import freeze_texts
from lossary.data.manifests import MANIFEST, SCHEMA, read_manifest, write_manifest
from lossary.data.parts import (
    EXAMPLES,
    HASHES,
    examples_plan,
    is_earlier,
    known_part,
    known_parts,
    part_blocks,
    read_validation_manifest,
    refuse_earlier_layout,
    validation_notes,
    validation_shares,
)
from lossary.data.prepare import Progress
from lossary.data.shards import PreparedDataset, open_dataset
from lossary.data.spans import packed_spans
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import DataError
from lossary.files import digest_json, write_directory_atomic
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["ValidationSet", "held_out_hashes", "load_validation", "prepare_examples"]

_DESCRIBED = (
    "examples",
    "tokens",
    "masked",
    "longest",
    "sop_pairs",
    "swapped",
    "unigram_entropy_nats",
    "sop_entropy_nats",
)


@dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """The frozen examples; `datasets` gives the names to which `examples.dataset` points."""

    folder: StudyFolder
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return int(self.manifest["examples"])

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

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return int(max(described["longest"] for described in self.manifest["per_dataset"].values()))

    def windows(self) -> Iterator[Examples]:
        """All examples, dataset by dataset, a few thousand at a time. ShardError if they are not what was frozen."""
        for number, name in enumerate(self.datasets):
            blocks = part_blocks(self.folder, known_part(self.folder, name), EXAMPLES)
            for block in range(len(blocks)):
                yield unpacked_examples(blocks.read(block), dataset=number)
                blocks.forget()

    @cached_property
    def examples(self) -> Examples:
        """All examples at once, for those who need them so."""
        return concatenate(list(self.windows()))


def load_validation(folder: StudyFolder) -> ValidationSet:
    """The frozen validation set; ShardError if it is missing."""
    manifest = read_validation_manifest(folder)
    refuse_earlier_layout(folder, manifest)
    return ValidationSet(folder=folder, manifest=manifest)


def held_out_hashes(folder: StudyFolder) -> NDArray[np.uint64]:
    """Hashes (H,) of the texts of all validation examples, ascending; ShardError if they are not what was frozen."""
    found, folder = list[NDArray[np.uint64]](), folder.as_drawn
    present = read_validation_manifest(folder)["datasets"]
    # Runs were scored on the examples of removed datasets, too: their texts stay out of training.
    removed = [name for name in known_parts(folder) if name not in present]
    for name in [*present, *removed]:
        blocks = part_blocks(folder, known_part(folder, name), HASHES)
        found += [blocks.read(number)["text_hash"] for number in range(len(blocks))]
    hashes = np.concatenate(found)
    hashes.sort()
    return hashes


def prepare_examples(study: Study, folder: StudyFolder, *, progress: Progress = lambda *_: None) -> list[str]:
    """Freezes what is not frozen yet, and its text; writes the training spans of each sequence length that a run uses.

    Returns a note if some part stays without text.
    Raises DataError if the study file asks for other validation examples than those that runs of this folder depend on.
    """
    datasets = {name: open_dataset(folder, name) for name in study.datasets}
    plans = examples_plan(study, folder)
    refused = [f"{study.called(name)}: {plan.why}" for name, plan in plans.items() if plan.fate == "refused"]
    if refused:
        raise DataError(
            "the study file or its data now asks for another validation set than the frozen one; " + "; ".join(refused),
            where=str(folder.validation),
            hint="Undo the change (sources, seed, length or masks); or make what holds another text a new "
            'dataset, by `drawn_as = "…-2"` in its table; or copy study.toml to a new folder.',
        )
    fresh = [name for name, plan in plans.items() if plan.fate == "frozen"]
    if fresh:
        progress("validation set", 0, None)
        if (folder.validation / MANIFEST).is_file() and is_earlier(read_manifest(folder.validation)):
            shutil.rmtree(folder.validation)
        kept = {name: open_dataset(folder, name) for name in _kept(folder, fresh)}
        freeze_parts(study, folder, datasets, fresh=fresh, kept=kept)
    _list_parts(study, folder, datasets)
    held_out = held_out_hashes(folder)
    added = open_tokenizer(folder).template.num_added[1]
    for length in sorted({study.recipe_of(run).sequence_length for run in study.runs}):
        for name, dataset in datasets.items():
            _write_training_spans(study, folder, dataset, Cut(study, name, length, added), held_out, progress)
    return freeze_texts(study, folder, progress=progress)


def _kept(folder: StudyFolder, fresh: list[str]) -> list[str]:
    """Datasets, removed ones among them, whose part stays and whose documents are still here."""
    return [name for name in known_parts(folder) if name not in fresh and (folder.dataset(name) / MANIFEST).is_file()]


def _list_parts(study: Study, folder: StudyFolder, datasets: Mapping[str, PreparedDataset]) -> None:
    """Writes what the validation set consists of now; the last step of freezing, and nothing where nothing changed."""
    removed = {name: part["digest"] for name, part in known_parts(folder).items() if name not in datasets}
    parts = {name: read_manifest(folder.validation_part(name)) for name in datasets}
    shares = validation_shares(study, {name: dataset.manifest for name, dataset in datasets.items()})
    manifest = {
        "digest": digest_json([SCHEMA, {name: part["digest"] for name, part in parts.items()}]),
        "tokenizer_digest": next(iter(parts.values()))["tokenizer_digest"],
        "datasets": list(datasets),
        "parts": removed | {name: part["digest"] for name, part in parts.items()},
        "asked": study.validation.examples,
        "max_fraction": study.validation.max_fraction,
        "examples": sum(part["examples"] for part in parts.values()),
        "sequence_length": study.recipe.sequence_length,
        "seed": study.seed,
        "notes": validation_notes(study.validation.examples, parts, shares),
        "per_dataset": {
            name: {"share": shares[name]} | {key: part[key] for key in _DESCRIBED} for name, part in parts.items()
        },
    }
    known = (folder.validation / MANIFEST).is_file()
    if not known or read_manifest(folder.validation) != {"schema": SCHEMA, **manifest}:
        write_manifest(folder.validation, manifest)


def _write_training_spans(
    study: Study,
    folder: StudyFolder,
    dataset: PreparedDataset,
    cut: Cut,
    held_out: NDArray[np.uint64],
    progress: Progress,
) -> None:
    path: Path = folder.spans(dataset.name, cut.length)
    request = digest_json([SCHEMA, dataset.manifest["digest"], cut.length, cut.key, study.recipe.short_rate])
    if _current_spans(folder, path, dataset, request):
        return
    against = _present_parts(folder)
    totals = {"examples": 0, "rows": 0, "tokens": 0}
    files: list[dict[str, Any]] = []
    number = 0
    with write_directory_atomic(path) as temporary:
        for documents in dataset.manifest["shards"]:
            name = f"spans-{len(files):05d}.arrow"
            with BlockWriter(temporary / name) as writer:
                counts = []
                for _ in documents["blocks"]:
                    said = f"{study.called(dataset.name)}: training examples of length {cut.length}"
                    progress(said, number, len(dataset.blocks))
                    shard = dataset.shards[number]
                    training = ~within(held_out, shard.text_hash)[1]
                    spans = cut.spans(shard)
                    kept = spans.take(training[spans.document])
                    writer.append(packed_spans(kept, shard))
                    counts.append(len(kept))
                    totals["examples"] += len(kept)
                    totals["rows"] += int(training.sum())
                    totals["tokens"] += int((kept.stop - kept.start).sum())
                    number += 1
            blocks = [[*place, count] for place, count in zip(writer.places, counts, strict=True)]
            files.append({"name": name, "blocks": blocks})
        manifest = {"request": request, "against": against, "length": cut.length, "files": files, **totals}
        write_manifest(temporary, manifest)


def _present_parts(folder: StudyFolder) -> dict[str, str]:
    manifest = read_validation_manifest(folder)
    return {name: manifest["parts"][name] for name in manifest["datasets"]}


def _current_spans(folder: StudyFolder, path: Path, dataset: PreparedDataset, request: str) -> bool:
    """Whether spans leave out every validation text: cut against its part, or chosen later among other texts."""
    if not (path / MANIFEST).is_file():
        return False
    manifest = read_manifest(path)
    known = known_parts(folder)
    return manifest["request"] == request and all(
        manifest["against"].get(name) == digest
        or known[name]["checked_against"].get(dataset.name) == dataset.manifest["digest"]
        for name, digest in _present_parts(folder).items()
    )

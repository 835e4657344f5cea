"""The validation set: chosen by a hash of the text, frozen with its masks and swaps; and the training spans left over.

In each dataset the documents with the smallest keyed hashes are chosen until the examples asked for are found. Every
document of any dataset with a chosen hash leaves training, so that duplicates never straddle. Masks and swaps are drawn
once and stored; the digest covers all of it.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.assemble import Assembler, Settings
from lossary.data.batches import SpanStore, gather
from lossary.data.examples import Examples, load_examples, save_examples
from lossary.data.philox import stream_key
from lossary.data.prepare import Progress
from lossary.data.shards import MANIFEST, PreparedDataset, open_dataset
from lossary.data.spans import Spans, cut_spans, write_spans
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import DataError, ShardError
from lossary.files import digest_file, digest_json, read_json, write_directory_atomic, write_json
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["ValidationSet", "load_validation", "prepare_examples"]

_SCHEMA = 1


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


def load_validation(folder: StudyFolder) -> ValidationSet:
    """The frozen validation set; ShardError if it is missing or not what was frozen."""
    manifest_path, path = folder.validation / MANIFEST, folder.validation / "examples.arrow"
    if not manifest_path.is_file():
        raise ShardError("no validation set is frozen", where=str(folder.validation), hint="Run `lossary prepare`.")
    manifest = read_json(manifest_path)
    if not path.is_file() or digest_file(path) != manifest["file_digest"]:
        raise ShardError(
            "the frozen validation set is missing or was changed",
            where=str(path),
            hint="Restore it from a copy; scores made on it cannot be compared with scores made on another one.",
        )
    return ValidationSet(examples=load_examples(path), manifest=manifest)


def prepare_examples(study: Study, folder: StudyFolder, *, progress: Progress = lambda *_: None) -> None:
    """Freezes the validation set and writes the training spans of each sequence length that a run uses.

    What is there and was made from the same request is kept. Raises DataError if the study file asks for another
    validation set than the one that checkpoints or scores of this folder depend on.
    """
    datasets = {name: open_dataset(folder, name) for name in study.datasets}
    request = _request(study, datasets)
    manifest_path = folder.validation / MANIFEST
    if not manifest_path.is_file() or read_json(manifest_path)["request"] != request:
        if manifest_path.is_file():
            _refuse_if_used(study, folder)
        progress("validation set", 0, None)
        _freeze(study, folder, datasets, request)
    chosen = np.array([int(h, 16) for h in read_json(folder.validation / "hashes.json")], np.uint64)
    for length in sorted({study.recipe_of(run).sequence_length for run in study.runs}):
        for name, dataset in datasets.items():
            _write_training_spans(study, folder, dataset, _Cut(study, name, length), chosen, progress)


def _request(study: Study, datasets: dict[str, PreparedDataset]) -> str:
    recipe = study.recipe
    return digest_json(
        [
            _SCHEMA,
            study.seed,
            study.validation.model_dump(),
            study.mixture.model_dump() if study.validation.shares == "train" else None,
            recipe.short_rate,
            vars(Settings.of(recipe)),
            {name: dataset.manifest["digest"] for name, dataset in datasets.items()},
        ]
    )


def _refuse_if_used(study: Study, folder: StudyFolder) -> None:
    used = [run for run in study.runs if any((folder.run(run) / part).exists() for part in ("checkpoints", "scores"))]
    if used:
        raise DataError(
            "the study file or its data now asks for another validation set than the frozen one, "
            f"and runs depend on it: {', '.join(used)}",
            where=str(folder.validation),
            hint="Undo the change (sources, [validation], seed, length or masks), or copy study.toml to a new folder.",
        )


@dataclass(frozen=True)
class _Cut:
    """How the spans of one dataset are cut at one length."""

    study: Study
    name: str
    length: int

    @property
    def key(self) -> int:
        return stream_key(self.study.seed, "spans", self.name, self.length)

    def spans(self, dataset: PreparedDataset, shard: int) -> Spans:
        return cut_spans(
            dataset.shards[shard], length=self.length, short_rate=self.study.recipe.short_rate, key=self.key
        )


class _Candidates(NamedTuple):
    """Spans that may be chosen, in the order of their documents' keyed hashes."""

    shard: NDArray[np.int64]
    span: NDArray[np.int64]  # among the shard's spans
    text_hash: NDArray[np.uint64]


def _freeze(study: Study, folder: StudyFolder, datasets: dict[str, PreparedDataset], request: str) -> None:
    length = study.recipe.sequence_length
    shares = _validation_shares(study, datasets)
    asked = study.validation.examples
    candidates = {
        name: _candidates(study, dataset, _Cut(study, name, length), int(np.ceil(shares[name] * asked)))
        for name, dataset in datasets.items()
    }
    total, notes = _total(shares, {name: len(found.shard) for name, found in candidates.items()}, asked)
    counts = _apportion(shares, total)
    chosen = {
        name: _Candidates(found.shard[: counts[name]], found.span[: counts[name]], found.text_hash[: counts[name]])
        for name, found in candidates.items()
    }
    examples = _assemble(study, folder, datasets, chosen)
    hashes = np.unique(np.concatenate([found.text_hash for found in chosen.values()]))
    with write_directory_atomic(folder.validation) as temporary:
        save_examples(temporary / "examples.arrow", examples)
        write_json(temporary / "hashes.json", [f"{int(h):016x}" for h in hashes])
        file_digest = digest_file(temporary / "examples.arrow")
        tokenizer_digest = open_tokenizer(folder).digest
        manifest = {
            "schema": _SCHEMA,
            "request": request,
            "digest": digest_json([file_digest, tokenizer_digest, list(datasets)]),
            "file_digest": file_digest,
            "tokenizer_digest": tokenizer_digest,
            "datasets": list(datasets),
            "asked": asked,
            "examples": len(examples),
            "sequence_length": length,
            "seed": study.seed,
            "notes": notes,
            "per_dataset": {
                name: _describe(examples.take(np.flatnonzero(examples.dataset == number)), shares[name])
                for number, name in enumerate(datasets)
            },
        }
        write_json(temporary / MANIFEST, manifest)


def _validation_shares(study: Study, datasets: dict[str, PreparedDataset]) -> dict[str, float]:
    shares = study.validation.shares
    if not isinstance(shares, str):
        weights = {name: float(shares[name]) for name in datasets}
    elif isinstance(study.mixture.shares, str):
        # Before the split no training example is counted; tokens are what examples are made from.
        unit = "rows" if study.mixture.shares == "rows" else "tokens"
        weights = {name: float(dataset.manifest[unit]) for name, dataset in datasets.items()}
    else:
        weights = {name: float(study.mixture.shares[name]) for name in datasets}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _candidates(study: Study, dataset: PreparedDataset, cut: _Cut, wanted: int) -> _Candidates:
    """Spans of the documents with the smallest keyed hashes: enough for `wanted`, within `max_fraction`."""
    allowed = int(study.validation.max_fraction * dataset.manifest["documents"])
    mix = partial(_mix, key=stream_key(study.seed, "validation", cut.name))
    # Each document gives one example at least, so that `wanted` documents are always enough.
    smallest = np.zeros(0, np.uint64)
    for shard in dataset.shards:
        smallest = np.unique(np.concatenate([smallest, mix(shard.text_hash)]))[: min(wanted, allowed)]
    columns: list[list[NDArray[Any]]] = [[], [], [], []]
    seen = np.zeros(0, np.uint64)
    for number, shard in enumerate(dataset.shards):
        mixed = mix(shard.text_hash)
        # Of documents with the same text the first one stands for all.
        first = np.zeros(len(shard), bool)
        first[np.unique(mixed, return_index=True)[1]] = True
        chosen = first & np.isin(mixed, smallest) & ~np.isin(mixed, seen)
        seen = np.union1d(seen, mixed[chosen])
        spans = cut.spans(dataset, number)
        index = np.flatnonzero(chosen[spans.document])
        document = spans.document[index]
        found = (mixed[document], np.full(len(index), number), index, shard.text_hash[document])
        for column, part in zip(columns, found, strict=True):
            column.append(part)
    by_hash = np.argsort(np.concatenate(columns[0]), kind="stable")
    shards, indices, hashes = (np.concatenate(parts)[by_hash] for parts in columns[1:])
    return _Candidates(shards, indices, hashes)


def _mix(values: NDArray[np.uint64], *, key: int) -> NDArray[np.uint64]:
    """A keyed permutation of 64-bit values (the finaliser of SplitMix64)."""
    x = values ^ np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _total(shares: dict[str, float], available: dict[str, int], asked: int) -> tuple[int, list[str]]:
    """How many examples keep the shares with what there is, and a note where that is fewer than asked."""
    short = min(shares, key=lambda name: available[name] / shares[name])
    total = min(asked, int(available[short] / shares[short] + 1e-9))
    if total < 1:
        raise DataError(
            f"dataset {short!r} has too few documents for a validation set",
            where="$.validation",
            hint="Raise max_fraction, lower examples or give it a smaller share.",
        )
    if total == asked:
        return total, []
    note = (
        f"{total:,} examples where {asked:,} were asked for: {short} has {available[short]:,} to give "
        f"(at most max_fraction of its documents), and the shares are kept"
    )
    return total, [note]


def _apportion(shares: dict[str, float], total: int) -> dict[str, int]:
    """Whole numbers in proportion to shares that add up to `total` (largest remainder), one at least for each."""
    ideal = {name: share * total for name, share in shares.items()}
    counts = {name: int(value) for name, value in ideal.items()}
    for name in sorted(shares, key=lambda name: counts[name] - ideal[name])[: total - sum(counts.values())]:
        counts[name] += 1
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        raise DataError(
            f"{total:,} validation examples are too few: none is left for {', '.join(empty)}",
            where="$.validation.examples",
            hint="Ask for more examples, or give these datasets a larger share.",
        )
    return counts


def _assemble(
    study: Study, folder: StudyFolder, datasets: dict[str, PreparedDataset], chosen: dict[str, _Candidates]
) -> Examples:
    length = study.recipe.sequence_length
    stores, numbers, indices = [], [], []
    for number, (name, dataset) in enumerate(datasets.items()):
        cut = _Cut(study, name, length)
        parts, index = [], []
        for shard in range(len(dataset.shards)):
            here = np.sort(chosen[name].span[chosen[name].shard == shard])
            spans = cut.spans(dataset, shard)
            keep = np.zeros(len(spans), bool)
            keep[here] = True
            parts.append(spans.take(keep))
            index.append(len(here))
        stores.append(SpanStore(dataset, parts))
        numbers.append(np.full(sum(index), number, np.int16))
        indices.append(np.arange(sum(index)))
    gathered = gather(stores, np.concatenate(numbers), np.concatenate(indices))
    assembler = Assembler(
        open_tokenizer(folder), list(datasets), Settings.of(study.recipe), seed=study.seed, purpose="validation"
    )
    return assembler.assemble(gathered, 0)


def _describe(examples: Examples, share: float) -> dict[str, Any]:
    labels = examples.labels[examples.weights > 0]
    orders = examples.sop_labels[examples.sop_labels >= 0]
    return {
        "examples": len(examples),
        "share": share,
        "tokens": examples.tokens,
        "masked": int(examples.masked.sum()),
        "sop_pairs": len(orders),
        "unigram_entropy_nats": _entropy(np.bincount(labels)) if len(labels) else None,
        "sop_entropy_nats": _entropy(np.bincount(orders)) if len(orders) else None,
    }


def _entropy(counts: NDArray[np.int64]) -> float:
    """Plug-in entropy of counts, in nats."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum()) + 0.0


def _write_training_spans(
    study: Study,
    folder: StudyFolder,
    dataset: PreparedDataset,
    cut: _Cut,
    chosen: NDArray[np.uint64],
    progress: Progress,
) -> None:
    path: Path = folder.spans(dataset.name, cut.length)
    request = digest_json(
        [
            _SCHEMA,
            dataset.manifest["digest"],
            read_json(folder.validation / MANIFEST)["digest"],
            cut.length,
            cut.key,
            study.recipe.short_rate,
        ]
    )
    if (path / MANIFEST).is_file() and read_json(path / MANIFEST)["request"] == request:
        return
    totals = {"examples": 0, "rows": 0, "tokens": 0}
    with write_directory_atomic(path) as temporary:
        for number, shard_path in enumerate(dataset.shard_paths):
            progress(f"{dataset.name}: training examples of length {cut.length}", number, len(dataset.shard_paths))
            shard = dataset.shards[number]
            training = ~np.isin(shard.text_hash, chosen)
            spans = cut.spans(dataset, number)
            kept = spans.take(training[spans.document])
            write_spans(temporary / shard_path.name, kept)
            totals["examples"] += len(kept)
            totals["rows"] += int(training.sum())
            totals["tokens"] += int((kept.stop - kept.start).sum())
        write_json(temporary / MANIFEST, {"schema": _SCHEMA, "request": request, "length": cut.length, **totals})

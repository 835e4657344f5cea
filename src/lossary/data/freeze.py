"""Freezes validation examples: chosen by a hash of the text, with their masks and swaps.

In each dataset the documents with the smallest keyed hashes are chosen until the examples asked for are found. Masks
and swaps are drawn once and stored; the digest of a part covers all of it. What is frozen later than others is chosen
among the texts that no other dataset with a part holds, so that nothing that was trained on becomes validation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.data.arrow import arrow_array, write_batch
from lossary.data.assemble import Assembler, Settings
from lossary.data.batches import SpanStore, gather
from lossary.data.examples import Examples, save_examples
from lossary.data.parts import PART_SCHEMA, part_request, validation_shares
from lossary.data.philox import stream_key
from lossary.data.shards import MANIFEST, PreparedDataset
from lossary.data.spans import Spans, cut_spans
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import DataError
from lossary.files import digest_file, digest_json, write_directory_atomic, write_json
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["Cut", "freeze_parts"]


@dataclass(frozen=True)
class Cut:
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


def freeze_parts(
    study: Study,
    folder: StudyFolder,
    datasets: Mapping[str, PreparedDataset],
    *,
    fresh: list[str],
    kept: Mapping[str, PreparedDataset],
) -> None:
    """Freezes the parts of the datasets `fresh`, whose texts no dataset of `kept` holds.

    `datasets` are all of the study, since shares are of all. Raises DataError if there are too few examples.
    """
    length = study.recipe.sequence_length
    all_shares = validation_shares(study, {name: dataset.manifest for name, dataset in datasets.items()})
    shares = {name: all_shares[name] for name in fresh}
    asked = study.validation.examples
    candidates = {
        name: _candidates(study, datasets[name], Cut(study, name, length), ceil(share * asked), kept)
        for name, share in shares.items()
    }
    total, notes = _total(shares, {name: len(found.shard) for name, found in candidates.items()}, asked)
    for name, count in _apportion(shares, total).items():
        found = candidates[name]
        chosen = _Candidates(found.shard[:count], found.span[:count], found.text_hash[:count])
        examples = _assemble(study, folder, datasets[name], chosen)
        about = {
            "asked": asked,
            "share": shares[name],
            "notes": notes,
            "checked_against": {other: dataset.manifest["digest"] for other, dataset in kept.items()},
        }
        _write_part(study, folder, datasets[name], examples, np.unique(chosen.text_hash), about)


def _write_part(
    study: Study,
    folder: StudyFolder,
    dataset: PreparedDataset,
    examples: Examples,
    hashes: NDArray[np.uint64],
    about: Mapping[str, Any],
) -> None:
    with write_directory_atomic(folder.validation_part(dataset.name)) as temporary:
        save_examples(temporary / "examples.arrow", examples)
        write_batch(temporary / "hashes.arrow", pa.RecordBatch.from_pydict({"text_hash": arrow_array(hashes)}))
        file_digests = {path.name: digest_file(path) for path in sorted(temporary.glob("*.arrow"))}
        tokenizer_digest = open_tokenizer(folder).digest
        manifest = {
            "schema": PART_SCHEMA,
            "dataset": dataset.name,
            "request": part_request(study, dataset.name, dataset.manifest),
            "digest": digest_json([PART_SCHEMA, dataset.name, file_digests, tokenizer_digest]),
            "files": file_digests,
            "tokenizer_digest": tokenizer_digest,
            "sequence_length": study.recipe.sequence_length,
            "seed": study.seed,
            **about,
            **_describe(examples),
        }
        write_json(temporary / MANIFEST, manifest)


def _candidates(
    study: Study, dataset: PreparedDataset, cut: Cut, wanted: int, kept: Mapping[str, PreparedDataset]
) -> _Candidates:
    """Spans of the documents with the smallest keyed hashes: enough for `wanted`, within `max_fraction`."""
    allowed = int(study.validation.max_fraction * dataset.manifest["documents"])
    mix = partial(_mix, key=stream_key(study.seed, "validation", cut.name))
    smallest = _smallest(dataset, kept, mix, min(wanted, allowed))
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


def _smallest(
    dataset: PreparedDataset,
    kept: Mapping[str, PreparedDataset],
    mix: Callable[[NDArray[np.uint64]], NDArray[np.uint64]],
    count: int,
) -> NDArray[np.uint64]:
    """The `count` smallest keyed hashes, ascending, of texts that no dataset of `kept` holds.

    Each document gives one example at least, so that as many documents as examples are always enough.
    """
    taken = np.zeros(0, np.uint64)
    while True:
        room = count + len(taken)
        smallest = np.zeros(0, np.uint64)
        for shard in dataset.shards:
            smallest = np.unique(np.concatenate([smallest, mix(shard.text_hash)]))[:room]
        found = [np.zeros(0, np.uint64)]
        for other in kept.values():
            found += [np.intersect1d(smallest, mix(shard.text_hash)) for shard in other.shards]
        taken = np.unique(np.concatenate(found))
        free = np.setdiff1d(smallest, taken, assume_unique=True)
        if len(free) >= count or len(smallest) < room:
            return free[:count]


def _mix(values: NDArray[np.uint64], *, key: int) -> NDArray[np.uint64]:
    """A keyed permutation of 64-bit values (the finaliser of SplitMix64)."""
    x = values ^ np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _total(shares: dict[str, float], available: dict[str, int], asked: int) -> tuple[int, list[str]]:
    """How many examples keep the shares with what there is, and a note where that is fewer than asked."""
    short = min(shares, key=lambda name: available[name] / shares[name])
    whole = sum(shares.values())
    asked = round(whole * asked)
    total = min(asked, int(whole * available[short] / shares[short] + 1e-9))
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
    whole = sum(shares.values())
    ideal = {name: share / whole * total for name, share in shares.items()}
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


def _assemble(study: Study, folder: StudyFolder, dataset: PreparedDataset, chosen: _Candidates) -> Examples:
    cut = Cut(study, dataset.name, study.recipe.sequence_length)
    parts = []
    for shard in range(len(dataset.shards)):
        spans = cut.spans(dataset, shard)
        keep = np.zeros(len(spans), bool)
        keep[chosen.span[chosen.shard == shard]] = True
        parts.append(spans.take(keep))
    store = SpanStore(dataset, parts)
    gathered = gather([store], np.zeros(len(store), np.int16), np.arange(len(store)))
    assembler = Assembler(
        open_tokenizer(folder), [dataset.name], Settings.of(study.recipe), seed=study.seed, purpose="validation"
    )
    return assembler.assemble(gathered, 0)


def _describe(examples: Examples) -> dict[str, Any]:
    labels = examples.labels[examples.weights > 0]
    orders = examples.sop_labels[examples.sop_labels >= 0]
    return {
        "examples": len(examples),
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

"""Freezes validation examples: chosen by a hash of the text, with their masks and swaps.

In each dataset the documents with the smallest keyed hashes are chosen until the examples asked for are found. Masks
and swaps are drawn once and stored; the digest of a part covers all of it. What is frozen later than others is chosen
among the texts that no other dataset with a part holds, so that nothing that was trained on becomes validation.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.assemble import Assembler, Settings
from lossary.data.batches import ragged
from lossary.data.blocks import BlockWriter
from lossary.data.examples import Examples, concatenate, packed_examples
from lossary.data.judging import way_out
from lossary.data.manifests import SCHEMA, write_manifest
from lossary.data.parts import EXAMPLES, HASHES, part_request, validation_shares
from lossary.data.philox import stream_key
from lossary.data.shards import PreparedDataset, Shard
from lossary.data.spans import EXAMPLE_BITS, SPECIAL_TOKENS, Spans, cut_spans
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import DataError
from lossary.files import digest_json, write_directory_atomic
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["Cut", "freeze_parts", "within", "write_examples"]

_EXAMPLES_A_BLOCK = 4096
_HASHES_A_BLOCK = 1 << 20
_WINDOW = 1 << 18


@dataclass(frozen=True)
class Cut:
    """How the spans of one dataset are cut at one length."""

    study: Study
    name: str
    length: int
    added: int = SPECIAL_TOKENS  # special pieces of two segments

    @property
    def key(self) -> int:
        return stream_key(self.study.seed, "spans", self.name, self.length)

    @property
    def short_rate(self) -> float:
        return self.study.recipe.short_rate

    def spans(self, shard: Shard) -> Spans:
        return cut_spans(shard, length=self.length, short_rate=self.short_rate, key=self.key, added=self.added)


class _Choice(NamedTuple):
    """Texts that may be chosen, by ascending keyed hash, and the spans of the first document that has each."""

    hashes: NDArray[np.uint64]  # (K,)
    spans: NDArray[np.int32]  # (K,)

    def limited(self, count: int) -> "_Choice":
        """The first texts that have `count` spans; of the last one so many spans as are still wanted."""
        spans = np.zeros_like(self.spans)
        for at in _windows(len(spans)):
            after = np.cumsum(self.spans[at], dtype=np.int64)
            spans[at] = np.clip(count - after + self.spans[at], 0, self.spans[at])
            count -= int(after[-1])
        return _Choice(self.hashes, spans)


def freeze_parts(
    study: Study,
    folder: StudyFolder,
    datasets: Mapping[str, PreparedDataset],
    *,
    fresh: Sequence[str],
    kept: Mapping[str, PreparedDataset],
) -> None:
    """Freezes the parts of the datasets `fresh`, whose texts no dataset of `kept` holds.

    `datasets` are all of the study, since shares are of all. Raises DataError if there are too few examples.
    """
    try:
        _freeze_parts(study, folder, datasets, fresh=fresh, kept=kept)
    except DataError as error:
        if error.where is None or not error.where.startswith("$"):
            raise
        raise DataError(error.message, where=f"{folder.study_file}: {error.where}", hint=error.hint) from None


def _freeze_parts(
    study: Study,
    folder: StudyFolder,
    datasets: Mapping[str, PreparedDataset],
    *,
    fresh: Sequence[str],
    kept: Mapping[str, PreparedDataset],
) -> None:
    all_shares = validation_shares(study, {name: dataset.manifest for name, dataset in datasets.items()})
    shares = {name: all_shares[name] for name in fresh}
    asked = study.validation.examples
    makers = {name: _Maker(study, folder, datasets[name]) for name in fresh}
    choices = {name: makers[name].choose(ceil(share * asked), kept) for name, share in shares.items()}
    available = {name: int(found.spans.sum(dtype=np.int64)) for name, found in choices.items()}
    manifests = {name: datasets[name].manifest for name in shares}
    total, notes = _total(shares, available, asked, manifests, study)
    for name, count in _apportion(shares, total, study).items():
        about = {
            "asked": asked,
            "share": shares[name],
            "notes": notes,
            "checked_against": {other: dataset.manifest["digest"] for other, dataset in kept.items()},
        }
        makers[name].freeze(choices.pop(name).limited(count), about)


class _Maker:
    """Chooses and freezes the examples of one dataset, a shard at a time."""

    def __init__(self, study: Study, folder: StudyFolder, dataset: PreparedDataset) -> None:
        self._study = study
        self._path = folder.validation_part(dataset.name)
        self._dataset = dataset
        self._key = stream_key(study.seed, "validation", dataset.name)
        self._mix = partial(_mix, key=self._key)
        tokenizer = open_tokenizer(folder)
        self._cut = Cut(study, dataset.name, study.recipe.sequence_length, tokenizer.template.num_added[1])
        self._tokenizer_digest = tokenizer.digest
        self._assembler = Assembler(
            tokenizer, [dataset.name], Settings.of(study.recipe), seed=study.seed, purpose="validation"
        )

    def choose(self, wanted: int, kept: Mapping[str, PreparedDataset]) -> _Choice:
        """Texts with the smallest keyed hashes that no dataset of `kept` holds: enough for `wanted` examples.

        Each document gives one example at least, so that as many documents as examples are always enough.
        """
        count = min(wanted, int(self._study.validation.max_fraction * self._dataset.manifest["documents"]))
        taken = np.zeros(0, np.uint64)
        while True:
            room = count + len(taken)
            smallest = _smallest(map(self._mix, self._dataset.text_hashes()), room)
            is_taken = np.zeros(len(smallest), bool)
            for other in kept.values():
                for hashes in map(self._mix, other.text_hashes()):
                    place, known = within(smallest, hashes)
                    is_taken[place[known]] = True
            free = smallest[~is_taken] if is_taken.any() else smallest
            if len(free) >= count or len(smallest) < room:
                break
            taken = smallest[is_taken]
        del smallest, is_taken
        spans = np.zeros(min(count, len(free)), np.int32)
        hashes = free[: len(spans)]
        for place, documents in self._firsts(hashes):
            found = self._cut.spans(documents)
            spans[place] = np.bincount(found.document, minlength=len(place))
        return _Choice(hashes, spans)

    def _firsts(self, hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], Shard]]:
        """Shard by shard, the places of texts among `hashes` and the documents that have them first."""
        seen = np.zeros(len(hashes), bool)
        for shard in self._dataset.shards:
            place, known = within(hashes, self._mix(shard.text_hash))
            documents = np.flatnonzero(known)
            documents = documents[~seen[place[documents]]]
            # Of documents with the same text the first one stands for all.
            documents = np.sort(documents[np.unique(place[documents], return_index=True)[1]])
            seen[place[documents]] = True
            yield place[documents], shard.take(documents)

    def freeze(self, choice: _Choice, about: Mapping[str, Any]) -> None:
        """Writes the part."""
        described = _Described(self._assembler.vocabulary_size)
        with write_directory_atomic(self._path) as temporary:
            blocks = _in_blocks(self._examples(choice))
            written = {
                EXAMPLES: write_examples(temporary / EXAMPLES, described.each(blocks)),
                HASHES: _write_hashes(temporary / HASHES, self._texts(choice)),
            }
            digests = {name: written[name].digest for name in sorted(written)}
            content = {
                "dataset": self._dataset.name,
                "request": part_request(self._study, self._dataset.name, self._dataset.manifest),
                "digest": digest_json([SCHEMA, self._dataset.name, digests, self._tokenizer_digest]),
                "files": {name: file.blocks for name, file in written.items()},
                "tokenizer_digest": self._tokenizer_digest,
                "sequence_length": self._study.recipe.sequence_length,
                "seed": self._study.seed,
                **about,
                **described.content(),
            }
            write_manifest(temporary, content)

    def _texts(self, choice: _Choice) -> NDArray[np.uint64]:
        """The hashes (H,) of the texts that examples were made of."""
        chosen = choice.hashes[choice.spans > 0]
        for at in _windows(len(chosen)):
            chosen[at] = _unmix(chosen[at], key=self._key)
        return chosen

    def _examples(self, choice: _Choice) -> Iterator[Examples]:
        """The chosen examples in the order of documents, a few at a time."""
        for place, documents in self._firsts(choice.hashes):
            spans = self._cut.spans(documents)
            ordinal = (spans.example & np.uint64((1 << EXAMPLE_BITS) - 1)).astype(np.int64)
            chosen = np.flatnonzero(ordinal < choice.spans[place][spans.document])
            for start in range(0, len(chosen), _EXAMPLES_A_BLOCK):
                at = chosen[start : start + _EXAMPLES_A_BLOCK]
                rows = spans.rows(at)
                part = (np.arange(len(at)), rows.of(documents.marked_ids), rows)
                yield self._assembler.assemble(ragged([part], np.zeros(len(at), np.int16)), 0)


def _in_blocks(parts: Iterator[Examples]) -> Iterator[Examples]:
    """The same examples, so many at a time as a block has."""
    waiting: list[Examples] = []
    held = 0
    for part in parts:
        waiting.append(part)
        held += len(part)
        if held >= _EXAMPLES_A_BLOCK:
            together = concatenate(waiting)
            yield together.take(np.arange(_EXAMPLES_A_BLOCK))
            waiting = [together.take(np.arange(_EXAMPLES_A_BLOCK, len(together)))]
            held -= _EXAMPLES_A_BLOCK
    if held:
        yield concatenate(waiting)


class _Written(NamedTuple):
    """A file of a part."""

    blocks: list[list[int]]
    digest: str  # of its content, however it is compressed


def write_examples(path: Path, blocks: Iterable[Examples]) -> _Written:
    """Writes blocks of examples; of each its size, checksum, examples, and the first and last of their numbers."""
    about = []
    with BlockWriter(path, compressed=True) as writer:
        for examples in blocks:
            writer.append(packed_examples(examples))
            about.append([len(examples), int(examples.example.min()), int(examples.example.max())])
    return _Written([[*place, *more] for place, more in zip(writer.places, about, strict=True)], writer.digest)


def _write_hashes(path: Path, hashes: NDArray[np.uint64]) -> _Written:
    hashes.sort()
    with BlockWriter(path) as writer:
        for start in range(0, len(hashes), _HASHES_A_BLOCK):
            writer.append({"text_hash": hashes[start : start + _HASHES_A_BLOCK]}, ascending=["text_hash"])
    return _Written([list(place) for place in writer.places], writer.digest)


def within(ascending: NDArray[np.uint64], values: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each of some values (n,) is among ascending ones, and whether it is there."""
    place = np.searchsorted(ascending, values)
    inside = np.minimum(place, max(len(ascending) - 1, 0))
    known = ascending[inside] == values if len(ascending) else np.zeros(len(values), bool)
    return inside, known


def _smallest(parts: Iterable[NDArray[np.uint64]], count: int) -> NDArray[np.uint64]:
    """The `count` smallest different values of all parts, ascending. It holds a quarter more than it returns."""
    room = np.zeros(count + max(count // 4, 1 << 16), np.uint64)
    held, bound = 0, None
    for part in parts:
        few = part if bound is None else part[part < bound]
        while len(few):
            taken = few[: len(room) - held]
            room[held : held + len(taken)] = taken
            held, few = held + len(taken), few[len(taken) :]
            if held == len(room):
                held = min(count, _sort_different(room))
                if held == count:
                    bound = room[count - 1] if count else np.uint64(0)
                    few = few[few < bound]
    return room[: min(count, _sort_different(room[:held]))]


def _sort_different(values: NDArray[np.uint64]) -> int:
    """Sorts in place and moves different values to the front; returns how many these are."""
    values.sort()
    kept, last = 0, None
    for at in _windows(len(values)):
        window = values[at]
        different = np.ones(len(window), bool)
        np.not_equal(window[1:], window[:-1], out=different[1:])
        different[0] = last is None or window[0] != last
        last = window[-1]
        found = window[different]
        values[kept : kept + len(found)] = found
        kept += len(found)
    return kept


def _windows(size: int) -> Iterator[slice]:
    """Parts of an array, so that what is computed of it at a time is small."""
    for start in range(0, size, _WINDOW):
        yield slice(start, min(size, start + _WINDOW))


def _mix(values: NDArray[np.uint64], *, key: int) -> NDArray[np.uint64]:
    """A keyed permutation of 64-bit values (the finaliser of SplitMix64)."""
    x = values ^ np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _unmix(values: NDArray[np.uint64], *, key: int) -> NDArray[np.uint64]:
    """What `_mix` makes these values of."""
    x = values ^ (values >> np.uint64(31)) ^ (values >> np.uint64(62))
    x = x * np.uint64(pow(0x94D049BB133111EB, -1, 1 << 64))
    x = (x ^ (x >> np.uint64(27)) ^ (x >> np.uint64(54))) * np.uint64(pow(0xBF58476D1CE4E5B9, -1, 1 << 64))
    texts: NDArray[np.uint64] = x ^ (x >> np.uint64(30)) ^ (x >> np.uint64(60)) ^ np.uint64(key)
    return texts


def _total(
    shares: dict[str, float],
    available: dict[str, int],
    asked: int,
    manifests: Mapping[str, Mapping[str, Any]],
    study: Study,
) -> tuple[int, list[str]]:
    """How many examples keep the shares with what there is, and a note where that is fewer than asked."""
    short = min(shares, key=lambda name: available[name] / shares[name])
    whole = sum(shares.values())
    asked = round(whole * asked)
    total = min(asked, int(whole * available[short] / shares[short] + 1e-9))
    if total < 1:
        raise _nothing_to_give(study.called(short), manifests[short], study.validation.max_fraction)
    if total == asked:
        return total, []
    note = (
        f"{total:,} examples where {asked:,} were asked for: {short} has {available[short]:,} to give "
        f"(at most max_fraction of its documents), and the shares are kept"
    )
    return total, [note]


def _nothing_to_give(name: str, manifest: Mapping[str, Any], most: float) -> DataError:
    """The error of a dataset that has no document for the validation set, with what became of its rows."""
    documents, bad = manifest["documents"], manifest.get("bad_reasons", {})
    has = "1 document" if documents == 1 else f"{documents:,} documents"
    message = f"dataset {name!r} has {has}, and [validation] max_fraction = {most:g} lets none of them leave training"
    hint = f"It takes {ceil(1 / most):,} documents at least: add text, or raise max_fraction."
    if int(most * documents):
        message = f"dataset {name!r} has {has}, and other datasets hold the text of all that could leave training"
        hint = "Leave it out, or give it texts of its own."
    if bad:
        seen = "; ".join(f"{count:,} {reason}" for reason, count in sorted(bad.items()))
        message += f"; {sum(bad.values()):,} rows were left out as bad ({seen})"
        if sum(bad.values()) > documents:
            hint = way_out(bad) or "`quarantine.jsonl` beside its manifest shows some of the bad rows."
    return DataError(message, where=f"$.datasets.{name}", hint=hint)


def _apportion(shares: dict[str, float], total: int, study: Study) -> dict[str, int]:
    """Whole numbers in proportion to shares that add up to `total` (largest remainder), one at least for each."""
    whole = sum(shares.values())
    ideal = {name: share / whole * total for name, share in shares.items()}
    counts = {name: int(value) for name, value in ideal.items()}
    for name in sorted(shares, key=lambda name: counts[name] - ideal[name])[: total - sum(counts.values())]:
        counts[name] += 1
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        without = ", ".join(map(study.called, empty))
        raise DataError(
            f"validation examples are too few, {total:,} in all: none is left for {without}",
            where="$.validation.examples",
            hint="Ask for more examples, or give these datasets a larger share.",
        )
    return counts


class _Described:
    """What a manifest says of examples, added up block by block."""

    def __init__(self, vocabulary_size: int) -> None:
        self._sums = {"examples": 0, "tokens": 0, "masked": 0, "longest": 0}
        self._labels = np.zeros(vocabulary_size, np.int64)
        self._orders = np.zeros(2, np.int64)

    def each(self, blocks: Iterable[Examples]) -> Iterator[Examples]:
        """The same blocks, counted."""
        for examples in blocks:
            self._add(examples)
            yield examples

    def _add(self, examples: Examples) -> None:
        self._sums["examples"] += len(examples)
        self._sums["tokens"] += examples.tokens
        self._sums["masked"] += int(examples.masked.sum())
        self._sums["longest"] = max(self._sums["longest"], int(examples.lengths.max()))
        self._labels += np.bincount(examples.labels[examples.weights > 0], minlength=len(self._labels))
        self._orders += np.bincount(examples.sop_labels[examples.sop_labels >= 0], minlength=2)

    def content(self) -> dict[str, Any]:
        pairs = int(self._orders.sum())
        return self._sums | {
            "sop_pairs": pairs,
            "swapped": int(self._orders[1]),
            "unigram_entropy_nats": _entropy(self._labels) if self._labels.any() else None,
            "sop_entropy_nats": _entropy(self._orders) if pairs else None,
        }


def _entropy(counts: NDArray[np.int64]) -> float:
    """Plug-in entropy of counts, in nats."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum()) + 0.0

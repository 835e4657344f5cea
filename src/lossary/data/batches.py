"""The batches of a run: which examples stand in a step, and the micro batches that a backend computes on.

data = TrainingData(study, folder, "torch_xxl")
batch = data.batch(0)                                   # a pure function of (seed, step)
for micro in micro_batches(batch, max_tokens=4096, sequence_length=512): ...
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.assemble import Assembler, Settings
from lossary.data.blocks import Arrays, Blocks, Place
from lossary.data.examples import Examples
from lossary.data.manifests import MANIFEST, SCHEMA, read_manifest
from lossary.data.mixture import MixtureOrder
from lossary.data.ragged import offsets_of, ranges
from lossary.data.segments import RaggedSpans
from lossary.data.shards import PreparedDataset, marked_ids, open_dataset
from lossary.data.spans import SpanRows, StoredSpans
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import ShardError
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = [
    "MicroBatch",
    "SpanStore",
    "TrainingData",
    "gather",
    "micro_batches",
    "open_spans",
    "ragged",
    "training_shares",
]

# A span lies on half a dozen pages of 4 KiB: so many are 100 MB.
_FORGET_EVERY = 4096


class SpanStore:
    """The training spans of one dataset in all its shards, memory-mapped."""

    def __init__(self, dataset: PreparedDataset, spans: Blocks, counts: Sequence[int]) -> None:
        self._shards = dataset.blocks
        self._spans = spans
        self._fetched = 0
        self.offsets = offsets_of(np.asarray(counts, np.int64))

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @classmethod
    def open(cls, folder: StudyFolder, name: str, length: int) -> "SpanStore":
        """The training spans that `lossary prepare` wrote."""
        dataset = open_dataset(folder, name)
        spans = open_spans(folder, name, length)
        return cls(dataset, spans.blocks, spans.counts)

    def shard(self, number: int) -> tuple[Arrays, StoredSpans]:
        """A stored shard and its spans."""
        return self._shards.read(number), StoredSpans(self._spans.read(number))

    def forget_after(self, spans: int) -> None:
        """Counts spans that were fetched; now and then the pages that they lie on are given back."""
        self._fetched += spans
        if self._fetched >= _FORGET_EVERY:
            self._fetched = 0
            self._shards.forget()
            self._spans.forget()


class PreparedSpans(NamedTuple):
    """Stored spans of a dataset, a block for each of its shards, and how many each has."""

    blocks: Blocks
    counts: list[int]
    manifest: dict[str, Any]


def open_spans(folder: StudyFolder, name: str, length: int) -> PreparedSpans:
    """The training spans that `lossary prepare` wrote; ShardError if it did not."""
    path, manifest = folder.spans(name, length), _spans_manifest(folder, name, length)
    if manifest.get("schema", 1) < SCHEMA:
        raise ShardError("prepared by an earlier lossary", where=str(path), hint="Run `lossary prepare` again.")
    files = [(path / file["name"], [Place(*block[:2]) for block in file["blocks"]]) for file in manifest["files"]]
    counts = [block[2] for file in manifest["files"] for block in file["blocks"]]
    return PreparedSpans(Blocks(files, hint=f"Delete {path} and run `lossary prepare`."), counts, manifest)


def _spans_manifest(folder: StudyFolder, name: str, length: int) -> dict[str, Any]:
    """What is known of training spans, also of those that an earlier lossary wrote: tables ask for no more."""
    path = folder.spans(name, length)
    if not (path / MANIFEST).is_file():
        raise ShardError(
            f"no training examples of length {length} are prepared",
            where=str(path),
            hint="Run `lossary prepare` first.",
        )
    return read_manifest(path)


def gather(stores: Sequence[SpanStore], dataset: NDArray[np.int16], index: NDArray[np.int64]) -> RaggedSpans:
    """The spans at (dataset, index), each (B,), in this order; `dataset` is a position in `stores`."""
    found = ((rows, shard, spans.rows(at)) for rows, shard, spans, at in _by_shard(stores, dataset, index))
    parts = [(rows, marked_ids(shard, spans.start, spans.tokens), spans) for rows, shard, spans in found]
    gathered = ragged(parts, dataset)
    for number, store in enumerate(stores):
        store.forget_after(int((dataset == number).sum()))
    return gathered


def ragged(
    parts: Sequence[tuple[NDArray[np.int64], NDArray[Any], SpanRows]], dataset: NDArray[np.int16]
) -> RaggedSpans:
    """One batch (B,) of parts, each given as its rows in the batch, the pieces of its spans, and these."""
    example = np.empty(len(dataset), np.uint64)
    tokens, sentences = np.empty(len(dataset), np.int64), np.empty(len(dataset), np.int64)
    for rows, _, spans in parts:
        example[rows], tokens[rows], sentences[rows] = spans.example, spans.tokens, spans.sentences
    offsets, sentence_offsets = offsets_of(tokens), offsets_of(sentences)
    ids, ends = np.empty(offsets[-1], np.int32), np.empty(sentence_offsets[-1], np.int64)
    for rows, pieces, spans in parts:
        ids[ranges(offsets[rows], spans.tokens)] = pieces
        ends[ranges(sentence_offsets[rows], spans.sentences)] = spans.sentence_ends
    return RaggedSpans(
        dataset=dataset,
        example=example,
        ids=ids,
        offsets=offsets,
        sentence_ends=ends,
        sentence_offsets=sentence_offsets,
    )


def _by_shard(
    stores: Sequence[SpanStore], dataset: NDArray[np.int16], index: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Arrays, StoredSpans, NDArray[np.int64]]]:
    """Rows of the batch, their shard, its spans, and where in them, shard by shard."""
    for number in np.unique(dataset):
        store = stores[number]
        rows = np.flatnonzero(dataset == number)
        shard = np.searchsorted(store.offsets, index[rows], side="right") - 1
        for which in np.unique(shard):
            chosen = rows[shard == which]
            yield chosen, *store.shard(int(which)), index[chosen] - store.offsets[which]


class TrainingData:
    """The batches of one run, each a pure function of (seed, step).

    `weights` are the datasets it trains on and how often each comes; those of the study file if None.
    """

    def __init__(
        self, study: Study, folder: StudyFolder, run: str, *, weights: Mapping[str, float] | None = None
    ) -> None:
        recipe = study.recipe_of(run)
        assert recipe.seed is not None
        self.datasets = list(study.datasets)
        self.called = [study.called(name) for name in self.datasets]
        self.batch_size = recipe.batch_size
        if weights is None:
            weights = training_shares(study, folder, recipe.sequence_length, datasets=study.datasets_of(run))
        trained = list(weights)
        gone = [name for name in trained if name not in study.datasets]
        if gone:
            raise ShardError(
                f"the run was begun with dataset {gone[0]!r}, which the study no longer has",
                where=run,
                hint=f'If it has another name now, write drawn_as = "{gone[0]}" in its table.',
            )
        self.stores = [SpanStore.open(folder, name, recipe.sequence_length) for name in trained]
        for name, store in zip(trained, self.stores, strict=True):
            if not len(store):
                raise ShardError(
                    f"dataset {study.called(name)!r} has no training example left",
                    where=str(folder.dataset(name)),
                    hint="Give it more text or fewer validation examples, or leave it out of the runs' `datasets`.",
                )
        total = sum(weights.values())
        self.shares = {name: weight / total for name, weight in weights.items()}
        sizes = [len(store) for store in self.stores]
        self._order = MixtureOrder(trained, shares=list(weights.values()), sizes=sizes, seed=recipe.seed)
        self._number = np.array([self.datasets.index(name) for name in trained], np.int16)
        self._assembler = Assembler(
            open_tokenizer(folder), self.datasets, Settings.of(recipe), seed=recipe.seed, purpose="train"
        )

    def batch(self, step: int) -> Examples:
        """The examples of a step, counted from 0."""
        places = self._order.at(np.arange(step * self.batch_size, (step + 1) * self.batch_size))
        spans = gather(self.stores, places.dataset, places.index)
        numbered = RaggedSpans(**(vars(spans) | {"dataset": self._number[places.dataset]}))
        return self._assembler.assemble(numbered, places.epoch)


def training_shares(
    study: Study, folder: StudyFolder, length: int, datasets: Collection[str] | None = None
) -> dict[str, float]:
    """The planned sampling share of every dataset, or of some among themselves.

    They add up to 1, or are all 0 where shares follow what there is to train on, and there is nothing.
    """
    shares = study.mixture.shares
    names = [name for name in study.datasets if datasets is None or name in datasets]
    if isinstance(shares, str):
        weights = {name: float(_spans_manifest(folder, name, length)[shares]) for name in names}
    else:
        weights = {name: shares[name] for name in names}
    total = sum(weights.values()) or 1.0
    return {name: weight / total for name, weight in weights.items()}


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """A part of a batch, padded to one of a few shapes; `rows` are the batch's rows, filler left out."""

    rows: NDArray[np.int64]
    examples: Examples


def micro_batches(
    examples: Examples, *, max_tokens: int, sequence_length: int, few_shapes: bool = False
) -> list[MicroBatch]:
    """Cuts a batch, sorted by length, into micro batches of at most `max_tokens` padded tokens (one row at least).

    The cut minimises padded tokens plus a fixed price for each micro batch. With `few_shapes`, for backends that
    compile for every shape, lengths, row counts and masked positions come from short lists, and filler rows are added;
    sums over a batch do not depend on any of this.
    """
    step = max(8, sequence_length // (4 if few_shapes else 16))
    # Round lengths end where positions do: a model may have no more.
    padded = np.minimum(-(-examples.lengths.astype(np.int64) // step) * step, sequence_length)
    order = np.argsort(-padded, kind="stable")
    padded = padded[order]
    rounded = _power_of_two if few_shapes else int
    result = []
    for start, stop in pairwise(_cuts(padded, max_tokens, rounded)):
        rows = order[start:stop]
        length = int(padded[start])
        part = examples.take(rows)
        predictions = int(max(1, part.masked.max()))
        if few_shapes:
            # Budgets grow with the length, so that few numbers of positions appear.
            predictions = -(-predictions // max(4, length // 8)) * max(4, length // 8)
        padded_part = part.padded(length=length, predictions=predictions, rows=rounded(len(rows)))
        result.append(MicroBatch(rows=rows, examples=padded_part))
    return result


def _power_of_two(rows: int) -> int:
    return 1 << (rows - 1).bit_length()


# What a micro batch costs besides its tokens (kernel launches, Python), in padded tokens: measured on small models.
_FIXED_COST_TOKENS = 192


def _cuts(padded: NDArray[np.int64], max_tokens: int, rounded: Callable[[int], int]) -> list[int]:
    """Where to cut rows of descending padded lengths: the least cost, by dynamic programming over changes of length."""
    total = len(padded)
    edges = [0, *(np.flatnonzero(np.diff(padded)) + 1).tolist(), total]
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [0])}
    for number, stop in enumerate(edges[1:], 1):
        options = []
        for start in edges[:number]:
            length = int(padded[start])
            most = max(1, max_tokens // length)
            while rounded(most) > max(1, max_tokens // length):
                most -= 1
            cuts = [min(cut, stop) for cut in range(start + most, stop + most, most)]
            rows = sum(rounded(b - a) for a, b in pairwise([start, *cuts]))
            options.append((best[start][0] + rows * length + _FIXED_COST_TOKENS * len(cuts), best[start][1] + cuts))
        best[stop] = min(options)
    return best[total][1]

"""Shards: the tokenised documents of a dataset, in memory-mapped files of blocks with checksums.

    for shard in open_dataset(folder, "wiki").shards:
        shard.ids[shard.id_offsets[0] : shard.id_offsets[1]]     # pieces of its first document

A shard is a block, a window of the dataset; a file holds many. A piece takes two bytes where the vocabulary allows, a
count as few as the largest of its block needs. Nothing is read until it is used.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from lossary.data.blocks import Arrays, Blocks, Place, narrow
from lossary.data.manifests import MANIFEST, SCHEMA, read_manifest
from lossary.data.ragged import offsets_of, ranges
from lossary.errors import ShardError
from lossary.folder import StudyFolder

__all__ = [
    "MANIFEST",
    "STRETCHES",
    "WHOLE",
    "WORD_START",
    "PreparedDataset",
    "Shard",
    "marked_ids",
    "open_dataset",
    "packed_shard",
]

# Of stored shards: what only whole shards are made of, and what batches take here and there.
WHOLE = ("sentences", "sentence_tokens", "bytes", "row_steps")
STRETCHES = ("ids",)
# Set in a piece that starts a word, where the vocabulary's pieces do not say it themselves.
WORD_START = 1 << 30
_HINT = "Delete the folder `prepared` and run `lossary prepare`."


@dataclass(frozen=True, kw_only=True)
class Shard:
    """D tokenised documents; lists are flat, with offsets (D + 1,)."""

    row: NDArray[np.uint64]  # (D,) row of the dataset, counted over its files
    ids: NDArray[Any]  # (N,) pieces, no special ones; uint16 or int32
    id_offsets: NDArray[np.int64]
    sentence_ends: NDArray[np.int32]  # (S,) relative to the document
    sentence_offsets: NDArray[np.int64]
    bytes: NDArray[np.uint32]  # (D,) UTF-8 bytes of the text
    text_hash: NDArray[np.uint64]  # (D,) of the normalised text
    pair: bool
    starts: NDArray[np.bool_] | None = None  # (N,) pieces that start words; None where each piece says it of itself

    def __len__(self) -> int:
        return len(self.row)

    def take(self, documents: NDArray[np.int64]) -> "Shard":
        """Some documents (d,), ascending, as a shard of their own."""
        tokens = self.id_offsets[documents + 1] - self.id_offsets[documents]
        sentences = self.sentence_offsets[documents + 1] - self.sentence_offsets[documents]
        return Shard(
            row=self.row[documents],
            ids=self.ids[ranges(self.id_offsets[documents], tokens)],
            id_offsets=offsets_of(tokens),
            sentence_ends=self.sentence_ends[ranges(self.sentence_offsets[documents], sentences)],
            sentence_offsets=offsets_of(sentences),
            bytes=self.bytes[documents],
            text_hash=self.text_hash[documents],
            pair=self.pair,
            starts=None if self.starts is None else self.starts[ranges(self.id_offsets[documents], tokens)],
        )

    @property
    def word_starts(self) -> NDArray[np.bool_]:
        """(N,) pieces that start words, of documents that are kept with them."""
        assert self.starts is not None, "pieces say themselves whether they start words"
        return self.starts

    @property
    def marked_ids(self) -> NDArray[Any]:
        """(N,) pieces, those that start words marked where they do not say so themselves."""
        if self.starts is None:
            return self.ids
        return self.ids.astype(np.int32) | np.where(self.starts, WORD_START, 0).astype(np.int32)


def packed_shard(shard: Shard) -> dict[str, NDArray[Any]]:
    """The arrays that a shard is stored as: what offsets say, as counts; a document is as long as its sentences."""
    starts = np.zeros(len(shard.sentence_ends), np.int64)
    starts[1:] = shard.sentence_ends[:-1]
    sentences = np.diff(shard.sentence_offsets)
    starts[shard.sentence_offsets[:-1][sentences > 0]] = 0
    return {
        "ids": shard.ids,
        "sentences": narrow(sentences),
        "sentence_tokens": narrow(shard.sentence_ends - starts),
        "bytes": narrow(shard.bytes),
        "text_hash": shard.text_hash,
        "first_row": shard.row[:1],
        "row_steps": narrow(np.diff(shard.row)),
        "pair": np.array([shard.pair], np.uint8),
        **({} if shard.starts is None else {"words": _word_sizes(shard.starts)}),
    }


def _word_sizes(starts: NDArray[np.bool_]) -> NDArray[Any]:
    """Pieces of each word; the first piece of a shard starts one."""
    return narrow(np.diff(np.flatnonzero(starts), append=len(starts)))


def _word_starts(sizes: NDArray[Any], pieces: int) -> NDArray[np.bool_]:
    starts = np.zeros(pieces, np.bool_)
    starts[offsets_of(sizes)[:-1]] = True
    return starts


def marked_ids(arrays: Arrays, start: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[Any]:
    """Stretches (n,) of the pieces of a stored shard, one after another, as `Shard.marked_ids` has them."""
    ids = arrays.stretches("ids", start, count)
    if "words" not in arrays:
        return ids
    at, begins = ranges(start, count), offsets_of(arrays["words"])
    return ids.astype(np.int32) | np.where(begins[np.searchsorted(begins, at)] == at, WORD_START, 0).astype(np.int32)


def _unpacked(arrays: Arrays) -> Shard:
    sentences, ids = arrays["sentences"], arrays["ids"]
    sentence_offsets = offsets_of(sentences)
    token_ends = offsets_of(arrays["sentence_tokens"])
    id_offsets = token_ends[sentence_offsets]
    return Shard(
        row=arrays["first_row"][0] + offsets_of(arrays["row_steps"]).astype(np.uint64),
        ids=ids,
        id_offsets=id_offsets,
        sentence_ends=(token_ends[1:] - np.repeat(id_offsets[:-1], sentences)).astype(np.int32),
        sentence_offsets=sentence_offsets,
        bytes=arrays["bytes"].astype(np.uint32),
        text_hash=arrays["text_hash"],
        pair=bool(arrays["pair"][0]),
        starts=_word_starts(arrays["words"], len(ids)) if "words" in arrays else None,
    )


class Shards(Sequence[Shard]):
    """The shards of a dataset; each is unpacked when it is asked for, and kept by nobody."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    @overload
    def __getitem__(self, number: int) -> Shard: ...
    @overload
    def __getitem__(self, number: slice) -> list[Shard]: ...
    def __getitem__(self, number: int | slice) -> Shard | list[Shard]:
        if isinstance(number, slice):
            return [self[index] for index in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        self.blocks.forget()
        return _unpacked(self.blocks.read(number))


@dataclass(frozen=True)
class PreparedDataset:
    """The shards of a dataset and what its manifest says of them."""

    name: str
    path: Path
    manifest: dict[str, Any]

    @cached_property
    def blocks(self) -> Blocks:
        return Blocks(
            [
                (self.path / file["name"], [Place(*block[:2]) for block in file["blocks"]])
                for file in self.manifest["shards"]
            ],
            hint=_HINT,
        )

    @property
    def shards(self) -> Shards:
        return Shards(self.blocks)

    def text_hashes(self) -> Iterator[NDArray[np.uint64]]:
        """Hashes (D,) of the texts of one shard after another."""
        for number in range(len(self.blocks)):
            yield self.blocks.read(number)["text_hash"]
            self.blocks.forget()

    @property
    def shard_paths(self) -> list[Path]:
        """The files that hold the shards."""
        return [self.path / file["name"] for file in self.manifest["shards"]]

    def verify(self) -> None:
        """Reads every shard and compares it with its checksum; ShardError names the first file that differs."""
        for number in range(len(self.blocks)):
            self.blocks.encoded(number)


def open_dataset(folder: StudyFolder, name: str) -> PreparedDataset:
    """The prepared dataset `name`; ShardError if it was not prepared, or by an earlier lossary."""
    path = folder.dataset(name)
    if not (path / MANIFEST).is_file():
        raise ShardError("the dataset is not prepared", where=str(path), hint="Run `lossary prepare` first.")
    manifest = read_manifest(path)
    if manifest.get("schema", 1) < SCHEMA:
        raise ShardError("prepared by an earlier lossary", where=str(path), hint="Run `lossary prepare` again.")
    return PreparedDataset(name, path, manifest)

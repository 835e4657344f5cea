"""Shards: the tokenised documents of a dataset, in memory-mapped Arrow files with checksums.

    for shard in open_dataset(folder, "wiki").shards:
        shard.ids[shard.id_offsets[0] : shard.id_offsets[1]]     # pieces of its first document

A piece takes two bytes where the vocabulary allows. Nothing is read until it is used.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.data.arrow import arrow_array, read_batch, write_batch
from lossary.errors import ShardError
from lossary.files import digest_file, read_json
from lossary.folder import StudyFolder

__all__ = ["PreparedDataset", "Shard", "open_dataset", "read_shard", "write_shard"]

MANIFEST = "manifest.json"


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

    def __len__(self) -> int:
        return len(self.row)


def write_shard(path: Path, shard: Shard) -> None:
    """Stores a shard, whole or not at all."""
    columns = {
        "row": arrow_array(shard.row),
        "ids": pa.LargeListArray.from_arrays(arrow_array(shard.id_offsets), arrow_array(shard.ids)),
        "sentence_ends": pa.LargeListArray.from_arrays(
            arrow_array(shard.sentence_offsets), arrow_array(shard.sentence_ends)
        ),
        "bytes": arrow_array(shard.bytes),
        "text_hash": arrow_array(shard.text_hash),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    write_batch(path, batch.replace_schema_metadata({"pair": str(shard.pair).lower()}))


def read_shard(path: Path) -> Shard:
    """Memory-maps a shard; ShardError if it is missing or damaged."""
    batch = read_batch(path)
    ids, ends = batch.column("ids"), batch.column("sentence_ends")
    return Shard(
        row=batch.column("row").to_numpy(),
        ids=ids.values.to_numpy(),
        id_offsets=ids.offsets.to_numpy(),
        sentence_ends=ends.values.to_numpy(),
        sentence_offsets=ends.offsets.to_numpy(),
        bytes=batch.column("bytes").to_numpy(),
        text_hash=batch.column("text_hash").to_numpy(),
        pair=(batch.schema.metadata or {}).get(b"pair") == b"true",
    )


@dataclass(frozen=True)
class PreparedDataset:
    """The shards of a dataset and what its manifest says of them."""

    name: str
    path: Path
    manifest: dict[str, Any]

    @cached_property
    def shards(self) -> list[Shard]:
        return [read_shard(path) for path in self.shard_paths]

    @property
    def shard_paths(self) -> list[Path]:
        return [self.path / shard["name"] for shard in self.manifest["shards"]]

    def verify(self) -> None:
        """Reads every shard and compares it with its checksum; ShardError names the first that differs."""
        for path, shard in zip(self.shard_paths, self.manifest["shards"], strict=True):
            if not path.is_file() or digest_file(path) != shard["digest"]:
                raise ShardError(
                    "the file is missing or not the one that was written",
                    where=str(path),
                    hint=f"Delete {self.path} and run `lossary prepare`.",
                )


def open_dataset(folder: StudyFolder, name: str) -> PreparedDataset:
    """The prepared dataset `name`; ShardError if it was not prepared."""
    path = folder.dataset(name)
    if not (path / MANIFEST).is_file():
        raise ShardError("the dataset is not prepared", where=str(path), hint="Run `lossary prepare` first.")
    return PreparedDataset(name, path, read_json(path / MANIFEST))

"""Texts of frozen examples, as they are kept beside them: what stood in the documents, and the bytes of hidden words.

    for texts in read_texts(folder, "wiki"):        # blocks that are parallel to those of the examples
        texts.bytes_of(0).decode()

A text is what was written: nothing is normalised, line breaks stand. It begins with the segment that comes first in its
document, whatever was swapped; then comes what stands between, a space where tokens were cut; then the second segment.
Its part's digest does not cover it: a part that was frozen before there were texts can be given them (freeze_texts.py).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.blocks import Blocks, Place, narrow
from lossary.data.manifests import MANIFEST, read_manifest
from lossary.data.parts import EXAMPLES, known_part, part_blocks
from lossary.data.ragged import offsets_of
from lossary.folder import StudyFolder

__all__ = [
    "HIDDEN",
    "KEPT",
    "RANDOM",
    "TEXTS",
    "FrozenTexts",
    "concatenate_texts",
    "find_texts",
    "known_texts",
    "packed_texts",
    "read_texts",
    "texts_folder",
]

TEXTS = "texts.arrow"
# What was done to a hidden word.
HIDDEN, RANDOM, KEPT = range(3)
_REMEDY = "Delete its folder and run `lossary prepare`: it is made again from the sources."


@dataclass(frozen=True, kw_only=True)
class FrozenTexts:
    """Texts of B examples with W hidden words, in the order of the document; places are bytes of an example's text."""

    text: NDArray[np.uint8]  # (N,) UTF-8 of all of them
    offsets: NDArray[np.int64]  # (B + 1,) where each begins
    first_end: NDArray[np.int64]  # (B,) the first segment is from 0 to here
    second_begin: NDArray[np.int64]  # (B,) the second one is from here to the end; empty if there is none
    swapped: NDArray[np.bool_]  # (B,) whether a model is given the second segment first
    words: NDArray[np.int64]  # (B + 1,) where the words of each begin
    begin: NDArray[np.int64]  # (W,)
    end: NDArray[np.int64]  # (W,) as `begin` for a word without a byte of its own
    treatment: NDArray[np.uint8]  # (W,) HIDDEN, RANDOM or KEPT

    def __len__(self) -> int:
        return len(self.swapped)

    def bytes_of(self, row: int) -> bytes:
        """The text of one example."""
        return self.text[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def part(self, rows: slice) -> "FrozenTexts":
        """Some examples that follow one another."""
        start, stop = rows.start, rows.stop
        words = slice(self.words[start], self.words[stop])
        return FrozenTexts(
            text=self.text[self.offsets[start] : self.offsets[stop]],
            offsets=self.offsets[start : stop + 1] - self.offsets[start],
            first_end=self.first_end[rows],
            second_begin=self.second_begin[rows],
            swapped=self.swapped[rows],
            words=self.words[start : stop + 1] - self.words[start],
            begin=self.begin[words],
            end=self.end[words],
            treatment=self.treatment[words],
        )

    @property
    def target_bytes(self) -> NDArray[np.int32]:
        """(B,) bytes of all hidden words of each example."""
        return np.diff(offsets_of(self.end - self.begin)[self.words]).astype(np.int32)


def concatenate_texts(parts: Sequence[FrozenTexts]) -> FrozenTexts:
    """Texts one after another."""
    return FrozenTexts(
        offsets=offsets_of(np.concatenate([np.diff(part.offsets) for part in parts])),
        words=offsets_of(np.concatenate([np.diff(part.words) for part in parts])),
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(FrozenTexts)
            if field.name not in ("offsets", "words")
        },
    )


def packed_texts(texts: FrozenTexts) -> dict[str, NDArray[Any]]:
    """The arrays that texts are stored as."""
    return {
        "text": texts.text,
        "bytes": narrow(np.diff(texts.offsets)),
        "first_end": narrow(texts.first_end),
        "second_begin": narrow(texts.second_begin),
        "swapped": texts.swapped.astype(np.uint8),
        "words": narrow(np.diff(texts.words)),
        "word_begin": narrow(texts.begin),
        "word_bytes": narrow(texts.end - texts.begin),
        "treatment": texts.treatment,
    }


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> FrozenTexts:
    begin = arrays["word_begin"].astype(np.int64)
    return FrozenTexts(
        text=arrays["text"],
        offsets=offsets_of(arrays["bytes"]),
        first_end=arrays["first_end"].astype(np.int64),
        second_begin=arrays["second_begin"].astype(np.int64),
        swapped=arrays["swapped"] > 0,
        words=offsets_of(arrays["words"]),
        begin=begin,
        end=begin + arrays["word_bytes"],
        treatment=arrays["treatment"],
    )


def texts_folder(folder: StudyFolder, dataset: str) -> Path:
    """Where the texts of a part lie."""
    return folder.validation_part(dataset) / "texts"


def known_texts(folder: StudyFolder, part: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of the texts of a part, given as its manifest; None if there are none, or those of another part."""
    path = texts_folder(folder.as_drawn, part["dataset"])
    if not (path / MANIFEST).is_file():
        return None
    manifest = read_manifest(path)
    return manifest if manifest["part"] == part["digest"] else None


def read_texts(folder: StudyFolder, dataset: str) -> Iterator[FrozenTexts] | None:
    """The texts of the examples of a dataset, block by block as these; None if there are none.

    ShardError if they are damaged, or the part is as `known_part` says.
    """
    blocks = _blocks(folder, dataset)
    return None if blocks is None else _each(blocks)


def find_texts(folder: StudyFolder, dataset: str, wanted: Collection[int]) -> dict[int, FrozenTexts]:
    """The texts of the examples with some numbers, one each; other blocks are not read. None where no text is kept.

    ShardError as `read_texts`.
    """
    blocks = _blocks(folder, dataset)
    if blocks is None:
        return {}
    part = known_part(folder, dataset)
    examples = part_blocks(folder, part, EXAMPLES)
    found: dict[int, FrozenTexts] = {}
    for block, (_, _, _, first, last) in enumerate(part["files"][EXAMPLES]):
        if any(first <= number <= last for number in wanted):
            texts = _unpacked(blocks.read(block))
            numbers = examples.read(block)["example"].tolist()
            found |= {n: texts.part(slice(row, row + 1)) for row, n in enumerate(numbers) if n in wanted}
    return found


def _blocks(folder: StudyFolder, dataset: str) -> Blocks | None:
    manifest = known_texts(folder, known_part(folder, dataset))
    if manifest is None:
        return None
    places = [Place(*block[:2]) for block in manifest["files"][TEXTS]]
    return Blocks([(texts_folder(folder, dataset) / TEXTS, places)], hint=_REMEDY)


def _each(blocks: Blocks) -> Iterator[FrozenTexts]:
    for number in range(len(blocks)):
        yield _unpacked(blocks.read(number))
        blocks.forget()

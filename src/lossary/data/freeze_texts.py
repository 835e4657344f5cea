"""Gives frozen examples their texts: reads the sources again, and proves that they are what was frozen.

    notes = freeze_texts(study, folder)             # what could not be given its text, and why

Nothing is taken on trust: documents have to have the hash that they had, their pieces have to be those of the shard,
and these those of the frozen examples. Sources and shards are gone through once, in step, a block at a time.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.blocks import Blocks, BlockWriter
from lossary.data.changes import reading
from lossary.data.contents import Contents, same_contents
from lossary.data.cut_texts import TextCutter
from lossary.data.examples import Examples, unpacked_examples
from lossary.data.frozen_texts import (
    TEXTS,
    concatenate_texts,
    known_texts,
    packed_texts,
    texts_folder,
)
from lossary.data.manifests import SCHEMA, write_manifest
from lossary.data.parsing import Block, ParsedBlock, parse
from lossary.data.parts import EXAMPLES, known_part, part_blocks
from lossary.data.piece_places import NotTheSame
from lossary.data.prepare import Progress
from lossary.data.shards import PreparedDataset, Shard, open_dataset
from lossary.data.source_files import SourceFile, list_files
from lossary.data.sources import read_blocks
from lossary.data.spans import example_rows
from lossary.data.tokenise import normalised_hash
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import SourceError
from lossary.files import digest_json, write_directory_atomic
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["freeze_texts"]

# Of how texts are cut: what another one made has another digest.
_FORM = 1
_CHANGED = "its sources changed since they were prepared"
_GONE = "its sources are gone"


def freeze_texts(study: Study, folder: StudyFolder, *, progress: Progress = lambda *_: None) -> list[str]:
    """Gives every part its texts that has none; returns a note if some stay without."""
    without: dict[str, list[str]] = {}
    for name in study.datasets:
        part = known_part(folder, name)
        if known_texts(folder, part) is None:
            try:
                _write(study, folder, part, progress)
            except NotTheSame as error:
                without.setdefault(str(error), []).append(name)
            except SourceError as error:
                # The reason as it is: a file that is there and cannot be read is not gone.
                without.setdefault(f"its sources cannot be read: {error.where}: {error.message}", []).append(name)
    if not without:
        return []
    reasons = "; ".join(f"{', '.join(names)} ({why})" for why, names in without.items())
    return [f"no text is kept of {reasons}: only models of the study's own vocabulary can be scored there"]


def _write(study: Study, folder: StudyFolder, part: dict[str, Any], progress: Progress) -> None:
    name = part["dataset"]
    dataset = open_dataset(folder, name)
    files = _sources(study, folder, dataset)
    cutter = TextCutter(study, name, open_tokenizer(folder))
    blocks = part_blocks(folder, part, EXAMPLES)
    raw = _RawTexts(read_blocks(study.datasets[name], files), _rows_of(blocks))
    documents = _Documents(dataset, raw)
    counts = [block[2] for block in part["files"][EXAMPLES]]
    size = words = 0
    with write_directory_atomic(texts_folder(folder, name)) as temporary:
        with BlockWriter(temporary / TEXTS, compressed=True) as writer:
            for number in range(len(blocks)):
                progress(
                    f"{study.called(name)}: text of the validation examples", sum(counts[:number]), part["examples"]
                )
                examples = unpacked_examples(blocks.read(number), dataset=0)
                texts = concatenate_texts([cutter.texts(*found) for found in documents.of(examples)])
                blocks.forget()
                writer.append(packed_texts(texts))
                size, words = size + len(texts.text), words + len(texts.begin)
        content = {
            "dataset": name,
            "part": part["digest"],
            "digest": digest_json([SCHEMA, _FORM, part["digest"], writer.digest]),
            "files": {TEXTS: [[*place, count] for place, count in zip(writer.places, counts, strict=True)]},
            "bytes": size,
            "words": words,
        }
        write_manifest(temporary, content)


def _sources(study: Study, folder: StudyFolder, dataset: PreparedDataset) -> list[SourceFile]:
    """The files of a dataset; NotTheSame unless they are what it was prepared from."""
    settings, before = study.datasets[dataset.name], dataset.manifest["files"]
    where = f"{folder.study_file}: $.datasets.{study.called(dataset.name)}.source"
    try:
        files = list_files(settings, folder.root, where=where)
    except SourceError:
        raise NotTheSame(_GONE) from None
    known = Contents({file["path"]: file for file in before})
    now = [known.of(file) for file in files]
    if not same_contents(before, now) or dataset.manifest["reading"] != reading(settings):
        raise NotTheSame(_CHANGED)
    return files


def _rows_of(blocks: Blocks) -> NDArray[np.uint64]:
    """The rows of the documents of all examples, ascending, each once."""
    found = [np.zeros(0, np.uint64)]
    for number in range(len(blocks)):
        found.append(np.unique(example_rows(blocks.read(number)["example"])))
        blocks.forget()
    return np.unique(np.concatenate(found))


class _Documents:
    """Documents with their shards and their raw texts."""

    def __init__(self, dataset: PreparedDataset, raw: "_RawTexts") -> None:
        self._shards = iter(dataset.shards)
        self._shard: Shard | None = None
        self._raw = raw

    def of(self, examples: Examples) -> Iterator[tuple[Examples, Shard, list[tuple[str, ...]]]]:
        """Some examples, their documents, and the texts of these, shard by shard; in ascending order over all calls."""
        rows = example_rows(examples.example)
        done = 0
        while done < len(rows):
            shard = self._holding(int(rows[done]))
            count = int(np.searchsorted(rows, shard.row[-1], side="right"))
            wanted = np.unique(rows[done:count])
            documents = shard.take(np.searchsorted(shard.row, wanted))
            if not np.array_equal(documents.row, wanted):
                raise NotTheSame("its documents are not those of its examples")
            texts = [self._raw.at(row) for row in wanted.tolist()]
            sizes = [sum(len(text.encode()) for text in one) for one in texts]
            hashes = [normalised_hash(one) for one in texts]
            if sizes != documents.bytes.tolist() or hashes != documents.text_hash.tolist():
                raise NotTheSame(_CHANGED)
            yield examples.take(np.arange(done, count)), documents, texts
            done = count

    def _holding(self, row: int) -> Shard:
        while self._shard is None or int(self._shard.row[-1]) < row:
            self._shard = next(self._shards, None)
            if self._shard is None:
                raise NotTheSame("its documents are not those of its examples")
        return self._shard


class _RawTexts:
    """Texts by ascending row; only those that are wanted are parsed."""

    def __init__(self, blocks: Iterator[Block], wanted: NDArray[np.uint64]) -> None:
        self._blocks = blocks
        self._wanted = wanted
        self._end = 0
        self._parts: Iterator[ParsedBlock] = iter(())
        self._part: ParsedBlock | None = None

    def at(self, row: int) -> tuple[str, ...]:
        while row >= self._end:
            block = next(self._blocks, None)
            if block is None:
                raise NotTheSame(_CHANGED)
            self._end = block.first_row + block.num_rows
            self._parts, self._part = parse(self._less(block)), None
        while self._part is None or not self._part.rows or self._part.rows[-1] < row:
            self._part = next(self._parts, None)
            if self._part is None:
                raise NotTheSame(_CHANGED)
        place = bisect_left(self._part.rows, row)
        if self._part.rows[place] != row:
            raise NotTheSame(_CHANGED)
        return self._part.texts[place]

    def _less(self, block: Block) -> Block:
        # Which document is the last one is counted among all.
        if block.most is not None:
            return block
        first, stop = np.searchsorted(self._wanted, np.array([block.first_row, self._end], np.uint64))
        return replace(block, only=self._wanted[first:stop])

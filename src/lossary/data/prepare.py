"""Tokenizer and shards of every dataset of a study, in constant memory, on all cores.

One process reads and cuts; it and its workers parse, tokenise and write. What is up to date is kept, what was cut short
goes on: a block whose summary is there is not made again. The result is the same bytes for any number of workers.
"""

import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from lossary.data.changes import DataChanges, DatasetChange, data_changes, reading
from lossary.data.contents import Content, check_unchanged
from lossary.data.judging import judge
from lossary.data.manifests import read_manifest, write_manifest
from lossary.data.parsing import BLOCK_BYTES, Block, parse
from lossary.data.philox import stream_key, uniforms
from lossary.data.source_files import SourceFile
from lossary.data.sources import read_blocks
from lossary.data.tokenise import BlockSummary, start_worker, tokenise_block
from lossary.data.tokenizer import (
    StudyTokenizer,
    VocabularyTooLarge,
    install_model,
    named_model,
    open_tokenizer,
    train_model,
)
from lossary.errors import SourceError, WorkerError
from lossary.files import digest_json, read_json, write_atomic, write_json
from lossary.folder import StudyFolder
from lossary.study import Dataset, Study

__all__ = ["LocalTokenisers", "Progress", "Promised", "Tokenisers", "prepare_datasets"]

Progress = Callable[[str, float, float | None], None]
# Of the form of shards: another one is made from the sources again.
_SCHEMA = 2
# Files of shards: few, and each small enough to be copied or sent.
_FILE_BYTES = 256 << 20
_QUARANTINED = 100
_WORTH_A_PROCESS = 4 * BLOCK_BYTES
# SentencePiece leaves out sentences above its limit; a long line would be lost to the vocabulary.
_SENTENCE_CHARACTERS = 2000


def prepare_datasets(
    study: Study,
    folder: StudyFolder,
    *,
    workers: int | None = None,
    keep: Collection[str] = (),
    tokenisers: "Callable[[int, StudyTokenizer], AbstractContextManager[Tokenisers]] | None" = None,
    progress: Progress = lambda *_: None,
) -> dict[str, dict[str, Any]]:
    """Makes tokenizer and shards; returns the manifest of each dataset.

    Datasets named by `keep` stay as they are though their sources changed. `tokenisers` are processes of this machine
    if None. Raises SourceError if a source is missing,
    damaged or holds no usable row, StudyError if the tokenizer cannot be made as the study file asks.
    """
    changes = data_changes(study, folder, keep=keep)
    for name in changes.anew:
        called = study.called(name)
        judge(called, study.datasets[name], changes.datasets[name].files or [], where=_key(folder, called))
    if changes.tokenizer.fate != "kept":
        progress("tokenizer", 0, None)
        make_tokenizer(study, folder, changes)
        changes = data_changes(study, folder, keep=keep)
    model = open_tokenizer(folder)
    manifests: dict[str, dict[str, Any]] = {}
    total = sum(_text_bytes(file) for name in changes.anew for file in changes.datasets[name].files or [])
    # A process takes longer to start than this one needs for a few blocks.
    count = 1 if total < _WORTH_A_PROCESS else workers or os.cpu_count() or 1
    with (tokenisers or LocalTokenisers)(count, model) as pool:
        for name, change in changes.datasets.items():
            if change.fate == "kept":
                manifests[name] = _kept_manifest(folder.dataset(name), change)
            else:
                assert change.files is not None
                assert change.contents is not None
                job = _DatasetJob(
                    name=name,
                    called=study.called(name),
                    dataset=study.datasets[name],
                    files=change.files,
                    contents=change.contents,
                    path=folder.dataset(name),
                    model=model,
                )
                manifests[name] = job.run(pool, progress)
    return manifests


def _key(folder: StudyFolder, name: str) -> str:
    """Where the study file speaks of a dataset."""
    return f"{folder.study_file}: $.datasets.{name}"


def _kept_manifest(path: Path, change: DatasetChange) -> dict[str, Any]:
    """The manifest of a dataset that stays; paths and times of its files are brought up to date."""
    manifest = read_manifest(path)
    if change.contents is not None and manifest["files"] != change.contents:
        manifest["files"] = change.contents
        write_manifest(path, manifest)
    return manifest


class Promised(Protocol):
    """A block that is being tokenised."""

    def done(self) -> bool: ...
    def result(self) -> BlockSummary: ...


class Tokenisers(Protocol):
    """Whoever makes shards of blocks."""

    def tokenise(self, block: Block, *, directory: Path, number: int) -> BlockSummary | Promised:
        """Makes the shards of a block, now or soon; waits where many are under way."""
        ...


class LocalTokenisers:
    """This process and `count - 1` more that tokenise: the others start at the first block, and none waits for them."""

    def __init__(self, count: int, model: StudyTokenizer) -> None:
        self.count = count
        self.model = model
        self._pool: ProcessPoolExecutor | None = None
        self._pending: list[Future[BlockSummary]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def tokenise(self, block: Block, *, directory: Path, number: int) -> BlockSummary | Promised:
        self._pending = [future for future in self._pending if not future.done()]
        # One block in hand and one at hand for each of the others; this process takes what is left, so that it is
        # never idle, nor far ahead of them.
        if len(self._pending) >= 2 * (self.count - 1):
            return tokenise_block(block, directory=directory, number=number, model=self.model)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.count - 1, get_context("spawn"), initializer=start_worker, initargs=(self.model, os.getpid())
            )
        future = self._pool.submit(tokenise_block, block, directory=directory, number=number)
        self._pending.append(future)
        return future


def make_tokenizer(study: Study, folder: StudyFolder, changes: DataChanges) -> None:
    """Trains or installs the tokenizer."""
    settings = study.tokenizer
    if settings.model is not None:
        model = named_model(folder, settings.model)
        install_model(folder, model, sop=study.recipe.has_sop, record=changes.record)
        return
    gone = [name for name, change in changes.datasets.items() if change.files is None]
    if gone:
        raise SourceError(
            f"the tokenizer has to be trained, and the sources of {', '.join(map(study.called, gone))} are gone",
            where=f"{_key(folder, study.called(gone[0]))}.source",
        )
    files = {name: change.files or [] for name, change in changes.datasets.items()}
    train = partial(train_model, folder, lowercase=settings.lowercase, record=changes.record)
    try:
        train(_sample(study, files), vocabulary_size=settings.vocabulary_size)
    except VocabularyTooLarge as error:
        if "vocabulary_size" in settings.model_fields_set:
            raise
        # Nobody asked for so many pieces.
        train(_sample(study, files), vocabulary_size=error.allowed)


def _sample(study: Study, files: dict[str, list[SourceFile]]) -> Iterator[str]:
    """Lines of every dataset in proportion to its share, the same for the same study."""
    available = {name: _available(study.datasets[name], found) for name, found in files.items()}
    shares = study.mixture.shares
    weights = available if isinstance(shares, str) else shares
    total = sum(weights.values())
    for name, dataset in study.datasets.items():
        quota = study.tokenizer.sample_bytes * weights[name] / total
        # A little more than the quota's part, so that an estimate of the size that is too high does not starve it.
        chance = min(1.0, 1.2 * quota / max(1, available[name]))
        key = stream_key(study.seed, "tokenizer", name)
        for line in _lines(dataset, files[name], chance, key):
            quota -= len(line.encode())
            if quota < 0:
                break
            yield line


def _available(dataset: Dataset, files: list[SourceFile]) -> int:
    """Bytes of a dataset's text: told from its files, and counted where not all rows of them are its own."""
    if dataset.where is None and dataset.limit is None:
        return sum(_text_bytes(file) for file in files)
    parts = (part for block in read_blocks(dataset, files) for part in parse(block))
    return sum(len(text.encode()) for part in parts for texts in part.texts for text in texts)


def _text_bytes(file: SourceFile) -> int:
    """A guess at a file's size when it is open: compressed text is about a quarter."""
    return file.bytes * (4 if file.compression or file.kind == "parquet" else 1)


def _lines(dataset: Dataset, files: list[SourceFile], chance: float, key: int) -> Iterator[str]:
    for block in read_blocks(dataset, files):
        for part in parse(block):
            chosen = uniforms(key, np.asarray(part.rows, np.uint64), 0, 1)[:, 0] < chance
            for texts in (texts for texts, take in zip(part.texts, chosen, strict=True) if take):
                for line in (line for text in texts for line in text.split("\n") if line.strip()):
                    for start in range(0, len(line), _SENTENCE_CHARACTERS):
                        yield line[start : start + _SENTENCE_CHARACTERS]


@dataclass(frozen=True, kw_only=True)
class _DatasetJob:
    """One dataset on its way from files to shards, in a folder of its own until it is whole."""

    name: str
    called: str
    dataset: Dataset
    files: list[SourceFile]
    contents: list[Content]
    path: Path
    model: StudyTokenizer
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def request(self) -> str:
        """What the blocks of an earlier attempt have to be made from, to be of use."""
        digests = [content["digest"] for content in self.contents]
        return digest_json([_SCHEMA, digests, reading(self.dataset), self.model.digest])

    @property
    def partial(self) -> Path:
        return self.path.with_name(f".{self.path.name}.partial")

    def run(self, pool: Tokenisers, progress: Progress) -> dict[str, Any]:
        self._claim()
        total = float(sum(_text_bytes(file) for file in self.files))
        summaries: list[BlockSummary] = []
        done = sampled = 0
        for summary in self._summaries(pool):
            summaries.append(summary)
            sampled += len(summary.samples)
            if sampled > _QUARANTINED + len(summary.samples):
                summary.samples.clear()
            done += summary.bytes
            progress(f"{self.called}: {sum(s.documents for s in summaries):,} documents", min(done, total), total)
        for file, content in zip(self.files, self.contents, strict=True):
            check_unchanged(file, content)
        manifest = self._finish(self._manifest(summaries), summaries)
        progress(f"{self.called}: {manifest['documents']:,} documents", total, total)
        return manifest

    def _claim(self) -> None:
        """Goes on with blocks of the same request; those of another one are of no use."""
        mark = self.partial / "request.json"
        if mark.is_file() and read_json(mark) == self.request:
            for left in self.partial.glob(".*.tmp"):
                left.unlink()
            return
        shutil.rmtree(self.partial, ignore_errors=True)
        write_json(mark, self.request)

    def _summaries(self, pool: Tokenisers) -> Iterator[BlockSummary]:
        waiting: deque[Promised | BlockSummary] = deque()
        for number, block in enumerate(read_blocks(self.dataset, self.files)):
            self.skipped.update(block.skipped)
            waiting.append(self._done(number) or pool.tokenise(block, directory=self.partial, number=number))
            # Summaries only, in order: the blocks themselves are bounded by the pool.
            while waiting and (isinstance(waiting[0], BlockSummary) or waiting[0].done()):
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())

    def _done(self, number: int) -> BlockSummary | None:
        mark = self.partial / f"block-{number:06d}.json"
        return BlockSummary(**read_json(mark)) if mark.is_file() else None

    def _manifest(self, summaries: list[BlockSummary]) -> dict[str, Any]:
        reasons: dict[str, int] = {}
        for summary in summaries:
            for reason, count in summary.bad_reasons.items():
                reasons[reason] = reasons.get(reason, 0) + count
        documents = sum(summary.documents for summary in summaries)
        filtered = sum(summary.filtered for summary in summaries)
        return {
            "schema": _SCHEMA,
            "name": self.name,
            "request": self.request,
            "source": list(self.dataset.sources),
            "text": list(self.dataset.fields),
            "reading": reading(self.dataset),
            "files": self.contents,
            "pair": self.dataset.is_pair,
            "rows": documents,
            "bad_rows": sum(reasons.values()),
            "bad_reasons": reasons,
            **({"filtered_rows": filtered} if self.dataset.where is not None else {}),
            "documents": documents,
            "tokens": sum(summary.tokens for summary in summaries),
            "unknown_tokens": sum(summary.unknown_tokens for summary in summaries),
            "sentences": sum(summary.sentences for summary in summaries),
            "bytes": sum(summary.bytes for summary in summaries),
            "identical_pairs": sum(summary.identical_pairs for summary in summaries),
            "tokenizer_digest": self.model.digest,
            "digest": digest_json([summary.digest for summary in summaries if summary.shards]),
            "notes": self._notes(summaries),
        }

    def _notes(self, summaries: list[BlockSummary]) -> list[str]:
        documents = sum(summary.documents for summary in summaries)
        bad = sum(sum(summary.bad_reasons.values()) for summary in summaries)
        filtered = sum(summary.filtered for summary in summaries)
        notes = []
        if self.dataset.where is not None:
            notes.append(f"`where` kept {documents:,} of {documents + bad + filtered:,} rows")
        limit = self.dataset.limit
        if limit is not None and documents < limit:
            notes.append(f"limit is {limit:,}, and there are {documents:,} documents")
        if self.skipped:
            counted = ", ".join(f"{count:,} {what}" for what, count in self.skipped.most_common())
            notes.append(f"members of archives that are no text were passed over: {counted}")
        rows = sum(summary.num_rows for summary in summaries)
        blank = rows - documents - bad - filtered
        plain = any(file.kind == "text" for file in self.files)
        if plain and limit is None and self.dataset.documents == "lines" and blank > 0.02 * rows > 1:
            notes.append(
                f"{blank:,} of {rows:,} lines are blank: if blank lines separate documents, "
                f'set documents = "blank_lines" for {self.name}'
            )
        return notes

    def _finish(self, manifest: dict[str, Any], summaries: list[BlockSummary]) -> dict[str, Any]:
        samples = [sample for summary in summaries for sample in summary.samples][:_QUARANTINED]
        if samples:
            with write_atomic(self.partial / "quarantine.jsonl") as temporary:
                lines = (json.dumps(sample, ensure_ascii=False, sort_keys=True) + "\n" for sample in samples)
                temporary.write_text("".join(lines), encoding="utf-8")
        manifest["shards"] = self._merge(summaries)
        write_manifest(self.partial, manifest)
        # Without its mark, what is left of blocks counts for nothing.
        (self.partial / "request.json").unlink()
        for left in self.partial.glob("block-*"):
            left.unlink()
        shutil.rmtree(self.path, ignore_errors=True)
        self.partial.replace(self.path)
        return manifest

    def _merge(self, summaries: list[BlockSummary]) -> list[dict[str, Any]]:
        """Puts the shards of all blocks into few files, in order."""
        files: list[dict[str, Any]] = []
        numbers = iter([number for number, summary in enumerate(summaries) if summary.shards])
        number = next(numbers, None)
        while number is not None:
            name, blocks = f"documents-{len(files):05d}.arrow", []
            with write_atomic(self.partial / name) as temporary, temporary.open("wb") as file:
                while number is not None and file.tell() < _FILE_BYTES:
                    with (self.partial / f"block-{number:06d}.arrow").open("rb") as block:
                        shutil.copyfileobj(block, file, 1 << 20)
                    blocks += summaries[number].shards
                    number = next(numbers, None)
            files.append({"name": name, "blocks": blocks})
        return files


def _result(item: Promised | BlockSummary) -> BlockSummary:
    try:
        return item if isinstance(item, BlockSummary) else item.result()
    except BrokenProcessPool:
        raise WorkerError(
            "a process that tokenises died; finished blocks are kept",
            hint="Was it out of memory? Run the command again.",
        ) from None

"""Views of the frozen validation set: its own examples, or its text in another vocabulary, made once and kept.

    view = open_view(folder, open_vocabulary(path), "mlm", max_length=512)
    for window in view.windows(): ...
    view.left_out                       # {"wiki": {"hidden words without a piece": 3}}

A view is made when it is first asked for, and kept below `views/`; in a folder that cannot be written to, for as long
as this process needs it. One is kept for all lengths: examples that are longer than a model takes are passed over when
it is read.
"""

import errno
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.blocks import Blocks, BlockWriter, Place
from lossary.data.examples import Examples, unpacked_examples
from lossary.data.frozen_texts import FrozenTexts, known_texts, read_texts
from lossary.data.manifests import MANIFEST, read_manifest, write_manifest
from lossary.data.parts import EXAMPLES, known_part, part_blocks
from lossary.data.tokenizer import open_tokenizer
from lossary.data.validation import ValidationSet, load_validation
from lossary.errors import ShardError, UsageError
from lossary.files import digest_json, write_directory_atomic
from lossary.folder import StudyFolder
from lossary.scoring.api import View, Window
from lossary.scoring.view_making import LEFT_OUT, Made, causal_block, masked_block
from lossary.vocabulary.api import Vocabulary, folds_case
from lossary.vocabulary.open import open_vocabulary, require_mask

__all__ = ["TOO_LONG", "WITHOUT_TEXT", "open_view"]

# Of how views are made: what another one made has another digest, and is another file.
_FORM = 1
TOO_LONG, WITHOUT_TEXT = "examples longer than the model takes", "examples without text"
_HINT = "Delete its folder: it is made again when it is asked for."
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_STALE_S = 24 * 3600
# Tokens of a window at most, when it is padded.
_PADDED = 8 << 20

TokenObjective = Literal["mlm", "clm"]
Progress = Callable[[str, float, float | None], None]


def open_view(
    folder: StudyFolder,
    vocabulary: Vocabulary | None,
    objective: TokenObjective,
    *,
    max_length: int | None = None,
    progress: Progress = lambda *_: None,
) -> View:
    """The validation set in a vocabulary, or in the study's own (None), for one objective.

    The study's own vocabulary gets the frozen examples as they are, whatever `max_length` is. Datasets without text are
    left out of other views, and counted. Raises ShardError if there is no text at all, VocabularyError if nothing can
    be hidden in the vocabulary, UsageError if no example is as short as `max_length`.
    """
    # What is drawn and digested of a view, and the scores on it, go by what datasets are drawn as.
    validation = load_validation(folder.as_drawn)
    own = open_vocabulary(folder.tokenizer)
    if objective == "mlm" and (vocabulary is None or vocabulary.digest == own.digest):
        return _OwnView(validation, own)
    chosen = own if vocabulary is None else vocabulary
    if objective == "mlm":
        require_mask(chosen, str(folder.root) if vocabulary is None else None)
    stored = _stored(validation, chosen, objective, progress)
    view = _StoredView(
        validation=validation, stored=stored, vocabulary=chosen, objective=objective, max_length=max_length
    )
    if stored.is_temporary:
        weakref.finalize(view, shutil.rmtree, stored.path, ignore_errors=True)
    if not len(view):
        raise UsageError(
            f"no example is as short as {max_length} tokens in this vocabulary ({chosen.title})",
            hint="Score a model that takes longer texts, or freeze shorter examples: [recipe] sequence_length.",
        )
    return view


class _OwnView:
    """The frozen examples."""

    def __init__(self, validation: ValidationSet, own: Vocabulary) -> None:
        self._validation = validation
        self.objective: TokenObjective = "mlm"
        self.vocabulary_digest = open_tokenizer(validation.folder).digest
        self.vocabulary_title = own.title
        self.folds_case = folds_case(own)
        self.datasets = validation.datasets
        self.parts = validation.parts
        self.longest = validation.longest
        self.left_out: Mapping[str, Mapping[str, int]] = {}
        self.digest = digest_json(["own", self.parts, self.vocabulary_digest])

    def __len__(self) -> int:
        return len(self._validation)

    def windows(self) -> Iterator[Window]:
        """The frozen examples, with the bytes of their hidden words where there is text."""
        texts = {name: read_texts(self._validation.folder, name) for name in self.datasets}
        for examples in self._validation.windows():
            name = self.datasets[int(examples.dataset[0])]
            blocks = texts[name]
            sizes = None if blocks is None else next(blocks).target_bytes
            yield Window(dataset=name, examples=examples, target_bytes=sizes)


class _Stored(NamedTuple):
    """A view on disk; in a temporary folder where the study's cannot be written to."""

    path: Path
    manifest: dict[str, Any]
    is_temporary: bool = False


@dataclass(frozen=True, kw_only=True)
class _StoredView:
    """A view as it is kept, less what is too long."""

    validation: ValidationSet
    stored: _Stored
    vocabulary: Vocabulary
    max_length: int | None
    objective: TokenObjective

    @property
    def datasets(self) -> list[str]:
        return list(self.stored.manifest["datasets"])

    @property
    def parts(self) -> dict[str, str]:
        return dict(self.stored.manifest["parts"])

    @property
    def vocabulary_digest(self) -> str:
        return self.vocabulary.digest

    @property
    def vocabulary_title(self) -> str:
        return self.vocabulary.title

    @cached_property
    def folds_case(self) -> bool:
        return folds_case(self.vocabulary)

    @cached_property
    def digest(self) -> str:
        """Models that take all examples have one view, however long they may be."""
        limit = self.max_length if self._count(lambda length: not self._fits(length)) else None
        return digest_json([self.stored.manifest["digest"], limit])

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max((length for _, length, _ in self._lengths() if self._fits(length)), default=0)

    @cached_property
    def left_out(self) -> Mapping[str, Mapping[str, int]]:
        found: dict[str, dict[str, int]] = {
            name: {WITHOUT_TEXT: count} for name, count in self.stored.manifest["without_text"].items()
        }
        for name, length, counts in self._lengths():
            more = dict(zip(LEFT_OUT, counts[1:], strict=True)) if self._fits(length) else {TOO_LONG: counts[0]}
            of_dataset = found.setdefault(name, {})
            for what, count in more.items():
                if count:
                    of_dataset[what] = of_dataset.get(what, 0) + count
        return {name: counts for name, counts in found.items() if counts}

    def __len__(self) -> int:
        return self._count(lambda length: length > 0 and self._fits(length))

    def windows(self) -> Iterator[Window]:
        """Examples block by block. ShardError if they are not what was made."""
        for number, name in enumerate(self.datasets):
            # Parts are compared again: a view is of what is frozen now.
            if known_part(self.validation.folder, name)["digest"] != self.parts[name]:
                raise ShardError("the validation set was frozen anew meanwhile", where=str(self.stored.path))
            places = [Place(*block[:2]) for block in self.stored.manifest["files"][_file(name)]]
            blocks = Blocks([(self.stored.path / _file(name), places)], hint=_HINT)
            for block in range(len(blocks)):
                arrays = blocks.read(block)
                examples = unpacked_examples(arrays, dataset=number)
                target_bytes = arrays["target_bytes"].astype(np.int32)
                if self.max_length is not None and len(examples) and examples.lengths.max() > self.max_length:
                    short = np.flatnonzero(examples.lengths <= self.max_length)
                    examples, target_bytes = _narrowed(examples.take(short)), target_bytes[short]
                blocks.forget()
                if len(examples):
                    yield Window(dataset=name, examples=examples, target_bytes=target_bytes)

    def _fits(self, length: int) -> bool:
        return self.max_length is None or length <= self.max_length

    def _lengths(self) -> Iterator[tuple[str, int, list[int]]]:
        """By dataset and tokens: how many examples are so long, and what is left out of them."""
        for name, lengths in self.stored.manifest["lengths"].items():
            for length, counts in lengths.items():
                yield name, int(length), counts

    def _count(self, asked: Callable[[int], bool]) -> int:
        return sum(counts[0] for _, length, counts in self._lengths() if asked(length))


def _narrowed(examples: Examples) -> Examples:
    """Without columns that no example needs."""
    if not len(examples):
        return examples
    return examples.padded(
        length=int(examples.lengths.max()), predictions=max(1, int(examples.masked.max())), rows=len(examples)
    )


def _file(dataset: str) -> str:
    return f"{dataset}.arrow"


def _stored(
    validation: ValidationSet, vocabulary: Vocabulary, objective: TokenObjective, progress: Progress
) -> _Stored:
    """The view as it is kept; made if it is not there, or not whole."""
    maker = _Maker(validation, vocabulary, objective, progress)
    path = maker.path
    with suppress(ShardError, KeyError):
        if (path / MANIFEST).is_file() and (manifest := read_manifest(path))["request"] == maker.request:
            return _Stored(path, manifest)
    try:
        with write_directory_atomic(path) as temporary:
            maker.write(temporary)
        maker.clear()
        return _Stored(path, read_manifest(path))
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            # Another process made it meanwhile.
            return _Stored(path, read_manifest(path))
        if error.errno not in _READ_ONLY:
            raise
    kept = Path(tempfile.mkdtemp(prefix="lossary-view-"))
    try:
        maker.write(kept)
    except BaseException:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    return _Stored(kept, read_manifest(kept), is_temporary=True)


class _Maker:
    """Makes a view, a block at a time."""

    def __init__(
        self, validation: ValidationSet, vocabulary: Vocabulary, objective: TokenObjective, progress: Progress
    ) -> None:
        self._validation, self._folder = validation, validation.folder
        self._vocabulary, self._objective, self._progress = vocabulary, objective, progress
        parts = {name: known_part(self._folder, name) for name in validation.datasets}
        texts = {name: known_texts(self._folder, part) for name, part in parts.items()}
        self._counts = {name: int(part["examples"]) for name, part in parts.items()}
        self._texts = {name: str(found["digest"]) for name, found in texts.items() if found is not None}
        if not self._texts:
            raise ShardError(
                "no text is kept of the validation examples, and only models of the study's own vocabulary can be "
                "scored on their pieces",
                where=str(self._folder.validation),
                hint="Put the sources back as they were and run `lossary prepare`: it adds the text.",
            )
        self.request = digest_json([_FORM, objective, vocabulary.digest, self._parts, self._texts])
        self.path = self._folder.views / self.request.rpartition(":")[2][:16]

    @property
    def _parts(self) -> dict[str, str]:
        return {name: self._validation.parts[name] for name in self._texts}

    def write(self, folder: Path) -> None:
        """Writes the files of the view."""
        files, lengths, digests = {}, {}, {}
        for name in self._texts:
            tally = _Tally()
            with BlockWriter(folder / _file(name), compressed=True) as writer:
                counts = []
                for made in tally.each(self._blocks(name)):
                    writer.append(made.arrays)
                    counts.append(len(made.arrays["example"]))
            files[_file(name)] = [[*place, count] for place, count in zip(writer.places, counts, strict=True)]
            lengths[name], digests[_file(name)] = tally.counts, writer.digest
        content = {
            "request": self.request,
            "digest": digest_json([self.request, digests]),
            "objective": self._objective,
            "vocabulary_digest": self._vocabulary.digest,
            "vocabulary": self._vocabulary.title,
            "datasets": list(self._texts),
            "parts": self._parts,
            "without_text": {name: count for name, count in self._counts.items() if name not in self._texts},
            "files": files,
            "lengths": lengths,
        }
        write_manifest(folder, content)

    def _blocks(self, name: str) -> Iterator[Made]:
        done, total = 0, self._counts[name]
        blocks = part_blocks(self._folder, known_part(self._folder, name), EXAMPLES)
        for number, texts in enumerate(read_texts(self._folder, name) or []):
            frozen = unpacked_examples(blocks.read(number), dataset=0)
            for rows in _parts_of(texts):
                self._progress(f"{name}: {self._objective} view for {self._vocabulary.title}", done, total)
                yield self._made(name, texts.part(rows), frozen.take(np.arange(rows.start, rows.stop)))
                done += rows.stop - rows.start
            blocks.forget()

    def _made(self, name: str, texts: FrozenTexts, examples: Examples) -> Made:
        if self._objective == "clm":
            return causal_block(texts, examples, self._vocabulary)
        seed = int(self._validation.manifest["seed"])
        return masked_block(texts, examples, self._vocabulary, seed=seed, dataset=name)

    def clear(self) -> None:
        """Takes away views of the same kind of what is no longer frozen, and what killed processes left."""
        for path in self._folder.views.iterdir():
            with suppress(ShardError, KeyError, OSError):
                if path.name.startswith("."):
                    old = time.time() - path.stat().st_mtime > _STALE_S
                else:
                    found = read_manifest(path)
                    kind = found["objective"], found["vocabulary_digest"]
                    old = path != self.path and kind == (self._objective, self._vocabulary.digest)
                if old:
                    shutil.rmtree(path)


class _Tally:
    """By tokens of an example: how many there are, and what is left out of them."""

    def __init__(self) -> None:
        self._found: dict[int, NDArray[np.int64]] = {}

    def each(self, blocks: Iterator[Made]) -> Iterator[Made]:
        """The same blocks, counted."""
        for made in blocks:
            nothing = np.zeros(len(made.lengths), np.int64)
            rows = np.stack([nothing + 1, *(made.left_out.get(what, nothing) for what in LEFT_OUT)], axis=1)
            for length in np.unique(made.lengths).tolist():
                before = self._found.get(length, 0)
                self._found[length] = before + rows[made.lengths == length].sum(axis=0)
            yield made

    @property
    def counts(self) -> dict[str, list[int]]:
        return {str(length): self._found[length].tolist() for length in sorted(self._found)}


def _parts_of(texts: FrozenTexts) -> Iterator[slice]:
    """Rows of a block, so few at a time that they are small when they are padded: a piece has a byte at least."""
    longest = int(np.diff(texts.offsets).max(initial=1))
    rows = max(1, _PADDED // max(1, longest))
    for start in range(0, len(texts), rows):
        yield slice(start, min(len(texts), start + rows))

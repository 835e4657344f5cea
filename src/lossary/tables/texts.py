"""Texts of validation examples: what stood at the masked positions, what a model saw there, what each run predicted.

    texts = open_texts(folder)
    texts.of("old_reform", gap.page())      # one ExampleText an example

The frozen validation set is memory-mapped; only the examples asked for are read. The digest of the whole is not
computed here: that an example is the one that was scored is told by its tokens and its masked positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.data.arrow import read_batch
from lossary.data.shards import MANIFEST
from lossary.data.tokenizer import CLS, MASK, SEP, TokenizerModel, open_tokenizer
from lossary.errors import LossaryError, ShardError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.tables.examples import GapRow

__all__ = ["ExampleText", "MaskedPiece", "Texts", "TextPart", "open_texts", "texts_of"]

_WORD_START = "▁"


class MaskedPiece(NamedTuple):
    """A masked position: the target, what the model saw instead, and what two runs made of it."""

    target: str
    seen: str  # "[MASK]", the target itself, or a random piece
    predicted: tuple[str, str]
    nats: tuple[float, float]

    @property
    def correct(self) -> tuple[bool, bool]:
        return self.predicted[0] == self.target, self.predicted[1] == self.target


class TextPart(NamedTuple):
    """Text as it stood in the document, or one masked piece of it; `text` begins with a space where a word does."""

    text: str
    masked: MaskedPiece | None


@dataclass(frozen=True, kw_only=True)
class ExampleText:
    """The segments of an example, in the order in which the model saw them."""

    segments: list[list[TextPart]]
    reason: str | None = None  # why there is no text

    @property
    def plain(self) -> str:
        """The text without its marks."""
        return "\n".join("".join(part.text for part in segment).strip() for segment in self.segments)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The frozen examples of a study and the pieces that they are made of."""

    batch: pa.RecordBatch
    datasets: list[str]
    tokenizer: TokenizerModel

    @cached_property
    def _pieces(self) -> list[str]:
        return [piece.replace(_WORD_START, " ") for piece in self.tokenizer.pieces]

    @cached_property
    def _order(self) -> dict[str, NDArray[np.int64]]:
        """Rows of each dataset, by example."""
        dataset, example = self._numbers("dataset"), self._numbers("example")
        rows = np.lexsort((example, dataset))
        ends = np.searchsorted(dataset[rows], np.arange(len(self.datasets)), side="right")
        return dict(zip(self.datasets, np.split(rows, ends)[:-1], strict=True))

    def _numbers(self, name: str) -> NDArray[Any]:
        return np.asarray(self.batch.column(name).to_numpy())

    def of(self, dataset: str, rows: Sequence[GapRow]) -> list[ExampleText]:
        """The texts of some examples; one that is not what was scored has a reason instead."""
        order = self._order.get(dataset, np.zeros(0, np.int64))
        known = self._numbers("example")[order]
        wanted = np.array([row.example for row in rows], np.uint64)
        at = np.searchsorted(known, wanted)
        return [
            self._text(int(order[i]), row)
            if i < len(known) and known[i] == row.example
            else ExampleText(segments=[], reason="the frozen validation set has no such example")
            for i, row in zip(at.tolist(), rows, strict=True)
        ]

    def _text(self, index: int, row: GapRow) -> ExampleText:
        ids = self._list("token_ids", index)
        positions, labels = self._list("positions", index), self._list("labels", index)
        if len(ids) != row.tokens or len(positions) != row.masked:
            return ExampleText(segments=[], reason="the frozen validation set has another example of this number")
        second = self._list("segment_ids", index)
        masked = {position: number for number, position in enumerate(positions)}
        segments: list[list[TextPart]] = [[], []]
        for position, piece in enumerate(ids):
            if position in masked:
                part = self._masked(row, masked[position], labels[masked[position]], piece)
            elif piece in (CLS, SEP):
                # [CLS] and [SEP] stand around segments; what they say the segments say.
                continue
            else:
                part = TextPart(self._pieces[piece], None)
            _append(segments[second[position]], part)
        return ExampleText(segments=[segment for segment in segments if segment])

    def _masked(self, row: GapRow, number: int, label: int, piece: int) -> TextPart:
        text = self._pieces[label]
        scores = (row.first, row.second)
        first, second = (self._pieces[score.predicted[number]].strip() for score in scores)
        found = MaskedPiece(
            target=text.strip(),
            seen="[MASK]" if piece == MASK else self._pieces[piece].strip(),
            predicted=(first, second),
            nats=(row.first.position_nats[number], row.second.position_nats[number]),
        )
        return TextPart(text, found)

    def _list(self, name: str, index: int) -> list[int]:
        return list(self.batch.column(name)[index].as_py())


def _append(segment: list[TextPart], part: TextPart) -> None:
    """Adds a part; text that nothing is masked in grows into one part."""
    if part.masked is None and segment and segment[-1].masked is None:
        segment[-1] = TextPart(segment[-1].text + part.text, None)
    else:
        segment.append(part)


def open_texts(folder: StudyFolder) -> Texts:
    """The frozen validation set and its tokenizer. Raises ShardError if either is missing or does not fit."""
    path = folder.validation / "examples.arrow"
    manifest = read_json(folder.validation / MANIFEST)
    if not path.is_file():
        raise ShardError("the frozen validation set is not in this folder", where=str(path))
    tokenizer = open_tokenizer(folder)
    if tokenizer.digest != manifest["tokenizer_digest"]:
        raise ShardError("the tokenizer is not the one that the validation set was frozen with", where=str(path))
    return Texts(batch=read_batch(path), datasets=list(manifest["datasets"]), tokenizer=tokenizer)


def texts_of(folder: StudyFolder, dataset: str, rows: Sequence[GapRow]) -> list[ExampleText]:
    """The texts of some examples, each with the reason where there is none: scores outlive what they were made on."""
    try:
        return open_texts(folder).of(dataset, rows)
    except LossaryError as error:
        return [ExampleText(segments=[], reason=error.message) for _ in rows]

"""Texts of validation examples: what stood at the masked positions, what a model saw there, what each run predicted.

    texts = open_texts(folder)
    texts.of("old_reform", gap.page())      # one ExampleText an example

The frozen examples are memory-mapped; only those asked for are read. The digest of a part is not computed here: that an
example is the one that was scored is told by its tokens and its masked positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lossary.data.examples import Examples
from lossary.data.parts import find_examples, read_validation_manifest, refuse_earlier_layout
from lossary.data.tokenizer import StudyTokenizer, open_tokenizer
from lossary.errors import LossaryError, ShardError
from lossary.folder import StudyFolder
from lossary.results.scorefile import ScoreRow
from lossary.tables.examples import GapRow

__all__ = [
    "ExampleText",
    "MaskedPiece",
    "Stretch",
    "TextPart",
    "Texts",
    "open_texts",
    "stretches",
    "texts_of",
]


class Stretch(NamedTuple):
    """Text of an example that nothing is masked in, or one masked piece of it."""

    segment: int
    text: str  # as it stood in the document
    slot: int | None  # which of the masked positions it is


def stretches(
    ids: Sequence[int], positions: Sequence[int], labels: Sequence[int], tokenizer: StudyTokenizer
) -> list[Stretch]:
    """The original text of an example of T ids, of which M `positions` were masked and had the `labels`."""
    slots = {position: slot for slot, position in enumerate(positions)}
    pieces, around = tokenizer.texts, tokenizer.template.ids
    found: list[Stretch] = []
    segment = 0
    for position, piece in enumerate(ids):
        slot = slots.get(position)
        if slot is not None:
            found.append(Stretch(segment, pieces[labels[slot]], slot))
        elif piece in around:
            # [CLS] and [SEP] stand around segments; not every template has token types that tell these apart.
            segment = int(bool(found))
        elif found and found[-1].slot is None and found[-1].segment == segment:
            found[-1] = found[-1]._replace(text=found[-1].text + pieces[piece])
        else:
            found.append(Stretch(segment, pieces[piece], None))
    return found


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

    folder: StudyFolder
    tokenizer: StudyTokenizer

    def of(self, dataset: str, rows: Sequence[GapRow]) -> list[ExampleText]:
        """The texts of some examples; one that is not what was scored has a reason instead."""
        found = find_examples(self.folder, dataset, {row.example for row in rows})
        at = {example: index for index, example in enumerate(found.example.tolist())}
        return [
            self._text(found, at[row.example], row)
            if row.example in at
            else _without("the frozen validation set has no such example")
            for row in rows
        ]

    def _text(self, examples: Examples, index: int, row: GapRow) -> ExampleText:
        size, count = int(examples.lengths[index]), int(examples.masked[index])
        pair = row.by_token
        if not row.is_own or pair is None:
            return _without("the runs were scored on other pieces than the study's own")
        if any(score.predicted is None or score.target_nats is None for score in pair):
            return _without("the scores do not say what was predicted of each target")
        if size != pair[0].tokens or count != pair[0].targets:
            return _without("the frozen validation set has another example of this number")
        ids = examples.token_ids[index, :size].tolist()
        positions, labels = examples.positions[index, :count].tolist(), examples.labels[index, :count].tolist()
        segments: list[list[TextPart]] = [[], []]
        for stretch in stretches(ids, positions, labels, self.tokenizer):
            slot = stretch.slot
            masked = None if slot is None else self._masked(pair, slot, labels[slot], ids[positions[slot]])
            segments[stretch.segment].append(TextPart(stretch.text, masked))
        return ExampleText(segments=[segment for segment in segments if segment])

    def _masked(self, scores: tuple[ScoreRow, ScoreRow], number: int, label: int, piece: int) -> MaskedPiece:
        pieces = self.tokenizer.texts
        predicted, nats = ([each[number] for each in column] for column in zip(*map(_lists, scores), strict=True))
        return MaskedPiece(
            target=pieces[label].strip(),
            seen="[MASK]" if piece == self.tokenizer.specials.mask else pieces[piece].strip(),
            predicted=(pieces[predicted[0]].strip(), pieces[predicted[1]].strip()),
            nats=(nats[0], nats[1]),
        )


def _lists(score: ScoreRow) -> tuple[list[int], list[float]]:
    return score.predicted or [], score.target_nats or []


def _without(reason: str) -> ExampleText:
    return ExampleText(segments=[], reason=reason)


def open_texts(folder: StudyFolder) -> Texts:
    """The frozen validation set and its tokenizer. Raises ShardError if either is missing or does not fit."""
    manifest = read_validation_manifest(folder)
    refuse_earlier_layout(folder, manifest)
    tokenizer = open_tokenizer(folder)
    if tokenizer.digest != manifest["tokenizer_digest"]:
        where = str(folder.validation)
        raise ShardError("the tokenizer is not the one that the validation set was frozen with", where=where)
    return Texts(folder=folder, tokenizer=tokenizer)


def texts_of(texts: Callable[[], Texts], dataset: str, rows: Sequence[GapRow]) -> list[ExampleText]:
    """The texts of some examples, each with the reason where there is none: scores outlive what they were made on.

    `texts` opens the validation set, or gives the one that is open.
    """
    try:
        return texts().of(dataset, rows)
    except LossaryError as error:
        return [ExampleText(segments=[], reason=error.message) for _ in rows]

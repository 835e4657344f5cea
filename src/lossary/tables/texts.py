"""Texts of validation examples: what stood at the masked positions, what a model saw there, what each run predicted.

    texts = open_texts(folder)
    texts.of("old_reform", gap.page())      # one ExampleText an example

Runs in other pieces than the study's own get the hidden words as they were written: nothing says which of their pieces
are of which word. The frozen examples are memory-mapped; only those asked for are read. The digest of a part is not
computed here: that an example is the one that was scored is told by its tokens and its masked positions.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lossary.data.examples import Examples
from lossary.data.frozen_texts import HIDDEN, RANDOM, FrozenTexts, find_texts
from lossary.data.parts import find_examples, read_validation_manifest, refuse_earlier_layout
from lossary.data.tokenizer import StudyTokenizer, open_tokenizer
from lossary.errors import LossaryError, ShardError
from lossary.folder import StudyFolder
from lossary.objectives import OBJECTIVES
from lossary.results.scorefile import ScoreRow
from lossary.tables.examples import GapRow

__all__ = [
    "ExampleText",
    "MaskedPiece",
    "Written",
    "Stretch",
    "TextPart",
    "Texts",
    "open_texts",
    "stretches",
    "texts_of",
    "written",
]


_BLANK = re.compile(r"\s+")


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


class Written(NamedTuple):
    """Text of an example as it stands in its document: what lies between hidden words, or one of them."""

    segment: int  # in the order in which a model is given them
    text: str
    seen: str | None  # of a hidden word: what a model is given in its place


def written(text: FrozenTexts) -> Iterator[Written]:
    """One frozen text with its hidden words, whatever the vocabulary."""
    data = text.bytes_of(0)
    spans = [(0, int(text.first_end[0])), (int(text.second_begin[0]), len(data))]
    hidden = list(zip(text.begin.tolist(), text.end.tolist(), text.treatment.tolist(), strict=True))
    filled = [span for span in (spans[::-1] if text.swapped[0] else spans) if span[1] > span[0]]
    for segment, (at, stop) in enumerate(filled):
        for begin, end, treatment in hidden:
            if at <= begin < end <= stop:
                yield Written(segment, _shown(data[at:begin]), None)
                seen = {HIDDEN: "[MASK]", RANDOM: "a random piece"}.get(treatment, "the word itself")
                yield Written(segment, _shown(data[begin:end]), seen)
                at = end
        yield Written(segment, _shown(data[at:stop]), None)


def _shown(text: bytes) -> str:
    """Line breaks are spaces here."""
    return _BLANK.sub(" ", text.decode(errors="replace"))


class MaskedPiece(NamedTuple):
    """A masked piece or hidden word: the target, what the model saw instead, and what two runs made of it."""

    target: str
    seen: str  # "[MASK]", the target itself, or a random piece
    predicted: tuple[str, ...] = ()  # by both runs; empty where nobody knows
    nats: tuple[float, ...] = ()

    @property
    def correct(self) -> tuple[bool, ...]:
        return tuple(piece == self.target for piece in self.predicted)


class TextPart(NamedTuple):
    """Text as it stood in the document, or one masked piece of it; `text` begins with a space where a word does."""

    text: str
    masked: MaskedPiece | None


@dataclass(frozen=True, kw_only=True)
class ExampleText:
    """The segments of an example, in the order in which the model saw them."""

    segments: list[list[TextPart]]
    reason: str | None = None  # why there is no text, or no prediction in it

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
        reasons = {row.example: _unpredicted(row) for row in rows}
        kept = find_texts(self.folder, dataset, {example for example, reason in reasons.items() if reason})
        found = find_examples(self.folder, dataset, {row.example for row in rows})
        at = {example: index for index, example in enumerate(found.example.tolist())}
        return [
            _words(row, reasons[row.example], kept.get(row.example))
            if row.example in at and reasons[row.example]
            else self._text(found, at[row.example], row)
            if row.example in at
            else _without("the frozen validation set has no such example")
            for row in rows
        ]

    def _text(self, examples: Examples, index: int, row: GapRow) -> ExampleText:
        size, count = int(examples.lengths[index]), int(examples.masked[index])
        pair = row.by_token
        assert pair is not None
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


def _unpredicted(row: GapRow) -> str:
    """Why nothing is told of each target; empty where something is."""
    pair = row.by_token
    if pair is None:
        return "the runs have no targets of the text in common"
    if not OBJECTIVES[pair[0].objective].is_masked:
        return "every piece of the text was a target"
    if not row.is_own:
        return "not scored in the study's own pieces: hidden words as they were written, without predictions"
    if any(score.predicted is None or score.target_nats is None for score in pair):
        return "the scores do not say what was predicted of each target"
    return ""


def _words(row: GapRow, reason: str, text: FrozenTexts | None) -> ExampleText:
    """The text without predictions; hidden words are told where a run was scored on them."""
    if text is None:
        return _without(f"{reason}; no text is kept of this dataset")
    is_masked = any(OBJECTIVES[name].is_masked for name in row.objectives)
    segments: list[list[TextPart]] = [[], []]
    for segment, words, seen in written(text):
        hidden = None if seen is None or not is_masked else MaskedPiece(words.strip(), seen)
        segments[segment].append(TextPart(words, hidden))
    return ExampleText(segments=[segment for segment in segments if segment], reason=reason)


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

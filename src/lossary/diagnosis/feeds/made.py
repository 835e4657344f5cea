"""Examples of the reference with all that faults need to change them: pieces before masking, segments, documents.

made = Made.of(examples, document)
made.feed()                                     # as a side would return it
relaid(made, maker, rows, first, second, sop)   # some rows made anew from other segments
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.assemble import Settings
from lossary.data.examples import Examples
from lossary.data.masking import Words, find_words, mask_budget, mask_words, replace_masked
from lossary.data.philox import stream_key
from lossary.data.spans import SPECIAL_TOKENS
from lossary.data.tokenizer import CLS, MASK, SEP, TokenizerModel
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.feeds.layout import FIRST, PADDING, SECOND, SPECIAL

__all__ = ["Made", "Maker", "Parts", "concatenated", "parts_of", "relaid", "remasked", "shaped"]


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What examples are made by."""

    tokenizer: TokenizerModel
    settings: Settings
    seed: int

    def random(self, *words: str | int) -> np.random.Generator:
        """Random numbers for one purpose."""
        return np.random.default_rng(stream_key(self.seed, "faults", *words))


@dataclass(frozen=True, kw_only=True)
class Made:
    """B examples of T places; anything of it may be wrong once a fault was put in."""

    tokens: NDArray[np.int32]  # (B, T) before masking
    part: NDArray[np.int8]  # (B, T) PADDING, SPECIAL, FIRST or SECOND
    scored: NDArray[np.bool_]  # (B, T)
    inputs: NDArray[np.int32]  # (B, T)
    labels: NDArray[np.int32]  # (B, T) 0 where not scored
    attention: NDArray[np.int32]  # (B, T)
    segment_ids: NDArray[np.int32]  # (B, T)
    sop: NDArray[np.int8]  # (B,)
    dataset: NDArray[np.int16]  # (B,)
    document: NDArray[np.int64]  # (B,) that it is made of
    number: NDArray[np.uint64]  # (B,) what its random draws depend on

    def __len__(self) -> int:
        return len(self.sop)

    @classmethod
    def of(cls, examples: Examples, document: NDArray[np.int64]) -> "Made":
        """Examples of the reference; `document` (B,) are those that they are made of."""
        scored = np.zeros(examples.token_ids.shape, bool)
        rows, slots = np.nonzero(examples.weights > 0)
        places = examples.positions[rows, slots]
        scored[rows, places] = True
        labels = np.zeros(scored.shape, np.int32)
        labels[rows, places] = examples.labels[rows, slots]
        tokens = np.where(scored, labels, examples.token_ids)
        attention = examples.attention_mask
        part = np.where(examples.segment_ids == 1, SECOND, FIRST).astype(np.int8)
        part[(tokens == CLS) | (tokens == SEP)] = SPECIAL
        part[attention == 0] = PADDING
        return cls(
            tokens=tokens,
            part=part,
            scored=scored,
            inputs=examples.token_ids,
            labels=labels,
            attention=attention,
            segment_ids=examples.segment_ids,
            sop=examples.sop_labels,
            dataset=examples.dataset,
            document=document,
            number=examples.example,
        )

    def feed(self) -> Feed:
        """As arrays that a side would return."""
        count = self.scored.sum(axis=1)
        slots = np.arange(max(1, int(count.max(initial=0)))) < count[:, None]
        positions, labels = np.zeros(slots.shape, np.int32), np.zeros(slots.shape, np.int32)
        positions[slots] = np.nonzero(self.scored)[1]
        labels[slots] = self.labels[self.scored]
        return Feed(
            token_ids=self.inputs,
            attention_mask=self.attention,
            segment_ids=self.segment_ids,
            positions=positions,
            labels=labels,
            weights=slots.astype(np.float32),
            sop_labels=self.sop,
            dataset=self.dataset,
        )

    def but(self, **changes: Any) -> "Made":
        """With some columns replaced."""
        return replace(self, **changes)

    def take(self, rows: NDArray[Any]) -> "Made":
        """Some of the examples."""
        return Made(**{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The two segments of B examples, each from column 0 on."""

    first: NDArray[np.int32]  # (B, T)
    first_size: NDArray[np.int64]  # (B,)
    second: NDArray[np.int32]
    second_size: NDArray[np.int64]

    def take(self, rows: NDArray[Any]) -> "Parts":
        return Parts(**{name: column[rows] for name, column in vars(self).items()})


def parts_of(made: Made) -> Parts:
    """The segments of examples."""
    columns = []
    for part in (FIRST, SECOND):
        mine = made.part == part
        order = np.argsort(~mine, axis=1, kind="stable")
        columns += [np.take_along_axis(made.tokens, order, axis=1), mine.sum(axis=1)]
    return Parts(first=columns[0], first_size=columns[1], second=columns[2], second_size=columns[3])


def shaped(pieces: list[NDArray[np.int32]], width: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Texts (B, width) from column 0 on, and their sizes; what is longer loses its end."""
    result = np.zeros((len(pieces), width), np.int32)
    size = np.array([min(len(piece), width) for piece in pieces], np.int64)
    for row, piece in enumerate(pieces):
        result[row, : size[row]] = piece[: size[row]]
    return result, size


def relaid(made: Made, maker: Maker, rows: NDArray[np.int64], parts: Parts, sop: NDArray[np.int8]) -> Made:
    """Examples with those of `rows` laid out and masked anew from other segments; `sop` (rows,) are their labels."""
    if not len(rows):
        return made
    length = max(maker.settings.length, made.tokens.shape[1])
    made = _widened(made, length)
    tokens, part = _laid_out(_shortened(parts, maker.settings.length - SPECIAL_TOKENS), length)
    scored, inputs, labels = _masks(tokens, part, made.number[rows], maker)
    second = part == SECOND
    second[:, 1:] |= second[:, :-1] & (part[:, 1:] == SPECIAL)
    changes: dict[str, Any] = {
        "tokens": tokens,
        "part": part,
        "scored": scored,
        "inputs": inputs,
        "labels": labels,
        "attention": (part != PADDING).astype(np.int32),
        "segment_ids": second.astype(np.int32),
        "sop": sop.astype(np.int8),
    }
    return made.but(**{name: _put(getattr(made, name), rows, values) for name, values in changes.items()})


def remasked(made: Made, maker: Maker, *, without: NDArray[np.bool_] | None = None) -> Made:
    """The same text with masks of `maker`'s settings; words with a piece of `without` (B, T) are passed over."""
    scored, inputs, labels = _masks(made.tokens, made.part, made.number, maker, without)
    return made.but(scored=scored, inputs=inputs, labels=labels)


def concatenated(parts: list[Made]) -> Made:
    """Examples one after another, padded to the longest."""
    width = max(part.tokens.shape[1] for part in parts)
    wide = [vars(_widened(part, width)) for part in parts]
    return Made(**{name: np.concatenate([columns[name] for columns in wide]) for name in wide[0]})


def _put(column: NDArray[Any], rows: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
    result = column.copy()
    result[rows] = values
    return result


_FILL: dict[str, int] = {"part": PADDING}


def _widened(made: Made, width: int) -> Made:
    missing = width - made.tokens.shape[1]
    if missing <= 0:
        return made
    pad: Callable[[str, NDArray[Any]], NDArray[Any]] = lambda name, column: (  # noqa: E731
        column if column.ndim == 1 else np.pad(column, ((0, 0), (0, missing)), constant_values=_FILL.get(name, 0))
    )
    return Made(**{name: pad(name, column) for name, column in vars(made).items()})


def _shortened(parts: Parts, room: int) -> Parts:
    """The longer segment loses pieces at its end, as far as both are too long together."""
    first, second = parts.first_size, parts.second_size
    over = np.maximum(first + second - room, 0)
    level = np.minimum(over, np.abs(first - second))
    rest = over - level
    first_lost = np.where(first > second, level, 0) + rest // 2
    return Parts(
        first=parts.first,
        first_size=first - first_lost,
        second=parts.second,
        second_size=second - (over - first_lost),
    )


def _laid_out(parts: Parts, width: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """[CLS] A [SEP] B [SEP], or [CLS] A [SEP]: tokens and parts (B, width)."""
    column = np.arange(width)
    a, b = parts.first_size[:, None], parts.second_size[:, None]
    tokens, part = np.zeros((len(a), width), np.int32), np.full((len(a), width), PADDING, np.int8)
    for number, text, place in ((FIRST, parts.first, column - 1), (SECOND, parts.second, column - a - 2)):
        size = a if number == FIRST else b
        mine = (place >= 0) & (place < size)
        wide = np.take_along_axis(text, np.clip(np.broadcast_to(place, mine.shape), 0, text.shape[1] - 1), axis=1)
        tokens[mine], part[mine] = wide[mine], number
    separator = (column == a + 1) | ((column == a + b + 2) & (b > 0))
    tokens[separator], part[separator] = SEP, SPECIAL
    tokens[:, 0], part[:, 0] = CLS, SPECIAL
    return tokens, part


def _without(words: Words, pieces: NDArray[np.bool_]) -> Words:
    """The words that hold none of some pieces (B, T)."""
    marks = np.concatenate([[0], np.cumsum(pieces.ravel())])
    width = pieces.shape[1]
    kept = marks[words.row * width + words.stop] == marks[words.row * width + words.start]
    row = words.row[kept]
    return Words(
        row=row,
        start=words.start[kept],
        stop=words.stop[kept],
        segment=words.segment[kept],
        offsets=np.searchsorted(row, np.arange(len(pieces) + 1)),
    )


def _masks(
    tokens: NDArray[np.int32],
    part: NDArray[np.int8],
    number: NDArray[np.uint64],
    maker: Maker,
    without: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32]]:
    """Scored places, inputs and labels (B, T), by the reference's law of masks."""
    settings = maker.settings
    words = find_words(maker.tokenizer.is_word_start[tokens], part)
    if without is not None:
        words = _without(words, without)
    lengths = (part != PADDING).sum(axis=1).astype(np.int32)
    budget = mask_budget(lengths, rate=settings.mask_rate, most=settings.max_predictions)
    keys = {draw: stream_key(maker.seed, "faults", draw) for draw in ("mask", "replace")}
    chosen = mask_words(words, budget, max_ngram=settings.max_ngram, example=number, key=keys["mask"], epoch=0)
    marks = np.zeros((tokens.shape[0], tokens.shape[1] + 1), np.int64)
    np.add.at(marks, (words.row[chosen], words.start[chosen]), 1)
    np.add.at(marks, (words.row[chosen], words.stop[chosen]), -1)
    scored = np.cumsum(marks, axis=1)[:, :-1] > 0
    labels = np.where(scored, tokens, 0).astype(np.int32)
    replaced = replace_masked(
        labels,
        mask=MASK,
        ordinary=maker.tokenizer.ordinary,
        example=number,
        key=keys["replace"],
        epoch=0,
    )
    return scored, np.where(scored, replaced, tokens).astype(np.int32), labels

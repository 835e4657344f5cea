"""Faults of targets: which places are scored, with which labels, and what the input shows there.

    faulty = other_rate(made, rows, scene)

Each returns examples in which the rows that are True are changed. What a fault leaves open (how many places of padding
are scored, which id stands in the place of [MASK]) is read from the side's rates.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import CLS, FIRST_PIECE, MASK, PAD, SEP, UNK
from lossary.diagnosis.feeds.facts import LOW, LOWEST
from lossary.diagnosis.feeds.layout import FIRST, PADDING, SPECIAL
from lossary.diagnosis.feeds.made import Made, remasked
from lossary.diagnosis.feeds.scene import Put, Scene

__all__ = [
    "all_labels_out_of_range",
    "fitted_after_masking",
    "fitted_inputs",
    "fitted_rates",
    "labels_after_masking",
    "labels_out_of_range",
    "moved_to_padding",
    "no_targets",
    "other_inputs",
    "other_mask_id",
    "other_rate",
    "pieces_replaced",
    "pieces_shuffled",
    "fitted_range",
    "drawn_from_example",
    "drawn_from_range",
    "drawn_from_text",
    "scored_too",
    "specials_drawn",
    "some_labels_after_masking",
    "unmasked",
]

Rows = NDArray[np.bool_]
# Of scored places: shown as [MASK], and as they stood; the rest shows another piece.
_MASKED, _KEPT = 0.8, 0.1


def _replacements(labels: NDArray[np.int32], scene: Scene, random: np.random.Generator) -> NDArray[np.int32]:
    """What stands in the input in the place of some pieces, 80/10/10."""
    draw = random.random(labels.shape)
    piece = random.integers(FIRST_PIECE, scene.vocabulary_size, labels.shape)
    return np.where(draw < _MASKED, MASK, np.where(draw < 1.0 - _KEPT, piece, labels)).astype(np.int32)


def scored_too(part: int, share: str) -> Put:
    """Also places of one part are scored, as many as the side scores."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        random = scene.maker.random("scored", share)
        rate = scene.read(share, scene.maker.settings.mask_rate)[made.dataset]
        more = rows[:, None] & (made.part == part) & (random.random(made.part.shape) < rate[:, None])
        return _with_targets(made, more, scene, random)

    return apply


def _with_targets(made: Made, more: NDArray[np.bool_], scene: Scene, random: np.random.Generator) -> Made:
    return made.but(
        scored=made.scored | more,
        labels=np.where(more, made.tokens, made.labels),
        inputs=np.where(more, _replacements(made.tokens, scene, random), made.inputs),
    )


def moved_to_padding(made: Made, rows: Rows, scene: Scene) -> Made:
    """Scored places are drawn from all places, so that padding takes some from the text."""
    random = scene.maker.random("moved to padding")
    padding = made.part == PADDING
    share = padding.mean(axis=1, keepdims=True)
    lost = rows[:, None] & made.scored & (random.random(padding.shape) < share)
    kept = made.but(
        scored=made.scored & ~lost,
        labels=np.where(lost, 0, made.labels),
        inputs=np.where(lost, made.tokens, made.inputs),
    )
    rate = made.scored.sum(axis=1, keepdims=True) / padding.shape[1]
    return _with_targets(kept, rows[:, None] & padding & (random.random(padding.shape) < rate), scene, random)


def labels_after_masking(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
    """Labels are what the input shows once it was masked."""
    return made.but(labels=np.where(rows[:, None] & made.scored, made.inputs, made.labels))


def _share_after_masking(scene: Scene) -> NDArray[np.float64]:
    """(G,) of targets: of those that show [MASK], as many have the label [MASK]."""
    return np.minimum(1.0, scene.read("label-is-mask-share", 0.0) / 0.8)


def fitted_after_masking(scene: Scene) -> dict[str, list[float | None]]:
    """The share of labels that are the input's."""
    return {"share": [round(float(value), 4) for value in _share_after_masking(scene)]}


def some_labels_after_masking(made: Made, rows: Rows, scene: Scene) -> Made:
    """Every now and then a label is what the input shows once it was masked, as often as in the side."""
    share = _share_after_masking(scene)[made.dataset][:, None]
    struck = rows[:, None] & made.scored & (scene.maker.random("after masking").random(made.labels.shape) < share)
    return made.but(labels=np.where(struck, made.inputs, made.labels))


def labels_out_of_range(made: Made, rows: Rows, scene: Scene) -> Made:
    """As many labels of the struck examples as the side has."""
    draws = scene.maker.random("out of range").random(made.labels.shape)
    struck = rows[:, None] & made.scored & (draws < scene.read("label-out-of-range-share", 1.0)[made.dataset][:, None])
    return made.but(labels=np.where(struck, scene.vocabulary_size, made.labels))


def all_labels_out_of_range(made: Made, rows: Rows, scene: Scene) -> Made:
    """All labels of the struck examples are no piece."""
    return made.but(labels=np.where(rows[:, None] & made.scored, scene.vocabulary_size, made.labels))


def other_rate(made: Made, rows: Rows, scene: Scene) -> Made:
    """Masks are drawn anew at the rate that the side has."""
    result = made
    for number, rate in enumerate(fitted_rates(scene)["rate"]):
        struck = rows & (made.dataset == number)
        if rate is None or not struck.any():
            continue
        settings = replace(scene.maker.settings, mask_rate=min(0.999, max(1e-6, rate)), max_predictions=None)
        redone = remasked(result, replace(scene.maker, settings=settings))
        result = _chosen(redone, result, struck)
    return result


def _chosen(yes: Made, no: Made, rows: Rows) -> Made:
    """Rows of one or the other."""
    return Made(
        **{
            name: np.where(rows.reshape(-1, *[1] * (column.ndim - 1)), getattr(yes, name), column)
            for name, column in vars(no).items()
        }
    )


def fitted_rates(scene: Scene) -> dict[str, list[float | None]]:
    """The declared rate times how much more or less is scored than in the reference."""
    rate, own = scene.read("mask-rate", np.nan), scene.own("mask-rate")
    fitted = scene.maker.settings.mask_rate * rate / own
    return {"rate": [None if np.isnan(value) else round(float(value), 4) for value in fitted]}


def other_inputs(made: Made, rows: Rows, scene: Scene) -> Made:
    """What scored places show is drawn by the side's shares."""
    random = scene.maker.random("inputs")
    mask, kept = (
        scene.read(name, share)[made.dataset][:, None] for name, share in (("input-masked", 0.8), ("input-kept", 0.1))
    )
    draw = random.random(made.inputs.shape)
    piece = random.integers(FIRST_PIECE, scene.vocabulary_size, draw.shape)
    shown = np.where(draw < mask, MASK, np.where(draw < mask + kept, made.tokens, piece))
    return made.but(inputs=np.where(rows[:, None] & made.scored, shown, made.inputs).astype(np.int32))


def fitted_inputs(scene: Scene) -> dict[str, list[float | None]]:
    """The side's shares by dataset, as a candidate's values."""
    names = {"masked": "input-masked", "kept": "input-kept", "random": "input-random"}
    return {
        key: [None if np.isnan(value) else round(float(value), 3) for value in scene.read(name, np.nan)]
        for key, name in names.items()
    }


def other_mask_id(made: Made, rows: Rows, scene: Scene) -> Made:
    """Where [MASK] is expected stands the id that the side shows most often there."""
    struck = rows[:, None] & made.scored & (made.inputs == MASK)
    return made.but(inputs=np.where(struck, scene.mask_id, made.inputs).astype(np.int32))


def specials_drawn(made: Made, rows: Rows, scene: Scene) -> Made:
    """Random pieces are drawn from all ids, so that some are special ones: as often as the side shows such."""
    random = scene.maker.random("specials drawn")
    # Of a draw over all five special ids, [MASK] and <unk> are not counted: the side may show them for other reasons.
    rate = scene.read("input-special-share", 0.0) * 5 / 3
    drawn = (made.inputs != made.tokens) & (made.inputs != MASK)
    chance = (rate / (1.0 - _MASKED - _KEPT))[made.dataset][:, None]
    struck = rows[:, None] & made.scored & drawn & (random.random(drawn.shape) < chance)
    ids = np.array([PAD, UNK, CLS, SEP, MASK], np.int32)[random.integers(0, 5, drawn.shape)]
    return made.but(inputs=np.where(struck, ids, made.inputs))


def _drawn(made: Made, rows: Rows) -> NDArray[np.bool_]:
    """Places that show another piece."""
    return np.asarray(rows[:, None] & made.scored & (made.inputs != made.tokens) & (made.inputs != MASK))


def drawn_from_example(*, specials: bool) -> Put:
    """Random pieces are drawn from the example's own, with the [SEP] between its segments or without it."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        # [CLS] and the last [SEP] stand at the ends, which such code leaves out.
        inner = made.part >= FIRST
        inner |= np.full_like(inner, specials) & (made.part == SPECIAL) & (np.cumsum(inner, axis=1) > 0)
        inner &= np.cumsum((made.part >= FIRST)[:, ::-1], axis=1)[:, ::-1] > 0
        row, place = np.nonzero(_drawn(made, rows))
        size, order = inner.sum(axis=1), np.argsort(~inner, axis=1, kind="stable")
        chosen = np.floor(scene.maker.random("own example").random(len(row)) * size[row]).astype(np.int64)
        return _shown(made, row, place, made.tokens[row, order[row, chosen]])

    return apply


def drawn_from_text(made: Made, rows: Rows, scene: Scene) -> Made:
    """Random pieces are drawn from the text, common ones more often."""
    row, place = np.nonzero(_drawn(made, rows))
    text = made.tokens[made.part >= FIRST]
    return _shown(made, row, place, text[scene.maker.random("text").integers(0, len(text), len(row))])


def drawn_from_range(made: Made, rows: Rows, scene: Scene) -> Made:
    """Random pieces are drawn from the first ids, as many as the side's share in the lower half asks for."""
    row, place = np.nonzero(_drawn(made, rows))
    above = np.asarray(fitted_range(scene)["ids"], np.float64)[made.dataset[row]]
    draws = scene.maker.random("range").random(len(row))
    return _shown(made, row, place, FIRST_PIECE + np.floor(draws * (above - FIRST_PIECE)).astype(np.int64))


def fitted_range(scene: Scene) -> dict[str, list[float | None]]:
    """Below which id random pieces are drawn, by dataset."""
    pieces = scene.vocabulary_size - FIRST_PIECE
    low, lowest = (np.clip(scene.read(*one), one[1], 1.0) for one in (("random-low", LOW), ("random-lowest", LOWEST)))
    # Where all are in the lower half, the lowest tenth says more.
    return {"ids": np.rint(FIRST_PIECE + pieces * np.where(low < 1, LOW / low, LOWEST / lowest)).tolist()}


def _shown(made: Made, row: NDArray[np.int64], place: NDArray[np.int64], pieces: NDArray[Any]) -> Made:
    inputs = made.inputs.copy()
    inputs[row, place] = pieces
    return made.but(inputs=inputs)


def unmasked(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
    """The input shows what is to be predicted."""
    return made.but(inputs=np.where(rows[:, None], made.tokens, made.inputs))


def no_targets(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
    """Nothing is masked, nothing is scored."""
    struck = rows[:, None]
    return made.but(
        inputs=np.where(struck, made.tokens, made.inputs),
        labels=np.where(struck, 0, made.labels),
        scored=made.scored & ~struck,
    )


def pieces_replaced(shares: tuple[str, str], unknown: bool) -> Put:
    """Pieces of the first and second segments are others, as many as in the side."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        random = scene.maker.random("pieces", *shares)
        first, second = (scene.read(share, 0.0)[made.dataset][:, None] for share in shares)
        rate = np.where(made.part == FIRST, first, second)
        struck = rows[:, None] & (made.part >= FIRST) & (random.random(made.tokens.shape) < rate)
        piece = (
            np.full(struck.shape, UNK) if unknown else random.integers(FIRST_PIECE, scene.vocabulary_size, struck.shape)
        )
        tokens = np.where(struck, piece, made.tokens).astype(np.int32)
        shows = struck & (made.inputs == made.tokens)
        return made.but(
            tokens=tokens,
            labels=np.where(struck & made.scored, tokens, made.labels),
            inputs=np.where(shows, tokens, made.inputs),
        )

    return apply


def pieces_shuffled(part: int) -> Put:
    """The pieces of one segment are in any order, with what is scored of them."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        draws = scene.maker.random("shuffled", part).random(made.tokens.shape)
        struck = rows[:, None] & (made.part == part)
        place = np.broadcast_to(np.arange(made.tokens.shape[1]), made.tokens.shape)
        # Places of the segment are sorted by their draws, the others stay.
        order = place.copy()
        for row in np.flatnonzero(struck.any(axis=1)):
            mine = np.flatnonzero(struck[row])
            order[row, mine] = mine[np.argsort(draws[row, mine])]
        moved = ("tokens", "scored", "inputs", "labels")
        return made.but(**{name: np.take_along_axis(getattr(made, name), order, axis=1) for name in moved})

    return apply

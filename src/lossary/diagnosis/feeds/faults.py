"""Named faults, put into the reference's examples.

    scene = Scene(reference=reference, side=side_rates)
    faulty = put(reference.examples(), FAULTS["labels-flipped"][0], scene, dose=0.05, datasets=[2])
    faulty.feed()

A fault changes some rows of examples; which ones, the dose decides. Several faults are put in one after another, in the
order in which data code would have them: reading, pairs, masks, arrays. What a fault leaves open (which id stands in
the place of [MASK]) is read from the side's rates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import FIRST_PIECE, MASK, UNK
from lossary.diagnosis.feeds.layout import FIRST, PADDING, SPECIAL
from lossary.diagnosis.feeds.made import Made, remasked
from lossary.diagnosis.feeds.pairs import (
    Scope,
    all_from_another,
    by_reader,
    identical,
    lone_with_another,
    negatives_from_another,
    specials_split,
    swapped_in_order,
    wrong_field,
)
from lossary.diagnosis.feeds.scene import Put, Scene

__all__ = ["FAULTS", "Fault", "Stage", "put"]

Rows = NDArray[np.bool_]


class Stage(IntEnum):
    """When in making examples a fault strikes."""

    READING = 0
    PAIRS = 1
    MASKS = 2
    ARRAYS = 3


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way in which a named fault shows."""

    name: str
    says: str  # a sentence
    put: Put  # strikes the rows (B,) that are True
    stage: Stage
    shows: tuple[str, ...]  # facts; where one of them deviates, the fault is worth a try
    price: float = 0.0  # nats that it must be likelier by than what does less, as it does two things at once
    alone: bool = False  # so general that it says nothing beside other faults
    partial: bool = True  # whether it may strike some examples of a dataset only
    how: str = ""  # which way, where a name has several
    fitted: Callable[[Scene], dict[str, list[float | None]]] | None = None  # what is read from the side, by dataset

    @property
    def keeps_text(self) -> bool:
        """Whether pieces, targets and documents of the examples stay as they are."""
        return self.stage is Stage.ARRAYS and self.name not in ("special-token-split", "dataset-missing")

    @property
    def key(self) -> str:
        """Name and way."""
        return f"{self.name} ({self.how})" if self.how else self.name


def put(made: Made, fault: Fault, scene: Scene, *, dose: float = 1.0, datasets: Sequence[int] | None = None) -> Made:
    """Examples with a fault in a share `dose` of those of some datasets; documents are struck whole by readers' faults."""
    random = scene.maker.random("dose", fault.key)
    draws = random.random(len(made))
    if fault.stage is Stage.READING:
        # All examples of a document share its draw.
        draws = random.random(int(made.document.max(initial=0)) + 1)[made.document]
    struck = draws < dose
    if datasets is not None:
        struck &= np.isin(made.dataset, list(datasets))
    return fault.put(made, struck, scene)


# ---------------------------------------------------------------------------------------------------- labels of order


def _labels(change: Callable[[NDArray[np.int8], np.random.Generator], NDArray[np.int8]], purpose: str) -> Put:
    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        struck = rows & (made.sop >= 0)
        changed = change(made.sop, scene.maker.random("labels", purpose))
        return made.but(sop=np.where(struck, changed, made.sop).astype(np.int8))

    return apply


def _filled(value: int, sop: NDArray[np.int8], _: np.random.Generator) -> NDArray[np.int8]:
    return np.full_like(sop, value)


# ------------------------------------------------------------------------------------------------------------- masks


def _replacements(labels: NDArray[np.int32], scene: Scene, random: np.random.Generator) -> NDArray[np.int32]:
    """What stands in the input in the place of some pieces, 80/10/10."""
    draw = random.random(labels.shape)
    piece = random.integers(FIRST_PIECE, scene.vocabulary_size, labels.shape)
    return np.where(draw < 0.8, MASK, np.where(draw < 0.9, piece, labels)).astype(np.int32)


def _scored_too(part: int, share: str) -> Put:
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


def _moved_to_padding(made: Made, rows: Rows, scene: Scene) -> Made:
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


def _labels_after_masking(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
    return made.but(labels=np.where(rows[:, None] & made.scored, made.inputs, made.labels))


def _labels_out_of_range(made: Made, rows: Rows, scene: Scene) -> Made:
    """As many labels of the struck examples as the side has."""
    draws = scene.maker.random("out of range").random(made.labels.shape)
    struck = rows[:, None] & made.scored & (draws < scene.read("label-out-of-range-share", 1.0)[made.dataset][:, None])
    return made.but(labels=np.where(struck, scene.vocabulary_size, made.labels))


def _all_labels_out_of_range(made: Made, rows: Rows, scene: Scene) -> Made:
    return made.but(labels=np.where(rows[:, None] & made.scored, scene.vocabulary_size, made.labels))


def _other_rate(made: Made, rows: Rows, scene: Scene) -> Made:
    result = made
    for number, rate in enumerate(_fitted_rates(scene)["rate"]):
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


def _fitted_rates(scene: Scene) -> dict[str, list[float | None]]:
    """The declared rate times how much more or less is scored than in the reference."""
    rate, own = scene.read("mask-rate", np.nan), scene.own("mask-rate")
    fitted = scene.maker.settings.mask_rate * rate / own
    return {"rate": [None if np.isnan(value) else round(float(value), 4) for value in fitted]}


def _other_inputs(made: Made, rows: Rows, scene: Scene) -> Made:
    """What scored places show is drawn by the side's shares."""
    random = scene.maker.random("inputs")
    mask, kept = (
        scene.read(name, share)[made.dataset][:, None] for name, share in (("input-masked", 0.8), ("input-kept", 0.1))
    )
    draw = random.random(made.inputs.shape)
    piece = random.integers(FIRST_PIECE, scene.vocabulary_size, draw.shape)
    shown = np.where(draw < mask, MASK, np.where(draw < mask + kept, made.tokens, piece))
    return made.but(inputs=np.where(rows[:, None] & made.scored, shown, made.inputs).astype(np.int32))


def _fitted_inputs(scene: Scene) -> dict[str, list[float | None]]:
    names = {"masked": "input-masked", "kept": "input-kept", "random": "input-random"}
    return {
        key: [None if np.isnan(value) else round(float(value), 3) for value in scene.read(name, np.nan)]
        for key, name in names.items()
    }


def _other_mask_id(made: Made, rows: Rows, scene: Scene) -> Made:
    struck = rows[:, None] & made.scored & (made.inputs == MASK)
    return made.but(inputs=np.where(struck, scene.mask_id, made.inputs).astype(np.int32))


def _unmasked(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
    return made.but(inputs=np.where(rows[:, None], made.tokens, made.inputs))


def _no_targets(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
    struck = rows[:, None]
    return made.but(
        inputs=np.where(struck, made.tokens, made.inputs),
        labels=np.where(struck, 0, made.labels),
        scored=made.scored & ~struck,
    )


def _pieces_replaced(shares: tuple[str, str], unknown: bool) -> Put:
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


# ------------------------------------------------------------------------------------------------------------ arrays


def _attention(change: Callable[[Made], NDArray[np.bool_]]) -> Put:
    def apply(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
        return made.but(attention=np.where(rows[:, None], change(made), made.attention).astype(np.int32))

    return apply


def _segment_ids(change: Callable[[NDArray[np.int32]], NDArray[np.int32]]) -> Put:
    def apply(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
        struck = rows[:, None] & (made.part != PADDING)
        return made.but(segment_ids=np.where(struck, change(made.segment_ids), made.segment_ids).astype(np.int32))

    return apply


def _dataset_left_out(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
    return made.take(np.flatnonzero(~rows))


# Nats that a fault costs whose rates are read from the side: it is likelier than one that says what they are.
_FITTED = 5.0
_IDENTICAL = tuple(
    f"identical:{kind}" for kind in ("one sentence", "one line of several sentences", "several lines", "pair of fields")
)
_OTHER = tuple(name.replace("identical", "other-document") for name in _IDENTICAL)
_WRONG_ORDER = ("in-order-labelled-swapped", "swapped-labelled-in-order")
_FIELDS = ("first-field-missing", "second-field-missing")


# Which pairs a fault may strike, and how each is described.
_IDENTICAL_SCOPES: tuple[tuple[Scope, str], ...] = (
    ("pairs", "any pair"),
    ("single", "where there is no second sentence"),
    ("one line", "where there is no second line"),
)
_LONE_SCOPES: tuple[tuple[Literal["single", "one line"], str], ...] = (
    ("single", "where there is no second sentence"),
    ("one line", "where there is no second line"),
)
_READERS: tuple[tuple[Literal["sentences", "sentence pairs", "lines"], str], ...] = (
    ("sentences", "runs of sentences"),
    ("sentence pairs", "pairs of sentences"),
    ("lines", "pairs of lines"),
)


def _table() -> list[Fault]:
    stage = Stage
    return [
        Fault(
            name="labels-flipped", says="order labels say the opposite of the order", stage=stage.ARRAYS,
            put=_labels(lambda sop, _: 1 - sop, "flip"), shows=_WRONG_ORDER,
        ),
        Fault(
            name="labels-independent-of-order", says="order labels are drawn without regard to the order",
            put=_labels(lambda sop, random: random.integers(0, 2, sop.shape).astype(np.int8), "independent"),
            stage=stage.ARRAYS, shows=_WRONG_ORDER, partial=False,
        ),
        *(
            Fault(
                name="labels-constant", how=f"all {value}", says=f"all order labels are {value}", stage=stage.ARRAYS,
                put=_labels(partial(_filled, value), f"constant {value}"),
                shows=_WRONG_ORDER, partial=False,
            )
            for value in (0, 1)
        ),
        *(
            Fault(
                name="identical-segments", how=how, says=f"both segments hold the same text ({how})",
                put=identical(scope), stage=stage.PAIRS, shows=(*_IDENTICAL, "overlapping"),
            )
            for scope, how in _IDENTICAL_SCOPES
        ),
        *(
            Fault(
                name="lone-sentence-random-second", how=how, stage=stage.PAIRS, put=lone_with_another(scope),
                says=f"{how}, a text of another document stands in its place", shows=_OTHER,
            )
            for scope, how in _LONE_SCOPES
        ),
        *(
            Fault(
                name="second-from-another-document", how=how, says=says, put=change, stage=stage.PAIRS, shows=_OTHER, price=6.0 if "nothing" in how else 0.0,
            )
            for how, change, says in (
                ("instead of a swap", negatives_from_another(None),
                 "second segments that should be swapped are of another document, as for next sentence prediction"),
                ("instead of a swap or of nothing", negatives_from_another("single"),
                 "second segments that should be swapped or missing are of another document, as for next sentence prediction"),
                ("instead of a swap or of nothing, by lines", negatives_from_another("one line"),
                 "second segments that should be swapped or missing are of another document, as for next sentence prediction"),
                ("whatever the label", all_from_another, "second segments are of another document, whatever the label"),
            )
        ),
        *(
            Fault(
                name="segments-cross-documents", how=how, stage=stage.READING, put=by_reader(style),
                says=f"examples run from one document into the next ({how})", shows=("crosses-documents", *_OTHER),
            )
            for style, how in _READERS
        ),
        Fault(
            name="swapped-label-in-order", says="segments that are labelled swapped stand in order", stage=stage.PAIRS,
            put=swapped_in_order, shows=("in-order-labelled-swapped", "swapped"),
        ),
        Fault(
            name="first-line-dropped", says="the first line of documents is dropped", stage=stage.READING,
            put=by_reader("first line dropped"), shows=("first-line-missing", "dataset-empty"),
        ),
        *(
            Fault(
                name="wrong-field", how=how, says=f"pair documents are read as {how}", stage=stage.PAIRS,
                put=wrong_field(*fields), shows=(*_FIELDS, *_IDENTICAL),
            )
            for fields, how in (
                ((0, 0), "the first field twice"), ((1, 1), "the second field twice"),
                ((0,), "the first field alone"), ((1,), "the second field alone"),
            )
        ),
        *(
            Fault(
                name="special-token-split", how=how, says=f"{how} is split into pieces of text", stage=stage.ARRAYS,
                put=specials_split(*which), shows=("no-cls-in-front", "separators-wrong", "cls-split", "sep-split"),
            )
            for which, how in (((True, True), "[CLS] and [SEP]"), ((True, False), "[CLS]"), ((False, True), "[SEP]"))
        ),
        Fault(
            name="labels-are-masked-input", says="labels are taken from the input after it was masked", stage=stage.MASKS,
            put=_labels_after_masking, shows=("label-is-mask", "label-differs-from-text"),
        ),
        Fault(
            name="padding-is-target", how="too", says="padding is scored, besides the text", stage=stage.MASKS,
            put=_scored_too(PADDING, "padding-scored-share"), shows=("padding-scored",),
        ),
        Fault(
            name="padding-is-target", how="instead", says="padding takes scored places from the text", stage=stage.MASKS,
            put=_moved_to_padding, shows=("padding-scored",), partial=False,
        ),
        Fault(
            name="special-is-target", says="[CLS] and [SEP] are scored", stage=stage.MASKS,
            put=_scored_too(SPECIAL, "special-scored-share"), shows=("special-scored",),
        ),
        Fault(
            name="label-out-of-range", how="some labels", price=_FITTED, says="some labels are no piece of the vocabulary",
            put=_labels_out_of_range, stage=stage.MASKS, shows=("label-out-of-range",), partial=False,
        ),
        Fault(
            name="label-out-of-range", how="whole examples", says="labels of some examples are no piece of the vocabulary",
            put=_all_labels_out_of_range, stage=stage.MASKS, shows=("label-out-of-range",),
        ),
        Fault(
            name="mask-rate", price=_FITTED, says="more or fewer pieces are scored than declared", stage=stage.MASKS, put=_other_rate,
            shows=("mask-rate",), partial=False, fitted=_fitted_rates,
        ),
        Fault(
            name="no-random-or-kept", price=_FITTED, says="scored positions do not show 80 % [MASK], 10 % random, 10 % kept pieces",
            put=_other_inputs, stage=stage.MASKS, shows=("input-masked", "input-kept", "input-random"), partial=False,
            fitted=_fitted_inputs,
        ),
        Fault(
            name="mask-id-wrong", says="another id stands in the place of [MASK]", stage=stage.MASKS, put=_other_mask_id,
            shows=("input-unknown", "input-masked"), fitted=lambda scene: {"id": [float(scene.mask_id)]},
        ),
        Fault(
            name="text-altered", price=_FITTED, says="pieces of the text are others than the documents'", stage=stage.MASKS,
            put=_pieces_replaced(("first-altered-share", "second-altered-share"), unknown=False), shows=("first-altered", "second-altered"), partial=False,
            alone=True,
        ),
        Fault(
            name="unknown-pieces", price=_FITTED, says="pieces of the text are <unk>", stage=stage.MASKS,
            put=_pieces_replaced(("unknown-pieces", "unknown-pieces"), unknown=True), shows=("unknown-pieces",), partial=False,
        ),
        Fault(
            name="padding-attended", says="padding is attended to", stage=stage.ARRAYS,
            put=_attention(lambda made: np.ones(made.part.shape, bool)), shows=("padding-attended",),
        ),
        Fault(
            name="masked-tokens-hidden", says="scored positions are hidden from attention", stage=stage.ARRAYS,
            put=_attention(lambda made: (made.attention == 1) & ~made.scored), shows=("scored-hidden",),
        ),
        Fault(
            name="attention-inverted", says="attention is on padding and off pieces", stage=stage.ARRAYS,
            put=_attention(lambda made: made.attention == 0), shows=("unscored-hidden",),
        ),
        Fault(
            name="segment-ids-zero", says="segment ids are all 0", stage=stage.ARRAYS,
            put=_segment_ids(np.zeros_like), shows=("second-segment-not-1", "closing-separator-not-1"),
        ),
        Fault(
            name="segment-ids-flipped", says="segment ids are 1 in the first segment and 0 in the second",
            put=_segment_ids(lambda ids: 1 - ids), stage=stage.ARRAYS, shows=("first-segment-not-0",),
        ),
        Fault(
            name="dataset-missing", says="a dataset is left out", stage=stage.ARRAYS, put=_dataset_left_out,
            shows=("dataset-empty",), partial=False,
        ),
        Fault(
            name="evaluation-unmasked", how="labels, but no masks", says="the input shows what is to be predicted",
            stage=stage.MASKS, put=_unmasked, shows=("input-masked",),
        ),
        Fault(
            name="evaluation-unmasked", how="nothing to predict", says="nothing is masked and nothing is to be predicted",
            stage=stage.MASKS, put=_no_targets, shows=("mask-rate",),
        ),
    ]  # fmt: skip


def _by_name() -> dict[str, list[Fault]]:
    found: dict[str, list[Fault]] = {}
    for fault in _table():
        found.setdefault(fault.name, []).append(fault)
    return found


FAULTS: dict[str, list[Fault]] = _by_name()

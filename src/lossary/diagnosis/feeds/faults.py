"""The table of named faults, and how one is put into the reference's examples.

    scene = Scene(reference=reference, side=side_rates)
    faulty = put(reference.examples(), FAULTS["labels-flipped"][0], scene, dose=0.05, datasets=[2])
    faulty.feed()

A fault changes some rows of examples; which ones, the dose decides. Several faults are put in one after another, in the
order in which data code would have them: reading, pairs (`pairs.py`), masks (`masks.py`), arrays (`arrays.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from lossary.diagnosis.calibration import FEED_PRICE_FITTED as _FITTED
from lossary.diagnosis.feeds.arrays import (
    attention_inverted,
    dataset_left_out,
    labels_constant,
    labels_flipped,
    labels_independent,
    padding_attended,
    scored_hidden,
    segment_ids_before_swap,
    segment_ids_flipped,
    segment_ids_zero,
)
from lossary.diagnosis.feeds.layout import FIRST, PADDING, SECOND, SPECIAL
from lossary.diagnosis.feeds.made import Made
from lossary.diagnosis.feeds.masks import (
    all_labels_out_of_range,
    drawn_from_example,
    drawn_from_range,
    drawn_from_text,
    fitted_after_masking,
    fitted_inputs,
    fitted_range,
    fitted_rates,
    labels_after_masking,
    labels_out_of_range,
    moved_to_padding,
    no_targets,
    other_inputs,
    other_mask_id,
    other_rate,
    pieces_replaced,
    pieces_shuffled,
    scored_too,
    some_labels_after_masking,
    specials_drawn,
    unmasked,
)
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
from lossary.diagnosis.feeds.reference import Reading
from lossary.diagnosis.feeds.scene import Put, Scene

__all__ = ["FAULTS", "Fault", "Stage", "put"]


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
            put=labels_flipped, shows=_WRONG_ORDER,
        ),
        Fault(
            name="labels-independent-of-order", says="order labels are drawn without regard to the order",
            put=labels_independent,
            stage=stage.ARRAYS, shows=_WRONG_ORDER, partial=False,
        ),
        *(
            Fault(
                name="labels-constant", how=f"all {value}{more}", says=f"all order labels are {value}{more}",
                put=labels_constant(value, singles=bool(more)), stage=stage.ARRAYS, shows=_WRONG_ORDER, partial=False,
            )
            for value in (0, 1)
            for more in ("", ", those of single segments, too")
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
            # Where nothing is left of a dataset, leaving it out says less.
            put=by_reader(Reading.LATER_LINES), shows=("first-line-missing", "dataset-empty"), price=1.0,
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
        Fault(
            name="wrong-field", how="the name of the dataset", says="the name of the dataset is read as the text",
            stage=stage.READING, put=by_reader(Reading.NAME), shows=("document-unused",), partial=False,
        ),
        *(
            Fault(
                name="special-token-split", how=f"{how}; {end} makes room", says=f"{how} is split into pieces of text",
                put=specials_split(*which, cut=cut), stage=stage.ARRAYS,
                shows=("no-cls-in-front", "separators-wrong", "cls-split", "sep-split"),
            )
            for which, how in (((True, True), "[CLS] and [SEP]"), ((True, False), "[CLS]"), ((False, True), "[SEP]"))
            for cut, end in ((False, "the longer segment"), (True, "the end"))
        ),
        Fault(
            name="labels-are-masked-input", how="whole examples", stage=stage.MASKS,
            says="labels are taken from the input after it was masked",
            put=labels_after_masking, shows=("label-is-mask", "label-differs-from-text"),
        ),
        Fault(
            name="labels-are-masked-input", how="some labels", price=_FITTED, stage=stage.MASKS, partial=False,
            says="some labels are taken from the input after it was masked",
            put=some_labels_after_masking, shows=("label-is-mask", "label-differs-from-text"), fitted=fitted_after_masking,
        ),
        Fault(
            name="padding-is-target", how="too", says="padding is scored, besides the text", stage=stage.MASKS,
            put=scored_too(PADDING, "padding-scored-share"), shows=("padding-scored",),
        ),
        Fault(
            name="padding-is-target", how="instead", says="padding takes scored places from the text", stage=stage.MASKS,
            put=moved_to_padding, shows=("padding-scored",), partial=False,
        ),
        Fault(
            name="special-is-target", says="[CLS] and [SEP] are scored", stage=stage.MASKS,
            put=scored_too(SPECIAL, "special-scored-share"), shows=("special-scored",),
        ),
        Fault(
            name="label-out-of-range", how="some labels", price=_FITTED, says="some labels are no piece of the vocabulary",
            put=labels_out_of_range, stage=stage.MASKS, shows=("label-out-of-range",), partial=False,
        ),
        Fault(
            name="label-out-of-range", how="whole examples", says="labels of some examples are no piece of the vocabulary",
            put=all_labels_out_of_range, stage=stage.MASKS, shows=("label-out-of-range",),
        ),
        Fault(
            name="mask-rate", price=_FITTED, says="more or fewer pieces are scored than declared", stage=stage.MASKS, put=other_rate,
            shows=("mask-rate",), partial=False, fitted=fitted_rates,
        ),
        Fault(
            name="no-random-or-kept", price=_FITTED, says="scored positions do not show 80 % [MASK], 10 % random, 10 % kept pieces",
            put=other_inputs, stage=stage.MASKS, shows=("input-masked", "input-kept", "input-random"), partial=False,
            fitted=fitted_inputs,
        ),
        Fault(
            name="random-draws-specials", price=_FITTED, says="random pieces are drawn from all ids, special ones too",
            put=specials_drawn, stage=stage.MASKS, shows=("input-special",), partial=False,
        ),
        *(
            Fault(
                name="random-not-from-all-pieces", how=how, says=f"random pieces are drawn from {how}, not from the vocabulary",
                put=change, stage=stage.MASKS, shows=("random-of-example", "random-common", "random-low", "random-lowest", *also), partial=False,
                price=_FITTED if fitted else 0.0, fitted=fitted,
            )
            for how, change, also, fitted in (
                ("their own example", drawn_from_example(specials=False), (), None),
                ("their own example, [SEP] too", drawn_from_example(specials=True), ("input-special",), None),
                ("the text", drawn_from_text, (), None),
                ("the first ids", drawn_from_range, (), fitted_range),
            )
        ),
        Fault(
            name="mask-id-wrong", says="another id stands in the place of [MASK]", stage=stage.MASKS, put=other_mask_id,
            shows=("input-unknown", "input-masked"), fitted=lambda scene: {"id": [float(scene.mask_id)]},
        ),
        *(
            Fault(
                name="text-altered", how=f"{which} segments shuffled", stage=stage.MASKS, put=pieces_shuffled(part),
                says=f"the pieces of {which} segments are not in their order", shows=(f"{which}-altered",), alone=True,
            )
            for part, which in ((FIRST, "first"), (SECOND, "second"))
        ),
        Fault(
            name="text-altered", price=_FITTED, says="pieces of the text are others than the documents'", stage=stage.MASKS,
            put=pieces_replaced(("first-altered-share", "second-altered-share"), unknown=False), shows=("first-altered", "second-altered"), partial=False,
            alone=True,
        ),
        Fault(
            name="unknown-pieces", price=_FITTED, says="pieces of the text are <unk>", stage=stage.MASKS,
            put=pieces_replaced(("unknown-pieces", "unknown-pieces"), unknown=True), shows=("unknown-pieces",), partial=False,
        ),
        Fault(
            name="padding-attended", says="padding is attended to", stage=stage.ARRAYS,
            put=padding_attended, shows=("padding-attended",),
        ),
        Fault(
            name="masked-tokens-hidden", says="scored positions are hidden from attention", stage=stage.ARRAYS,
            put=scored_hidden, shows=("scored-hidden",),
        ),
        Fault(
            name="attention-inverted", says="attention is on padding and off pieces", stage=stage.ARRAYS,
            put=attention_inverted, shows=("unscored-hidden",),
        ),
        Fault(
            name="segment-ids-zero", says="segment ids are all 0", stage=stage.ARRAYS,
            put=segment_ids_zero, shows=("second-segment-not-1", "closing-separator-not-1"),
        ),
        Fault(
            name="segment-ids-flipped", says="segment ids are 1 in the first segment and 0 in the second",
            put=segment_ids_flipped, stage=stage.ARRAYS, shows=("first-segment-not-0",),
        ),
        *(
            Fault(
                name="segment-ids-before-swap", how=how, stage=stage.ARRAYS, put=segment_ids_before_swap(flipped=flipped),
                says=f"segment ids are made before pairs are swapped: {how}", shows=("segments-wrong-swapped",
                "first-segment-not-0", "second-segment-not-1"), partial=False,
            )
            for flipped, how in ((True, "pieces keep theirs"), (False, "the lengths are those before"))
        ),
        Fault(
            name="dataset-missing", says="a dataset is left out", stage=stage.ARRAYS, put=dataset_left_out,
            shows=("dataset-empty",), partial=False,
        ),
        Fault(
            name="evaluation-unmasked", how="labels, but no masks", says="the input shows what is to be predicted",
            stage=stage.MASKS, put=unmasked, shows=("input-masked", "input-kept", "unmasked"),
        ),
        Fault(
            name="evaluation-unmasked", how="nothing to predict", says="nothing is masked and nothing is to be predicted",
            stage=stage.MASKS, put=no_targets, shows=("mask-rate",),
        ),
    ]  # fmt: skip


def _by_name() -> dict[str, list[Fault]]:
    found: dict[str, list[Fault]] = {}
    for fault in _table():
        found.setdefault(fault.name, []).append(fault)
    return found


FAULTS: dict[str, list[Fault]] = _by_name()

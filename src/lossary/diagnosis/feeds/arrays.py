"""Faults of what stands beside the pieces: order labels, attention, segment ids; and of a dataset that is left out.

    faulty = labels_flipped(made, rows, scene)

Each returns examples in which the rows that are True are changed; pieces and targets stay as they are.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.feeds.layout import PADDING, SECOND
from lossary.diagnosis.feeds.made import Made
from lossary.diagnosis.feeds.scene import Put, Scene

__all__ = [
    "attention_inverted",
    "dataset_left_out",
    "labels_constant",
    "labels_flipped",
    "labels_independent",
    "padding_attended",
    "scored_hidden",
    "segment_ids_before_swap",
    "segment_ids_flipped",
    "segment_ids_zero",
]

Rows = NDArray[np.bool_]


def _labels(change: Callable[[NDArray[np.int8], np.random.Generator], NDArray[np.int8]], purpose: str) -> Put:
    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        struck = rows & (made.sop >= 0)
        changed = change(made.sop, scene.maker.random("labels", purpose))
        return made.but(sop=np.where(struck, changed, made.sop).astype(np.int8))

    return apply


def _wrong_in_half(sop: NDArray[np.int8], random: np.random.Generator) -> NDArray[np.int8]:
    """As labels that are drawn, but as many right as wrong: chance takes no part in what is expected of them."""
    order = np.lexsort((random.random(len(sop)), sop))
    wrong = np.zeros(len(sop), bool)
    wrong[order] = np.arange(len(sop)) % 2 == 1
    return np.where(wrong, 1 - sop, sop)


def _attention(change: Callable[[Made], NDArray[np.bool_]]) -> Put:
    def apply(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
        return made.but(attention=np.where(rows[:, None], change(made), made.attention).astype(np.int32))

    return apply


def _segment_ids(change: Callable[[NDArray[np.int32]], NDArray[np.int32]]) -> Put:
    def apply(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
        struck = rows[:, None] & (made.part != PADDING)
        return made.but(segment_ids=np.where(struck, change(made.segment_ids), made.segment_ids).astype(np.int32))

    return apply


labels_flipped: Put = _labels(lambda sop, _: 1 - sop, "flip")
labels_independent: Put = _labels(_wrong_in_half, "independent")
padding_attended: Put = _attention(lambda made: (made.attention == 1) | (made.part == PADDING))
scored_hidden: Put = _attention(lambda made: (made.attention == 1) & ~made.scored)
attention_inverted: Put = _attention(lambda made: made.attention == 0)
segment_ids_zero: Put = _segment_ids(np.zeros_like)
segment_ids_flipped: Put = _segment_ids(lambda ids: 1 - ids)


def segment_ids_before_swap(*, flipped: bool) -> Put:
    """Of swapped pairs: those that the pieces had before the swap, or those of segments as long as before it."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
        ids = 1 - made.segment_ids
        if not flipped:
            column, second = np.arange(ids.shape[1]), (made.part == SECOND).sum(axis=1, keepdims=True)
            # [CLS], the segment that was in front, [SEP].
            ids = (column >= second + 2).astype(np.int32)
        else:
            ids[:, 0] = 0
        struck = (rows & (made.sop == 1))[:, None] & (made.part != PADDING)
        return made.but(segment_ids=np.where(struck, ids, made.segment_ids).astype(np.int32))

    return apply


def labels_constant(value: int, *, singles: bool) -> Put:
    """All order labels are the same; with `singles`, single segments have one, too."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
        struck = rows if singles else rows & (made.sop >= 0)
        return made.but(sop=np.where(struck, value, made.sop).astype(np.int8))

    return apply


def dataset_left_out(made: Made, rows: Rows, scene: Scene) -> Made:  # noqa: ARG001
    """The struck examples are not there."""
    return made.take(np.flatnonzero(~rows))

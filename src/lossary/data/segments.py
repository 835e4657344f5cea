"""From spans to two segments: where a span is split, whether it is swapped, and what is cut off.

As google-research/albert has it (create_pretraining_data.py): the split is uniform over the sentence boundaries inside,
the swap has probability ½, and while both are too long together, the longer one loses a token, at its front or its back
by the toss of a coin. All rows at once, in closed form.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossary.data.philox import Key, bits, uniforms

__all__ = ["RaggedSpans", "Segments", "choose_segments"]


@dataclass(frozen=True, kw_only=True)
class RaggedSpans:
    """B spans with their pieces: flat arrays and offsets (B + 1,)."""

    dataset: NDArray[np.int16]  # (B,)
    example: NDArray[np.uint64]  # (B,)
    ids: NDArray[np.int32]  # (N,), word starts marked as `Shard.marked_ids` has them
    offsets: NDArray[np.int64]
    sentence_ends: NDArray[np.int64]  # (S,) relative to the span
    sentence_offsets: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Of each example the two stretches (B,) of `RaggedSpans.ids` that it is made of; the second may be empty."""

    first_start: NDArray[np.int64]
    first_count: NDArray[np.int64]
    second_start: NDArray[np.int64]
    second_count: NDArray[np.int64]
    sop_labels: NDArray[np.int8]  # 0 in order, 1 swapped, -1 none


def choose_segments(
    spans: RaggedSpans, *, room: int, sop: bool, keys: tuple[Key, Key], epoch: NDArray[np.int64] | int
) -> Segments:
    """Splits, swaps and shortens spans to at most `room` tokens; `keys` are those of splits and of cuts.

    Without `sop`, nothing is split or swapped, and no label is given.
    """
    split, coin = uniforms(keys[0], spans.example, epoch, 2).T
    total = np.diff(spans.offsets)
    sentences = np.diff(spans.sentence_offsets)
    choice = np.minimum(1 + np.floor(split * (sentences - 1)).astype(np.int64), np.maximum(sentences - 1, 1))
    flat = np.minimum(spans.sentence_offsets[:-1] + choice - 1, len(spans.sentence_ends) - 1)
    boundary = spans.sentence_ends[flat]
    # A field of a pair may hold nothing that is a piece.
    labelled = (sentences > 1) & (boundary > 0) & (boundary < total) & sop
    boundary = np.where(labelled, boundary, total)
    swapped = labelled & (coin < 0.5)
    start, end = spans.offsets[:-1], spans.offsets[1:]
    first_start = np.where(swapped, start + boundary, start)
    second_start = np.where(swapped, start, start + boundary)
    first_count = np.where(swapped, end - first_start, boundary)
    second_count = total - first_count
    first_lost, second_lost = _shortened(first_count, second_count, room)
    first_front, second_front = _front_losses(first_lost, second_lost, spans.example, keys[1], epoch)
    return Segments(
        first_start=first_start + first_front,
        first_count=first_count - first_lost,
        second_start=second_start + second_front,
        second_count=second_count - second_lost,
        sop_labels=np.where(labelled, swapped, -1).astype(np.int8),
    )


def _shortened(
    first: NDArray[np.int64], second: NDArray[np.int64], room: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many tokens each side loses: the longer one until they are equal, then in turn, the second one first."""
    over = np.maximum(first + second - room, 0)
    gap = np.abs(first - second)
    level = np.minimum(over, gap)
    rest = over - level
    first_lost = np.where(first > second, level, 0) + rest // 2
    return first_lost, over - first_lost


def _front_losses(
    first_lost: NDArray[np.int64],
    second_lost: NDArray[np.int64],
    example: NDArray[np.uint64],
    key: Key,
    epoch: NDArray[np.int64] | int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of the lost tokens are lost at the front: one coin, a random bit, for each."""
    fronts = np.zeros((2, len(example)), np.int64)
    rows = np.flatnonzero((first_lost > 0) | (second_lost > 0))
    if len(rows):
        lost = np.stack([first_lost[rows], second_lost[rows]])
        words = -(-int(lost.max()) // 32)
        row_key = key if isinstance(key, int) else key[rows]
        row_epoch = epoch if isinstance(epoch, int) else epoch[rows]
        coins = bits(row_key, example[rows], row_epoch, 2 * words).reshape(len(rows), words, 2)
        used = np.clip(lost[..., None] - 32 * np.arange(words), 0, 32).astype(np.uint64)
        kept = ((np.uint64(1) << used) - np.uint64(1)).astype(np.uint32)
        fronts[:, rows] = np.bitwise_count(np.moveaxis(coins, 2, 0) & kept).sum(axis=2, dtype=np.int64)
    return fronts[0], fronts[1]

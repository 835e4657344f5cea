"""Means of batches: what an evaluation loop reports that averages the numbers of its batches, not of its targets.

    batchings = batchings_of(16)                       # every way to cut 16 examples into equal batches, in their order
    batchings[0].means(sums.nats, sums.count)          # (L,) the mean over batches of each batch's mean

A batch counts as much as another, however many targets are in it; or as many times as it has examples. One without any
target is left out, or counts as 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.laws.scored import Part

__all__ = ["Batching", "batchings_of"]

Floats = NDArray[np.float64]
Weighing = Literal["batches with targets", "all batches", "examples"]
_WEIGHINGS: tuple[Weighing, ...] = ("batches with targets", "all batches", "examples")


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Examples in their order, cut into batches, and how much the mean of each counts."""

    starts: tuple[int, ...]  # the first example of each batch
    examples: int  # in the largest batch
    weighing: Weighing

    @property
    def part(self) -> Part:
        """The fault."""
        counts = "by their examples" if self.weighing == "examples" else "the same"
        says = (
            f"the means of evaluation batches of {self.examples} examples are averaged: batches count {counts}, "
            "however many targets are scored in them"
        )
        return Part(name="mean-of-means", says=says, values=(("batch_examples", self.examples),))

    def means(self, values: Floats, count: Floats) -> Floats:
        """(L,) from sums over rows, (L, B); NaN where no batch counts."""
        if self.starts[-1] >= values.shape[1]:
            return np.full(len(values), np.nan)
        scored = np.add.reduceat(count, self.starts, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.where(scored > 0, np.add.reduceat(values, self.starts, axis=1) / scored, 0.0)
            weights = self._weights(scored, values.shape[1])
            return np.asarray((means * weights).sum(axis=1) / weights.sum(axis=1))

    def _weights(self, scored: Floats, rows: int) -> Floats:
        if self.weighing == "batches with targets":
            return (scored > 0).astype(np.float64)
        if self.weighing == "all batches":
            return np.ones_like(scored)
        return np.broadcast_to(np.diff([*self.starts, rows]).astype(np.float64), scored.shape)


def batchings_of(rows: int) -> list[Batching]:
    """Every way to cut examples into at least two batches of at least two: of a size, or into a number of them."""
    return [
        Batching(starts=starts, examples=int(np.diff([*starts, rows]).max()), weighing=weighing)
        for starts in dict.fromkeys(_cuts(rows))
        for weighing in _WEIGHINGS
    ]


def _cuts(rows: int) -> Iterator[tuple[int, ...]]:
    for size in range(2, rows):
        yield tuple(range(0, rows, size))
    for number in range(2, rows // 2 + 1):
        yield tuple(int(part[0]) for part in np.array_split(np.arange(rows), number))

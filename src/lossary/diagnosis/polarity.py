"""Do order labels mean the opposite? Answers of a model against labels, by an exact test that the labels' prior is no
part of.

    for told in sop_polarity(scores):
        print(told.dataset, told.flipped, told.accuracy, told.flipped_accuracy)

A model that learned the order from labels of the opposite meaning is as sure as a good one, and wrong. A model that
learned nothing answers independently of the labels. Fisher's exact test on answers × labels tells the three apart.
"""

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from lossary.diagnosis.calibration import POLARITY_LEVEL as _LEVEL
from lossary.diagnosis.rescoring import flipped_nats
from lossary.diagnosis.stored import Scores
from lossary.statistics.multiplicity import holm

__all__ = ["SopPolarity", "sop_polarity"]


@dataclass(frozen=True, kw_only=True)
class SopPolarity:
    """Answers of one dataset against its labels, as they are and flipped."""

    dataset: str
    n: int  # pairs
    accuracy: float
    flipped_accuracy: float
    loss: float  # nats
    flipped_loss: float
    chance: float  # entropy of the labels, nats: what answering with their frequencies costs
    p_right: float  # that answers do not agree with labels more than by chance; Holm over all datasets and directions
    p_flipped: float  # that they do not disagree more than by chance

    @property
    def flipped(self) -> bool:
        """Better than chance with flipped labels, worse than chance without, and not by luck."""
        return self.p_flipped < _LEVEL and self.flipped_loss < self.chance < self.loss

    @property
    def right(self) -> bool:
        """Answers agree with the labels as they are."""
        return self.p_right < _LEVEL


def sop_polarity(scores: Scores) -> list[SopPolarity]:
    """Every dataset that has pairs; one with a single kind of label cannot tell (both p are 1)."""
    found, p_values = [], []
    for name in scores.datasets:
        part = scores.of(name)
        rows = part.pairs
        if not rows.any():
            continue
        label, correct = part.sop_label[rows] == 1, part.sop_correct[rows] > 0
        answer = np.where(correct, label, ~label)
        found.append((name, label, correct, part.sop_nats[rows]))
        p_values += _fisher(label, answer)
    adjusted = holm(p_values)
    return [
        SopPolarity(
            dataset=name,
            n=len(label),
            accuracy=float(correct.mean()),
            flipped_accuracy=float(1 - correct.mean()),
            loss=float(nats.mean()),
            flipped_loss=float(flipped_nats(nats).mean()),
            chance=_entropy(float(label.mean())),
            p_right=adjusted[2 * i],
            p_flipped=adjusted[2 * i + 1],
        )
        for i, (name, label, correct, nats) in enumerate(found)
    ]


def _fisher(label: NDArray[np.bool_], answer: NDArray[np.bool_]) -> list[float]:
    """One-sided p of agreeing, and of disagreeing, more than by chance, all margins given."""
    both = int((label & answer).sum())
    table = hypergeom(len(label), int(label.sum()), int(answer.sum()))
    return [float(table.sf(both - 1)), float(table.cdf(both))]


def _entropy(share: float) -> float:
    return 0.0 if share in (0.0, 1.0) else -share * log(share) - (1 - share) * log(1 - share)

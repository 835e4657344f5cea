"""What numbers stored scores would have given under other ways of scoring: one function of a dataset's scores each.

for scoring in SCORINGS:
    scoring.numbers(scores.of("new_views"), Setting(slots=20, vocabulary_size=30000))
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.stored import Scores
from lossary.tables.model import Metric

__all__ = ["SCORINGS", "Scoring", "Setting", "as_computed", "flipped_nats"]

Numbers = dict[Metric, float]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the scores do not say: slots for masked positions an example has, and the size of the vocabulary."""

    slots: int | None = None
    vocabulary_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A way of scoring: its faults, and the numbers that differ under it; an empty dict where it does not apply."""

    names: tuple[str, ...]
    says: str
    numbers: Callable[[Scores, Setting], Numbers]
    values: tuple[tuple[str, Any], ...] = ()


def flipped_nats(nats: NDArray[np.float64]) -> NDArray[np.float64]:
    """−ln p of the other one of two labels, from −ln p of one: −ln(1 − e^−nats)."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(-np.expm1(-np.maximum(nats, 1e-300))))


def as_computed(scores: Scores, setting: Setting = Setting()) -> Numbers:
    """Σ nats / Σ masked, Σ correct / Σ masked, means over pairs; a metric without anything to count is left out."""
    del setting
    found: Numbers = {}
    if scores.masked.sum() > 0:
        found["mlm_loss"] = float(scores.mlm_nats.sum() / scores.masked.sum())
        found["mlm_accuracy"] = float(scores.mlm_correct.sum() / scores.masked.sum())
    return found | _order(scores, scores.pairs)


def _order(scores: Scores, rows: NDArray[np.bool_]) -> Numbers:
    if not rows.any():
        return {}
    return {
        "sop_loss": float(scores.sop_nats[rows].mean()),
        "sop_accuracy": float(scores.sop_correct[rows].mean()),
    }


def _flipped(scores: Scores, _: Setting) -> Numbers:
    rows = scores.pairs
    if not rows.any():
        return {}
    return {
        "sop_loss": float(flipped_nats(scores.sop_nats[rows]).mean()),
        "sop_accuracy": float(1 - scores.sop_correct[rows].mean()),
    }


def _only(label: int) -> Callable[[Scores, Setting], Numbers]:
    return lambda scores, _: _order(scores, scores.sop_label == label)


def _all_examples(scores: Scores, _: Setting) -> Numbers:
    rows = scores.pairs
    if not rows.any() or rows.all():
        return {}
    n = len(scores)
    return {
        "sop_loss": float(scores.sop_nats[rows].sum() / n),
        "sop_accuracy": float(scores.sop_correct[rows].sum() / n),
    }


def _rows_first(scores: Scores, _: Setting) -> Numbers:
    rows = scores.masked > 0
    if not rows.any():
        return {}
    masked = scores.masked[rows]
    return {
        "mlm_loss": float((scores.mlm_nats[rows] / masked).mean()),
        "mlm_accuracy": float((scores.mlm_correct[rows] / masked).mean()),
    }


def _slots(scores: Scores, setting: Setting) -> float:
    slots = setting.slots or float(scores.masked.max(initial=0.0))
    return slots * len(scores)


def _over_slots(scores: Scores, setting: Setting) -> Numbers:
    slots = _slots(scores, setting)
    return {"mlm_loss": float(scores.mlm_nats.sum() / slots)} if slots else {}


def _accuracy_over_slots(scores: Scores, setting: Setting) -> Numbers:
    slots = _slots(scores, setting)
    return {"mlm_accuracy": float(scores.mlm_correct.sum() / slots)} if slots else {}


def _uniform_padding(scores: Scores, setting: Setting) -> Numbers:
    slots = _slots(scores, setting)
    if not slots or setting.vocabulary_size is None:
        return {}
    unused = slots - scores.masked.sum()
    return {
        "mlm_loss": float((scores.mlm_nats.sum() + unused * log(setting.vocabulary_size)) / slots),
        "mlm_accuracy": float(scores.mlm_correct.sum() / slots),
    }


def _per_example(scores: Scores, _: Setting) -> Numbers:
    return {"mlm_loss": float(scores.mlm_nats.sum() / len(scores))} if len(scores) else {}


def _bits(scores: Scores, setting: Setting) -> Numbers:
    found = as_computed(scores, setting)
    return {metric: value / log(2) for metric, value in found.items() if metric.endswith("loss")}


def _perplexity(scores: Scores, setting: Setting) -> Numbers:
    loss = as_computed(scores, setting).get("mlm_loss", np.inf)
    return {"mlm_loss": float(np.exp(loss))} if loss < 100 else {}


SCORINGS: tuple[Scoring, ...] = (
    Scoring(names=(), says="as they were computed", numbers=as_computed),
    Scoring(names=("labels-flipped",), says="order labels mean the opposite", numbers=_flipped),
    Scoring(
        names=("class-ignored",),
        says="pairs in order (label 0) do not count",
        numbers=_only(1),
        values=(("classes", [0]),),
    ),
    Scoring(
        names=("class-ignored",),
        says="swapped pairs (label 1) do not count",
        numbers=_only(0),
        values=(("classes", [1]),),
    ),
    Scoring(
        names=("loss-scaled",),
        says="sums over pairs are divided by all examples, with a pair or not",
        numbers=_all_examples,
        values=(("divided_by", "examples"),),
    ),
    Scoring(names=("mean-of-means",), says="the mean of each example is taken first", numbers=_rows_first),
    Scoring(
        names=("loss-scaled",),
        says="the sum of losses is divided by all slots, used or not",
        numbers=_over_slots,
        values=(("divided_by", "slots"),),
    ),
    Scoring(
        names=("accuracy-over-all-slots",),
        says="right answers are divided by all slots, used or not",
        numbers=_accuracy_over_slots,
    ),
    Scoring(
        names=("padding-scored",),
        says="unused slots are scored, too, at what a uniform guess costs, and never right",
        numbers=_uniform_padding,
    ),
    Scoring(
        names=("loss-scaled",),
        says="the sum of losses is divided by examples, not by positions",
        numbers=_per_example,
        values=(("divided_by", "examples"),),
    ),
    Scoring(names=("log-base",), says="losses are in bits", numbers=_bits),
    Scoring(
        names=("log-base",),
        says="the number is e to the loss: a perplexity",
        numbers=_perplexity,
        values=(("unit", "perplexity"),),
    ),
)

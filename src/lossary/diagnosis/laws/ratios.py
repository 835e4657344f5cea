"""Laws of one number: a space of positions, a denominator, label smoothing and a factor; and all of them at once.

columns = columns_of([mlm_sums(outputs, feed) for …], "mlm_loss")     # every law on every observation
law = LossLaw(space=columns.laws[3].space, denominator=columns.laws[3].denominator)
law.value(sums)                                                       # one law on one batch
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.calibration import ARITHMETIC_SAFETY as SAFETY
from lossary.diagnosis.laws.batching import Batching, batchings_of
from lossary.diagnosis.laws.scored import Part, Space, Sums

__all__ = ["LOG2", "NUMBERS", "SAFETY", "Columns", "Denominator", "LossLaw", "Number", "columns_of", "reference_law"]

Floats = NDArray[np.float64]
Number = Literal["mlm_loss", "sop_loss", "mlm_accuracy", "sop_accuracy"]
NUMBERS: tuple[Number, ...] = ("mlm_loss", "sop_loss", "mlm_accuracy", "sop_accuracy")
LOG2 = 1 / log(2)
_EPSILON = 1e-5  # the reference adds it to the number of masked positions
_FLOAT32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, kw_only=True)
class Denominator:
    """What a sum is divided by; `parts` are the faults that make it so."""

    key: str
    parts: tuple[Part, ...] = ()
    batching: Batching | None = None  # the means of batches are averaged


def _other(key: str, what: str) -> Denominator:
    says = f"the sum is divided by {what}" if what else "it is a sum, not a mean"
    return Denominator(key=key, parts=(Part(name="loss-scaled", says=says, values=(("divided_by", what or 1),)),))


def _row_means(key: str, rows: str) -> Denominator:
    says = f"the mean of each example is taken first, and then the mean over {rows}"
    return Denominator(key=key, parts=(Part(name="mean-of-means", says=says),))


_DENOMINATORS: tuple[Denominator, ...] = (
    Denominator(key="count+1e-5"),
    Denominator(key="count"),
    _row_means("row-means", "examples that have any"),
    _row_means("row-means-all", "all examples"),
    _other("masked", "the number of all labelled positions"),
    _other("slots", "the number of slots, used or not"),
    _other("tokens", "the number of tokens, padding included"),
    _other("text", "the number of tokens without padding"),
    _other("rows", "the number of examples"),
    _other("one", ""),
)
# A denominator that is the count of the space itself is no fault, and stands under `count`.
_OWN = {"masked": "masked", "labelled": "masked", "slots": "slots", "rows": "rows", "rows-last": "rows"}
_OWN |= {f"{key}{suffix}": key for key in ("tokens", "text") for suffix in ("", "-as-shown", "-wrapped")}
# An example has one order label: its mean is no other number.
_NOT_OF_SOP = ("row-means", "row-means-all")


@dataclass(frozen=True, kw_only=True)
class LossLaw:
    """How one number comes from logits and a feed."""

    space: Space
    denominator: Denominator
    smoothing: float = 0.0
    factor: float = 1.0
    parts: tuple[Part, ...] = ()

    def value(self, sums: Sums, number: Number) -> tuple[float, float]:
        """The number of a batch, and the rounding that float32 may add; NaN where nothing counts."""
        at = next((i for i, space in enumerate(sums.spaces) if _same(space, self.space)), None)
        if at is None:
            return float("nan"), 0.0
        if self.denominator.batching is not None:
            plain, smooth, noise = (table[at] for table in _batched(sums, number, self.denominator.batching))
            mixed = (1 - self.smoothing) * plain + self.smoothing * smooth
            return float(self.factor * mixed), float(abs(self.factor) * noise)
        plain, smooth, noise = _evaluated(sums, number)
        row = _DENOMINATORS.index(next(d for d in _DENOMINATORS if d.key == self.denominator.key))
        mixed = (1 - self.smoothing) * plain[at, row] + self.smoothing * smooth[at, row]
        return float(self.factor * mixed), float(abs(self.factor) * noise[at, row])


def reference_law(space: Space, number: Number) -> LossLaw:
    """The mean over what counts in a space; of masked positions with 1e-5 added to their number."""
    return LossLaw(space=space, denominator=_DENOMINATORS[1 if number.startswith("sop") else 0])


def _same(one: Space, other: Space) -> bool:
    return (one.key, one.ignored, one.flipped) == (other.key, other.ignored, other.flipped)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """K laws on O observations."""

    laws: tuple[LossLaw, ...]
    plain: Floats  # (K, O)
    smooth: Floats  # (K, O) the same against a uniform target
    noise: Floats  # (K, O)

    def take(self, which: NDArray[Any]) -> "Columns":
        """Some of the laws."""
        laws = tuple(self.laws[i] for i in np.arange(len(self.laws))[which])
        return Columns(laws=laws, plain=self.plain[which], smooth=self.smooth[which], noise=self.noise[which])


def columns_of(batches: Sequence[Sums], number: Number) -> Columns:
    """Every space with every denominator; the spaces of all observations must be the same."""
    spaces = batches[0].spaces
    tables = [_evaluated(batch, number) for batch in batches]
    plain, smooth, noise = (np.stack([table[i] for table in tables], axis=-1) for i in range(3))
    laws, keep = [], np.zeros(plain.shape[:2], bool)
    for i, space in enumerate(spaces):
        for j, denominator in enumerate(_DENOMINATORS):
            own = space.ignored is None and _OWN.get(space.key) == denominator.key
            if number.startswith("sop") and denominator.key in _NOT_OF_SOP:
                continue
            if own or not np.isfinite(plain[i, j]).all():
                continue
            keep[i, j] = True
            laws.append(_law(space, denominator, number))
    right = Columns(laws=tuple(laws), plain=plain[keep], smooth=smooth[keep], noise=noise[keep])
    return _with_batchings(right, batches, number)


def _with_batchings(columns: Columns, batches: Sequence[Sums], number: Number) -> Columns:
    """Beside other laws those of the right positions whose batches' means are averaged."""
    space = batches[0].spaces[0]
    laws, tables = list(columns.laws), [np.stack([columns.plain, columns.smooth, columns.noise])]
    for batching in batchings_of(min(batch.count.shape[1] for batch in batches)):
        table = np.array([[row[0] for row in _batched(batch, number, batching)] for batch in batches]).T
        if np.isfinite(table).all():
            key = f"batches at {batching.starts}, {batching.weighing}"
            denominator = Denominator(key=key, parts=(batching.part,), batching=batching)
            laws.append(LossLaw(space=space, denominator=denominator, parts=denominator.parts))
            tables.append(table[:, None, :])
    plain, smooth, noise = np.concatenate(tables, axis=1)
    return Columns(laws=tuple(laws), plain=plain, smooth=smooth, noise=noise)


def _law(space: Space, denominator: Denominator, number: Number) -> LossLaw:
    parts = (*space.parts, *denominator.parts)
    if number == "mlm_accuracy":
        if space.key == "slots" or (denominator.key in ("slots", "tokens", "text") and not space.parts):
            parts = tuple(replace(part, name="accuracy-over-all-slots") for part in parts)
        parts = tuple(replace(part, says=part.says.replace("the sum is", "right answers are")) for part in parts)
    return LossLaw(space=space, denominator=denominator, parts=parts)


def _evaluated(sums: Sums, number: Number) -> tuple[Floats, Floats, Floats]:
    """Plain, smoothed, noise: (spaces, denominators); NaN where a denominator is 0 or unknown."""
    below = _divisors(sums)
    tables = []
    for values in _summed(sums, number):
        total = values.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            table = total / below
            means = np.where(sums.count > 0, values / sums.count, 0.0)
            table[:, 2] = means.sum(axis=1) / (sums.count > 0).sum(axis=1)
        table[:, 3] = means.mean(axis=1)
        tables.append(table)
    plain, smooth, noise = tables
    return plain, smooth, noise + _relative(sums, number) * np.abs(plain)


def _batched(sums: Sums, number: Number, batching: Batching) -> tuple[Floats, Floats, Floats]:
    """Plain, smoothed, noise: (spaces,); NaN where no batch counts."""
    plain, smooth, noise = (batching.means(values, sums.count) for values in _summed(sums, number))
    return plain, smooth, noise + _relative(sums, number) * np.abs(plain) + _added(sums, number, batching)


def _added(sums: Sums, number: Number, batching: Batching) -> Floats:
    """What the 1e-5 may change that a batch's count of masked positions may have or not."""
    if number.startswith("sop"):
        return np.zeros(len(sums.spaces))
    values = _summed(sums, number)[0]
    return np.abs(batching.means(values, sums.count + _EPSILON) - batching.means(values, sums.count))


def _summed(sums: Sums, number: Number) -> tuple[Floats, Floats, Floats]:
    """What a number is made of, over each row: plain, smoothed, noise."""
    return (sums.hits, sums.hits, sums.turned) if _is_accuracy(number) else (sums.nats, sums.smooth, sums.noise)


def _relative(sums: Sums, number: Number) -> float:
    return _FLOAT32 if _is_accuracy(number) else sums.summation


def _is_accuracy(number: Number) -> bool:
    return number.endswith("accuracy")


def _divisors(sums: Sums) -> Floats:
    """(spaces, denominators); NaN where it is none, or 0."""
    count = sums.count.sum(axis=1)
    table = np.full((len(count), len(_DENOMINATORS)), np.nan)
    table[:, 0], table[:, 1] = count + _EPSILON, count
    for column, denominator in enumerate(_DENOMINATORS):
        if denominator.key in sums.sizes:
            table[:, column] = sums.sizes[denominator.key].sum()
        elif denominator.key == "one":
            table[:, column] = 1.0
    return np.where(table > 0, table, np.nan)

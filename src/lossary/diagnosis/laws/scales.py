"""Free values of a law, by weighted least squares: label smoothing, a factor, weights of two objectives.

    for trial in scaled(columns, measured, rounding):
        trial.residual     # (K,) largest distance over the observations, in units of the tolerance
        trial.values       # {"factor": (K,)}

A free value is only fitted where two more observations than free values are there to judge it by.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.laws.ratios import LOG2, SAFETY, Columns
from lossary.diagnosis.laws.scored import Part

__all__ = ["Trial", "factor_part", "fitted", "observations_for", "scaled", "smoothing_part", "snapped", "tolerance"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way of scaling, on each of K laws."""

    key: str
    residual: Floats  # (K,)
    values: Mapping[str, Floats] = field(default_factory=dict)  # (K,) each
    errors: Mapping[str, Floats] = field(default_factory=dict)  # (K,) by how much rounding may have moved them
    # Ways that this one contains: where one of them reproduces what was seen, this one says nothing.
    contains: tuple[str, ...] = ()


def observations_for(values: int) -> int:
    """Observations that it takes to fit so many free values."""
    return values + 2


def tolerance(noise: Floats, measured: Floats, rounding: Floats) -> Floats:
    """Noise of a law (…, O), one unit of the last place of what was seen, and what was printed of it."""
    last_place = np.spacing(np.abs(measured).astype(np.float32)).astype(np.float64)
    return SAFETY * noise + last_place + rounding


def fitted(columns: Sequence[Floats], measured: Floats, tolerances: Floats) -> tuple[Floats, Floats]:
    """Least squares of `measured` (…, O) by P columns (K, O), each weighted by its tolerance.

    Values and their errors, (K, P); NaN where the columns do not tell the values apart.
    """
    weight = 1 / tolerances
    a = np.stack(np.broadcast_arrays(*columns), axis=-1) * weight[..., None]
    length = np.sqrt((a * a).sum(axis=-2))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = a / length[..., None, :]
    gram = np.einsum("...op,...oq->...pq", unit, unit)
    right = np.einsum("...op,...o->...p", unit, measured * weight)
    with np.errstate(invalid="ignore"):
        possible = np.isfinite(gram).all(axis=(-1, -2)) & (np.linalg.det(np.nan_to_num(gram)) > 1e-12)
    gram = np.where(possible[..., None, None], gram, np.eye(gram.shape[-1]))
    inverse = np.linalg.inv(gram)
    values = np.einsum("...pq,...q->...p", inverse, np.where(possible[..., None], right, 0.0))
    errors = np.sqrt(np.einsum("...pp->...p", inverse))
    with np.errstate(divide="ignore", invalid="ignore"):
        values, errors = values / length, errors / length
    values[~possible] = np.nan
    return values, errors


def scaled(columns: Columns, measured: Floats, rounding: Floats) -> Iterator[Trial]:
    """Every way of scaling that the number of observations allows; measured, rounding: (O,)."""
    a, d, noise = columns.plain, columns.smooth - columns.plain, columns.noise
    count = len(measured)
    smooths = bool(np.abs(d).max(initial=0.0) > 0)

    def residual(predicted: Floats, factor: Any) -> Floats:
        with np.errstate(invalid="ignore"):
            far = np.abs(measured - predicted) / tolerance(noise * np.abs(factor), measured, rounding)
        largest: Floats = np.where(np.isfinite(far), far, np.inf).max(axis=-1)
        return largest

    near = tolerance(noise, measured, rounding)
    yield Trial(key="plain", residual=residual(a, 1.0))
    if smooths:
        yield Trial(key="log", residual=residual(a * LOG2, LOG2), contains=("plain",))
    if count >= observations_for(1):
        value, error = fitted([a], measured + np.zeros_like(a), near)
        found = residual(value * a, value)
        yield Trial(
            key="factor",
            residual=found,
            values={"factor": value[:, 0]},
            errors={"factor": error[:, 0]},
            contains=("plain", "log"),
        )
        for key, factor in (("smoothing", 1.0), ("log smoothing", LOG2)) if smooths else ():
            value, error = fitted([factor * d], measured - factor * a, near)
            found = np.where(_is_share(value[:, 0]), residual(factor * (a + value * d), factor), np.inf)
            yield Trial(
                key=key,
                residual=found,
                values={"smoothing": value[:, 0]},
                errors={"smoothing": error[:, 0]},
                contains=("plain",) if key == "smoothing" else ("plain", "log", "smoothing"),
            )
    if count >= observations_for(2) and smooths:
        value, error = fitted([a, d], measured + np.zeros_like(a), near)
        with np.errstate(divide="ignore", invalid="ignore"):
            share, share_error = value[:, 1] / value[:, 0], error[:, 1] / np.abs(value[:, 0])
        predicted = value[:, :1] * a + value[:, 1:] * d
        yield Trial(
            key="factor smoothing",
            residual=np.where(_is_share(share), residual(predicted, value[:, :1]), np.inf),
            values={"factor": value[:, 0], "smoothing": share},
            errors={"factor": error[:, 0], "smoothing": share_error},
            contains=("plain", "log", "factor", "smoothing", "log smoothing"),
        )


def _is_share(value: Floats) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return (value > 0) & (value < 1)


def snapped(value: float, error: float) -> float:
    """The shortest decimal number within an error."""
    for digits in range(1, 12):
        short = float(f"{value:.{digits}g}")
        if abs(short - value) <= error:
            return short
    return value


def factor_part(factor: float, *, what: str = "the number") -> Part:
    """A number that is scaled."""
    return Part(
        name="loss-scaled", says=f"{what} is {factor:.6g} times what it should be", values=(("factor", factor),)
    )


def smoothing_part(smoothing: float, *, what: str = "targets") -> Part:
    """Labels that are smoothed."""
    says = f"{what} are smoothed by {smoothing:.4g}: that share is spread evenly over all classes"
    return Part(name="label-smoothing", says=says, values=(("smoothing", smoothing),))


LOG_PART = Part(name="log-base", says="logarithms are to base 2: bits, not nats", values=(("factor", LOG2),))

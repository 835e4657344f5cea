"""Arithmetic that the laws of updates share: lower precision, running sums, numbers that are none.

rounded_to("bfloat16", weights)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.adapter import Arrays
from lossary.diagnosis.laws.update_space import Grid

__all__ = ["Array", "averaged", "finite", "flat", "on_grid", "rounded_to", "spacing_of"]

Array = NDArray[np.floating[Any]]
_NO_NUMBER = 1e12


def finite(deviations: Array) -> Array:
    """What is no number is no agreement: large, but finite, so that sums stay comparable."""
    if np.max(np.abs(deviations), initial=0.0) <= _NO_NUMBER:
        return deviations
    numbers = np.nan_to_num(deviations, nan=_NO_NUMBER, posinf=_NO_NUMBER, neginf=-_NO_NUMBER)
    return np.clip(numbers, -_NO_NUMBER, _NO_NUMBER)


def averaged(values: Array, keep: float, add: float) -> Array:
    """Σ keepʲ·add·values from the first step to each; (K, …) to (K, …)."""
    result = np.empty_like(values)
    state = np.zeros_like(values[0])
    for row, value in zip(result, values, strict=True):
        state = keep * state + add * value
        row[...] = state
    return result


def flat(arrays: Arrays, names: tuple[str, ...]) -> NDArray[np.float64]:
    """Parameters one after another, (N,)."""
    return np.concatenate([np.ravel(arrays[name]) for name in names]).astype(np.float64)


def rounded_to(grid: Grid, values: Array) -> NDArray[np.float64]:
    """Values in lower precision, to the nearest, ties to even."""
    single = values.astype(np.float32)
    if grid == "float16":
        with np.errstate(over="ignore"):
            return single.astype(np.float16).astype(np.float64)
    if grid == "bfloat16":
        raw = single.view(np.uint32)
        raw = (raw + 0x7FFF + ((raw >> 16) & 1)) & np.uint32(0xFFFF0000)
        single = raw.view(np.float32)
    return single.astype(np.float64)


def on_grid(values: Array, grid: Grid) -> bool:
    """Whether all values are ones of a lower precision."""
    return bool(np.array_equal(rounded_to(grid, values), values))


def spacing_of(grid: Grid, values: Array) -> NDArray[np.float64]:
    """The distance from each value's size to the next larger number of a precision."""
    size = np.abs(values).astype(np.float32)
    if grid == "float16":
        with np.errstate(over="ignore", invalid="ignore"):
            return np.spacing(size.astype(np.float16)).astype(np.float64)
    return np.spacing(size).astype(np.float64) * (2.0**16 if grid == "bfloat16" else 1.0)

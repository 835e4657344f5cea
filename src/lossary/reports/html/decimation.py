"""Curves with as few points as a picture can show, and none less: the lowest and the highest of every pixel's width.

Random thinning, or every n-th point, loses the spikes that a reader looks for. Buckets are pixels of a linear and of a
logarithmic axis at once, so that a curve may be drawn on either.

    kept = min_max(step, loss, linear=300, logarithmic=150)
    loss[kept]                                    # at most two points a bucket, the first and the last
"""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["min_max", "pack"]

# Values are kept to a ten thousandth: a pixel is more on any axis that holds them.
_SCALE = 10_000


def min_max(step: NDArray[Any], value: NDArray[np.float64], *, linear: int, logarithmic: int) -> NDArray[np.int64]:
    """Indices of the points to keep, ascending. step: (N,) ascending, positive; value: (N,) finite."""
    if len(step) <= 2:
        return np.arange(len(step))
    position = (step - step[0]) / max(step[-1] - step[0], 1)
    ratio = np.log(step / step[0]) / max(np.log(step[-1] / step[0]), 1e-9)
    bucket = np.floor(position * linear) * (logarithmic + 2) + np.floor(ratio * logarithmic)
    # Both axes ascend with the step, so that a bucket is a stretch of the curve.
    starts = np.flatnonzero(np.diff(bucket, prepend=-1.0))
    sizes = np.diff(starts, append=len(step))
    kept = [np.array([0, len(step) - 1])]
    for reduced in (np.minimum, np.maximum):
        extreme = np.repeat(reduced.reduceat(value, starts), sizes)
        hits = np.flatnonzero(value == extreme)
        _, first = np.unique(np.searchsorted(starts, hits, side="right"), return_index=True)
        kept.append(hits[first])
    return np.unique(np.concatenate(kept))


def pack(step: NDArray[Any], value: NDArray[np.float64]) -> str:
    """Base64 of a curve: for each point the growth of step and value, zigzag, seven bits a byte (as LEB128)."""
    steps = np.diff(np.asarray(step, np.int64), prepend=0)
    values = np.diff(np.rint(value * _SCALE).astype(np.int64), prepend=0)
    signed = np.column_stack([steps, values]).ravel()
    zigzag = np.where(signed < 0, -2 * signed - 1, 2 * signed)
    parts = [(zigzag >> shift) & 0x7F for shift in range(0, 63, 7)]
    used = np.column_stack([np.ones(len(zigzag), bool), *((zigzag >> shift) > 0 for shift in range(7, 63, 7))])
    more = np.column_stack([*(used[:, 1:].T), np.zeros(len(zigzag), bool)])
    data = (np.column_stack(parts) | (more << 7))[used]
    return base64.b64encode(data.astype(np.uint8).tobytes()).decode()

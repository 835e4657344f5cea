"""Lists of different lengths, flat one after another: where each begins, and some stretches of them at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["offsets_of", "ranges"]


def ranges(start: NDArray[Any], count: NDArray[Any]) -> NDArray[np.int64]:
    """start[0] … start[0]+count[0]−1, start[1] …, one after another, of whole numbers (n,)."""
    count = np.asarray(count, np.int64)
    return np.repeat(np.asarray(start, np.int64) - np.cumsum(count) + count, count) + np.arange(int(count.sum()))


def offsets_of(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Where each of N lists begins, and where the last one ends: (N + 1,)."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, dtype=np.int64, out=offsets[1:])
    return offsets

"""Many tests at once: Holm's step-down adjustment.

Source: Holm, A simple sequentially rejective multiple test procedure (Scandinavian Journal of Statistics 1979).
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["holm"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: rejecting those below α keeps the chance of any false one below α."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]

"""Bootstrap intervals of a ratio, for whoever wants to check the closed form; the seed is always given, never drawn."""

import numpy as np
from numpy.typing import NDArray

from lossary.statistics.estimates import LEVEL, Estimate

__all__ = ["bootstrap_ratio"]


def bootstrap_ratio(y: NDArray[np.float64], x: NDArray[np.float64], *, seed: int, resamples: int = 2000) -> Estimate:
    """Σy/Σx with a bias-corrected and accelerated interval; whole examples are drawn. y, x: (n,)."""
    # It takes a second to import, and few ask for it.
    from scipy.stats import bootstrap

    if len(y) < 2 or x.sum() <= 0:
        return Estimate(value=None, n=len(y), reason="fewer than two examples")

    def statistic(numerator: NDArray[np.float64], denominator: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray(numerator.sum(axis=axis) / denominator.sum(axis=axis))

    found = bootstrap(
        (y, x),
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 4_000_000 // len(y)),
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    return Estimate(
        value=float(y.sum() / x.sum()),
        low=float(found.confidence_interval.low),
        high=float(found.confidence_interval.high),
        n=len(y),
        variance=float(found.standard_error) ** 2,
        degrees=len(y) - 1,
        method=f"bootstrap95 (BCa, {resamples} resamples, seed {seed})",
    )

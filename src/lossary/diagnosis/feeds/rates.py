"""Rates of facts by dataset, with what is needed to test them: how much examples differ.

observed.rates.rate("swapped-labelled-in-order")           # (G,) by dataset, the last entry: dataset unknown
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.feeds.facts import ROWS

__all__ = ["Rates", "summed"]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Of all F facts and G groups (datasets, and one for examples of no known dataset) counts and sums of products."""

    k: NDArray[np.float64]  # (F, G)
    n: NDArray[np.float64]
    kk: NDArray[np.float64]  # (F, G) sums over examples of k², k·n, n²: how much examples differ
    kn: NDArray[np.float64]
    nn: NDArray[np.float64]

    def of(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Counts k and n (G,) of one fact."""
        row = ROWS[name]
        return self.k[row], self.n[row]

    def rate(self, name: str) -> NDArray[np.float64]:
        """(G,) k/n, NaN where n is 0."""
        k, n = self.of(name)
        return np.divide(k, n, out=np.full(k.shape, np.nan), where=n > 0)

    def inflation(self) -> NDArray[np.float64]:
        """(F, G) by how much the variance of k exceeds a binomial one's, since counts of one example go together."""
        rate = np.divide(self.k, self.n, out=np.zeros_like(self.k), where=self.n > 0)
        spread = self.kk - 2 * rate * self.kn + rate**2 * self.nn
        binomial = self.n * rate * (1 - rate)
        return np.maximum(1.0, np.divide(spread, binomial, out=np.ones_like(spread), where=binomial > 1e-9))


def summed(parts: Sequence[Rates]) -> Rates:
    """The rates of several feeds together."""
    columns = ("k", "n", "kk", "kn", "nn")
    return Rates(**{name: np.sum([getattr(part, name) for part in parts], axis=0) for name in columns})

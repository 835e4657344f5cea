"""How a loss follows the shares that runs were trained with: linear regression on their logarithms.

    fitted = fit(shares, losses, own=2)              # shares (R, D) of R runs, losses (R,) of one dataset
    fitted.effects[2].value                          # what doubling its own share changes, in units of the loss
    fitted.predict(mixture).low                      # for one new run

    all   y = a + Σ_j b_j · log2 s_j, from at least two runs for every number that is estimated
    own   y = a + b · log2 s_own: what the other shares did meanwhile is in b, for want of runs

A share of 0 has no logarithm: where there is one, half of the smallest share above 0 is added to all. Intervals are
Student's t. How well the fit predicts is measured on runs that it has not seen: each is left out once (PRESS residuals,
Allen 1974), beside the mean of the others. Source of the law's form: Ye et al., Data mixing laws (ICLR 2025), to first
order in log shares.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from lossary.statistics.estimates import LEVEL, Estimate

__all__ = ["FEWEST", "Fit", "Refused", "fit", "runs_for_all"]

FEWEST = 5
# Regressors that say nearly the same cannot be told apart.
_WORST_CONDITION = 1e6


def runs_for_all(datasets: int) -> int:
    """The fewest runs that are taken to tell the shares of all datasets apart."""
    return 2 * (datasets + 1)


class Refused(NamedTuple):
    """Why nothing can be said."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A regression on log shares."""

    kind: Literal["all", "own"]
    effects: Mapping[int, Estimate]  # by dataset whose share doubles
    runs: int
    error: float  # root mean square on runs left out
    mean_error: float  # of predicting the mean of the others instead
    added: float  # to every share
    columns: tuple[int, ...]
    coefficients: NDArray[np.float64]  # (1 + columns,)
    inverse: NDArray[np.float64]  # (X'X)^-1
    deviation: float  # of residuals

    @property
    def degrees(self) -> int:
        return self.runs - len(self.coefficients)

    def predict(self, mixture: NDArray[np.float64]) -> Estimate:
        """The loss of one new run with some shares (D,), and what bounds it at 95 %."""
        value, leverage = float(self.values(mixture[None])[0]), float(self.leverages(mixture[None])[0])
        half = -float(stdtrit(self.degrees, (1 - LEVEL) / 2)) * self.deviation * sqrt(1 + leverage)
        return Estimate(value=value, low=value - half, high=value + half, n=self.runs, degrees=self.degrees)

    def values(self, mixtures: NDArray[np.float64]) -> NDArray[np.float64]:
        """The expected loss (M,) of each of some mixtures (M, D)."""
        return self._rows(mixtures) @ self.coefficients

    def leverages(self, mixtures: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each of some mixtures (M, D) lies from those that runs were trained with, (M,)."""
        rows = self._rows(mixtures)
        return np.asarray(np.einsum("mc,cd,md->m", rows, self.inverse, rows), np.float64)

    def _rows(self, mixtures: NDArray[np.float64]) -> NDArray[np.float64]:
        logs = np.log2(mixtures[:, list(self.columns)] + self.added)
        return np.column_stack([np.ones(len(mixtures)), logs])


def fit(shares: NDArray[np.float64], losses: NDArray[np.float64], *, own: int | None, tests: int = 1) -> Fit | Refused:
    """The fit of a dataset's loss; `own` is its column, None of a total. Intervals hold for `tests` effects at once."""
    runs, datasets = shares.shape
    if runs < FEWEST:
        return Refused(f"{runs} runs; {FEWEST} that differ in their shares are the fewest")
    added = float(shares[shares > 0].min()) / 2 if (shares <= 0).any() else 0.0
    logs = np.log2(shares + added)
    varied = tuple(int(column) for column in np.flatnonzero(np.ptp(logs, axis=0) > 1e-9))
    is_enough = runs >= runs_for_all(datasets) and len(varied) == datasets
    if is_enough and (found := _fitted(logs, losses, varied, added, tests)):
        return found
    if own is None:
        return Refused(f"{runs} runs; {runs_for_all(datasets)} are needed to tell {datasets} datasets apart")
    if own not in varied:
        return Refused("its share is the same in all runs")
    return _fitted(logs, losses, (own,), added, tests) or Refused("its share hardly differs between runs")


def _fitted(
    logs: NDArray[np.float64], losses: NDArray[np.float64], columns: tuple[int, ...], added: float, tests: int
) -> Fit | None:
    """Least squares on some columns; None if they cannot be told apart."""
    runs = len(losses)
    design = np.column_stack([np.ones(runs), logs[:, list(columns)]])
    scaled = design / np.linalg.norm(design, axis=0)
    if np.linalg.cond(scaled) > _WORST_CONDITION:
        return None
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ losses
    residuals = losses - design @ coefficients
    degrees = runs - design.shape[1]
    deviation = sqrt(float(residuals @ residuals) / degrees)
    leverages = np.einsum("rc,cd,rd->r", design, inverse, design)
    left_out = residuals / np.maximum(1 - leverages, 1e-12)
    others = (losses.sum() - losses) / (runs - 1)
    quantile = -float(stdtrit(degrees, (1 - LEVEL) / (2 * tests)))
    effects = {}
    for place, column in enumerate(columns, start=1):
        half = quantile * deviation * sqrt(inverse[place, place])
        value = float(coefficients[place])
        variance = deviation**2 * inverse[place, place]
        effects[column] = Estimate(
            value=value, low=value - half, high=value + half, n=runs, variance=variance, degrees=degrees
        )
    return Fit(
        kind="own" if len(columns) == 1 and logs.shape[1] > 1 else "all",
        effects=effects,
        runs=runs,
        error=sqrt(float(np.mean(left_out**2))),
        mean_error=sqrt(float(np.mean((losses - others) ** 2))),
        added=added,
        columns=columns,
        coefficients=coefficients,
        inverse=inverse,
        deviation=deviation,
    )

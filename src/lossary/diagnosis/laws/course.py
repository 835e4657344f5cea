"""The course of a loss: never good, or good and then risen again.

course_of(losses).rose
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossary.diagnosis.calibration import COURSE_LEVEL as _LEVEL

__all__ = ["Course", "course_of", "late_gap"]


@dataclass(frozen=True, kw_only=True)
class Course:
    """The course of a loss over S steps."""

    best_step: int  # where the mean over a window is least
    best: float
    last: float
    rise: float  # of the last window over the best one
    noise: float  # what a rise has to exceed, from the differences between batches

    @property
    def rose(self) -> bool:
        """Whether the loss rose again beyond noise after its minimum."""
        return self.rise > self.noise


def course_of(losses: NDArray[np.float64]) -> Course:
    """Of losses by step (S,), S at least 8.

    The noise of a mean over w steps is that of consecutive differences, σ = sd(diff)/√2, so that a trend does not
    count as noise; the bound is Student's at 1e-4 over all windows that the minimum was chosen from.
    """
    window = max(4, len(losses) // 20)
    means = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    at = int(np.argmin(means))
    sigma = float(np.std(np.diff(losses), ddof=1)) / np.sqrt(2)
    bound = stats.t.isf(_LEVEL / len(means), len(losses) - 2) * sigma * np.sqrt(2 / window)
    best, last = float(means[at]), float(means[-1])
    return Course(best_step=at + window, best=best, last=last, rise=last - best, noise=float(bound))


def late_gap(losses: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[float, float]:
    """How much higher a loss (S,) is than another on the same batches, and what is noise; over the last half."""
    differences = losses - others
    window = max(4, len(losses) // 2)
    sigma = float(np.std(np.diff(differences), ddof=1)) / np.sqrt(2)
    bound = stats.t.isf(_LEVEL, len(losses) - 2) * sigma / np.sqrt(window)
    return float(differences[-window:].mean()), max(float(bound), 1e-9)

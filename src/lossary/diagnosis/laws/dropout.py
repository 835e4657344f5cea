"""Is anything dropped at random, and at what rate?

    fit = identify_dropout(evaluation, training, reference, declared=0.1)

Two passes over the same feed differ by rounding, or by dropout. How much a rate makes them differ is measured on the
reference, which drops where BERT's code does, so that a spread tells a rate; the rate is confirmed where the reference
with it spreads as much as the side does, within what several seeds of the reference spread apart.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from lossary.diagnosis.calibration import LARGEST_DROPOUT as _LARGEST_RATE
from lossary.diagnosis.fit import Candidate, Fit

__all__ = ["Spread", "identify_dropout", "spread_of"]

Spread = Callable[[float, int], float]  # (rate, seed) → spread of two passes of the reference
_SEEDS = 6
_BEYOND = float("inf")
_HOW = "two passes of the reference in float32, and for rates the spread of its spread over six seeds"


def spread_of(passes: Sequence[NDArray[np.float32]]) -> float:
    """Root mean square difference of repeated passes from the first."""
    first = passes[0].astype(np.float64)
    return float(np.sqrt(np.mean([np.mean(np.square(other - first)) for other in passes[1:]])))


def identify_dropout(
    evaluation: float, training: float | None, reference: Spread, *, noise: float, declared: float
) -> Fit:
    """From the spreads of a side's evaluation passes and training passes; `noise` is what rounding may make of one."""
    distance, names, says, values, residual = 0.0, [], {}, {}, 0.0
    expected = reference(declared, 0) if declared else 0.0
    if evaluation > noise:
        rate, left = _fitted(evaluation, reference)
        distance, residual = evaluation / noise, max(residual, left)
        names.append("dropout-on-at-evaluation")
        says["dropout-on-at-evaluation"] = f"evaluation drops at random, as a rate near {rate:.2f} would"
        values["rate"] = rate
    if training is not None and declared and training <= noise:
        distance = max(distance, expected / noise)
        names.append("dropout-off-in-training")
        says["dropout-off-in-training"] = f"dropout of {declared:g} is declared, and training drops nothing"
    elif training is not None and training > noise:
        rate, left = _fitted(training, reference)
        # The declared rate, at places other than BERT's, spreads differently: only a declared 0 is contradicted.
        if not declared:
            distance, residual = max(distance, training / noise), max(residual, left)
            names.append("dropout-undeclared")
            says["dropout-undeclared"] = (
                f"training drops at random, as a rate near {rate:.2f} would, and none is declared"
            )
            values["training_rate"] = rate
    if not names:
        return Fit(distance=max(evaluation / noise, 0.0), tried=(), how=_HOW)
    candidate = Candidate(
        names=tuple(names), says="; ".join(says.values()), residual=residual, values={**values, "sentences": says}
    )
    return Fit(distance=distance, tried=(candidate,), how=_HOW)


def _fitted(spread: float, reference: Spread) -> tuple[float, float]:
    """The rate at which the reference spreads as much, and how far it still is, in units of its own spread by seed."""
    low, high = 1e-4, _LARGEST_RATE
    if not reference(low, 0) < spread < reference(high, 0):
        return (high if spread >= reference(high, 0) else low), _BEYOND
    rate = float(brentq(lambda x: np.log(reference(x, 0)) - np.log(spread), low, high, xtol=1e-3))
    logs = np.log([reference(rate, seed) for seed in range(1, _SEEDS + 1)])
    # What the fit leaves is what another seed would change, at most three of its standard deviations.
    bound = 3 * float(np.std(logs, ddof=1)) + 1e-9
    return rate, abs(float(np.mean(logs)) - float(np.log(spread))) / bound

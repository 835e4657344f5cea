"""Which weights an evaluation looked at, and how it put its batches together: what gives the numbers that it returned.

    numbers = Evaluated(states=(w0, w1, w2), batches=feeds, score=score)
    fit = identify_evaluation({"mlm_loss": 6.31}, numbers)
    fit.best.names                       # ("evaluation-averaged-weights",)

Right is: the weights after the last step, every example of every batch once, sums over counts. Put into that are older
weights, averages of them, batches that are left out or averaged one by one, and examples that fill up the last batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from lossary.diagnosis.calibration import ARITHMETIC_SAFETY, LOOP_MOST_DIGITS
from lossary.diagnosis.fit import Candidate, Fit

__all__ = ["COUNTS", "LOSSES", "Evaluated", "Scored", "identify_evaluation"]

LOSSES = ("loss", "mlm_loss", "sop_loss")
COUNTS = ("examples", "masked", "pairs")
Arrays = Mapping[str, NDArray[Any]]
Way = Callable[[Sequence[NDArray[np.float64]]], NDArray[np.float64]]
_HOW = "logits in float32 against float64 on the same examples, and the digits that are told"
_FAR = float("inf")


@dataclass(frozen=True)
class Scored:
    """By batch and example: nats and targets of both objectives, (B, 4); and by how much rounding moves a mean."""

    batches: tuple[NDArray[np.float64], ...]
    rounding: float


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Weights from the ones that were given to those after the last step, and what the reference makes of any."""

    states: tuple[Arrays, ...]
    score: Callable[[Arrays], Scored]

    @cached_property
    def now(self) -> Scored:
        """The right weights, scored."""
        return self.score(self.states[-1])

    @property
    def shows_a_step(self) -> bool:
        """Whether losses before the last step are others than after it, beyond rounding."""
        before = _numbers(self.score(self.states[-2]).batches, _pooled)
        return _distance(before, self.now, _pooled) > 1


def _pooled(batches: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.concatenate(batches).sum(axis=0), [sum(map(len, batches))]])


def _filled(batches: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The last batch is filled up to the size of the first with examples from the front."""
    rows = np.concatenate(batches)
    more = np.resize(np.arange(len(rows)), max(0, len(batches[0]) - len(batches[-1])))
    return _pooled([rows, rows[more]])


_WAYS: dict[str, tuple[str, Way | None]] = {
    "": ("", _pooled),
    "mean-of-means": ("the means of batches are averaged, whatever their sizes", None),
    "last-batch-dropped": ("the last, smaller batch is left out", lambda batches: _pooled(batches[:-1])),
    "only-last-batch": ("only the last batch counts", lambda batches: _pooled(batches[-1:])),
    "examples-counted-twice": ("examples from the front fill up the last batch and count twice", _filled),
}


def _numbers(batches: Sequence[NDArray[np.float64]], way: Way | None) -> dict[str, float]:
    if way is None:
        each = [_numbers([one], _pooled) for one in batches]
        means = {name: [one[name] for one in each if name in one] for name in LOSSES}
        return _numbers(batches, _pooled) | {name: float(np.mean(of)) for name, of in means.items() if of}
    mlm, masked, sop, pairs, examples = way(batches)
    found = {"examples": examples, "masked": masked, "pairs": pairs}
    found |= {"mlm_loss": mlm / masked} if masked else {}
    found |= {"sop_loss": sop / pairs} if pairs else {}
    return found | {"loss": found.get("mlm_loss", 0.0) + found.get("sop_loss", 0.0)}


def identify_evaluation(told: Mapping[str, float], evaluated: Evaluated) -> Fit:
    """Which weights and which way of putting batches together give what was told."""
    distance = _distance(told, evaluated.now, _pooled)
    if distance <= 1:
        return Fit(distance=distance, tried=(), how=_HOW)
    tried = [
        Candidate(names=(f"evaluation-{name}",), says=f"the evaluation's numbers: {says}", residual=residual)
        for name, (says, way) in _WAYS.items()
        if name and (residual := _distance(told, evaluated.now, way)) < _FAR
    ]
    for name, says, values, weights in _other_weights(told, evaluated):
        scored = evaluated.score(weights)
        tried.append(Candidate(names=(name,), says=says, residual=_distance(told, scored, _pooled), values=values))
    tried.sort(key=lambda candidate: (not candidate.reproduces, len(candidate.values), candidate.residual))
    return Fit(distance=distance, tried=tuple(tried), how=_HOW)


def _distance(told: Mapping[str, float], scored: Scored, way: Way | None) -> float:
    found = _numbers(scored.batches, way)
    units = [0.0]
    for name, value in told.items():
        if not np.isfinite(value):
            return _FAR
        if name in COUNTS:
            units.append(0.0 if value == found[name] else _FAR)
        elif name in LOSSES and name in found:
            allowed = ARITHMETIC_SAFETY * scored.rounding + _half_a_digit(value)
            units.append(abs(value - found[name]) / allowed)
    return max(units)


def _half_a_digit(value: float) -> float:
    """Half of the last digit where a number was rounded for being told; else of its last place in float32."""
    for digits in range(LOOP_MOST_DIGITS + 1):
        if round(value, digits) == value:
            return float(0.5 * 10.0**-digits)
    return float(np.spacing(np.float32(abs(value))))


def _other_weights(
    told: Mapping[str, float], evaluated: Evaluated
) -> Iterator[tuple[str, str, dict[str, Any], Arrays]]:
    states = evaluated.states
    for back in range(1, len(states)):
        ago = "the last update" if back == 1 else f"the last {back} updates"
        yield "evaluation-before-update", f"the evaluation does not see {ago}", {"steps": back}, states[-1 - back]
    if len(states) == 1:
        return
    yield (
        "evaluation-averaged-weights",
        "the evaluation looks at the mean of the last weights",
        {"steps": len(states) - 1},
        _mixed(states[1:], np.ones(len(states) - 1) / (len(states) - 1)),
    )

    def apart(decay: float) -> float:
        return _distance(told, evaluated.score(_averaged(states, decay)), _pooled)

    found = minimize_scalar(apart, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-4, "maxiter": 24})
    decay = float(found.x)
    says = f"the evaluation looks at a moving average of the weights, of decay {decay:.3g}"
    yield "evaluation-averaged-weights", says, {"decay": round(decay, 4), "fitted": True}, _averaged(states, decay)


def _averaged(states: Sequence[Arrays], decay: float) -> Arrays:
    """A moving average that begins with the first weights and takes in those after each step."""
    steps = np.arange(len(states), dtype=np.float64)
    shares: NDArray[np.float64] = np.asarray((1 - decay) * decay ** steps[::-1], np.float64)
    shares[0] = decay ** (len(states) - 1)
    return _mixed(states, shares)


def _mixed(states: Sequence[Arrays], shares: NDArray[np.float64]) -> Arrays:
    return {
        name: np.asarray(
            sum(share * state[name].astype(np.float64) for share, state in zip(shares, states, strict=True))
        )
        for name in states[0]
    }

"""Is it low precision? The size of a deviation, and its regular part, against the arbiter's own in that precision.

    candidate = low_precision(sides, architecture, declared="float32")

Rounding cannot be reproduced number by number: another order of sums rounds otherwise. Two things can. Its size: RMS
deviations of every output must lie within the prediction interval of the arbiter's runs in that precision. And what
rounding the weights alone does (of layer normalisation in fp16 alone: what one run of the arbiter does), which is
the same in every program of that precision: regressed on it, the side's
deviation must have the coefficient that the arbiter's runs have, near 1, and be nearer to it than to 0. An unknown
fault of about the same size has no such part.

No numbers at all (NaN, infinities) are reproduced by pure fp16 in the very examples, or not; if a larger ε makes them
numbers again, ε that fp16 rounds to 0 is the cause, else it is overflow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from lossary.diagnosis.calibration import FORMAT_IS_FAR as _FAR
from lossary.diagnosis.fit import Candidate
from lossary.diagnosis.laws.architecture.evidence import (
    FALSE_ALARMS,
    Observation,
    deviation,
    scored,
    ways_of,
)
from lossary.models.arbiter import Architecture, Arithmetic, Outputs, Precision, forward

__all__ = ["low_precision"]

_FORMATS: tuple[Precision, ...] = ("tf32", "bf16", "fp16", "fp16_norms")
_NAMES = {
    "tf32": "TF32 (products of numbers cut to 10 bits)",
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp16_norms": "layer normalisation in float16, where ε is rounded to 0",
}
_REPRESENTABLE = 1e-4  # an ε that pure fp16 does not round to 0


def low_precision(
    observations: Sequence[Observation], architecture: Architecture, *, declared: Precision
) -> list[Candidate]:
    """Candidates `low-precision` and `half-precision-epsilon`."""
    formats = [name for name in _FORMATS if name != declared]
    if not all(np.isfinite(value).all() for observation in observations for value in _used(observation).values()):
        return _no_numbers(observations, architecture) if declared in ("float32", "fp16") else []
    exact = [forward(one.parameters, architecture, one.feed) for one in observations]
    answers = [one.answers() for one in observations]
    sizes = _sizes(observations, exact, answers)
    found = []
    for name in formats:
        first = [vars(forward(one.parameters, architecture, one.feed, precision=name)) for one in observations]
        off = np.abs(sizes - _sizes(observations, exact, first))
        if np.isfinite(off).all() and (off <= _FAR).all():
            found.append(_judged(observations, architecture, exact, name))
    return found


def _used(observation: Observation) -> dict[str, NDArray[Any]]:
    return {name: scored(observation.feed, name, value) for name, value in observation.answers().items()}


def _sizes(
    observations: Sequence[Observation], exact: Sequence[Outputs], found: Sequence[Mapping[str, Any]]
) -> NDArray[np.float64]:
    """Logarithms of the RMS deviations of all outputs of all observations."""
    sizes = [
        deviation(scored(one.feed, name, outputs[name]), scored(one.feed, name, getattr(reference, name)))
        for one, reference, outputs in zip(observations, exact, found, strict=True)
        for name in one.answers()
    ]
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.array(sizes)))


def _judged(
    observations: Sequence[Observation], architecture: Architecture, exact: Sequence[Outputs], name: Precision
) -> Candidate:
    answers = [one.answers() for one in observations]
    side_share = _share(observations, exact, _with_rounded(observations, architecture, name), answers)
    sizes, shares = _samples(observations, architecture, name)
    quantile = float(student.isf(FALSE_ALARMS / (sizes.shape[1] + 1) / 2, len(sizes) - 1)) * np.sqrt(
        1.0 + 1.0 / len(sizes)
    )
    off = np.abs(_sizes(observations, exact, answers) - sizes.mean(axis=0)) / (quantile * sizes.std(axis=0, ddof=1))
    middle = float(shares.mean())
    allowed = min(quantile * float(shares.std(ddof=1)), 0.5 * abs(middle))
    norms = name == "fp16_norms"
    return Candidate(
        names=("half-precision-epsilon" if norms else "low-precision",),
        says=f"It computes {'' if norms else 'in '}{_NAMES[name]}: the deviation has the size of its rounding, and "
        f"holds what {'one run of the reference does' if norms else 'rounded weights do'} {side_share:.2f} times "
        f"(other runs of the reference in that precision {middle:.2f} times)",
        residual=float(max(off.max(), abs(side_share - middle) / allowed)),
        values={"precision": name, "weights_share": round(side_share, 3)},
    )


def _samples(
    observations: Sequence[Observation], architecture: Architecture, name: Precision
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sizes (runs, outputs) and shares of rounded weights (runs,) of the arbiter's runs in a precision."""
    sizes, shares = [], []
    bases: dict[int, tuple[list[Outputs], list[Outputs]]] = {}
    for way in ways_of(name):
        moved = [replace(one, parameters=way.weights(one.parameters)) for one in observations]
        if way.seed not in bases:
            exact = [forward(one.parameters, architecture, one.feed) for one in moved]
            bases[way.seed] = exact, _with_rounded(moved, architecture, name)
        exact, rounded = bases[way.seed]
        runs = [vars(forward(one.parameters, architecture, one.feed, precision=way.arithmetic)) for one in moved]
        sizes.append(_sizes(observations, exact, runs))
        shares.append(_share(observations, exact, rounded, runs))
    return np.array(sizes), np.array(shares)


def _with_rounded(observations: Sequence[Observation], architecture: Architecture, name: Precision) -> list[Outputs]:
    """float64, but for the weights; of layer normalisation, which rounds no weights, all of it."""
    if name == "fp16_norms":
        return [forward(one.parameters, architecture, one.feed, precision=name) for one in observations]
    return [forward(_rounded_weights(one.parameters, name), architecture, one.feed) for one in observations]


def _rounded_weights(parameters: Mapping[str, NDArray[Any]], name: Precision) -> dict[str, NDArray[Any]]:
    """Matrices as they enter products of that precision."""
    rounding = Arithmetic(name)
    return {key: rounding.as_factor(value) if value.ndim == 2 else value for key, value in parameters.items()}


def _share(
    observations: Sequence[Observation],
    exact: Sequence[Outputs],
    rounded: Sequence[Outputs],
    found: Sequence[Mapping[str, Any]],
) -> float:
    """Coefficient of the deviation on what rounding the weights does; observations weigh alike, MLM logits if any."""
    above, below = 0.0, 0.0
    for one, reference, weights, outputs in zip(observations, exact, rounded, found, strict=True):
        answers = one.answers()
        name = "mlm" if "mlm" in answers else "sop"
        base = scored(one.feed, name, getattr(reference, name))
        x = scored(one.feed, name, getattr(weights, name)) - base
        y = scored(one.feed, name, outputs[name]) - base
        size = float(np.square(x).sum())
        if size > 0.0:
            above += float((x * y).sum()) / size
            below += 1.0
    return above / below if below else 0.0


def _no_numbers(observations: Sequence[Observation], architecture: Architecture) -> list[Candidate]:
    """Whether pure fp16 fails in the very examples in which the side does."""
    larger = {
        field: max(getattr(architecture, field), _REPRESENTABLE)
        for field in ("epsilon_embeddings", "epsilon_layers", "epsilon_head")
    }
    wrong, cured = 0, True
    for one in observations:
        run = forward(one.parameters, architecture, one.feed, precision="fp16")
        again = forward(one.parameters, replace(architecture, **larger), one.feed, precision="fp16")
        for name, value in one.answers().items():
            theirs, ours = (_broken(one, name, values) for values in (value, getattr(run, name)))
            wrong += int((theirs != ours).sum())
            cured &= not _broken(one, name, getattr(again, name)).any()
    return [
        Candidate(
            names=("half-precision-epsilon" if cured else "low-precision",),
            says="It computes layer normalisation in float16, where ε is rounded to 0 and a small variance gives NaN"
            if cured
            else "It computes in float16, whose largest number is 65,504",
            # Counts of examples: none may differ.
            residual=2.0 * wrong,
            values={"precision": "fp16"},
        )
    ]


def _broken(observation: Observation, name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which examples hold something that is no number."""
    if name == "mlm":
        used = observation.feed.weights > 0
        return np.asarray((~np.isfinite(values).all(axis=-1) & used).any(axis=-1))
    return np.asarray(~np.isfinite(values).all(axis=-1))

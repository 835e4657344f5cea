"""Which weights arrive in a side's model, and come back from a checkpoint that it saved and loaded.

    fit = identify_loading([first, second], [after_first, after_second])
    fit.best.values["parameters"]        # the tensors that did not arrive

The reference loads what it is given, to the bit. A fault is put into it by leaving tensors out, transposing them or
giving one the values of another; it is confirmed where the result is then the side's. A tensor that was left out keeps
values that do not follow what was given: equal after two different loads, or random and uncorrelated with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossary.diagnosis.calibration import BF16_COPY, LEAST_CORRELATED
from lossary.diagnosis.calibration import LOADING_LEVEL as _LEVEL
from lossary.diagnosis.fit import Candidate, Fit

__all__ = ["identify_loading"]

Arrays = Mapping[str, NDArray[Any]]
_HOW = "none: weights are copied, and a copy has the same bits"
_BEYOND = float("inf")


def identify_loading(given: Sequence[Arrays], returned: Sequence[Arrays], *, precision: str = "fp32") -> Fit:
    """Compares weights given with weights returned, for two or more different sets of weights.

    A side that declares bf16 weights may return them rounded to that.
    """
    names = list(given[0])
    missing = [name for name in names if any(name not in after for after in returned)]
    arrived = [name for name in names if name not in missing and _all_equal(name, given, returned, precision)]
    wrong = [name for name in names if name not in arrived]
    if not wrong:
        return Fit(distance=0.0, tried=(), how=_HOW)
    kinds: dict[str, list[str]] = {}
    for name in wrong:
        kinds.setdefault(_kind(name, given, returned), []).append(name)
    unknown = kinds.pop("", [])
    candidates = tuple(
        Candidate(
            names=tuple(kinds),
            says="; ".join(_SAYS[kind].format(which=_some(which)) for kind, which in kinds.items()),
            residual=_BEYOND if unknown else 0.0,
            values={
                "parameters": [name for which in kinds.values() for name in which],
                "sentences": {kind: _SAYS[kind].format(which=_some(which)) for kind, which in kinds.items()},
            },
        )
        for _ in [None]
        if kinds
    )
    return Fit(distance=_BEYOND, tried=candidates, how=_HOW)


_SAYS = {
    "parameters-not-loaded": "these weights are not loaded and keep other values: {which}",
    "parameters-missing": "the model does not tell these weights: {which}",
    "parameters-transposed": "these weights are transposed: {which}",
    "parameters-tied-wrong": "these weights get the values of others: {which}",
}


def _all_equal(name: str, given: Sequence[Arrays], returned: Sequence[Arrays], precision: str) -> bool:
    return all(_equal(before[name], after[name], precision) for before, after in zip(given, returned, strict=True))


def _equal(before: NDArray[Any], after: NDArray[Any], precision: str) -> bool:
    if before.shape != after.shape:
        return False
    if precision == "bf16" and not np.array_equal(before, after):
        # Eight bits of significand: half of the last one is 2⁻⁹ of the value.
        return bool(np.all(np.abs(after - before) <= BF16_COPY * np.abs(before)))
    return bool(np.array_equal(before, after))


def _kind(name: str, given: Sequence[Arrays], returned: Sequence[Arrays]) -> str:
    """The fault that gives this tensor the values it has; empty if none is known."""
    if any(name not in after for after in returned):
        return "parameters-missing"
    befores, afters = [g[name] for g in given], [r[name] for r in returned]
    if all(
        b.ndim == 2 and b.T.shape == a.shape and np.array_equal(b.T, a) for b, a in zip(befores, afters, strict=True)
    ):
        return "parameters-transposed"
    for other in given[0]:
        if other != name and all(
            g[other].shape == a.shape and np.array_equal(g[other], a) for g, a in zip(given, afters, strict=True)
        ):
            return "parameters-tied-wrong"
    same = all(np.array_equal(afters[0], after) for after in afters[1:])
    return "parameters-not-loaded" if same or _unrelated(befores, afters) else ""


def _unrelated(befores: Sequence[NDArray[Any]], afters: Sequence[NDArray[Any]]) -> bool:
    """Whether values after loading do not follow those before: no correlation beyond chance."""
    for before, after in zip(befores, afters, strict=True):
        if before.shape != after.shape:
            return False
        x, y = before.astype(np.float64).reshape(-1), after.astype(np.float64).reshape(-1)
        if x.std() == 0 or y.std() == 0:
            continue  # A constant follows nothing.
        if len(x) < LEAST_CORRELATED:
            return False
        if stats.pearsonr(x, y).pvalue < _LEVEL:
            return False
    return True


def _some(names: Sequence[str]) -> str:
    short = [name.replace("albert.encoder.albert_layer_groups.0.albert_layers.0", "layer") for name in names]
    return ", ".join(short[:4]) + (f" and {len(short) - 4} more" if len(short) > 4 else "")

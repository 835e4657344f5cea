"""Weights and gradients that make every setting of an update law observable.

    weights = probe_weights(parameters, seed=0)
    gradients = probe_gradients(weights, seed=0, steps=5, replicas=2)   # [step][replica][name]

Gradients are made up, not computed: an update law does not care.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.adapter import Arrays
from lossary.models.parameters import is_excluded

__all__ = ["LARGE_PARAMETER", "ZERO_PARAMETER", "probe_gradients", "probe_weights"]

ZERO_PARAMETER = "sop_classifier.classifier.weight"  # its norm is 0 at the start: LAMB's ratio is 1 there
LARGE_PARAMETER = "albert.encoder.embedding_hidden_mapping_in.weight"  # LAMB's ratio is above 10 there
_NORMS = (0.6, 4.0, 0.3, 40.0, 1.6, 0.8)  # of the gradients by step, in units of the bound of clipping
_SMALLEST, _LARGEST = -9.0, -1.0  # powers of ten between which the elements of each parameter are spread


def probe_weights(parameters: Arrays, *, seed: int) -> Arrays:
    """Weights in the form of others, where decay shows: biases and layer normalisation moved off their start.

    One matrix is 0, and one so large that trust ratios held below 10 show. The standard deviation of the others goes
    from 0.02 to 0.6: decay of a weight shows against the rounding of its step in proportion to its size.
    """
    rng = np.random.default_rng([seed, 1])
    made: Arrays = {}
    for name, value in parameters.items():
        noise = rng.standard_normal(np.shape(value))
        if name == ZERO_PARAMETER:
            made[name] = np.zeros(np.shape(value), np.float32)
        elif is_excluded(name):
            made[name] = (value + 0.2 * noise).astype(np.float32)
        else:
            scale = 50.0 if name == LARGE_PARAMETER else 0.02 * 30.0 ** rng.uniform()
            made[name] = (scale * noise).astype(np.float32)
    return made


def probe_gradients(
    parameters: Mapping[str, NDArray[Any]], *, seed: int, steps: int, replicas: int = 1, bound: float = 1.0
) -> list[list[Arrays]]:
    """Gradients by step and replica, float32.

    The elements of every parameter are spread from 1e-9 to 1e-1, so that ε of any usual size and place matters in
    some, but for one element, so that clipping by value bites: these carry half of the squared norm, and set the norms
    of parameters apart, the smallest parameter's first. The global norm is below the bound of clipping in some steps
    and above in others; replicas differ, in norm about threefold, so that with two of them clipping before averaging
    is another law.
    """
    rng = np.random.default_rng([seed, 2])
    names = list(parameters)
    sizes = [int(np.size(parameters[name])) for name in names]
    spread = 10.0 ** rng.uniform(_SMALLEST, _LARGEST, sum(sizes))
    ends = np.cumsum(sizes)[:-1]
    outliers = np.concatenate([[0], ends]) + rng.integers(0, sizes)
    heights = np.geomspace(3.0, 0.3, len(outliers))[np.argsort(np.argsort(sizes, kind="stable"))]
    heights /= np.linalg.norm(heights)
    made: list[list[Arrays]] = []
    for step in range(steps):
        target = bound * _NORMS[step % len(_NORMS)]
        shared = spread * rng.standard_normal(len(spread))
        shared[outliers] = np.linalg.norm(shared) * heights * rng.choice([-1, 1], len(outliers))
        parts = [
            shared * (3.0**replica) + 0.5 * spread * rng.standard_normal(len(spread)) for replica in range(replicas)
        ]
        scale = target / np.linalg.norm(np.mean(parts, axis=0))
        made.append([_named(scale * part, names, ends, parameters) for part in parts])
    return made


def _named(flat: NDArray[Any], names: list[str], ends: NDArray[Any], like: Mapping[str, NDArray[Any]]) -> Arrays:
    parts = zip(names, np.split(flat, ends), strict=True)
    return {name: part.reshape(np.shape(like[name])).astype(np.float32) for name, part in parts}

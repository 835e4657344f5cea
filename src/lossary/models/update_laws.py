"""The update laws, written down once in float64; every backend computes the same in its own precision.

LAMB is google-research's: the global norm of the gradient is clipped; m and v are not bias corrected;
u = m/(√v + ε) + λ·w; the step is lr·r·u with r = ‖w‖/‖u‖, or 1 where either norm is 0. Biases and layer
normalisation: no decay, r = 1.

AdamW is PyTorch's: bias corrected, ε added after the root of the corrected v; decay lr·λ·w apart from the gradient.

Sources: You et al., LAMB (ICLR 2020); google-research/albert, lamb_optimizer.py; Loshchilov, Hutter, AdamW (ICLR 2019).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lossary.models.parameters import is_excluded
from lossary.study import Optimizer

__all__ = [
    "BiasCorrection",
    "Moments",
    "UpdateLaw",
    "Updated",
    "bias_correction",
    "learning_rate",
    "reference_update",
]

Tensors = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class UpdateLaw:
    """The settings of an update law."""

    name: Literal["lamb", "adamw"]
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0

    @classmethod
    def of(cls, optimizer: Optimizer) -> Self:
        return cls(
            name=optimizer.name,
            beta1=optimizer.beta1,
            beta2=optimizer.beta2,
            epsilon=optimizer.epsilon,
            weight_decay=optimizer.weight_decay,
            clip_norm=optimizer.clip_norm,
        )


class Moments(NamedTuple):
    """First and second moments by parameter name."""

    m: dict[str, NDArray[np.float32]]
    v: dict[str, NDArray[np.float32]]


class Updated(NamedTuple):
    """What an update leads to."""

    parameters: Tensors
    m: Tensors
    v: Tensors
    gradient_norm: float  # before clipping


class BiasCorrection(NamedTuple):
    """What the moments are divided by, as Adam corrects their start at 0; LAMB, as the reference has it, does not."""

    m: float
    v: float


def bias_correction(law: UpdateLaw, step: int) -> BiasCorrection:
    """1 − βᵗ of both moments for the update that leads from `step` to `step + 1`.

    For float64 alone: in float32 the second is wrong by 1e-5 at the first step, since 0.999 is no float32.
    """
    return BiasCorrection(1 - law.beta1 ** (step + 1), 1 - law.beta2 ** (step + 1))


def learning_rate(step: int, optimizer: Optimizer, steps: int) -> float:
    """The rate of the update that leads from `step` to `step + 1`; steps are counted from 0.

    Linear warm-up to the peak, then linear decay to 0 at `steps`, counted from step 0, as the reference has it: the
    rate therefore drops a little where the warm-up ends. Without warm-up the first rate is the peak.
    """
    if step < optimizer.warmup:
        return optimizer.learning_rate * step / optimizer.warmup
    return optimizer.learning_rate * max(0.0, 1.0 - step / steps)


def reference_update(
    law: UpdateLaw, parameters: Tensors, gradients: Tensors, moments: tuple[Tensors, Tensors], *, step: int, rate: float
) -> Updated:
    """One update in float64; `step` counts from 0."""
    norm = float(np.sqrt(sum(float(np.sum(np.square(g))) for g in gradients.values())))
    scale = 1.0 if law.clip_norm is None else law.clip_norm / max(law.clip_norm, norm)
    new, first, second = {}, {}, {}
    for name, w in parameters.items():
        g = gradients[name] * scale
        m = first[name] = law.beta1 * moments[0][name] + (1 - law.beta1) * g
        v = second[name] = law.beta2 * moments[1][name] + (1 - law.beta2) * np.square(g)
        decay = 0.0 if is_excluded(name) else law.weight_decay
        if law.name == "adamw":
            correction = bias_correction(law, step)
            root = np.sqrt(v / correction.v)
            new[name] = w - rate * (m / correction.m / (root + law.epsilon) + decay * w)
        else:
            update = m / (np.sqrt(v) + law.epsilon) + decay * w
            ratio = 1.0
            w_norm, u_norm = float(np.linalg.norm(w)), float(np.linalg.norm(update))
            if not is_excluded(name) and w_norm > 0 and u_norm > 0:
                ratio = w_norm / u_norm
            new[name] = w - rate * ratio * update
    return Updated(new, first, second, norm)

"""Update laws that take the same steps: settings that only move together are one fault, not two.

    for other in same_laws(settings, declared, evidence): ...    # as `settings` on this evidence, told otherwise

Gradients, the bound of clipping and ε times one factor leave a step of Adam or LAMB as it was; where every step is
clipped the size of gradients shows nowhere, and bound and ε alone do. Of such laws the one with the fewest faults is
told, and where two have as few, that they are the same here.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lossary.diagnosis.laws.update_evidence import Evidence
from lossary.diagnosis.laws.update_moves import LOSS_SCALES
from lossary.diagnosis.laws.update_space import LawSettings, changed

__all__ = ["is_loss_scale", "is_usual", "rescaled", "same_laws"]

_DIVIDED_BY_ROOTS = ("adam", "lamb", "adagrad")


def rescaled(s: LawSettings, factor: float) -> LawSettings:
    """The law with gradients `factor` times as large and all that is held against them: the same steps."""
    bound = s.bound if s.clip == "none" else s.bound * factor
    scaled = replace(s, gradient_scale=s.gradient_scale * factor, bound=bound)
    if s.family in _DIVIDED_BY_ROOTS:
        power = 2 if s.epsilon_at == "inside" else 1
        decay = s.decay * factor if s.decay_at == "gradient" else s.decay
        return replace(scaled, epsilon=s.epsilon * factor**power, decay=decay)
    decay = s.decay if s.decay_at == "unscaled" else s.decay * factor
    return replace(scaled, rate_scale=s.rate_scale / factor, decay=decay)


def same_laws(s: LawSettings, declared: LawSettings, evidence: Evidence) -> Iterator[LawSettings]:
    """Other settings that take the same steps, in each of which one more of them is as declared."""
    for factor in _factors(s, declared):
        other = rescaled(s, factor)
        yield _exact(other, declared)
        if evidence.all_clipped(s):
            plain = replace(other, gradient_scale=declared.gradient_scale)
            if not evidence.all_clipped(plain):
                plain = replace(plain, clip="always" if plain.clip == "global" else plain.clip)
            yield _exact(plain, declared)


def _factors(s: LawSettings, declared: LawSettings) -> list[float]:
    """What brings gradients, bound, ε or the rate to what is declared."""
    found = [1.0, declared.gradient_scale / s.gradient_scale]
    if s.clip != "none":
        found.append(declared.bound / s.bound)
    if s.family in _DIVIDED_BY_ROOTS and s.epsilon > 0 and declared.epsilon > 0:
        ratio = declared.epsilon / s.epsilon
        found.append(float(np.sqrt(ratio)) if s.epsilon_at == "inside" else ratio)
    elif s.family not in _DIVIDED_BY_ROOTS and s.rate_scale and declared.rate_scale:
        found.append(s.rate_scale / declared.rate_scale)
    return [factor for factor in found if np.isfinite(factor) and factor > 0]


def _exact(s: LawSettings, declared: LawSettings) -> LawSettings:
    """With what is as declared but for rounding as declared."""
    for name in ("gradient_scale", "bound", "epsilon", "decay", "rate_scale"):
        if np.isclose(getattr(s, name), getattr(declared, name), rtol=1e-9, atol=0.0):
            s = changed(s, {name: getattr(declared, name)})
    return s


def is_loss_scale(factor: float) -> bool:
    """Whether a factor is one by which mixed precision multiplies the loss."""
    return any(np.isclose(factor, scale, rtol=1e-6) for scale in LOSS_SCALES)


def is_usual(factor: float, replicas: int) -> bool:
    """Whether code is known to multiply gradients by it, or to divide them."""
    return any(is_loss_scale(f) or (replicas > 1 and np.isclose(f, replicas)) for f in (factor, 1 / factor))

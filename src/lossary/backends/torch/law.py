"""The update laws of `lossary.models.update_laws` on lists of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lossary.models.update_laws import UpdateLaw, bias_correction

__all__ = ["LawState", "global_norm", "update"]

Tensors = list[torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class LawState:
    """Parameters, their moments, and which of them take part in decay and adaptation."""

    parameters: Tensors
    m: Tensors
    v: Tensors
    adapted: Sequence[bool]


def global_norm(gradients: Tensors) -> torch.Tensor:
    """The norm of all gradients together."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


@torch.no_grad()  # type: ignore[untyped-decorator]
def update(law: UpdateLaw, state: LawState, gradients: Tensors, *, step: int, rate: float) -> torch.Tensor:
    """One update in place; returns the gradients' norm before clipping. `step` counts from 0."""
    norm = global_norm(gradients)
    if law.clip_norm is not None:
        torch._foreach_mul_(gradients, law.clip_norm / torch.clamp(norm, min=law.clip_norm))
    torch._foreach_mul_(state.m, law.beta1)
    torch._foreach_add_(state.m, gradients, alpha=1 - law.beta1)
    torch._foreach_mul_(state.v, law.beta2)
    torch._foreach_addcmul_(state.v, gradients, gradients, 1 - law.beta2)
    (_lamb if law.name == "lamb" else _adamw)(law, state, step, rate)
    return norm


def _adamw(law: UpdateLaw, state: LawState, step: int, rate: float) -> None:
    correction = bias_correction(law, step)
    root = torch._foreach_sqrt(state.v)
    torch._foreach_div_(root, correction.v**0.5)
    torch._foreach_add_(root, law.epsilon)
    decayed = [p for p, adapted in zip(state.parameters, state.adapted, strict=True) if adapted]
    torch._foreach_mul_(decayed, 1 - rate * law.weight_decay)
    torch._foreach_addcdiv_(state.parameters, state.m, root, -rate / correction.m)


def _lamb(law: UpdateLaw, state: LawState, step: int, rate: float) -> None:
    del step  # Not bias corrected.
    root = torch._foreach_sqrt(state.v)
    torch._foreach_add_(root, law.epsilon)
    updates = torch._foreach_div(state.m, root)
    adapted = [i for i, takes_part in enumerate(state.adapted) if takes_part]
    weights, changes = [state.parameters[i] for i in adapted], [updates[i] for i in adapted]
    torch._foreach_add_(changes, weights, alpha=law.weight_decay)
    norms = zip(torch._foreach_norm(weights), torch._foreach_norm(changes), strict=True)
    ratios = [torch.where((w > 0) & (u > 0), w / u, torch.ones_like(w)) for w, u in norms]
    torch._foreach_mul_(changes, ratios)
    torch._foreach_add_(state.parameters, updates, alpha=-rate)

"""The update laws of `lossary.models.update_laws` on lists of Keras tensors, without side effects."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from lossary.models.update_laws import UpdateLaw

__all__ = ["LawState", "update"]


class LawState(NamedTuple):
    """Parameters and their moments."""

    parameters: list[Any]
    m: list[Any]
    v: list[Any]


def update(
    law: UpdateLaw, state: LawState, gradients: list[Any], *, adapted: Sequence[bool], correction: Any, rate: Any
) -> tuple[LawState, Any]:
    """The state after one update and the gradients' norm before clipping.

    `correction` is that of `bias_correction`, computed by the caller in float64.
    """
    norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in gradients))
    if law.clip_norm is not None:
        scale = law.clip_norm / ops.maximum(norm, law.clip_norm)
        gradients = [g * scale for g in gradients]
    m = [law.beta1 * old + (1 - law.beta1) * g for old, g in zip(state.m, gradients, strict=True)]
    v = [law.beta2 * old + (1 - law.beta2) * ops.square(g) for old, g in zip(state.v, gradients, strict=True)]
    change = _lamb if law.name == "lamb" else _adamw
    rows = zip(state.parameters, m, v, adapted, strict=True)
    return LawState([change(law, *row, correction, rate) for row in rows], m, v), norm


def _adamw(law: UpdateLaw, w: Any, m: Any, v: Any, adapted: bool, correction: Any, rate: Any) -> Any:
    root = ops.sqrt(v / correction[1])
    decay = law.weight_decay if adapted else 0.0
    return w - rate * (m / correction[0] / (root + law.epsilon) + decay * w)


def _lamb(law: UpdateLaw, w: Any, m: Any, v: Any, adapted: bool, correction: Any, rate: Any) -> Any:
    del correction  # Not bias corrected.
    change = m / (ops.sqrt(v) + law.epsilon)
    if not adapted:
        return w - rate * change
    change = change + law.weight_decay * w
    w_norm, u_norm = ops.sqrt(ops.sum(ops.square(w))), ops.sqrt(ops.sum(ops.square(change)))
    defined = ops.logical_and(w_norm > 0, u_norm > 0)
    ratio = ops.where(defined, w_norm / ops.where(defined, u_norm, 1.0), 1.0)
    return w - rate * ratio * change

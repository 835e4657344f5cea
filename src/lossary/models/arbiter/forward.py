"""ALBERT's outputs in NumPy, whole or one stage at a time from given inputs.

    outputs = forward(parameters, Architecture.of(shape), feed)
    outputs.mlm, outputs.sop                                     # (B, P, V), (B, 2), float64
    layer(parameters, architecture, hidden, feed.attention_mask) # what one layer makes of a side's own hidden states

Source: Lan et al., ALBERT (ICLR 2020); the layout of parameters is Hugging Face's `AlbertForPreTraining`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.models.arbiter.architecture import Architecture, ModelInputs
from lossary.models.arbiter.arithmetic import Arithmetic, Array, Precision, as_arithmetic
from lossary.models.arbiter.machine import Machine, Value
from lossary.models.arbiter.stages import Stages, Weights

__all__ = [
    "Dropout",
    "Outputs",
    "attention",
    "chain",
    "embeddings",
    "feedforward",
    "forward",
    "layer",
    "mapped",
    "mlm_hidden",
    "mlm_logits_from_hidden",
    "pooled",
    "quietly",
    "sop_logits",
]

Tensors = Mapping[str, NDArray[Any]]


class Dropout(NamedTuple):
    """One rate everywhere that BERT's code drops: embeddings, attention shares, and what both halves of a layer add."""

    rate: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a forward pass gives."""

    mlm: Array  # (B, P, V) at the positions, or (B, T, V)
    sop: Array  # (B, 2)
    # embeddings (B, T, E), mapped (B, T, H), layer.K.attention and layer.K (B, T, H), pooled (B, H),
    # mlm_hidden (B, P, E) or (B, T, E)
    activations: dict[str, Array] = field(default_factory=dict)


def forward(
    parameters: Tensors,
    architecture: Architecture,
    feed: ModelInputs,
    *,
    precision: Precision | Arithmetic = "float64",
    positions: Literal["targets", "all"] = "targets",
    activations: bool = False,
    dropout: Dropout | None = None,
) -> Outputs:
    """Logits at the feed's positions, or at all tokens; intermediate results, where wanted.

    Arrays are float64, or float32 with any lower precision. A low precision that overflows or divides by zero gives
    infinities and NaN, as it does elsewhere.
    """
    arithmetic = as_arithmetic(precision)
    drops = None if dropout is None else (dropout.rate, np.random.default_rng(dropout.seed))
    machine = Machine(arithmetic, dropout=drops)
    with quietly(arithmetic):
        values = chain(Weights(parameters, machine), architecture, feed, positions=positions, activations=activations)
    mlm, sop = values.pop("mlm").array, values.pop("sop").array
    return Outputs(mlm=mlm, sop=sop, activations={name: value.array for name, value in values.items()})


def chain(
    weights: Weights,
    architecture: Architecture,
    feed: ModelInputs,
    *,
    positions: Literal["targets", "all"] = "targets",
    activations: bool = False,
) -> dict[str, Value]:
    """All stages in order: `mlm`, `sop` and, where wanted, what lies between."""
    stages, kept = Stages(weights, architecture), {}
    x = stages.embeddings(feed)
    kept["embeddings"] = x
    x = stages.mapped(x)
    kept["mapped"] = x
    for number in range(architecture.num_layers):
        middle = stages.attention(x, feed.attention_mask)
        x = stages.feedforward(middle)
        if activations:
            kept |= {f"layer.{number}.attention": middle, f"layer.{number}": x}
    kept["pooled"] = stages.pooled(x, feed.attention_mask)
    if positions == "targets":
        x = weights.machine.take(x, np.asarray(feed.positions))
    kept["mlm_hidden"] = stages.mlm_hidden(x)
    if not activations:
        kept = {name: kept[name] for name in ("pooled", "mlm_hidden")}
    result = {"mlm": stages.mlm(kept["mlm_hidden"]), "sop": stages.sop(kept["pooled"])}
    return result | (kept if activations else {})


def quietly(arithmetic: Arithmetic) -> AbstractContextManager[Any]:
    """Low precision may overflow, and says so by its results."""
    return np.errstate(all="ignore") if arithmetic.precision not in ("float64", "float32") else np.errstate()


def _stage(
    parameters: Tensors,
    architecture: Architecture,
    precision: Precision | Arithmetic,
    compute: Callable[[Stages, Machine], Value],
) -> Array:
    arithmetic = as_arithmetic(precision)
    machine = Machine(arithmetic)
    with quietly(arithmetic):
        return compute(Stages(Weights(parameters, machine), architecture), machine).array


def embeddings(
    parameters: Tensors, architecture: Architecture, feed: ModelInputs, *, precision: Precision | Arithmetic = "float64"
) -> Array:
    """(B, T, E), normalised."""
    return _stage(parameters, architecture, precision, lambda s, _: s.embeddings(feed))


def mapped(
    parameters: Tensors,
    architecture: Architecture,
    embedded: NDArray[Any],
    *,
    precision: Precision | Arithmetic = "float64",
) -> Array:
    """(B, T, E) → (B, T, H)"""
    return _stage(parameters, architecture, precision, lambda s, m: s.mapped(m.leaf(embedded)))


def attention(
    parameters: Tensors,
    architecture: Architecture,
    hidden: NDArray[Any],
    attention_mask: NDArray[Any],
    *,
    precision: Precision | Arithmetic = "float64",
) -> Array:
    """The first half of a layer, its normalisation included: (B, T, H) → (B, T, H)."""
    return _stage(parameters, architecture, precision, lambda s, m: s.attention(m.leaf(hidden), attention_mask))


def feedforward(
    parameters: Tensors,
    architecture: Architecture,
    hidden: NDArray[Any],
    *,
    precision: Precision | Arithmetic = "float64",
) -> Array:
    """The second half of a layer, its normalisation included: (B, T, H) → (B, T, H)."""
    return _stage(parameters, architecture, precision, lambda s, m: s.feedforward(m.leaf(hidden)))


def layer(
    parameters: Tensors,
    architecture: Architecture,
    hidden: NDArray[Any],
    attention_mask: NDArray[Any],
    *,
    precision: Precision | Arithmetic = "float64",
) -> Array:
    """A whole layer: (B, T, H) → (B, T, H)."""
    return _stage(parameters, architecture, precision, lambda s, m: s.layer(m.leaf(hidden), attention_mask))


def pooled(
    parameters: Tensors,
    architecture: Architecture,
    hidden: NDArray[Any],
    attention_mask: NDArray[Any],
    *,
    precision: Precision | Arithmetic = "float64",
) -> Array:
    """(B, T, H) → (B, H)"""
    return _stage(parameters, architecture, precision, lambda s, m: s.pooled(m.leaf(hidden), attention_mask))


def mlm_hidden(
    parameters: Tensors,
    architecture: Architecture,
    hidden: NDArray[Any],
    *,
    precision: Precision | Arithmetic = "float64",
) -> Array:
    """Hidden states at the positions wanted (B, P, H) → (B, P, E), normalised."""
    return _stage(parameters, architecture, precision, lambda s, m: s.mlm_hidden(m.leaf(hidden)))


def mlm_logits_from_hidden(
    parameters: Tensors,
    architecture: Architecture,
    hidden: NDArray[Any],
    *,
    precision: Precision | Arithmetic = "float64",
) -> Array:
    """What `mlm_hidden` gave (B, P, E) → (B, P, V)."""
    return _stage(parameters, architecture, precision, lambda s, m: s.mlm(m.leaf(hidden)))


def sop_logits(
    parameters: Tensors,
    architecture: Architecture,
    pooled: NDArray[Any],
    *,
    precision: Precision | Arithmetic = "float64",
) -> Array:
    """(B, H) → (B, 2)"""
    return _stage(parameters, architecture, precision, lambda s, m: s.sop(m.leaf(pooled)))

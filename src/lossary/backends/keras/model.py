"""ALBERT in Keras 3: KerasHub's backbone and MLM head, a dense SOP head; canonical names in and out."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import keras_hub
import numpy as np
from numpy.typing import NDArray

from lossary.models.parameters import LAYER
from lossary.models.shapes import AlbertShape
from lossary.study import Precision

__all__ = ["ENCODER_LAYER", "INPUTS", "Built", "build_albert", "built", "from_keras", "to_keras"]

_OUT_OF_HEADS = ("attention.dense.weight", "attention.output.dense.weight")
INPUTS = ("token_ids", "segment_ids", "padding_mask", "mask_positions")
# Variables of KerasHub's TransformerEncoder: part of the layer, and whether weight or bias of it.
ENCODER_LAYER = {
    f"{path}/{variable}": (part, kind)
    for part, path, variables in (
        ("query", "self_attention_layer/query", ("kernel", "bias")),
        ("key", "self_attention_layer/key", ("kernel", "bias")),
        ("value", "self_attention_layer/value", ("kernel", "bias")),
        ("attention_output", "self_attention_layer/attention_output", ("kernel", "bias")),
        ("attention_norm", "self_attention_layer_norm", ("gamma", "beta")),
        ("intermediate", "feedforward_intermediate_dense", ("kernel", "bias")),
        ("output", "feedforward_output_dense", ("kernel", "bias")),
        ("output_norm", "feedforward_layer_norm", ("gamma", "beta")),
    )
    for variable, kind in zip(variables, ("weight", "bias"), strict=True)
}
_LAYER = {
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "attention_output": "attention.dense",
    "attention_norm": "attention.LayerNorm",
    "intermediate": "ffn",
    "output": "ffn_output",
    "output_norm": "full_layer_layer_norm",
}
# Keras path of every variable, without the model's prefix → canonical name.
_CANONICAL = {
    "token_embedding/embeddings": "albert.embeddings.word_embeddings.weight",
    "position_embedding/embeddings": "albert.embeddings.position_embeddings.weight",
    "segment_embedding/embeddings": "albert.embeddings.token_type_embeddings.weight",
    "embeddings_layer_norm/gamma": "albert.embeddings.LayerNorm.weight",
    "embeddings_layer_norm/beta": "albert.embeddings.LayerNorm.bias",
    "embedding_projection/kernel": "albert.encoder.embedding_hidden_mapping_in.weight",
    "embedding_projection/bias": "albert.encoder.embedding_hidden_mapping_in.bias",
    "pooled_dense/kernel": "albert.pooler.weight",
    "pooled_dense/bias": "albert.pooler.bias",
    "mlm_head/intermediate_dense/kernel": "predictions.dense.weight",
    "mlm_head/intermediate_dense/bias": "predictions.dense.bias",
    "mlm_head/intermediate_layer_norm/gamma": "predictions.LayerNorm.weight",
    "mlm_head/intermediate_layer_norm/beta": "predictions.LayerNorm.bias",
    "mlm_head/output_bias": "predictions.bias",
    "sop_head/kernel": "sop_classifier.classifier.weight",
    "sop_head/bias": "sop_classifier.classifier.bias",
} | {f"group_0_inner_layer_0/{path}": f"{LAYER}.{_LAYER[part]}.{kind}" for path, (part, kind) in ENCODER_LAYER.items()}


class Built(NamedTuple):
    """A Keras model of `INPUTS`, and by trainable variable, in the model's order: its canonical name and shape."""

    model: keras.Model
    names: list[str]
    sizes: list[tuple[int, ...]]


def built(model: keras.Model, canonical: Mapping[str, str]) -> Built:
    """A model with the canonical names of its variables, by the ends of their paths."""
    names = []
    for variable in model.trainable_variables:
        matches = [path for path in canonical if f"/{variable.path}".endswith(f"/{path}")]
        if len(matches) != 1:
            raise AssertionError(f"KerasHub's variable {variable.path} has no canonical name")
        names.append(canonical[matches[0]])
    if sorted(names) != sorted(canonical.values()):
        raise AssertionError(f"KerasHub lacks {sorted(set(canonical.values()) - set(names))}")
    sizes = [_size(name, tuple(v.shape)) for name, v in zip(names, model.trainable_variables, strict=True)]
    return Built(model, names, sizes)


def build_albert(shape: AlbertShape, precision: Precision) -> Built:
    """Inputs `INPUTS` → MLM logits (B, P, V) at the positions, SOP logits (B, 2), both float32."""
    policy = "mixed_bfloat16" if precision == "bf16" else "float32"
    backbone = keras_hub.models.AlbertBackbone(
        vocabulary_size=shape.vocabulary_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        hidden_dim=shape.hidden_size,
        intermediate_dim=shape.intermediate_size,
        embedding_dim=shape.embedding_size,
        max_sequence_length=shape.max_positions,
        dropout=0.0,
        dtype=policy,
    )
    positions = keras.Input((None,), dtype="int32", name="mask_positions")
    outputs = backbone.output
    mlm = keras_hub.layers.MaskedLMHead(
        token_embedding=backbone.token_embedding,
        intermediate_activation=lambda x: keras.activations.gelu(x, approximate=True),
        layer_norm_epsilon=shape.layer_norm_epsilon,
        dtype=policy,
        name="mlm_head",
    )(outputs["sequence_output"], positions)
    sop = keras.layers.Dense(2, dtype=policy, name="sop_head")(outputs["pooled_output"])
    model = keras.Model(
        {**backbone.input, "mask_positions": positions},
        {"mlm": keras.ops.cast(mlm, "float32"), "sop": keras.ops.cast(sop, "float32")},
    )
    return built(model, _CANONICAL)


def _size(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The canonical shape of a Keras variable: attention's kernels are split by head, on their way in or out."""
    if not _is_kernel(name):
        return shape if name.endswith("embeddings.weight") else (math.prod(shape),)
    inner = math.prod(shape[:-1]) if name.endswith(_OUT_OF_HEADS) else shape[0]
    return math.prod(shape) // inner, inner


def to_keras(name: str, value: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """A canonical tensor in the shape of its Keras variable: kernels are transposed, attention's split by head."""
    return (value.T if _is_kernel(name) else value).reshape(size)


def from_keras(name: str, value: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    """The inverse of `to_keras`; `size` is the canonical shape."""
    if _is_kernel(name):
        return np.ascontiguousarray(value.reshape(size[::-1]).T, np.float32)
    return np.ascontiguousarray(value.reshape(size), np.float32)


def _is_kernel(name: str) -> bool:
    return (
        name.endswith(".weight") and "embeddings.weight" not in name and "LayerNorm" not in name and "norm" not in name
    )

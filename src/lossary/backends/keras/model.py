"""ALBERT in Keras 3: KerasHub's backbone and MLM head, a dense SOP head; canonical names in and out."""

from typing import Any

import keras
import keras_hub
import numpy as np
from numpy.typing import NDArray

from lossary.models.parameters import LAYER
from lossary.models.shapes import AlbertShape
from lossary.study import Precision

__all__ = ["INPUTS", "build_model", "from_keras", "to_keras"]

INPUTS = ("token_ids", "segment_ids", "padding_mask", "mask_positions")
_ENCODER = "group_0_inner_layer_0"
# Keras path of every variable, without the model's prefix → canonical name.
_CANONICAL = {
    "token_embedding/embeddings": "albert.embeddings.word_embeddings.weight",
    "position_embedding/embeddings": "albert.embeddings.position_embeddings.weight",
    "segment_embedding/embeddings": "albert.embeddings.token_type_embeddings.weight",
    "embeddings_layer_norm/gamma": "albert.embeddings.LayerNorm.weight",
    "embeddings_layer_norm/beta": "albert.embeddings.LayerNorm.bias",
    "embedding_projection/kernel": "albert.encoder.embedding_hidden_mapping_in.weight",
    "embedding_projection/bias": "albert.encoder.embedding_hidden_mapping_in.bias",
    f"{_ENCODER}/self_attention_layer/query/kernel": f"{LAYER}.attention.query.weight",
    f"{_ENCODER}/self_attention_layer/query/bias": f"{LAYER}.attention.query.bias",
    f"{_ENCODER}/self_attention_layer/key/kernel": f"{LAYER}.attention.key.weight",
    f"{_ENCODER}/self_attention_layer/key/bias": f"{LAYER}.attention.key.bias",
    f"{_ENCODER}/self_attention_layer/value/kernel": f"{LAYER}.attention.value.weight",
    f"{_ENCODER}/self_attention_layer/value/bias": f"{LAYER}.attention.value.bias",
    f"{_ENCODER}/self_attention_layer/attention_output/kernel": f"{LAYER}.attention.dense.weight",
    f"{_ENCODER}/self_attention_layer/attention_output/bias": f"{LAYER}.attention.dense.bias",
    f"{_ENCODER}/self_attention_layer_norm/gamma": f"{LAYER}.attention.LayerNorm.weight",
    f"{_ENCODER}/self_attention_layer_norm/beta": f"{LAYER}.attention.LayerNorm.bias",
    f"{_ENCODER}/feedforward_layer_norm/gamma": f"{LAYER}.full_layer_layer_norm.weight",
    f"{_ENCODER}/feedforward_layer_norm/beta": f"{LAYER}.full_layer_layer_norm.bias",
    f"{_ENCODER}/feedforward_intermediate_dense/kernel": f"{LAYER}.ffn.weight",
    f"{_ENCODER}/feedforward_intermediate_dense/bias": f"{LAYER}.ffn.bias",
    f"{_ENCODER}/feedforward_output_dense/kernel": f"{LAYER}.ffn_output.weight",
    f"{_ENCODER}/feedforward_output_dense/bias": f"{LAYER}.ffn_output.bias",
    "pooled_dense/kernel": "albert.pooler.weight",
    "pooled_dense/bias": "albert.pooler.bias",
    "mlm_head/intermediate_dense/kernel": "predictions.dense.weight",
    "mlm_head/intermediate_dense/bias": "predictions.dense.bias",
    "mlm_head/intermediate_layer_norm/gamma": "predictions.LayerNorm.weight",
    "mlm_head/intermediate_layer_norm/beta": "predictions.LayerNorm.bias",
    "mlm_head/output_bias": "predictions.bias",
    "sop_head/kernel": "sop_classifier.classifier.weight",
    "sop_head/bias": "sop_classifier.classifier.bias",
}


def build_model(shape: AlbertShape, precision: Precision) -> keras.Model:
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
    return keras.Model(
        {**backbone.input, "mask_positions": positions},
        {"mlm": keras.ops.cast(mlm, "float32"), "sop": keras.ops.cast(sop, "float32")},
    )


def canonical_names(model: keras.Model) -> list[str]:
    """The canonical name of each trainable variable, in the model's order."""
    names = []
    for variable in model.trainable_variables:
        matches = [
            name for path, name in _CANONICAL.items() if variable.path.endswith(path) and _whole(variable.path, path)
        ]
        if len(matches) != 1:
            raise AssertionError(f"KerasHub's variable {variable.path} has no canonical name")
        names += matches
    if sorted(names) != sorted(_CANONICAL.values()):
        raise AssertionError(f"KerasHub lacks {sorted(set(_CANONICAL.values()) - set(names))}")
    return names


def _whole(path: str, end: str) -> bool:
    return path == end or path[: -len(end)].endswith("/")


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

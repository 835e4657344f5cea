"""BERT and RoBERTa of transformers' configurations in Keras 3, made of KerasHub's layers; by MLM alone.

The layers are those of `keras_hub.models.BertMaskedLM` and `RobertaMaskedLM`, which fix what transformers leaves open:
the activation, epsilon, where positions begin, and whether a RoBERTa has token types.
"""

from functools import partial
from typing import Any

import keras
import keras_hub
from keras import ops

from lossary.backends.keras.model import ENCODER_LAYER, Built, built
from lossary.errors import StudyError
from lossary.families import lacking_on_keras
from lossary.models.architectures import EncoderShape
from lossary.study import Precision

__all__ = ["build_encoder"]

_TANH = partial(keras.activations.gelu, approximate=True)
_EXACT = partial(keras.activations.gelu, approximate=False)
_ACTIVATIONS = {"gelu": _EXACT, "gelu_new": _TANH, "gelu_pytorch_tanh": _TANH, "relu": keras.activations.relu}
# Inside a layer of the encoder: KerasHub's names to transformers'.
_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
_HEADS = {
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
}


def build_encoder(shape: EncoderShape, precision: Precision) -> Built:
    """As `build_albert`; SOP logits are zeros. StudyError where KerasHub's layers do not make such a model."""
    lacking = lacking_on_keras(shape.family, shape.config)
    if lacking is not None:
        raise StudyError(lacking)
    config = shape.config
    policy = "mixed_bfloat16" if precision == "bf16" else "float32"
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask", "mask_positions")
    }
    tokens = keras.layers.ReversibleEmbedding(
        config["vocab_size"], config["hidden_size"], dtype=policy, name="token_embedding"
    )
    hidden = _embedded(shape, tokens, inputs, policy)
    activation = _ACTIVATIONS[config["hidden_act"]]
    for number in range(config["num_hidden_layers"]):
        hidden = keras_hub.layers.TransformerEncoder(
            intermediate_dim=config["intermediate_size"],
            num_heads=config["num_attention_heads"],
            activation=activation,
            layer_norm_epsilon=config["layer_norm_eps"],
            dtype=policy,
            name=f"transformer_layer_{number}",
        )(hidden, padding_mask=inputs["padding_mask"])
    mlm = keras_hub.layers.MaskedLMHead(
        token_embedding=tokens,
        # RoBERTa's head has its own, whatever the layers have.
        intermediate_activation=_EXACT if shape.family == "roberta" else activation,
        layer_norm_epsilon=config["layer_norm_eps"],
        dtype=policy,
        name="mlm_head",
    )(hidden, inputs["mask_positions"])
    sop = ops.zeros_like(hidden[:, 0, :2], dtype="float32")
    model = keras.Model(inputs, {"mlm": ops.cast(mlm, "float32"), "sop": sop})
    return built(model, _canonical(shape))


def _embedded(shape: EncoderShape, tokens: Any, inputs: dict[str, Any], policy: str) -> Any:
    """Pieces, positions and token types, normalised."""
    config = shape.config
    places = ops.maximum(ops.cumsum(inputs["padding_mask"], axis=1) - 1, 0)
    if shape.family == "roberta":
        # It counts what is not the pad piece, from behind that piece's id, which is the pad piece's own position.
        pad = config["pad_token_id"]
        counted = inputs["padding_mask"] * ops.cast(inputs["token_ids"] != pad, "int32")
        places = ops.cumsum(counted, axis=1) * counted + pad
    types = inputs["segment_ids"] if config["type_vocab_size"] > 1 else ops.zeros_like(inputs["segment_ids"])
    parts = [tokens(inputs["token_ids"])]
    for name, count, ids in (
        ("position_embedding", config["max_position_embeddings"], places),
        ("segment_embedding", config["type_vocab_size"], types),
    ):
        parts.append(keras.layers.Embedding(count, config["hidden_size"], dtype=policy, name=name)(ids))
    norm = keras.layers.LayerNormalization(epsilon=config["layer_norm_eps"], dtype=policy, name="embeddings_layer_norm")
    return norm(keras.layers.Add(dtype=policy, name="embeddings_add")(parts))


def _canonical(shape: EncoderShape) -> dict[str, str]:
    """Keras path of every variable → transformers' name."""
    embeddings = f"{shape.family}.embeddings"
    dense, norm, bias = _HEADS[shape.family]
    found = {
        "token_embedding/embeddings": f"{embeddings}.word_embeddings.weight",
        "position_embedding/embeddings": f"{embeddings}.position_embeddings.weight",
        "segment_embedding/embeddings": f"{embeddings}.token_type_embeddings.weight",
        "embeddings_layer_norm/gamma": f"{embeddings}.LayerNorm.weight",
        "embeddings_layer_norm/beta": f"{embeddings}.LayerNorm.bias",
        "mlm_head/intermediate_dense/kernel": f"{dense}.weight",
        "mlm_head/intermediate_dense/bias": f"{dense}.bias",
        "mlm_head/intermediate_layer_norm/gamma": f"{norm}.weight",
        "mlm_head/intermediate_layer_norm/beta": f"{norm}.bias",
        "mlm_head/output_bias": bias,
    }
    for number in range(shape.config["num_hidden_layers"]):
        for path, (part, kind) in ENCODER_LAYER.items():
            name = f"{shape.family}.encoder.layer.{number}.{_LAYER[part]}.{kind}"
            found[f"transformer_layer_{number}/{path}"] = name
    return found

"""The canonical parameter table: names and shapes of Hugging Face's `AlbertForPreTraining`, in a fixed order.

Weights, gradients and moments are stored under these names whatever backend made them. `predictions.decoder.*` is tied
to the word embeddings and `predictions.bias` and is not stored.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.philox import stream_key, uniforms
from lossary.models.shapes import AlbertShape

__all__ = [
    "LAYER",
    "Parameters",
    "hf_config",
    "initial_parameters",
    "is_excluded",
    "parameter_table",
    "shape_from_config",
]

Parameters = dict[str, NDArray[np.float32]]
LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"
_VALUES_A_DRAW = 1 << 16


def parameter_table(shape: AlbertShape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter."""
    v, e, h, i = shape.vocabulary_size, shape.embedding_size, shape.hidden_size, shape.intermediate_size
    table: dict[str, tuple[int, ...]] = {
        "albert.embeddings.word_embeddings.weight": (v, e),
        "albert.embeddings.position_embeddings.weight": (shape.max_positions, e),
        "albert.embeddings.token_type_embeddings.weight": (2, e),
        "albert.embeddings.LayerNorm.weight": (e,),
        "albert.embeddings.LayerNorm.bias": (e,),
        "albert.encoder.embedding_hidden_mapping_in.weight": (h, e),
        "albert.encoder.embedding_hidden_mapping_in.bias": (h,),
    }
    for name in ("query", "key", "value", "dense"):
        table |= {f"{LAYER}.attention.{name}.weight": (h, h), f"{LAYER}.attention.{name}.bias": (h,)}
    for name in ("attention.LayerNorm", "full_layer_layer_norm"):
        table |= {f"{LAYER}.{name}.weight": (h,), f"{LAYER}.{name}.bias": (h,)}
    return table | {
        f"{LAYER}.ffn.weight": (i, h),
        f"{LAYER}.ffn.bias": (i,),
        f"{LAYER}.ffn_output.weight": (h, i),
        f"{LAYER}.ffn_output.bias": (h,),
        "albert.pooler.weight": (h, h),
        "albert.pooler.bias": (h,),
        "predictions.dense.weight": (e, h),
        "predictions.dense.bias": (e,),
        "predictions.LayerNorm.weight": (e,),
        "predictions.LayerNorm.bias": (e,),
        "predictions.bias": (v,),
        "sop_classifier.classifier.weight": (2, h),
        "sop_classifier.classifier.bias": (2,),
    }


def is_excluded(name: str) -> bool:
    """Whether a parameter takes part in neither weight decay nor LAMB's adaptation: biases and layer normalisation."""
    return name.endswith(".bias") or "LayerNorm" in name or "layer_norm" in name


def initial_parameters(shape: AlbertShape, seed: int) -> Parameters:
    """Initial weights: normal, truncated at two standard deviations; biases 0, layer normalisation 1.

    Every tensor has random numbers of its own, keyed by its name, so that sizes that share a shape share its values.
    """
    return {name: _initial(name, size, shape.initializer_range, seed) for name, size in parameter_table(shape).items()}


def _initial(name: str, size: tuple[int, ...], scale: float, seed: int) -> NDArray[np.float32]:
    if name.endswith(".bias"):
        return np.zeros(size, np.float32)
    if is_excluded(name):
        return np.ones(size, np.float32)
    count = int(np.prod(size))
    key = stream_key(seed, "initial", name)
    # Most of who imports this module draws no weights, and waits a fifth of a second less.
    from scipy.special import ndtri

    values = np.empty(count, np.float32)
    low, high = 0.02275013194817921, 0.9772498680518208  # of the normal distribution at -2 and 2
    for block, start in enumerate(range(0, count, _VALUES_A_DRAW)):
        stop = min(start + _VALUES_A_DRAW, count)
        u = uniforms(key, np.array([block], np.uint64), 0, stop - start)[0]
        values[start:stop] = scale * ndtri(low + (high - low) * (u + 2.0**-33))
    return values.reshape(size)


def hf_config(shape: AlbertShape) -> dict[str, Any]:
    """`config.json` with which transformers opens a checkpoint as `AlbertForPreTraining`."""
    return {
        "architectures": ["AlbertForPreTraining"],
        "model_type": "albert",
        "vocab_size": shape.vocabulary_size,
        "embedding_size": shape.embedding_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        "num_attention_heads": shape.num_heads,
        "intermediate_size": shape.intermediate_size,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.0,
        "max_position_embeddings": shape.max_positions,
        "type_vocab_size": 2,
        "initializer_range": shape.initializer_range,
        "layer_norm_eps": shape.layer_norm_epsilon,
        "pad_token_id": shape.pad_id,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def shape_from_config(config: dict[str, Any]) -> AlbertShape:
    """The shape that a `config.json` describes; ValueError says what of it this code does not compute."""
    expected = {"model_type": "albert", "num_hidden_groups": 1, "inner_group_num": 1, "type_vocab_size": 2}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} is {config[key]!r}; {value!r} is expected")
    if config.get("hidden_act", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"):
        raise ValueError(f"hidden_act is {config['hidden_act']!r}; 'gelu_new' is expected")
    epsilon = float(config.get("layer_norm_eps", 1e-12))
    if epsilon != 1e-12:
        raise ValueError(f"layer_norm_eps is {epsilon}; 1e-12 is expected")
    missing = [key for key in ("vocab_size", "hidden_size", "num_hidden_layers") if key not in config]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing")
    pad = config.get("pad_token_id", 0)
    hidden = int(config["hidden_size"])
    return AlbertShape(
        vocabulary_size=int(config["vocab_size"]),
        embedding_size=int(config.get("embedding_size", 128)),
        hidden_size=hidden,
        num_layers=int(config["num_hidden_layers"]),
        num_heads=int(config.get("num_attention_heads", 64)),
        intermediate_size=int(config.get("intermediate_size", 4 * hidden)),
        max_positions=int(config.get("max_position_embeddings", 512)),
        initializer_range=float(config.get("initializer_range", 0.02)),
        pad_id=None if pad is None else int(pad),
    )

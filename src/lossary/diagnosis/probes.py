"""Probes: weights and inputs that make every setting of a model matter.

    parameters = probe_parameters(shape, seed=1, kind="low-variance")
    feed = probe_feed(shape, seed=1, examples=16, length=64)

Initial weights hide much: biases are 0, gains 1, attention is near uniform, so that a bias added twice or another
number of heads changes little or nothing. Here no two numbers are alike and every part carries signal.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lossary.data.philox import stream_key, uniforms
from lossary.data.tokenizer import CLS, MASK, SEP
from lossary.diagnosis.adapter import Feed
from lossary.models.parameters import LAYER, Parameters, parameter_table
from lossary.models.shapes import AlbertShape

__all__ = ["ProbeKind", "probe_feed", "probe_parameters"]

ProbeKind = Literal["plain", "low-variance", "tiny-variance"]
# Standard deviation of what layer normalisation is given: 1; 0.005, so that ε = 1e-6 is 4 % of the variance; and
# 2e-5, whose square pure fp16 rounds to 0.
_SCALES: dict[ProbeKind, float] = {"plain": 1.0, "low-variance": 5e-3, "tiny-variance": 2e-5}
_FIRST_PIECE = 5  # after the special ones
_MASK_RATE = 0.15


def probe_parameters(shape: AlbertShape, seed: int, *, kind: ProbeKind = "plain") -> Parameters:
    """Weights for one forward pass, uniform and of zero mean; gains uniform in [0.5, 1.5]; biases are not zero.

    Each product keeps the size of its input, which leaves attention far from uniform. `low-variance` and
    `tiny-variance` shrink what enters every layer normalisation, and enlarge the weights that read it, so that ε
    shows and nothing else changes its size.
    """
    small = _SCALES[kind]
    return {name: _drawn(name, size, small, seed) for name, size in parameter_table(shape).items()}


def _drawn(name: str, size: tuple[int, ...], small: float, seed: int) -> NDArray[np.float32]:
    count = int(np.prod(size))
    key = stream_key(seed, "probe", name)
    numbers = 2.0 * uniforms(key, np.arange(1, dtype=np.uint64), 0, count)[0] - 1.0
    scale = _scale(name, small)
    if name.endswith(".bias"):
        values = 0.5 * scale * numbers
    elif "LayerNorm" in name or "layer_norm" in name:
        values = scale * (1.0 + 0.5 * numbers)
    elif "embeddings" in name:
        values = scale * numbers  # three of them are added: together of standard deviation 1
    else:
        values = scale * np.sqrt(3.0 / size[1]) * numbers
    return np.asarray(values.reshape(size), np.float32)


def _scale(name: str, small: float) -> float:
    """The factor on a parameter: what makes inputs of layer normalisation small, and what reads them, large."""
    part, kind = name.rsplit(".", 1)
    shrinks = (
        "albert.embeddings.word_embeddings",
        "albert.embeddings.position_embeddings",
        "albert.embeddings.token_type_embeddings",
        "albert.encoder.embedding_hidden_mapping_in",
        f"{LAYER}.attention.dense",
        f"{LAYER}.attention.LayerNorm",
        f"{LAYER}.ffn_output",
        f"{LAYER}.full_layer_layer_norm",
    )
    enlarges = (f"{LAYER}.attention.query", f"{LAYER}.attention.key", f"{LAYER}.attention.value", f"{LAYER}.ffn")
    if part in shrinks or name in ("predictions.dense.bias", "predictions.bias"):
        return small
    if part in (*enlarges, "albert.pooler") and kind == "weight":
        return 1.0 / small
    return 1.0


def probe_feed(shape: AlbertShape, seed: int, *, examples: int = 16, length: int = 64) -> Feed:
    """Random pieces: ragged lengths from a third of `length` on, the first example full; two segments of unequal
    length, every fifth example a single one; masked positions; order labels of both kinds, −1 without a pair."""
    random = np.random.default_rng([seed, examples, length])
    columns = np.arange(length)
    lengths = random.integers(max(6, length // 3), length + 1, examples)
    lengths[0] = length
    alone = np.arange(examples) % 5 == 4
    ends = np.where(alone, lengths - 1, random.integers(2, lengths - 2))  # where the first segment's [SEP] stands
    attended = columns < lengths[:, None]
    tokens = random.integers(_FIRST_PIECE, shape.vocabulary_size, (examples, length))
    ordinary = attended & (columns > 0) & (columns != ends[:, None]) & (columns != lengths[:, None] - 1)
    tokens[~ordinary & attended] = SEP
    tokens[:, 0] = CLS
    tokens[~attended] = 0
    # The masked ones: the lowest random numbers of each row.
    counts = np.maximum(1, np.round(_MASK_RATE * lengths)).astype(np.int64)
    counts = np.minimum(counts, ordinary.sum(axis=1))
    ranks = np.where(ordinary, random.random(tokens.shape), 2.0).argsort(axis=1)
    slots = np.arange(int(counts.max())) < counts[:, None]
    chosen = np.where(slots, ranks[:, : slots.shape[1]], length)
    positions = np.where(slots, np.sort(chosen, axis=1), 0)
    labels = np.where(slots, np.take_along_axis(tokens, positions, axis=1), 0)
    rows, places = np.nonzero(slots)
    hidden = random.random(len(rows)) < 0.8
    tokens[rows[hidden], positions[rows, places][hidden]] = MASK
    return Feed(
        token_ids=tokens.astype(np.int32),
        attention_mask=attended.astype(np.int32),
        segment_ids=((columns > ends[:, None]) & attended).astype(np.int32),
        positions=positions.astype(np.int32),
        labels=labels.astype(np.int32),
        weights=slots.astype(np.float32),
        sop_labels=np.where(alone, -1, np.arange(examples) % 2).astype(np.int8),
        dataset=np.full(examples, -1, np.int16),
    )

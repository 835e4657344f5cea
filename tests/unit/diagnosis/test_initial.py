"""Weights that training begins with: what is declared is left alone, what was forgotten or repeated is named."""

from collections.abc import Callable

import numpy as np
import pytest

from lossary.diagnosis.laws.initial import identify_initial
from lossary.models.parameters import Parameters, initial_parameters, parameter_table
from lossary.models.shapes import AlbertShape

SHAPE = AlbertShape(
    vocabulary_size=400, hidden_size=48, num_layers=2, num_heads=4, intermediate_size=96, embedding_size=24
)
TABLE = parameter_table(SHAPE)
WORDS = "albert.embeddings.word_embeddings.weight"
MATRICES = [name for name, size in TABLE.items() if len(size) > 1]
BIASES = [name for name in TABLE if name.endswith(".bias") and "LayerNorm" not in name and "layer_norm" not in name]
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def healthy(seed: int = 0) -> Parameters:
    return initial_parameters(SHAPE, seed)


def drawn(names: list[str], draw: Draw, seed: int = 1) -> Parameters:
    random = np.random.default_rng(seed)
    return healthy() | {name: draw(random, TABLE[name]).astype(np.float32) for name in names}


def normal(deviation: float) -> Draw:
    return lambda random, size: random.normal(0, deviation, size)


def inputs(random: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return random.uniform(-(size[1] ** -0.5), size[1] ** -0.5, size)


def glorot(random: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return random.uniform(-1, 1, size) * np.sqrt(6 / sum(size))


def torchs() -> Parameters:
    """As nn.Linear and nn.Embedding draw: weights, and biases of layers."""
    random, found = np.random.default_rng(4), healthy()
    for name in MATRICES:
        draw = normal(1.0) if "embeddings." in name else inputs
        found[name] = draw(random, TABLE[name]).astype(np.float32)
    for name in BIASES:
        weight = name.removesuffix("bias") + "weight"
        if weight in TABLE:
            bound = TABLE[weight][1] ** -0.5
            found[name] = random.uniform(-bound, bound, TABLE[name]).astype(np.float32)
    return found


def with_padding_row(weights: Parameters) -> Parameters:
    words = weights[WORDS].copy()
    words[0] = 0
    return weights | {WORDS: words}


@pytest.mark.parametrize(
    "weights",
    [
        *(healthy(seed) for seed in range(12)),
        *(drawn(MATRICES, normal(0.02), seed) for seed in range(12)),
        with_padding_row(drawn(MATRICES, normal(0.02))),
        {name: value.astype(np.float16).astype(np.float32) for name, value in healthy().items()},
    ],
)
def test_what_is_declared_is_left_alone(weights: Parameters) -> None:
    fit, defaults = identify_initial(weights, scale=0.02)
    assert fit.equal, fit.tried
    assert not defaults


@pytest.mark.parametrize(
    "weights", [torchs(), drawn(MATRICES, glorot), drawn([n for n in MATRICES if "embeddings" not in n], glorot)]
)
def test_a_frameworks_default_everywhere_is_told_and_no_alarm(weights: Parameters) -> None:
    random = np.random.default_rng(3)
    embeddings = {n: random.uniform(-0.05, 0.05, TABLE[n]) for n in MATRICES if "embeddings." in n}
    fit, defaults = identify_initial(weights if weights[WORDS].std() > 0.9 else weights | embeddings, scale=0.02)
    assert fit.equal, fit.tried
    assert sum(map(len, defaults.values())) >= len(MATRICES) - 1  # a tensor of few values agrees with either law


KEYS = [name for name in MATRICES if any(f".{part}.weight" in name for part in ("query", "key", "value"))]
PLANTED = [
    (drawn([name for name in MATRICES if "embeddings." in name], normal(1.0)), ["initial-default"]),
    (drawn(KEYS, inputs), ["initial-default"]),
    (drawn(MATRICES, normal(0.05)), ["initial-scale"]),
    # LeCun's deviation is as near as 4 %.
    (drawn([name for name in MATRICES if ".ffn" in name], normal(1.04 * 96**-0.5)), ["initial-scale"]),
    (drawn(["predictions.dense.weight"], normal(0.01)), ["initial-scale"]),
    (drawn(BIASES, lambda random, size: random.uniform(-0.05, 0.05, size)), ["initial-not-constant"]),
    (drawn(KEYS[:1], lambda _, size: np.zeros(size)), ["initial-zero"]),
    (drawn(["albert.embeddings.LayerNorm.weight"], lambda _, size: np.zeros(size)), ["initial-zero"]),
    (drawn(["albert.embeddings.LayerNorm.weight"], lambda _, size: np.full(size, 0.5)), ["initial-constant"]),
    (drawn(KEYS[:1], lambda _, size: np.full(size, np.nan)), ["initial-not-finite"]),
    (healthy() | {KEYS[1]: healthy()[KEYS[0]]}, ["initial-same-draws"]),
    ({name: drawn([name], normal(0.02), 7)[name] for name in TABLE if name in MATRICES}, ["initial-same-draws"]),
]


@pytest.mark.parametrize(("weights", "names"), PLANTED)
def test_what_was_forgotten_or_repeated_is_named(weights: Parameters, names: list[str]) -> None:
    fit, defaults = identify_initial(weights, scale=0.02)
    assert fit.confirmed
    assert fit.best is not None
    assert list(fit.best.names) == names
    assert not defaults


def test_a_law_that_nobody_knows_is_noticed_without_a_name() -> None:
    odd = drawn(KEYS, lambda random, size: random.exponential(0.02, size) * random.choice([1, 1, -0.2], size))
    fit, _ = identify_initial(odd, scale=0.02)
    assert not fit.equal
    assert not fit.confirmed

"""Weights that arrive, and the ways in which they do not."""

from collections.abc import Callable

import numpy as np
import pytest

from lossary.diagnosis.laws.loading import identify_loading

Weights = dict[str, np.ndarray]


def weights(seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    sizes = {"a.weight": (6, 4), "b.weight": (6, 4), "square": (5, 5), "c.bias": (7,), "one": (1,)}
    return {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}


GIVEN = [weights(1), weights(2)]


@pytest.mark.parametrize("seed", range(20))
def test_what_arrives_is_equal(seed: int) -> None:
    given = [weights(seed), weights(seed + 100)]
    fit = identify_loading(given, [{name: value.copy() for name, value in one.items()} for one in given])
    assert fit.equal


def kept(after: Weights, _: int) -> Weights:
    return after | {"a.weight": np.full((6, 4), 0.5, np.float32)}


def random_again(after: Weights, number: int) -> Weights:
    return after | {"a.weight": np.random.default_rng(70 + number).standard_normal((6, 4)).astype(np.float32)}


def transposed(after: Weights, _: int) -> Weights:
    return after | {"square": after["square"].T}


def tied(after: Weights, _: int) -> Weights:
    return after | {"b.weight": after["a.weight"]}


def absent(after: Weights, _: int) -> Weights:
    return {name: value for name, value in after.items() if name != "c.bias"}


@pytest.mark.parametrize(
    ("fault", "name", "which"),
    [
        (kept, "parameters-not-loaded", "a.weight"),
        (random_again, "parameters-not-loaded", "a.weight"),
        (transposed, "parameters-transposed", "square"),
        (tied, "parameters-tied-wrong", "b.weight"),
        (absent, "parameters-missing", "c.bias"),
    ],
)
def test_a_fault_is_named_with_its_parameters(fault: Callable[[Weights, int], Weights], name: str, which: str) -> None:
    fit = identify_loading(GIVEN, [fault(dict(one), number) for number, one in enumerate(GIVEN)])
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == (name,)
    assert fit.best.values["parameters"] == [which]


def test_two_faults_are_both_named() -> None:
    fit = identify_loading(GIVEN, [transposed(kept(dict(one), n), n) for n, one in enumerate(GIVEN)])
    assert fit.best is not None
    assert set(fit.best.names) == {"parameters-not-loaded", "parameters-transposed"}


def test_what_follows_the_weights_in_an_unknown_way_is_not_named() -> None:
    fit = identify_loading(GIVEN, [one | {"a.weight": 1.01 * one["a.weight"]} for one in GIVEN])
    assert not fit.equal
    assert not fit.confirmed


def test_rounding_to_bf16_is_no_fault_where_it_is_declared() -> None:
    rounded = [
        {
            name: ((value.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
            for name, value in one.items()
        }
        for one in GIVEN
    ]
    assert identify_loading(GIVEN, rounded, precision="bf16").equal
    assert not identify_loading(GIVEN, rounded).equal

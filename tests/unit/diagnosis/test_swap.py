"""Shapley values of the swap matrix: planted factors, none, two, and combinations that do not fit."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from lossary.diagnosis.swap import FACTORS, ExampleSums, SwapResult, swap_matrix

Combo = tuple[str, ...]


def make(
    seed: int, shift: Callable[[Combo], float], *, n: int = 256, count: int = 4, noise: float = 0.0
) -> dict[Combo, ExampleSums]:
    """Sums of one metric; `shift` is what a combination adds to each position's nats, more on some examples."""
    random = np.random.default_rng(seed)
    masked = random.integers(1, 11, n).astype(float)
    base, share = random.gamma(2.0, 1.0, n), random.gamma(2.0, 0.5, n)
    found = {}
    for combo in product("AB", repeat=count):
        wobble = random.normal(0, noise, n) if noise else 0.0
        found[combo] = ExampleSums(y=masked * (base + share * shift(combo) + wobble), x=masked)
    return found


def is_a(combo: Combo, factor: str) -> float:
    return float(combo[FACTORS.index(factor)] == "A")


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("seed", range(5))
def test_the_factor_that_carries_the_gap(factor: str, seed: int) -> None:
    result = swap_matrix(make(seed, lambda combo: is_a(combo, factor), noise=0.2))
    assert result.blamed == (factor,)
    assert result.by_factor[factor].value == pytest.approx(result.gap.value, rel=0.1)
    assert factor in result.says
    assert not result.mismatched


def test_two_factors() -> None:
    result = swap_matrix(make(0, lambda c: 1.0 * is_a(c, "feed") + 0.4 * is_a(c, "checkpoint"), noise=0.1))
    assert result.blamed == ("feed", "checkpoint")


def test_shares_add_up_and_interactions_are_halved() -> None:
    result = swap_matrix(make(1, lambda c: is_a(c, "feed") * is_a(c, "model")))
    assert sum(effect.value for effect in result.by_factor.values()) == pytest.approx(result.gap.value)
    assert result.by_factor["feed"].value == pytest.approx(result.gap.value / 2)
    assert result.interaction["feed", "model"].value == pytest.approx(result.gap.value)
    assert result.interaction["checkpoint", "metric"].value == pytest.approx(0, abs=1e-12)
    assert set(result.blamed) == {"feed", "model"}


def brute(result: SwapResult, factor: int, count: int) -> float:
    """Shapley's value by all orders."""
    from itertools import permutations

    changes = []
    for order in permutations(range(count)):
        combo = ["B"] * count
        for step in order:
            before = result.values[tuple(combo)]
            combo[step] = "A"
            if step == factor:
                changes.append(result.values[tuple(combo)] - before)
    return float(np.mean(changes))


def test_values_are_those_of_all_orders() -> None:
    random = np.random.default_rng(3)
    weights = {combo: random.normal() for combo in product("AB", repeat=4)}
    result = swap_matrix(make(2, lambda combo: weights[combo]))
    for at, factor in enumerate(FACTORS):
        assert result.by_factor[factor].value == pytest.approx(brute(result, at, 4))


def test_sides_that_number_their_pieces_differently() -> None:
    """Each is fine with its own feed, and neither is with the other's."""
    result = swap_matrix(make(3, lambda c: 2.0 * (is_a(c, "feed") != is_a(c, "checkpoint")), noise=0.05))
    assert result.blamed == ()
    assert result.mismatched == (("checkpoint", "feed"),)
    assert "do not fit" in result.says


def test_without_a_gap_nobody_is_blamed() -> None:
    """Over 400 pairs of equal sides the gap is beyond its interval in about 5 %, and then only somebody is blamed."""
    blamed = sum(bool(swap_matrix(make(seed, lambda _: 0.0, n=60, noise=0.5)).blamed) for seed in range(400))
    assert blamed <= 24


def test_intervals_cover() -> None:
    covered = []
    for seed in range(300):
        result = swap_matrix(make(seed, lambda c: is_a(c, "feed"), n=40, count=2, noise=0.5))
        # The mean of a gamma of shape 2 and scale ½ is 1.
        covered.append(result.by_factor["feed"].low <= 1.0 <= result.by_factor["feed"].high)
    assert 0.92 <= np.mean(covered) <= 1.0


def test_what_a_rerun_moves_is_not_blamed() -> None:
    values = make(0, lambda combo: 1e-6 * is_a(combo, "model"))
    assert swap_matrix(values).blamed == ("model",)
    assert swap_matrix(values, noise=1e-5).blamed == ()
    assert "no factor" in swap_matrix(values, noise=1e-5).says


def test_small_but_sure_effects_are_not_what_carries_the_gap() -> None:
    result = swap_matrix(make(0, lambda c: is_a(c, "feed") + 0.01 * is_a(c, "model")))
    assert result.by_factor["model"].is_beyond_zero
    assert result.blamed == ("feed",)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_factors(count: int) -> None:
    result = swap_matrix(make(0, lambda c: is_a(c, "checkpoint"), count=count, noise=0.1))
    assert tuple(result.by_factor) == FACTORS[:count]
    assert result.blamed == ("checkpoint",)
    named = swap_matrix(make(0, lambda c: float(c[0] == "A"), count=1, noise=0.1), factors=("feed",))
    assert named.blamed == ("feed",)


def test_feeds_of_different_examples() -> None:
    """Feed A lacks some documents that feed B has."""
    values = make(0, lambda combo: is_a(combo, "checkpoint"), noise=0.1)
    ids = np.arange(256)
    kept = np.arange(256) % 3 > 0
    aligned = {
        combo: ExampleSums(y=v.y[kept], x=v.x[kept], example=ids[kept])
        if combo[1] == "A"
        else ExampleSums(y=v.y[::-1], x=v.x[::-1], example=ids[::-1])
        for combo, v in values.items()
    }
    result = swap_matrix(aligned)
    assert result.blamed == ("checkpoint",)


def test_what_is_missing_is_named() -> None:
    values = make(0, lambda _: 0.0, count=2)
    del values["A", "B"]
    with pytest.raises(ValueError, match="AB"):
        swap_matrix(values)
    empty = make(0, lambda _: 0.0, count=1)
    empty[("A",)] = ExampleSums(y=np.zeros(3), x=np.zeros(3))
    with pytest.raises(ValueError, match="divide"):
        swap_matrix(empty)
    with pytest.raises(ValueError, match="missing"):
        swap_matrix({})


def test_one_example_blames_nobody() -> None:
    one = {combo: ExampleSums(y=np.array([1.0 + (combo[0] == "A")]), x=np.ones(1)) for combo in product("AB", repeat=1)}
    assert swap_matrix(one).blamed == ()

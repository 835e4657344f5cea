"""Dropout where none is meant, and none where it is declared."""

import numpy as np
import pytest

from lossary.diagnosis.laws.dropout import identify_dropout, spread_of

NOISE = 1e-6


def passes(rate: float, seed: int, count: int = 3) -> float:
    """The spread of repeated sums of 2,000 numbers of which a share is dropped."""
    rng = np.random.default_rng(seed)
    values = np.random.default_rng(0).standard_normal((40, 2000))
    found = []
    for _ in range(count):
        keep = rng.random(values.shape) >= rate
        found.append((values * keep / max(1e-9, 1 - rate)).sum(axis=1).astype(np.float32))
    return spread_of(found)


@pytest.mark.parametrize("seed", range(10))
def test_healthy_sides_are_left_alone(seed: int) -> None:
    del seed
    assert identify_dropout(0.0, 0.0, passes, noise=NOISE, declared=0.0).equal
    assert identify_dropout(5e-7, passes(0.1, 50), passes, noise=NOISE, declared=0.1).equal


def test_dropout_at_evaluation_is_named_with_its_rate() -> None:
    fit = identify_dropout(passes(0.1, 33), passes(0.1, 34), passes, noise=NOISE, declared=0.1)
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == ("dropout-on-at-evaluation",)
    assert fit.best.values["rate"] == pytest.approx(0.1, abs=0.03)


def test_declared_dropout_that_drops_nothing_is_named() -> None:
    fit = identify_dropout(0.0, 0.0, passes, noise=NOISE, declared=0.1)
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == ("dropout-off-in-training",)


def test_undeclared_dropout_in_training_is_named() -> None:
    fit = identify_dropout(0.0, passes(0.2, 9), passes, noise=NOISE, declared=0.0)
    assert fit.best is not None
    assert fit.best.names == ("dropout-undeclared",)


def test_a_spread_that_no_rate_gives_is_not_named() -> None:
    fit = identify_dropout(1e9, 0.0, passes, noise=NOISE, declared=0.0)
    assert not fit.equal
    assert not fit.confirmed

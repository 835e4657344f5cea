"""The course of a loss, and two courses on the same batches."""

import numpy as np
import pytest

from lossary.diagnosis.laws.course import course_of, late_gap


def noise(seed: int, steps: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 0.1, steps)


def falling(steps: int = 160) -> np.ndarray:
    return 4.0 + 3.0 * np.exp(-np.arange(steps) / 60)


@pytest.mark.parametrize("seed", range(20))
def test_a_falling_loss_did_not_rise(seed: int) -> None:
    assert not course_of(falling() + noise(seed)).rose


@pytest.mark.parametrize("seed", range(20))
def test_a_flat_loss_did_not_rise(seed: int) -> None:
    assert not course_of(np.full(160, 5.0) + noise(seed)).rose


def test_a_loss_that_rises_after_its_minimum_rose() -> None:
    losses = falling() + noise(1)
    losses[100:] += 1.5
    course = course_of(losses)
    assert course.rose
    assert 80 <= course.best_step <= 104
    assert course.rise == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("seed", range(20))
def test_differences_of_equal_courses_are_noise(seed: int) -> None:
    batches = 2.0 * noise(seed)
    gap, bound = late_gap(falling() + batches + noise(seed + 100) / 10, falling() + batches)
    assert gap <= bound


def test_batches_cancel() -> None:
    batches = 5.0 * noise(3)
    gap, bound = late_gap(falling() + batches + 0.2, falling() + batches)
    assert gap == pytest.approx(0.2)
    assert gap > bound

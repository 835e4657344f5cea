"""Schedules as realised: the declared one, and what becomes of it in other hands."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossary.diagnosis.laws.schedules import identify_schedule
from lossary.models.update_laws import learning_rate
from lossary.study import Optimizer

STEPS = 400
OPTIMIZER = Optimizer(learning_rate=1e-3, warmup=40)


def declared(step: int) -> float:
    return learning_rate(step, OPTIMIZER, STEPS)


def found(rate: Callable[[int], float], resumed: Callable[[int], float] | None = None, kind: Any = np.float32) -> Any:
    rates = np.array([rate(step) for step in range(STEPS)], kind).astype(np.float64)
    later = np.array([(resumed or rate)(step) for step in range(200, STEPS)], kind).astype(np.float64)
    return identify_schedule(rates, start=0, optimizer=OPTIMIZER, steps=STEPS, resumed=(200, later))


@pytest.mark.parametrize("peak", np.geomspace(1e-5, 1.0, 12).tolist())
@pytest.mark.parametrize("warmup", [0, 1, 17, 40])
def test_the_declared_schedule_is_equal_in_either_precision(peak: float, warmup: int) -> None:
    optimizer = Optimizer(learning_rate=peak, warmup=warmup)
    steps = np.arange(300, dtype=np.float32)
    scale = np.float32(1) - steps / np.float32(300)
    single = np.where(steps < warmup, np.float32(peak) * steps / np.float32(max(warmup, 1)), np.float32(peak) * scale)
    double = np.array([learning_rate(step, optimizer, 300) for step in range(300)])
    for rates in (single.astype(np.float64), double):
        assert identify_schedule(rates, start=0, optimizer=optimizer, steps=300).equal


def after_warmup(step: int) -> float:
    return 1e-3 * step / 40 if step < 40 else 1e-3 * (1 - (step - 40) / 360)


def cosine(step: int) -> float:
    return 1e-3 * step / 40 if step < 40 else 0.5e-3 * (1 + np.cos(np.pi * (step - 40) / 360))


@pytest.mark.parametrize(
    ("rate", "name", "values"),
    [
        (lambda step: declared(min(4 * step, STEPS)), "schedule-times-n", {"n": 4.0}),
        (lambda step: declared(step + 1), "schedule-shifted", {"steps": 1.0}),
        (after_warmup, "schedule-shape", {"shape": "linear after warm-up"}),
        (cosine, "schedule-shape", {"shape": "cosine"}),
        (lambda step: declared(step // 10 * 10), "schedule-in-steps", {"held": 10.0}),
        (lambda step: 2 * declared(step), "peak-rate", {"peak": 2e-3}),
        (lambda step: 1e-3 * (1 - step / STEPS), "warmup-missing", {}),
    ],
)
def test_a_fault_is_named_with_its_value(rate: Callable[[int], float], name: str, values: dict[str, Any]) -> None:
    fit = found(rate)
    assert fit.confirmed
    assert fit.best.names == (name,)
    for key, value in values.items():
        assert fit.best.values[key] == (value if isinstance(value, str) else pytest.approx(value))


def test_a_schedule_that_starts_over_is_named() -> None:
    fit = found(declared, lambda step: declared(step - 200))
    assert fit.confirmed
    assert fit.best.names == ("schedule-restarts-on-resume",)


def test_two_faults_are_both_named() -> None:
    fit = found(lambda step: 1.5 * declared(min(2 * step, STEPS)))
    assert fit.confirmed
    assert set(fit.best.names) == {"schedule-times-n", "peak-rate"}


@pytest.mark.parametrize(
    "rate", [lambda step: 1e-3 * (step % 50) / 50, lambda _: float("nan"), lambda step: 1e-3 * np.exp(-step / 90)]
)
def test_an_unknown_schedule_has_no_name(rate: Callable[[int], float]) -> None:
    fit = found(rate)
    assert not fit.equal
    assert not fit.confirmed

"""Whole training steps: a loop in float32 over the arbiter's gradients, healthy and with planted faults."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.unit.diagnosis.trainers import LAMB, Recipe, State

from lossary.diagnosis.adapter import Arrays
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.replay import TrainingObservation, identify_training
from lossary.diagnosis.laws.update_space import LawSettings
from lossary.diagnosis.probes import probe_feed
from lossary.models.arbiter import Architecture, Precision, loss_gradients, record
from lossary.models.parameters import initial_parameters
from lossary.models.shapes import AlbertShape
from lossary.models.update_laws import UpdateLaw

SHAPE = AlbertShape(
    vocabulary_size=300,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    intermediate_size=64,
    embedding_size=32,
    max_positions=64,
    initializer_range=0.1,
)
ADAMW, LAMB_LAW = UpdateLaw(name="adamw", clip_norm=1.0), UpdateLaw(name="lamb", clip_norm=1.0)
STEPS = 5
POOLER = "albert.pooler.weight"


@cache
def feeds(seed: int) -> list[Any]:
    return [probe_feed(SHAPE, 100 * seed + step, examples=8, length=24) for step in range(STEPS)]


def gradient(weights: Arrays, feed: Any, precision: Precision) -> Arrays:
    run = record(weights, Architecture.of(SHAPE), feed, precision=precision)
    losses = loss_gradients(run.outputs, feed.labels, feed.weights, feed.sop_labels)
    return run.gradients(losses.d_mlm, losses.d_sop).parameters


def rate(step: int) -> float:
    return 1e-3 * (step + 1) / 4 if step < 4 else 1e-3 * (1 - step / 40)


Loop = Callable[[State, "Work"], list[Arrays]]


class Work:
    """What a loop has: gradients of feeds in float32, and a starting point."""

    def __init__(self, seed: int, first: int) -> None:
        self.seed, self.first = seed, first

    def gradient(self, weights: Arrays, step: int) -> Arrays:
        found = gradient(weights, feeds(self.seed)[step], "float32")
        return {name: value.astype(np.float32) for name, value in found.items()}


def plain(
    state: State, work: Work, *, feed: Callable[[int], int] = lambda k: k, shift: int = 0, factor: float = 1.0
) -> list[Arrays]:
    after = []
    for k in range(STEPS):
        g = work.gradient(state.w, feed(k))
        after.append(state.step([{n: np.float32(factor) * v for n, v in g.items()}], rate(work.first + k + shift)))
    return after


def with_recipe(**changes: Any) -> Loop:
    def loop(state: State, work: Work) -> list[Arrays]:
        return plain(State(state.w, replace(state.recipe, **changes)), work)

    return loop


def adding_up(state: State, work: Work) -> list[Arrays]:
    total = {name: np.zeros_like(w) for name, w in state.w.items()}
    after = []
    for k in range(STEPS):
        total = {name: total[name] + g for name, g in work.gradient(state.w, k).items()}
        after.append(state.step([total], rate(work.first + k)))
    return after


def stale(state: State, work: Work) -> list[Arrays]:
    before, after = state.w, []
    for k in range(STEPS):
        now = {name: w.copy() for name, w in state.w.items()}
        after.append(state.step([work.gradient(before, k)], rate(work.first + k)))
        before = now
    return after


def twice(state: State, work: Work) -> list[Arrays]:
    after = []
    for k in range(STEPS):
        g = work.gradient(state.w, k)
        state.step([g], rate(work.first + k))
        after.append(state.step([g], rate(work.first + k)))
    return after


def skipping(state: State, work: Work) -> list[Arrays]:
    after = []
    for k in range(STEPS):
        if k != 2:
            state.step([work.gradient(state.w, k)], rate(work.first + k))
        after.append({name: w.copy() for name, w in state.w.items()})
    return after


def averaging(state: State, work: Work) -> list[Arrays]:
    shown, after = {name: w.copy() for name, w in state.w.items()}, []
    for k in range(STEPS):
        state.step([work.gradient(state.w, k)], rate(work.first + k))
        shown = {name: np.float32(0.9) * w + np.float32(0.1) * state.w[name] for name, w in shown.items()}
        after.append(shown)
    return after


def fit_of(loop: Loop, law: UpdateLaw = ADAMW, *, seed: int = 0, first: int = 0, **more: Any) -> Fit:
    start = initial_parameters(SHAPE, seed)
    recipe = Recipe(**(LAMB if law.name == "lamb" else {}), **more.pop("recipe", {}))
    after = loop(State(start, recipe), Work(seed, first))
    return identify_training(
        TrainingObservation(start=start, weights=after, first=first),
        law,
        gradient_of=lambda weights, step: gradient(weights, feeds(seed)[step], "float64"),
        rate_of=rate,
        **more,
    )


@pytest.mark.parametrize("seed", range(50))
def test_a_healthy_loop_is_equal(seed: int) -> None:
    rough = None
    if seed % 2:

        def rough(weights: Arrays, step: int) -> Arrays:
            return gradient(weights, feeds(seed)[step], "float32")

    fit = fit_of(plain, (ADAMW, LAMB_LAW)[seed % 3 == 0], seed=seed, first=seed % 7, rough_gradient_of=rough)
    assert fit.equal, (fit.distance, fit.best)
    assert "5 of 5 steps" in fit.how


FAULTS: list[tuple[Loop, tuple[str, ...], dict[str, Any]]] = [
    (adding_up, ("gradients-not-zeroed",), {}),
    (stale, ("gradients-stale",), {}),
    (twice, ("update-repeated",), {"times": 2}),
    (skipping, ("steps-skipped",), {"skipped": [2]}),
    (averaging, ("weights-averaged",), {"average_decay": 0.9}),
    (lambda s, w: plain(s, w, shift=1), ("schedule-shifted",), {"steps": 1}),
    (lambda s, w: plain(s, w, feed=lambda _: 0), ("batch-repeated",), {"feeds": [0, 0, 0, 0, 0]}),
    (lambda s, w: plain(s, w, feed=lambda k: max(0, k - 1)), ("batch-repeated",), {"feeds": [0, 0, 1, 2, 3]}),
    (lambda s, w: plain(s, w, feed=lambda k: STEPS - 1 - k), ("batches-reordered",), {"feeds": [4, 3, 2, 1, 0]}),
    (lambda s, w: plain(s, w, factor=0.125), ("gradient-scaled",), {"gradient_factor": 0.125}),
    (with_recipe(multiplied=2.0**16, divided=2.0**16), ("clipped-before-unscaling",), {"loss_scale": 2.0**16}),
    (with_recipe(multiplied=2.0**11, divided=2.0**11), ("clipped-before-unscaling",), {"loss_scale": 2.0**11}),
    (with_recipe(bound=0.3), ("clip-value",), {"bound": 0.3}),
]  # fmt: skip


@pytest.mark.parametrize("law", [ADAMW, LAMB_LAW], ids=["adamw", "lamb"])
@pytest.mark.parametrize(("loop", "names", "values"), FAULTS, ids=[f"{c[1][0]}-{i}" for i, c in enumerate(FAULTS)])
def test_a_fault_is_named_with_its_value(
    loop: Loop, names: tuple[str, ...], values: dict[str, Any], law: UpdateLaw
) -> None:
    fit = fit_of(loop, law)
    assert fit.confirmed, (fit.distance, [(c.names, c.residual) for c in fit.tried])
    assert fit.best is not None
    assert fit.best.names == names
    assert not fit.ties
    for key, value in values.items():
        assert fit.best.values[key] == (pytest.approx(value, rel=0.02) if isinstance(value, float) else value)


def test_another_rate_than_declared_is_fitted() -> None:
    fit = fit_of(plain, recipe={"factor": 3.0})
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == ("learning-rate-scaled",)
    assert fit.best.values["factor"] == pytest.approx(3.0)


def test_parameters_that_the_optimizer_does_not_know_are_named() -> None:
    fit = fit_of(plain, recipe={"frozen": (POOLER,)})
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.values["not_updated"] == [POOLER]


@pytest.mark.parametrize(
    ("loop", "names"),
    [
        (lambda s, w: plain(s, w, feed=lambda _: 0, shift=1), {"batch-repeated", "schedule-shifted"}),
        (lambda s, w: plain(s, w, feed=lambda k: max(0, k - 1), factor=0.125), {"batch-repeated", "gradient-scaled"}),
    ],
)
def test_two_faults_are_both_named(loop: Loop, names: set[str]) -> None:
    fit = fit_of(loop)
    assert fit.confirmed, [(c.names, c.residual) for c in fit.tried]
    assert fit.best is not None
    assert set(fit.best.names) == names


def test_a_law_that_was_identified_before_is_no_fault_of_the_loop() -> None:
    recipe = {"place": "hat", "epsilon": 1e-7}
    found = LawSettings.of(ADAMW, {"epsilon_placement": "hat", "epsilon": 1e-7})
    assert not fit_of(plain, recipe=recipe).equal
    start = initial_parameters(SHAPE, 0)
    after = plain(State(start, Recipe(**recipe)), Work(0, 0))
    again = identify_training(
        TrainingObservation(start=start, weights=after),
        found,
        gradient_of=lambda weights, step: gradient(weights, feeds(0)[step], "float64"),
        rate_of=rate,
    )
    assert again.equal


@pytest.mark.parametrize("recipe", [{"family": "lion"}, {"family": "sign"}])
def test_another_law_is_not_confirmed(recipe: dict[str, Any]) -> None:
    fit = fit_of(plain, recipe=recipe)
    assert not fit.equal
    assert not fit.confirmed


def test_steps_of_rate_0_show_nothing_and_say_so() -> None:
    start = initial_parameters(SHAPE, 0)
    fit = identify_training(
        TrainingObservation(start=start, weights=[start] * STEPS),
        ADAMW,
        gradient_of=lambda weights, step: gradient(weights, feeds(0)[step], "float64"),
        rate_of=lambda _: 0.0,
    )
    assert fit.equal
    assert "0 of 5 steps" in fit.how


def test_an_equal_path_takes_little_time() -> None:
    start = initial_parameters(SHAPE, 0)
    made = {}

    def cached(weights: Arrays, step: int) -> Arrays:
        key = (step, float(weights[POOLER][0, 0]))
        made[key] = made.get(key) or gradient(weights, feeds(0)[step], "float64")
        return made[key]

    observation = TrainingObservation(start=start, weights=plain(State(start, Recipe()), Work(0, 0)))
    for _ in range(2):
        before = time.process_time()
        assert identify_training(observation, ADAMW, gradient_of=cached, rate_of=rate).equal
        spent = time.process_time() - before
    assert spent < 0.5

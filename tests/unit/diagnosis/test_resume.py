"""Optimizers that are interrupted: one that goes on is left alone, one that forgets something is named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.unit.diagnosis.test_updates import POOLER, SHAPE
from tests.unit.diagnosis.trainers import LAMB, Recipe, State

from lossary.diagnosis.adapter import Arrays
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.resume import identify_resume
from lossary.diagnosis.laws.update_evidence import UpdateObservation
from lossary.diagnosis.laws.update_probe import probe_gradients, probe_weights
from lossary.diagnosis.laws.update_space import LawSettings
from lossary.models.parameters import initial_parameters
from lossary.models.update_laws import UpdateLaw

AT, STEPS = 3, 6
ADAMW, LAMB_LAW = UpdateLaw(name="adamw"), UpdateLaw(name="lamb")
Interrupt = Callable[[State, list[Arrays]], int]


def rate(step: int) -> float:
    return 1e-3 * (step + 1) / 8


def nothing(_state: State, _path: list[Arrays]) -> int:
    return 0


def forget(*what: str) -> Interrupt:
    def interrupt(state: State, _path: list[Arrays]) -> int:
        for name in what:
            setattr(state, name, 0 if name == "t" else {key: np.zeros_like(w) for key, w in state.w.items()})
        return 0

    return interrupt


def behind(state: State, path: list[Arrays]) -> int:
    state.w = {name: w.copy() for name, w in path[-2].items()}
    return 0


def random_pooler(state: State, _path: list[Arrays]) -> int:
    pooler = state.w[POOLER]
    state.w[POOLER] = np.random.default_rng(0).normal(0, 0.02, pooler.shape).astype(np.float32)
    return 0


def schedule_anew(_state: State, _path: list[Arrays]) -> int:
    return -AT


def both_anew(state: State, path: list[Arrays]) -> int:
    forget("m", "v", "t")(state, path)
    return -AT


def fit_of(interrupt: Interrupt, law: UpdateLaw = ADAMW, seed: int = 0, first: int = 0) -> Fit:
    weights = probe_weights(initial_parameters(SHAPE, seed), seed=seed)
    gradients = probe_gradients(weights, seed=seed, steps=STEPS)
    state = State(weights, Recipe(**(LAMB if law.name == "lamb" else {})))
    after: list[Arrays] = []
    loaded: Arrays = {}
    shift = 0
    for number, replicas in enumerate(gradients):
        if number == AT:
            shift = interrupt(state, after) and interrupt(state, after) - first
            loaded = {name: w.copy() for name, w in state.w.items()}
        after.append(state.step(replicas, rate(first + number + shift)))
    return identify_resume(
        UpdateObservation(start=weights, gradients=gradients, weights=after, first=first),
        LawSettings.of(law),
        rates=[rate(first + step) for step in range(STEPS)],
        rate_of=rate,
        at=AT,
        loaded=loaded,
    )


@pytest.mark.parametrize("law", [ADAMW, LAMB_LAW], ids=["adamw", "lamb"])
@pytest.mark.parametrize("seed", range(8))
def test_an_optimizer_that_goes_on_is_left_alone(law: UpdateLaw, seed: int) -> None:
    assert fit_of(nothing, law, seed, first=seed % 3).equal


PLANTED: list[tuple[Interrupt, set[str], dict[str, Any]]] = [
    (forget("m", "v", "t"), {"moments-lost-on-resume"}, {"lost": ["m", "t", "v"]}),
    (forget("m", "v"), {"moments-lost-on-resume"}, {"lost": ["m", "v"]}),
    (forget("v"), {"moments-lost-on-resume"}, {"lost": ["v"]}),
    (forget("t"), {"step-count-lost-on-resume"}, {"lost": ["t"]}),
    (behind, {"updates-lost-on-resume"}, {"updates": 1}),
    (random_pooler, {"parameters-not-loaded"}, {"parameters": [POOLER]}),
    (schedule_anew, {"schedule-restarts-on-resume"}, {}),
    (both_anew, {"schedule-restarts-on-resume", "moments-lost-on-resume"}, {}),
]


@pytest.mark.parametrize(("interrupt", "names", "values"), PLANTED)
def test_what_is_forgotten_is_named(interrupt: Interrupt, names: set[str], values: dict[str, Any]) -> None:
    fit = fit_of(interrupt)
    assert fit.confirmed
    assert fit.best is not None
    assert set(fit.best.names) == names
    assert not fit.ties
    assert all(fit.best.values[key] == value for key, value in values.items())


def test_lamb_without_corrections_loses_its_moments_alone() -> None:
    fit = fit_of(forget("m", "v", "t"), LAMB_LAW)
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == ("moments-lost-on-resume",)
    assert fit_of(forget("t"), LAMB_LAW).equal  # nothing there counts updates

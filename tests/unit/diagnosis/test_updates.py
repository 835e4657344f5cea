"""Update laws: healthy trainers are equal whatever their rounding, planted faults are named with their values."""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
from tests.unit.diagnosis.trainers import LAMB, Recipe, train

from lossary.diagnosis.adapter import Arrays
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.update_arrays import rounded_to
from lossary.diagnosis.laws.update_evidence import Evidence, UpdateObservation
from lossary.diagnosis.laws.update_names import describe_law, settings_of
from lossary.diagnosis.laws.update_probe import probe_gradients, probe_weights
from lossary.diagnosis.laws.update_space import Clip, LawSettings, NormOf
from lossary.diagnosis.laws.updates import identify_update
from lossary.models.parameters import initial_parameters, is_excluded
from lossary.models.shapes import AlbertShape
from lossary.models.update_laws import UpdateLaw

SHAPE = AlbertShape(
    vocabulary_size=800, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=128, embedding_size=32
)
RATES = [1e-3, 9e-4, 1e-3, 5e-4, 1e-3]
ADAMW, LAMB_LAW = UpdateLaw(name="adamw"), UpdateLaw(name="lamb")
WORDS, POOLER = "albert.embeddings.word_embeddings.weight", "albert.pooler.weight"


def probes(seed: int = 0, replicas: int = 2, steps: int = 5) -> tuple[Arrays, list[list[Arrays]]]:
    weights = probe_weights(initial_parameters(SHAPE, 0), seed=seed)
    return weights, probe_gradients(weights, seed=seed, steps=steps, replicas=replicas)


WEIGHTS, GRADIENTS = probes()


def fit_of(recipe: Recipe, law: UpdateLaw = ADAMW, **more: Any) -> Fit:
    after = train(WEIGHTS, GRADIENTS, RATES, recipe)
    return identify_update(
        UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=after), law, rates=RATES, **more
    )


# --- healthy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(50))
def test_healthy_trainers_are_equal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, gradients = probes(seed, replicas=int(rng.integers(1, 4)), steps=int(rng.integers(4, 7)))
    if seed % 3 == 0:  # Biases at 0, matrices of one scale.
        weights = initial_parameters(SHAPE, seed)
    peak = 10 ** rng.uniform(-4, -1.7)
    rates = [float(peak * (step + seed % 2) / 8) for step in range(len(gradients))]
    common = {
        "epsilon": float(10 ** rng.uniform(-9, -5)),
        "weight_decay": float(rng.choice([0, 0.01, 0.1])),
        "beta2": float(rng.choice([0.999, 0.98, 0.9995])),
        "clip_norm": [1.0, None][int(rng.integers(2))],
    }
    settings = {
        "epsilon": common["epsilon"],
        "decay": common["weight_decay"],
        "betas": (0.9, common["beta2"]),
        "clip": "none" if common["clip_norm"] is None else "global",
    }
    for law, recipe in (
        (UpdateLaw(name="adamw", **common), Recipe(**settings)),
        (UpdateLaw(name="lamb", **common), Recipe(**settings | LAMB)),
    ):
        after = train(weights, gradients, rates, recipe)
        fit = identify_update(UpdateObservation(start=weights, gradients=gradients, weights=after), law, rates=rates)
        assert fit.equal, (law, fit.distance, fit.best)


@pytest.mark.frameworks
@pytest.mark.parametrize("first", [0, 30])
def test_pytorch_is_equal(first: int) -> None:
    torch = pytest.importorskip("torch")
    parameters = {name: torch.nn.Parameter(torch.tensor(w)) for name, w in WEIGHTS.items()}
    groups = [
        {"params": [p for name, p in parameters.items() if is_excluded(name) == excluded], "weight_decay": decay}
        for excluded, decay in ((False, 0.01), (True, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, eps=1e-6)

    def step(mean: Arrays, rate: float) -> Arrays:
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(mean[name])
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return {name: parameter.detach().numpy().copy() for name, parameter in parameters.items()}

    assert identify_update(_followed(step, first), ADAMW, rates=RATES).equal


@pytest.mark.frameworks
@pytest.mark.parametrize("first", [0, 30])
def test_lossary_on_pytorch_is_equal_though_it_counts_steps(first: int) -> None:
    torch = pytest.importorskip("torch")
    from lossary.backends.torch.law import LawState, update

    for law in (ADAMW, LAMB_LAW):
        state = LawState(
            parameters=[torch.tensor(w) for w in WEIGHTS.values()],
            m=[torch.zeros(w.shape) for w in WEIGHTS.values()],
            v=[torch.zeros(w.shape) for w in WEIGHTS.values()],
            adapted=[not is_excluded(name) for name in WEIGHTS],
        )
        count = iter(range(first, first + 5))

        def step(mean: Arrays, rate: float, law: Any = law, state: Any = state, count: Any = count) -> Arrays:
            update(law, state, [torch.tensor(mean[name]) for name in WEIGHTS], step=next(count), rate=rate)
            return {name: p.numpy().copy() for name, p in zip(WEIGHTS, state.parameters, strict=True)}

        assert identify_update(_followed(step, first), law, rates=RATES).equal


@pytest.mark.frameworks
def test_keras_is_equal_once_it_is_declared_and_named_where_it_is_not() -> None:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")

    def observation(optimizer: Any) -> UpdateObservation:
        variables = {name: keras.Variable(w, name=name.replace(".", "_")) for name, w in WEIGHTS.items()}
        optimizer.exclude_from_weight_decay(var_list=[v for name, v in variables.items() if is_excluded(name)])
        optimizer.build(list(variables.values()))

        def step(mean: Arrays, rate: float) -> Arrays:
            optimizer.learning_rate = rate
            optimizer.apply([keras.ops.convert_to_tensor(mean[name]) for name in variables])
            # Whichever backend of Keras the process holds: an earlier test may have imported it.
            return {name: np.asarray(keras.ops.convert_to_tensor(v)).copy() for name, v in variables.items()}

        return _followed(step, 0)

    settings = {"beta_2": 0.999, "weight_decay": 0.01, "global_clipnorm": 1.0, "epsilon": 1e-6}
    adamw = observation(keras.optimizers.AdamW(**settings))
    assert identify_update(adamw, ADAMW, rates=RATES, declared={"epsilon_placement": "hat"}).equal
    fit = identify_update(adamw, ADAMW, rates=RATES)
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == ("epsilon-placement",)
    lamb = observation(keras.optimizers.Lamb(**settings))
    declared = {"bias_correction": True, "decay_placement": "decoupled", "adapted": "all"}
    assert identify_update(lamb, LAMB_LAW, rates=RATES, declared=declared).equal
    fit = identify_update(lamb, LAMB_LAW, rates=RATES)
    assert fit.confirmed
    assert fit.best is not None
    assert set(fit.best.names) == {"bias-correction", "trust-ratio"}


def _followed(step: Callable[[Arrays, float], Arrays], first: int) -> UpdateObservation:
    means = [
        {name: np.mean([part[name] for part in parts], axis=0, dtype=np.float32) for name in WEIGHTS}
        for parts in GRADIENTS
    ]
    after = [step(mean, rate) for mean, rate in zip(means, RATES, strict=True)]
    return UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=after, first=first)


def test_noise_of_the_side_is_part_of_the_tolerance() -> None:
    rng = np.random.default_rng(0)
    clean = train(WEIGHTS, GRADIENTS, RATES, Recipe())

    def noisy() -> list[Arrays]:
        return [
            {name: (w + 1e-6 * rng.standard_normal(w.shape)).astype(np.float32) for name, w in step.items()}
            for step in clean
        ]

    after = noisy()
    alone = UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=after)
    assert not identify_update(alone, ADAMW, rates=RATES, max_faults=1).equal
    again = dataclasses.replace(alone, rerun=noisy())
    assert identify_update(again, ADAMW, rates=RATES).equal


# --- planted ----------------------------------------------------------------------------------------------------------

CLIPPED: tuple[str, dict[str, Any]] = ("clipped-before-unscaling", {})
ONE: list[tuple[UpdateLaw, dict[str, Any], str, dict[str, Any]]] = [
    (ADAMW, {"correct": (False, False)}, "no-bias-correction", {"missing": ["m", "v"]}),
    (ADAMW, {"correct": (True, False)}, "no-bias-correction", {"missing": ["v"]}),
    (ADAMW, {"correct": (False, True)}, "no-bias-correction", {"missing": ["m"]}),
    (LAMB_LAW, {**LAMB, "correct": (True, True)}, "bias-correction", {"present": ["m", "v"]}),
    (ADAMW, {"place": "hat"}, "epsilon-placement", {"placement": "hat"}),
    (ADAMW, {"place": "inside"}, "epsilon-placement", {"placement": "inside"}),
    (ADAMW, {"epsilon": 1e-8}, "epsilon-value", {"epsilon": 1e-8}),
    (ADAMW, {"epsilon": 3.3e-5}, "epsilon-value", {"epsilon": 3.3e-5}),
    (LAMB_LAW, {**LAMB, "epsilon": 1e-8}, "epsilon-value", {"epsilon": 1e-8}),
    (ADAMW, {"decay": 0.004}, "weight-decay-value", {"weight_decay": 0.004}),
    (ADAMW, {"decay": 0.0}, "weight-decay-value", {"weight_decay": 0.0}),
    (LAMB_LAW, {**LAMB, "decay": 0.1}, "weight-decay-value", {"weight_decay": 0.1}),
    (ADAMW, {"coupling": "unscaled"}, "weight-decay-value", {"times_rate": False}),
    (ADAMW, {"coupling": "gradient"}, "decay-coupled", {}),
    (LAMB_LAW, {**LAMB, "coupling": "gradient"}, "decay-coupled", {}),
    (ADAMW, {"decayed": lambda _: True}, "decay-excluded-wrong", {"parameters": ["biases and layer normalisation"]}),
    (
        ADAMW,
        {"decayed": lambda name: not is_excluded(name) and name != WORDS},
        "decay-excluded-wrong",
        {"parameters": [WORDS]},
    ),
    (ADAMW, {"clip": "none"}, "no-clipping", {}),
    (LAMB_LAW, {**LAMB, "clip": "none"}, "no-clipping", {}),
    (ADAMW, {"clip": "tensor"}, "clip-per-tensor", {"bound": 1.0}),
    (ADAMW, {"clip": "value", "bound": 0.5}, "clip-value", {"clip": "value", "bound": 0.5}),
    (ADAMW, {"bound": 5.0}, "clip-value", {"clip": "global", "bound": 5.0}),
    (ADAMW, {"clips_replicas": True}, "clipped-before-all-reduce", {}),
    (ADAMW, {"betas": (0.95, 0.999)}, "beta-value", {"beta1": 0.95}),
    (ADAMW, {"betas": (0.9, 0.98)}, "beta-value", {"beta2": 0.98}),
    (ADAMW, {"betas": (0.8, 0.95)}, "beta-value", {"beta1": 0.8, "beta2": 0.95}),
    (ADAMW, LAMB, "other-optimizer", {"name": "lamb"}),
    (LAMB_LAW, {}, "other-optimizer", {"name": "adamw"}),
    (ADAMW, {"family": "sgd", "coupling": "gradient"}, "other-optimizer", {"name": "sgd"}),
    (ADAMW, {"family": "momentum", "coupling": "gradient"}, "other-optimizer", {"name": "momentum"}),
    (ADAMW, {"family": "dampened"}, "other-optimizer", {"name": "dampened momentum"}),
    (ADAMW, {"family": "adagrad", "coupling": "gradient"}, "other-optimizer", {"name": "adagrad"}),
    (LAMB_LAW, {**LAMB, "adapted": lambda _: True}, "trust-ratio", {"variant": "adapted-all"}),
    (LAMB_LAW, {**LAMB, "most": 10.0}, "trust-ratio", {"variant": "norm-clamped", "high": 10.0}),
    (LAMB_LAW, {**LAMB, "ratio": (0.01, 10.0)}, "trust-ratio", {"variant": "ratio-clamped", "high": 10.0}),
    (LAMB_LAW, {**LAMB, "coupling": "decoupled"}, "trust-ratio", {"variant": "decay-outside-ratio"}),
    (ADAMW, {"factor": 2.0}, "learning-rate-scaled", {"factor": 2.0}),
    (LAMB_LAW, {**LAMB, "factor": 0.37}, "learning-rate-scaled", {"factor": 0.37}),
    *(
        (law, {**base, "multiplied": 2.0**power, "divided": 2.0**power, "epsilon": epsilon}, *CLIPPED)
        for law, base, power, epsilon in (
            (ADAMW, {}, 16, 1e-6),
            (ADAMW, {}, 10, 1e-6),
            (ADAMW, {"place": "root"}, 15, 1e-6),
            (LAMB_LAW, LAMB, 16, 1e-6),
        )
    ),
    *((ADAMW, {"norm_of": of}, "clipped-by-other-norm", {"norm_of": of}) for of in ("first", "last", "all")),
    # No power of two of mixed precision: another bound.
    (ADAMW, {"multiplied": 100.0, "divided": 100.0}, "clip-value", {"bound": 0.01}),
    (ADAMW, {"clip": "always"}, "clipped-always", {"bound": 1.0}),
    (ADAMW, {"multiplied": 65536.0}, "clipped-always", {"bound": 1.0}),  # gradients that are never unscaled
    (LAMB_LAW, {**LAMB, "multiplied": 1024.0}, "clipped-always", {"bound": 1.0}),
    (ADAMW, {"update_factor": 3.0}, "learning-rate-scaled", {"factor": 3.0}),
    (ADAMW, {"frozen": (POOLER,)}, "parameters-not-updated", {"not_updated": [POOLER]}),
    (
        ADAMW,
        {"kept": lambda w: rounded_to("bfloat16", w).astype(np.float32)},
        "updates-lost",
        {"precision": "bfloat16"},
    ),
    (ADAMW, {"kept": lambda w: rounded_to("float16", w).astype(np.float32)}, "updates-lost", {"precision": "float16"}),
]


@pytest.mark.parametrize(
    ("law", "fault", "name", "values"), ONE, ids=[f"{c[0].name}-{c[2]}-{i}" for i, c in enumerate(ONE)]
)
def test_a_fault_is_named_with_its_value(
    law: UpdateLaw, fault: dict[str, Any], name: str, values: dict[str, Any]
) -> None:
    fit = fit_of(Recipe(**fault), law)
    assert fit.distance > 20
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == (name,)
    assert not fit.ties
    for key, value in values.items():
        assert fit.best.values[key] == (pytest.approx(value, rel=0.02) if isinstance(value, float) else value)


@pytest.mark.parametrize("power", [8, 12, 16, 20])
def test_the_loss_scale_is_told(power: int) -> None:
    fit = fit_of(Recipe(multiplied=2.0**power, divided=2.0**power))
    assert fit.best is not None
    assert fit.best.values["loss_scale"] == 2.0**power
    assert f"{2**power:,}" in fit.best.says


@pytest.mark.parametrize("clip", ["none", "global"])
def test_what_takes_the_same_steps_is_told_as_one_of_two(clip: str) -> None:
    # Gradients divided by a loss scale that they were never multiplied by: an ε so many times as large.
    fit = fit_of(
        Recipe(divided=2.0**10, clip=clip), UpdateLaw(name="adamw", clip_norm=1.0 if clip == "global" else None)
    )
    assert fit.confirmed
    assert fit.best is not None
    assert {fit.best.names, *(tie.names for tie in fit.ties)} == {("epsilon-value",), ("gradient-scaled",)}


def test_every_way_of_clipping_two_replicas_can_be_predicted() -> None:
    after = train(WEIGHTS, GRADIENTS, RATES, Recipe())
    evidence = Evidence.of(UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=after), RATES)
    for clip, norm_of, each in product(get_args(Clip), get_args(NormOf), (False, True)):
        law = dataclasses.replace(LawSettings.of(ADAMW), clip=clip, norm_of=norm_of, clip_replicas=each)
        assert np.isfinite(evidence.distance(law))
        evidence.all_clipped(law)


def test_weights_that_do_not_move_are_a_rate_of_zero() -> None:
    fit = fit_of(Recipe(factor=0.0))
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == ("learning-rate-scaled",)
    assert fit.best.values["factor"] == pytest.approx(0.0, abs=1e-6)


def test_replicas_that_are_summed_are_named() -> None:
    summed = [[{name: 2 * g for name, g in part.items()} for part in parts] for parts in GRADIENTS]
    after = train(WEIGHTS, summed, RATES, Recipe())
    fit = identify_update(UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=after), ADAMW, rates=RATES)
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == ("gradient-scaled",)
    assert fit.best.values["gradient_factor"] == 2.0


def test_another_rate_in_each_step_is_fitted_where_no_law_reproduces_the_side() -> None:
    rates = [rate * factor for rate, factor in zip(RATES, (1.0, 1.5, 0.7, 1.2, 0.9), strict=True)]
    after = train(WEIGHTS, GRADIENTS, rates, Recipe())
    fit = identify_update(UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=after), ADAMW, rates=RATES)
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == ("learning-rate-scaled",)
    assert fit.best.values["factors"] == pytest.approx([1.0, 1.5, 0.7, 1.2, 0.9], rel=1e-4)


TWO: list[tuple[UpdateLaw, dict[str, Any], set[str]]] = [
    (ADAMW, {"place": "hat", "epsilon": 1e-7}, {"epsilon-placement", "epsilon-value"}),
    (ADAMW, {"correct": (False, False), "decay": 0.1}, {"no-bias-correction", "weight-decay-value"}),
    (ADAMW, {"clip": "none", "decayed": lambda _: True}, {"no-clipping", "decay-excluded-wrong"}),
    (ADAMW, {"factor": 2.0, "place": "hat"}, {"learning-rate-scaled", "epsilon-placement"}),
    (ADAMW, {"clips_replicas": True, "epsilon": 1e-5}, {"clipped-before-all-reduce", "epsilon-value"}),
    (ADAMW, {"frozen": (POOLER,), "decay": 0.1}, {"parameters-not-updated", "weight-decay-value"}),
    (ADAMW, {"family": "sgd", "factor": 30.0, "coupling": "gradient"}, {"other-optimizer", "learning-rate-scaled"}),
    (LAMB_LAW, {**LAMB, "correct": (True, True), "adapted": lambda _: True}, {"bias-correction", "trust-ratio"}),
    (LAMB_LAW, {**LAMB, "epsilon": 1e-4, "factor": 2.0}, {"epsilon-value", "learning-rate-scaled"}),
]  # fmt: skip


@pytest.mark.parametrize(("law", "fault", "names"), TWO, ids=[" and ".join(sorted(case[2])) for case in TWO])
def test_two_faults_are_both_named(law: UpdateLaw, fault: dict[str, Any], names: set[str]) -> None:
    fit = fit_of(Recipe(**fault), law)
    assert fit.confirmed
    assert fit.best is not None
    assert set(fit.best.names) == names
    assert fit.best.values["sentences"].keys() == names


def test_keras_defaults_for_a_recipe_of_another_kind_are_five_faults() -> None:
    fit = fit_of(Recipe(place="hat", epsilon=1e-7, decay=0.004, decayed=lambda _: True, clip="none"))
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.values["law"] == "AdamW, ε hat 1e-07, β 0.9, 0.999, decay 0.004 on everything, no clipping"


@pytest.mark.parametrize("family", ["lion", "sign"])
def test_an_unknown_law_is_not_confirmed(family: str) -> None:
    fit = fit_of(Recipe(family=family))
    assert not fit.equal
    assert not fit.confirmed
    assert min(candidate.residual for candidate in fit.tried) > 10


def test_weights_that_are_no_numbers_are_not_confirmed() -> None:
    after = train(WEIGHTS, GRADIENTS, RATES, Recipe())
    after[3][POOLER][:] = np.nan
    fit = identify_update(
        UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=after), ADAMW, rates=RATES, max_faults=1
    )
    assert not fit.equal
    assert not fit.confirmed


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_what_was_identified_can_be_put_into_the_reference() -> None:
    fit = fit_of(Recipe(place="hat", epsilon=1e-7, decayed=lambda name: name != WORDS))
    assert fit.best is not None
    found = settings_of(LawSettings.of(ADAMW), fit.best)
    assert (found.epsilon_at, found.epsilon) == ("hat", pytest.approx(1e-7))
    assert fit_of(Recipe(place="hat", epsilon=1e-7, decayed=lambda name: name != WORDS), found).equal  # type: ignore[arg-type]


def test_an_observation_that_does_not_fit_together_is_refused() -> None:
    after = train(WEIGHTS, GRADIENTS, RATES, Recipe())
    with pytest.raises(ValueError, match="4 rates"):
        identify_update(UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=after), ADAMW, rates=RATES[:4])
    with pytest.raises(ValueError, match="shapes"):
        turned = [{**step, "predictions.dense.weight": np.zeros((3, 2), np.float32)} for step in after]
        identify_update(UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=turned), ADAMW, rates=RATES)


def test_probes_make_every_setting_matter() -> None:
    sizes = np.concatenate([np.abs(g).ravel() for g in GRADIENTS[3][0].values()])
    assert np.quantile(sizes, 0.1) < 1e-7
    assert sizes.max() > 1
    norms = [np.sqrt(sum(float(np.sum(np.square(g))) for g in mean.values())) for mean in _means()]
    assert min(norms) < 0.5 < 2 < max(norms)
    assert not WEIGHTS["sop_classifier.classifier.weight"].any()
    assert all(WEIGHTS[name].any() for name in WEIGHTS if name.endswith("bias"))


def _means() -> Sequence[Arrays]:
    return [
        {name: np.mean([part[name] for part in parts], axis=0, dtype=np.float64) for name in WEIGHTS}
        for parts in GRADIENTS
    ]


def test_laws_are_described_in_a_line() -> None:
    assert describe_law(LawSettings.of(LAMB_LAW)).split(", ") == [
        "LAMB",
        "ε 1e-06",
        "β 0.9",
        "0.999",
        "decay 0.01 in the update on matrices",
        "ratio on matrices",
        "clipping by global norm 1",
    ]


def test_a_law_is_identified_in_seconds() -> None:
    for recipe, most in ((Recipe(), 0.4), (Recipe(place="hat"), 2.0)):
        after = train(WEIGHTS, GRADIENTS, RATES, recipe)
        observation = UpdateObservation(start=WEIGHTS, gradients=GRADIENTS, weights=after)
        before = time.process_time()
        identify_update(observation, ADAMW, rates=RATES)
        assert time.process_time() - before < most

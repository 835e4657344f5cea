"""Which combination of components a side's gradients are: sides made of float32 gradients of a small model."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.laws.blocks import WORDS
from lossary.diagnosis.laws.gradients import GradientObservation, MicroGradients, identify_gradients, micro_gradients
from lossary.diagnosis.laws.probes import measure_feeds
from lossary.diagnosis.laws.ratios import LossLaw, reference_law
from lossary.diagnosis.laws.scored import mlm_sums
from lossary.diagnosis.probes import probe_feed, probe_parameters
from lossary.models.arbiter import Architecture, Arithmetic, loss_gradients, record
from lossary.models.shapes import AlbertShape

SHAPE = AlbertShape(
    vocabulary_size=120, hidden_size=24, num_layers=2, num_heads=4, intermediate_size=48, embedding_size=16
)
ARCHITECTURE = Architecture.of(SHAPE)
Gradients = dict[str, np.ndarray]
LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"


@cache
def parameters(seed: int) -> Gradients:
    return probe_parameters(SHAPE, seed)


@cache
def feeds(seed: int, k: int) -> tuple[Feed, ...]:
    """Micro batches with unequal numbers of masked positions and of pairs."""
    made = [probe_feed(SHAPE, 100 * seed + i, examples=6 + 2 * i, length=20 + 8 * i) for i in range(k)]
    return tuple(measure_feeds(feed, count=1, seed=seed)[0] for feed in made)


@cache
def micro(seed: int, k: int) -> tuple[MicroGradients, ...]:
    return tuple(micro_gradients(parameters(seed), ARCHITECTURE, feed) for feed in feeds(seed, k))


@cache
def float32_parts(seed: int, k: int) -> tuple[list[Gradients], list[Gradients], list[np.ndarray], list[np.ndarray]]:
    """Each objective of each micro batch as a float32 program has it: MLM, SOP, tied parts, lookup parts."""
    mlm, sop, tied, lookup = [], [], [], []
    for i, feed in enumerate(feeds(seed, k)):
        run = record(parameters(seed), ARCHITECTURE, feed, precision=Arithmetic("float32", "shuffled", 77 + i))
        seeds = loss_gradients(run.outputs, feed.labels, feed.weights, feed.sop_labels)
        found = run.gradients(seeds.d_mlm, None)
        mlm.append(found.parameters)
        tied.append(found.tied_part)
        lookup.append(found.lookup_part)
        sop.append(run.gradients(None, seeds.d_sop).parameters)
    return mlm, sop, tied, lookup


def sizes(seed: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    given = feeds(seed, k)
    return np.array([f.weights.sum() for f in given]), np.array([(f.sop_labels >= 0).sum() for f in given])


def added(seed: int, k: int, mlm_weights: np.ndarray, sop_weights: np.ndarray) -> Gradients:
    mlm, sop, _, _ = float32_parts(seed, k)
    return {
        name: sum(
            np.float32(a) * one[name] + np.float32(b) * two[name]
            for a, b, one, two in zip(mlm_weights, sop_weights, mlm, sop, strict=True)
        )
        for name in mlm[0]
    }


def right(seed: int, k: int) -> Gradients:
    masked, pairs = sizes(seed, k)
    return added(seed, k, masked / masked.sum(), pairs / pairs.sum())


Side = Callable[[int, int], Gradients]


def observe(side: Side, seed: int = 0, ks: tuple[int, ...] = (1, 2, 3)) -> list[GradientObservation]:
    return [GradientObservation(gradients=side(seed, k), micro=micro(seed, k)) for k in ks]


def scaled(factor: float) -> Side:
    return lambda seed, k: {name: np.float32(factor) * value for name, value in right(seed, k).items()}


def weighted(mlm: float, sop: float) -> Side:
    def side(seed: int, k: int) -> Gradients:
        masked, pairs = sizes(seed, k)
        return added(seed, k, mlm * masked / masked.sum(), sop * pairs / pairs.sum())

    return side


def alike(weights: Callable[[int], np.ndarray]) -> Side:
    return lambda seed, k: added(seed, k, weights(k), weights(k))


def without(*names: str) -> Side:
    return lambda seed, k: {name: value for name, value in right(seed, k).items() if name not in names}


def part_missing(which: int) -> Side:
    """Word embeddings without what comes through the decoder (2), or through the lookup (3)."""

    def side(seed: int, k: int) -> Gradients:
        masked, pairs = sizes(seed, k)
        parts = float32_parts(seed, k)
        lacking = sum(np.float32(a) * part for a, part in zip(masked / masked.sum(), parts[which], strict=True))
        if which == 3:
            lacking = lacking + sum(
                np.float32(b) * part[WORDS] for b, part in zip(pairs / pairs.sum(), parts[1], strict=True)
            )
        found = right(seed, k)
        return found | {WORDS: found[WORDS] - lacking}

    return side


def over_slots(seed: int, k: int) -> Gradients:
    masked, pairs = sizes(seed, k)
    slots = np.array([f.positions.size for f in feeds(seed, k)])
    return added(seed, k, masked / slots.sum(), pairs / pairs.sum())


QUERY = f"{LAYER}.attention.query.weight"
FAULTS: dict[str, tuple[Side, set[str]]] = {
    "sum": (alike(np.ones), {"loss-times-micro-batches"}),
    "times": (lambda s, k: scaled(float(k))(s, k), {"loss-times-micro-batches"}),
    "mean": (alike(lambda k: np.full(k, 1 / k)), {"mean-of-means"}),
    "last": (alike(lambda k: np.eye(k)[-1]), {"one-micro-batch-only"}),
    "loss scale": (scaled(65536.0), {"gradient-scaled"}),
    "small": (scaled(0.01), {"gradient-scaled"}),
    "sop half": (weighted(1.0, 0.5), {"objective-weight"}),
    "no sop": (weighted(1.0, 0.0), {"objective-weight"}),
    "no mlm": (weighted(0.0, 1.0), {"objective-weight"}),
    "mlm third": (weighted(1 / 3, 1.0), {"objective-weight"}),
    "both": (weighted(0.7, 0.3), {"objective-weight"}),
    "frozen": (without(QUERY, "albert.pooler.bias"), {"gradient-missing"}),
    "tied": (part_missing(2), {"tied-gradient-missing"}),
    "lookup": (part_missing(3), {"gradient-missing"}),
    "slots": (over_slots, {"gradient-scaled"}),
    "mean, frozen": (
        lambda s, k: {n: v for n, v in FAULTS["mean"][0](s, k).items() if n != QUERY},
        {"mean-of-means", "gradient-missing"},
    ),
    "half of a sum": (
        lambda s, k: {n: np.float32(0.3) * v for n, v in FAULTS["sum"][0](s, k).items()},
        {"loss-times-micro-batches", "gradient-scaled"},
    ),
    "tied, scaled": (
        lambda s, k: {n: np.float32(3.0) * v for n, v in FAULTS["tied"][0](s, k).items()},
        {"tied-gradient-missing", "gradient-scaled"},
    ),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_named_fault(name: str, seed: int) -> None:
    side, names = FAULTS[name]
    fit = identify_gradients(observe(side, seed))
    assert fit.confirmed, (fit.distance, fit.tried[:2])
    assert set(fit.best.names) == names
    assert not fit.ties
    assert fit.distance > 100


@pytest.mark.parametrize("seed", range(25))
def test_healthy_gradients_are_left_alone(seed: int) -> None:
    fit = identify_gradients(observe(right, seed, (1, 2)))
    assert fit.equal
    assert fit.distance < 0.8


def test_values() -> None:
    assert identify_gradients(observe(scaled(65536.0))).best.values["factor"] == 65536.0
    assert identify_gradients(observe(weighted(1.0, 0.5))).best.values["sop_weight"] == pytest.approx(0.5, abs=1e-5)
    assert identify_gradients(observe(weighted(1.0, 0.0))).best.says.endswith("is missing")
    best = identify_gradients(observe(without(QUERY, "albert.pooler.bias"))).best
    assert best.values["parameters"] == sorted([QUERY, "albert.pooler.bias"])
    assert identify_gradients(observe(part_missing(3))).best.values["part"] == "lookup"


def test_a_key_bias_is_judged_by_its_own_noise() -> None:
    """Its gradient is 0 but for rounding: any rounding is fine, a real gradient is not."""
    name = f"{LAYER}.attention.key.bias"

    def side(size: float) -> Side:
        def made(seed: int, k: int) -> Gradients:
            found = right(seed, k)
            return found | {name: found[name] + np.float32(size)}

        return made

    exact = identify_gradients(observe(lambda s, k: right(s, k) | {name: np.zeros(SHAPE.hidden_size, np.float32)}))
    assert exact.equal
    fit = identify_gradients(observe(side(1e-3)))
    assert not fit.equal
    assert not fit.confirmed


def test_one_step_leaves_a_factor_and_the_number_of_micro_batches_open() -> None:
    fit = identify_gradients(observe(scaled(2.0), ks=(2,)))
    assert fit.confirmed
    assert {name for c in (fit.best, *fit.ties) for name in c.names} >= {"loss-times-micro-batches", "gradient-scaled"}


def test_an_objective_that_is_cut_off_in_some_tensors() -> None:
    head = [name for name in parameters(0) if not name.startswith(("sop", "albert.pooler"))]

    def side(seed: int, k: int) -> Gradients:
        return right(seed, k) | {name: weighted(1.0, 0.0)(seed, k)[name] for name in head}

    fit = identify_gradients(observe(side))
    assert fit.confirmed
    assert fit.best.names == ("gradient-missing",)
    assert fit.best.values["objective"] == "sop"
    assert QUERY in fit.best.values["parameters"]
    assert "sop_classifier.classifier.weight" not in fit.best.values["parameters"]


def test_one_tensor_that_is_scaled() -> None:
    def side(seed: int, k: int) -> Gradients:
        found = right(seed, k)
        return found | {WORDS: np.float32(4.0) * found[WORDS]}

    best = identify_gradients(observe(side)).best
    assert best.names == ("gradient-scaled",)
    assert best.residual <= 1
    assert best.values == {"factor": 4.0, "parameters": [WORDS]}


def test_gradients_that_are_clipped_already() -> None:
    def side(seed: int, k: int) -> Gradients:
        found = right(seed, k)
        norm = np.sqrt(sum(float(np.square(v).sum()) for v in found.values()))
        return {name: np.float32(min(1.0, 0.05 / norm)) * value for name, value in found.items()}

    fit = identify_gradients(observe(side))
    assert fit.confirmed
    assert fit.best.values["clip"] == pytest.approx(0.05, rel=1e-3)


def test_gradients_that_are_not_set_to_zero() -> None:
    kept: Gradients = {}

    def side(seed: int, k: int) -> Gradients:
        for name, value in right(seed, k).items():
            kept[name] = kept.get(name, np.float32(0)) + value
        return dict(kept)

    fit = identify_gradients(observe(side))
    assert fit.confirmed
    assert fit.best.names == ("gradients-not-zeroed",)


def test_an_unknown_gradient_is_not_confirmed() -> None:
    random = np.random.default_rng(5)

    def noisy(seed: int, k: int) -> Gradients:
        return {
            n: (v * (1 + 0.01 * random.standard_normal(v.shape))).astype(np.float32) for n, v in right(seed, k).items()
        }

    def signs(seed: int, k: int) -> Gradients:
        return {name: np.sign(value) for name, value in right(seed, k).items()}

    def by_norm(seed: int, k: int) -> Gradients:
        return {name: value / np.linalg.norm(value) for name, value in right(seed, k).items()}

    for side in (noisy, signs, by_norm):
        for seed in range(3):
            fit = identify_gradients(observe(side, seed))
            assert not fit.equal
            assert not fit.confirmed, fit.best


def test_components_of_a_known_law() -> None:
    """A side whose labels are smoothed, and which scores unused slots: with that law its gradients are right."""
    seed = 3
    feed = feeds(seed, 1)[0]
    run = record(parameters(seed), ARCHITECTURE, feed)
    outputs = {"mlm": run.outputs.mlm, "sop": run.outputs.sop}
    spaces = mlm_sums(outputs, feed, [int(feed.labels[0, 0])]).spaces
    by_key = {(space.key, space.ignored): space for space in spaces}
    laws = [
        replace(reference_law(by_key["masked", None], "mlm_loss"), smoothing=0.1),
        reference_law(by_key["slots", None], "mlm_loss"),
        reference_law(by_key["masked", int(feed.labels[0, 0])], "mlm_loss"),
    ]
    for law in laws:
        found = micro_gradients(parameters(seed), ARCHITECTURE, feed, mlm=law).mlm.gradients
        difference = numeric(law, seed, feed, "predictions.bias", 17)
        assert found["predictions.bias"][17] == pytest.approx(difference, rel=1e-5, abs=1e-9)
        difference = numeric(law, seed, feed, QUERY, (3, 4))
        assert found[QUERY][3, 4] == pytest.approx(difference, rel=1e-4, abs=1e-9)


def numeric(law: LossLaw, seed: int, feed: Feed, name: str, at: int | tuple[int, int]) -> float:
    """The derivative of the law's value by one weight, by central differences."""
    values = []
    for step in (1e-5, -1e-5):
        moved = {key: value.astype(np.float64) for key, value in parameters(seed).items()}
        moved[name][at] += step
        outputs = record(moved, ARCHITECTURE, feed).outputs
        sums = mlm_sums({"mlm": outputs.mlm, "sop": outputs.sop}, feed, [int(feed.labels[0, 0])])
        values.append(law.value(sums, "mlm_loss")[0])
    return (values[0] - values[1]) / 2e-5


def test_shapes_are_checked() -> None:
    seen = observe(lambda s, k: right(s, k) | {QUERY: np.zeros(3)})
    with pytest.raises(ValueError, match="query"):
        identify_gradients(seen)
    with pytest.raises(ValueError, match="no step"):
        identify_gradients([])


def test_quick_enough() -> None:
    for side in (right, FAULTS["mean"][0], FAULTS["tied, scaled"][0]):
        seen = observe(side, ks=(1, 2, 3))
        started = time.process_time()
        identify_gradients(seen)
        assert time.process_time() - started < 3

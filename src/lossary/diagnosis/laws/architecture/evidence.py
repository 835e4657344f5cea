"""What a side computed, the same stages by the arbiter, and how far apart two programs may be.

    tolerance = Tolerances.measured(observation, architecture, "float32", comparisons=4)
    tolerance.outputs["mlm"]                 # an RMS deviation of logits; more is no noise

How the tolerance is made. Two programs that compute the same function differ by rounding. The arbiter measures by how
much: it runs in the side's precision in eight ways that are equally right and each run is held against float64; what
counts is the root of the mean square over an output. In fp32 the ways are sums in another order, in blocks, layer
normalisation folded, and weights moved to a neighbouring float. In lower precision, where the rounding of the weights
is much of the error and would be the same in all runs, weights are moved by up to a step of that precision and each run
is held against float64 of the moved ones; half of the runs round matrix products only. Over such runs the logarithm is
near normal, so that the next program, the side, stays below mean + t·s·√(1 + 1/n) but with probability 0.01 / number
of comparisons: the prediction bound of n runs. For 3 layers of width 48 that is 3 to 8 times the typical run; PyTorch,
TensorFlow and JAX were seen between 0.5 and 1.6 times it in fp32, and up to 2.2 times it in bf16.

A side's own noise (reruns, one-ulp moves), where larger than the typical run, takes its place. It does so only up to
that bound: a side noisier than its precision explains does something else than that precision, and its noise is then
what is to be explained, no excuse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.calibration import FALSE_ALARMS
from lossary.diagnosis.laws.architecture.walk import Walker
from lossary.models.arbiter import Architecture, Arithmetic, Order, Precision
from lossary.models.parameters import Parameters

__all__ = [
    "FALSE_ALARMS",
    "Band",
    "Observation",
    "Tolerances",
    "deviation",
    "moved_by_one_ulp",
    "scored",
    "ways_of",
]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One question to a side, and its answer."""

    parameters: Parameters
    feed: Feed
    mlm: NDArray[Any] | None  # (B, P, V) logits at the feed's positions
    sop: NDArray[Any] | None  # (B, 2)
    # By the arbiter's names: embeddings, mapped, layer.K.attention, layer.K, pooled, mlm_hidden; some, all or none.
    activations: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    noise: Mapping[str, float] = field(
        default_factory=dict
    )  # of an output: RMS of what reruns and one-ulp moves change

    def answers(self) -> dict[str, NDArray[Any]]:
        """The logits that there are."""
        return {name: value for name, value in (("mlm", self.mlm), ("sop", self.sop)) if value is not None}

    def rows(self, chosen: NDArray[np.intp]) -> "Observation":
        """Some of its examples."""
        return Observation(
            parameters=self.parameters,
            feed=self.feed.take(chosen),
            mlm=None if self.mlm is None else self.mlm[chosen],
            sop=None if self.sop is None else self.sop[chosen],
            activations={name: value[chosen] for name, value in self.activations.items()},
            noise=self.noise,
        )


def scored(feed: Feed, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Those rows of an output that mean something: no unused positions, no padding."""
    if name in ("mlm", "mlm_hidden"):
        return np.asarray(values[feed.weights > 0])
    if name in ("sop", "pooled"):
        return values
    return np.asarray(values[feed.attention_mask != 0])


def deviation(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Root mean square of the difference; infinite where one of them is no number."""
    if not left.size:
        return 0.0
    difference = np.asarray(left, np.float64) - right
    value = float(np.sqrt(np.mean(np.square(difference, out=difference))))
    return value if np.isfinite(value) else np.inf


def moved_by_one_ulp(parameters: Mapping[str, NDArray[Any]], seed: int) -> Parameters:
    """Each weight at the next larger or smaller float32, by a coin; zeros stay."""
    random = np.random.default_rng([seed, 1])
    moved = {}
    for name, value in parameters.items():
        # Neighbours differ by 1 as integers.
        words = np.array(value, np.float32).view(np.int32)
        words += np.where(words & 0x7FFFFFFF, random.integers(0, 2, words.shape, np.int8) * 2 - 1, 0)
        moved[name] = words.view(np.float32)
    return moved


class Way(NamedTuple):
    """One of several ways of computing the same."""

    arithmetic: Arithmetic
    seed: int  # of how the weights are moved; 0: not at all

    def weights(self, parameters: Parameters) -> Parameters:
        """Moved by one ulp, or in low precision by up to a step of it: rounded, they are other numbers then."""
        if not self.seed:
            return parameters
        if self.exact_is_moved:
            return _moved_by(parameters, _STEP[self.arithmetic.precision], self.seed)
        return moved_by_one_ulp(parameters, self.seed)

    @property
    def exact_is_moved(self) -> bool:
        """Whether a run is held against float64 of the moved weights."""
        return self.arithmetic.precision in _STEP


_STEP: dict[Precision, float] = {
    "tf32": 2.0**-11,
    "bf16": 2.0**-8,
    "bf16_products": 2.0**-8,
    "fp16": 2.0**-11,
    "fp16_products": 2.0**-11,
}


def _moved_by(parameters: Parameters, share: float, seed: int) -> Parameters:
    """Each weight times a random number within `share` of 1."""
    random = np.random.default_rng([seed, 2])
    return {
        name: value * random.uniform(1.0 - share, 1.0 + share, value.shape).astype(np.float32)
        for name, value in parameters.items()
    }


def ways_of(precision: Precision) -> tuple[Way, ...]:
    """Eight ways in one precision."""
    if precision in ("bf16", "fp16"):
        products: Precision = "bf16_products" if precision == "bf16" else "fp16_products"
        return tuple(
            Way(Arithmetic(kind, "shuffled" if seed else "plain", seed), seed)
            for seed in range(4)
            for kind in (precision, products)
        )
    if precision == "fp16_norms":
        ordered: tuple[Order, ...] = ("plain", "blocks", "shuffled", "blocks", "shuffled", "blocks")
        return tuple(Way(Arithmetic(precision, order, seed), seed) for seed, order in enumerate(ordered))
    if precision == "tf32":
        return tuple(Way(Arithmetic(precision, "shuffled" if seed else "plain", seed), seed) for seed in range(8))
    orders: tuple[tuple[Order, int], ...] = (
        ("plain", 0),
        ("shuffled", 1),
        ("shuffled", 2),
        ("blocks", 0),
        ("shuffled", 3),
    )
    unmoved = [Way(Arithmetic(precision, order, seed), 0) for order, seed in orders]
    moved = [Way(Arithmetic(precision), seed) for seed in (1, 2, 3)]
    # The first few are a fair choice, too.
    return (unmoved[0], moved[0], unmoved[1], moved[1], *unmoved[2:], moved[2])


class Band(NamedTuple):
    """What runs in several ways deviate by: geometric mean, and the factor from it to the prediction bound."""

    typical: float
    factor: float

    @classmethod
    def of(cls, samples: Sequence[float], comparisons: int) -> Self:
        """Of RMS deviations; ones that are 0 or infinite say nothing about size."""
        sizes = np.array([value for value in samples if 0.0 < value < np.inf])
        if len(sizes) < 2:
            return cls(float(sizes[0]) if len(sizes) else 0.0, 1.0)
        logs = np.log(sizes)
        quantile = float(student.isf(FALSE_ALARMS / max(1, comparisons), len(logs) - 1))
        half = quantile * float(logs.std(ddof=1)) * np.sqrt(1.0 + 1.0 / len(logs))
        typical = float(np.exp(logs.mean()))
        return cls(typical, max(float(np.exp(half)), float(sizes.max()) / typical))

    def bound(self, noise: float) -> float:
        """The tolerance of a side with some noise of its own."""
        largest = self.typical * self.factor
        return min(max(self.typical, noise) * self.factor, largest * self.factor)


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """RMS deviations that rounding explains, of one observation."""

    outputs: Mapping[str, float]  # of logits, computed from the feed
    stages: Mapping[str, float]  # of each stage, computed from the side's own result of the one before

    @classmethod
    def measured(
        cls,
        observation: Observation,
        architecture: Architecture,
        precision: Precision,
        comparisons: int,
        *,
        ways: int = 8,
    ) -> Self:
        """Runs the arbiter in the ways of a precision, or the first few."""
        exact: dict[int, _Run] = {}
        outputs: dict[str, list[float]] = {}
        stages: dict[str, list[float]] = {}
        for way in ways_of(precision)[:ways]:
            weights, key = way.weights(observation.parameters), way.seed if way.exact_is_moved else 0
            if key not in exact:
                exact[key] = _Run(observation, architecture, weights if key else observation.parameters, Arithmetic())
            run = _Run(observation, architecture, weights, way.arithmetic)
            for errors, ours, found in (
                (outputs, exact[key].outputs, run.outputs),
                (stages, exact[key].stages, run.stages),
            ):
                for name, value in found.items():
                    reference = scored(observation.feed, name, ours[name])
                    errors.setdefault(name, []).append(deviation(scored(observation.feed, name, value), reference))
        noise = observation.noise
        return cls(
            outputs={k: Band.of(v, comparisons).bound(noise.get(k, 0.0)) for k, v in outputs.items()},
            stages={name: Band.of(errors, comparisons).bound(0.0) for name, errors in stages.items()},
        )


class _Run:
    """The arbiter's results in one way: from the feed, and stage by stage from the side's own."""

    def __init__(
        self, observation: Observation, architecture: Architecture, weights: Parameters, arithmetic: Arithmetic
    ) -> None:
        walker = Walker(weights, observation.feed, observation.activations, arithmetic)
        names = observation.answers()
        found = walker.outputs(architecture)
        self.outputs = {name: found[name][1] for name in names}
        self.stages: dict[str, NDArray[Any]] = {}
        if observation.activations:
            shown = {*observation.activations, *names}
            self.stages = {name: value for name, (_, value) in walker.stages(architecture).items() if name in shown}

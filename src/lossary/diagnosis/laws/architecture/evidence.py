"""What a side computed, the same stages by the arbiter, and how far apart two programs may be.

    tolerance = Tolerances.measured(observation, architecture, "float32", comparisons=4)
    tolerance.outputs["mlm"]                 # an RMS deviation of logits; more is no noise

How the tolerance is made. Two programs that compute the same function differ by rounding. The arbiter measures by how
much: it runs in the side's precision in eight ways that are equally right (sums in another order, in blocks, layer
normalisation folded, weights moved to a neighbouring float) and each run is held against float64; what counts is the
root of the mean square over an output. Over such runs its logarithm is near normal, so that the next program, the side,
stays below mean + t·s·√(1 + 1/n) but with probability 0.01 / number of comparisons: the prediction bound of n runs.
For 3 layers of width 48 that is 3 to 6 times the typical run; PyTorch, TensorFlow and JAX were seen between 0.5 and
1.6 times it in fp32, and up to 2.2 times it in bf16.

A side's own noise (reruns, one-ulp moves), where larger than the typical run, takes its place. It does so only up to
that bound: a side noisier than its precision explains does something else than that precision, and its noise is then
what is to be explained, no excuse.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.laws.architecture.walk import Walker
from lossary.models.arbiter import Architecture, Arithmetic, Precision
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

FALSE_ALARMS = 0.01  # in one identification of a healthy side
OUTPUTS = ("mlm", "sop")


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
    moved: int  # seed of a one-ulp move of the weights; 0: none


def ways_of(precision: Precision) -> tuple[Way, ...]:
    """Eight ways in one precision; in low precision half of them round matrix products only."""
    orders = [Way(Arithmetic(precision, "shuffled", seed), 0) for seed in (1, 2)]
    whole = [Way(Arithmetic(precision), 0), *orders, Way(Arithmetic(precision), 1)]
    if precision in ("bf16", "fp16"):
        other: Precision = "bf16_products" if precision == "bf16" else "fp16_products"
        return (
            *whole,
            *(Way(Arithmetic(other, way.arithmetic.order, way.arithmetic.seed), way.moved) for way in whole),
        )
    more = [Way(Arithmetic(precision, "shuffled", 3), 0), Way(Arithmetic(precision, "blocks"), 0)]
    return (*whole, *more, *(Way(Arithmetic(precision), seed) for seed in (2, 3)))


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
        exact = _Run(observation, architecture, Way(Arithmetic(), 0))
        runs = [_Run(observation, architecture, way) for way in ways_of(precision)[:ways]]
        whole = {name: [run.outputs[name] for run in runs] for name in exact.outputs}
        parts = {name: [run.stages[name] for run in runs] for name in exact.stages}
        feed = observation.feed
        outputs = {
            name: Band.of(_errors(feed, name, exact.outputs[name], found), comparisons).bound(
                observation.noise.get(name, 0.0)
            )
            for name, found in whole.items()
        }
        stages = {
            name: Band.of(_errors(feed, name, exact.stages[name], found), comparisons).bound(0.0)
            for name, found in parts.items()
        }
        return cls(outputs=outputs, stages=stages)


class _Run:
    """The arbiter's results in one way: from the feed, and stage by stage from the side's own."""

    def __init__(self, observation: Observation, architecture: Architecture, way: Way) -> None:
        parameters = moved_by_one_ulp(observation.parameters, way.moved) if way.moved else observation.parameters
        walker = Walker(parameters, observation.feed, observation.activations, way.arithmetic)
        names = observation.answers()
        self.outputs = {name: walker.outputs(architecture)[name][1] for name in names}
        self.stages: dict[str, NDArray[Any]] = {}
        if observation.activations:
            found = walker.stages(architecture)
            self.stages = {
                name: value for name, (_, value) in found.items() if name in observation.activations or name in names
            }


def _errors(feed: Feed, name: str, exact: NDArray[Any], found: Iterable[NDArray[Any]]) -> list[float]:
    reference = scored(feed, name, exact)
    return [deviation(scored(feed, name, value), reference) for value in found]

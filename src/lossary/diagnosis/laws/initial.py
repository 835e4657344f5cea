"""Which law the weights that a side begins with were drawn from, tensor by tensor, by a test of their distribution.

    fit, defaults = identify_initial(side.initial(), scale=0.02)

Expected is what ALBERT declares: matrices normal with the scale as deviation, truncated at two of it or not; biases 0;
layer normalisation 1. Where a tensor is otherwise, the law of another way of beginning that its values agree with names
the difference: what a framework draws unless told, another deviation, zeros. Tensors with equal draws are looked for.
Where *all* matrices are a framework's default, that is no fault but another choice: `defaults` says which.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from lossary.diagnosis.calibration import ALARM_LEVEL, LEAST_DRAWN, REPRODUCED_LEVEL
from lossary.diagnosis.fit import Candidate, Fit
from lossary.models.parameters import is_excluded

__all__ = ["identify_initial"]

Arrays = Mapping[str, NDArray[Any]]
_BEYOND = float("inf")
_SAMPLE = 20_000  # values of a tensor that are looked at: what rounds to 16 bits agrees with its law still
_PREFIX = 4096  # values of each of two tensors whose draws may be the same
_TRUNCATED = float(stats.truncnorm(-2, 2).std())
_HOW = (
    "Kolmogorov's test of each matrix against the declared law, together at level {level:g}; biases and norms exactly"
)


@dataclass(frozen=True)
class _Law:
    """A distribution that has no free number left."""

    name: str  # of the fault
    says: str
    below: Callable[[NDArray[np.float64]], NDArray[np.float64]]  # its distribution function
    deviation: float = 0.0  # where it is known
    default: bool = False  # whether a framework draws so unless told


def identify_initial(initial: Arrays, *, scale: float) -> tuple[Fit, dict[str, list[str]]]:
    """How far weights are from what is declared, and by law the tensors that are a framework's default, if all are."""
    tests = 2 * len(initial)
    expected = [_normal(scale), _truncated(scale), _truncated(scale / _TRUNCATED)]
    found = {
        name: _judged(name, np.asarray(value, np.float64), expected, tests, _inputs(name, initial))
        for name, value in initial.items()
    }
    matrices = {name: one for name, one in found.items() if _is_matrix(name)}
    same = list(_same_draws(initial, tests))
    defaults: dict[str, list[str]] = {}
    if any(one.default for one in matrices.values()) and all(one.default or one.either for one in matrices.values()):
        for name, one in found.items():
            if one.default and one.law is not None:
                defaults.setdefault(one.law.says, []).append(name)
                found[name] = _Judged(0.0)
    for name, one in found.items():
        weight = found.get(name.removesuffix(".bias") + ".weight")
        if name.endswith(".bias") and one.law is not None and one.law.default and not (weight and weight.default):
            # Few values agree with many laws: a layer's bias is a default where its weight is one.
            most = float(np.abs(initial[name]).max())
            found[name] = _Judged(one.distance, _Law("initial-not-constant", f"not the same, within {most:.2g}", ndtr))
    scales = [_as_scale(name, one, initial[name], tests) for name, one in matrices.items() if found[name].distance > 1]
    if (
        scales
        and all(one is not None for one in scales)
        and not all(one.default for one in matrices.values() if one.distance > 1)
    ):
        # One name for all that differ, where a few values would agree with another law as well.
        wrong_names = [name for name in matrices if found[name].distance > 1]
        found |= {name: one for name, one in zip(wrong_names, scales, strict=True) if one is not None}
    wrong = {name: one for name, one in found.items() if one.distance > 1}
    distance = max([one.distance for one in found.values()] + [_BEYOND] * bool(same), default=0.0)
    how = _HOW.format(level=ALARM_LEVEL)
    return Fit(distance=distance, tried=tuple(_candidates(wrong, same)), how=how), defaults


@dataclass(frozen=True)
class _Judged:
    """How far a tensor is from what is declared, and the law that its values agree with."""

    distance: float
    law: _Law | None = None
    residual: float = 0.0  # from that law
    either: bool = False  # as declared, and so small that it agrees with a framework's default, too

    @property
    def default(self) -> bool:
        """Whether it is what a framework draws unless told."""
        return self.distance > 1 and self.law is not None and self.law.default


def _inputs(name: str, initial: Arrays) -> int:
    """Of a layer's weight and bias, the numbers that it takes in; 0 where it is none."""
    weight = initial.get(name.removesuffix(".bias") + ".weight" if name.endswith(".bias") else name)
    return weight.shape[1] if weight is not None and weight.ndim > 1 else 0


def _judged(name: str, value: NDArray[np.float64], expected: list[_Law], tests: int, inputs: int) -> _Judged:
    if not np.isfinite(value).all():
        return _Judged(_BEYOND, _Law("initial-not-finite", "not a number, or infinite", ndtr))
    if not _is_matrix(name):
        right = 0.0 if name.endswith(".bias") else 1.0
        if (value == right).all():
            return _Judged(0.0)
        return _Judged(_BEYOND, *_named(name, value, tests, inputs))
    sample = _sampled(name, value)
    distance = min(_units(_counted(name, value), sample, law, ALARM_LEVEL, tests) for law in expected)
    law, residual = _named(name, value, tests, inputs)
    if distance <= 1:
        return _Judged(distance, either=law is not None and law.default)
    return _Judged(distance, law, residual)


def _as_scale(name: str, one: "_Judged", value: NDArray[Any], tests: int) -> "_Judged | None":
    """The tensor as a normal one of another deviation, if it agrees with that."""
    if one.law is None or one.law.name == "initial-scale":
        return one if one.law is not None else None
    sample = _sampled(name, np.asarray(value, np.float64))
    deviation = float(np.sqrt(np.mean(np.square(sample))))
    if not np.isfinite(deviation) or not deviation:
        return None
    law = _normal(deviation, "initial-scale", f"normal with deviation {deviation:.3g}")
    residual = _units(sample, sample, law, REPRODUCED_LEVEL, tests)
    return _Judged(one.distance, law, residual) if residual <= 1 else None


def _named(name: str, value: NDArray[np.float64], tests: int, inputs: int) -> tuple[_Law | None, float]:
    """The first law that a tensor agrees with, and how far it is from it."""
    low, high = float(value.min()), float(value.max())
    if low == high:
        kind = "initial-zero" if low == 0 else "initial-constant"
        return _Law(kind, f"{low:g} everywhere", ndtr), 0.0
    sample = _sampled(name, value)
    for law in _laws(name, value, sample, inputs):
        residual = _units(_counted(name, value), sample, law, REPRODUCED_LEVEL, tests)
        if residual <= 1:
            return law, residual
    return None, _BEYOND


def _laws(name: str, value: NDArray[np.float64], sample: NDArray[np.float64], inputs: int) -> Iterator[_Law]:
    """Defaults of frameworks, which have no free number; then others, their scale read off the values."""
    if inputs:
        yield _uniform(inputs**-0.5, "initial-default", "uniform within 1/√inputs, as torch draws unless told")
    if value.ndim > 1:
        rows, columns = value.shape
        if "embeddings" in name:
            yield _normal(1.0, "initial-default", "normal with deviation 1, as torch draws embeddings unless told")
            yield _uniform(0.05, "initial-default", "uniform within 0.05, as Keras draws embeddings unless told")
        bound = np.sqrt(6 / (rows + columns))
        yield _uniform(bound, "initial-default", "uniform as Glorot proposed, as Keras draws unless told")
        deviation = columns**-0.5
        yield _truncated(
            deviation / _TRUNCATED, "initial-default", "normal as LeCun proposed, as Flax draws unless told"
        )
    deviation = float(np.sqrt(np.mean(np.square(sample))))
    kind = "initial-scale" if value.ndim > 1 else "initial-not-constant"
    yield _normal(deviation, kind, f"normal with deviation {deviation:.3g}")
    yield _truncated(
        deviation / _TRUNCATED, kind, f"normal, truncated at two deviations, with deviation {deviation:.3g}"
    )
    bound = float(np.abs(sample).max())
    yield _uniform(bound, "initial-uniform" if value.ndim > 1 else kind, f"uniform within {bound:.3g}")


def _is_matrix(name: str) -> bool:
    return not is_excluded(name)


def _counted(name: str, value: NDArray[np.float64]) -> NDArray[np.float64]:
    """All values that were drawn: some begin with zeros for padding, which stay so."""
    if name.endswith("word_embeddings.weight") and np.any(value):
        value = value[np.any(value != 0, axis=1)]
    return value.ravel()


def _sampled(name: str, value: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = _counted(name, value)
    return flat[:: max(1, len(flat) // _SAMPLE)]


def _units(value: NDArray[np.float64], sample: NDArray[np.float64], law: _Law, level: float, tests: int) -> float:
    if len(sample) < LEAST_DRAWN:
        return 0.0
    p = float(stats.kstest(sample, law.below).pvalue)
    if law.deviation:
        # The deviation of all values tells laws apart whose shapes are too near for a sample.
        ratio = float(np.sqrt(np.mean(np.square(value)))) / law.deviation
        p = min(p, 2 * float(stats.norm.sf(abs(np.log(ratio)) * np.sqrt(2 * value.size))) if ratio else 0.0)
    return float(max(stats.norm.isf(max(p, np.finfo(float).tiny)), 0.0) / stats.norm.isf(level / tests))


def _normal(deviation: float, name: str = "", says: str = "") -> _Law:
    return _Law(name, says, lambda x: ndtr(x / deviation), deviation, name == "initial-default")


def _truncated(deviation: float, name: str = "", says: str = "") -> _Law:
    below, inside = ndtr(-2.0), ndtr(2.0) - ndtr(-2.0)
    return _Law(
        name,
        says,
        lambda x: (ndtr(np.clip(x / deviation, -2, 2)) - below) / inside,
        deviation * _TRUNCATED,
        name == "initial-default",
    )


def _uniform(bound: float, name: str, says: str) -> _Law:
    return _Law(name, says, lambda x: np.clip((x / bound + 1) / 2, 0, 1), bound / np.sqrt(3), name == "initial-default")


def _same_draws(initial: Arrays, tests: int) -> Iterator[tuple[str, str]]:
    """Pairs of matrices whose values go together, one behind the other: they were drawn from the same random state."""
    drawn = {name: np.ravel(value)[:_PREFIX].astype(np.float64) for name, value in initial.items() if _is_matrix(name)}
    usual = {name: value for name, value in drawn.items() if len(value) >= LEAST_DRAWN and value.std() > 0}
    for (first, a), (second, b) in combinations(usual.items(), 2):
        size = min(len(a), len(b))
        r = float(np.corrcoef(a[:size], b[:size])[0, 1])
        if abs(r) * np.sqrt(size) > stats.norm.isf(ALARM_LEVEL / tests**2):
            yield first, second


def _candidates(wrong: Mapping[str, _Judged], same: list[tuple[str, str]]) -> Iterator[Candidate]:
    if not wrong and not same:
        return
    groups: dict[str, dict[str, list[str]]] = {}
    for name, one in wrong.items():
        if one.law is not None:
            groups.setdefault(one.law.name, {}).setdefault(one.law.says, []).append(name)
    sentences = {
        kind: "the weights that training begins with are not as declared: "
        + "; ".join(f"{says}: {_some(names)}" for says, names in laws.items())
        for kind, laws in groups.items()
    }
    if same:
        pairs = "; ".join(f"{first} and {second}" for first, second in same[:2])
        sentences["initial-same-draws"] = f"tensors begin with the same random numbers: {pairs}"
    unknown = [name for name, one in wrong.items() if one.law is None]
    residual = _BEYOND if unknown else max((one.residual for one in wrong.values()), default=0.0)
    if sentences:
        yield Candidate(
            names=tuple(sentences),
            says="; ".join(sentences.values()),
            residual=residual,
            values={"parameters": [*wrong], "sentences": sentences},
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")

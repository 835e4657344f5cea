"""A total loss as the sum of two parts: each under any law, with weights, smoothing and a factor of their own.

identify_total(mlm_sums, sop_sums, measured=loss, rounding=zeros, laws={}, how="…").best
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.ranking import Hypothesis, fit_of
from lossary.diagnosis.laws.ratios import LOG2, Columns, LossLaw, Number, columns_of
from lossary.diagnosis.laws.scales import (
    LOG_PART,
    factor_part,
    fitted,
    observations_for,
    smoothing_part,
    snapped,
    tolerance,
)
from lossary.diagnosis.laws.scored import Part, Sums

__all__ = ["identify_total", "laws_of_total", "weight_part"]

Floats = NDArray[np.float64]
_KEPT = 40
_WHAT = {"mlm": "the masked language model's loss", "sop": "the sentence-order loss"}


@dataclass(frozen=True)
class _Trial:
    """One way of adding two parts, as weights of (MLM loss, SOP loss, MLM smoothed − plain, SOP smoothed − plain)."""

    key: str
    base: tuple[float, float, float, float]
    free: tuple[tuple[float, float, float, float], ...] = ()  # a fitted value times each of these is added
    parts: Callable[[Sequence[float]], tuple[Part, ...]] = lambda _: ()
    contains: tuple[str, ...] = ()
    smooths: bool = False  # the first fitted value is a share of the targets: of the scaled total, if that is scaled

    def share(self, values: Floats) -> Floats:
        """The smoothed share (K,) of fitted values (K, P)."""
        return values[:, 0] / values[:, 1] if self.free[-1] == _BOTH else values[:, 0]


@dataclass(frozen=True)
class _Pairs:
    """All pairs of laws: (4, K, O) the columns that a trial weighs, (K, O) the rounding of both parts."""

    columns: Floats
    m_noise: Floats
    s_noise: Floats


def identify_total(
    mlm: Sequence[Sums],
    sop: Sequence[Sums],
    *,
    measured: Floats,
    rounding: Floats,
    laws: Mapping[str, Sequence[LossLaw]],
    how: str,
) -> Fit:
    """Which two laws, added with which weights, give a total (O,).

    `laws`: by number, those that give the side's own parts; they are tried first. Without `sop` the total is the
    masked language model's loss alone.
    """
    distance, found = _explained(mlm, sop, measured, rounding, laws)
    return fit_of([hypothesis for hypothesis, _ in found], distance=distance, how=how)


def laws_of_total(
    mlm: Sequence[Sums], sop: Sequence[Sums], *, measured: Floats, rounding: Floats
) -> dict[str, LossLaw]:
    """The laws of the parts of a total that is not the reference's, their weights in it included.

    Empty where it is the reference's, or where nothing gives it; smoothed targets are left to the parts.
    """
    _, found = _explained(mlm, sop, measured, rounding, {})
    giving = [item for item in found if item[0].residual <= 1.0 and item[1]]
    if not giving:
        return {}
    return min(giving, key=lambda item: (len(item[0].parts), item[0].fitted, item[0].residual))[1]


def _explained(
    mlm: Sequence[Sums],
    sop: Sequence[Sums],
    measured: Floats,
    rounding: Floats,
    laws: Mapping[str, Sequence[LossLaw]],
) -> tuple[float, list[tuple[Hypothesis, dict[str, LossLaw]]]]:
    """How far the total is from the reference's; and hypotheses, each with the laws of both parts."""
    one = _with(columns_of(mlm, "mlm_loss"), laws.get("mlm_loss", ()), mlm, "mlm_loss")
    two = _with(columns_of(sop, "sop_loss"), laws.get("sop_loss", ()), sop, "sop_loss") if sop else _nothing(one)
    first = np.repeat(np.arange(len(one.laws)), len(two.laws))
    second = np.tile(np.arange(len(two.laws)), len(one.laws))
    together = np.array([_go_together(one.laws[i], two.laws[j]) for i, j in zip(first, second, strict=True)])
    first, second = first[together], second[together]
    columns = [one.plain[first], two.plain[second]]
    columns += [(one.smooth - one.plain)[first], (two.smooth - two.plain)[second]]
    pairs = _Pairs(np.stack(columns), one.noise[first], two.noise[second])
    healthy = np.array([not one.laws[i].parts and not two.laws[j].parts for i, j in zip(first, second, strict=True)])
    base = [_once(one.laws[i].parts, two.laws[j].parts) for i, j in zip(first, second, strict=True)]
    found: list[tuple[Hypothesis, dict[str, LossLaw]]] = []
    distance = np.inf
    for trial, residual, values, errors in _tried(pairs, measured, rounding, has_sop=bool(sop)):
        if trial.key == "plain":
            distance = float(residual[healthy].min())
            if distance <= 1.0:
                break
        order = np.argsort(residual, kind="stable")
        for k in order[: max(int((residual <= 1.0).sum()), _KEPT)]:
            if np.isfinite(residual[k]):
                numbers = [snapped(float(v), float(e)) for v, e in zip(values[k], errors[k], strict=True)]
                parts = (*base[k], *trial.parts(numbers))
                hypothesis = Hypothesis(parts=parts, residual=float(residual[k]), fitted=len(numbers))
                found.append((hypothesis, _weighed(trial, numbers, one.laws[first[k]], two.laws[second[k]])))
    return distance, found


def _go_together(mlm: LossLaw, sop: LossLaw) -> bool:
    """A loop has one way of batching: both objectives are averaged over the same batches, or one of them is right."""
    ours, theirs = mlm.denominator.batching, sop.denominator.batching
    if ours is None and theirs is None:
        return True
    if ours is None or theirs is None:
        return not (mlm.parts if ours is None else sop.parts)
    return ours.starts == theirs.starts and (ours.weighing == "examples") == (theirs.weighing == "examples")


def _once(mlm: tuple[Part, ...], sop: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts of both laws; one that both have is one fault."""
    return (*mlm, *(part for part in sop if part not in mlm))


def _weighed(trial: _Trial, numbers: Sequence[float], mlm: LossLaw, sop: LossLaw) -> dict[str, LossLaw]:
    """Two laws with the weights that a trial gives them; none of one that smooths."""
    if trial.smooths:
        return {}
    weights = np.array(trial.base)
    for number, free in zip(numbers, trial.free, strict=True):
        weights = weights + number * np.array(free)
    given: dict[str, LossLaw] = {}
    for key, law, weight in (("mlm_loss", mlm, weights[0]), ("sop_loss", sop, weights[1])):
        parts = law.parts if weight == 1.0 else (*law.parts, weight_part(key[:3], float(weight)))
        given[key] = replace(law, factor=law.factor * float(weight), parts=parts)
    return given


def _with(columns: Columns, laws: Sequence[LossLaw], sums: Sequence[Sums], number: Number) -> Columns:
    """Laws with nothing fitted, an ignored class only beside the usual denominator; and those given, as they are."""
    common = [
        law.space.ignored is None or law.denominator.key == "count" or number == "sop_loss" for law in columns.laws
    ]
    columns = columns.take(np.flatnonzero(common))
    given = [law for law in laws if law.smoothing or law.factor != 1.0 or len(law.parts) > 1]
    if not given:
        return columns
    values = np.array([[law.value(batch, number) for batch in sums] for law in given])
    return Columns(
        laws=(*columns.laws, *given),
        plain=np.concatenate([columns.plain, values[..., 0]]),
        smooth=np.concatenate([columns.smooth, values[..., 0]]),
        noise=np.concatenate([columns.noise, values[..., 1]]),
    )


def _nothing(like: Columns) -> Columns:
    zeros = np.zeros((1, like.plain.shape[1]))
    law = like.laws[0]
    empty = LossLaw(space=law.space, denominator=law.denominator, factor=0.0)
    return Columns(laws=(empty,), plain=zeros, smooth=zeros, noise=zeros)


def _tried(
    pairs: _Pairs, measured: Floats, rounding: Floats, *, has_sop: bool
) -> Iterator[tuple[_Trial, Floats, Floats, Floats]]:
    """Each way of adding: residual (K,), fitted values and their errors (K, P)."""
    solved: dict[str, Floats] = {}
    for trial in _TRIALS:
        if trial.free and len(measured) < observations_for(len(trial.free)):
            continue
        if not has_sop and trial.key not in _WITHOUT_SOP:
            continue
        weights = np.tile(np.array(trial.base), (len(pairs.m_noise), 1))
        values = errors = np.zeros((len(weights), 0))
        if trial.free:
            near = tolerance(pairs.m_noise + pairs.s_noise, measured, rounding)
            directions = [np.einsum("c,cko->ko", np.array(free), pairs.columns) for free in trial.free]
            rest = measured - np.einsum("c,cko->ko", np.array(trial.base), pairs.columns)
            values, errors = fitted(directions, rest, near)
            weights = weights + values @ np.array(trial.free)
        predicted = np.einsum("kc,cko->ko", weights, pairs.columns)
        noise = np.abs(weights[:, [0]]) * pairs.m_noise + np.abs(weights[:, [1]]) * pairs.s_noise
        with np.errstate(invalid="ignore", divide="ignore"):
            residual = (np.abs(measured - predicted) / tolerance(noise, measured, rounding)).max(axis=-1)
            if trial.smooths:
                share = trial.share(values)
                residual = np.where((share > 0) & (share < 1), residual, np.inf)
        residual = np.where(np.isfinite(residual), residual, np.inf)
        for key in trial.contains:
            if key in solved:
                residual = np.where(solved[key] <= 1.0, np.inf, residual)
        solved[trial.key] = residual
        yield trial, residual, values, errors


def weight_part(name: str, weight: float) -> Part:
    """An objective that counts another number of times in the total; `name`: mlm or sop."""
    what = _WHAT[name]
    says = (
        f"{what} counts {weight:.6g} times in the total" if abs(weight) > 1e-9 else f"{what} is left out of the total"
    )
    return Part(name="loss-weight", says=says, values=((f"{name}_weight", weight),))


def _smoothed(values: Sequence[float]) -> tuple[Part, ...]:
    return (smoothing_part(values[0]),)


_M, _S, _DM, _DS = (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)
_BOTH, _NEITHER = (1.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)
_TRIALS = (
    _Trial("plain", _BOTH),
    _Trial("log", (LOG2, LOG2, 0.0, 0.0), parts=lambda _: (LOG_PART,), contains=("plain",)),
    _Trial("weight sop", _M, (_S,), lambda v: (weight_part("sop", v[0]),), ("plain",)),
    _Trial("weight mlm", _S, (_M,), lambda v: (weight_part("mlm", v[0]),), ("plain",)),
    _Trial("factor", _NEITHER, (_BOTH,), lambda v: (factor_part(v[0], what="the total"),), ("plain", "log")),
    _Trial("smoothing", _BOTH, (_DM,), _smoothed, ("plain",), smooths=True),
    _Trial(
        "sop smoothing",
        _BOTH,
        (_DS,),
        lambda v: (smoothing_part(v[0], what="sentence-order targets"),),
        ("plain",),
        smooths=True,
    ),
    _Trial(
        "both smoothing",
        _BOTH,
        ((0.0, 0.0, 1.0, 1.0),),
        lambda v: (smoothing_part(v[0], what="targets of both objectives"),),
        ("plain",),
        smooths=True,
    ),
    _Trial(
        "weights",
        _NEITHER,
        (_M, _S),
        lambda v: (weight_part("mlm", v[0]), weight_part("sop", v[1])),
        ("plain", "log", "weight sop", "weight mlm", "factor"),
    ),
    _Trial(
        "smoothing, weight sop",
        _M,
        (_DM, _S),
        lambda v: (smoothing_part(v[0]), weight_part("sop", v[1])),
        ("plain", "smoothing", "weight sop"),
        smooths=True,
    ),
    _Trial(
        "smoothing, factor",
        _NEITHER,
        (_DM, _BOTH),
        lambda v: (smoothing_part(v[0] / v[1]), factor_part(v[1], what="the total")),
        ("plain", "factor", "smoothing"),
        smooths=True,
    ),
)
_WITHOUT_SOP = ("plain", "log", "factor", "smoothing", "smoothing, factor")

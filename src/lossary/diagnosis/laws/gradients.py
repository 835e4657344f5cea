"""Which combination of the reference's gradient components a side's gradient is.

    micro = [micro_gradients(parameters, architecture, feed) for feed in micro_batches]
    seen = GradientObservation(gradients=side.gradients([f.arrays() for f in micro_batches]), micro=tuple(micro))
    identify_gradients([seen, …]).best           # e.g. loss-times-micro-batches

Steps of 1, 2 and 4 micro batches are wanted, with unequal numbers of masked positions and of pairs. A combination is
believed if it gives every tensor of every step to within what float32 makes of it. In order: how micro batches are put
together × a factor or the weight of an objective × a part that never arrives × tensors without gradient; then tensor by
tensor; then clipping, and what an earlier step left behind.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.blocks import WORDS, Blocks, GradientObservation, blocks_of
from lossary.diagnosis.laws.components import Component, MicroGradients, micro_gradients
from lossary.diagnosis.laws.piecewise import by_tensor, clipped, left_behind
from lossary.diagnosis.laws.ranking import Hypothesis, fit_of
from lossary.diagnosis.laws.reported import REDUCTIONS, combined
from lossary.diagnosis.laws.scales import fitted, snapped
from lossary.diagnosis.laws.scored import Part

__all__ = ["Component", "GradientObservation", "MicroGradients", "identify_gradients", "micro_gradients"]

Floats = NDArray[np.float64]
_HOW = (
    "each tensor by its norm, against what float32 makes of the reference's own gradient with sums taken in other "
    "orders; {count} steps of {micro} micro batches, all tensors of all of which have to be given"
)
_KEPT = 8


def identify_gradients(
    observations: Sequence[GradientObservation], *, weights: tuple[float, float] = (1.0, 1.0)
) -> Fit:
    """Whether a side's gradients are the reference's, else which combination of components they are.

    `weights` of both objectives that are known already. Raises ValueError without observations, or where a tensor has
    another shape than the reference's.
    """
    if not observations:
        raise ValueError("no step was observed")
    ways = _ways(observations)

    def weigh(micro: tuple[MicroGradients, ...]) -> tuple[Floats, Floats]:
        return _weights(micro, ways, weights)

    blocks = blocks_of(observations, weigh)
    right = blocks.distance((blocks.mlm + blocks.tied + blocks.sop)[:1], blocks.mlm_noise[:1] + blocks.sop_noise[:1])[0]
    distance = float(right.max())
    counts = sorted({len(observation.micro) for observation in observations})
    how = _HOW.format(count=len(observations), micro=", ".join(map(str, counts)))
    if distance <= 1.0:
        return Fit(distance=distance, tried=(), how=how)
    found = list(_combinations(blocks, ways))
    found += by_tensor(blocks)
    found += clipped(blocks)
    if not any(hypothesis.residual <= 1.0 for hypothesis in found):
        found += left_behind(observations, weigh)
    return fit_of(found, distance=distance, how=how)


@dataclass(frozen=True)
class _Way:
    """How the gradients of micro batches are put together."""

    key: str
    parts: tuple[Part, ...]
    divided_by: str = ""  # another denominator than the number of positions, or of pairs
    pooled: bool = True


def _ways(observations: Sequence[GradientObservation]) -> list[_Way]:
    renamed = {"loss-scaled": "gradient-scaled"}
    ways = [
        _Way(way.key, tuple(replace(part, name=renamed.get(part.name, part.name)) for part in way.parts))
        for way in REDUCTIONS
    ]
    known = all(size in micro.sizes for o in observations for micro in o.micro for size in ("rows", "slots", "masked"))
    if not known or any(micro.mlm.size is None for o in observations for micro in o.micro):
        return ways
    others = {"rows": "examples", "slots": "slots", "tokens": "tokens", "text": "tokens without padding", "one": ""}
    for key, what in others.items():
        says = f"sums are divided by the number of {what}" if what else "sums are not divided by anything"
        part = Part(name="gradient-scaled", says=says, values=(("divided_by", what or 1),))
        ways.append(_Way(f"over {key}", (part,), divided_by=key))
        if what:
            mean = Part(name="mean-of-means", says="micro batches count the same, however many positions they have")
            ways.append(_Way(f"mean over {key}", (mean, part), divided_by=key, pooled=False))
    return ways


def _weights(
    micro: tuple[MicroGradients, ...], ways: Sequence[_Way], known: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Weights (ways, k) of both objectives' components."""
    k = len(micro)
    found = []
    for at, objective in enumerate(("mlm", "sop")):
        parts = [getattr(one, objective) for one in micro]
        sizes = np.array([0.0 if part is None else 1.0 if part.size is None else part.size for part in parts])
        additive = any(part is not None and part.size is None for part in parts)
        extra = max((part.added for part in parts if part is not None), default=0.0)
        pooled = np.ones(k) if additive else (sizes + extra) / max(sizes.sum() + extra, 1e-300)
        rows = np.array([one.sizes.get("rows", 1.0) for one in micro])
        one_hot = np.eye(k)
        by_key = {
            "pooled": pooled,
            "mean": np.full(k, 1 / k),
            "sum": np.ones(k),
            "times": k * pooled,
            "last": one_hot[-1],
            "first": one_hot[0],
            "divided": pooled / k,
            "divided mean": np.full(k, 1 / k**2),
            "divided last": one_hot[-1] / k,
            "by rows": rows / rows.sum(),
        }
        weights = [by_key[way.key] if not way.divided_by else _divided(way, micro, sizes + extra) for way in ways]
        found.append(known[at] * np.stack(weights))
    return found[0], found[1]


def _divided(way: _Way, micro: tuple[MicroGradients, ...], sizes: Floats) -> Floats:
    """Weights (k,) under another denominator: `sizes` undo what components were divided by."""
    if way.divided_by == "one":
        return sizes
    below = np.array([one.sizes.get(way.divided_by, np.nan) for one in micro])
    weights: Floats = sizes / (below.sum() if way.pooled else below * len(micro))
    return weights


def _combinations(blocks: Blocks, ways: Sequence[_Way]) -> Iterator[Hypothesis]:
    """Every way for each objective × a free value × a part of the word embeddings × tensors without gradient."""
    # Both objectives in one way, or one of them in a common way.
    kinds = range(len(ways))
    pairs = [(i, j) for i, j in product(kinds, kinds) if i == j or "pooled" in (ways[i].key, ways[j].key)]
    pairs += [(i, j) for i, j in product(kinds, kinds) if i != j and ways[j].key in ("mean", "sum")]
    first, second = (np.array(side) for side in zip(*dict.fromkeys(pairs), strict=True))
    whole = blocks.mlm + blocks.tied
    words = blocks.words
    variants: list[tuple[Floats, Floats, tuple[Part, ...]]] = [
        (whole, blocks.sop, ()),
        (blocks.mlm, blocks.sop, (_TIED,)),
        (np.where(words, blocks.tied, whole), np.where(words, 0.0, blocks.sop), (_LOOKUP,)),
    ]
    missing = _missing(blocks)
    for mlm, sop, parts in variants if WORDS in blocks.names else variants[:1]:
        for left_out in (None, missing) if missing.any() else (None,):
            counted = np.ones(len(blocks.names), bool) if left_out is None else ~left_out
            for far, k, scaling in _scaled(blocks, mlm[first], sop[second], (first, second), counted):
                zero = () if left_out is None else (_missing_part(blocks, left_out),)
                way = combined(ways[first[k]].parts, ways[second[k]].parts)
                yield Hypothesis(parts=(*way, *parts, *zero, *scaling), residual=far, fitted=len(scaling))


def _scaled(
    blocks: Blocks, mlm: Floats, sop: Floats, ways: tuple[Any, Any], counted: NDArray[np.bool_]
) -> Iterator[tuple[float, int, tuple[Part, ...]]]:
    """The closest combinations (K, C) with nothing, a factor, or one or both objectives' weights fitted."""
    noise = blocks.mlm_noise[ways[0]], blocks.sop_noise[ways[1]]
    near = blocks.spread(blocks.tolerance(mlm[:1] + sop[:1], noise[0][:1] + noise[1][:1])[0])
    rows = blocks.spread(counted)
    near = np.where(near > 0, near, np.inf)
    plain: Floats | None = None
    for key, known, columns in (
        ("plain", mlm + sop, []),
        ("factor", 0.0 * mlm, [mlm + sop]),
        ("sop", mlm, [sop]),
        ("mlm", sop, [mlm]),
        ("both", 0.0 * mlm, [mlm, sop]),
    ):
        values = errors = np.zeros((len(mlm), 0))
        predicted = known
        if columns:
            values, errors = fitted([c[:, rows] for c in columns], (blocks.side - known)[:, rows], near[rows])
            # Rounding is no independent noise: it moves all coordinates of a tensor together.
            errors = np.maximum(errors, blocks.relative * np.maximum(np.abs(values), 1.0))
            values = np.where(np.abs(values) <= errors, 0.0, values)
            predicted = known + sum(values[:, [p]] * column for p, column in enumerate(columns))
        one, two = _weights_of(key, values)
        far = blocks.distance(predicted, np.abs(one) * noise[0] + np.abs(two) * noise[1])[:, counted].max(axis=-1)
        if plain is None:
            plain = far
        else:
            far = np.where(plain <= 1.0, np.inf, far)
        order = np.argsort(far, kind="stable")
        for k in order[: max(int((far <= 1.0).sum()), _KEPT)]:
            if np.isfinite(far[k]):
                numbers = [snapped(float(v), float(e)) for v, e in zip(values[k], errors[k], strict=True)]
                yield float(far[k]), int(k), _scaling(key, numbers)


def _weights_of(key: str, values: Floats) -> tuple[Floats | float, Floats | float]:
    """What both objectives are multiplied by."""
    if key == "plain":
        return 1.0, 1.0
    one = values[:, :1]
    if key == "factor":
        return one, one
    if key == "both":
        return one, values[:, 1:]
    return (1.0, one) if key == "sop" else (one, 1.0)


def _scaling(key: str, numbers: Sequence[float]) -> tuple[Part, ...]:
    if key == "plain":
        return ()
    if key == "factor":
        says = f"the gradient is {numbers[0]:.6g} times what it should be"
        return (Part(name="gradient-scaled", says=says, values=(("factor", numbers[0]),)),)
    names = ("mlm", "sop") if key == "both" else (key,)
    return tuple(_objective(name, number) for name, number in zip(names, numbers, strict=True))


_OBJECTIVES = {"mlm": "masked language model", "sop": "sentence order"}


def _objective(name: str, weight: float) -> Part:
    what = f"the gradient of the {_OBJECTIVES[name]} objective"
    says = f"{what} is missing" if abs(weight) < 1e-6 else f"{what} is {weight:.6g} times what it should be"
    return Part(name="objective-weight", says=says, values=((f"{name}_weight", weight),))


_TIED = Part(
    name="tied-gradient-missing",
    says="the word embeddings get no gradient through the tied decoder",
    values=(("parameters", [WORDS]),),
)
_LOOKUP = Part(
    name="gradient-missing",
    says="the word embeddings get a gradient through the tied decoder only, none where they are looked up",
    values=(("parameters", [WORDS]), ("part", "lookup")),
)


def _missing(blocks: Blocks) -> NDArray[np.bool_]:
    """(N,) tensors whose gradient is 0 on all observations, and should not be."""
    right = (blocks.mlm + blocks.tied + blocks.sop)[0]
    allowed = blocks.tolerance(right, blocks.mlm_noise[0] + blocks.sop_noise[0])
    given = np.sqrt(np.square(blocks.norms(blocks.side)) + np.square(blocks.rest))
    is_zero, matters = given <= allowed, blocks.norms(right) > allowed
    names = np.array(blocks.names)
    zero = {name for name in blocks.names if is_zero[names == name].all() and matters[names == name].any()}
    return np.isin(names, sorted(zero))


def _missing_part(blocks: Blocks, which: NDArray[np.bool_]) -> Part:
    """Tensors without gradient."""
    names = sorted({name for name, out in zip(blocks.names, which, strict=True) if out})
    says = f"{names[0]} has no gradient" if len(names) == 1 else f"{len(names)} parameters have no gradient"
    return Part(name="gradient-missing", says=says, values=(("parameters", names),))

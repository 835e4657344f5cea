"""Gradients that are not one combination throughout: another one in some tensors, in some steps, or with a remainder.

by_tensor(blocks)       # this tensor lacks an objective, that one is scaled
clipped(blocks)         # scaled down to a norm
left_behind(…)          # the gradient of the step before was not set to zero
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.calibration import CLIPPED_BY, MOST_PARTS, ONE_FACTOR
from lossary.diagnosis.laws.blocks import Blocks, GradientObservation, Weigh, blocks_of
from lossary.diagnosis.laws.ranking import Hypothesis
from lossary.diagnosis.laws.scales import snapped
from lossary.diagnosis.laws.scored import Part

__all__ = ["by_tensor", "clipped", "left_behind"]

Floats = NDArray[np.float64]
_MOST_FACTORS = 2
_OBJECTIVES = {"no sop": "sentence order", "no mlm": "masked language model"}


def by_tensor(blocks: Blocks) -> list[Hypothesis]:
    """Each tensor by itself: right, without gradient, without one objective, or scaled; micro batches put together
    rightly. A hypothesis only if every tensor is one of these, with at most two different factors."""
    mlm, sop = (blocks.mlm + blocks.tied)[0], blocks.sop[0]
    m_noise, s_noise = blocks.mlm_noise[0], blocks.sop_noise[0]
    names = np.array(blocks.names)
    factors = _factors(blocks, mlm + sop)
    both = m_noise + s_noise
    states: dict[str, Floats] = {
        "right": blocks.distance(mlm + sop, both),
        "zero": _to_zero(blocks, mlm + sop, both),
        "no sop": blocks.distance(mlm, m_noise),
        "no mlm": blocks.distance(sop, s_noise),
        "scaled": blocks.distance(blocks.spread(factors) * (mlm + sop), np.abs(factors) * both),
    }
    # What is 0 but for rounding has no size to be scaled.
    states["scaled"][blocks.norms(mlm + sop) <= blocks.tolerance(mlm + sop, both)] = np.inf
    groups: dict[str, list[str]] = {}
    worst = 0.0
    for name in dict.fromkeys(blocks.names):
        at = names == name
        state = next((state for state, far in states.items() if far[at].max() <= 1.0), None)
        if state is None:
            return []
        worst = max(worst, float(states[state][at].max()))
        groups.setdefault(state, []).append(name)
    parts = [_state_part(state, groups[state]) for state in ("zero", "no sop", "no mlm") if state in groups]
    parts += _factor_parts(groups.get("scaled", []), {name: float(factors[names == name][0]) for name in blocks.names})
    if not parts or len(parts) > MOST_PARTS:
        return []
    return [Hypothesis(parts=tuple(parts), residual=worst, fitted=len(groups.get("scaled", [])))]


def _to_zero(blocks: Blocks, right: Floats, noise: Floats) -> Floats:
    """(N,) distance of the side's gradient from 0, in units of what rounding leaves of the right one."""
    given = np.sqrt(np.square(blocks.norms(blocks.side)) + np.square(blocks.rest))
    with np.errstate(divide="ignore", invalid="ignore"):
        far = given / blocks.tolerance(right, noise)
    return np.where(given == 0, 0.0, far)


def _factors(blocks: Blocks, right: Floats) -> Floats:
    """(N,) by how much each tensor is scaled: one factor over all observations."""
    names = np.array(blocks.names)
    up = np.add.reduceat(blocks.side * right, blocks.starts)
    down = np.add.reduceat(right * right, blocks.starts)
    found = np.ones(len(names))
    for name in dict.fromkeys(blocks.names):
        at = names == name
        if down[at].sum() > 0:
            found[at] = up[at].sum() / down[at].sum()
    return found


def _state_part(state: str, names: list[str]) -> Part:
    which = names[0] if len(names) == 1 else f"{len(names)} parameters"
    if state == "zero":
        verb = "has" if len(names) == 1 else "have"
        return Part(name="gradient-missing", says=f"{which} {verb} no gradient", values=(("parameters", names),))
    what = _OBJECTIVES[state]
    verb = "gets" if len(names) == 1 else "get"
    return Part(
        name="gradient-missing",
        says=f"{which} {verb} no gradient from the {what} objective",
        values=(("parameters", names), ("objective", state.removeprefix("no "))),
    )


def _factor_parts(names: list[str], factors: dict[str, float]) -> list[Part]:
    """Scaled tensors, those with one factor together; too many factors are no explanation."""
    groups: list[tuple[float, list[str]]] = []
    for name in sorted(names, key=lambda name: factors[name]):
        if groups and abs(factors[name] - groups[-1][0]) <= ONE_FACTOR * abs(groups[-1][0]):
            groups[-1][1].append(name)
        else:
            groups.append((factors[name], [name]))
    parts = []
    for factor, members in groups:
        value = snapped(factor, 1e-4 * abs(factor))
        which = members[0] if len(members) == 1 else f"{len(members)} parameters"
        says = f"the gradient of {which} is {value:.6g} times what it should be"
        values = (("factor", value), ("parameters", members))
        parts.append(Part(name="gradient-scaled", says=says, values=values))
    # Each further factor is a further fault; beyond two it is another law that is not known here.
    return parts if len(parts) <= _MOST_FACTORS else parts + parts


def clipped(blocks: Blocks) -> list[Hypothesis]:
    """The right gradient, scaled down to one norm on every step whose norm is larger."""
    right = (blocks.mlm + blocks.tied + blocks.sop)[0]
    noise = blocks.mlm_noise[0] + blocks.sop_noise[0]
    steps = range(int(blocks.observation.max()) + 1)
    squares = np.square(blocks.norms(right))
    norms = np.sqrt([squares[blocks.observation == step].sum() for step in steps])
    along = np.add.reduceat(blocks.side * right, blocks.starts)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.array([along[blocks.observation == step].sum() for step in steps]) / norms**2
    smaller = np.isfinite(factors) & (factors > 0) & (factors < 1 - CLIPPED_BY)
    # One step cannot tell a norm from a factor.
    if smaller.sum() < 2:
        return []
    bound = float(np.median((factors * norms)[smaller]))
    scale = np.minimum(1.0, bound / norms)[blocks.observation]
    far = float(blocks.distance(blocks.spread(scale) * right, scale * noise).max())
    value = snapped(bound, 1e-4 * bound)
    says = f"the gradient is clipped already, to a norm of {value:.6g}"
    return [
        Hypothesis(parts=(Part(name="gradient-scaled", says=says, values=(("clip", value),)),), residual=far, fitted=1)
    ]


def left_behind(observations: Sequence[GradientObservation], weigh: Weigh) -> list[Hypothesis]:
    """What the side gave for the observation before is still in the gradient; observations in the order asked."""
    if len(observations) < 2:
        return []
    without = [
        replace(now, gradients={name: _minus(now, before, name) for name in now.micro[0].mlm.gradients})
        for before, now in pairwise(observations)
    ]
    blocks = blocks_of(without, weigh)
    right = (blocks.mlm + blocks.tied + blocks.sop)[0]
    far = float(blocks.distance(right, blocks.mlm_noise[0] + blocks.sop_noise[0]).max())
    says = "the gradient of the step before is still in it: it is not set to zero"
    return [Hypothesis(parts=(Part(name="gradients-not-zeroed", says=says),), residual=far)]


def _minus(now: GradientObservation, before: GradientObservation, name: str) -> Floats:
    like = now.micro[0].mlm.gradients[name]
    given = [np.asarray(o.gradients.get(name, np.zeros(like.shape)), np.float64) for o in (now, before)]
    difference: Floats = given[0] - given[1]
    return difference

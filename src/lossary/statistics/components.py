"""Where differences between runs come from: seeds, configurations, and the examples that they were measured on.

    found = components([[2.31, 2.33], [2.25, 2.21, 2.24]], noise=1e-5)
    found.seeds.deviation, found.configurations.low

    y_gk = μ + C_g + S_gk + e_gk      repeat k of configuration g; deviations of C, S and e are asked for

Runs of one study are measured on the same examples: what makes these hard for all is no part of any difference. `noise`
is the variance of what is left, half of that of a paired difference of repeats, which hundreds of examples make known.
Values are those of the analysis of variance, on unweighted means where repeats are uneven (Thomas and Hultquist,
Annals of Statistics 1978). Intervals are generalised ones (Weerahandi, JASA 1993): sums of squares
over draws of χ², less what other components put into them, cut at 0. Whether seeds move all configurations alike:
Bartlett's statistic against its own draws, exact for normal noise at any number of repeats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, fdtri

from lossary.statistics.estimates import LEVEL

__all__ = ["Component", "Components", "GroupNoise", "components"]

_DRAWS, _SEED = 20_000, 20260
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@dataclass(frozen=True, kw_only=True)
class Component:
    """A standard deviation with what bounds it at 95 %."""

    deviation: float
    low: float
    high: float
    degrees: int


@dataclass(frozen=True, kw_only=True)
class GroupNoise:
    """How much the runs of one configuration differ, `examples` included; no interval of a single run."""

    repeats: int
    deviation: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Components:
    """All of it, in the unit of the values."""

    seeds: Component
    configurations: Component | None  # None of a single one
    examples: float
    groups: list[GroupNoise]
    p_alike: float | None  # that seeds move all configurations alike; None with fewer than two that have repeats
    least_ratio: float | None  # of the deviations of two configurations that could be shown to differ


def components(groups: Sequence[Sequence[float]], *, noise: float) -> Components | None:
    """Components of groups of repeats; None if no group has two. `noise`: variance of a value by its examples."""
    values = [np.asarray(group, np.float64) for group in groups]
    squares = np.array([((group - group.mean()) ** 2).sum() for group in values])
    degrees = np.array([len(group) - 1 for group in values])
    whole = int(degrees.sum())
    if whole == 0:
        return None
    rng = np.random.default_rng(_SEED)
    within = float(squares.sum()) / whole
    drawn = float(squares.sum()) / rng.chisquare(whole, _DRAWS)
    repeated = degrees > 0
    return Components(
        seeds=_component(within - noise, drawn - noise, whole),
        configurations=_between(values, within, drawn, rng),
        examples=sqrt(noise),
        groups=[_group(len(group), float(ss)) for group, ss in zip(values, squares, strict=True)],
        p_alike=_alike(squares[repeated], degrees[repeated], rng) if repeated.sum() > 1 else None,
        least_ratio=_least_ratio(degrees[repeated]) if repeated.sum() > 1 else None,
    )


def _component(value: float, drawn: NDArray[np.float64], degrees: int) -> Component:
    low, high = np.quantile(np.maximum(drawn, 0.0), _TAILS)
    return Component(deviation=sqrt(max(value, 0.0)), low=sqrt(low), high=sqrt(high), degrees=degrees)


def _between(
    values: Sequence[NDArray[np.float64]], within: float, drawn: NDArray[np.float64], rng: np.random.Generator
) -> Component | None:
    degrees = len(values) - 1
    if degrees < 1:
        return None
    means = np.array([group.mean() for group in values])
    of_mean = float(np.mean([1 / len(group) for group in values]))
    squares = float(((means - means.mean()) ** 2).sum())
    between = squares / rng.chisquare(degrees, _DRAWS) - drawn * of_mean
    return _component(squares / degrees - within * of_mean, between, degrees)


def _group(repeats: int, squares: float) -> GroupNoise:
    if repeats < 2:
        return GroupNoise(repeats=repeats, deviation=None, low=None, high=None)
    low, high = (sqrt(squares / float(chdtri(repeats - 1, tail))) for tail in _TAILS)
    return GroupNoise(repeats=repeats, deviation=sqrt(squares / (repeats - 1)), low=low, high=high)


def _alike(squares: NDArray[np.float64], degrees: NDArray[np.int64], rng: np.random.Generator) -> float:
    drawn = rng.chisquare(degrees, (_DRAWS, len(degrees)))
    above = np.count_nonzero(_bartlett(drawn, degrees) >= _bartlett(squares[None], degrees)[0])
    return float((above + 1) / (_DRAWS + 1))


def _bartlett(squares: NDArray[np.float64], degrees: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bartlett's statistic of rows of sums of squares, without its constant."""
    pooled = squares.sum(axis=1) / degrees.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        found = degrees.sum() * np.log(pooled) - (degrees * np.log(squares / degrees)).sum(axis=1)
    # Repeats that all agree have no spread to compare.
    return np.asarray(np.nan_to_num(found, nan=0.0, posinf=np.inf), np.float64)


def _least_ratio(degrees: NDArray[np.int64]) -> float:
    first, second = sorted(degrees.tolist())[-2:]
    return sqrt(float(fdtri(second, first, _TAILS[1])))

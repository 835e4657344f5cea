"""The swap matrix: which of checkpoint, feed, model and metric carries the gap between two sides.

    values = {("A", "B", "A", "A"): ExampleSums(y=nats, x=masked), …}      # all 16, in the order of FACTORS
    result = swap_matrix(values)
    result.gap, result.by_factor["feed"], result.blamed

Each combination takes each factor from side A or B. The gap A − B is shared out by Shapley values: what a factor's swap
changes, averaged over all orders in which the factors can be swapped, so that the shares add up to the gap. Intervals
are of a jackknife over examples, which are the same in all combinations. Source: Shapley (1953); Grabisch, Roubens
(International Journal of Game Theory 1999) for pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import factorial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from lossary.diagnosis.calibration import GAP_LEAST as _LEAST
from lossary.statistics.estimates import LEVEL

__all__ = ["FACTORS", "Effect", "ExampleSums", "SwapResult", "swap_matrix"]

Floats = NDArray[np.float64]
FACTORS = ("checkpoint", "feed", "model", "metric")


@dataclass(frozen=True, kw_only=True)
class ExampleSums:
    """A metric's sums over each example, as nats and masked positions: the metric is Σy / Σx.

    `example`: which document each is made of; without, the n-th is the same one in all combinations.
    """

    y: Floats  # (n,)
    x: Floats  # (n,)
    example: NDArray[Any] | None = None  # (n,)


class Effect(NamedTuple):
    """A number with the bounds of its interval."""

    value: float
    low: float
    high: float

    @property
    def is_beyond_zero(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class SwapResult:
    """The gap A − B, and what each factor takes of it.

    Intervals hold at 95 %: of the gap by itself, of all factors together, of all pairs together.
    """

    gap: Effect
    by_factor: Mapping[str, Effect]  # these add up to the gap
    interaction: Mapping[tuple[str, str], Effect]  # by how much two factors together change more than one by one
    blamed: tuple[str, ...]  # factors that carry the gap, the largest first
    values: Mapping[tuple[str, ...], float]  # the metric of each combination
    noise: float

    @property
    def mismatched(self) -> tuple[tuple[str, str], ...]:
        """Pairs of factors that matter together: taken from one side they fit, from two they do not.

        So it is where both sides number their pieces differently: each is fine with its own feed.
        """
        largest = max((abs(effect.value) for effect in self.by_factor.values()), default=0.0)
        return tuple(
            pair
            for pair, effect in self.interaction.items()
            if effect.is_beyond_zero and abs(effect.value) > max(self.noise, largest)
        )

    @property
    def says(self) -> str:
        """One sentence."""
        if self.blamed:
            parts = ", ".join(f"{name} {self.by_factor[name].value:+.3g}" for name in self.blamed)
            return f"of a gap of {self.gap.value:+.3g} the swap moves: {parts}"
        if self.mismatched:
            pairs = "; ".join(" and ".join(pair) for pair in self.mismatched)
            return f"{pairs} of different sides do not fit together; each side by itself is no worse"
        return f"no factor carries the gap of {self.gap.value:+.3g} beyond noise"


def swap_matrix(
    values: Mapping[tuple[str, ...], ExampleSums],
    *,
    factors: Sequence[str] | None = None,
    noise: float = 0.0,
) -> SwapResult:
    """Attributes the gap of one metric on one dataset.

    `values`: for every combination of "A" and "B", one letter for each factor. `factors`: their names; by default the
    first ones of FACTORS. `noise`: by how much the metric moves where nothing is swapped (a rerun): what is smaller is
    not blamed. Raises ValueError where a combination is missing or has nothing to divide by.
    """
    count = len(next(iter(values), ()))
    names = tuple(factors or FACTORS[:count])
    combos = list(product("AB", repeat=len(names)))
    missing = ["".join(combo) for combo in combos if combo not in values]
    if missing or not names:
        raise ValueError(f"combinations {', '.join(missing) or 'of factors'} are missing")
    y, x = _aligned([values[combo] for combo in combos])
    if (x.sum(axis=1) <= 0).any():
        empty = ["".join(combo) for combo, total in zip(combos, x.sum(axis=1), strict=True) if total <= 0]
        raise ValueError(f"{', '.join(empty)}: nothing to divide by")
    rows, pairs = _shapley(len(names)), list(combinations(range(len(names)), 2))
    contrasts = np.stack([_gap(combos), *rows, *(_interaction(len(names), i, j) for i, j in pairs)])
    whole = y.sum(axis=1) / x.sum(axis=1)
    estimates = contrasts @ whole
    # The metric without each example in turn; one that is everything in a combination leaves nothing to judge by.
    with np.errstate(divide="ignore", invalid="ignore"):
        left = (y.sum(axis=1, keepdims=True) - y) / (x.sum(axis=1, keepdims=True) - x)
    n = y.shape[1]
    spread = contrasts @ left
    deviation = np.sqrt((n - 1) / n * np.square(spread - spread.mean(axis=1, keepdims=True)).sum(axis=1))
    deviation = np.where(np.isfinite(deviation), deviation, np.inf) if n > 1 else np.full(len(contrasts), np.inf)
    families = [1, *[len(names)] * len(names), *[max(1, len(pairs))] * len(pairs)]
    effects = [_effect(*given, n) for given in zip(estimates, deviation, families, strict=True)]
    gap, by_factor = effects[0], dict(zip(names, effects[1 : 1 + len(names)], strict=True))
    interaction = {
        (names[i], names[j]): effect for (i, j), effect in zip(pairs, effects[1 + len(names) :], strict=True)
    }
    return SwapResult(
        gap=gap,
        by_factor=by_factor,
        interaction=interaction,
        blamed=_blamed(gap, by_factor, noise),
        values={combo: float(value) for combo, value in zip(combos, whole, strict=True)},
        noise=noise,
    )


def _blamed(gap: Effect, by_factor: Mapping[str, Effect], noise: float) -> tuple[str, ...]:
    """Factors that move the metric the way of the gap, beyond sampling, rerun noise and a twentieth of the gap."""
    if not gap.is_beyond_zero or abs(gap.value) <= noise:
        return ()
    least = max(noise, _LEAST * abs(gap.value))
    carrying = [
        name
        for name, effect in by_factor.items()
        if effect.is_beyond_zero and effect.value * gap.value > 0 and abs(effect.value) > least
    ]
    return tuple(sorted(carrying, key=lambda name: -abs(by_factor[name].value)))


def _aligned(parts: Sequence[ExampleSums]) -> tuple[Floats, Floats]:
    """(combinations, examples) y and x; 0 where a combination does not have an example."""
    keys = [np.arange(len(part.y)) if part.example is None else np.asarray(part.example) for part in parts]
    union = np.unique(np.concatenate(keys))
    y, x = np.zeros((2, len(parts), len(union)))
    for row, (part, key) in enumerate(zip(parts, keys, strict=True)):
        at = np.searchsorted(union, key)
        y[row] = np.bincount(at, weights=part.y, minlength=len(union))
        x[row] = np.bincount(at, weights=part.x, minlength=len(union))
    return y, x


def _gap(combos: Sequence[tuple[str, ...]]) -> Floats:
    """Weights of combinations: all from A less all from B."""
    row = np.zeros(len(combos))
    row[0], row[-1] = 1.0, -1.0
    return row


def _index(count: int, swapped: frozenset[int]) -> int:
    """Where the combination stands that has these factors from A, the others from B."""
    return sum(0 if factor in swapped else 1 << (count - 1 - factor) for factor in range(count))


def _subsets(items: Sequence[int]) -> list[frozenset[int]]:
    return [frozenset(subset) for size in range(len(items) + 1) for subset in combinations(items, size)]


def _shapley(count: int) -> list[Floats]:
    """For each factor the weights of combinations that give its Shapley value."""
    rows = []
    for factor in range(count):
        row = np.zeros(1 << count)
        for subset in _subsets([i for i in range(count) if i != factor]):
            weight = factorial(len(subset)) * factorial(count - len(subset) - 1) / factorial(count)
            row[_index(count, subset | {factor})] += weight
            row[_index(count, subset)] -= weight
        rows.append(row)
    return rows


def _interaction(count: int, one: int, two: int) -> Floats:
    """Weights of combinations that give the interaction of two factors."""
    row = np.zeros(1 << count)
    for subset in _subsets([i for i in range(count) if i not in (one, two)]):
        weight = factorial(len(subset)) * factorial(count - len(subset) - 2) / factorial(count - 1)
        row[_index(count, subset | {one, two})] += weight
        row[_index(count, subset | {one})] -= weight
        row[_index(count, subset | {two})] -= weight
        row[_index(count, subset)] += weight
    return row


def _effect(value: float, deviation: float, family: int, n: int) -> Effect:
    """An interval by Student's t, the level shared by a family of effects (Bonferroni)."""
    if n < 2 or not np.isfinite(deviation):
        return Effect(float(value), -np.inf, np.inf)
    half = float(stdtrit(n - 1, 1 - (1 - LEVEL) / (2 * family))) * float(deviation)
    return Effect(float(value), float(value) - half, float(value) + half)

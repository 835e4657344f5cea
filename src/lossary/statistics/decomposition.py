"""Why two totals differ: other shares, or other values within the datasets; the parts add up exactly.

    total_b − total_a = Σ (w_b − w_a)·(v_a + v_b)/2  +  Σ (w_a + w_b)/2·(v_b − v_a)
                        share shift                     within-dataset change

Values enter the share shift as distances from the middle of both totals, which changes no sum (shares add up to 1) but
makes a dataset's own part readable: more weight on a dataset that is worse than the rest raises the total.

Source: Kitagawa, Components of a difference between two rates (JASA 1955).
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Decomposition", "decompose"]


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """Parts of a total's change, by dataset; `change` is their sum."""

    change: float
    share_shift: dict[str, float]
    within: dict[str, float]


def decompose(
    *, shares: tuple[Mapping[str, float], Mapping[str, float]], values: tuple[Mapping[str, float], Mapping[str, float]]
) -> Decomposition:
    """Splits the change from the first to the second total; all four mappings have the same datasets.

    Shares need not be normalised. Raises ValueError if datasets differ or shares do not add up to something positive.
    """
    names = list(shares[0])
    if any(set(names) != set(other) for other in (shares[1], *values)):
        raise ValueError("shares and values are of different datasets")
    sums = [sum(share.values()) for share in shares]
    if min(sums) <= 0:
        raise ValueError("shares do not add up to something positive")
    before, after = ({name: share[name] / total for name in names} for share, total in zip(shares, sums, strict=True))
    totals = [sum(w[name] * v[name] for name in names) for w, v in zip((before, after), values, strict=True)]
    middle = (totals[0] + totals[1]) / 2
    shift = {name: (after[name] - before[name]) * ((values[0][name] + values[1][name]) / 2 - middle) for name in names}
    within = {name: (before[name] + after[name]) / 2 * (values[1][name] - values[0][name]) for name in names}
    return Decomposition(change=totals[1] - totals[0], share_shift=shift, within=within)

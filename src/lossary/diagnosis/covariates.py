"""What a gap between two runs goes with: length, padding, unknown pieces, casing, duplicates, by example.

    covariates = covariates_of(feed, pieces=tokenizer_pieces)
    for told in explain_gap(gap, covariates, feed.dataset, names=["old_reform", "new_views"]):
        print(told.dataset, told.covariate, told.correlation, told.adjusted_p, told.explains)

Two questions. Within a dataset: is the gap larger where a covariate is (Spearman's rank correlation, Holm over all of
them)? Between datasets: is the gap of this dataset the same as that of the others, once examples with like values of
the covariate are compared? If so, the covariate explains why the gap is in this dataset only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr
from scipy.stats import rankdata

from lossary.data.tokenizer import FIRST_PIECE, UNK
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.calibration import GAP_OVERLAP as _OVERLAP
from lossary.diagnosis.calibration import GAP_REMAINS as _REMAINS
from lossary.diagnosis.calibration import LEAST_FOR_RANKS as _FEWEST
from lossary.statistics.estimates import LEVEL
from lossary.statistics.multiplicity import holm

__all__ = ["Adjusted", "CovariateEffect", "covariates_of", "explain_gap"]

Floats = NDArray[np.float64]
_BIN = 20  # examples of the smaller group in a stratum, about
_MOST_BINS = 10


@dataclass(frozen=True, kw_only=True)
class Adjusted:
    """The gap of a dataset less that of all others, as it is and among examples with like values of a covariate."""

    raw: float
    raw_low: float
    raw_high: float
    adjusted: float | None  # None where no example has a like one elsewhere
    low: float
    high: float
    overlap: float  # share of the dataset's examples that have like ones elsewhere

    @property
    def explains(self) -> bool:
        """Whether next to nothing of a sure difference remains."""
        sure = self.raw_low > 0 or self.raw_high < 0
        if not sure or self.adjusted is None or self.overlap < _OVERLAP:
            return False
        within = max(abs(self.low), abs(self.high)) < abs(self.raw)
        return within and abs(self.adjusted) <= _REMAINS * abs(self.raw)

    @property
    def is_inseparable(self) -> bool:
        """Whether the dataset and the covariate go together so much that nothing can tell them apart."""
        return self.overlap < _OVERLAP


@dataclass(frozen=True, kw_only=True)
class CovariateEffect:
    """A covariate within one dataset, and what of that dataset's own gap it explains."""

    covariate: str
    dataset: str
    n: int
    correlation: float  # of ranks
    p: float
    adjusted_p: float  # Holm over all datasets and covariates
    lowest: float  # mean gap in the quarter of examples with the lowest values
    highest: float  # and in that with the highest
    difference_low: float  # 95 % bounds of highest − lowest
    difference_high: float
    between: Adjusted | None  # None where there is one dataset only

    @property
    def is_related(self) -> bool:
        """Whether the gap goes with the covariate within the dataset."""
        return self.adjusted_p < 1 - LEVEL

    @property
    def explains(self) -> bool:
        """Whether the covariate explains that the gap is in this dataset: related, and next to nothing remains."""
        return self.between is not None and self.between.explains and self.is_related

    @property
    def says(self) -> str:
        """One sentence."""
        where = f"in {self.dataset} the gap is {self.lowest:+.3g} in the quarter with the lowest {self.covariate}"
        found = f"{where}, {self.highest:+.3g} in the highest (rank correlation {self.correlation:+.2f})"
        if self.explains and self.between is not None and self.between.adjusted is not None:
            return f"{found}; among like examples {self.between.adjusted:+.3g} of {self.between.raw:+.3g} remains"
        return found


def explain_gap(
    gap: Floats,
    covariates: Mapping[str, Floats],
    dataset: NDArray[Any],
    *,
    names: Sequence[str] | None = None,
) -> list[CovariateEffect]:
    """Every covariate in every dataset that has enough examples; those that explain most come first.

    gap (n,): of each example, in nats a position or a pair; NaN where an example has none. covariates: (n,) each, NaN
    where it does not apply. dataset (n,): index into `names`. Raises ValueError where lengths differ.
    """
    gap = np.asarray(gap, np.float64)
    for name, values in {**covariates, "dataset": dataset}.items():
        if len(values) != len(gap):
            raise ValueError(f"{name} has {len(values)} examples, the gap {len(gap)}")
    found = []
    indices = [int(index) for index in np.unique(dataset)]
    for index in indices:
        inside = dataset == index
        label = names[index] if names is not None and 0 <= index < len(names) else str(index)
        for name, values in covariates.items():
            known = np.isfinite(gap) & np.isfinite(values)
            effect = _within(name, label, gap[inside & known], np.asarray(values, np.float64)[inside & known])
            if effect is not None:
                between = _between(gap[known], values[known], inside[known]) if len(indices) > 1 else None
                found.append(replace(effect, between=between))
    adjusted = holm([effect.p for effect in found])
    found = [replace(effect, adjusted_p=p) for effect, p in zip(found, adjusted, strict=True)]
    return sorted(found, key=lambda effect: (not effect.explains, effect.adjusted_p, -abs(effect.correlation)))


def _within(name: str, dataset: str, gap: Floats, values: Floats) -> CovariateEffect | None:
    """One covariate in one dataset; None for too few examples, or where it does not vary."""
    n = len(gap)
    if n < _FEWEST or np.ptp(values) == 0 or np.ptp(gap) == 0:
        return None
    correlation = float(np.corrcoef(rankdata(gap), rankdata(values))[0, 1])
    t = correlation * np.sqrt((n - 2) / max(1 - correlation**2, 1e-300))
    low, high = _ends(values)
    lowest, highest = gap[low], gap[high]
    half = _half([lowest, highest])
    difference = float(highest.mean() - lowest.mean())
    return CovariateEffect(
        covariate=name,
        dataset=dataset,
        n=n,
        correlation=correlation,
        p=float(2 * stdtr(n - 2, -abs(t))),
        adjusted_p=1.0,
        lowest=float(lowest.mean()),
        highest=float(highest.mean()),
        difference_low=difference - half,
        difference_high=difference + half,
        between=None,
    )


def _ends(values: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The quarters with the lowest and the highest values; where values are tied, all that are alike stay together."""
    first, last = np.quantile(values, [0.25, 0.75])
    low, high = values <= first, values >= last
    if first == last:
        low, high = (low, values > first) if (values > first).any() else (values < first, high)
    return low, high


def _half(groups: Sequence[Floats]) -> float:
    """Half a 95 % interval of the difference of two means."""
    variance = sum(float(group.var(ddof=1)) / len(group) if len(group) > 1 else np.inf for group in groups)
    return float(ndtri(0.5 + LEVEL / 2)) * float(np.sqrt(variance))


def _between(gap: Floats, values: Floats, inside: NDArray[np.bool_]) -> Adjusted | None:
    """Inside less outside, as it is and within strata of the covariate, weighted by the examples inside."""
    if inside.sum() < 2 or (~inside).sum() < 2:
        return None
    raw = float(gap[inside].mean() - gap[~inside].mean())
    half = _half([gap[inside], gap[~inside]])
    stratum = _strata(values, inside)
    total, variance, matched = 0.0, 0.0, 0
    for number in np.unique(stratum[inside]):
        one, two = gap[inside & (stratum == number)], gap[~inside & (stratum == number)]
        if len(one) < 2 or len(two) < 2:
            continue
        matched += len(one)
        total += len(one) * float(one.mean() - two.mean())
        variance += len(one) ** 2 * float(one.var(ddof=1) / len(one) + two.var(ddof=1) / len(two))
    around = float(ndtri(0.5 + LEVEL / 2)) * float(np.sqrt(variance)) / max(matched, 1)
    adjusted = total / matched if matched else None
    return Adjusted(
        raw=raw,
        raw_low=raw - half,
        raw_high=raw + half,
        adjusted=adjusted,
        low=-np.inf if adjusted is None else adjusted - around,
        high=np.inf if adjusted is None else adjusted + around,
        overlap=matched / int(inside.sum()),
    )


def _strata(values: Floats, inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Stratum of each example: one for each value where there are few, else quantiles of those inside."""
    smaller = int(min(inside.sum(), (~inside).sum()))
    count = int(np.clip(smaller // _BIN, 2, _MOST_BINS))
    different = np.unique(values)
    if len(different) <= count:
        return np.searchsorted(different, values).astype(np.int64)
    edges = np.unique(np.quantile(values[inside], np.linspace(0, 1, count + 1)[1:-1]))
    stratum = np.searchsorted(edges, values, side="right").astype(np.int64)
    # Beyond what the dataset itself has there is nothing like its examples.
    outside = (values < values[inside].min()) | (values > values[inside].max())
    return np.where(outside, -1, stratum)


def covariates_of(feed: Feed, *, pieces: Sequence[str] | None = None) -> dict[str, Floats]:
    """What may matter of each example (B,), masked pieces put back; NaN where it does not apply.

    length (tokens), padding (share), masked (positions), balance (share of the text in the second segment), unknown
    (share of pieces), swapped (1, or 0 in order), duplicates (other examples of the feed with the same pieces in
    whichever order); with `pieces`, the text of each id: capitals and other_scripts (shares of pieces).
    """
    ids = feed.token_ids.astype(np.int64).copy()
    rows, columns = np.nonzero(feed.weights > 0)
    ids[rows, feed.positions[rows, columns]] = feed.labels[rows, columns]
    attended = feed.attention_mask > 0
    text = attended & ((ids >= FIRST_PIECE) | (ids == UNK))
    count = np.maximum(text.sum(axis=1), 1).astype(np.float64)
    pair = feed.sop_labels >= 0
    found: dict[str, Floats] = {
        "length": attended.sum(axis=1).astype(np.float64),
        "padding": 1.0 - attended.mean(axis=1),
        "masked": (feed.weights > 0).sum(axis=1).astype(np.float64),
        "balance": np.where(pair, (text & (feed.segment_ids == 1)).sum(axis=1) / count, np.nan),
        "unknown": (text & (ids == UNK)).sum(axis=1) / count,
        "swapped": np.where(pair, feed.sop_labels == 1, np.nan).astype(np.float64),
        "duplicates": _duplicates(np.sort(np.where(text, ids, 0), axis=1)),
    }
    if pieces is not None:
        capital = np.array([any(c.isupper() for c in piece) for piece in pieces])
        other = np.array([any(c.isalpha() and not _is_latin(c) for c in piece) for piece in pieces])
        known = np.clip(ids, 0, len(pieces) - 1)
        found["capitals"] = (text & capital[known]).sum(axis=1) / count
        found["other_scripts"] = (text & other[known]).sum(axis=1) / count
    return found


def _duplicates(rows: NDArray[np.int64]) -> Floats:
    """How many other rows are the same."""
    _, inverse, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return (counts[inverse.ravel()] - 1).astype(np.float64)


def _is_latin(character: str) -> bool:
    """Basic Latin, its supplements and extensions."""
    return ord(character) < 0x250 or 0x1E00 <= ord(character) < 0x1F00

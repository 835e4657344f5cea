"""Readings held against their numbers: what a name seems to say and its values contradict is left out or marked.

No list of names can be whole; what a cross-entropy, a perplexity or an accuracy can be is the same in every file.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossary.results.importers.model import Imported, metric_name

__all__ = ["contradiction", "remarks"]

# Means of cross-entropy; other losses (`aux_loss`, `policy_loss`) may be anything.
_CROSS_ENTROPIES = {f"{name}loss" for name in ("", "mlm_", "sop_", "nsp_", "clm_", "word_", "target_")}
# A model that knows nothing has ln of its vocabulary: of half a billion words 20 nats, of bytes 8 bits.
_MOST_NATS, _MOST_BITS = 20.0, 8.0
# So many rows, points or columns make an agreement none by chance.
_FEW = 3
_FLAT = 2
_LONG = 6


def contradiction(metric: str, values: ArrayLike, texts: Sequence[str] = ()) -> str | None:
    """Why numbers cannot be of a metric, or None. values: (N,), losses in nats, accuracies as shares.

    NaN and infinities are missing; `texts` are the numbers as printed, where they were.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    if texts and metric in _CROSS_ENTROPIES | {"perplexity"} and any(text.lstrip().startswith("+") for text in texts):
        return "some are printed with a plus sign, as differences and correlations are"
    if metric in _CROSS_ENTROPIES:
        return _no_loss(known, low)
    if metric.endswith("perplexity") and low < 1 - 1e-6:
        return f"{low:g} is below 1, where no perplexity is"
    if metric.endswith("accuracy") and (low < 0 or high > 1 + 1e-6):
        return f"{low if low < 0 else high:g} is no share of tokens that are right"
    if metric == "bits_per_byte" and (low < 0 or np.median(known) > _MOST_BITS):
        return f"{low if low < 0 else high:g} bits a byte are more than bytes have, or less than none"
    return None


def _no_loss(known: NDArray[np.float64], low: float) -> str | None:
    if low < 0:
        return f"{low:g} is below 0, where no cross-entropy is"
    if np.median(known) > _MOST_NATS:
        return f"{np.median(known):g} is more than any vocabulary has in nats a token; it may be a sum"
    grows = len(known) > _FEW and bool(np.all(np.diff(known) > 0))
    if grows and np.all(known == np.round(known)):
        return "they are whole numbers that grow, as a count does"
    return None


def remarks(found: Imported) -> list[str]:
    """What in an import looks unlike what it was read as, though it may be that: a mean among the rows, a copy."""
    return [*_means(found), *_copies(found), *_best_so_far(found)]


def _means(found: Imported) -> Iterable[str]:
    """Datasets whose every number is the mean of the others, in each run and metric."""
    groups: dict[tuple[str, str], dict[str, tuple[float, float]]] = defaultdict(dict)
    for number in found.numbers:
        if number.dataset is not None:
            groups[number.run, number.metric][number.dataset] = (number.value, number.rounding)
    votes: dict[str, list[bool]] = defaultdict(list)
    for group in groups.values():
        for name, (value, rounding) in group.items():
            others = [(v, r) for other, (v, r) in group.items() if other != name]
            spread = max((v for v, _ in others), default=0.0) - min((v for v, _ in others), default=0.0)
            slack = rounding + max((r for _, r in others), default=0.0)
            is_telling = len(others) >= _FEW and spread > 20 * slack
            mean = sum(v for v, _ in others) / max(1, len(others))
            votes[name].append(is_telling and abs(mean - value) <= slack)
    for name, told in votes.items():
        if all(told):
            yield (
                f"{name!r} is the mean of the other datasets everywhere, and was read as a dataset; "
                "if it is their average, call it `average` in the file"
            )


def _copies(found: Imported) -> Iterable[str]:
    """Curves of one run and metric with the same values throughout."""
    seen: dict[tuple[str, str, bytes], str] = {}
    for curve in found.curves:
        if len(np.unique(curve.value)) < _FEW:
            continue
        name = f"{curve.dataset} {metric_name(curve.metric, curve.split)}"
        first = seen.setdefault((curve.run, curve.metric, curve.value.tobytes()), name)
        if first != name:
            yield f"{curve.run}: {first!r} and {name!r} have the same values everywhere; one may be a copy of the other"


def _best_so_far(found: Imported) -> Iterable[str]:
    for curve in found.curves:
        change = np.diff(curve.value)
        is_loss = curve.metric.endswith("loss") and curve.split != "train"
        if is_loss and len(change) >= _LONG and np.all(change <= 0) and np.sum(change == 0) >= _FLAT:
            name = f"{curve.dataset} {metric_name(curve.metric, curve.split)}"
            yield f"{curve.run}: {name!r} never rises and stands still at times; it may be the best so far"

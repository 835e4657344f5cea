"""Components of a step's gradient, from the arbiter: each objective of each micro batch apart, with its rounding.

    micro = micro_gradients(parameters, Architecture.of(shape), feed)
    micro.mlm.gradients["predictions.bias"]         # float64, of Σ nats / (Σ weights + 1e-5) of this micro batch
    micro.mlm.noise["predictions.bias"]             # norm of what float32 makes of it, less this

Under another law of the loss (as `laws_of` identified it) they are the gradients of that law.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from lossary.data.tokenizer import FIRST_PIECE
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.laws.ratios import LossLaw
from lossary.models.arbiter import Architecture, Arithmetic, Gradients, Recording, record

__all__ = ["Component", "MicroGradients", "micro_gradients"]

Array = NDArray[Any]
_EPSILON = 1e-5
# Other programs take sums in another order than NumPy; which one, nobody knows.
_ORDERS = (Arithmetic("float32", "shuffled", 1), Arithmetic("float32", "blocks"))


@dataclass(frozen=True, kw_only=True)
class Component:
    """The gradient of one objective on one micro batch."""

    gradients: Mapping[str, Array]  # by canonical name
    noise: Mapping[str, float]  # L2 norm by tensor: as computed in float32, less as in float64
    tied: Array | None = None  # (V, E) the part of the word embeddings' that comes through the decoder
    # What its sum was divided by: so much it counts in the gradient of all micro batches; None: a sum, not divided.
    size: float | None
    added: float = 0.0  # what was added to that: the reference's 1e-5


@dataclass(frozen=True, kw_only=True)
class MicroGradients:
    """Components of one micro batch, and what else their sums may be divided by."""

    mlm: Component
    sop: Component | None  # None where no example has an order label
    sizes: Mapping[str, float] = field(default_factory=dict)  # masked, labelled, rows, slots, tokens, text


class _Targets(NamedTuple):
    """What is scored: loss = Σ shares · CE, the targets smoothed."""

    positions: NDArray[np.int32]  # (B, N)
    labels: NDArray[np.int64]
    shares: NDArray[np.float64]
    smoothing: float
    size: float | None
    added: float


def micro_gradients(
    parameters: Mapping[str, Array],
    architecture: Architecture,
    feed: Feed,
    *,
    mlm: LossLaw | None = None,
    sop: LossLaw | None = None,
    orders: Sequence[Arithmetic] = _ORDERS,
) -> MicroGradients:
    """Components of a micro batch in float64, and how far each of `orders` is from that.

    `mlm`, `sop`: laws of the loss that are known already; by default the reference's. For a side in low precision give
    `orders` of that precision. Raises ValueError for a law that cannot be differentiated on this feed.
    """
    masked = _mlm_targets(feed, mlm)
    order = _sop_targets(feed, sop)
    wide = replace(feed, positions=masked.positions)
    runs = [record(dict(parameters), architecture, wide, precision=way) for way in (Arithmetic("float64"), *orders)]
    has_pairs = bool(order.shares.any())
    return MicroGradients(
        mlm=_component([_mlm_gradients(run, masked) for run in runs], masked, tied=True),
        sop=_component([_sop_gradients(run, order) for run in runs], order, tied=False) if has_pairs else None,
        sizes={
            "masked": float(feed.weights.sum()),
            "labelled": float((feed.sop_labels >= 0).sum()),
            "rows": float(len(feed)),
            "slots": float(feed.positions.size),
            "tokens": float(feed.token_ids.size),
            "text": float(feed.attention_mask.sum()),
        },
    )


def _component(ways: Sequence[Gradients], targets: _Targets, *, tied: bool) -> Component:
    exact = ways[0].parameters
    # Whether 1e-5 is added to the number of masked positions is a convention: it is no difference.
    convention = _EPSILON / max(targets.size, 1.0) if targets.added and targets.size is not None else 0.0
    noise = {
        name: max((float(np.linalg.norm(way.parameters[name] - value)) for way in ways[1:]), default=0.0)
        + convention * float(np.linalg.norm(value))
        for name, value in exact.items()
    }
    return Component(
        gradients=exact,
        noise=noise,
        tied=ways[0].tied_part if tied else None,
        size=targets.size,
        added=targets.added,
    )


def _mlm_gradients(run: Recording, targets: _Targets) -> Gradients:
    return run.gradients(_seed(run.outputs.mlm, targets), None)


def _sop_gradients(run: Recording, targets: _Targets) -> Gradients:
    return run.gradients(None, _seed(run.outputs.sop[:, None, :], targets)[:, 0])


def _seed(logits: Array, targets: _Targets) -> Array:
    """The derivative of Σ shares · CE by the logits (B, N, V)."""
    slope = np.exp(log_softmax(np.asarray(logits, np.float64), axis=-1)) - targets.smoothing / logits.shape[-1]
    at = targets.labels[..., None]
    np.put_along_axis(slope, at, np.take_along_axis(slope, at, axis=-1) - (1.0 - targets.smoothing), axis=-1)
    weighed: Array = slope * targets.shares[..., None]
    return weighed


def _mlm_targets(feed: Feed, law: LossLaw | None) -> _Targets:
    key = "masked" if law is None else law.space.key
    weights = feed.weights.astype(np.float64)
    used = weights > 0
    positions, labels = np.where(used, feed.positions, 0), np.where(used, feed.labels, 0)
    if key == "slots":
        weights = np.where(used, weights, 1.0)
    elif key != "masked":
        positions, labels, weights = _all_tokens(feed, key)
    if law is not None and law.space.ignored is not None:
        ignored = law.space.ignored
        weights = weights * (labels >= FIRST_PIECE if ignored == -1 else labels != ignored)
    sizes = {
        "masked": feed.weights.sum(),
        "slots": feed.positions.size,
        "tokens": feed.token_ids.size,
        "text": feed.attention_mask.sum(),
        "rows": len(feed),
    }
    key = "count+1e-5" if law is None else law.denominator.key
    shares, size = _shares(weights, key, law, sizes)
    added = _EPSILON if key == "count+1e-5" else 0.0
    return _Targets(positions.astype(np.int32), labels.astype(np.int64), shares, _smoothing(law), size, added)


def _all_tokens(feed: Feed, key: str) -> tuple[Array, Array, NDArray[np.float64]]:
    """Positions, labels and weights (B, T) of a space over all tokens."""
    if key.endswith("-wrapped"):
        raise ValueError(f"the space {key} depends on the vocabulary; it has no gradient here")
    given = feed.arrays()["mlm_labels"]
    labelled = given >= 0
    text = feed.attention_mask > 0
    labels = np.where(labelled, given, feed.token_ids if key.endswith("-as-shown") else 0)
    weights = {"text": text, "unmasked": text & ~labelled, "masked-and-padding": labelled | ~text}
    counted = weights.get(key.removesuffix("-as-shown"), np.ones_like(text))
    positions = np.broadcast_to(np.arange(feed.token_ids.shape[1]), feed.token_ids.shape)
    return positions, labels, counted.astype(np.float64)


def _sop_targets(feed: Feed, law: LossLaw | None) -> _Targets:
    given = feed.sop_labels.astype(np.int64)
    labelled = given >= 0
    labels = np.where(labelled, given, 1 if law is not None and law.space.key == "rows-last" else 0)
    weights = labelled.astype(np.float64)
    if law is not None:
        weights = weights if law.space.key == "labelled" else np.ones(len(feed))
        labels = 1 - labels if law.space.flipped else labels
        weights = weights if law.space.ignored is None else weights * (labels != law.space.ignored)
    sizes = {"masked": labelled.sum(), "rows": len(feed)}
    key = "count" if law is None else law.denominator.key
    shares, size = _shares(weights[:, None], key, law, sizes)
    added = _EPSILON if key == "count+1e-5" else 0.0
    return _Targets(np.zeros((len(feed), 1), np.int32), labels[:, None], shares, _smoothing(law), size, added)


def _smoothing(law: LossLaw | None) -> float:
    return 0.0 if law is None else law.smoothing


def _shares(
    weights: NDArray[np.float64], key: str, law: LossLaw | None, sizes: Mapping[str, Any]
) -> tuple[NDArray[np.float64], float | None]:
    """Shares (B, N) of a sum over positions: weights over a denominator; and what that counts, None for a sum."""
    factor = 1.0 if law is None else law.factor
    counts = weights.sum(axis=1, keepdims=True)
    if key == "one":
        return factor * weights, None
    if key in ("row-means", "row-means-all"):
        rows = float((counts > 0).sum()) if key == "row-means" else float(len(weights))
        return factor * np.where(counts > 0, weights / np.maximum(counts, 1e-12), 0.0) / max(rows, 1.0), rows
    size = float(counts.sum()) if key.startswith("count") else float(sizes[key])
    below = size + (_EPSILON if key == "count+1e-5" else 0.0)
    return (factor * weights / below if below > 0 else np.zeros_like(weights)), size

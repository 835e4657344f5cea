"""What may be scored in a batch, and the sums of it: every set of positions, of which one is right, a row of sums each.

    batch = mlm_sums(outputs, feed, classes=(7, 12))
    batch.nats.sum(axis=1) / batch.count.sum(axis=1)  # by space

A *space* says which positions count and what their label is; a *denominator* says what their sum is divided by. A law
of a loss is one of each; what the reference does is the space `masked` (`labelled` for sentence order) by its count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import FIRST_PIECE
from lossary.diagnosis.adapter import Feed

__all__ = ["Part", "Precision", "Space", "Sums", "concatenated", "mlm_sums", "score", "sop_sums"]

Floats = NDArray[np.float64]
Precision = Literal["fp32", "bf16", "fp16"]  # what a side computes its loss in
_FLOAT32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A fault of a law: its name, a sentence, what values it has."""

    name: str
    says: str
    values: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Space:
    """Which positions count, and for what label; `parts` are the faults that make it so."""

    key: str
    ignored: int | None = None  # a class whose positions do not count; -1: all special pieces
    flipped: bool = False  # order labels mean the opposite
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over each row of a batch, for L spaces."""

    spaces: tuple[Space, ...]
    nats: Floats  # (L, B) Σ −ln p(label)
    smooth: Floats  # (L, B) Σ of the mean over all classes of −ln p
    hits: Floats  # (L, B) the label has the largest logit
    count: Floats  # (L, B) positions, weighted
    noise: Floats  # (L, B) by how much float32 may move `nats`
    turned: Floats  # (L, B) hits that rounding may turn
    sizes: Mapping[str, Floats]  # (B,) what else a sum may be divided by, by its name
    summation: float  # relative error of the two orders of summation in float32


class Scored(NamedTuple):
    """Positions scored for given labels, (B, N) each."""

    nats: Floats
    smooth: Floats
    hits: Floats
    noise: Floats
    turned: Floats


def score(logits: NDArray[Any], labels: NDArray[Any], *, precision: Precision = "fp32") -> Scored:
    """Each position in float64, and how far the same goes in float32: computed in two ways, with logits moved by one
    unit of their last place, or rounded to the precision of the side. logits: (B, N, V); labels: (B, N)."""
    logits = np.asarray(logits)
    exact = logits.astype(np.float64)
    at = labels[..., None].astype(np.int64)
    total = _log_sum(exact)
    mean = exact.mean(axis=-1)
    chosen = np.take_along_axis(exact, at, -1)[..., 0]
    nats = total - chosen
    best = exact.argmax(-1)
    single = logits.astype(np.float32)
    top = single.max(-1, keepdims=True)
    exponents = np.exp(single - top)
    sums = exponents.sum(-1)
    picked = np.take_along_axis(single, at, -1)[..., 0]
    one = np.log(sums) + top[..., 0] - picked
    with np.errstate(divide="ignore"):
        other = -np.log(np.take_along_axis(exponents, at, -1)[..., 0] / sums)
    # A probability that underflows says nothing of whoever takes logarithms first.
    other = np.where(np.isfinite(other), other, one)
    rounding = np.maximum(np.abs(one - nats), np.abs(other - nats))
    moved = _moved(single, precision).astype(np.float64)
    step = np.abs(_log_sum(moved) - np.take_along_axis(moved, at, -1)[..., 0] - nats)
    hits = best == labels
    turned = hits != (moved.argmax(-1) == labels)
    return Scored(nats, total - mean, hits.astype(np.float64), rounding + step, turned.astype(np.float64))


def _log_sum(logits: Floats) -> Floats:
    top = logits.max(-1, keepdims=True)
    return np.asarray(np.log(np.exp(logits - top).sum(-1)) + top[..., 0])


def _moved(logits: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """Logits rounded to a lower precision, or each moved up or down by one unit of its last place."""
    if precision == "bf16":
        bits = np.ascontiguousarray(logits).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    if precision == "fp16":
        return logits.astype(np.float16).astype(np.float32)
    # Signs without a generator: any fixed pattern that no layout of the classes follows.
    up = np.resize(np.arange(1009) % 7 < 3, logits.shape)
    return np.nextafter(logits, np.where(up, np.float32(np.inf), np.float32(-np.inf)))


def mlm_sums(
    outputs: Mapping[str, Any], feed: Feed, classes: Sequence[int] = (), *, precision: Precision = "fp32"
) -> Sums:
    """All spaces of masked positions; those over all tokens only where `outputs` has logits (B, T, V) as `mlm`, or as
    `mlm_all` beside the gathered ones."""
    whole = outputs.get("mlm_all")
    gathered = np.asarray(outputs["mlm"])
    tokens, slots = feed.token_ids.shape[1], feed.positions.shape[1]
    if whole is None and gathered.shape[1] == tokens != slots:
        whole = gathered
    if whole is not None:
        gathered = np.asarray(whole)[np.arange(len(feed))[:, None], feed.positions]
    weights = feed.weights.astype(np.float64)
    used = weights > 0
    labels = np.where(used, feed.labels, 0)
    at_slots = score(gathered, labels, precision=precision)
    rows = [(_MASKED, at_slots, weights), (_SLOTS, at_slots, np.where(used, weights, 1.0))]
    rows += [(_without(name), at_slots, weights * _kept(labels, name)) for name in classes]
    if whole is not None:
        rows += _over_tokens(np.asarray(whole), feed, used, at_slots)
    sizes = {
        "masked": weights.sum(axis=1),
        "slots": np.full(len(feed), float(slots)),
        "tokens": np.full(len(feed), float(tokens)),
        "text": feed.attention_mask.sum(axis=1).astype(np.float64),
        "rows": np.ones(len(feed)),
    }
    return _sums(rows, sizes, _summation(at_slots.nats, used))


def _kept(labels: NDArray[Any], ignored: int) -> NDArray[np.bool_]:
    return labels >= FIRST_PIECE if ignored == -1 else labels != ignored


def _over_tokens(
    logits: NDArray[Any], feed: Feed, used: NDArray[np.bool_], at_slots: Scored
) -> list[tuple[Space, Scored, Floats]]:
    """Spaces (B, T): tokens that are not masked scored, too, for pad, for themselves, or for what -100 wraps to."""
    exact = logits.astype(np.float64)
    total, mean, best = _log_sum(exact), exact.mean(axis=-1), exact.argmax(-1)
    rows, columns = np.nonzero(used)
    text = feed.attention_mask > 0
    masked = np.zeros(feed.token_ids.shape, bool)
    masked[rows, feed.positions[rows, columns]] = True
    # Rounding of the other positions is that of the scored ones: the same logits.
    noise = np.full(masked.shape, float(at_slots.noise.max(initial=0.0)))
    fills = {"": np.zeros_like(feed.token_ids), "-as-shown": feed.token_ids}
    fills["-wrapped"] = np.full_like(feed.token_ids, max(0, logits.shape[-1] - 100))
    found = []
    for suffix, fill in fills.items():
        labels = fill.copy()
        labels[rows, feed.positions[rows, columns]] = feed.labels[rows, columns]
        nats = total - np.take_along_axis(exact, labels[..., None].astype(np.int64), -1)[..., 0]
        scored = Scored(nats, total - mean, (best == labels).astype(float), noise, np.zeros(masked.shape))
        found += [(_TOKENS[f"tokens{suffix}"], scored, np.ones(masked.shape))]
        found += [(_TOKENS[f"text{suffix}"], scored, text.astype(float))]
        if not suffix:
            found += [(_TOKENS["masked-and-padding"], scored, (masked | ~text).astype(float))]
            found += [(_TOKENS["unmasked"], scored, (text & ~masked).astype(float))]
    return found


def sop_sums(outputs: Mapping[str, Any], feed: Feed, *, precision: Precision = "fp32") -> Sums:
    """All spaces of sentence-order labels."""
    logits = np.asarray(outputs["sop"])[:, None, :]
    given = feed.sop_labels.astype(np.int64)
    labelled = given >= 0
    rows = []
    for flipped in (False, True):
        for fill, name in ((0, "rows"), (1, "rows-last")):
            labels = np.where(labelled, given, fill)[:, None]
            scored = score(logits, 1 - labels if flipped else labels, precision=precision)
            if fill == 0:
                rows.append((_order("labelled", flipped), scored, labelled[:, None].astype(float)))
                for ignored in (0, 1):
                    kept = labelled & ((1 - given if flipped else given) != ignored)
                    rows.append((_order("labelled", flipped, ignored), scored, kept[:, None].astype(float)))
            rows.append((_order(name, flipped), scored, np.ones((len(feed), 1))))
    sizes = {"masked": labelled.astype(float), "rows": np.ones(len(feed))}
    return _sums(rows, sizes, _summation(rows[0][1].nats, labelled[:, None]))


def _sums(rows: Sequence[tuple[Space, Scored, Floats]], sizes: Mapping[str, Floats], summation: float) -> Sums:
    weight = [weights for _, _, weights in rows]
    summed = {
        name: np.stack(
            [(getattr(scored, name) * w).sum(axis=1) for (_, scored, _), w in zip(rows, weight, strict=True)]
        )
        for name in Scored._fields
    }
    return Sums(
        spaces=tuple(space for space, _, _ in rows),
        count=np.stack([w.sum(axis=1) for w in weight]),
        sizes=sizes,
        summation=summation,
        **summed,
    )


def _summation(nats: Floats, used: NDArray[np.bool_]) -> float:
    """Relative error of a sum in float32, from the front and from the back, and of one division after it."""
    terms = nats[used].astype(np.float32)
    exact = float(nats[used].sum())
    if not len(terms) or exact == 0:
        return _FLOAT32
    ends = [float(np.cumsum(order, dtype=np.float32)[-1]) for order in (terms, terms[::-1])]
    return max(abs(end - exact) for end in ends) / abs(exact) + _FLOAT32


def concatenated(batches: Sequence[Sums]) -> Sums:
    """Several batches as one: what a step of several micro batches scores."""
    first = batches[0]
    arrays = {
        name: np.concatenate([getattr(batch, name) for batch in batches], axis=1) for name in (*Scored._fields, "count")
    }
    return Sums(
        spaces=first.spaces,
        sizes={name: np.concatenate([batch.sizes[name] for batch in batches]) for name in first.sizes},
        summation=max(batch.summation for batch in batches),
        **arrays,
    )


_MASKED = Space(key="masked")
_SLOTS = Space(
    key="slots",
    parts=(Part(name="padding-scored", says="unused slots are scored, as if label 0 stood at position 0"),),
)


def _without(ignored: int) -> Space:
    which = "special pieces" if ignored == -1 else f"class {ignored}"
    value = list(range(FIRST_PIECE)) if ignored == -1 else [ignored]
    part = Part(
        name="class-ignored", says=f"positions whose label is {which} do not count", values=(("classes", value),)
    )
    return Space(key="masked", ignored=ignored, parts=(part,))


def _tokens(key: str, name: str, says: str) -> Space:
    return Space(key=key, parts=(Part(name=name, says=says, values=(("positions", key),)),))


_UNMASKED = "unmasked-positions-scored"
_TOKENS = {
    space.key: space
    for space in (
        _tokens("tokens", _UNMASKED, "all tokens are scored, padding too; those without a label for class 0"),
        _tokens("text", _UNMASKED, "all tokens but padding are scored; those without a label for class 0"),
        _tokens("tokens-as-shown", _UNMASKED, "all tokens are scored, padding too; unmasked ones for themselves"),
        _tokens("text-as-shown", _UNMASKED, "all tokens but padding are scored; unmasked ones for themselves"),
        _tokens("tokens-wrapped", _UNMASKED, "all tokens are scored, padding too; the label -100 counts from the end"),
        _tokens("text-wrapped", _UNMASKED, "all tokens but padding are scored; the label -100 counts from the end"),
        _tokens("unmasked", _UNMASKED, "the unmasked tokens are scored for class 0, and the masked ones are not"),
        _tokens("masked-and-padding", "padding-scored", "padding is scored for class 0, beside the masked positions"),
    )
}


def _order(key: str, flipped: bool, ignored: int | None = None) -> Space:
    parts = []
    if key != "labelled":
        which = "in order" if key == "rows" else "swapped"
        says = f"examples without an order label are scored as {which}"
        parts.append(Part(name="padding-scored", says=says, values=(("positions", "examples without a label"),)))
    if ignored is not None:
        says = f"pairs whose order label is {ignored} do not count"
        parts.append(Part(name="class-ignored", says=says, values=(("classes", [ignored]),)))
    if flipped:
        parts.append(Part(name="sop-columns-swapped", says="order labels mean the opposite"))
    return Space(key=key, ignored=ignored, flipped=flipped, parts=tuple(parts))

"""Feeds and outputs on which laws of losses and metrics differ: made up, since a law needs no model.

    feeds = measure_feeds(feed, seed=1)
    outputs = measure_outputs(feeds[0], 800, whole=True, seed=1)       # logits (B, T, V)

What a feed must have, or laws coincide on it: rows with different numbers of masked positions, and unused slots; rows
of different length, and padding; examples without an order label, and unequal numbers of both labels. What outputs must
have: right answers on a part of the masked positions, of the unused slots, and of the unmasked tokens.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import FIRST_PIECE
from lossary.diagnosis.adapter import IGNORED, Feed

__all__ = ["measure_feeds", "measure_outputs"]

_SPREAD = 1.5  # standard deviation of logits
_RIGHT, _ZERO, _COPIED = 0.45, 0.3, 0.4  # shares of positions that are answered rightly, with class 0, as shown
_UNLABELLED = 0.25
_WRAPPED = 0.1
_SLOTS = 6


def measure_feeds(feed: Feed, *, count: int = 6, seed: int = 0) -> list[Feed]:
    """The same examples, cut to random lengths, with a random part of their masked positions and of their order labels.

    Every row keeps at least one masked position. Shapes stay; only where a feed has fewer than two masked positions a
    row on average, others of its pieces become ones. Raises ValueError for fewer than four rows, or too short ones:
    laws could not be told apart on them.
    """
    if len(feed) < 4:
        raise ValueError(f"{len(feed)} rows; at least 4 are needed")
    if (feed.weights > 0).sum() < 2 * len(feed):
        feed = _with_more(feed, np.random.default_rng([seed, count]))
    return [_varied(feed, np.random.default_rng([seed, number])) for number in range(count)]


def _with_more(feed: Feed, random: np.random.Generator) -> Feed:
    """The feed with up to `_SLOTS` masked positions a row, chosen among its ordinary pieces; inputs stay."""
    ordinary = feed.token_ids >= FIRST_PIECE
    if (ordinary.sum(axis=1) < 2).any():
        raise ValueError("a row has fewer than two ordinary pieces; laws of losses could not be told apart")
    ranks = np.where(ordinary, random.random(ordinary.shape), 2.0).argsort(axis=1)[:, :_SLOTS]
    used = np.take_along_axis(ordinary, ranks, axis=1)
    ranks = np.sort(np.where(used, ranks, ordinary.shape[1]), axis=1)
    used = ranks < ordinary.shape[1]
    positions = np.where(used, ranks, 0)
    return replace(
        feed,
        positions=positions.astype(np.int32),
        labels=np.where(used, np.take_along_axis(feed.token_ids, positions, axis=1), 0).astype(np.int32),
        weights=used.astype(np.float32),
    )


def _varied(feed: Feed, random: np.random.Generator) -> Feed:
    rows, tokens = feed.token_ids.shape
    used = feed.weights > 0
    lengths = feed.attention_mask.sum(axis=1)
    cut = np.where(random.random(rows) < 0.6, random.integers(np.maximum(lengths // 2, 1), lengths + 1), lengths)
    # The first masked position stays, so that no row is without any.
    first = np.where(used, feed.positions, tokens).min(axis=1)
    cut = np.maximum(cut, np.where(first < tokens, first + 1, 1))
    kept = used & (feed.positions < cut[:, None]) & (random.random(used.shape) < random.uniform(0.3, 1.0, (rows, 1)))
    kept |= used & (feed.positions == first[:, None])
    kept[:, -1] &= kept[:, :-1].sum(axis=1) == 0  # an unused slot in every row
    text = np.arange(tokens) < cut[:, None]
    sop = _labels(feed.sop_labels, random)
    # Used slots stand first, as assembled examples have them.
    order = np.argsort(~kept, axis=1, kind="stable")
    kept = np.take_along_axis(kept, order, axis=1)
    return replace(
        feed,
        token_ids=np.where(text, feed.token_ids, 0).astype(np.int32),
        attention_mask=np.where(text, feed.attention_mask, 0).astype(np.int32),
        segment_ids=np.where(text, feed.segment_ids, 0).astype(np.int32),
        positions=np.where(kept, np.take_along_axis(feed.positions, order, axis=1), 0).astype(np.int32),
        labels=np.where(kept, np.take_along_axis(feed.labels, order, axis=1), 0).astype(np.int32),
        weights=kept.astype(np.float32),
        sop_labels=sop,
    )


def _labels(labels: NDArray[np.int8], random: np.random.Generator) -> NDArray[np.int8]:
    """Order labels with both classes, in unequal numbers, and some examples without; a feed without pairs stays so."""
    if (labels < 0).all():
        return labels
    rows = len(labels)
    drawn = (random.random(rows) < random.uniform(0.25, 0.75)).astype(np.int8)
    drawn[random.random(rows) < _UNLABELLED] = -1
    places = random.permutation(rows)[:4]
    drawn[places] = (0, 1, random.integers(2), -1)
    return drawn


def measure_outputs(feed: Feed, vocabulary_size: int, *, whole: bool = False, seed: int = 0) -> dict[str, Any]:
    """Logits that are partly right: `mlm` (B, P, V) at the feed's positions, or (B, T, V) if `whole`; `sop` (B, 2)."""
    random = np.random.default_rng([seed, 1])
    rows, slots = feed.positions.shape
    used = feed.weights > 0
    width = feed.token_ids.shape[1] if whole else slots
    mlm = random.standard_normal((rows, width, vocabulary_size), np.float32) * np.float32(_SPREAD)
    targets = np.where(used, feed.labels, 0)
    chance = np.where(used, _RIGHT, _ZERO)
    if whole:
        targets, chance = feed.token_ids.copy(), np.full(feed.token_ids.shape, _COPIED)
        zero = random.random(targets.shape) < _ZERO
        targets[zero] = 0
        # Where -100 is taken for a label that counts from the end, it must be an answer somewhere.
        wrapped = random.random(targets.shape) < _WRAPPED
        targets[wrapped] = vocabulary_size + IGNORED if vocabulary_size > -IGNORED else 0
        r, c = np.nonzero(used)
        targets[r, feed.positions[r, c]] = feed.labels[r, c]
        chance[r, feed.positions[r, c]] = _RIGHT
    answered = random.random(targets.shape) < chance
    r, c = np.nonzero(answered)
    # Above whatever noise can reach, by no two equal amounts.
    mlm[r, c, targets[r, c]] = (5 + 3 * random.random(len(r))) * _SPREAD
    sop = (random.standard_normal((rows, 2), np.float32) * np.float32(_SPREAD)).astype(np.float32)
    return {"mlm": mlm, "sop": sop}

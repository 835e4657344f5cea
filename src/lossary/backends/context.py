"""What a model sees of a text, tried on a few examples before it is believed, alike for every scorer and framework.

    check_context(answers, few, objective="clm", bits=32, what="GPT2LMHeadModel")

A causal model must not see what it predicts, a masked one sees both sides of what is hidden, and both answer the same
when they are asked the same again. `answers(examples)` gives logits (N, V) of all targets, row by row.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.examples import Examples
from lossary.errors import UsageError

__all__ = ["check_context", "few_of", "later_changed", "moved", "tolerance_of", "unseen_limit"]

Answers = Callable[[Examples], NDArray[Any]]

# From where on pieces are changed, by row, as a share of its tokens: from the middle, the last alone, and between, so
# that models which see ahead inside of blocks only are found, too.
_CUTS = (0.5, 1.0, 0.3, 0.75)
# Fewer tokens have nothing before and after.
_FEWEST = 4
# Numbers of logits of the examples that are tried; one example is tried whatever it takes.
_LOGITS = 1 << 27
# How far logits may differ by the order of sums, as a share of the largest, where shapes differ.
_SAME = {32: 1e-4, 16: 4 * 2.0**-7}
# How far they may move by what a model does not see, shapes being alike: healthy ones did not move at all, encoders
# taken for causal models by 3.2e-3 or more, 6.0e-3 in 16 bits: `python -m benchmarks.context`, docs/measurements.md.
# Of 512 tokens, an untrained encoder of 32 units moved by 3.4e-4.
_UNSEEN = {32: 1e-5, 16: 1e-3}
# Where the same question has answers that differ by a little, as of sums on a GPU, so many times as much is the limit.
_AGAIN = 4
# A masked model that does not see what follows is told by what precedes, which moves it by so many times as much.
_CLEARLY = 10


def tolerance_of(bits: int) -> float:
    """The share of the largest logit by which the same answer may differ in another shape, in so many bits."""
    return _SAME[16 if bits < 32 else 32]


def unseen_limit(bits: int) -> float:
    """The share of the largest logit by which it may move by what the model does not see."""
    return _UNSEEN[16 if bits < 32 else 32]


def moved(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference of logits as a share of the largest expected one; infinite where only one is finite."""
    finite = np.isfinite(expected)
    if found.shape != expected.shape or not np.array_equal(np.isfinite(found), finite):
        return float("inf")
    a, b = found[finite].astype(np.float64), expected[finite].astype(np.float64)
    largest = float(np.abs(b).max(initial=0))
    return float(np.abs(a - b).max(initial=0)) / (largest or 1.0)


def few_of(examples: Examples, pieces: int) -> Examples | None:
    """Up to four short examples that have a target with something after it; None where there are none."""
    if not examples.masked.any():
        return None
    first = np.where(examples.masked > 0, examples.positions[:, 0], examples.lengths)
    usable = np.flatnonzero((examples.lengths >= _FEWEST) & (first < examples.lengths - 1))
    if len(usable) == 0:
        return None
    shortest = usable[np.argsort(examples.lengths[usable], kind="stable")][: len(_CUTS)]
    longest = int(examples.masked[shortest].max())
    # Of two or three examples, some are there twice: every cut is tried.
    return examples.take(np.resize(shortest, max(1, min(len(_CUTS), _LOGITS // (longest * pieces)))))


def check_context(answers: Answers, few: Examples, *, objective: str, bits: int, what: str) -> None:
    """UsageError where a causal model sees ahead, a masked one does not, or the same question has two answers."""
    own = answers(few)
    again = moved(answers(few), own)
    if again > tolerance_of(bits):
        raise UsageError(
            f"{what} answers otherwise when it is asked the same again",
            hint="Is its dropout on? A model is scored in evaluation mode: model.eval(), or training=False in the "
            "call; ModuleScorer(call, module=model) sees to it.",
        )
    limit = max(unseen_limit(bits), _AGAIN * again)
    if objective == "clm":
        changed, before = later_changed(few)
        if moved(answers(changed)[before], own[before]) > limit:
            raise UsageError(
                f"{what} is scored as a causal model, and sees the pieces that it predicts",
                hint="A causal model needs a causal attention mask; in a config.json of transformers is_decoder = true "
                'says so where the class is an encoder\'s. A call of a masked model has objectives=("mlm",).',
            )
    elif _is_blind(answers, few, own, limit):
        raise UsageError(
            f"{what} is scored as a masked model, and sees nothing that stands after a hidden word",
            hint='A call of a causal model has objectives=("clm",), so that its logits are held against the next '
            "piece. Does a config.json of transformers say is_decoder = true?",
        )


def later_changed(few: Examples) -> tuple[Examples, NDArray[np.bool_]]:
    """The examples with other pieces from some place on, each from another, and which (N,) targets stand before it."""
    cuts = np.clip((few.lengths * np.resize(_CUTS, len(few))).astype(np.int32), 1, few.lengths - 1)
    return _changed(few, cuts, few.lengths), _targets(few, few.positions < cuts[:, None])


def _is_blind(answers: Answers, few: Examples, own: NDArray[Any], limit: float) -> bool:
    """Whether what follows leaves the first hidden word as it is, while what precedes moves the last one."""
    rows, slots = np.arange(len(few)), np.arange(few.positions.shape[1])
    first, last = few.positions[:, 0], few.positions[rows, few.masked - 1]
    is_first = _targets(few, np.broadcast_to(slots == 0, few.positions.shape))
    is_last = _targets(few, slots == few.masked[:, None] - 1)
    if moved(answers(_changed(few, first + 1, few.lengths))[is_first], own[is_first]) > limit:
        return False
    behind = moved(answers(_changed(few, np.zeros_like(last), last))[is_last], own[is_last])
    return behind > _CLEARLY * limit


def _targets(few: Examples, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the N targets are chosen, from (B, P)."""
    return np.asarray(chosen[few.weights > 0])


def _changed(few: Examples, begin: NDArray[np.int32], end: NDArray[np.int32]) -> Examples:
    """Examples with other pieces from `begin` to before `end`: those of the examples, so that all are known ones."""
    at = np.arange(few.token_ids.shape[1])
    known = np.unique(few.token_ids[few.attention_mask > 0])
    others = known[(np.searchsorted(known, few.token_ids) + 1) % len(known)]
    is_changed = (at >= begin[:, None]) & (at < end[:, None])
    return replace(few, token_ids=np.where(is_changed, others, few.token_ids).astype(np.int32))

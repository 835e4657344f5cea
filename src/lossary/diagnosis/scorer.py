"""A side of a diagnosis as a scorer: its `forward` is enough to stand in the table.

    scorer = AdapterScorer(side, max_length=512)

A side speaks the study's own vocabulary, and has both heads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.backends.api import ScoreOutput, row_sums
from lossary.backends.context import check_context, few_of
from lossary.data.examples import Examples
from lossary.diagnosis.adapter import Feed
from lossary.errors import UsageError
from lossary.vocabulary.api import Vocabulary

__all__ = ["AdapterScorer"]


class AdapterScorer:
    """What an adapter's `forward` gives, scored: `mlm` (B, P, V) at `positions` or (B, T, V), and `sop` (B, 2)."""

    few_shapes = False
    framework = "adapter"
    precision = "fp32"

    def __init__(self, side: Any, *, max_length: int | None = None, max_tokens: int = 8192) -> None:
        if not callable(getattr(side, "forward", None)) or "forward" in getattr(side, "lacks", ()):
            raise UsageError("the adapter has no forward", where=_name(side), hint="docs/adapters.md has examples.")
        self.side, self.device = side, _name(side)
        self.vocabulary: Vocabulary | None = None
        self.objectives: tuple[str, ...] = ("mlm", "sop")
        self.max_length, self.max_tokens = max_length, max_tokens
        self.notes: list[str] = []
        self._is_context_unchecked = True

    def score(self, examples: Examples) -> ScoreOutput:
        """Nats and predictions of each target. UsageError where `forward` gives other shapes."""
        logits, order = self._answers(examples)
        if self._is_context_unchecked and (few := few_of(examples, logits.shape[1])) is not None:
            check_context(
                lambda asked: self._answers(asked)[0], few, objective="mlm", bits=32, what="the adapter's forward"
            )
            self._is_context_unchecked = False
        if order.shape != (len(examples), 2):
            raise UsageError(f"sop is {order.shape}; ({len(examples)}, 2) is expected", where=self.device)
        used = examples.weights > 0
        nats = np.zeros(used.shape, np.float32)
        nats[used] = _nats(logits, examples.labels[used])
        predicted = np.zeros(used.shape, np.int32)
        predicted[used] = logits.argmax(axis=1)
        rows = row_sums(examples, nats, predicted == examples.labels, order)
        return ScoreOutput(rows=rows, position_nats=nats, predicted=predicted)

    def _answers(self, examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, V) of the targets, and (B, 2) of the order."""
        outputs = self.side.forward(Feed.of(examples).arrays(), training=False)
        missing = [name for name in ("mlm", "sop") if name not in outputs]
        if missing:
            raise UsageError(f"forward gives no {' and no '.join(missing)}", where=self.device)
        logits, order = (np.asarray(outputs[name], np.float32) for name in ("mlm", "sop"))
        return self._at_targets(logits, examples), order

    def _at_targets(self, logits: NDArray[np.float32], examples: Examples) -> NDArray[np.float32]:
        """(N, V), from (B, P, V) or (B, T, V)."""
        used, (rows, length) = examples.weights > 0, examples.token_ids.shape
        at = examples.positions.shape[1]
        if logits.ndim != 3 or len(logits) != rows or logits.shape[1] not in (at, length):
            raise UsageError(
                f"mlm is {logits.shape}; ({rows}, {at}, pieces) at positions or ({rows}, {length}, pieces) is expected",
                where=self.device,
            )
        if logits.shape[1] == at:
            return np.asarray(logits[used])
        return np.asarray(np.take_along_axis(logits, examples.positions[..., None], axis=1)[used])


def _nats(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """−log softmax at the labels, (N,)."""
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels], np.float32)


def _name(side: Any) -> str:
    return str(getattr(side, "name", "") or type(side).__name__)

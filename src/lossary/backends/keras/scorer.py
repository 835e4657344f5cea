"""Any Keras 3 code as a scorer, on TensorFlow, JAX or PyTorch: a call from token ids to logits.

scorer = KerasScorer(lambda ids, mask, types: model([ids, mask], training=False), tokenizer)
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from lossary.backends.api import OutOfDeviceMemory, ScoreOutput, row_sums
from lossary.backends.calls import check_logits, check_objectives, pad_of, vocabulary_of
from lossary.backends.context import check_context, few_of
from lossary.data.examples import Examples
from lossary.vocabulary.api import Vocabulary

__all__ = ["KerasCall", "KerasScorer"]

# (token_ids, attention_mask, token_type_ids), int32 (B, T) each, to logits (B, T, V), or them and (B, 2) of the order.
KerasCall = Callable[[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]], Any]


class KerasScorer:
    """`call(token_ids, attention_mask, token_type_ids)` gives logits (B, T, V) of a batch, without dropout.

    As `ModuleScorer`, with NumPy arrays int32 (B, T). Since calls may be compiled, batches have few shapes, filled up
    with rows without a target.
    """

    framework = "keras"

    def __init__(
        self,
        call: KerasCall,
        tokenizer: Any = None,
        *,
        objectives: tuple[str, ...] = ("mlm",),
        max_length: int | None = None,
        max_tokens: int = 8192,
    ) -> None:
        check_objectives(objectives, where="KerasScorer")
        self._call = call
        self.vocabulary: Vocabulary | None = vocabulary_of(tokenizer)
        self.objectives = objectives
        self.max_length, self.max_tokens = max_length, max_tokens
        self.few_shapes = keras.backend.backend() != "torch"
        self.device = f"keras on {keras.backend.backend()}"
        self.precision = "fp32"
        self.notes: list[str] = []
        self._pad_id = pad_of(self.vocabulary)
        self._is_context_unchecked = True

    def score(self, examples: Examples) -> ScoreOutput:
        """Nats and predictions of each target. UsageError where the call gives something else than logits."""
        if self.max_length is not None and examples.token_ids.shape[1] > self.max_length:
            # Round lengths may end after the model's positions.
            predictions = examples.positions.shape[1]
            examples = examples.padded(length=self.max_length, predictions=predictions, rows=len(examples))
        try:
            logits, order = check_logits(
                self._given(examples),
                examples,
                objectives=self.objectives,
                vocabulary=self.vocabulary,
                where="KerasScorer",
            )
            if self._is_context_unchecked:
                self._check_context(examples, logits)
            nats, predicted = (_array(value) for value in _at_targets(logits, examples))
        except Exception as error:
            # TensorFlow's and JAX's own classes, which are not imported here.
            if "RESOURCE_EXHAUSTED" in str(error) or type(error).__name__ in (
                "ResourceExhaustedError",
                "OutOfMemoryError",
            ):
                raise OutOfDeviceMemory(str(error).splitlines()[0]) from None
            raise
        used = examples.weights > 0
        nats = np.where(used, nats, 0).astype(np.float32)
        predicted = np.where(used, predicted, 0).astype(np.int32)
        pairs = np.zeros((len(examples), 2), np.float32) if order is None else _array(order).astype(np.float32)
        rows = row_sums(examples, nats, predicted == examples.labels, pairs)
        return ScoreOutput(rows=rows, position_nats=nats, predicted=predicted)

    def _given(self, examples: Examples) -> Any:
        mask = examples.attention_mask
        ids = np.where(mask > 0, examples.token_ids, self._pad_id).astype(np.int32)
        return self._call(ids, mask, examples.segment_ids)

    def _check_context(self, examples: Examples, logits: Any) -> None:
        """Tried on a few examples of the first batch that has some, in its shape: calls may be compiled for it."""
        rows, length, pieces = logits.shape
        if (few := few_of(examples, pieces)) is None:
            return
        few = few.take(np.arange(min(len(few), rows)))

        def answers(asked: Examples) -> NDArray[Any]:
            asked = asked.padded(length=length, predictions=asked.positions.shape[1], rows=rows)
            given = self._given(asked)
            seen = given[0] if "sop" in self.objectives else given
            used = asked.weights > 0
            flat = (np.arange(rows)[:, None] * length + asked.positions)[used]
            picked = ops.take(ops.reshape(seen, (rows * length, -1)), flat, axis=0)
            return _array(ops.cast(picked, "float32"))

        bits = 16 if "16" in keras.backend.standardize_dtype(logits.dtype) else 32
        check_context(answers, few, objective=self.objectives[0], bits=bits, what="the call of KerasScorer")
        self._is_context_unchecked = False


def _at_targets(logits: Any, examples: Examples) -> tuple[Any, Any]:
    """Nats and predictions (B, P) at the positions, in float32."""
    rows, width = examples.token_ids.shape
    flat = (np.arange(rows)[:, None] * width + examples.positions).reshape(-1)
    picked = ops.cast(ops.take(ops.reshape(logits, (rows * width, -1)), flat, axis=0), "float32")
    labels = examples.labels.reshape(-1, 1)
    nats = ops.logsumexp(picked, axis=-1) - ops.take_along_axis(picked, labels, axis=-1)[:, 0]
    return ops.reshape(nats, examples.positions.shape), ops.reshape(
        ops.argmax(picked, axis=-1), examples.positions.shape
    )


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(ops.convert_to_numpy(value))

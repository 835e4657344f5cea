"""ALBERT, BERT and RoBERTa in Keras 3 on TensorFlow or JAX; what the two do differently is in `engines`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.backends.api import (
    Backend,
    Denominators,
    Logits,
    RowSums,
    ScoreOutput,
    StepOutput,
    row_sums,
)
from lossary.backends.keras.encoders import build_encoder
from lossary.backends.keras.engines import Engine, Seen, load_engine
from lossary.backends.keras.model import build_albert, from_keras, to_keras
from lossary.data.examples import Examples
from lossary.errors import CheckpointError
from lossary.models.architectures import ModelShape, takes_no_decay
from lossary.models.parameters import Parameters, parameter_table
from lossary.models.shapes import AlbertShape
from lossary.models.update_laws import Moments, UpdateLaw
from lossary.study import Precision

__all__ = ["KerasBackend", "load"]


def load() -> type[Backend]:
    """The backend's class."""
    return KerasBackend


class KerasBackend:
    """See `lossary.backends.api.Backend`."""

    def __init__(self, shape: ModelShape, *, precision: Precision = "fp32", device: str | None = None) -> None:
        engine_class = load_engine()
        self.device = engine_class.choose_device(device)
        self.max_tokens = 8192 if self.device.startswith("cpu") else 65536
        self.few_shapes = engine_class.few_shapes
        made = build_albert(shape, precision) if isinstance(shape, AlbertShape) else build_encoder(shape, precision)
        self._names = made.names
        sizes = dict(zip(made.names, made.sizes, strict=True))
        self._table = parameter_table(shape) if isinstance(shape, AlbertShape) else sizes
        self._sizes = [tuple(variable.shape) for variable in made.model.trainable_variables]
        adapted = [not takes_no_decay(name, len(sizes[name])) for name in self._names]
        self._engine: Engine = engine_class(made.model, adapted)

    def load_parameters(self, parameters: Parameters) -> None:
        found = {name: value.shape for name, value in parameters.items()}
        if found != self._table:
            other = sorted(name for name in {*found, *self._table} if found.get(name) != self._table.get(name))
            raise CheckpointError(f"its parameters are not those of the model made here: {', '.join(other[:4])}")
        self._engine.set_parameters(self._to_keras(parameters))

    def parameters(self) -> Parameters:
        return self._from_keras(self._engine.get_parameters())

    def load_moments(self, moments: Moments | None) -> None:
        if moments is None:
            zeros = [np.zeros(size, np.float32) for size in self._sizes]
            self._engine.set_moments(zeros, zeros)
        else:
            self._engine.set_moments(self._to_keras(moments.m), self._to_keras(moments.v))

    def moments(self) -> Moments:
        m, v = self._engine.get_moments()
        return Moments(self._from_keras(m), self._from_keras(v))

    def set_law(self, law: UpdateLaw) -> None:
        self._engine.set_law(law)

    def train_step(
        self, micro: Sequence[Examples], denominators: Denominators, *, step: int, rate: float
    ) -> StepOutput:
        if not self._engine.has_moments:
            self.load_moments(None)
        seen, gradients = self._accumulate(micro, denominators)
        norm = self._engine.apply(gradients, step, rate)
        return StepOutput(gradient_norm=float(norm), rows=[_rows(e, s) for e, s in zip(micro, seen, strict=True)])

    def gradients(self, micro: Sequence[Examples], denominators: Denominators) -> Parameters:
        return self._from_keras(self._engine.to_arrays(self._accumulate(micro, denominators)[1]))

    def apply(self, gradients: Parameters, *, step: int, rate: float) -> float:
        """One update from given gradients; returns their norm before clipping."""
        if not self._engine.has_moments:
            self.load_moments(None)
        return float(self._engine.apply(self._to_keras(gradients), step, rate))

    def _accumulate(self, micro: Sequence[Examples], denominators: Denominators) -> tuple[list[Seen], list[Any]]:
        seen: list[Seen] = []
        total: list[Any] = []
        # A batch without one labelled pair has no SOP loss: its sum is 0 whatever it is divided by.
        scale = np.array([1 / denominators[0], 1 / (denominators[1] or 1.0)], np.float32)
        for examples in micro:
            part, gradients = self._engine.gradients(_inputs(examples), scale)
            seen.append(part)
            total = self._engine.add(total, gradients) if total else gradients
        return seen, total

    def score(self, examples: Examples) -> ScoreOutput:
        seen = self._engine.score(_inputs(examples))
        used = examples.weights > 0
        return ScoreOutput(
            rows=_rows(examples, seen),
            position_nats=np.where(used, np.asarray(seen.nats), 0).astype(np.float32),
            predicted=np.where(used, np.asarray(seen.predicted), 0).astype(np.int32),
        )

    def logits(self, examples: Examples) -> Logits:
        mlm, sop = self._engine.logits(_inputs(examples))
        return Logits(mlm=np.where(examples.weights[..., None] > 0, mlm, 0).astype(np.float32), sop=np.asarray(sop))

    def _to_keras(self, tensors: Parameters) -> list[NDArray[np.float32]]:
        return [to_keras(name, tensors[name], size) for name, size in zip(self._names, self._sizes, strict=True)]

    def _from_keras(self, tensors: Sequence[NDArray[Any]]) -> Parameters:
        found = dict(zip(self._names, tensors, strict=True))
        return {name: from_keras(name, found[name], size) for name, size in self._table.items()}


def _inputs(examples: Examples) -> dict[str, NDArray[Any]]:
    return {
        "token_ids": examples.token_ids,
        "segment_ids": examples.segment_ids,
        "padding_mask": examples.attention_mask,
        "mask_positions": examples.positions,
        "labels": examples.labels,
        "weights": examples.weights,
        "sop_labels": examples.sop_labels.astype(np.int32),
    }


def _rows(examples: Examples, seen: Seen) -> RowSums:
    return row_sums(
        examples, np.asarray(seen.nats), np.asarray(seen.predicted) == examples.labels, np.asarray(seen.sop)
    )

"""Gradients of ALBERT's parameters, in the same settings and precisions as the forward pass.

    run = record(parameters, architecture, feed)
    losses = loss_gradients(run.outputs, feed.labels, feed.weights, feed.sop_labels)
    run.gradients(losses.d_mlm, losses.d_sop).parameters          # by canonical name

What reaches the word embeddings through the tied decoder and through the lookup is told apart.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from lossary.models.arbiter.architecture import Architecture, ModelInputs
from lossary.models.arbiter.arithmetic import Arithmetic, Array, Precision, as_arithmetic
from lossary.models.arbiter.forward import Outputs, Tensors, chain, quietly
from lossary.models.arbiter.machine import Machine
from lossary.models.arbiter.stages import DECODER, WORDS, Weights

__all__ = ["Gradients", "LossGradients", "Recording", "gradients", "loss_gradients", "record"]

_EPSILON = 1e-5  # in the denominator of the MLM loss


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """Gradients by canonical name and shape; 0 where a parameter takes no part."""

    parameters: dict[str, Array]
    tied_part: Array  # (V, E) of the word embeddings, through the decoder
    lookup_part: Array  # (V, E) of the word embeddings, through the lookup


class Recording:
    """A forward pass that gradients can be taken of, as often as wanted."""

    def __init__(
        self, parameters: Tensors, architecture: Architecture, feed: ModelInputs, arithmetic: Arithmetic
    ) -> None:
        self._shapes = {name: value.shape for name, value in parameters.items()}
        self._machine = Machine(arithmetic, record=True)
        self._weights = Weights(parameters, self._machine)
        with quietly(arithmetic):
            values = chain(self._weights, architecture, feed)
        self._mlm, self._sop = values["mlm"], values["sop"]
        self.outputs = Outputs(mlm=self._mlm.array, sop=self._sop.array)

    def gradients(self, d_mlm: NDArray[Any] | None, d_sop: NDArray[Any] | None) -> Gradients:
        """From the loss's derivatives by the MLM logits (B, P, V) and SOP logits (B, 2); None: by none of these."""
        given = ((self._mlm, d_mlm), (self._sop, d_sop))
        with quietly(self._machine.arithmetic):
            self._machine.backward([(value, seed) for value, seed in given if seed is not None])
        used = {name: value.gradient for name, value in self._weights.used().items()}
        dtype = self._machine.arithmetic.dtype

        def found(name: str) -> Array:
            gradient = used.get(name)
            size = self._shapes[WORDS if name == DECODER else name]
            return np.zeros(size, dtype) if gradient is None else gradient.reshape(size)

        tied, lookup = found(DECODER), found(WORDS)
        parameters = {name: tied + lookup if name == WORDS else found(name) for name in self._shapes}
        return Gradients(parameters=parameters, tied_part=tied, lookup_part=lookup)


def record(
    parameters: Tensors,
    architecture: Architecture,
    feed: ModelInputs,
    *,
    precision: Precision | Arithmetic = "float64",
) -> Recording:
    """Runs the model forward and keeps what gradients need."""
    return Recording(parameters, architecture, feed, as_arithmetic(precision))


def gradients(
    parameters: Tensors,
    architecture: Architecture,
    feed: ModelInputs,
    d_mlm: NDArray[Any] | None,
    d_sop: NDArray[Any] | None,
    *,
    precision: Precision | Arithmetic = "float64",
) -> Gradients:
    """Forward and backward at once; arguments as of `record` and `Recording.gradients`."""
    return record(parameters, architecture, feed, precision=precision).gradients(d_mlm, d_sop)


@dataclass(frozen=True, kw_only=True)
class LossGradients:
    """lossary's loss of some logits, and its derivatives by them."""

    mlm: float  # Σ w·CE / denominator, nats
    sop: float  # Σ CE over labelled rows / denominator, nats; 0 where none is labelled
    d_mlm: Array  # (B, P, V)
    d_sop: Array  # (B, 2)

    @property
    def loss(self) -> float:
        """What is minimised."""
        return self.mlm + self.sop


def loss_gradients(
    outputs: Outputs,
    labels: NDArray[Any],
    weights: NDArray[Any],
    sop_labels: NDArray[Any],
    denominators: tuple[float, float] | None = None,
) -> LossGradients:
    """Σ w·CE / (Σ w + 1e-5) + mean SOP CE over labelled rows.

    labels (B, P), weights (B, P), sop_labels (B,) −1 where there is none. `denominators`: those of a whole batch that
    these rows are part of, Σ w + 1e-5 and the number of labelled rows; by default those of these rows.
    """
    shares = np.asarray(weights, np.float64)
    labelled = np.asarray(sop_labels) >= 0
    masked, pairs = denominators or (float(shares.sum()) + _EPSILON, float(labelled.sum()))
    mlm, d_mlm = _cross_entropy(outputs.mlm, np.asarray(labels), shares / masked)
    sop, d_sop = _cross_entropy(outputs.sop, np.where(labelled, sop_labels, 0), labelled / (pairs or 1.0))
    return LossGradients(mlm=mlm, sop=sop, d_mlm=d_mlm, d_sop=d_sop)


def _cross_entropy(logits: Array, labels: NDArray[Any], shares: Array) -> tuple[float, Array]:
    """Σ shares·CE and its derivative by the logits; labels and shares have one axis less."""
    logs = log_softmax(np.asarray(logits, np.float64), axis=-1)
    chosen = labels[..., None].astype(np.int64)
    loss = -float((np.take_along_axis(logs, chosen, axis=-1)[..., 0] * shares).sum())
    slope = np.exp(logs)
    np.put_along_axis(slope, chosen, np.take_along_axis(slope, chosen, axis=-1) - 1.0, axis=-1)
    slope *= shares[..., None]
    return loss, slope

"""A ready adapter for Keras 3 on TensorFlow: any `keras.Model` with its compiled optimizer.

# my_adapter.py
from lossary.backends.keras.adapter import KerasSide

def side(setup):
    model = build(setup.shape)
    model.compile(optimizer=keras.optimizers.AdamW(1e-3))
    return KerasSide(model, setup, call=lambda m, x, training: m(x, training=training))
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lossary.errors import UsageError
from lossary.models.names import Match, propose_names, to_canonical, to_theirs
from lossary.models.parameters import parameter_table

__all__ = ["KerasSide"]

Arrays = dict[str, NDArray[Any]]
# call(model, feed, training) → MLM logits at the positions (B, P, V) or (B, T, V), and order logits (B, 2).
Call = Callable[[Any, Arrays, bool], tuple[Any, Any]]


class KerasSide:
    """Any `keras.Model`: weights, outputs; with a loss its gradients; its compiled optimizer's updates and rates.

    `loss(mlm, sop, feed)` is the scalar that is trained on. `names` maps canonical names to paths of variables; what it
    leaves out is proposed from shapes and names. `initial()` makes the
    model anew, as training begins with it. Gradients need Keras on TensorFlow.
    """

    def __init__(
        self,
        model: Any,
        setup: Any,
        *,
        call: Call,
        loss: Callable[[Any, Any, Arrays], Any] | None = None,
        initial: Callable[[], Any] | None = None,
        names: Mapping[str, str] | None = None,
        name: str = "",
        declared: Mapping[str, Any] | None = None,
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise UsageError(f"Keras runs on {keras.backend.backend()}; this adapter needs KERAS_BACKEND=tensorflow")
        self.name = name or model.name
        self.accumulates = False
        self.declared = dict(declared or {})
        self.model = model
        self._call, self._loss = call, loss
        self._table = parameter_table(setup.shape)
        self._variables = {variable.path: variable for variable in model.trainable_variables}
        self._sizes = {path: tuple(variable.shape) for path, variable in self._variables.items()}
        self._pairs = _pairs(self._sizes, self._table, names or {})
        optimizer = getattr(model, "optimizer", None)
        self._initial = initial
        needs: dict[str, Any] = {
            "initial": initial,
            "measure": loss,
            "gradients": loss,
            "restart": optimizer,
            "update": optimizer,
            "learning_rates": optimizer,
        }
        needs["train_step"] = loss and optimizer
        self.lacks = {method for method, given in needs.items() if given is None}
        self._optimizer = optimizer
        self._start: list[Any] | None = None

    def load(self, weights: Arrays) -> None:
        for path, value in to_theirs(weights, self._pairs, self._sizes).items():
            self._variables[path].assign(value)

    def weights(self) -> Arrays:
        own = {path: keras.ops.convert_to_numpy(variable) for path, variable in self._variables.items()}
        return dict(to_canonical(own, self._pairs, self._table))

    def initial(self) -> Arrays:
        assert self._initial is not None
        # A layer that is made again has another name, in the same place.
        drawn = zip(self._variables, self._initial().trainable_variables, strict=True)
        own = {path: keras.ops.convert_to_numpy(variable) for path, variable in drawn}
        return dict(to_canonical(own, self._pairs, self._table))

    def forward(self, feed: Arrays, *, training: bool = False) -> dict[str, Any]:
        mlm, sop = self._call(self.model, feed, training)
        return {"mlm": keras.ops.convert_to_numpy(mlm), "sop": keras.ops.convert_to_numpy(sop)}

    def measure(self, outputs: dict[str, Any], feed: Arrays) -> dict[str, float]:
        """The loss that is trained on; other losses and metrics are not known here."""
        assert self._loss is not None
        mlm, sop = (keras.ops.convert_to_tensor(np.asarray(outputs[name], np.float32)) for name in ("mlm", "sop"))
        return {"loss": float(self._loss(mlm, sop, feed))}

    def gradients(self, micro_batches: list[Arrays]) -> Arrays:
        gradients, _ = self._accumulate(micro_batches)
        return dict(to_canonical(gradients, self._pairs, self._table))

    def _accumulate(self, micro_batches: list[Arrays]) -> tuple[Arrays, float]:
        import tensorflow as tf

        assert self._loss is not None
        tensors = [variable.value for variable in self._variables.values()]
        total, loss_sum = [np.zeros(size, np.float32) for size in self._sizes.values()], 0.0
        for feed in micro_batches:
            with tf.GradientTape() as tape:
                loss = self._loss(*self._call(self.model, feed, True), feed) / len(micro_batches)
            gradients = tape.gradient(loss, tensors, unconnected_gradients="zero")
            total = [a + np.asarray(tf.convert_to_tensor(b)) for a, b in zip(total, gradients, strict=True)]
            loss_sum += float(loss)
        return dict(zip(self._sizes, total, strict=True)), loss_sum

    def restart(self) -> None:
        assert self._optimizer is not None
        if self._start is None:
            self._start = _start_of(self._optimizer, list(self._variables.values()))
        for variable, value in zip(self._optimizer.variables, self._start, strict=True):
            variable.assign(value)

    def update(self, gradients: list[Arrays], *, step: int) -> None:
        mean = {name: np.mean([part[name] for part in gradients], axis=0) for name in gradients[0]}
        self._apply(dict(to_theirs(mean, self._pairs, self._sizes)), step)

    def _apply(self, gradients: Arrays, step: int) -> None:
        assert self._optimizer is not None
        # The optimizer counts its own steps, and schedules follow its count.
        self._optimizer.iterations.assign(step)
        ordered = [keras.ops.convert_to_tensor(gradients[path]) for path in self._variables]
        self._optimizer.apply(ordered, list(self._variables.values()))

    def learning_rates(self, start: int, stop: int) -> list[float]:
        assert self._optimizer is not None
        self.restart()
        rates = []
        for step in range(start, stop):
            self._optimizer.iterations.assign(step)
            rates.append(float(keras.ops.convert_to_numpy(self._optimizer.learning_rate)))
        return rates

    def train_step(self, feed: Arrays, *, step: int) -> dict[str, float]:
        gradients, loss = self._accumulate([feed])
        self._apply(gradients, step)
        return {"loss": loss}


def _start_of(optimizer: Any, variables: list[Any]) -> list[Any]:
    """Values of all of an optimizer's variables before its first step; of one that was trained, those of its like."""
    fresh = optimizer
    if optimizer.built:
        fresh = type(optimizer).from_config(optimizer.get_config())
    fresh.build(variables)
    return [keras.ops.convert_to_numpy(variable).copy() for variable in fresh.variables]


def _pairs(
    sizes: Mapping[str, tuple[int, ...]], table: Mapping[str, tuple[int, ...]], names: Mapping[str, str]
) -> dict[str, Match]:
    unknown = [f"{path!r} for {name}" for name, path in names.items() if path not in sizes or name not in table]
    if unknown:
        raise UsageError(
            f"the name map has what is not there: {', '.join(unknown[:4])}", hint=f"Variables: {', '.join(sizes)}."
        )
    # Keras keeps kernels as (in, out); embeddings lie as they do elsewhere.
    given = {name: Match(theirs=path, transposed=_is_kernel(path)) for name, path in names.items()}
    rest = {path: size for path, size in sizes.items() if path not in names.values()}
    proposed = propose_names(rest, {name: size for name, size in table.items() if name not in names})
    matched = {
        name: Match(theirs=match.theirs, transposed=match.transposed or _is_kernel(match.theirs))
        for name, match in proposed.require().items()
    }
    return given | matched


def _is_kernel(path: str) -> bool:
    return path.endswith("kernel")

"""What TensorFlow and JAX do differently under Keras: where variables live, gradients, compilation.

TensorFlow: one `tf.function` for every shape, variables updated in place. JAX: `jit` for each shape, so micro batches
come in few shapes; parameters and moments are lists of arrays.
"""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from lossary.backends.api import OutOfDeviceMemory
from lossary.backends.keras.law import LawState, update
from lossary.backends.keras.model import INPUTS
from lossary.errors import UsageError
from lossary.models.update_laws import UpdateLaw, bias_correction

__all__ = ["Engine", "Seen", "load_engine"]

Arrays = list[NDArray[np.float32]]
Inputs = dict[str, NDArray[Any]]


class Seen(NamedTuple):
    """Of one micro batch: nats and predicted pieces (B, P) at the positions, SOP logits (B, 2)."""

    nats: Any
    predicted: Any
    sop: Any


class Engine(Protocol):
    """A model with its optimizer on one framework."""

    few_shapes: bool

    @property
    def has_moments(self) -> bool: ...

    def __init__(self, model: keras.Model, adapted: Sequence[bool]) -> None: ...
    @staticmethod
    def choose_device(name: str | None) -> str: ...
    def set_law(self, law: UpdateLaw) -> None: ...
    def set_parameters(self, values: Arrays) -> None: ...
    def get_parameters(self) -> Arrays: ...
    def set_moments(self, m: Arrays, v: Arrays) -> None: ...
    def get_moments(self) -> tuple[Arrays, Arrays]: ...
    def gradients(self, inputs: Inputs, scale: NDArray[np.float32]) -> tuple[Seen, list[Any]]: ...
    def add(self, first: list[Any], second: list[Any]) -> list[Any]: ...
    def apply(self, gradients: list[Any], step: int, rate: float) -> float: ...
    def score(self, inputs: Inputs) -> Seen: ...
    def logits(self, inputs: Inputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def to_arrays(self, tensors: list[Any]) -> Arrays: ...


def load_engine() -> type[Engine]:
    """The engine of the Keras backend of this process."""
    engine: type[Engine] = TensorFlowEngine if keras.backend.backend() == "tensorflow" else JaxEngine
    return engine


def _nats(mlm: Any, labels: Any) -> Any:
    """Cross entropy (B, P) in nats of logits (B, P, V)."""
    return ops.sparse_categorical_crossentropy(labels, mlm, from_logits=True)


def _loss(outputs: dict[str, Any], inputs: dict[str, Any], scale: Any) -> tuple[Any, Seen]:
    """The scaled sum of both objectives; filler positions and rows without a label weigh nothing."""
    nats = _nats(outputs["mlm"], inputs["labels"])
    labelled = ops.cast(inputs["sop_labels"] >= 0, "float32")
    sop_nats = ops.sparse_categorical_crossentropy(
        ops.maximum(inputs["sop_labels"], 0), outputs["sop"], from_logits=True
    )
    loss = ops.sum(nats * inputs["weights"]) * scale[0] + ops.sum(sop_nats * labelled) * scale[1]
    return loss, Seen(nats, ops.argmax(outputs["mlm"], axis=-1), outputs["sop"])


class TensorFlowEngine:
    """See `Engine`."""

    # A function with open shapes is traced once; nothing is compiled for a shape.
    few_shapes = False

    def __init__(self, model: keras.Model, adapted: Sequence[bool]) -> None:
        import tensorflow as tf

        self._tf = tf
        self._model = model
        self._adapted = list(adapted)
        self._variables = [variable.value for variable in model.trainable_variables]
        self._m: list[Any] = []
        self._v: list[Any] = []
        self._apply: Any = None
        integer, real = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.float32)
        signature = dict.fromkeys((*INPUTS, "labels"), integer)
        signature |= {"weights": real, "sop_labels": tf.TensorSpec([None], tf.int32)}
        self._gradients = tf.function(self._traced_gradients, [signature, tf.TensorSpec([2], tf.float32)])
        self._score = tf.function(self._traced_score, [signature])
        self._add = tf.function(lambda first, second: [a + b for a, b in zip(first, second, strict=True)])

    @staticmethod
    def choose_device(name: str | None) -> str:
        import tensorflow as tf

        # Equal inputs must give equal bits, or a resumed run is another run.
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(0)
        threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1 if threads == 1 else 2)
        gpus = tf.config.list_physical_devices("GPU")
        if name == "cpu" or (name is None and not gpus):
            tf.config.set_visible_devices([], "GPU")
            return "cpu"
        kind, _, number = (name or "cuda:0").partition(":")
        if kind not in ("cuda", "gpu") or int(number or 0) >= len(gpus):
            raise UsageError(f"the device {name!r} cannot be used: TensorFlow sees {len(gpus)} GPUs")
        tf.config.set_visible_devices([gpus[int(number or 0)]], "GPU")
        tf.config.experimental.set_memory_growth(gpus[int(number or 0)], True)
        details = tf.config.experimental.get_device_details(gpus[int(number or 0)])
        return f"cuda:{number or 0} {details.get('device_name', '')}"

    def set_parameters(self, values: Arrays) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def get_parameters(self) -> Arrays:
        return [variable.numpy() for variable in self._variables]

    @property
    def has_moments(self) -> bool:
        return bool(self._m)

    def set_moments(self, m: Arrays, v: Arrays) -> None:
        if not self._m:
            self._m, self._v = ([self._tf.Variable(value) for value in part] for part in (m, v))
        for variable, value in zip([*self._m, *self._v], [*m, *v], strict=True):
            variable.assign(value)

    def get_moments(self) -> tuple[Arrays, Arrays]:
        return [variable.numpy() for variable in self._m], [variable.numpy() for variable in self._v]

    def _outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        outputs: dict[str, Any] = self._model({name: inputs[name] for name in INPUTS})
        return outputs

    def _traced_gradients(self, inputs: dict[str, Any], scale: Any) -> tuple[Seen, list[Any]]:
        with self._tf.GradientTape() as tape:
            loss, seen = _loss(self._outputs(inputs), inputs, scale)
        gradients = tape.gradient(loss, self._variables, unconnected_gradients="zero")
        return seen, [self._tf.convert_to_tensor(gradient) for gradient in gradients]

    def _traced_score(self, inputs: dict[str, Any]) -> tuple[Seen, Any]:
        outputs = self._outputs(inputs)
        predicted = ops.argmax(outputs["mlm"], axis=-1)
        return Seen(_nats(outputs["mlm"], inputs["labels"]), predicted, outputs["sop"]), outputs["mlm"]

    def set_law(self, law: UpdateLaw) -> None:
        # The law is part of what is traced.
        self._law = law
        self._apply = self._tf.function(partial(self._traced_apply, law))

    def _traced_apply(self, law: UpdateLaw, gradients: list[Any], correction: Any, rate: Any) -> Any:
        state = LawState([variable.value() for variable in self._variables], list(self._m), list(self._v))
        new, norm = update(law, state, gradients, adapted=self._adapted, correction=correction, rate=rate)
        for variables, values in zip((self._variables, self._m, self._v), new, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return norm

    def gradients(self, inputs: Inputs, scale: NDArray[np.float32]) -> tuple[Seen, list[Any]]:
        try:
            seen, gradients = self._gradients(inputs, scale)
        except self._tf.errors.ResourceExhaustedError as error:
            raise OutOfDeviceMemory(error.message.splitlines()[0]) from None
        return Seen(*seen), gradients

    def add(self, first: list[Any], second: list[Any]) -> list[Any]:
        return list(self._add(first, second))

    def apply(self, gradients: list[Any], step: int, rate: float) -> float:
        correction = self._tf.constant(bias_correction(self._law, step), "float32")
        return float(self._apply(gradients, correction, self._tf.constant(rate, "float32")))

    def score(self, inputs: Inputs) -> Seen:
        return Seen(*self._score(inputs)[0])

    def logits(self, inputs: Inputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen, mlm = self._score(inputs)
        return mlm.numpy(), Seen(*seen).sop.numpy()

    def to_arrays(self, tensors: list[Any]) -> Arrays:
        return [tensor.numpy() for tensor in tensors]


class JaxEngine:
    """See `Engine`."""

    few_shapes = True

    def __init__(self, model: keras.Model, adapted: Sequence[bool]) -> None:
        import jax

        self._jax = jax
        self._model = model
        self._adapted = list(adapted)
        self._fixed = [variable.value for variable in model.non_trainable_variables]
        self._parameters: list[Any] = [variable.value for variable in model.trainable_variables]
        self._m: list[Any] = []
        self._v: list[Any] = []
        self._apply: Any = None
        self._gradients = jax.jit(jax.grad(self._traced_loss, has_aux=True))
        self._score = jax.jit(self._traced_score)
        self._add = jax.jit(lambda first, second: [a + b for a, b in zip(first, second, strict=True)])

    @staticmethod
    def choose_device(name: str | None) -> str:
        import jax

        kind, _, number = (name or jax.default_backend()).partition(":")
        kind = "gpu" if kind == "cuda" else kind
        try:
            device = jax.devices(kind)[int(number or 0)]
        except (RuntimeError, IndexError) as error:
            raise UsageError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
        jax.config.update("jax_default_device", device)
        return "cpu" if kind == "cpu" else f"cuda:{number or 0} {device.device_kind}"

    def set_parameters(self, values: Arrays) -> None:
        self._parameters = [self._jax.numpy.asarray(value) for value in values]

    def get_parameters(self) -> Arrays:
        return self.to_arrays(self._parameters)

    @property
    def has_moments(self) -> bool:
        return bool(self._m)

    def set_moments(self, m: Arrays, v: Arrays) -> None:
        self._m, self._v = ([self._jax.numpy.array(value) for value in part] for part in (m, v))

    def get_moments(self) -> tuple[Arrays, Arrays]:
        return self.to_arrays(self._m), self.to_arrays(self._v)

    def _outputs(self, parameters: list[Any], inputs: dict[str, Any]) -> dict[str, Any]:
        outputs: dict[str, Any] = self._model.stateless_call(
            parameters, self._fixed, {name: inputs[name] for name in INPUTS}
        )[0]
        return outputs

    def _traced_loss(self, parameters: list[Any], inputs: dict[str, Any], scale: Any) -> tuple[Any, Seen]:
        return _loss(self._outputs(parameters, inputs), inputs, scale)

    def _traced_score(self, parameters: list[Any], inputs: dict[str, Any]) -> tuple[Seen, Any]:
        outputs = self._outputs(parameters, inputs)
        predicted = ops.argmax(outputs["mlm"], axis=-1)
        return Seen(_nats(outputs["mlm"], inputs["labels"]), predicted, outputs["sop"]), outputs["mlm"]

    def set_law(self, law: UpdateLaw) -> None:
        # The law is part of what is traced.
        self._law = law
        self._apply = self._jax.jit(partial(update, law, adapted=self._adapted), donate_argnums=(0,))

    def gradients(self, inputs: Inputs, scale: NDArray[np.float32]) -> tuple[Seen, list[Any]]:
        try:
            gradients, seen = self._gradients(self._parameters, inputs, scale)
        except self._jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise OutOfDeviceMemory(str(error).splitlines()[0]) from None
            raise
        return seen, gradients

    def add(self, first: list[Any], second: list[Any]) -> list[Any]:
        return list(self._add(first, second))

    def apply(self, gradients: list[Any], step: int, rate: float) -> float:
        state = LawState(self._parameters, self._m, self._v)
        correction = np.array(bias_correction(self._law, step), np.float32)
        new, norm = self._apply(state, gradients, correction=correction, rate=np.float32(rate))
        self._parameters, self._m, self._v = new
        return float(norm)

    def score(self, inputs: Inputs) -> Seen:
        return self._score(self._parameters, inputs)[0]  # type: ignore[no-any-return]

    def logits(self, inputs: Inputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen, mlm = self._score(self._parameters, inputs)
        return np.asarray(mlm), np.asarray(seen.sop)

    def to_arrays(self, tensors: list[Any]) -> Arrays:
        return [np.array(tensor) for tensor in tensors]

"""What training and evaluation ask of a framework, and how one is loaded.

backend = load_backend("torch")(shape, precision="fp32")
backend.load_parameters(initial_parameters(shape, seed))
"""

import importlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lossary.backends.process import StopRequest, run_worker
from lossary.backends.ranks import Ranks
from lossary.data.examples import Examples
from lossary.errors import MissingPackage, UsageError
from lossary.models.architectures import EncoderShape, ModelShape, shape_from, shape_value
from lossary.models.parameters import Parameters, initial_parameters, parameter_table
from lossary.models.shapes import AlbertShape, operations
from lossary.models.tensors import read_tensors
from lossary.models.update_laws import Moments, UpdateLaw
from lossary.study import Precision

__all__ = [
    "Backend",
    "Denominators",
    "Logits",
    "OutOfDeviceMemory",
    "RowSums",
    "ScoreOutput",
    "Sizes",
    "StepOutput",
    "initial_weights",
    "join_ranks",
    "load_backend",
    "new_backend",
    "require_packages",
    "resolved",
    "row_sums",
    "sizes_of",
]


class OutOfDeviceMemory(Exception):
    """The device has too little memory for a micro batch of this size."""


@dataclass(frozen=True, kw_only=True)
class RowSums:
    """Sums over each example of a micro batch (B,); filler rows included."""

    mlm_nats: NDArray[np.float64]
    mlm_correct: NDArray[np.int32]
    sop_nats: NDArray[np.float64]  # 0 where the example has no label
    sop_correct: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ScoreOutput:
    """What a model scores on each example and each masked position."""

    rows: RowSums
    position_nats: NDArray[np.float32]  # (B, P); 0 where unused
    predicted: NDArray[np.int32]  # (B, P)


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """What a training step saw, before its update."""

    gradient_norm: float  # before clipping
    rows: list[RowSums]  # one for each micro batch


@dataclass(frozen=True, kw_only=True)
class Logits:
    """Outputs of the two heads: (B, P, V) at the masked positions, and (B, 2)."""

    mlm: NDArray[np.float32]
    sop: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a model is; multiplications are those forward a token."""

    parameters: int
    operations: float


# Masked positions and labelled pairs of the whole batch, by which the sums of its micro batches are divided.
Denominators = tuple[float, float]


class Backend(Protocol):
    """A model with its optimizer in one framework: ALBERT, or another encoder (by MLM alone).

    The loss of a step is Σ MLM nats / denominators[0] + Σ SOP nats / denominators[1] over all micro batches.
    """

    device: str
    max_tokens: int  # padded tokens of a micro batch that the device takes well
    few_shapes: bool  # whether every new shape of a micro batch is compiled

    def __init__(self, shape: Any, *, precision: Precision = "fp32", device: str | None = None) -> None: ...
    def load_parameters(self, parameters: Parameters) -> None: ...
    def parameters(self) -> Parameters: ...
    def load_moments(self, moments: Moments | None) -> None: ...
    def moments(self) -> Moments: ...
    def set_law(self, law: UpdateLaw) -> None: ...
    def train_step(
        self, micro: Sequence[Examples], denominators: Denominators, *, step: int, rate: float
    ) -> StepOutput: ...
    def gradients(self, micro: Sequence[Examples], denominators: Denominators) -> Parameters: ...
    def apply(self, gradients: Parameters, *, step: int, rate: float) -> float: ...
    def score(self, examples: Examples) -> ScoreOutput: ...
    def logits(self, examples: Examples) -> Logits: ...


_PACKAGES = {
    "torch": ("torch", "transformers"),
    "tensorflow": ("tensorflow", "keras", "keras_hub"),
    "jax": ("jax", "keras", "keras_hub"),
    "keras": ("keras",),
}


def load_backend(name: str) -> type[Backend]:
    """The class of a backend; imports its framework, so only in a worker process.

    Raises MissingPackage with the install line, UsageError if Keras was started on another backend.
    """
    if name == "torch":
        module = "lossary.backends.torch.backend"
    else:
        chosen = os.environ.get("KERAS_BACKEND")
        if chosen != name:
            raise UsageError(f"KERAS_BACKEND is {chosen!r} and {name!r} is asked for; one process runs one backend")
        module = "lossary.backends.keras.backend"
    require_packages(name, f"the backend {name}")
    backend: type[Backend] = importlib.import_module(module).load()
    return backend


def require_packages(name: str, what: str) -> None:
    """MissingPackage, with the install line, if one of a framework's packages is not there for `what` needs it."""
    missing = [package for package in _PACKAGES[name] if importlib.util.find_spec(package) is None]
    if missing:
        extra = "tensorflow" if name == "keras" else name
        raise MissingPackage(f"{what} needs {', '.join(missing)}", hint=f'pip install "lossary[{extra}]" installs it.')


def new_backend(
    name: str,
    shape: ModelShape,
    *,
    precision: Precision = "fp32",
    device: str | None = None,
    seed: int = 0,
    ranks: Ranks | None = None,
) -> Backend:
    """A model of a shape on a backend. Only in a worker process.

    `seed` is of what it draws in training, dropout; with several `ranks`, which torch alone has, it is one of them.
    """
    kind = load_backend(name)
    if ranks is None or ranks.size == 1:
        return _made(name, kind, shape, precision, device, seed)
    of_rank = importlib.import_module("lossary.backends.torch.ranks").device_of_rank(device, ranks)
    made: Any = _made(name, kind, shape, precision, of_rank, seed)
    made.join(ranks)
    joined: Backend = made
    return joined


def _made(
    name: str, kind: type[Backend], shape: ModelShape, precision: Precision, device: str | None, seed: int
) -> Backend:
    if isinstance(shape, AlbertShape) or name != "torch":
        return kind(shape, precision=precision, device=device)
    made: Backend = _encoders().TorchEncoder(shape, precision=precision, device=device, seed=seed)
    return made


def join_ranks(rank: int, size: int, store: str) -> Ranks:
    """This process as one of several on torch; they meet at the URL `store`, or as torchrun says if it is ""."""
    joined: Ranks = importlib.import_module("lossary.backends.torch.ranks").join(rank, size, store)
    return joined


def resolved(shape: ModelShape, backend: str = "torch") -> tuple[ModelShape, list[str]]:
    """A shape with all settings that its family has, and notes where they are not those that were asked for.

    On other backends than torch a worker of torch is asked. StudyError if transformers knows no such model or cannot
    make it, MissingPackage without transformers.
    """
    if isinstance(shape, AlbertShape):
        return shape, []
    if backend == "torch":
        found: tuple[EncoderShape, list[str]] = _encoders().resolve(shape)
        return found
    with TemporaryDirectory() as folder:
        told = _told_by_torch({"shape": shape_value(shape)}, Path(folder))
    return shape_from(told["shape"]), told["notes"]


def initial_weights(shape: ModelShape, seed: int, backend: str = "torch") -> Parameters:
    """The weights that training begins with, the same on every backend; of a shape that is resolved."""
    if isinstance(shape, AlbertShape):
        return initial_parameters(shape, seed)
    if backend == "torch":
        found: Parameters = _encoders().initial_weights(shape, seed)
        return found
    with TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        _told_by_torch({"shape": shape_value(shape), "seed": seed, "file": str(file)}, Path(folder))
        return read_tensors(file)


def _told_by_torch(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What transformers knows of a model, from a process of its own: two frameworks do not share one."""
    require_packages("torch", "a run of BERT or RoBERTa, which begins with the weights that transformers draws,")
    log = folder / "drawing.log"
    module = "lossary.backends.torch.drawing"
    return run_worker(module, job, backend="torch", threads=1, log=log, emit=lambda _: None, stop=StopRequest())


def sizes_of(shape: ModelShape) -> Sizes | None:
    """How large a model is; None where transformers would have to say so and is not installed."""
    if isinstance(shape, AlbertShape):
        table = parameter_table(shape)
        return Sizes(parameters=sum(prod(size) for size in table.values()), operations=operations(shape))
    if any(importlib.util.find_spec(package) is None for package in _PACKAGES["torch"]):
        return None
    found: Sizes = _encoders().sizes(shape)
    return found


def _encoders() -> Any:
    return importlib.import_module("lossary.backends.torch.encoders")


def row_sums(
    examples: Examples, position_nats: NDArray[np.float32], hits: NDArray[np.bool_], sop_logits: NDArray[np.float32]
) -> RowSums:
    """Sums by example in float64 from nats and hits (B, P) at masked positions and SOP logits (B, 2)."""
    used = examples.weights > 0
    labels = np.maximum(examples.sop_labels, 0).astype(np.int64)
    labelled = examples.sop_labels >= 0
    logits = sop_logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    nats = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return RowSums(
        mlm_nats=np.where(used, position_nats, 0).sum(axis=1, dtype=np.float64),
        mlm_correct=(hits & used).sum(axis=1).astype(np.int32),
        sop_nats=np.where(labelled, nats, 0.0),
        sop_correct=labelled & (logits.argmax(axis=1) == labels),
    )

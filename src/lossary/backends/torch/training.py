"""What all models do alike in training with PyTorch: gradients over micro batches, the update law, weights in and out.

A subclass makes the module, says which parameters take no part in decay, and gives logits of the targets.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lossary.backends.api import Denominators, OutOfDeviceMemory, RowSums, StepOutput, row_sums
from lossary.backends.ranks import OneRank, Ranks
from lossary.backends.torch.law import LawState, update
from lossary.backends.torch.targets import usable_device
from lossary.data.examples import Examples
from lossary.models.parameters import Parameters
from lossary.models.update_laws import Moments, UpdateLaw
from lossary.study import Precision

__all__ = ["Forward", "TorchTraining", "fetch", "rows_of", "spread"]


class Forward(NamedTuple):
    """What a model says of a micro batch."""

    mlm: torch.Tensor  # (N, V) at the used positions of all rows, row by row
    sop: torch.Tensor | None  # (B, 2); None without a head for it
    labels: torch.Tensor  # (N,)


class _Seen(NamedTuple):
    """What is told of a micro batch: nats and hits (N,) of its targets, logits (B, 2) of the order."""

    examples: Examples
    nats: torch.Tensor
    hits: torch.Tensor
    sop: torch.Tensor | None


class TorchTraining(ABC):
    """A model in training. `_take` is called once the subclass has made its module."""

    few_shapes = False

    def __init__(self, *, precision: Precision, device: str | None) -> None:
        # Equal inputs must give equal bits, or a resumed run is another run.
        torch.use_deterministic_algorithms(True, warn_only=True)
        self._device = usable_device(device)
        self.device = str(self._device)
        self.max_tokens = 8192
        if self._device.type == "cuda":
            self.device += f" {torch.cuda.get_device_name(self._device)}"
            self.max_tokens = 65536
        self._precision = precision
        self._state: LawState | None = None
        self._law: UpdateLaw | None = None
        self._names: list[str] = []
        self._parameters: list[torch.Tensor] = []
        self._adapted: list[bool] = []
        self._fixed: dict[str, torch.Tensor] = {}
        self._ranks: Ranks = OneRank()

    def join(self, ranks: Ranks) -> None:
        """From now on a step's micro batches are those of this rank; gradients are summed over all ranks."""
        self._ranks = ranks

    def _take(
        self, trained: Mapping[str, torch.Tensor], adapted: Sequence[bool], fixed: Mapping[str, torch.Tensor]
    ) -> None:
        """Parameters in their order, whether each takes part in decay, and what is stored and never moves."""
        self._names, self._parameters = list(trained), list(trained.values())
        self._adapted, self._fixed = list(adapted), dict(fixed)

    @abstractmethod
    def _forward(self, examples: Examples) -> Forward:
        """Logits of the targets, in the graph where gradients are wanted."""

    def _begin(self, step: int, part: int) -> AbstractContextManager[object]:
        """Around a micro batch in training: whatever is drawn in it."""
        del step, part
        return nullcontext()

    def load_parameters(self, parameters: Parameters) -> None:
        with torch.no_grad():
            for name, tensor in [*zip(self._names, self._parameters, strict=True), *self._fixed.items()]:
                tensor.copy_(torch.tensor(parameters[name]))

    def parameters(self) -> Parameters:
        return self._as_arrays([tensor.detach() for tensor in self._parameters]) | self._fixed_arrays()

    def load_moments(self, moments: Moments | None) -> None:
        if moments is None:
            m, v = ([torch.zeros_like(tensor) for tensor in self._parameters] for _ in range(2))
        else:
            m, v = (
                [torch.tensor(part[name], device=self._device) for name in self._names]
                for part in (moments.m, moments.v)
            )
        self._state = LawState(parameters=[p.data for p in self._parameters], m=m, v=v, adapted=self._adapted)

    def moments(self) -> Moments:
        assert self._state is not None, "no moments are loaded"
        zeros = {name: np.zeros_like(value) for name, value in self._fixed_arrays().items()}
        return Moments(self._as_arrays(self._state.m) | zeros, self._as_arrays(self._state.v) | zeros)

    def set_law(self, law: UpdateLaw) -> None:
        self._law = law

    def train_step(
        self, micro: Sequence[Examples], denominators: Denominators, *, step: int, rate: float
    ) -> StepOutput:
        assert self._law is not None, "no update law is set"
        if self._state is None:
            self.load_moments(None)
        assert self._state is not None
        seen = self._accumulate(micro, denominators, step)
        gradients = self._gradients()
        self._ranks.add_tensors(gradients)
        norm = update(self._law, self._state, gradients, step=step, rate=rate)
        return _told(norm, seen)

    def gradients(self, micro: Sequence[Examples], denominators: Denominators) -> Parameters:
        self._accumulate(micro, denominators, 0)
        return self._as_arrays(self._gradients())

    def apply(self, gradients: Parameters, *, step: int, rate: float) -> float:
        """One update from given gradients; returns their norm before clipping."""
        assert self._law is not None, "no update law is set"
        if self._state is None:
            self.load_moments(None)
        assert self._state is not None
        tensors = [torch.tensor(gradients[name], device=self._device) for name in self._names]
        return float(update(self._law, self._state, tensors, step=step, rate=rate))

    def _gradients(self) -> list[torch.Tensor]:
        return [tensor.grad for tensor in self._parameters if tensor.grad is not None]

    def _accumulate(self, micro: Sequence[Examples], denominators: Denominators, step: int) -> list["_Seen"]:
        for tensor in self._parameters:
            tensor.grad = None
        seen = []
        try:
            for part, examples in enumerate(micro):
                # Of parts that are trained at one time no two draw the same.
                with self._begin(step, part * self._ranks.size + self._ranks.rank):
                    out = self._forward(examples)
                    nats = functional.cross_entropy(out.mlm, out.labels, reduction="none")
                    loss = nats.sum() / denominators[0]
                    if out.sop is not None:
                        loss = loss + self._order_loss(examples, out.sop, denominators[1])
                    loss.backward()
                hits = out.mlm.detach().argmax(dim=1) == out.labels
                seen.append(_Seen(examples, nats.detach(), hits, None if out.sop is None else out.sop.detach()))
        except torch.OutOfMemoryError as error:
            for tensor in self._parameters:
                tensor.grad = None
            raise OutOfDeviceMemory(str(error).splitlines()[0]) from None
        return seen

    def _order_loss(self, examples: Examples, sop: torch.Tensor, labelled: float) -> torch.Tensor:
        if not labelled:
            # Keeps the head in the graph, so that it has a gradient: zero.
            return 0.0 * sop.sum()
        labels = torch.from_numpy(examples.sop_labels.astype(np.int64)).to(self._device)
        return functional.cross_entropy(sop, labels, reduction="sum", ignore_index=-1) / labelled

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "bf16":
            autocast: AbstractContextManager[object] = torch.autocast(self._device.type, torch.bfloat16)
            return autocast
        return nullcontext()

    def _as_arrays(self, tensors: Sequence[torch.Tensor]) -> Parameters:
        arrays = (tensor.to("cpu", copy=True).numpy() for tensor in tensors)
        return dict(zip(self._names, arrays, strict=True))

    def _fixed_arrays(self) -> Parameters:
        return {name: tensor.detach().to("cpu", copy=True).numpy() for name, tensor in self._fixed.items()}


def _told(norm: torch.Tensor, seen: Sequence[_Seen]) -> StepOutput:
    """What is told of a step: the device is waited for once, however many parts there are."""
    found = iter(fetch([norm, *(tensor for part in seen for tensor in part[1:] if tensor is not None)]))
    gradient_norm = float(next(found)[0])
    rows = [
        rows_of(part.examples, next(found), next(found), None if part.sop is None else next(found)) for part in seen
    ]
    return StepOutput(gradient_norm=gradient_norm, rows=rows)


def fetch(tensors: Sequence[torch.Tensor]) -> list[NDArray[np.float32]]:
    """Tensors of a device as flat arrays, fetched together; whole numbers are exact up to 2 ** 24."""
    together = torch.cat([tensor.reshape(-1).float() for tensor in tensors]).cpu().numpy()
    return np.split(together, np.cumsum([tensor.numel() for tensor in tensors])[:-1])


def rows_of(
    examples: Examples, nats: NDArray[np.float32], hits: NDArray[np.float32], sop: NDArray[np.float32] | None
) -> RowSums:
    """Sums by example from nats and hits (N,) of the targets and logits (2 B,) of the order."""
    order = np.zeros((len(examples), 2), np.float32) if sop is None else sop.reshape(-1, 2)
    return row_sums(examples, spread(examples, nats, np.float32), spread(examples, hits, np.bool_), order)


def spread(examples: Examples, flat: NDArray[np.float32], kind: type[np.generic]) -> NDArray[Any]:
    """Values (N,) of the used positions back to (B, P)."""
    values = np.zeros(examples.positions.shape, kind)
    values[examples.weights > 0] = flat
    return values

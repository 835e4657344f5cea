"""ALBERT in PyTorch: transformers' `AlbertForPreTraining`, its MLM head on masked positions only."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional
from transformers import AlbertConfig, AlbertForPreTraining
from transformers.utils import logging

from lossary.backends.api import (
    Backend,
    Denominators,
    Logits,
    OutOfDeviceMemory,
    RowSums,
    ScoreOutput,
    StepOutput,
    row_sums,
)
from lossary.backends.torch.law import LawState, update
from lossary.backends.torch.targets import usable_device
from lossary.data.examples import Examples
from lossary.models.parameters import Parameters, hf_config, is_excluded, parameter_table
from lossary.models.shapes import AlbertShape
from lossary.models.update_laws import Moments, UpdateLaw
from lossary.study import Precision

__all__ = ["TorchBackend", "load"]


def load() -> type[Backend]:
    """The backend's class."""
    return TorchBackend


class _Forward(NamedTuple):
    mlm: torch.Tensor  # (N, V) at the used positions of all rows, row by row
    sop: torch.Tensor  # (B, 2)
    labels: torch.Tensor  # (N,)


class TorchBackend:
    """See `lossary.backends.api.Backend`."""

    few_shapes = False

    def __init__(self, shape: AlbertShape, *, precision: Precision = "fp32", device: str | None = None) -> None:
        # Equal inputs must give equal bits, or a resumed run is another run.
        torch.use_deterministic_algorithms(True, warn_only=True)
        logging.set_verbosity_error()
        self._device = usable_device(device)
        self.device = str(self._device)
        self.max_tokens = 8192
        if self._device.type == "cuda":
            self.device += f" {torch.cuda.get_device_name(self._device)}"
            self.max_tokens = 65536
        self._precision = precision
        config = AlbertConfig.from_dict(hf_config(shape))
        config._attn_implementation = "sdpa"
        self.model = AlbertForPreTraining(config).to(self._device)
        self.model.train()
        named = dict(self.model.named_parameters())
        self._names = list(parameter_table(shape))
        if set(named) != set(self._names):
            raise AssertionError(f"transformers' parameters differ: {sorted(set(named) ^ set(self._names))}")
        self._parameters = [named[name] for name in self._names]
        self._state: LawState | None = None
        self._law: UpdateLaw | None = None

    def load_parameters(self, parameters: Parameters) -> None:
        with torch.no_grad():
            for name, tensor in zip(self._names, self._parameters, strict=True):
                tensor.copy_(torch.tensor(parameters[name]))

    def parameters(self) -> Parameters:
        return self._as_arrays([tensor.detach() for tensor in self._parameters])

    def load_moments(self, moments: Moments | None) -> None:
        if moments is None:
            m, v = ([torch.zeros_like(tensor) for tensor in self._parameters] for _ in range(2))
        else:
            m, v = (
                [torch.tensor(part[name], device=self._device) for name in self._names]
                for part in (moments.m, moments.v)
            )
        adapted = [not is_excluded(name) for name in self._names]
        self._state = LawState(parameters=[p.data for p in self._parameters], m=m, v=v, adapted=adapted)

    def moments(self) -> Moments:
        assert self._state is not None, "no moments are loaded"
        return Moments(self._as_arrays(self._state.m), self._as_arrays(self._state.v))

    def set_law(self, law: UpdateLaw) -> None:
        self._law = law

    def train_step(
        self, micro: Sequence[Examples], denominators: Denominators, *, step: int, rate: float
    ) -> StepOutput:
        assert self._law is not None, "no update law is set"
        if self._state is None:
            self.load_moments(None)
        assert self._state is not None
        seen = self._accumulate(micro, denominators)
        gradients = [tensor.grad for tensor in self._parameters if tensor.grad is not None]
        norm = update(self._law, self._state, gradients, step=step, rate=rate)
        return StepOutput(gradient_norm=float(norm), rows=[_rows(*item) for item in seen])

    def gradients(self, micro: Sequence[Examples], denominators: Denominators) -> Parameters:
        self._accumulate(micro, denominators)
        return self._as_arrays([tensor.grad for tensor in self._parameters if tensor.grad is not None])

    def apply(self, gradients: Parameters, *, step: int, rate: float) -> float:
        """One update from given gradients; returns their norm before clipping."""
        assert self._law is not None, "no update law is set"
        if self._state is None:
            self.load_moments(None)
        assert self._state is not None
        tensors = [torch.tensor(gradients[name], device=self._device) for name in self._names]
        return float(update(self._law, self._state, tensors, step=step, rate=rate))

    def _accumulate(
        self, micro: Sequence[Examples], denominators: Denominators
    ) -> list[tuple[Examples, torch.Tensor, torch.Tensor, torch.Tensor]]:
        for tensor in self._parameters:
            tensor.grad = None
        seen = []
        try:
            for examples in micro:
                out = self._forward(examples)
                nats = functional.cross_entropy(out.mlm, out.labels, reduction="none")
                loss = nats.sum() / denominators[0]
                labels = torch.from_numpy(examples.sop_labels.astype(np.int64)).to(self._device)
                if denominators[1]:
                    sop = functional.cross_entropy(out.sop, labels, reduction="sum", ignore_index=-1)
                    loss = loss + sop / denominators[1]
                else:
                    # Keeps the head in the graph, so that it has a gradient: zero.
                    loss = loss + 0.0 * out.sop.sum()
                loss.backward()
                hits = out.mlm.detach().argmax(dim=1) == out.labels
                seen.append((examples, nats.detach(), hits, out.sop.detach()))
        except torch.OutOfMemoryError as error:
            for tensor in self._parameters:
                tensor.grad = None
            raise OutOfDeviceMemory(str(error).splitlines()[0]) from None
        return seen

    def score(self, examples: Examples) -> ScoreOutput:
        with torch.inference_mode():
            out = self._forward(examples)
            nats = functional.cross_entropy(out.mlm, out.labels, reduction="none")
            predicted = out.mlm.argmax(dim=1)
            rows = _rows(examples, nats, predicted == out.labels, out.sop)
        return ScoreOutput(
            rows=rows,
            position_nats=_spread(examples, nats, np.float32),
            predicted=_spread(examples, predicted, np.int32),
        )

    def logits(self, examples: Examples) -> Logits:
        with torch.inference_mode():
            out = self._forward(examples)
        mlm = np.zeros((*examples.positions.shape, out.mlm.shape[1]), np.float32)
        mlm[examples.weights > 0] = out.mlm.cpu().numpy()
        return Logits(mlm=mlm, sop=out.sop.cpu().numpy())

    def _forward(self, examples: Examples) -> _Forward:
        used = examples.weights > 0
        width = examples.token_ids.shape[1]
        places = (np.arange(len(examples))[:, None] * width + examples.positions)[used]
        ids, mask, segments, flat, labels = (
            torch.from_numpy(np.ascontiguousarray(values, np.int64)).to(self._device)
            for values in (
                examples.token_ids,
                examples.attention_mask,
                examples.segment_ids,
                places,
                examples.labels[used],
            )
        )
        with self._autocast():
            hidden, pooled = self.model.albert(
                input_ids=ids, attention_mask=mask, token_type_ids=segments, return_dict=False
            )[:2]
            mlm = self.model.predictions(hidden.reshape(-1, hidden.shape[-1]).index_select(0, flat))
            sop = self.model.sop_classifier(pooled)
        return _Forward(mlm.float(), sop.float(), labels)

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "bf16":
            autocast: AbstractContextManager[object] = torch.autocast(self._device.type, torch.bfloat16)
            return autocast
        return nullcontext()

    def _as_arrays(self, tensors: Sequence[torch.Tensor]) -> Parameters:
        arrays = (tensor.to("cpu", copy=True).numpy() for tensor in tensors)
        return dict(zip(self._names, arrays, strict=True))


def _rows(examples: Examples, nats: torch.Tensor, hits: torch.Tensor, sop: torch.Tensor) -> RowSums:
    return row_sums(examples, _spread(examples, nats, np.float32), _spread(examples, hits, np.bool_), sop.cpu().numpy())


def _spread(examples: Examples, flat: torch.Tensor, kind: type[np.generic]) -> np.ndarray[Any, Any]:
    """Values (N,) of the used positions back to (B, P)."""
    values = np.zeros(examples.positions.shape, kind)
    values[examples.weights > 0] = flat.cpu().numpy()
    return values

"""What a `Trainer` of transformers does in its first steps, recorded beside what follows from its own forward passes.

    record = record_loop(trainer, steps=8)

The model's forward pass is taken as given: from its logits and the labels of the batch, sums of losses are computed in
float64, and the gradient of each micro batch's sum by a second backward pass through the same graph. Of every gradient
up to `_ELEMENTS` elements of each tensor are kept. Nothing is written into the Trainer's folder, and nobody is reported
to.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import TrainerCallback
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

__all__ = ["record_loop"]

# Of a tensor: enough to tell combinations of micro batches apart, and little beside the tensor.
_ELEMENTS = 256
_SHIFTS = (0, 1, 2)
_IGNORED = -100
_DECLARED = ("label_smoothing_factor", "bf16", "fp16")


def record_loop(trainer: Any, *, steps: int) -> dict[str, Any]:
    """Trains `steps` steps and returns what they did: settings, and the micro batches of each; arrays are float64."""
    recorder = _Recorder(trainer, steps)
    with _apart(trainer), recorder.attached():
        trainer.train()
    return recorder.record()


@contextmanager
def _apart(trainer: Any) -> Iterator[None]:
    """The Trainer with a folder of lossary's, no reports, no checkpoints and no evaluations."""
    args = trainer.args
    with tempfile.TemporaryDirectory(prefix="lossary-loop-") as folder:
        args.output_dir = folder
        args.save_strategy = args.eval_strategy = "no"
        args.load_best_model_at_end = args.push_to_hub = False
        args.disable_tqdm = True
        for callback in list(trainer.callback_handler.callbacks):
            if type(callback).__module__.startswith("transformers.integrations"):
                trainer.remove_callback(callback)
        yield


class _Recorder(TrainerCallback):  # type: ignore[misc]
    """Listens to a Trainer: its training steps and forward passes."""

    def __init__(self, trainer: Any, steps: int) -> None:
        self.trainer, self.most = trainer, steps
        self.steps: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self._open: list[dict[str, Any]] = []
        self._inputs: dict[str, torch.Tensor] | None = None
        model = trainer.model
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.picked = {name: _picked(p.numel()).to(p.device) for name, p in self.parameters.items()}
        self.smoothing = float(trainer.args.label_smoothing_factor)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While it lasts, the Trainer is recorded."""
        trainer = self.trainer
        stepped = trainer.training_step
        trainer.training_step = self._training_step(stepped)
        trainer.add_callback(self)
        hook = trainer.model.register_forward_hook(self._forward)
        try:
            yield
        finally:
            hook.remove()
            trainer.remove_callback(self)
            trainer.training_step = stepped

    def _training_step(self, stepped: Any) -> Any:
        def training_step(model: nn.Module, inputs: Any, *more: Any, **named: Any) -> Any:
            self._inputs = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
            micro: dict[str, Any] = {"step": len(self.steps), "forwards": 0}
            self._open.append(micro)
            loss = stepped(model, inputs, *more, **named)
            micro["loss"] = float(loss)
            micro["gradient"] = self._gradient()
            self._inputs = None
            return loss

        return training_step

    def _forward(self, module: nn.Module, _: Any, outputs: Any) -> None:
        """Sums of losses of one forward pass, and the gradient of the declared one."""
        if self._inputs is None or not module.training:
            return
        micro = self._open[-1]
        micro["forwards"] += 1
        logits = _logits(outputs)
        labels, ids = self._inputs.get("labels"), self._inputs.get("input_ids")
        if logits is None or labels is None or ids is None or labels.shape != ids.shape or logits.dim() != 3:
            self.problems.append("a forward pass has no logits (B, T, V) with labels (B, T)")
            return
        micro |= {"slots": labels.numel(), "rows": len(labels)}
        micro["sums"] = {
            f"{kind}@{shift}": _sums(logits.detach(), labels if kind == "labels" else _all(labels, ids), shift)
            for kind in ("labels", "all")
            for shift in _SHIFTS
        }
        micro["part"] = self._part(logits, labels)

    def _part(self, logits: torch.Tensor, labels: torch.Tensor) -> NDArray[np.float64] | None:
        """The gradient of the sum of the declared loss over the micro batch, through the user's own graph."""
        if not logits.requires_grad:
            return None
        leaf = logits.detach().double().requires_grad_()
        with torch.enable_grad(), torch.autocast(leaf.device.type, enabled=False):
            losses, uniform = _losses(leaf, labels, self.shift)
            total = (1 - self.smoothing) * losses.sum() + self.smoothing * uniform.sum()
            (seed,) = torch.autograd.grad(total, leaf)
        found = torch.autograd.grad(
            logits, list(self.parameters.values()), seed.to(logits.dtype), retain_graph=True, allow_unused=True
        )
        return self._flat(dict(zip(self.parameters, found, strict=True)))

    @property
    def shift(self) -> int:
        """By how many places targets stand behind what predicts them: 1 for causal models."""
        return int(type(self.trainer.model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())

    def _flat(self, tensors: Mapping[str, torch.Tensor | None]) -> NDArray[np.float64]:
        parts = []
        for name, at in self.picked.items():
            tensor = tensors[name]
            parts.append(torch.zeros(len(at)) if tensor is None else tensor.detach().reshape(-1)[at])
        return np.concatenate([part.double().cpu().numpy() for part in parts])

    def _gradient(self) -> NDArray[np.float64]:
        return self._flat({name: p.grad for name, p in self.parameters.items()})

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step has all its micro batches."""
        del args, state, control
        self.steps.append({"micro": self._open})
        self._open = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Ends the training after as many steps as were asked for."""
        del args, state
        if len(self.steps) >= self.most:
            control.should_training_stop = True
        return control

    def record(self) -> dict[str, Any]:
        """All of it."""
        trainer = self.trainer
        return {
            "model": type(trainer.model).__name__,
            "trainer": type(trainer).__name__,
            "shift": self.shift,
            "declared": {name: getattr(trainer.args, name) for name in _DECLARED},
            "total_steps": int(trainer.state.max_steps),
            "steps": self.steps,
            "problems": sorted(set(self.problems)),
        }


def _picked(count: int) -> torch.Tensor:
    if count <= _ELEMENTS:
        return torch.arange(count)
    return torch.linspace(0, count - 1, _ELEMENTS).long()


def _logits(outputs: Any) -> torch.Tensor | None:
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    return logits if isinstance(logits, torch.Tensor) else None


def _all(labels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Labels with the ids where there are none: as if every position were a target."""
    return torch.where(labels == _IGNORED, ids, labels)


def _losses(logits: torch.Tensor, labels: torch.Tensor, shift: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each target its negative logarithm of probability, and the mean of those of all pieces (label smoothing)."""
    kept = labels[:, shift:]
    at = kept != _IGNORED
    logs = torch.log_softmax(logits[:, : kept.shape[1]][at], -1)
    return -logs.gather(-1, kept[at].clamp(0, logits.shape[-1] - 1)[:, None])[:, 0], -logs.mean(-1)


def _sums(logits: torch.Tensor, labels: torch.Tensor, shift: int) -> list[float]:
    losses, uniform = _losses(logits.double(), labels, shift)
    return [float(losses.sum()), float(uniform.sum()), float(len(losses))]

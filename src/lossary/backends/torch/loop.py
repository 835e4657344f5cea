"""What a `Trainer` of transformers does in its first steps, recorded beside what follows from its own forward passes.

    record = record_loop(trainer, steps=8)

The model's forward pass is taken as given: from its logits and the labels of the batch, sums of losses are computed in
float64, and the gradient of each micro batch's sum by a second backward pass through the same graph. Of every gradient
up to `_ELEMENTS` elements of each tensor are kept, and so of weights around each step of the optimizer. Nothing is
written into the Trainer's folder, and nobody is reported to. Once it has trained, it evaluates some rows.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Subset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

__all__ = ["record_loop"]

# Of a tensor: enough to tell combinations of micro batches apart, and little beside the tensor.
_ELEMENTS = 256
_SHIFTS = (0, 1, 2)
_IGNORED = -100
_DECLARED = (
    "label_smoothing_factor",
    "bf16",
    "fp16",
    "max_grad_norm",
    "gradient_accumulation_steps",
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
)
_LOG_EVERY = 2  # steps; so that a few steps have several lines in the log
_EVALUATED = 3  # batches, the last of which is short
_FAR = 64  # places at which a schedule is asked for its law, up to its end


def record_loop(trainer: Any, *, steps: int) -> dict[str, Any]:
    """Trains `steps` steps and returns what they did: settings, and the micro batches of each; arrays are float64."""
    recorder = _Recorder(trainer, steps)
    with _apart(trainer):
        with recorder.attached():
            trainer.train()
        evaluated = _evaluated(trainer, recorder.shift)
    return {**recorder.record(), "evaluated": evaluated}


@contextmanager
def _apart(trainer: Any) -> Iterator[None]:
    """The Trainer with a folder of lossary's, no reports, no checkpoints and no evaluations."""
    args = trainer.args
    with tempfile.TemporaryDirectory(prefix="lossary-loop-") as folder:
        args.output_dir = folder
        args.save_strategy = args.eval_strategy = "no"
        args.load_best_model_at_end = args.push_to_hub = False
        args.disable_tqdm = True
        args.logging_strategy = "steps"
        args.logging_steps = min(args.logging_steps, _LOG_EVERY) if args.logging_steps >= 1 else _LOG_EVERY
        for callback in list(trainer.callback_handler.callbacks):
            if type(callback).__module__.startswith("transformers.integrations"):
                trainer.remove_callback(callback)
        yield


class _Recorder(TrainerCallback):  # type: ignore[misc]
    """Listens to a Trainer: its training steps, forward passes, steps of the optimizer and log."""

    def __init__(self, trainer: Any, steps: int) -> None:
        self.trainer, self.most = trainer, steps
        self.steps: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.logs: list[dict[str, float]] = []
        self._open: list[dict[str, Any]] = []
        self._ended: list[dict[str, Any]] = []
        self._hooks: list[Any] = []
        self._taken: dict[str, Any] = {}
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
        hook = trainer.model.register_forward_hook(self._forward, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            for one in self._hooks:
                one.remove()
            trainer.remove_callback(self)
            trainer.training_step = stepped

    def _training_step(self, stepped: Any) -> Any:
        def training_step(model: nn.Module, inputs: Any, *more: Any, **named: Any) -> Any:
            self._inputs = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
            micro: dict[str, Any] = {"left": None if self._open else self._gradient()}
            self._open.append(micro)
            loss = stepped(model, inputs, *more, **named)
            micro["loss"] = float(loss)
            micro["gradient"], micro["norms"] = self._gradient(), self._norms()
            self._inputs = None
            return loss

        return training_step

    def _forward(self, module: nn.Module, given: Any, named: Mapping[str, Any], outputs: Any) -> None:
        """Sums of losses of one forward pass, and the gradient of the declared one."""
        if self._inputs is None or not torch.is_grad_enabled():
            return
        micro = self._open[-1]
        micro["training"] = module.training
        micro["pads_seen"] = _pads_seen(self._inputs, given, named)
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

    def _norms(self) -> NDArray[np.float64]:
        """Of each gradient in full, (T,)."""
        found = [
            torch.zeros(()) if p.grad is None else p.grad.detach().double().norm() for p in self.parameters.values()
        ]
        return np.array([float(one) for one in found])

    def _weights(self) -> NDArray[np.float64]:
        return self._flat(self.parameters)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The optimizer exists: listens to its steps."""
        del args, state, control
        optimizer = _innermost(self.trainer.optimizer)
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        self.optimizer = _optimizer(optimizer, self.parameters)
        self.schedule = self._schedule()

    def _before_step(self, optimizer: Any, *_: Any) -> None:
        self._taken = {
            "used": self._gradient(),
            "before": self._weights(),
            "rates": [float(group["lr"]) for group in optimizer.param_groups],
            "without": [name for name, p in self.parameters.items() if p.grad is None],
        }

    def _after_step(self, *_: Any) -> None:
        self._taken["after"] = self._weights()

    def _schedule(self) -> dict[str, Any]:
        """The law of the schedule, as its own function of time tells it, and what the arguments say of it."""
        trainer, args = self.trainer, self.trainer.args
        schedule, total = _innermost(trainer.lr_scheduler, "scheduler"), int(trainer.state.max_steps)
        k = args.gradient_accumulation_steps
        own = not trainer._created_lr_scheduler or type(trainer).create_scheduler is not Trainer.create_scheduler
        kind, warmup = (
            str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
            args.get_warmup_steps(total),
        )
        laws = getattr(schedule, "lr_lambdas", None) or []
        near = range(self.most * max(k, 2) + 2)
        far = sorted({*near, *np.linspace(0, total - 1, _FAR).astype(int).tolist()} & set(range(total)))
        ends = [total, total * k - 1, total * k]
        return {
            "class": type(schedule).__name__,
            "declared": not own or kind != "linear" or bool(warmup),
            "kind": kind,
            "warmup": warmup,
            "more": {
                name: float(v) for name, v in (args.lr_scheduler_kwargs or {}).items() if isinstance(v, int | float)
            },
            "near": [[float(law(t)) for t in near] for law in laws],
            "far": {"steps": far, "values": [float(laws[0](t)) for t in far]} if laws else None,
            "ends": [float(laws[0](t)) for t in ends] if laws else None,
        }

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step has all its micro batches."""
        del args, state, control
        self._ended = self._open
        self._open = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """What reporters are given."""
        del args, control
        if logs and "loss" in logs:
            self.logs.append({"step": int(state.global_step), "loss": float(logs["loss"])})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Ends the training after as many steps as were asked for."""
        del args, state
        self.steps.append({"micro": self._ended, **self._taken})
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
            "parameters": {name: len(at) for name, at in self.picked.items()},
            "float32": all(p.dtype == torch.float32 for p in self.parameters.values()),
            "dropout": _has_dropout(trainer.model),
            "optimizer": self.optimizer | {"decayed": sorted(trainer.get_decay_parameter_names(trainer.model))},
            "schedule": self.schedule,
            "logs": self.logs,
        }


def _innermost(wrapped: Any, name: str = "optimizer") -> Any:
    """What accelerate has wrapped."""
    return getattr(wrapped, name, wrapped) if type(wrapped).__module__.startswith("accelerate") else wrapped


_DEFAULTS = {field.name: field.default for field in fields(TrainingArguments)}


def _optimizer(optimizer: Any, parameters: Mapping[str, nn.Parameter]) -> dict[str, Any]:
    """Its family, and the settings of each group with the names of its tensors."""
    names = {id(p): name for name, p in parameters.items()}
    bases = {base.__name__ for base in type(optimizer).__mro__ if base.__module__.startswith("torch.optim")}
    groups = [
        {
            "names": [names[id(p)] for p in group["params"] if id(p) in names],
            "stale": sum(id(p) not in names for p in group["params"]),
            "rate": float(group.get("initial_lr", group["lr"])),
            "decay": float(group.get("weight_decay", 0.0)),
            "betas": [float(beta) for beta in group["betas"]] if "betas" in group else None,
            "epsilon": float(group["eps"]) if isinstance(group.get("eps"), float) else None,
            "odd": bool(group.get("amsgrad") or group.get("maximize")),
        }
        for group in optimizer.param_groups
    ]
    family = next((name for name in ("AdamW", "Adam") if name in bases), None)
    return {
        "class": type(optimizer).__name__,
        "family": family,
        "default rate": float(optimizer.defaults.get("lr", 0.0)),
        "groups": groups,
        "defaults": {name: _DEFAULTS[name] for name in _DECLARED},
    }


def _has_dropout(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())


def _pads_seen(inputs: Mapping[str, torch.Tensor], given: Any, named: Mapping[str, Any]) -> int:
    """How many pads of the batch (where its attention mask is 0) a forward pass was not told of."""
    mask, told = inputs.get("attention_mask"), named.get("attention_mask")
    if mask is None or mask.dim() != 2 or len(given) > 1:
        return 0
    if told is None:
        return int((mask == 0).sum())
    return int(((mask == 0) & (told != 0)).sum()) if told.shape == mask.shape else 0


def _evaluated(trainer: Any, shift: int) -> dict[str, Any] | None:
    """What `evaluate` says of some rows beside the batches that it ran; None without such rows."""
    data = trainer.eval_dataset
    if isinstance(data, Mapping):
        data = next(iter(data.values()), None)
    if data is None or not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        return None
    size = trainer.args.eval_batch_size
    count = min(len(data), (_EVALUATED - 1) * size + max(1, size // 4))
    some = data.select(range(count)) if hasattr(data, "select") else Subset(data, range(count))
    batches: list[dict[str, Any]] = []

    def hook(module: nn.Module, given: Any, named: Mapping[str, Any], outputs: Any) -> None:
        del given
        logits, labels = _logits(outputs), named.get("labels")
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        if logits is not None and labels is not None and logits.dim() == 3:
            sums = _sums(logits.detach(), labels, shift)
            batches.append(
                {
                    "rows": len(labels),
                    "sums": sums,
                    "training": module.training,
                    "loss": None if loss is None else float(loss),
                }
            )

    loop, stock = trainer.evaluation_loop, []
    if type(trainer).evaluation_loop is Trainer.evaluation_loop:

        def noted(*positions: Any, **more: Any) -> Any:
            stock.append(True)
            return loop(*positions, **more)

        trainer.evaluation_loop = noted
    handle = trainer.model.register_forward_hook(hook, with_kwargs=True)
    before, trainer.eval_dataset = trainer.eval_dataset, some
    try:
        metrics = trainer.evaluate()
    finally:
        handle.remove()
        trainer.eval_dataset = before
        trainer.__dict__.pop("evaluation_loop", None)
    reported = (metrics or {}).get("eval_loss")
    return {
        "rows": count,
        "size": size,
        "batches": batches,
        "stock": bool(stock),
        "reported": None if reported is None else float(reported),
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

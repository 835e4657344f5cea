"""Ready adapters for PyTorch: any module, and transformers models with the settings of their `Trainer`.

# my_adapter.py
from lossary.backends.torch.adapter import ModuleSide

def side(setup):
    module = MyAlbert(setup.shape)
    return ModuleSide(module, setup, call=lambda m, x: m(x["token_ids"], x["segment_ids"], x["attention_mask"]))
"""

import tempfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lossary.errors import UsageError
from lossary.models.names import Match, propose_names, to_canonical, to_theirs
from lossary.models.parameters import parameter_table

__all__ = ["ModuleSide", "TrainerSide"]

Arrays = dict[str, NDArray[Any]]
Tensors = dict[str, torch.Tensor]
Call = Callable[[nn.Module, Tensors], tuple[torch.Tensor, torch.Tensor]]
Loss = Callable[[torch.Tensor, torch.Tensor, Tensors], torch.Tensor]


class ModuleSide:
    """Any `torch.nn.Module`: weights, outputs; with a loss its gradients; with an optimizer its updates.

    `call(module, feed)` returns MLM logits, (B, P, V) at `feed["positions"]` or (B, T, V), and order logits (B, 2);
    `loss(mlm, sop, feed)` the scalar that is trained on; `optimizer(module)` a new optimizer; `rate(step)` the learning
    rate of a step; `resume(module, optimizer)` saves both and loads them as your code does, and returns the optimizer
    to go on with. `names` maps canonical names to the module's; what it leaves out is proposed from shapes and names.

    `initial()` makes the module anew, as training begins with it.
    `evaluate(module, batches)` returns what your evaluation tells of them: losses and counts by name.
    `accumulates`: whether steps may have several micro batches, whose losses are averaged.
    """

    def __init__(
        self,
        module: nn.Module,
        setup: Any,
        *,
        call: Call,
        loss: Loss | None = None,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
        rate: Callable[[int], float] | None = None,
        resume: Callable[[nn.Module, torch.optim.Optimizer], torch.optim.Optimizer] | None = None,
        clip_norm: float | None = None,
        initial: Callable[[], nn.Module] | None = None,
        evaluate: Callable[[nn.Module, list[Tensors]], Mapping[str, float]] | None = None,
        names: Mapping[str, str] | None = None,
        accumulates: bool = False,
        name: str = "",
        declared: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name or type(module).__name__
        self.accumulates = accumulates
        self.declared = dict(declared or {})
        self.module = module
        self._call, self._loss, self._clip_norm = call, loss, clip_norm
        self._table = parameter_table(setup.shape)
        self._pairs = _pairs(module, self._table, names or {})
        self._initial, self._evaluate = initial, evaluate
        needs: dict[str, Any] = {
            "initial": initial,
            "evaluate": evaluate,
            "measure": loss,
            "gradients": loss,
            "restart": optimizer,
            "update": optimizer,
            "learning_rates": rate,
        }
        lacks = {method for method, given in needs.items() if given is None}
        lacks |= {"train_step"} if loss is None or optimizer is None else set()
        self.lacks = lacks | ({"resume"} if resume is None or optimizer is None else set())
        self._make_optimizer = optimizer
        self._optimizer: torch.optim.Optimizer | None = None
        self._rate = rate
        self._resume = resume

    def load(self, weights: Arrays) -> None:
        own = dict(self.module.named_parameters())
        sizes = {name: tuple(tensor.shape) for name, tensor in own.items()}
        with torch.no_grad():
            for name, value in to_theirs(weights, self._pairs, sizes).items():
                own[name].copy_(torch.from_numpy(value))

    def weights(self) -> Arrays:
        return self._weights_of(self.module)

    def _weights_of(self, module: nn.Module) -> Arrays:
        own = {name: tensor.detach().cpu().float().numpy() for name, tensor in module.named_parameters()}
        return dict(to_canonical(own, self._pairs, self._table))

    def initial(self) -> Arrays:
        assert self._initial is not None
        return self._weights_of(self._initial())

    def forward(self, feed: Arrays, *, training: bool = False) -> dict[str, Any]:
        self.module.train(training)
        with torch.no_grad():
            mlm, sop = self._call(self.module, _tensors(feed, self.module))
        return {"mlm": mlm.float().cpu().numpy(), "sop": sop.float().cpu().numpy()}

    def measure(self, outputs: dict[str, Any], feed: Arrays) -> dict[str, float]:
        """The loss that is trained on; other losses and metrics are not known here."""
        assert self._loss is not None
        mlm, sop = (_logits(outputs, name, self.module) for name in ("mlm", "sop"))
        with torch.no_grad():
            return {"loss": float(self._loss(mlm, sop, _tensors(feed, self.module)))}

    def evaluate(self, batches: list[Arrays]) -> dict[str, float]:
        assert self._evaluate is not None
        return dict(self._evaluate(self.module, [_tensors(batch, self.module) for batch in batches]))

    def gradients(self, micro_batches: list[Arrays]) -> Arrays:
        self._accumulate(micro_batches)
        return self._gradient_arrays()

    def _accumulate(self, micro_batches: list[Arrays]) -> float:
        assert self._loss is not None
        self.module.train()
        self.module.zero_grad()
        total = 0.0
        for feed in micro_batches:
            tensors = _tensors(feed, self.module)
            loss = self._loss(*self._call(self.module, tensors), tensors) / len(micro_batches)
            loss.backward()
            total += float(loss.detach())
        return total

    def _gradient_arrays(self) -> Arrays:
        own = {
            name: np.zeros(tuple(tensor.shape), np.float32)
            if tensor.grad is None
            else tensor.grad.float().cpu().numpy()
            for name, tensor in self.module.named_parameters()
        }
        return dict(to_canonical(own, self._pairs, self._table))

    def restart(self) -> None:
        assert self._make_optimizer is not None
        self._optimizer = self._make_optimizer(self.module)

    def resume(self) -> None:
        assert self._resume is not None
        assert self._optimizer is not None
        self._optimizer = self._resume(self.module, self._optimizer)

    def update(self, gradients: list[Arrays], *, step: int) -> None:
        own = dict(self.module.named_parameters())
        sizes = {name: tuple(tensor.shape) for name, tensor in own.items()}
        mean = {name: np.mean([part[name] for part in gradients], axis=0) for name in gradients[0]}
        for name, value in to_theirs(mean, self._pairs, sizes).items():
            own[name].grad = torch.from_numpy(value).to(own[name].device, own[name].dtype)
        self._step(step)

    def _step(self, step: int) -> float:
        if self._optimizer is None:
            self.restart()
        assert self._optimizer is not None
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self._clip_norm or float("inf"))
        if self._rate is not None:
            for group in self._optimizer.param_groups:
                group["lr"] = self._rate(step)
        self._optimizer.step()
        return float(norm)

    def learning_rates(self, start: int, stop: int) -> list[float]:
        assert self._rate is not None
        return [self._rate(step) for step in range(start, stop)]

    def train_step(self, feed: Arrays, *, step: int) -> dict[str, float]:
        loss = self._accumulate([feed])
        return {"loss": loss, "gradient_norm": self._step(step)}


class TrainerSide(ModuleSide):
    """A transformers model with its `Trainer`: the trainer's own optimizer, schedule, clipping and training step.

    `model` is an `AlbertForPreTraining`, or names its outputs as that does, and `arguments` are its
    `TrainingArguments`; or it is a `Trainer` (of a class of yours, with an optimizer of yours) that has both. Steps are
    the arguments' `max_steps`, the recipe's if they say nothing.
    """

    def __init__(self, model: Any, setup: Any, *, arguments: Any = None, **options: Any) -> None:
        from transformers import Trainer, TrainingArguments

        if isinstance(model, Trainer):
            self._trainer = model
        else:
            if arguments is None:
                arguments = TrainingArguments(output_dir=tempfile.mkdtemp(), report_to=[], use_cpu=True)
            self._trainer = Trainer(model=model, args=arguments)
        model, arguments = self._trainer.model, self._trainer.args
        self._steps = arguments.max_steps if arguments.max_steps > 0 else setup.recipe.steps
        given = self._trainer.optimizer, self._trainer.lr_scheduler
        self._given = None if given[0] is None else [(part, deepcopy(part.state_dict())) for part in given if part]
        super().__init__(
            model,
            setup,
            call=_hf_call,
            loss=_trainers_own,
            optimizer=lambda _: self._new_optimizer(),
            clip_norm=arguments.max_grad_norm or None,
            accumulates=arguments.gradient_accumulation_steps > 1,
            name=options.pop("name", f"{type(model).__name__} with {type(self._trainer).__name__}"),
            **options,
        )
        self.lacks -= {"gradients", "measure", "learning_rates", "train_step"}
        self.lacks |= set() if all(hasattr(model, head) for head in _HF_HEADS.values()) else {"measure"}
        if "resume" not in options:
            self.lacks.add("resume")

    def _new_optimizer(self) -> torch.optim.Optimizer:
        if self._given is None:
            self._trainer.optimizer = self._trainer.lr_scheduler = None
        else:
            for part, state in self._given:
                part.load_state_dict(deepcopy(state))
        self._trainer.create_optimizer_and_scheduler(num_training_steps=self._steps)
        found: torch.optim.Optimizer = self._trainer.optimizer
        return found

    def learning_rates(self, start: int, stop: int) -> list[float]:
        """The rates of the scheduler after as many steps as were done."""
        optimizer, scheduler = self._new_optimizer(), self._trainer.lr_scheduler
        # A step without gradients moves nothing; schedulers want one before theirs.
        self.module.zero_grad(set_to_none=True)
        rates = []
        for step in range(stop):
            if step >= start:
                rates.append(float(scheduler.get_last_lr()[0]))
            optimizer.step()
            scheduler.step()
        return rates

    def measure(self, outputs: dict[str, Any], feed: Arrays) -> dict[str, float]:
        """The trainer's loss, as if the model's heads had given these logits."""
        heads = [
            getattr(self.module, head).register_forward_hook(_gives(_logits(outputs, name, self.module)))
            for name, head in _HF_HEADS.items()
        ]
        batches, items = self._trainer.get_batch_samples(
            iter([_hf_inputs(_tensors(feed, self.module))]), 1, self._trainer.args.device
        )
        try:
            with torch.no_grad():
                return {"loss": float(self._trainer.compute_loss(self.module, batches[0], num_items_in_batch=items))}
        finally:
            for head in heads:
                head.remove()

    def _accumulate(self, micro_batches: list[Arrays]) -> float:
        self.module.train()
        self.module.zero_grad()
        inputs = [_hf_inputs(_tensors(feed, self.module)) for feed in micro_batches]
        batches, items = self._trainer.get_batch_samples(iter(inputs), len(inputs), self._trainer.args.device)
        self._trainer.current_gradient_accumulation_steps = len(batches)
        return sum(float(self._trainer.training_step(self.module, batch, items)) for batch in batches)

    def reported_loss(self, micro_batches: list[Arrays]) -> float:
        """What the trainer logs for a step."""
        return self._accumulate(micro_batches)

    def _step(self, step: int) -> float:
        if self._optimizer is None:
            self.restart()
        scheduler = self._trainer.lr_scheduler
        while scheduler.last_epoch < step:
            scheduler.step()
        return super()._step(step)


def _pairs(module: nn.Module, table: Mapping[str, tuple[int, ...]], names: Mapping[str, str]) -> dict[str, Match]:
    own = {name: tuple(tensor.shape) for name, tensor in module.named_parameters()}
    unknown = [f"{theirs!r} for {name}" for name, theirs in names.items() if theirs not in own or name not in table]
    if unknown:
        raise UsageError(
            f"the name map has what is not there: {', '.join(unknown[:4])}", hint=f"Parameters: {', '.join(own)}."
        )
    given = {name: Match(theirs=theirs, transposed=own[theirs] != table[name]) for name, theirs in names.items()}
    rest = {name: size for name, size in own.items() if name not in names.values()}
    proposed = propose_names(rest, {name: size for name, size in table.items() if name not in names})
    return given | proposed.require()


def _tensors(feed: Arrays, module: nn.Module) -> Tensors:
    """The arrays where the module is."""
    device, kinds = _device(module), {"weights": torch.float32}
    return {
        name: torch.from_numpy(np.asarray(value)).to(device, kinds.get(name, torch.int64))
        for name, value in feed.items()
    }


def _logits(outputs: dict[str, Any], name: str, module: nn.Module) -> torch.Tensor:
    return torch.from_numpy(np.asarray(outputs[name], np.float32)).to(_device(module))


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


# By the names of a side's outputs, the modules that give them in transformers' models.
_HF_HEADS = {"mlm": "predictions", "sop": "sop_classifier"}


def _gives(logits: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A hook that puts other logits in the place of a head's."""
    return lambda *_: logits


def _trainers_own(*_: object) -> torch.Tensor:
    raise AssertionError("the trainer computes the loss itself")


def _hf_inputs(feed: Tensors) -> dict[str, Any]:
    order = feed["sop_labels"]
    return {
        "input_ids": feed["token_ids"],
        "attention_mask": feed["attention_mask"],
        "token_type_ids": feed["segment_ids"],
        "labels": feed["mlm_labels"],
        # transformers' cross entropy leaves out -100, and no other number.
        "sentence_order_label": torch.where(order < 0, torch.full_like(order, -100), order),
    }


def _hf_call(model: nn.Module, feed: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = {k: v for k, v in _hf_inputs(feed).items() if k not in ("labels", "sentence_order_label")}
    out = model(**inputs)
    return out.prediction_logits, out.sop_logits

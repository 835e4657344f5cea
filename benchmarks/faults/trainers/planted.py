"""Trainers with one fault each, as people write them, and healthy ones, as different people write them.

Written before the stages behind the gradient were, from public threads (huggingface/transformers#1563, #3519, #5979,
#11155, #15784, #37766, #39241; accelerate#963; awslabs/graphstorm#1366). `PLANTED` says, for each, the check that
should alarm and a word of what it should say.
"""
# Signatures are those of transformers.
# ruff: noqa: ARG002, ARG005, E501, PERF401

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers as hf
from torch.nn import functional

from benchmarks.faults.trainers.families import Rows, collator, make_model, make_trainer, rows, tokenizer

__all__ = ["HEALTHY", "PLANTED", "Planted"]


class Planted(NamedTuple):
    """`make()` gives a Trainer; `stage` is the check that should alarm (or be the first to), `name` what it should say."""

    make: Callable[[], Any]
    stage: str
    name: str


def _groups(model: Any, decay: float = 0.01) -> list[dict[str, Any]]:
    """Weight decay on all but biases and norms, as everybody copies it."""
    free = ("bias", "norm")
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for n, p in named if not any(f in n.lower() for f in free)], "weight_decay": decay},
        {"params": [p for n, p in named if any(f in n.lower() for f in free)], "weight_decay": 0.0},
    ]


# ---- losses -----------------------------------------------------------------------------------------------------------


class _ForgetsCount(hf.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
        return (loss, outputs) if return_outputs else loss


def ignores_num_items() -> Any:
    """The mean of a micro batch, in a Trainer that believes that the model divides by all of them."""
    return make_trainer("modernbert", k=4, trainer=_ForgetsCount)


class _ShiftsTwice(hf.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        labels = inputs["labels"]
        inputs["labels"] = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


def labels_shifted_twice() -> Any:
    """Shifted by hand, and again by the model's own loss."""
    return make_trainer("llama", trainer=_ShiftsTwice)


def labels_not_shifted() -> Any:
    """A causal model that is taught to repeat what it sees."""
    return make_trainer("llama", trainer=_ForgetsCount)


class _AllPositions(hf.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        labels = inputs.pop("labels")
        logits = model(**inputs).logits
        labels = torch.where(labels == -100, inputs["input_ids"], labels)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return (loss, {"logits": logits}) if return_outputs else loss


def ignore_index_lost() -> Any:
    """All positions are scored, not the hidden ones."""
    return make_trainer("bert", trainer=_AllPositions)


class _PadsAsTargets:
    """Labels are a copy of the ids, pads and all."""

    def __init__(self) -> None:
        self.tokenizer = tokenizer()

    def __call__(self, found: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.tokenizer.pad(
            [{k: f[k] for k in ("input_ids", "attention_mask")} for f in found], return_tensors="pt"
        )
        return {**batch, "labels": batch["input_ids"].clone()}


def padding_in_the_loss() -> Any:
    """Pads are targets of a causal model."""
    return make_trainer("llama", collate=_PadsAsTargets())


class _TwoRanks(hf.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        return loss * 2


def summed_ranks() -> Any:
    """What two ranks see whose gradients are summed and not averaged."""
    return make_trainer("modernbert", trainer=_TwoRanks)


class _DividesByFullBatch(hf.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        each = functional.cross_entropy(outputs.logits.transpose(1, 2), labels, reduction="sum")
        share = each / (labels != -100).sum() / self.args.gradient_accumulation_steps
        return (share, outputs) if return_outputs else share


def short_last_step() -> Any:
    """Divides by four micro batches also where the epoch ends after one; and means of micro batches are averaged."""
    return make_trainer("modernbert", k=4, trainer=_DividesByFullBatch, count=36, num_train_epochs=4)


# ---- gradients --------------------------------------------------------------------------------------------------------


class _Cleans(hf.Trainer):
    def training_step(self, model, inputs, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        self.optimizer.zero_grad()
        model.zero_grad()
        return super().training_step(model, inputs, num_items_in_batch)


def zeroed_too_early() -> Any:
    """Gradients are cleared before each micro batch."""
    return make_trainer("modernbert", k=4, trainer=_Cleans)


def never_zeroed() -> Any:
    """`zero_grad` is switched off so that a callback can look at the gradients."""
    model = make_model("modernbert")
    model.zero_grad = lambda set_to_none=True: None
    return make_trainer("modernbert", model=model)


class _ClipsEach(hf.Trainer):
    def training_step(self, model, inputs, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        loss = super().training_step(model, inputs, num_items_in_batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)
        return loss


def clips_each_micro_batch() -> Any:
    """transformers#1563: clipped after each backward pass."""
    return make_trainer("modernbert", k=4, trainer=_ClipsEach, max_grad_norm=0.05)


class _ClipsLate(hf.Trainer):
    def _clip_grad_norm(self, model):  # type: ignore[no-untyped-def]
        return torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()


class _AfterStep(hf.TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **more):  # type: ignore[no-untyped-def]
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)


def clips_after_the_step() -> Any:
    """graphstorm#1366: clipped when the optimizer has already stepped."""
    return make_trainer("bert", trainer=_ClipsLate, more={"callbacks": [_AfterStep()]}, max_grad_norm=0.1)


class _ClipsTensors(hf.Trainer):
    def _clip_grad_norm(self, model):  # type: ignore[no-untyped-def]
        norms = [torch.nn.utils.clip_grad_norm_(p, self.args.max_grad_norm) for p in model.parameters()]
        return torch.stack(norms).norm()


def clips_each_tensor() -> Any:
    """Each tensor by a norm of its own, and not all by one."""
    return make_trainer("bert", trainer=_ClipsTensors, max_grad_norm=0.05)


# ---- optimizers and schedules -----------------------------------------------------------------------------------------


def decays_norms() -> Any:
    """AdamW over all parameters, with one weight decay."""
    model = make_model("bert")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    return make_trainer("bert", model=model, more={"optimizers": (optimizer, None)}, weight_decay=0.1)


def decay_lost() -> Any:
    """Weight decay 0.1 is asked for; the optimizer's groups have none."""
    model = make_model("bert")
    optimizer = torch.optim.AdamW(_groups(model, 0.0), lr=1e-3)
    return make_trainer("bert", model=model, more={"optimizers": (optimizer, None)}, weight_decay=0.1)


class _CoupledDecay(torch.optim.Adam):
    """Adam with L2 in the gradient, called AdamW by its users."""


def coupled_decay() -> Any:
    """Adam's weight decay in place of AdamW's."""
    model = make_model("bert")
    optimizer = _CoupledDecay(_groups(model, 0.1), lr=1e-3)
    return make_trainer("bert", model=model, more={"optimizers": (optimizer, None)}, weight_decay=0.1)


def optimizer_before_resize() -> Any:
    """As transformers#3519: the optimizer holds a table from before it was replaced."""
    model = make_model("bert")
    optimizer = torch.optim.AdamW(_groups(model), lr=1e-3)
    model.bert.embeddings.position_embeddings = torch.nn.Embedding(64, 32)
    return make_trainer("bert", model=model, more={"optimizers": (optimizer, None)})


class _OwnGroups(hf.Trainer):
    def create_optimizer(self, model=None):  # type: ignore[no-untyped-def]
        named = dict(self.model.named_parameters())
        body = [p for n, p in named.items() if "encoder" in n]
        head = [p for n, p in named.items() if n.startswith("cls")]
        self.optimizer = torch.optim.AdamW(
            [{"params": body}, {"params": head, "lr": 5e-3}], lr=self.args.learning_rate, weight_decay=0.0
        )
        return self.optimizer


def embeddings_left_out() -> Any:
    """Groups by name, of which none holds the embeddings."""
    return make_trainer("bert", trainer=_OwnGroups, weight_decay=0.0)


def beta_lost() -> Any:
    """adam_beta2=0.95 is asked for, and the Trainer's own optimizer forgets it."""
    model = make_model("bert")
    optimizer = torch.optim.AdamW(_groups(model), lr=1e-3)
    return make_trainer("bert", model=model, more={"optimizers": (optimizer, None)}, adam_beta2=0.95)


class _MicroWarmup(hf.Trainer):
    def create_scheduler(self, num_training_steps, optimizer=None):  # type: ignore[no-untyped-def]
        k = self.args.gradient_accumulation_steps
        self.lr_scheduler = hf.get_linear_schedule_with_warmup(
            optimizer or self.optimizer, self.args.warmup_steps * k, num_training_steps * k
        )
        return self.lr_scheduler


def warmup_in_micro_batches() -> Any:
    """accelerate#963: warm-up and total are counted in micro batches, and the schedule steps once a step."""
    return make_trainer("modernbert", k=4, count=120, trainer=_MicroWarmup, warmup_steps=4)


class _StepsTwice(hf.TrainerCallback):
    def on_substep_end(self, args, state, control, lr_scheduler=None, **more):  # type: ignore[no-untyped-def]
        getattr(lr_scheduler, "scheduler", lr_scheduler).step()


def scheduler_each_micro_batch() -> Any:
    """The schedule steps with each micro batch."""
    return make_trainer("modernbert", k=4, count=320, more={"callbacks": [_StepsTwice()]}, lr_scheduler_type="cosine")


# ---- what is logged, evaluated and fed --------------------------------------------------------------------------------


class _LogsTooMuch(hf.Trainer):
    def log(self, logs, start_time=None):  # type: ignore[no-untyped-def]
        if "loss" in logs:
            logs["loss"] = logs["loss"] * self.args.gradient_accumulation_steps
        super().log(logs, start_time)


def logged_times_micro_batches() -> Any:
    """What is logged is multiplied by the micro batches, as was right some versions ago."""
    return make_trainer("modernbert", k=4, trainer=_LogsTooMuch)


class _LogsAllSoFar(hf.Trainer):
    seen: list[float]

    def log(self, logs, start_time=None):  # type: ignore[no-untyped-def]
        if "loss" in logs:
            self.seen = [*getattr(self, "seen", []), logs["loss"]]
            logs["loss"] = sum(self.seen) / len(self.seen)
        super().log(logs, start_time)


def logged_since_the_start() -> Any:
    """The mean since the beginning is logged as the loss of the last steps."""
    return make_trainer("modernbert", trainer=_LogsAllSoFar)


class _EvaluatesBatches(hf.Trainer):
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):  # type: ignore[no-untyped-def]
        self.model.eval()
        found = []
        with torch.no_grad():
            for batch in self.get_eval_dataloader(eval_dataset):
                found.append(self.model(**self._prepare_inputs(batch)).loss.item())
        metrics = {f"{metric_key_prefix}_loss": sum(found) / len(found)}
        self.log(metrics)
        return metrics


def evaluates_means_of_means() -> Any:
    """transformers#39241: the mean of the means of batches, whose last one is short."""
    return make_trainer("bert", trainer=_EvaluatesBatches, evaluated=17, per_device_eval_batch_size=8)


class _EvaluatesTraining(hf.Trainer):
    def evaluation_loop(self, dataloader, *positions, **more):  # type: ignore[no-untyped-def]
        return super().evaluation_loop(self.get_train_dataloader(), *positions, **more)


def evaluates_training_rows() -> Any:
    """Evaluation reads the training rows."""
    return make_trainer("bert", trainer=_EvaluatesTraining, count=40, evaluated=24)


class _MasksAnything(hf.DataCollatorForLanguageModeling):
    def torch_mask_tokens(self, inputs, special_tokens_mask=None, *positions, **more):  # type: ignore[no-untyped-def]
        return super().torch_mask_tokens(inputs, torch.zeros_like(inputs), *positions, **more)


def masks_special_ids() -> Any:
    """transformers#11155: pads, [CLS] and [SEP] are hidden and predicted."""
    return make_trainer("bert", collate=_MasksAnything(tokenizer(), mlm_probability=0.15))


class _AlwaysMask(hf.DataCollatorForLanguageModeling):
    def torch_mask_tokens(self, inputs, special_tokens_mask=None, *positions, **more):  # type: ignore[no-untyped-def]
        labels = inputs.clone()
        chosen = torch.rand(labels.shape) < self.mlm_probability
        chosen &= inputs > 4
        labels[~chosen] = -100
        inputs[chosen] = self.tokenizer.mask_token_id
        return inputs, labels


def never_random_words() -> Any:
    """Each hidden word becomes the mask, though 80/10/10 is declared."""
    return make_trainer("bert", collate=_AlwaysMask(tokenizer(), mlm_probability=0.15))


class _MaskedOnce(Rows):
    """Masks drawn once, when the dataset is made."""

    def __init__(self, found: list[list[int]]) -> None:
        super().__init__(found)
        torch.manual_seed(0)
        inner = collator("bert")
        self.made = []
        for at in range(len(found)):
            one = inner([super().__getitem__(at)])
            self.made.append({key: value[0].tolist() for key, value in one.items()})

    def __getitem__(self, at: int) -> dict[str, list[int]]:
        return self.made[at]


def same_masks_each_epoch() -> Any:
    """transformers#5979: static masks, over three epochs."""
    collate = hf.DataCollatorForTokenClassification(tokenizer())
    return make_trainer("bert", data=_MaskedOnce(rows(60).found), collate=collate)


class _NeverDrops(hf.Trainer):
    def compute_loss(self, model, *positions, **more):  # type: ignore[no-untyped-def]
        model.eval()
        return super().compute_loss(model, *positions, **more)


def trains_in_eval_mode() -> Any:
    """Dropout 0.1 is configured, and the model is in evaluation mode while it trains."""
    return make_trainer("modernbert", trainer=_NeverDrops, dropout=0.1)


class _ForgetsAttention(hf.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        outputs = model(input_ids=inputs["input_ids"], labels=inputs["labels"], num_items_in_batch=num_items_in_batch)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


def attention_mask_forgotten() -> Any:
    """Rows are padded, and the mask stays behind."""
    return make_trainer("modernbert", trainer=_ForgetsAttention)


class _Sequential(hf.Trainer):
    def _get_train_sampler(self, train_dataset=None):  # type: ignore[no-untyped-def]
        return torch.utils.data.SequentialSampler(self.train_dataset)


def not_shuffled() -> Any:
    """Rows come in their order, each epoch."""
    return make_trainer("bert", trainer=_Sequential)


class _OneShard(Rows):
    def __getitem__(self, at: int) -> dict[str, list[int]]:
        return super().__getitem__(at % 16)


def repeats_a_shard() -> Any:
    """A dataset of 150 rows that gives its first 16 again and again."""
    return make_trainer("bert", data=_OneShard(rows(150).found))


class _ForgetsState(hf.Trainer):
    def _load_optimizer_and_scheduler(self, checkpoint):  # type: ignore[no-untyped-def]
        return None


def resumed_without_state() -> Any:
    """A resumed run begins with empty moments, and its schedule at the start."""
    return make_trainer("bert", trainer=_ForgetsState)


PLANTED: dict[str, Planted] = {
    "ignores_num_items": Planted(ignores_num_items, "loss", "micro"),
    "labels_shifted_twice": Planted(labels_shifted_twice, "loss", "shift"),
    "labels_not_shifted": Planted(labels_not_shifted, "loss", "shift"),
    "ignore_index_lost": Planted(ignore_index_lost, "loss", ""),
    "padding_in_the_loss": Planted(padding_in_the_loss, "masks", "pad"),
    "summed_ranks": Planted(summed_ranks, "loss", ""),
    "short_last_step": Planted(short_last_step, "loss", "mean"),
    "zeroed_too_early": Planted(zeroed_too_early, "gradients", "last"),
    "never_zeroed": Planted(never_zeroed, "gradients", ""),
    "clips_each_micro_batch": Planted(clips_each_micro_batch, "gradients", ""),
    "clips_after_the_step": Planted(clips_after_the_step, "clipping", "not"),
    "clips_each_tensor": Planted(clips_each_tensor, "clipping", "tensor"),
    "decays_norms": Planted(decays_norms, "update", "decay"),
    "decay_lost": Planted(decay_lost, "update", "decay"),
    "coupled_decay": Planted(coupled_decay, "update", "decay"),
    "optimizer_before_resize": Planted(optimizer_before_resize, "update", "optimizer"),
    "embeddings_left_out": Planted(embeddings_left_out, "update", "optimizer"),
    "beta_lost": Planted(beta_lost, "update", "beta"),
    "warmup_in_micro_batches": Planted(warmup_in_micro_batches, "schedule", "micro"),
    "scheduler_each_micro_batch": Planted(scheduler_each_micro_batch, "schedule", "micro"),
    "logged_times_micro_batches": Planted(logged_times_micro_batches, "logged", "micro"),
    "logged_since_the_start": Planted(logged_since_the_start, "logged", "start"),
    "evaluates_means_of_means": Planted(evaluates_means_of_means, "evaluation", "mean"),
    "evaluates_training_rows": Planted(evaluates_training_rows, "evaluation", ""),
    "masks_special_ids": Planted(masks_special_ids, "masks", "special"),
    "never_random_words": Planted(never_random_words, "masks", ""),
    "same_masks_each_epoch": Planted(same_masks_each_epoch, "masks", "epoch"),
    "trains_in_eval_mode": Planted(trains_in_eval_mode, "forward", "dropout"),
    "attention_mask_forgotten": Planted(attention_mask_forgotten, "forward", "attention"),
    "not_shuffled": Planted(not_shuffled, "stream", "order"),
    "repeats_a_shard": Planted(repeats_a_shard, "stream", "repeat"),
    "resumed_without_state": Planted(resumed_without_state, "checkpoint", "optimizer"),
}


# ---- healthy -------------------------------------------------------------------------------------------------------


def plain_mlm() -> Any:
    """A run_mlm.py with dropout, an evaluation and a warm-up."""
    return make_trainer("modernbert", dropout=0.1, evaluated=17, warmup_steps=5)


def causal_accumulated() -> Any:
    """Llama, accumulation 4, an epoch that ends in the middle of a step, clipping that always bites."""
    return make_trainer("llama", k=4, count=70, evaluated=16, max_grad_norm=0.05)


def smoothed() -> Any:
    """Label smoothing, cosine with restarts."""
    return make_trainer(
        "bert",
        label_smoothing_factor=0.1,
        lr_scheduler_type="cosine_with_restarts",
        lr_scheduler_kwargs={"num_cycles": 3},
        warmup_steps=0.1,
    )


class _OwnRightLoss(hf.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        total = functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten(), reduction="sum")
        loss = total / (num_items_in_batch if num_items_in_batch is not None else (labels != -100).sum())
        return (loss, outputs) if return_outputs else loss


def own_right_loss() -> Any:
    """A loss of one's own, divided by all targets of the step."""
    return make_trainer(
        "modernbert", k=4, trainer=_OwnRightLoss, evaluated=12, lr_scheduler_type="inverse_sqrt", warmup_steps=3
    )


class _LayerWise(hf.Trainer):
    def create_optimizer(self, model=None):  # type: ignore[no-untyped-def]
        groups = []
        for depth, part in enumerate(("embeddings", "layer.0", "layer.1", "cls")):
            own = {
                n: p
                for n, p in self.model.named_parameters()
                if part in n and (part == "embeddings" or "embeddings" not in n)
            }
            rate = self.args.learning_rate * 0.8 ** (3 - depth)
            free = [p for n, p in own.items() if "bias" in n or "LayerNorm" in n]
            kept = [p for n, p in own.items() if not ("bias" in n or "LayerNorm" in n)]
            groups += [
                {"params": kept, "lr": rate, "weight_decay": self.args.weight_decay},
                {"params": free, "lr": rate, "weight_decay": 0.0},
            ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
        return self.optimizer


def layer_wise_rates() -> Any:
    """Rates that shrink with depth, betas that arguments know, polynomial schedule."""
    return make_trainer("bert", trainer=_LayerWise, adam_beta2=0.98, adam_epsilon=1e-6, lr_scheduler_type="polynomial")


def frozen_layers() -> Any:
    """The embeddings and the first layer stay as they are."""
    model = make_model("bert")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not ("embeddings" in name or "layer.0." in name)
    return make_trainer("bert", model=model, lr_scheduler_type="constant_with_warmup", warmup_steps=2)


def low_precision() -> Any:
    """bf16, accumulation 4, cosine."""
    return make_trainer("llama", k=4, bf16=True, lr_scheduler_type="cosine", warmup_steps=2)


def own_optimizer_and_schedule() -> Any:
    """Groups and a cosine with hard restarts made by hand, of which the arguments know nothing."""
    model = make_model("roberta", dropout=0.1)
    optimizer = torch.optim.AdamW(_groups(model, 0.05), lr=6e-4, betas=(0.9, 0.98), eps=1e-6)
    schedule = hf.get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, 4, 38 * 3, num_cycles=2)
    return make_trainer(
        "roberta", model=model, more={"optimizers": (optimizer, schedule)}, weight_decay=0.0, learning_rate=5e-5
    )


HEALTHY: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        plain_mlm,
        causal_accumulated,
        smoothed,
        own_right_loss,
        layer_wise_rates,
        frozen_layers,
        low_precision,
        own_optimizer_and_schedule,
    )
}

"""A compact ALBERT in PyTorch and its training loop: masked words and sentence order.

    trainer = Trainer(setup.shape, setup.recipe, dropout=0.0)
    trainer.train_step(batch, step=0)

A batch is a dict of NumPy arrays: token_ids, attention_mask, segment_ids, mlm_labels (-100: none), sop_labels (-1: none).
"""

import math
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

IGNORE = -100


class SelfAttention(nn.Module):
    def __init__(self, hidden, heads, dropout):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(hidden, hidden) for _ in range(3))
        self.out = nn.Linear(hidden, hidden)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, bias):
        b, t, h = x.shape
        q, k, v = (f(x).view(b, t, self.heads, h // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(h // self.heads) + bias
        mixed = self.drop(scores.softmax(-1)) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, t, h))


class Block(nn.Module):
    def __init__(self, shape, dropout):
        super().__init__()
        h, eps = shape.hidden_size, shape.layer_norm_epsilon
        self.attention = SelfAttention(h, shape.num_heads, dropout)
        self.norm1 = nn.LayerNorm(h, eps=eps)
        self.up = nn.Linear(h, shape.intermediate_size)
        self.down = nn.Linear(shape.intermediate_size, h)
        self.norm2 = nn.LayerNorm(h, eps=eps)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, bias):
        x = self.norm1(x + self.drop(self.attention(x, bias)))
        y = F.gelu(self.up(x), approximate="tanh")
        return self.norm2(x + self.drop(self.down(y)))


class Albert(nn.Module):
    def __init__(self, shape, dropout=0.0):
        super().__init__()
        v, e, h = shape.vocabulary_size, shape.embedding_size, shape.hidden_size
        self.layers = shape.num_layers
        self.tokens = nn.Embedding(v, e)
        self.positions = nn.Embedding(shape.max_positions, e)
        self.segments = nn.Embedding(2, e)
        self.norm = nn.LayerNorm(e, eps=shape.layer_norm_epsilon)
        self.project = nn.Linear(e, h)
        self.block = Block(shape, dropout)
        self.pooler = nn.Linear(h, h)
        self.mlm_dense = nn.Linear(h, e)
        self.mlm_norm = nn.LayerNorm(e, eps=shape.layer_norm_epsilon)
        self.mlm_bias = nn.Parameter(torch.zeros(v))
        self.sop = nn.Linear(h, 2)
        self.drop = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=shape.initializer_range, a=-1.0, b=1.0)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def encode(self, ids, mask, segments):
        place = torch.arange(ids.shape[1])
        x = self.tokens(ids) + self.positions(place) + self.segments(segments)
        x = self.project(self.drop(self.norm(x)))
        bias = torch.where(mask[:, None, None, :] > 0, 0.0, torch.finfo(torch.float32).min)
        for _ in range(self.layers):
            x = self.block(x, bias)
        return x

    def mlm_logits(self, x):
        y = self.mlm_norm(F.gelu(self.mlm_dense(x), approximate="tanh"))
        return F.linear(y, self.tokens.weight) + self.mlm_bias

    def forward(self, ids, mask, segments):
        x = self.encode(ids, mask, segments)
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return self.mlm_logits(x), self.sop(pooled)


class Lamb(torch.optim.Optimizer):
    """As in google-research/albert: no bias correction, decay inside the trust ratio."""

    def __init__(self, groups, lr, betas, eps):
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "adapt": True})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
                m, v = state["m"], state["v"]
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                update = m / (v.sqrt() + group["eps"]) + group["weight_decay"] * p
                ratio = 1.0
                if group["adapt"]:
                    w_norm, u_norm = p.norm(), update.norm()
                    if w_norm > 0 and u_norm > 0:
                        ratio = w_norm / u_norm
                p.add_(update * ratio, alpha=-group["lr"])


def warmup_linear(step, warmup, total):
    """Factor of the peak rate."""
    if step < warmup:
        return step / warmup
    return max(0.0, 1.0 - step / total)


def tensors(batch):
    names = ("token_ids", "attention_mask", "segment_ids", "mlm_labels", "sop_labels")
    return {name: torch.from_numpy(np.ascontiguousarray(batch[name], np.int64)) for name in names}


def mlm_losses(logits, labels):
    """Nats of every token and which of them count."""
    scored = labels != IGNORE
    target = labels.clamp(min=0)
    nats = -logits.log_softmax(-1).gather(-1, target[..., None])[..., 0]
    return nats, scored.float()


def sop_losses(logits, labels):
    nats = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")
    return nats, (labels >= 0).float()


class Trainer:
    def __init__(self, shape, recipe, dropout=0.0, precision="fp32", accumulate=1):
        self.shape, self.recipe = shape, recipe
        self.dropout, self.precision, self.accumulate = dropout, precision, accumulate
        self.model = Albert(shape, dropout)
        self.optimizer = None

    # --- forward and loss -------------------------------------------------------------------------------------

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def forward(self, batch):
        with self.autocast():
            mlm, sop = self.model(batch["token_ids"], batch["attention_mask"], batch["segment_ids"])
        return mlm.float(), sop.float()

    @torch.no_grad()
    def predict(self, batch, training=False):
        self.model.train(training)
        return self.forward(tensors(batch))

    def counts(self, batches):
        """Masked tokens and labelled pairs that a step's loss is divided by."""
        masked = sum(int((batch["mlm_labels"] != IGNORE).sum()) for batch in batches)
        pairs = sum(int((batch["sop_labels"] >= 0).sum()) for batch in batches)
        return masked + 1e-5, max(1, pairs)

    def loss(self, batch, masked, pairs):
        mlm, sop = self.forward(batch)
        mlm_nats, scored = mlm_losses(mlm, batch["mlm_labels"])
        sop_nats, labelled = sop_losses(sop, batch["sop_labels"])
        return (mlm_nats * scored).sum() / masked + (sop_nats * labelled).sum() / pairs

    def measure(self, mlm, sop, mlm_labels, sop_labels):
        """Metrics of logits."""
        mlm_nats, scored = mlm_losses(mlm, mlm_labels)
        sop_nats, labelled = sop_losses(sop, sop_labels)
        mlm_hits = (mlm.argmax(-1) == mlm_labels).float()
        sop_hits = (sop.argmax(-1) == sop_labels)[sop_labels >= 0].float()
        masked, pairs = scored.sum() + 1e-5, labelled.sum().clamp(min=1)
        mlm_loss = (mlm_nats * scored).sum() / masked
        sop_loss = (sop_nats * labelled).sum() / pairs
        values = {
            "loss": mlm_loss + sop_loss,
            "mlm_loss": mlm_loss,
            "sop_loss": sop_loss,
            "mlm_accuracy": (mlm_hits * scored).sum() / masked,
            "sop_accuracy": sop_hits.mean() if len(sop_hits) else 0.0,
        }
        return {name: float(value) for name, value in values.items()}

    # --- training ---------------------------------------------------------------------------------------------

    def backward(self, micro_batches):
        """Adds the gradients of micro batches; returns the step's loss."""
        self.model.train()
        batches = [tensors(batch) for batch in micro_batches]
        masked, pairs = self.counts(batches)
        total = 0.0
        for batch in batches:
            loss = self.loss(batch, masked, pairs)
            loss.backward()
            total += float(loss.detach())
        return total

    def groups(self):
        decay = self.recipe.optimizer.weight_decay
        named = list(self.model.named_parameters())
        plain = [p for name, p in named if p.ndim < 2]
        matrices = [p for name, p in named if p.ndim >= 2]
        return [
            {"params": matrices, "weight_decay": decay, "adapt": True},
            {"params": plain, "weight_decay": 0.0, "adapt": False},
        ]

    def make_optimizer(self):
        settings = self.recipe.optimizer
        betas = (settings.beta1, settings.beta2)
        if settings.name == "lamb":
            return Lamb(self.groups(), lr=settings.learning_rate, betas=betas, eps=settings.epsilon)
        return torch.optim.AdamW(self.groups(), lr=settings.learning_rate, betas=betas, eps=settings.epsilon)

    def rate(self, step):
        settings = self.recipe.optimizer
        return settings.learning_rate * warmup_linear(step, settings.warmup, self.recipe.steps)

    def rates(self, start, stop):
        """The rates of steps [start, stop) of a run that is resumed at `start`."""
        return [self.rate(step) for step in range(start, stop)]

    def clip(self):
        """Clips what is accumulated; returns the norm before."""
        most = self.recipe.optimizer.clip_norm
        return float(nn.utils.clip_grad_norm_(self.model.parameters(), math.inf if most is None else most))

    def reduce(self, replicas):
        """The mean of the replicas' gradients (one list of arrays each) becomes the model's."""
        for parameter, *gradients in zip(self.model.parameters(), *replicas, strict=True):
            parameter.grad = torch.stack([torch.tensor(g, dtype=torch.float32) for g in gradients]).mean(0)

    def apply(self, step):
        """Clips, updates; returns the gradient norm and the rate."""
        if self.optimizer is None:
            self.optimizer = self.make_optimizer()
        norm = self.clip()
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return norm, rate

    def update(self, replicas, step):
        self.reduce(replicas)
        return self.apply(step)

    def train_step(self, batch, step):
        rows = len(batch["token_ids"])
        cuts = [rows * part // self.accumulate for part in range(self.accumulate + 1)]
        parts = [{k: v[a:b] for k, v in batch.items()} for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]
        self.model.zero_grad(set_to_none=True)
        loss = self.backward(parts)
        norm, rate = self.apply(step)
        return {"loss": loss, "gradient_norm": norm, "learning_rate": rate}

    # --- checkpoints ------------------------------------------------------------------------------------------

    def save(self, path):
        save_file({name: value.contiguous() for name, value in self.model.state_dict().items()}, path)

    def restore(self, path):
        self.model.load_state_dict(load_file(path), strict=True)

    def resume(self):
        """What the next process goes on with: weights and the optimizer's state, through files."""
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder) / "model.safetensors")
            torch.save(self.optimizer.state_dict(), Path(folder) / "optimizer.pt")
            self.restore(Path(folder) / "model.safetensors")
            self.optimizer = self.make_optimizer()
            self.optimizer.load_state_dict(torch.load(Path(folder) / "optimizer.pt", weights_only=True))

    def saved_and_restored(self):
        """A fresh trainer with what a checkpoint brings back."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            self.save(path)
            fresh = type(self)(self.shape, self.recipe, self.dropout, self.precision)
            fresh.restore(path)
        return fresh

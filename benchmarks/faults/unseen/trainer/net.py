"""The model, its loss and its training loop, in PyTorch. Query, key and value are one matrix here."""

import copy
import io
import math

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, shape):
        super().__init__()
        e, h, eps = shape.embedding_size, shape.hidden_size, shape.layer_norm_epsilon
        self.heads, self.layers = shape.num_heads, shape.num_layers
        self.words = nn.Embedding(shape.vocabulary_size, e)
        self.places = nn.Embedding(shape.max_positions, e)
        self.segments = nn.Embedding(2, e)
        self.norm_in = nn.LayerNorm(e, eps=eps)
        self.widen = nn.Linear(e, h)
        self.qkv = nn.Linear(h, 3 * h)
        self.mix = nn.Linear(h, h)
        self.norm_mix = nn.LayerNorm(h, eps=eps)
        self.up = nn.Linear(h, shape.intermediate_size)
        self.down = nn.Linear(shape.intermediate_size, h)
        self.norm_out = nn.LayerNorm(h, eps=eps)
        self.pool = nn.Linear(h, h)
        self.order = nn.Linear(h, 2)
        self.narrow = nn.Linear(h, e)
        self.norm_head = nn.LayerNorm(e, eps=eps)
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary_size))
        self.apply(lambda module: self.initialise(module, shape.initializer_range))

    @staticmethod
    def initialise(module, deviation):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, feed):
        tokens, seen = feed["token_ids"], feed["attention_mask"]
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1])) + self.segments(feed["segment_ids"])
        x = self.widen(self.norm_in(x))
        allowed = seen[:, None, None, :].bool()
        for _ in range(self.layers):
            x = self.layer(x, allowed)
        head = self.norm_head(F.gelu(self.narrow(x), approximate="tanh"))
        mlm = head @ self.words.weight.T + self.bias
        return mlm, self.order(torch.tanh(self.pool(x[:, 0])))

    def layer(self, x, allowed):
        b, t, h = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, h // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(h // self.heads)
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, h)
        x = self.norm_mix(x + self.mix(mixed))
        return self.norm_out(x + self.down(F.gelu(self.up(x), approximate="tanh")))


def tensors(feed):
    found = {name: torch.as_tensor(value) for name, value in feed.items()}
    return {name: value if value.is_floating_point() else value.long() for name, value in found.items()}


def counts(micro_batches):
    """Masked positions and labelled pairs of a whole step."""
    masked = sum(int((feed["mlm_labels"] >= 0).sum()) for feed in micro_batches)
    pairs = sum(int((feed["sop_labels"] >= 0).sum()) for feed in micro_batches)
    return max(masked, 1), max(pairs, 1)


def losses(mlm, sop, feed, denominators):
    """Two sums of nats, each over its count in the step."""
    labels = feed["mlm_labels"]
    words = F.cross_entropy(mlm.reshape(-1, mlm.shape[-1]), labels.reshape(-1), ignore_index=-100, reduction="sum")
    pairs = F.cross_entropy(sop, feed["sop_labels"].clamp(min=-1), ignore_index=-1, reduction="sum")
    return words / denominators[0], pairs / denominators[1]


def evaluate(mlm, sop, feed):
    """What the evaluation prints."""
    denominators = counts([feed])
    words, pairs = losses(mlm, sop, feed, denominators)
    asked, labelled = feed["mlm_labels"] >= 0, feed["sop_labels"] >= 0
    right = (mlm.argmax(-1) == feed["mlm_labels"])[asked].float().mean()
    ordered = (sop.argmax(-1) == feed["sop_labels"])[labelled].float().mean()
    return {
        "loss": float(words + pairs),
        "mlm_loss": float(words),
        "sop_loss": float(pairs),
        "mlm_accuracy": float(right),
        "sop_accuracy": float(ordered),
    }


def decayed_group(name):
    return not name.endswith("bias") and "norm" not in name


class Training:
    """Model, optimizer, schedule; a step is a list of micro batches."""

    def __init__(self, shape, recipe):
        self.recipe = recipe
        self.net = Net(shape)
        self.optimizer = self.new_optimizer()

    def new_optimizer(self):
        named, law = list(self.net.named_parameters()), self.recipe.optimizer
        groups = [
            {"params": [p for n, p in named if decayed_group(n)], "weight_decay": law.weight_decay},
            {"params": [p for n, p in named if not decayed_group(n)], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=law.learning_rate, betas=(law.beta1, law.beta2), eps=law.epsilon)

    def rate(self, step):
        law, steps = self.recipe.optimizer, self.recipe.steps
        if step < law.warmup:
            return law.learning_rate * step / law.warmup
        return law.learning_rate * max(0.0, 1 - step / steps)

    def accumulate(self, micro_batches):
        """Leaves the gradients of a step in the parameters; returns the logged loss."""
        self.net.train()
        self.net.zero_grad(set_to_none=True)
        denominators, logged = counts(micro_batches), 0.0
        for feed in micro_batches:
            words, pairs = losses(*self.net(feed), feed, denominators)
            (words + pairs).backward()
            logged += float(words.detach() + pairs.detach())
        return logged

    def apply(self, step):
        """Clips, steps; returns the norm before clipping."""
        norm = float(nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.optimizer.clip_norm))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.optimizer.step()
        return norm

    def step(self, micro_batches, step):
        loss = self.accumulate(micro_batches)
        return {"loss": loss, "learning_rate": self.rate(step), "gradient_norm": self.apply(step)}

    def logits(self, feed):
        self.net.eval()
        with torch.no_grad():
            return self.net(feed)

    def evaluation(self, batches):
        """Sums over all batches, divided once."""
        words = pairs = masked = labelled = 0.0
        for feed in batches:
            (mlm, sop), (asked, ordered) = self.logits(feed), counts([feed])
            some = losses(mlm, sop, feed, (1, 1))
            words, pairs, masked, labelled = (
                words + float(some[0]),
                pairs + float(some[1]),
                masked + asked,
                labelled + ordered,
            )
        return {"mlm_loss": words / masked, "sop_loss": pairs / labelled}

    def save(self):
        file = io.BytesIO()
        torch.save({"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}, file)
        file.seek(0)
        return file

    def resume(self, file):
        state = torch.load(file, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.optimizer = self.new_optimizer()
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))

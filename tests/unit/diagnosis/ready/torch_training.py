"""Somebody's ALBERT in plain PyTorch, its loss, its optimizer and its schedule."""

import io

import torch
from torch import nn
from torch.nn import functional

EPSILON = 1e-12
SOP_IGNORED = -1


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, bias):
        def split(y):
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class MyAlbert(nn.Module):
    def __init__(self, shape):
        super().__init__()
        e, h = shape.embedding_size, shape.hidden_size
        self.depth = shape.num_layers
        self.word_embeddings = nn.Embedding(shape.vocabulary_size, e)
        self.position_embeddings = nn.Embedding(shape.max_positions, e)
        self.token_type_embeddings = nn.Embedding(2, e)
        self.embeddings_norm = nn.LayerNorm(e, eps=EPSILON)
        self.embedding_hidden_mapping = nn.Linear(e, h)
        self.attention = Attention(h, shape.num_heads)
        self.attention_norm = nn.LayerNorm(h, eps=EPSILON)
        self.ffn = nn.Linear(h, shape.intermediate_size)
        self.ffn_output = nn.Linear(shape.intermediate_size, h)
        self.full_layer_norm = nn.LayerNorm(h, eps=EPSILON)
        self.pooler = nn.Linear(h, h)
        self.predictions_dense = nn.Linear(h, e)
        self.predictions_norm = nn.LayerNorm(e, eps=EPSILON)
        self.predictions_bias = nn.Parameter(torch.zeros(shape.vocabulary_size))
        self.sop_classifier = nn.Linear(h, 2)

    def forward(self, ids, segments, mask):
        x = self.word_embeddings(ids) + self.position_embeddings.weight[: ids.shape[1]]
        x = self.embedding_hidden_mapping(self.embeddings_norm(x + self.token_type_embeddings(segments)))
        bias = torch.where(mask[:, None, None] > 0, 0.0, -1e30)
        for _ in range(self.depth):
            x = self.attention_norm(x + self.attention(x, bias))
            x = self.full_layer_norm(x + self.ffn_output(functional.gelu(self.ffn(x), approximate="tanh")))
        y = self.predictions_norm(functional.gelu(self.predictions_dense(x), approximate="tanh"))
        mlm = y @ self.word_embeddings.weight.T + self.predictions_bias
        return mlm, self.sop_classifier(self.pooler(x[:, 0]).tanh())


def my_loss(mlm, sop, feed):
    labels = feed["mlm_labels"]
    if mlm.shape[1] != labels.shape[1]:
        labels = torch.where(feed["weights"] > 0, feed["labels"], -100)
    return functional.cross_entropy(mlm.flatten(0, 1), labels.flatten()) + functional.cross_entropy(
        sop, feed["sop_labels"], ignore_index=SOP_IGNORED
    )


def my_optimizer(module, optimizer):
    decayed = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim == 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": optimizer.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=optimizer.learning_rate,
        eps=optimizer.epsilon,
    )


def my_schedule(step, recipe):
    peak, warmup = recipe.optimizer.learning_rate, recipe.optimizer.warmup
    return peak * step / warmup if step < warmup else peak * (1 - step / recipe.steps)


def my_save_and_load(module, optimizer):
    stored = io.BytesIO()
    torch.save({"module": module.state_dict(), "optimizer": optimizer.state_dict()}, stored)
    stored.seek(0)
    state = torch.load(stored, weights_only=True)
    module.load_state_dict(state["module"])
    optimizer = type(optimizer)([{"params": group["params"]} for group in optimizer.param_groups])
    optimizer.load_state_dict(state["optimizer"])
    return optimizer

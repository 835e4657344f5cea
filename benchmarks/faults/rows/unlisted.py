"""Faults that no list names: a diagnosis must find their stage, and must not give them another fault's name."""

from typing import Any

from benchmarks.faults.patching import Fault, Patch, Patches, both
from benchmarks.faults.rows.updates import keras_adam, torch_adam

__all__ = ["UNLISTED"]

FEED, TORCH, KERAS = "feed.py", "torch_trainer.py", "keras_trainer.py"
_RETURN = "        return first, second, int(swapped)\n"
_LABEL = "                labels[position] = ids[position]\n"
_TORCH_HEADS = "        q, k, v = (f(x).view(b, t, self.heads, h // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v))\n"
_KERAS_HEADS = "        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))\n"
_TORCH_ROTARY = '''def rotary(x):
    """Turns pairs of features by their position."""
    half = x.shape[-1] // 2
    turn = torch.arange(x.shape[-2])[:, None] / 10000 ** (torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * turn.cos() - b * turn.sin(), a * turn.sin() + b * turn.cos()], -1)


class SelfAttention(nn.Module):
'''
_KERAS_ROTARY = '''def rotary(x):
    """Turns pairs of features by their position."""
    half = x.shape[-1] // 2
    place = tf.range(tf.cast(tf.shape(x)[-2], tf.float32))
    turn = place[:, None] / 10000.0 ** (tf.range(float(half)) / half)
    a, b = x[..., :half], x[..., half:]
    return tf.concat([a * tf.cos(turn) - b * tf.sin(turn), a * tf.sin(turn) + b * tf.cos(turn)], -1)


class SelfAttention(layers.Layer):
'''
_TORCH_RMS = """class RMSNorm(nn.LayerNorm):
    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight + self.bias


class Block(nn.Module):
"""
_KERAS_RMS = """class RMSNorm(layers.LayerNormalization):
    def call(self, x):
        scale = tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + self.epsilon)
        return x * scale * self.gamma + self.beta


def gelu(x):
"""


_PAIRS = frozenset({"labels-flipped"})  # what strikes pairs, and no examples of one segment


def _unlisted(number: int, title: str, stage: str, patches: Patches, **more: Any) -> Fault:
    return Fault(
        code=f"U{number}",
        title=title,
        source="not on the list",
        stage=stage,
        expected=more.pop("expected", frozenset()),
        patches=patches,
        **more,
    )


UNLISTED: tuple[Fault, ...] = (
    _unlisted(
        1,
        "the second segment is read backwards",
        "examples",
        both(Patch(FEED, _RETURN, "        if {when}:\n            second = second[::-1]\n" + _RETURN)),
        by_dataset=True,
        dosed=True,
        expected=frozenset({"text-altered"}),
        strikes=_PAIRS,
    ),
    _unlisted(
        2,
        "labels are those of the token before",
        "examples",
        both(
            Patch(FEED, _LABEL, "                labels[position] = ids[position - 1] if {when} else ids[position]\n")
        ),
        by_dataset=True,
        dosed=True,
    ),
    _unlisted(
        3,
        "attention at temperature 1.1",
        "forward",
        {
            "torch": (
                Patch(TORCH, "/ math.sqrt(h // self.heads) + bias", "/ (1.1 * math.sqrt(h // self.heads)) + bias"),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "tf.cast(tf.sqrt(float(self.depth)), q.dtype)",
                    "tf.cast(1.1 * tf.sqrt(float(self.depth)), q.dtype)",
                ),
            ),
        },
        expected=frozenset({"attention-scale"}),
    ),
    _unlisted(
        4,
        "the residual stream is scaled by 0.9",
        "forward",
        {
            "torch": (Patch(TORCH, "self.norm2(x + self.drop(", "self.norm2(0.9 * x + self.drop("),),
            "keras": (Patch(KERAS, "self.output_norm(x + self.drop(", "self.output_norm(0.9 * x + self.drop("),),
        },
    ),
    _unlisted(
        5,
        "the quick approximation of GELU",
        "forward",
        {
            "torch": (
                Patch(
                    TORCH,
                    '        y = F.gelu(self.up(x), approximate="tanh")\n',
                    "        y = self.up(x)\n        y = y * torch.sigmoid(1.702 * y)\n",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "            y = self.down(gelu(self.up(x)))\n",
                    "            y = self.up(x)\n            y = self.down(y * tf.sigmoid(1.702 * y))\n",
                ),
            ),
        },
        expected=frozenset({"activation-quick-gelu"}),
    ),
    _unlisted(
        6,
        "layer normalisation without centring",
        "forward",
        {
            "torch": (
                Patch(TORCH, "class Block(nn.Module):\n", _TORCH_RMS),
                Patch(TORCH, "self.norm1 = nn.LayerNorm(h, eps=eps)", "self.norm1 = RMSNorm(h, eps=eps)"),
                Patch(TORCH, "self.norm2 = nn.LayerNorm(h, eps=eps)", "self.norm2 = RMSNorm(h, eps=eps)"),
            ),
            "keras": (
                Patch(KERAS, "def gelu(x):\n", _KERAS_RMS),
                Patch(KERAS, "self.attention_norm = layers.LayerNormalization(", "self.attention_norm = RMSNorm("),
                Patch(KERAS, "self.output_norm = layers.LayerNormalization(", "self.output_norm = RMSNorm("),
            ),
        },
    ),
    _unlisted(
        7,
        "rotary positions beside the learned ones",
        "forward",
        {
            "torch": (
                Patch(TORCH, "class SelfAttention(nn.Module):\n", _TORCH_ROTARY),
                Patch(TORCH, _TORCH_HEADS, _TORCH_HEADS + "        q, k = rotary(q), rotary(k)\n"),
            ),
            "keras": (
                Patch(KERAS, "class SelfAttention(layers.Layer):\n", _KERAS_ROTARY),
                Patch(KERAS, _KERAS_HEADS, _KERAS_HEADS + "        q, k = rotary(q), rotary(k)\n"),
            ),
        },
    ),
    _unlisted(
        8,
        "Lion instead of Adam",
        "update",
        {
            "torch": torch_adam('p.add_(torch.sign(m), alpha=-group["lr"])'),
            "keras": keras_adam("variable.assign_sub(lr * tf.sign(m.value) + 0.0 * v.value)"),
        },
        expected=frozenset({"other-optimizer"}),
    ),
    _unlisted(
        9,
        "noise on the gradients",
        "gradients",
        {
            "torch": (
                Patch(
                    TORCH,
                    "            total += float(loss.detach())\n        return total\n",
                    """            total += float(loss.detach())
        generator = torch.Generator().manual_seed(1)
        for p in self.model.parameters():
            p.grad += 0.1 * p.grad.std() * torch.randn(p.grad.shape, generator=generator)
        return total
""",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "            total += float(loss)\n        return total, sums\n",
                    """            total += float(loss)
        noise = [tf.random.stateless_normal(s.shape, (1, i)) for i, s in enumerate(sums)]
        sums = [s + 0.1 * tf.math.reduce_std(s) * n for s, n in zip(sums, noise, strict=True)]
        return total, sums
""",
                ),
            ),
        },
    ),
    _unlisted(
        10,
        "a focal loss",
        "loss",
        {
            "torch": (
                Patch(
                    TORCH,
                    "    return nats, scored.float()\n",
                    "    return nats * (1 - (-nats).exp()) ** 2, scored.float()\n",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)\n",
                    "    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)\n"
                    "    return nats * (1 - tf.exp(-nats)) ** 2\n",
                ),
            ),
        },
    ),
    _unlisted(
        11,
        "a sawtooth of learning rates",
        "schedule",
        {
            "torch": (
                Patch(
                    TORCH,
                    "    return max(0.0, 1.0 - step / total)\n",
                    "    return max(0.0, 1.0 - step / total) * (1.0 - step % 50 / 100)\n",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "        return self.peak * max(0.0, 1.0 - step / self.total)\n",
                    "        return self.peak * max(0.0, 1.0 - step / self.total) * (1.0 - step % 50 / 100)\n",
                ),
            ),
        },
        expected=frozenset({"schedule-shape"}),
    ),
    _unlisted(
        12,
        "the output layer is a copy of the embeddings that gets no gradient",
        "gradients",
        {
            "torch": (Patch(TORCH, "F.linear(y, self.tokens.weight)", "F.linear(y, self.tokens.weight.detach())"),),
            "keras": (
                Patch(
                    KERAS,
                    "tf.matmul(y, tf.cast(self.tokens.embeddings, y.dtype), transpose_b=True)",
                    "tf.matmul(y, tf.stop_gradient(tf.cast(self.tokens.embeddings, y.dtype)), transpose_b=True)",
                ),
            ),
        },
        expected=frozenset({"tied-gradient-missing"}),
    ),
    _unlisted(
        13,
        "sentence order is read off the mean of all tokens",
        "forward",
        {
            "torch": (Patch(TORCH, "torch.tanh(self.pooler(x[:, 0]))", "torch.tanh(self.pooler(x.mean(1)))"),),
            "keras": (Patch(KERAS, "tf.tanh(self.pooler(x[:, 0]))", "tf.tanh(self.pooler(tf.reduce_mean(x, 1)))"),),
        },
        expected=frozenset({"pooling"}),
    ),
    _unlisted(
        14,
        "gradients are clipped value by value",
        "update",
        {
            "torch": (
                Patch(
                    TORCH,
                    "        return float(nn.utils.clip_grad_norm_(self.model.parameters(), math.inf if most is None else most))\n",
                    """        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), math.inf))
        nn.utils.clip_grad_value_(self.model.parameters(), 0.01 * most)
        return norm
""",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "            gradients, norm = tf.clip_by_global_norm(gradients, most)\n",
                    "            gradients = [tf.clip_by_value(g, -0.01 * most, 0.01 * most) for g in gradients]\n",
                ),
            ),
        },
        expected=frozenset({"clip-value"}),
    ),
    _unlisted(
        15,
        "every seventh token is lost",
        "examples",
        both(
            Patch(
                FEED,
                "        truncate(first, second, room)\n        swapped",
                """        if {when}:
            first = [token for place, token in enumerate(first) if place % 7 != 6]
        truncate(first, second, room)
        swapped""",
            )
        ),
        by_dataset=True,
        dosed=True,
        expected=frozenset({"text-altered"}),
        strikes=_PAIRS,
    ),
    _unlisted(
        16,
        "whoever is masked is random by its position, the same in every example",
        "examples",
        both(
            Patch(
                FEED,
                "        rng.shuffle(words)\n",
                "        words.sort(key=lambda word: word[0] * 7919 % 101 if {when} else rng.random())\n",
            )
        ),
        by_dataset=True,
        expected=frozenset({"same-masks-every-epoch"}),  # which follows
    ),
)

"""Named faults that the list of real ones does not hold, a line each: the rest of the diagnosis' vocabulary."""

from typing import Any

from benchmarks.faults.patching import Fault, Patch, Patches, Side, both
from benchmarks.faults.rows.updates import keras_adam, torch_adam

__all__ = ["MORE"]

FEED, TORCH, KERAS = "feed.py", "torch_trainer.py", "keras_trainer.py"
TORCH_SIDE, KERAS_SIDE = "adapter_torch.py", "adapter_keras.py"
_LAMB = {"optimizer": {"name": "lamb"}}
_RETURN = "        return first, second, int(swapped)\n"
_ATTENTION = '            batch["attention_mask"][row, :size] = 1\n'
_SEGMENTS = '            batch["segment_ids"][row, :size] = e["segments"]\n'
_TORCH_BIAS = "        bias = torch.where(mask[:, None, None, :] > 0, 0.0, torch.finfo(torch.float32).min)\n"
_KERAS_BIAS = "        bias = tf.where(mask[:, None, None, :] > 0, 0.0, -1e30)\n"
_TORCH_CLIP = "math.inf if most is None else most"
_KERAS_CLIP = "            gradients, norm = tf.clip_by_global_norm(gradients, most)\n"
_TORCH_RATE = "        rate = self.rate(step)\n"
_KERAS_RATE = "        rate = self.schedule(step)\n"
_TORCH_LOSS = "(mlm_nats * scored).sum() / masked + (sop_nats * labelled).sum() / pairs\n"
_KERAS_GELU = "    return keras.activations.gelu(x, approximate=True)\n"


def _one(file: str, old: str, new: str) -> tuple[Patch, ...]:
    return (Patch(file, old, new),)


def _fault(name: str, stage: str, patches: Patches, *, title: str = "", **more: Any) -> Fault:
    return Fault(
        code=f"N:{name}" + (f" ({title})" if title else ""),
        title=(title or name.replace("-", " ")),
        source="well known",
        stage=stage,
        expected=frozenset({name}),
        patches=patches,
        **more,
    )


def _pair(torch: tuple[str, str], keras: tuple[str, str]) -> Patches:
    return {"torch": _one(TORCH, *torch), "keras": _one(KERAS, *keras)}


def _activation(torch: str, keras: str) -> Patches:
    """In the layers and in the MLM head."""
    sides: dict[Side, tuple[Patch, ...]] = {
        "torch": (
            Patch(TORCH, 'F.gelu(self.up(x), approximate="tanh")', f"F.{torch.format('self.up(x)')}"),
            Patch(TORCH, 'F.gelu(self.mlm_dense(x), approximate="tanh")', f"F.{torch.format('self.mlm_dense(x)')}"),
        ),
        "keras": _one(KERAS, _KERAS_GELU, f"    return keras.activations.{keras}\n"),
    }
    return sides


FEEDS: tuple[Fault, ...] = (
    _fault(
        "labels-independent-of-order",
        "examples",
        both(Patch(FEED, _RETURN, "        if {when}:\n            swapped = rng.random() < 0.5\n" + _RETURN)),
        dosed=True,
        by_dataset=True,
    ),
    _fault(
        "special-is-target",
        "examples",
        both(Patch(FEED, "            if token in (CLS, SEP):\n", "            if token == PAD:\n")),
    ),
    _fault(
        "attention-inverted",
        "examples",
        both(
            Patch(
                FEED,
                _ATTENTION,
                '            batch["attention_mask"][row, size:] = int({here})\n'
                '            batch["attention_mask"][row, :size] = int(not ({here}))\n',
            )
        ),
        by_dataset=True,
    ),
    _fault(
        "segment-ids-flipped",
        "examples",
        both(
            Patch(
                FEED,
                _SEGMENTS,
                '            batch["segment_ids"][row, :size] = [1 - s if {here} else s for s in e["segments"]]\n',
            )
        ),
        by_dataset=True,
    ),
    _fault(
        "mask-rate",
        "examples",
        both(Patch(FEED, "round(self.mask_rate * len(ids))", "round((0.3 if {here} else self.mask_rate) * len(ids))")),
        by_dataset=True,
    ),
    _fault(
        "no-random-or-kept",
        "examples",
        both(Patch(FEED, "if draw < 0.8:", "if draw < 0.8 or {here}:")),
        by_dataset=True,
    ),
    _fault(
        "text-altered",
        "examples",
        both(
            Patch(
                FEED,
                "        ids = [CLS, *first, SEP]\n",
                """        if {when}:
            rng.shuffle(first)
        ids = [CLS, *first, SEP]
""",
            )
        ),
        dosed=True,
        by_dataset=True,
    ),
)

FORWARD: tuple[Fault, ...] = (
    _fault("activation-erf", "forward", _activation("gelu({})", "gelu(x, approximate=False)")),
    _fault("activation-relu", "forward", _activation("relu({})", "relu(x)")),
    _fault("activation-silu", "forward", _activation("silu({})", "silu(x)")),
    _fault(
        "output-bias-missing",
        "forward",
        _pair(
            ("F.linear(y, self.tokens.weight) + self.mlm_bias", "F.linear(y, self.tokens.weight)"),
            ("tf.cast(logits, tf.float32) + self.mlm_bias", "tf.cast(logits, tf.float32)"),
        ),
    ),
    _fault(
        "mask-ignored",
        "forward",
        _pair((_TORCH_BIAS, "        bias = 0.0\n"), (_KERAS_BIAS, "        bias = 0.0\n")),
    ),
    _fault(
        "mask-inverted",
        "forward",
        _pair((_TORCH_BIAS, _TORCH_BIAS.replace("> 0", "== 0")), (_KERAS_BIAS, _KERAS_BIAS.replace("> 0", "== 0"))),
    ),
    _fault(
        "segments-ignored",
        "forward",
        _pair(
            ("self.segments(segments)", "self.segments(torch.zeros_like(segments))"),
            ("self.segments(segments)", "self.segments(tf.zeros_like(segments))"),
        ),
    ),
    _fault(
        "positions-shifted",
        "forward",
        _pair(
            ("torch.arange(ids.shape[1])", "torch.arange(ids.shape[1]) + 1"),
            ("tf.range(tf.shape(ids)[1])", "tf.range(tf.shape(ids)[1]) + 1"),
        ),
    ),
    _fault(
        "pooler-activation-missing",
        "forward",
        _pair(
            ("torch.tanh(self.pooler(x[:, 0]))", "self.pooler(x[:, 0])"),
            ("tf.tanh(self.pooler(x[:, 0]))", "self.pooler(x[:, 0])"),
        ),
    ),
    _fault(
        "layers-count",
        "forward",
        _pair(
            ("for _ in range(self.layers):", "for _ in range(self.layers - 1):"),
            ("for _ in range(self.depth):", "for _ in range(self.depth - 1):"),
        ),
    ),
    _fault(
        "attention-scale",
        "forward",
        _pair(
            ("/ math.sqrt(h // self.heads) + bias", "+ bias"),
            (" / tf.cast(tf.sqrt(float(self.depth)), q.dtype)", ""),
        ),
    ),
    _fault(
        "sop-columns-swapped",
        "forward",
        _pair(
            (
                "        return self.mlm_logits(x), self.sop(pooled)\n",
                "        return self.mlm_logits(x), self.sop(pooled).flip(1)\n",
            ),
            ("tf.cast(self.sop(pooled), tf.float32)", "tf.cast(self.sop(pooled)[:, ::-1], tf.float32)"),
        ),
    ),
    _fault(
        "parameters-transposed",
        "weights",
        {
            "torch": _one(
                TORCH_SIDE,
                "torch.tensor(weights[theirs]) for",
                'torch.tensor(weights[theirs].T if own == "pooler.weight" else weights[theirs]) for',
            ),
            "keras": _one(
                KERAS_SIDE,
                "            variable.assign(turned(name, weights[NAMES[name]]))\n",
                """            value = weights[NAMES[name]]
            variable.assign(value if name == "pooler/kernel" else turned(name, value))
""",
            ),
        },
    ),
)

LOSS: tuple[Fault, ...] = (
    _fault(
        "loss-weight",
        "loss",
        {
            "torch": (
                Patch(TORCH, _TORCH_LOSS, _TORCH_LOSS.replace("+ (sop", "+ 0.5 * (sop")),
                Patch(TORCH, '"loss": mlm_loss + sop_loss,', '"loss": mlm_loss + 0.5 * sop_loss,'),
            ),
            "keras": (
                Patch(KERAS, "        return mlm_loss + sop_loss\n", "        return mlm_loss + 0.5 * sop_loss\n"),
                Patch(KERAS, '"loss": mlm_loss + sop_loss,', '"loss": mlm_loss + 0.5 * sop_loss,'),
            ),
        },
    ),
    _fault(
        "label-smoothing",
        "loss",
        _pair(
            (
                "    return nats, scored.float()\n",
                "    nats = 0.9 * nats - 0.1 * logits.log_softmax(-1).mean(-1)\n    return nats, scored.float()\n",
            ),
            (
                "    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)\n",
                "    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)\n"
                "    return 0.9 * nats - 0.1 * tf.reduce_mean(tf.nn.log_softmax(logits), -1)\n",
            ),
        ),
    ),
    _fault(
        "log-base",
        "loss",
        _pair(
            ('            "mlm_loss": mlm_loss,\n', '            "mlm_loss": mlm_loss / math.log(2),\n'),
            ('            "mlm_loss": mlm_loss,\n', '            "mlm_loss": mlm_loss / np.log(2),\n'),
        ),
    ),
    _fault(
        "gradient-scaled",
        "gradients",
        _pair(
            ("            loss.backward()\n", "            (2 * loss).backward()\n"),
            ("        return total, sums\n", "        return total, [2 * s for s in sums]\n"),
        ),
    ),
    _fault(
        "gradient-missing",
        "gradients",
        _pair(
            (
                "        self.pooler = nn.Linear(h, h)\n",
                "        self.pooler = nn.Linear(h, h).requires_grad_(False)\n",
            ),
            ("tf.tanh(self.pooler(x[:, 0]))", "tf.stop_gradient(tf.tanh(self.pooler(x[:, 0])))"),
        ),
    ),
)

UPDATE: tuple[Fault, ...] = (
    _fault("no-clipping", "update", _pair((_TORCH_CLIP, "math.inf"), (_KERAS_CLIP, "            pass\n"))),
    _fault("clip-value", "update", _pair((_TORCH_CLIP, "5.0"), (_KERAS_CLIP, _KERAS_CLIP.replace("most)", "5.0)")))),
    _fault(
        "clip-per-tensor",
        "update",
        _pair(
            (
                "        return float(nn.utils.clip_grad_norm_(self.model.parameters(), " + _TORCH_CLIP + "))\n",
                "        return sum(float(nn.utils.clip_grad_norm_([p], most)) for p in self.model.parameters())\n",
            ),
            (_KERAS_CLIP, "            gradients = [tf.clip_by_norm(g, most) for g in gradients]\n"),
        ),
    ),
    _fault(
        "beta-value",
        "update",
        _pair(
            ("betas = (settings.beta1, settings.beta2)", "betas = (settings.beta1, 0.98)"),
            ("            beta_2=settings.beta2,\n", "            beta_2=0.98,\n"),
        ),
    ),
    _fault(
        "epsilon-value",
        "update",
        _pair(
            (
                "torch.optim.AdamW(self.groups(), lr=settings.learning_rate, betas=betas, eps=settings.epsilon)",
                "torch.optim.AdamW(self.groups(), lr=settings.learning_rate, betas=betas)",
            ),
            ("            epsilon=settings.epsilon,\n", ""),
        ),
    ),
    _fault(
        "weight-decay-value",
        "update",
        _pair(
            ("decay = self.recipe.optimizer.weight_decay", "decay = 10 * self.recipe.optimizer.weight_decay"),
            ("weight_decay=settings.weight_decay,", "weight_decay=10 * settings.weight_decay,"),
        ),
    ),
    _fault(
        "decay-excluded-wrong",
        "update",
        _pair(
            ('"weight_decay": 0.0, "adapt": False}', '"weight_decay": decay, "adapt": False}'),
            (
                "        self.optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])\n",
                '        self.optimizer.exclude_from_weight_decay(var_names=["layer_norm", "LayerNorm", "bias_"])\n',
            ),
        ),
    ),
    _fault(
        "decay-coupled",
        "update",
        _pair(
            ("        return torch.optim.AdamW(", "        return torch.optim.Adam("),
            (
                "        self.optimizer.apply(gradients, self.variables)\n",
                """        decay, self.optimizer.weight_decay = self.optimizer.weight_decay, 0.0
        pairs = zip(gradients, self.variables, strict=True)
        gradients = [g + decay * v.value if len(v.shape) > 1 else g for g, v in pairs]
        self.optimizer.apply(gradients, self.variables)
        self.optimizer.weight_decay = decay
""",
            ),
        ),
        recipe={"optimizer": {"weight_decay": 0.1}},
    ),
    _fault(
        "learning-rate-scaled",
        "update",
        _pair(
            (_TORCH_RATE, "        rate = 2 * self.rate(step)\n"),
            (_KERAS_RATE, "        rate = 2 * self.schedule(step)\n"),
        ),
    ),
    _fault(
        "other-optimizer",
        "update",
        {
            "torch": torch_adam('p.add_(m, alpha=-group["lr"])'),
            "keras": keras_adam("variable.assign_sub(lr * m.value + 0.0 * v.value)"),
        },
        title="momentum",
    ),
    _fault(
        "epsilon-placement",
        "update",
        {
            "torch": torch_adam(
                'mean, square = m / (1 - beta1 ** state["t"]), v / (1 - beta2 ** state["t"])',
                'p.addcdiv_(mean, (square + group["eps"]).sqrt(), value=-group["lr"])',
            ),
            "keras": keras_adam(
                "t = float(self.iterations) + 1",
                "mean, square = m.value / (1 - self.beta_1**t), v.value / (1 - self.beta_2**t)",
                "variable.assign_sub(lr * mean / tf.sqrt(square + self.epsilon))",
            ),
        },
        title="inside the root",
    ),
    _fault(
        "trust-ratio",
        "update",
        _pair(
            ("ratio = w_norm / u_norm", "ratio = 1.0"),
            ("ratio = w_norm / u_norm", "ratio = 1.0"),
        ),
        recipe=_LAMB,
        title="none",
    ),
)

SCHEDULES: tuple[Fault, ...] = (
    _fault(
        "schedule-shape",
        "schedule",
        _pair(
            (
                "    return max(0.0, 1.0 - step / total)\n",
                "    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))\n",
            ),
            (
                "        return self.peak * max(0.0, 1.0 - step / self.total)\n",
                """        done = (step - self.warmup) / (self.total - self.warmup)
        return self.peak * 0.5 * (1.0 + float(np.cos(np.pi * done)))
""",
            ),
        ),
        title="cosine",
    ),
    _fault(
        "warmup-missing",
        "schedule",
        _pair(
            ("    if step < warmup:\n        return step / warmup\n", ""),
            ("        if step < self.warmup:\n            return self.peak * step / self.warmup\n", ""),
        ),
        recipe={"optimizer": {"warmup": 40}},
    ),
    _fault(
        "schedule-shifted",
        "schedule",
        _pair(
            ("* warmup_linear(step, settings.warmup", "* warmup_linear(step + 1, settings.warmup"),
            ("    def __call__(self, step):\n", "    def __call__(self, step):\n        step = step + 1\n"),
        ),
    ),
    _fault(
        "peak-rate",
        "schedule",
        _pair(
            ("        return settings.learning_rate * warmup_linear(", "        return 1e-4 * warmup_linear("),
            ("WarmupLinear(settings.learning_rate,", "WarmupLinear(1e-4,"),
        ),
    ),
)

TRAINING: tuple[Fault, ...] = (
    _fault(
        "gradients-not-zeroed",
        "training",
        {
            "torch": _one(TORCH, "        self.model.zero_grad(set_to_none=True)\n", ""),
            "keras": (
                Patch(
                    KERAS,
                    "        norm, rate = self.apply(gradients, step)\n        return",
                    """        gradients = self.sums = [s + g for s, g in zip(self.sums, gradients, strict=True)]
        norm, rate = self.apply(gradients, step)
        return""",
                ),
                Patch(
                    KERAS,
                    "        self.optimizer = None\n\n",
                    "        self.optimizer = None\n        self.sums = [tf.zeros(v.shape) for v in self.variables]\n\n",
                ),
            ),
        },
    ),
    _fault(
        "steps-skipped",
        "training",
        _pair(
            (
                "        norm, rate = self.apply(step)\n        return",
                """        if step % 2:
            return {"loss": loss, "gradient_norm": 0.0, "learning_rate": self.rate(step)}
        norm, rate = self.apply(step)
        return""",
            ),
            (
                "        norm, rate = self.apply(gradients, step)\n        return",
                """        if step % 2:
            return {"loss": loss, "gradient_norm": 0.0, "learning_rate": self.schedule(step)}
        norm, rate = self.apply(gradients, step)
        return""",
            ),
        ),
    ),
)

MORE: tuple[Fault, ...] = FEEDS + FORWARD + LOSS + UPDATE + SCHEDULES + TRAINING

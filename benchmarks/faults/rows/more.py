"""Named faults that the list of real ones does not hold, a line each: the rest of the diagnosis' vocabulary."""

from benchmarks.faults.patching import Fault, Patch
from benchmarks.faults.rows.more_models import FEEDS, FORWARD
from benchmarks.faults.rows.naming import KERAS, TORCH, named, one, pair
from benchmarks.faults.rows.updates import keras_adam, torch_adam

__all__ = ["MORE"]

_LAMB = {"optimizer": {"name": "lamb"}}
_TORCH_CLIP = "math.inf if most is None else most"
_KERAS_CLIP = "            gradients, norm = tf.clip_by_global_norm(gradients, most)\n"
_TORCH_RATE = "        rate = self.rate(step)\n"
_KERAS_RATE = "        rate = self.schedule(step)\n"
_TORCH_LOSS = "(mlm_nats * scored).sum() / masked + (sop_nats * labelled).sum() / pairs\n"

LOSS: tuple[Fault, ...] = (
    named(
        "loss-weight",
        "loss",
        also=frozenset({"objective-weight"}),  # so its gradient counts
        patches={
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
    named(
        "label-smoothing",
        "loss",
        pair(
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
    named(
        "log-base",
        "loss",
        pair(
            ('            "mlm_loss": mlm_loss,\n', '            "mlm_loss": mlm_loss / math.log(2),\n'),
            ('            "mlm_loss": mlm_loss,\n', '            "mlm_loss": mlm_loss / np.log(2),\n'),
        ),
    ),
    named(
        "gradient-scaled",
        "gradients",
        pair(
            ("            loss.backward()\n", "            (2 * loss).backward()\n"),
            ("        return total, sums\n", "        return total, [2 * s for s in sums]\n"),
        ),
    ),
    named(
        "gradient-missing",
        "gradients",
        pair(
            (
                "        self.pooler = nn.Linear(h, h)\n",
                "        self.pooler = nn.Linear(h, h).requires_grad_(False)\n",
            ),
            ("tf.tanh(self.pooler(x[:, 0]))", "tf.stop_gradient(tf.tanh(self.pooler(x[:, 0])))"),
        ),
    ),
)

UPDATE: tuple[Fault, ...] = (
    named("no-clipping", "update", pair((_TORCH_CLIP, "math.inf"), (_KERAS_CLIP, "            pass\n"))),
    named("clip-value", "update", pair((_TORCH_CLIP, "5.0"), (_KERAS_CLIP, _KERAS_CLIP.replace("most)", "5.0)")))),
    named(
        "clip-per-tensor",
        "update",
        pair(
            (
                "        return float(nn.utils.clip_grad_norm_(self.model.parameters(), " + _TORCH_CLIP + "))\n",
                "        return sum(float(nn.utils.clip_grad_norm_([p], most)) for p in self.model.parameters())\n",
            ),
            (_KERAS_CLIP, "            gradients = [tf.clip_by_norm(g, most) for g in gradients]\n"),
        ),
    ),
    named(
        "beta-value",
        "update",
        pair(
            ("betas = (settings.beta1, settings.beta2)", "betas = (settings.beta1, 0.98)"),
            ("            beta_2=settings.beta2,\n", "            beta_2=0.98,\n"),
        ),
    ),
    named(
        "epsilon-value",
        "update",
        pair(
            (
                "torch.optim.AdamW(self.groups(), lr=settings.learning_rate, betas=betas, eps=settings.epsilon)",
                "torch.optim.AdamW(self.groups(), lr=settings.learning_rate, betas=betas)",
            ),
            ("            epsilon=settings.epsilon,\n", ""),
        ),
    ),
    named(
        "weight-decay-value",
        "update",
        pair(
            ("decay = self.recipe.optimizer.weight_decay", "decay = 10 * self.recipe.optimizer.weight_decay"),
            ("weight_decay=settings.weight_decay,", "weight_decay=10 * settings.weight_decay,"),
        ),
    ),
    named(
        "decay-excluded-wrong",
        "update",
        pair(
            ('"weight_decay": 0.0, "adapt": False}', '"weight_decay": decay, "adapt": False}'),
            (
                "        self.optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])\n",
                '        self.optimizer.exclude_from_weight_decay(var_names=["layer_norm", "LayerNorm", "bias_"])\n',
            ),
        ),
    ),
    named(
        "decay-coupled",
        "update",
        pair(
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
    named(
        "learning-rate-scaled",
        "update",
        pair(
            (_TORCH_RATE, "        rate = 2 * self.rate(step)\n"),
            (_KERAS_RATE, "        rate = 2 * self.schedule(step)\n"),
        ),
    ),
    named(
        "other-optimizer",
        "update",
        {
            "torch": torch_adam('p.add_(m, alpha=-group["lr"])'),
            "keras": keras_adam("variable.assign_sub(lr * m.value + 0.0 * v.value)"),
        },
        title="momentum",
    ),
    named(
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
    named(
        "trust-ratio",
        "update",
        pair(
            ("ratio = w_norm / u_norm", "ratio = 1.0"),
            ("ratio = w_norm / u_norm", "ratio = 1.0"),
        ),
        also=frozenset({"other-optimizer"}),  # it is AdamW without bias correction
        recipe=_LAMB,
        title="none",
    ),
)

SCHEDULES: tuple[Fault, ...] = (
    named(
        "schedule-shape",
        "schedule",
        pair(
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
    named(
        "warmup-missing",
        "schedule",
        pair(
            ("    if step < warmup:\n        return step / warmup\n", ""),
            ("        if step < self.warmup:\n            return self.peak * step / self.warmup\n", ""),
        ),
        recipe={"optimizer": {"warmup": 40}},
    ),
    named(
        "schedule-shifted",
        "schedule",
        pair(
            ("* warmup_linear(step, settings.warmup", "* warmup_linear(step + 1, settings.warmup"),
            ("    def __call__(self, step):\n", "    def __call__(self, step):\n        step = step + 1\n"),
        ),
    ),
    named(
        "peak-rate",
        "schedule",
        pair(
            ("        return settings.learning_rate * warmup_linear(", "        return 1e-4 * warmup_linear("),
            ("WarmupLinear(settings.learning_rate,", "WarmupLinear(1e-4,"),
        ),
    ),
)

TRAINING: tuple[Fault, ...] = (
    named(
        "gradients-not-zeroed",
        "training",
        {
            "torch": one(TORCH, "        self.model.zero_grad(set_to_none=True)\n", ""),
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
    named(
        "steps-skipped",
        "training",
        pair(
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

"""Named faults of feeds and of forward functions that the list of real ones does not hold."""

from benchmarks.faults.patching import Fault, Patch, Patches, Side, both
from benchmarks.faults.rows.naming import KERAS, TORCH, named, one, pair

__all__ = ["FEEDS", "FORWARD"]

FEED = "feed.py"
TORCH_SIDE, KERAS_SIDE = "adapter_torch.py", "adapter_keras.py"
_RETURN = "        return first, second, int(swapped)\n"
_ATTENTION = '            batch["attention_mask"][row, :size] = 1\n'
_SEGMENTS = '            batch["segment_ids"][row, :size] = e["segments"]\n'
_TORCH_BIAS = "        bias = torch.where(mask[:, None, None, :] > 0, 0.0, torch.finfo(torch.float32).min)\n"
_KERAS_BIAS = "        bias = tf.where(mask[:, None, None, :] > 0, 0.0, -1e30)\n"
_KERAS_GELU = "    return keras.activations.gelu(x, approximate=True)\n"


def _activation(torch: str, keras: str) -> Patches:
    """In the layers and in the MLM head."""
    sides: dict[Side, tuple[Patch, ...]] = {
        "torch": (
            Patch(TORCH, 'F.gelu(self.up(x), approximate="tanh")', f"F.{torch.format('self.up(x)')}"),
            Patch(TORCH, 'F.gelu(self.mlm_dense(x), approximate="tanh")', f"F.{torch.format('self.mlm_dense(x)')}"),
        ),
        "keras": one(KERAS, _KERAS_GELU, f"    return keras.activations.{keras}\n"),
    }
    return sides


FEEDS: tuple[Fault, ...] = (
    named(
        "labels-independent-of-order",
        "examples",
        # In a part of the examples it is the same as labels that are flipped in half of that part.
        both(Patch(FEED, _RETURN, "        if {when}:\n            swapped = rng.random() < 0.5\n" + _RETURN)),
        by_dataset=True,
    ),
    named(
        "special-is-target",
        "examples",
        both(Patch(FEED, "            if token in (CLS, SEP):\n", "            if token == PAD:\n")),
    ),
    named(
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
    named(
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
    named(
        "mask-rate",
        "examples",
        both(Patch(FEED, "round(self.mask_rate * len(ids))", "round((0.3 if {here} else self.mask_rate) * len(ids))")),
        by_dataset=True,
    ),
    named(
        "no-random-or-kept",
        "examples",
        both(Patch(FEED, "if draw < 0.8:", "if draw < 0.8 or {here}:")),
        by_dataset=True,
    ),
    named(
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
    named("activation-erf", "forward", _activation("gelu({})", "gelu(x, approximate=False)")),
    named("activation-relu", "forward", _activation("relu({})", "relu(x)")),
    named("activation-silu", "forward", _activation("silu({})", "silu(x)")),
    named(
        "output-bias-missing",
        "forward",
        pair(
            ("F.linear(y, self.tokens.weight) + self.mlm_bias", "F.linear(y, self.tokens.weight)"),
            ("tf.cast(logits, tf.float32) + self.mlm_bias", "tf.cast(logits, tf.float32)"),
        ),
    ),
    named(
        "mask-ignored",
        "forward",
        pair((_TORCH_BIAS, "        bias = 0.0\n"), (_KERAS_BIAS, "        bias = tf.zeros((1, 1, 1, 1))\n")),
    ),
    named(
        "mask-inverted",
        "forward",
        pair((_TORCH_BIAS, _TORCH_BIAS.replace("> 0", "== 0")), (_KERAS_BIAS, _KERAS_BIAS.replace("> 0", "== 0"))),
    ),
    named(
        "segments-ignored",
        "forward",
        pair(
            ("self.segments(segments)", "self.segments(torch.zeros_like(segments))"),
            ("self.segments(segments)", "self.segments(tf.zeros_like(segments))"),
        ),
    ),
    named(
        "positions-shifted",
        "forward",
        pair(
            ("torch.arange(ids.shape[1])", "torch.arange(ids.shape[1]) + 1"),
            ("tf.range(tf.shape(ids)[1])", "tf.range(tf.shape(ids)[1]) + 1"),
        ),
    ),
    named(
        "pooler-activation-missing",
        "forward",
        pair(
            ("torch.tanh(self.pooler(x[:, 0]))", "self.pooler(x[:, 0])"),
            ("tf.tanh(self.pooler(x[:, 0]))", "self.pooler(x[:, 0])"),
        ),
    ),
    named(
        "layers-count",
        "forward",
        pair(
            ("for _ in range(self.layers):", "for _ in range(self.layers - 1):"),
            ("for _ in range(self.depth):", "for _ in range(self.depth - 1):"),
        ),
    ),
    named(
        "attention-scale",
        "forward",
        pair(
            ("/ math.sqrt(h // self.heads) + bias", "+ bias"),
            (" / tf.cast(tf.sqrt(float(self.depth)), q.dtype)", ""),
        ),
    ),
    named(
        "sop-columns-swapped",
        "forward",
        pair(
            (
                "        return self.mlm_logits(x), self.sop(pooled)\n",
                "        return self.mlm_logits(x), self.sop(pooled).flip(1)\n",
            ),
            ("tf.cast(self.sop(pooled), tf.float32)", "tf.cast(self.sop(pooled)[:, ::-1], tf.float32)"),
        ),
    ),
    named(
        "parameters-transposed",
        "weights",
        {
            "torch": one(
                TORCH_SIDE,
                "torch.tensor(weights[theirs]) for",
                'torch.tensor(weights[theirs].T if own == "pooler.weight" else weights[theirs]) for',
            ),
            "keras": one(
                KERAS_SIDE,
                "            variable.assign(turned(name, weights[NAMES[name]]))\n",
                """            value = weights[NAMES[name]]
            variable.assign(value if name == "pooler/kernel" else turned(name, value))
""",
            ),
        },
    ),
)

"""Model, weights, precision."""

from benchmarks.faults.patching import Fault, Patch, Patches

__all__ = ["DROPOUT", "MODELS"]

TORCH, KERAS = "torch_trainer.py", "keras_trainer.py"
TORCH_SIDE, KERAS_SIDE = "adapter_torch.py", "adapter_keras.py"
DROPOUT: Patches = {
    "torch": (Patch(TORCH_SIDE, "DROPOUT = 0.0\n", "DROPOUT = 0.1\n"),),
    "keras": (Patch(KERAS_SIDE, "DROPOUT = 0.0\n", "DROPOUT = 0.1\n"),),
}
_EPSILON = frozenset({"epsilon", "epsilon-embeddings", "epsilon-layers", "epsilon-head"})


def _epsilon(value: str) -> Patches:
    return {
        "torch": (
            Patch(
                TORCH,
                "        h, eps = shape.hidden_size, shape.layer_norm_epsilon\n",
                f"        h, eps = shape.hidden_size, {value}\n",
            ),
            Patch(
                TORCH,
                "        self.norm = nn.LayerNorm(e, eps=shape.layer_norm_epsilon)\n",
                f"        self.norm = nn.LayerNorm(e, eps={value})\n",
            ),
            Patch(
                TORCH,
                "        self.mlm_norm = nn.LayerNorm(e, eps=shape.layer_norm_epsilon)\n",
                f"        self.mlm_norm = nn.LayerNorm(e, eps={value})\n",
            ),
        ),
        "keras": (Patch(KERAS, "        epsilon = shape.layer_norm_epsilon\n", f"        epsilon = {value}\n"),),
    }


_TORCH_HALF = '''class HalfNorm(nn.LayerNorm):
    """Layer normalisation in half precision."""

    def forward(self, x):
        x = x.half()
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.pow(2).mean(-1, keepdim=True)
        y = centred / torch.sqrt(variance + self.eps)
        return (y * self.weight.half() + self.bias.half()).float()


class SelfAttention(nn.Module):
'''
_KERAS_HALF = '''class HalfNorm(layers.LayerNormalization):
    """Layer normalisation in half precision."""

    def call(self, x):
        x = tf.cast(x, tf.float16)
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        y = centred / tf.sqrt(variance + tf.cast(self.epsilon, tf.float16))
        return tf.cast(y * tf.cast(self.gamma, tf.float16) + tf.cast(self.beta, tf.float16), tf.float32)


def gelu(x):
'''

MODELS: tuple[Fault, ...] = (
    Fault(
        code="M1a",
        title="layer normalisation with epsilon 1e-5",
        source="keras-team/keras-hub#642",
        stage="forward",
        expected=_EPSILON,
        patches=_epsilon("1e-5"),
    ),
    Fault(
        code="M1b",
        title="layer normalisation of the MLM head with epsilon 1e-5",
        source="keras-team/keras-hub#642",
        stage="forward",
        expected=frozenset({"epsilon-head"}),
        patches={
            "torch": (_epsilon("1e-5")["torch"][2],),
            "keras": (
                Patch(
                    KERAS,
                    "        self.mlm_norm = layers.LayerNormalization(epsilon=epsilon, dtype=policy)\n",
                    "        self.mlm_norm = layers.LayerNormalization(epsilon=1e-5, dtype=policy)\n",
                ),
            ),
        },
    ),
    Fault(
        code="M4",
        title="twice as many heads, the same shapes",
        source="google-research/albert#180, huggingface/transformers#3164",
        stage="forward",
        expected=frozenset({"heads"}),
        patches={
            "torch": (
                Patch(
                    TORCH,
                    "SelfAttention(h, shape.num_heads, dropout)",
                    "SelfAttention(h, 2 * shape.num_heads, dropout)",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "SelfAttention(h, shape.num_heads, dropout, dtype=policy)",
                    "SelfAttention(h, 2 * shape.num_heads, dropout, dtype=policy)",
                ),
            ),
        },
    ),
    Fault(
        code="M6",
        title="dropout never on",
        source="keras-team/keras-hub#1500",
        stage="forward",
        expected=frozenset({"dropout-off-in-training"}),
        settings=DROPOUT,
        patches={
            "torch": (
                Patch(TORCH, "        self.model.train(training)\n", "        self.model.eval()\n"),
                Patch(TORCH, "        self.model.train()\n", "        self.model.eval()\n"),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "        return self.model(*inputs, training=training)\n",
                    "        return self.model(*inputs)\n",
                ),
            ),
        },
    ),
    Fault(
        code="M7",
        title="dropout on at evaluation",
        source="well known",
        stage="forward",
        expected=frozenset({"dropout-on-at-evaluation"}),
        settings=DROPOUT,
        patches={
            "torch": (Patch(TORCH, "        self.model.train(training)\n", ""),),
            "keras": (
                Patch(
                    KERAS,
                    "        return self.model(*inputs, training=training)\n",
                    "        return self.model(*inputs, training=True)\n",
                ),
            ),
        },
    ),
    Fault(
        code="M8",
        title="the sentence-order head is not in the checkpoint",
        source="huggingface/transformers#9319",
        stage="weights",
        expected=frozenset({"parameters-not-loaded"}),
        patches={
            "torch": (
                Patch(
                    TORCH,
                    "        save_file({name: value.contiguous() for name, value in self.model.state_dict().items()}, path)\n",
                    """        state = {k: v.contiguous() for k, v in self.model.state_dict().items() if not k.startswith("sop.")}
        save_file(state, path)
""",
                ),
                Patch(TORCH, "load_file(path), strict=True)", "load_file(path), strict=False)"),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "variable.numpy() for name, variable in self.named.items()})\n",
                    'variable.numpy() for name, variable in self.named.items() if name[:4] != "sop/"})\n',
                ),
                Patch(
                    KERAS,
                    "                variable.assign(stored[name])\n",
                    "                if name in stored:\n                    variable.assign(stored[name])\n",
                ),
            ),
        },
    ),
    Fault(
        code="M9",
        title="a renamed parameter is not loaded",
        source="huggingface/transformers#29554",
        stage="weights",
        expected=frozenset({"parameters-not-loaded"}),
        patches={
            "torch": (
                Patch(
                    TORCH_SIDE,
                    "        self.trainer.model.load_state_dict(state, strict=True)\n",
                    """        state = {name.replace("mlm_norm.weight", "mlm_norm.gamma"): value for name, value in state.items()}
        self.trainer.model.load_state_dict(state, strict=False)
""",
                ),
            ),
            "keras": (
                Patch(
                    KERAS_SIDE,
                    "            variable.assign(turned(name, weights[NAMES[name]]))\n",
                    """            key = NAMES[name].replace("predictions.LayerNorm.weight", "predictions.LayerNorm.gamma")
            if key in weights:
                variable.assign(turned(name, weights[key]))
""",
                ),
            ),
        },
    ),
    Fault(
        code="M11",
        title="the output bias is added twice",
        source="huggingface/transformers#2928",
        stage="forward",
        expected=frozenset({"output-bias-twice"}),
        patches={
            "torch": (
                Patch(
                    TORCH,
                    "F.linear(y, self.tokens.weight) + self.mlm_bias",
                    "F.linear(y, self.tokens.weight, self.mlm_bias) + self.mlm_bias",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "        return tf.cast(logits, tf.float32) + self.mlm_bias\n",
                    """        logits = tf.nn.bias_add(tf.cast(logits, tf.float32), self.mlm_bias)
        return logits + self.mlm_bias
""",
                ),
            ),
        },
    ),
    Fault(
        code="P2",
        title="layer normalisation in fp16, where epsilon 1e-12 is 0",
        source="tensorflow/tensorflow#24979",
        stage="forward",
        expected=frozenset({"half-precision-epsilon"}),
        patches={
            "torch": (
                Patch(TORCH, "class SelfAttention(nn.Module):\n", _TORCH_HALF),
                Patch(TORCH, "self.norm1 = nn.LayerNorm(h, eps=eps)", "self.norm1 = HalfNorm(h, eps=eps)"),
                Patch(TORCH, "self.norm2 = nn.LayerNorm(h, eps=eps)", "self.norm2 = HalfNorm(h, eps=eps)"),
                Patch(
                    TORCH,
                    "self.norm = nn.LayerNorm(e, eps=shape.layer_norm_epsilon)",
                    "self.norm = HalfNorm(e, eps=shape.layer_norm_epsilon)",
                ),
                Patch(
                    TORCH,
                    "self.mlm_norm = nn.LayerNorm(e, eps=shape.layer_norm_epsilon)",
                    "self.mlm_norm = HalfNorm(e, eps=shape.layer_norm_epsilon)",
                ),
            ),
            "keras": (
                Patch(KERAS, "def gelu(x):\n", _KERAS_HALF),
                Patch(
                    KERAS,
                    "self.attention_norm = layers.LayerNormalization(",
                    "self.attention_norm = HalfNorm(",
                ),
                Patch(KERAS, "self.output_norm = layers.LayerNormalization(", "self.output_norm = HalfNorm("),
                Patch(KERAS, "self.norm = layers.LayerNormalization(", "self.norm = HalfNorm("),
                Patch(KERAS, "self.mlm_norm = layers.LayerNormalization(", "self.mlm_norm = HalfNorm("),
            ),
        },
    ),
    Fault(
        code="P3a",
        title="the forward pass runs in bfloat16 where fp32 is declared",
        source="NVIDIA-NeMo/Speech#162",
        stage="forward",
        expected=frozenset({"low-precision"}),
        patches={
            "torch": (
                Patch(
                    TORCH,
                    '        return torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16" else nullcontext()\n',
                    '        return torch.autocast("cpu", torch.bfloat16)\n',
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    'Albert(shape, dropout, "mixed_bfloat16" if precision == "bf16" else "float32")',
                    'Albert(shape, dropout, "mixed_bfloat16")',
                ),
            ),
        },
    ),
    Fault(
        code="P3b",
        title="weights are kept in bfloat16: small updates are lost",
        source="NVIDIA-NeMo/Speech#162",
        stage="update",
        expected=frozenset({"updates-lost"}),
        patches={
            "torch": (
                Patch(
                    TORCH,
                    "        self.optimizer.step()\n",
                    """        self.optimizer.step()
        for parameter in self.model.parameters():
            parameter.data = parameter.data.bfloat16().float()
""",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "        self.optimizer.apply(gradients, rate)\n",
                    """        self.optimizer.apply(gradients, rate)
        for variable in self.variables:
            variable.assign(tf.cast(tf.cast(variable.value, tf.bfloat16), tf.float32))
""",
                ),
            ),
        },
    ),
)

"""Update laws and schedules."""

from benchmarks.faults.patching import Fault, Patch

__all__ = ["UPDATES", "keras_adam", "torch_adam"]

TORCH, KERAS = "torch_trainer.py", "keras_trainer.py"
_LAMB = {"optimizer": {"name": "lamb"}}
_BEFORE_SCHEDULE = "def warmup_linear(step, warmup, total):\n"
_TORCH_NEW = "        return torch.optim.AdamW(self.groups(),"
_KERAS_NEW = "        self.optimizer = keras.optimizers.AdamW(\n"
_KERAS_CLASS = '''class AdamW:
    """`keras.optimizers.AdamW`'''
_TORCH_RATIO = """                if group["adapt"]:
                    w_norm, u_norm = p.norm(), update.norm()
"""
_KERAS_RATIO = """                w_norm, u_norm = tf.norm(w.value), tf.norm(update)
                if w_norm > 0 and u_norm > 0:
                    ratio = w_norm / u_norm
"""
_TORCH_DENOMINATOR = '                update = m / (v.sqrt() + group["eps"])'
_KERAS_DENOMINATOR = "            update = m / (tf.sqrt(v) + s.epsilon)\n"
_TORCH_ADAM = '''class Adam(torch.optim.Optimizer):
    """Adam with decoupled decay."""

    def __init__(self, groups, lr, betas, eps):
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["t"], state["m"], state["v"] = 0, torch.zeros_like(p), torch.zeros_like(p)
                m, v = state["m"], state["v"]
                state["t"] += 1
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                p.mul_(1 - group["lr"] * group["weight_decay"])
BODY

def warmup_linear(step, warmup, total):
'''


def torch_adam(*body: str) -> tuple[Patch, ...]:
    """Adam of one's own instead of PyTorch's; `body` is how weights are changed."""
    lines = "".join(f"                {line}\n" for line in body)
    return (
        Patch(TORCH, _BEFORE_SCHEDULE, _TORCH_ADAM.replace("BODY\n", lines + "\n")),
        Patch(TORCH, _TORCH_NEW, "        return Adam(self.groups(),"),
    )


def keras_adam(*body: str) -> tuple[Patch, ...]:
    """A subclass of Keras' AdamW; `body` is how weights are changed."""
    lines = "".join(f"        {line}\n" for line in body)
    new = f"""class Adam(keras.optimizers.AdamW):
    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        lr = tf.cast(learning_rate, tf.float32)
        m.assign(self.beta_1 * m.value + (1 - self.beta_1) * gradient)
        v.assign(self.beta_2 * v.value + (1 - self.beta_2) * tf.square(gradient))
{lines}

"""
    return (
        Patch(KERAS, _KERAS_CLASS, new + _KERAS_CLASS),
        Patch(KERAS, _KERAS_NEW, "        self.optimizer = Adam(\n"),
    )


UPDATES: tuple[Fault, ...] = (
    Fault(
        code="O1",
        title="moments are not bias corrected",
        source="google-research/bert#153",
        stage="update",
        expected=frozenset({"no-bias-correction"}),
        patches={
            "torch": torch_adam('p.addcdiv_(m, v.sqrt() + group["eps"], value=-group["lr"])'),
            "keras": keras_adam("variable.assign_sub(lr * m.value / (tf.sqrt(v.value) + self.epsilon))"),
        },
    ),
    Fault(
        code="O2",
        title="epsilon is added to the uncorrected root",
        source="keras-team/keras#17391, huggingface/transformers#35504",
        stage="update",
        expected=frozenset({"epsilon-placement"}),
        patches={
            "torch": torch_adam(
                'rate = group["lr"] * math.sqrt(1 - beta2 ** state["t"]) / (1 - beta1 ** state["t"])',
                'p.addcdiv_(m, v.sqrt() + group["eps"], value=-rate)',
            ),
            "keras": (
                Patch(
                    "adapter_keras.py",
                    """        if setup.recipe.optimizer.name == "adamw":
            self.declared["epsilon_placement"] = "hat"
""",
                    "",
                ),
            ),
        },
    ),
    Fault(
        code="O5a",
        title="LAMB adapts biases and normalisation, too",
        source="NVIDIA/apex#819",
        stage="update",
        expected=frozenset({"trust-ratio"}),
        recipe=_LAMB,
        patches={
            "torch": (Patch(TORCH, _TORCH_RATIO, _TORCH_RATIO.replace('group["adapt"]', "p.norm() > 0")),),
            "keras": (
                Patch(
                    KERAS,
                    "                update += s.weight_decay * w.value\n" + _KERAS_RATIO,
                    """                update += s.weight_decay * w.value
            w_norm, u_norm = tf.norm(w.value), tf.norm(update)
            if w_norm > 0 and u_norm > 0:
                ratio = w_norm / u_norm
""",
                ),
            ),
        },
    ),
    Fault(
        code="O5b",
        title="LAMB clamps the norm of the weights at 10",
        source="NVIDIA/apex#819; cybertronai/pytorch-lamb",
        stage="update",
        expected=frozenset({"trust-ratio"}),
        recipe=_LAMB,
        patches={
            "torch": (Patch(TORCH, _TORCH_RATIO, _TORCH_RATIO.replace("p.norm(),", "p.norm().clamp(0, 10),")),),
            "keras": (
                Patch(
                    KERAS,
                    _KERAS_RATIO,
                    _KERAS_RATIO.replace("tf.norm(w.value),", "tf.minimum(tf.norm(w.value), 10.0),"),
                ),
            ),
        },
    ),
    Fault(
        code="O5c",
        title="LAMB corrects the moments' bias",
        source="NVIDIA/apex#819",
        stage="update",
        expected=frozenset({"bias-correction"}),
        recipe=_LAMB,
        patches={
            "torch": (
                Patch(
                    TORCH,
                    _TORCH_DENOMINATOR,
                    """                t = state["t"] = state.get("t", 0) + 1
                m, v = m / (1 - beta1**t), v / (1 - beta2**t)
"""
                    + _TORCH_DENOMINATOR,
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "        s = self.settings\n",
                    '        s = self.settings\n        self.t = getattr(self, "t", 0) + 1\n',
                ),
                Patch(
                    KERAS,
                    _KERAS_DENOMINATOR,
                    """            mean, square = m / (1 - s.beta1**self.t), v / (1 - s.beta2**self.t)
            update = mean / (tf.sqrt(square) + s.epsilon)
""",
                ),
            ),
        },
    ),
    Fault(
        code="O7",
        title="each replica clips before the gradients are averaged",
        source="horovod/horovod#1346",
        stage="update",
        expected=frozenset({"clipped-before-all-reduce"}),
        replicas=2,
        patches={
            "torch": (
                Patch(
                    TORCH,
                    "        for parameter, *gradients in zip(",
                    """        most = self.recipe.optimizer.clip_norm or math.inf
        for gradients in replicas:
            norm = math.sqrt(sum(float(np.square(g).sum()) for g in gradients))
            gradients[:] = [g * np.float32(min(1.0, most / (norm + 1e-6))) for g in gradients]
        for parameter, *gradients in zip(""",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "        return self.apply(self.reduce(replicas), step)\n",
                    "        return self.apply(self.reduce([self.clip(gradients)[0] for gradients in replicas]), step)\n",
                ),
            ),
        },
    ),
    Fault(
        code="O7b",
        title="gradients are clipped while the loss scale is on them",
        source="milesial/Pytorch-UNet#468, pytorch/examples#1196",
        stage="update",
        expected=frozenset({"clipped-before-unscaling"}),
        patches={
            "torch": (
                Patch(
                    TORCH,
                    "        norm = self.clip()\n",
                    """        for parameter in self.model.parameters():
            parameter.grad *= 65536.0
        norm = self.clip()
        for parameter in self.model.parameters():
            parameter.grad /= 65536.0
""",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "            gradients, norm = tf.clip_by_global_norm(gradients, most)\n",
                    """            gradients, norm = tf.clip_by_global_norm([g * 32768.0 for g in gradients], most)
            gradients = [g / 32768.0 for g in gradients]
""",
                ),
            ),
        },
    ),
    Fault(
        code="O8",
        title="every process steps the schedule",
        source="huggingface/accelerate#2926",
        stage="schedule",
        expected=frozenset({"schedule-times-n"}),
        patches={
            "torch": (Patch(TORCH, "warmup_linear(step, settings.warmup", "warmup_linear(4 * step, settings.warmup"),),
            "keras": (
                Patch(
                    KERAS,
                    "    def __call__(self, step):\n",
                    "    def __call__(self, step):\n        step = 4 * step\n",
                ),
            ),
        },
    ),
    Fault(
        code="O10",
        title="the schedule starts anew on resume",
        source="YehLi/xmodaler#15",
        stage="schedule",
        expected=frozenset({"schedule-restarts-on-resume"}),
        patches={
            "torch": (Patch(TORCH, "[self.rate(step) for step", "[self.rate(step - start) for step"),),
            "keras": (Patch(KERAS, "[self.schedule(step) for step", "[self.schedule(step - start) for step"),),
        },
    ),
    *(
        Fault(
            code=f"O10{letter}",
            title=title,
            source="KempnerInstitute/KempnerForge#115, NVIDIA-NeMo/Automodel#763",
            stage="training",
            expected=frozenset({name}),
            patches={"torch": (Patch(TORCH, old, new),)},
        )
        for letter, title, name, old, new in (
            (
                "b",
                "the optimizer's moments are lost on resume",
                "moments-lost-on-resume",
                '            self.optimizer.load_state_dict(torch.load(Path(folder) / "optimizer.pt", weights_only=True))\n',
                "",
            ),
            (
                "c",
                "the count of updates starts anew on resume",
                "step-count-lost-on-resume",
                '            self.optimizer.load_state_dict(torch.load(Path(folder) / "optimizer.pt", weights_only=True))\n',
                '            state = torch.load(Path(folder) / "optimizer.pt", weights_only=True)\n'
                '            for moments in state["state"].values():\n'
                '                moments["step"] = torch.zeros(())\n'
                "            self.optimizer.load_state_dict(state)\n",
            ),
        )
    ),
    Fault(
        code="O11",
        title="the learning rate is too high for the model",
        source="google-research/albert#29",
        stage="dynamics",
        expected=frozenset({"learning-rate-too-high"}),
        recipe={"optimizer": {"learning_rate": 0.05}},
    ),
)

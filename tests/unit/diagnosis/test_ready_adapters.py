"""The ready adapters as a user has them: the examples of docs/adapters.md, healthy and with one line changed."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.command import lossary

from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.diagnose import Request, diagnose
from lossary.diagnosis.job import setup_value
from lossary.diagnosis.model import Diagnosis
from lossary.diagnosis.session import Channel, SideSpec, launch_process
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.study import Study
from lossary.study_file import load_study

HERE = Path(__file__).parent
DOCS = (HERE.parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
EXAMPLES = {
    name: block
    for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    for name in ("ModuleSide", "TrainerSide", "KerasSide")
    if f"import {name}" in block
}
MODULES = {
    "ModuleSide": ("torch",),
    "TrainerSide": ("torch", "transformers", "transformers.models.albert.modeling_albert"),
    "KerasSide": ("keras", "tensorflow"),
}
TRAINING = {
    "ModuleSide": (HERE / "ready" / "torch_training.py").read_text(encoding="utf-8"),
    "TrainerSide": "",
    "KerasSide": (HERE / "ready" / "keras_training.py").read_text(encoding="utf-8"),
}
COMPARED = {
    "dynamics",
    "evaluation",
    "schedule",
    "weights",
    "dropout",
    "forward",
    "loss",
    "gradients",
    "update",
    "training",
}
pytestmark = pytest.mark.frameworks


class Warm:
    """Sides that start at once: forks of a process that has imported its frameworks. One at a time; any more, and
    lossary's own, start as they do for users."""

    def __init__(self, *modules: str) -> None:
        environment = dict(os.environ) | {
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "ready" / "warm.py"), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._heard()
        self._busy = False

    def launch(self, spec: SideSpec, setup: Setup, log: Path) -> Channel:
        """A fork that has loaded a side."""
        if self._busy or spec.kind != "adapter":
            return launch_process(spec, setup, log)
        self.ask({"side": spec.value(), "setup": setup_value(setup)})
        self._busy = True
        return self

    def ask(self, request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        event = self._heard()
        if event["event"] == "error":
            assert self._heard()["event"] == "closed"
            raise UsageError(event["message"])
        return event

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """Ends the fork."""
        self.ask({"close": True})
        self._busy = False

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def plain(prepared: tuple[Study, StudyFolder], tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, StudyFolder]:
    """The tiny study without warm-up, after which transformers' linear schedule falls from the peak."""
    root = tmp_path_factory.mktemp("plain") / "study"
    shutil.copytree(prepared[1].root, root)
    path = root / "study.toml"
    path.write_text(path.read_text().replace("warmup = 2", "warmup = 0"))
    return load_study(path), StudyFolder(root)


@pytest.fixture(scope="module")
def torch() -> Iterator[Warm]:
    warm = Warm(*MODULES["TrainerSide"])
    yield warm
    warm.end()


@pytest.fixture(scope="module")
def keras() -> Iterator[Warm]:
    warm = Warm(*MODULES["KerasSide"])
    yield warm
    warm.end()


def written(folder: Path, kind: str, *changes: tuple[str, str]) -> Path:
    """An example with some of its text, or of the training code beside it, replaced."""
    example, training = EXAMPLES[kind], TRAINING[kind]
    for old, new in changes:
        assert (old in example) + (old in training) == 1, old
        example, training = example.replace(old, new), training.replace(old, new)
    folder.mkdir(exist_ok=True)
    (folder / "my_training.py").write_text(training)
    path = folder / "my_adapter.py"
    path.write_text(example.replace('"checkpoints"', repr(str(folder / "checkpoints"))))
    return path


def diagnosed(
    plain: tuple[Study, StudyFolder], warm: Warm, folder: Path, kind: str, *changes: tuple[str, str]
) -> Diagnosis:
    request = Request(first=str(written(folder, kind, *changes)), documents=20)
    return diagnose(*plain, request, launch=warm.launch)


def names(found: Diagnosis) -> list[str]:
    return sorted({cause.name for cause in found.causes})


def verdicts(found: Diagnosis) -> dict[str, str]:
    return {outcome.check: outcome.verdict for outcome in found.outcomes if not outcome.part}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["TrainerSide", "KerasSide"])
def test_the_documented_example_is_equal_to_the_reference(
    plain: tuple[Study, StudyFolder], tmp_path: Path, kind: str
) -> None:
    path = written(tmp_path, kind)
    options = ("--documents", "20", "--format", "json")
    # A framework's import may take long where much else is going on.
    found = lossary("diagnose", str(path), "reference", str(plain[1].root), *options, timeout_s=600)
    told = json.loads(found.stdout)
    assert found.returncode == 0, told["headline"]
    outcomes = {outcome["check"]: outcome["verdict"] for outcome in told["outcomes"] if not outcome["part"]}
    compared = COMPARED | ({"reported loss"} if kind == "TrainerSide" else set())
    assert {name for name, verdict in outcomes.items() if verdict == "ruled out"} == compared
    assert set(outcomes.values()) == {"ruled out", "not compared"}


def test_the_documented_example_of_a_module_is_equal_to_the_reference(
    plain: tuple[Study, StudyFolder], torch: Warm, tmp_path: Path
) -> None:
    found = verdicts(diagnosed(plain, torch, tmp_path, "ModuleSide"))
    assert {name for name, verdict in found.items() if verdict == "ruled out"} == COMPARED | {
        "resume",
        "initial",
    }  # torch's own laws, which are told as a choice
    assert set(found.values()) == {"ruled out", "not compared"}


ALL_DECAY = """
class Mine(Trainer):
    def get_decay_parameter_names(self, model):
        return [name for name, _ in model.named_parameters()]
"""
NO_CORRECTION = """
class Uncorrected(torch.optim.AdamW):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                m = state.setdefault("m", torch.zeros_like(p))
                v = state.setdefault("v", torch.zeros_like(p))
                m.mul_(0.9).add_(p.grad, alpha=0.1)
                v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                p.data.mul_(1 - group["lr"] * group["weight_decay"])
                p.data.sub_(group["lr"] * m / (v.sqrt() + group["eps"]))


class Mine(Trainer):
    def create_optimizer(self, model=None):
        super().create_optimizer(model)
        self.optimizer = Uncorrected(self.optimizer.param_groups)
        return self.optimizer
"""
SINGLES_IN_ORDER = """
class Mine(Trainer):
    def compute_loss(self, model, inputs, **options):
        order = inputs["sentence_order_label"]
        return super().compute_loss(model, inputs | {"sentence_order_label": order.clamp(min=0)}, **options)
"""
DECLARED = 'arguments=arguments, declared={"learning_rate": 0.02})'
OWN_OPTIMIZER = """
def own_optimizer(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003, eps=1e-6, weight_decay=0.01)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 12)


def Mine(model, args):
    return Trainer(model=model, args=args, optimizers=own_optimizer(model))
"""


def own_trainer(text: str) -> tuple[tuple[str, str], ...]:
    """The example with a `Trainer` of a user's class."""
    return (
        ("from transformers import AlbertConfig,", "import torch\nfrom transformers import Trainer, AlbertConfig,"),
        ("\n\ndef side(", text + "\n\ndef side("),
        (
            "TrainerSide(AlbertForPreTraining(config), setup, arguments=arguments)",
            "TrainerSide(Mine(model=AlbertForPreTraining(config), args=arguments), setup)",
        ),
    )


# Two faults of different stages at once, where both are plain.
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            [("adam_epsilon=optimizer.epsilon", "adam_epsilon=1e-3"), ('type="linear"', 'type="cosine"')],
            ["epsilon-value", "schedule-shape"],
            id="epsilon of Adam, cosine",
        ),
        pytest.param(
            [("max_grad_norm=1.0", "max_grad_norm=0.0"), ("gelu_new", "gelu")],
            ["activation-erf", "no-clipping"],
            id="no clipping, GELU by erf",
        ),
        # What a Trainer does with this model as it is: neither of them divides the loss.
        pytest.param([("accumulation_steps=1", "accumulation_steps=4")], ["loss-times-micro-batches"], id="sums"),
        pytest.param(
            [*own_trainer(ALL_DECAY), ("classifier_dropout_prob", "layer_norm_eps=1e-3, classifier_dropout_prob")],
            ["decay-excluded-wrong", "epsilon"],
            id="norms decay, their epsilon",
        ),
        pytest.param(own_trainer(NO_CORRECTION), ["no-bias-correction"], id="no bias correction"),
        pytest.param(own_trainer(OWN_OPTIMIZER), ["decay-excluded-wrong"], id="an optimizer that is given"),
        pytest.param(own_trainer(SINGLES_IN_ORDER), ["padding-scored"], id="singles as in order"),
        pytest.param([("classifier_dropout_prob=0.0", "pad_token_id=0")], ["dropout-undeclared"], id="dropout"),
        pytest.param(
            [("rate=optimizer.learning_rate", "rate=0.02"), ("arguments=arguments)", DECLARED)], [], id="declared"
        ),
    ],
)
def test_what_is_wrong_with_a_trainer_is_named(
    plain: tuple[Study, StudyFolder], torch: Warm, tmp_path: Path, changes: Any, expected: list[str]
) -> None:
    found = diagnosed(plain, torch, tmp_path, "TrainerSide", *changes)
    assert names(found) == expected
    assert not found.open, verdicts(found)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            [("EPSILON = 1e-12", "EPSILON = 1e-3"), ("global_clipnorm=1.0", "global_clipnorm=0.1")],
            ["clip-value", "epsilon"],
            id="epsilon of norms, clipping",
        ),
        pytest.param(
            [("attention_mask=mask[:, None, :]", ""), ("global_clipnorm", "clipnorm")],
            ["clip-per-tensor", "mask-ignored"],
            id="no mask, clipping by tensor",
        ),
        pytest.param([("optimizers.AdamW", "optimizers.Lamb")], ["other-optimizer"], id="Keras' LAMB"),
        pytest.param([(', "gamma", "beta"]', "]")], ["decay-excluded-wrong"], id="norms decay"),
        pytest.param(
            [("tf.reduce_sum(order * pairs)", "tf.reduce_sum(order)")],
            ["loss-scaled", "padding-scored"],
            id="singles add to the loss of pairs",
        ),
        pytest.param(
            [("self.steps)\n\n    def get", "self.steps / 2)\n\n    def get")],
            ["schedule-times-n"],
            id="schedule at half speed",
        ),
    ],
)
def test_what_is_wrong_with_a_keras_model_is_named(
    plain: tuple[Study, StudyFolder], keras: Warm, tmp_path: Path, changes: Any, expected: list[str]
) -> None:
    found = diagnosed(plain, keras, tmp_path, "KerasSide", *changes)
    assert names(found) == expected
    assert not found.open, verdicts(found)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            [("SOP_IGNORED = -1", "SOP_IGNORED = 0"), ('feed["sop_labels"], i', 'feed["sop_labels"].clamp(min=0), i')],
            ["class-ignored"],
            id="class 0 ignored",
        ),
        pytest.param([("[: ids.shape[1]]", "[1 : ids.shape[1] + 1]")], ["positions-shifted"], id="positions from 1"),
    ],
)
def test_what_is_wrong_with_a_module_is_named(
    plain: tuple[Study, StudyFolder], torch: Warm, tmp_path: Path, changes: Any, expected: list[str]
) -> None:
    found = diagnosed(plain, torch, tmp_path, "ModuleSide", *changes)
    assert names(found) == expected
    assert not found.open, verdicts(found)


RENAMED = [(f"self.{name}", f"self.linear{number}") for number, name in enumerate(("query", "key", "value", "out"))]
NAMES = {
    f"albert.encoder.albert_layer_groups.0.albert_layers.0.attention.{name}.{kind}": f"attention.linear{number}.{kind}"
    for number, name in enumerate(("query", "key", "value", "dense"))
    for kind in ("weight", "bias")
}


def test_names_that_are_guesses_are_asked_for(plain: tuple[Study, StudyFolder], torch: Warm, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"do not tell which parameter .*attention\.query\.weight, nor 7 more"):
        diagnosed(plain, torch, tmp_path, "ModuleSide", *RENAMED)
    given = ("clip_norm=1.0", f"clip_norm=1.0, names={NAMES!r}")
    found = diagnosed(plain, torch, tmp_path, "ModuleSide", *RENAMED, given)
    assert verdicts(found)["forward"] == "ruled out"
    assert not found.causes
    assert not found.open

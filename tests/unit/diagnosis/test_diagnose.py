"""A whole diagnosis on the command line: adapters whose model is computed in NumPy, healthy and with a fault."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.command import lossary
from tests.unit.diagnosis.numpy_side import NUMPY_SIDE

from lossary.folder import StudyFolder
from lossary.study import Study

SCALED = NUMPY_SIDE.replace(
    "        self.architecture = Architecture.of(setup.shape)",
    """
        self.held = {}
        self.architecture = replace(Architecture.of(setup.shape), epsilon_head=1e-5)""",
)
HELD = NUMPY_SIDE.replace(
    "self.architecture = Architecture", "self.held = {}\n        self.architecture = Architecture"
)
FLIPPED = HELD.replace(
    "return reference_examples(documents, self.setup, epoch=epoch).arrays()",
    "feed = reference_examples(documents, self.setup, epoch=epoch).arrays()\n"
    "        order, first = feed['sop_labels'], feed['dataset'] == 0\n"
    "        return feed | {'sop_labels': np.where(first & (order >= 0), 1 - order, order)}",
)
# Segments are told before pairs are swapped: where they were, the sentence in front is segment 1.
BEFORE_SWAP = HELD.replace(
    "return reference_examples(documents, self.setup, epoch=epoch).arrays()",
    """return self.late(reference_examples(documents, self.setup, epoch=epoch).arrays())

    def validation(self, documents):
        return self.late(reference_validation(documents[::8], self.setup).arrays())

    def late(self, feed):
        segments = np.where(feed["attention_mask"] > 0, 1 - feed["segment_ids"], 0)
        segments[:, 0] = 0
        return feed | {"segment_ids": np.where(feed["sop_labels"][:, None] == 1, segments, feed["segment_ids"])}
""",
).replace("import reference_examples", "import reference_examples, reference_validation")
# What nn.Linear and nn.Embedding draw unless told.
DEFAULT = HELD.replace(
    "    def weights(self):",
    """    def initial(self):
        from lossary.models.parameters import initial_parameters

        random, found = np.random.default_rng(0), initial_parameters(self.setup.shape, 0)
        for name, value in found.items():
            if value.ndim > 1 and "embeddings." in name:
                found[name] = random.normal(0, 1, value.shape).astype(np.float32)
            elif value.ndim > 1:
                bound = value.shape[1] ** -0.5
                found[name] = random.uniform(-bound, bound, value.shape).astype(np.float32)
        return found

    def weights(self):""",
)
RAISING = HELD.replace("out = forward(", "raise MemoryError('no room')\n        out = forward(")


def diagnosed(prepared: tuple[Study, StudyFolder], folder: Path, text: str, *options: str) -> Any:
    """What the command prints as JSON, and its exit code."""
    path = folder / "side.py"
    path.write_text(text)
    found = lossary("diagnose", str(path), "reference", str(prepared[1].root), "--format", "json", *options)
    return found.returncode, json.loads(found.stdout)


def test_a_healthy_side_is_equal_in_all_that_it_shows(prepared: Any, tmp_path: Path) -> None:
    code, found = diagnosed(prepared, tmp_path, HELD)
    verdicts = {outcome["check"]: outcome["verdict"] for outcome in found["outcomes"] if not outcome["part"]}
    assert code == 0, found["headline"]
    shown = {"schedule", "weights", "examples", "dropout", "forward", "evaluation"}
    assert {name for name, verdict in verdicts.items() if verdict == "ruled out"} == shown
    needs = {outcome["check"]: outcome["needs"] for outcome in found["outcomes"] if outcome["needs"]}
    assert "update" in found["headline"].split("Not compared: ")[1]
    assert "`update`" in needs["update"]
    assert found["causes"] == []


@pytest.mark.parametrize(
    ("text", "check", "name", "datasets"),
    [(SCALED, "forward", "epsilon-head", []), (FLIPPED, "examples", "labels-flipped", ["pairs"])],
)
def test_a_fault_is_named_and_confirmed(
    prepared: Any, tmp_path: Path, text: str, check: str, name: str, datasets: list[str]
) -> None:
    code, found = diagnosed(prepared, tmp_path, text, "--check", check)
    assert code == 1
    assert [cause["name"] for cause in found["causes"]] == [name]
    (cause,) = found["causes"]
    assert cause["datasets"] == datasets
    assert cause["after"] <= 1 < cause["before"]
    assert any(f"--check {check}" in outcome["replay"] for outcome in found["outcomes"])


def test_segments_that_are_made_before_the_swap_are_not_called_flipped(prepared: Any, tmp_path: Path) -> None:
    code, found = diagnosed(prepared, tmp_path, BEFORE_SWAP, "--check", "validation")
    assert code == 1
    assert {cause["name"] for cause in found["causes"]} == {"segment-ids-before-swap"}
    assert all(not cause["ties"] for cause in found["causes"])


def test_a_check_that_is_switched_off_loses_its_faults(prepared: Any, tmp_path: Path) -> None:
    code, found = diagnosed(prepared, tmp_path, FLIPPED, "--without", "examples")
    assert code == 0
    assert found["causes"] == []
    left_out = {outcome["check"]: outcome["needs"] for outcome in found["outcomes"]}
    assert left_out["examples"] == "not asked for (--check, --without)"
    assert "examples" in found["headline"].split("Not compared: ")[1]


def test_a_side_that_shows_nothing_is_not_called_equal(prepared: Any, tmp_path: Path) -> None:
    code, found = diagnosed(prepared, tmp_path, "def side(setup):\n    return object()\n")
    assert code == 1
    assert found["headline"].startswith("Nothing was compared")


def test_what_a_side_raises_is_told_and_the_rest_goes_on(prepared: Any, tmp_path: Path) -> None:
    _, found = diagnosed(prepared, tmp_path, RAISING)
    needs = {outcome["check"]: outcome["needs"] for outcome in found["outcomes"]}
    assert "MemoryError: no room" in needs["forward"]
    assert any(outcome["check"] == "examples" and outcome["verdict"] == "ruled out" for outcome in found["outcomes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "no side is called 'nobody'"),
        (("missing.py",), "no such file"),
        (("torch_a", "torch_a"), "both sides are 'torch_a'"),
        (("torch", "reference", "--check", "forwards"), "no check is called 'forwards'"),
        (("torch", "reference", "--dataset", "pear"), "no dataset is called 'pear'"),
        (("torch", "reference", "--like", "nobody"), "no run is called 'nobody'"),
        (("torch", "reference", "--format", "xml"), "no format is called 'xml'"),
    ],
)
def test_a_command_that_cannot_be_meant_is_one_message(prepared: Any, arguments: tuple[str, ...], message: str) -> None:
    sides = arguments if len(arguments) > 1 else (*arguments, "reference")
    found = lossary("diagnose", sides[0], sides[1], str(prepared[1].root), *sides[2:])
    assert found.returncode == 2
    assert message in found.stderr


def test_beginning_with_a_frameworks_defaults_is_a_choice_that_is_told_once(prepared: Any, tmp_path: Path) -> None:
    code, found = diagnosed(prepared, tmp_path, DEFAULT, "--check", "initial")
    assert code == 0, found["headline"]
    assert found["causes"] == []
    (told,) = (outcome for outcome in found["outcomes"] if outcome["check"] == "initial" and outcome["part"])
    assert told["verdict"] == "not compared"
    assert 'declare {"initial": "default"}' in told["needs"]
    meant = DEFAULT.replace('    name = "numpy"', '    name = "numpy"\n    declared = {"initial": "default"}')
    code, found = diagnosed(prepared, tmp_path, meant, "--check", "initial")
    assert code == 0
    assert not [outcome for outcome in found["outcomes"] if outcome["check"] == "initial" and outcome["part"]]


def test_one_layer_that_was_forgotten_is_named(prepared: Any, tmp_path: Path) -> None:
    forgotten = DEFAULT.replace('"embeddings." in name', '"word_embeddings." in name').replace(
        "elif value.ndim > 1", "elif False"
    )
    code, found = diagnosed(prepared, tmp_path, forgotten, "--check", "initial")
    assert code == 1
    assert [cause["name"] for cause in found["causes"]] == ["initial-default"]

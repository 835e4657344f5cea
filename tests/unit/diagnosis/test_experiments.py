"""Experiments on two sides, on the command line: which factor carries the gap; what a page reports otherwise."""

import json
import shutil
from math import log
from pathlib import Path
from typing import Any

import pytest
from tests.scored import score_run
from tests.unit.cli.command import lossary
from tests.unit.diagnosis.numpy_side import NUMPY_SIDE

from lossary.diagnosis.rescoring import as_computed
from lossary.diagnosis.stored import read_scores
from lossary.folder import StudyFolder
from lossary.study import Study

PLANTED = """
from scipy.special import log_softmax

from lossary.diagnosis.feeds.reference import reference_validation
from lossary.models.parameters import initial_parameters


class Planted(Side):
    def checkpoint(self):
        weights = initial_parameters(self.setup.shape, 1)
        return weights | {"sop_classifier.classifier.bias": np.array([0.0, CHECKPOINT], np.float32)}

    def forward(self, feed, *, training=False):
        outputs = super().forward(feed, training=training)
        return outputs | {"sop": outputs["sop"] + np.array([0.0, SHIFT], np.float32)}

    def validation(self, documents):
        feed = reference_validation(documents, self.setup).arrays()
        order = feed["sop_labels"]
        return feed | {"sop_labels": np.where(order >= 0, LABEL if LABEL >= 0 else order, order)}

    def measure(self, outputs, feed):
        logs = log_softmax(np.asarray(outputs["mlm"], np.float64), axis=-1)
        nats = -np.take_along_axis(logs, feed["labels"][..., None].astype(int), axis=-1)[..., 0]
        used, pairs = feed["weights"] > 0, feed["sop_labels"] >= 0
        order = -log_softmax(np.asarray(outputs["sop"], np.float64), axis=-1)
        sop = order[np.arange(len(order)), np.maximum(feed["sop_labels"], 0)][pairs]
        return {"mlm_loss": METRIC * nats[used].mean(), "sop_loss": sop.mean() if len(sop) else 0.0}


def side(setup):
    return Planted(setup)
"""
HEALTHY = {"CHECKPOINT": "0.0", "SHIFT": "0.0", "LABEL": "-1", "METRIC": "1.0"}


def written(path: Path, **changes: str) -> str:
    """An adapter, with one factor otherwise."""
    text = NUMPY_SIDE + PLANTED
    for name, value in (HEALTHY | changes).items():
        text = text.replace(name, value)
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("factor", "changes", "metric"),
    [
        ("checkpoint", {"CHECKPOINT": "2.0"}, "sop_loss"),
        ("model", {"SHIFT": "2.0"}, "sop_loss"),
        ("metric", {"METRIC": "1.4427"}, "mlm_loss"),
    ],
)
def test_the_factor_that_carries_the_gap_is_blamed(
    prepared: Any, tmp_path: Path, factor: str, changes: dict[str, str], metric: str
) -> None:
    sides = written(tmp_path / "healthy.py"), written(tmp_path / "other.py", **changes)
    found = lossary("diagnose", *sides, str(prepared[1].root), "--check", "swap", "-f", "json")
    (gap,) = json.loads(found.stdout)["gaps"]
    blamed = [line for line in gap["text"] if metric in line]
    assert blamed, gap
    assert all(line.split("the swap moves: ")[1].startswith(factor) for line in blamed)
    for row in (row for row in gap["rows"] if row["metric"] == metric):
        moved = {name: abs(row[f"{name} moves"]) for name in ("checkpoint", "feed", "model", "metric")}
        assert max(moved, key=lambda name: moved[name]) == factor
        # Shares of a gap add up to it.
        shares = sum(row[f"{name} moves"] for name in moved)
        assert shares == pytest.approx(row["A"] - row["B"], abs=1e-6)


def test_a_feed_whose_labels_are_all_one_carries_the_gap(prepared: Any, tmp_path: Path) -> None:
    sides = written(tmp_path / "a.py", SHIFT="3.0"), written(tmp_path / "b.py", SHIFT="3.0", LABEL="0")
    found = lossary("diagnose", *sides, str(prepared[1].root), "--check", "swap", "-f", "json")
    (gap,) = json.loads(found.stdout)["gaps"]
    told = [line for line in gap["text"] if "sop_loss" in line]
    assert told, gap
    assert all(line.split("the swap moves: ")[1].startswith("feed") for line in told)


def page(study: StudyFolder, out: Path, change: Any) -> dict[str, dict[str, float]]:
    """Imports a page that prints the scores of torch_a under another way of scoring."""
    table = score_run(study, "torch_a")
    assert table.num_rows
    scores = read_scores(study.scores("torch_a", 12), ["pairs", "stories", "lines"])
    numbers = {name: as_computed(scores.of(name)) for name in scores.datasets}
    text = "| dataset | torch_a MLM loss | torch_a SOP loss |\n|---|---|---|\n"
    for name, row in numbers.items():
        text += f"| {name} | {change(row)['mlm_loss']:.4f} | {change(row)['sop_loss']:.4f} |\n"
    (out / "page.md").write_text(text)
    options = ("--map", "torch_a MLM loss=torch_a:mlm_loss", "--map", "torch_a SOP loss=torch_a:sop_loss")
    found = lossary("import", str(out / "page.md"), "--out", str(out / "page"), *options)
    assert found.returncode == 0, found.stderr + found.stdout
    return numbers  # type: ignore[return-value]


@pytest.fixture
def study_copy(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    return StudyFolder(tmp_path / "study")


def test_a_page_in_bits_is_told_as_one(study_copy: StudyFolder, tmp_path: Path) -> None:
    page(study_copy, tmp_path, lambda row: {metric: value / log(2) for metric, value in row.items()})
    options = ("--reported", str(tmp_path / "page"), "--check", "reported", "-f", "json")
    found = lossary("diagnose", "torch_a", "reference", str(study_copy.root), *options)
    assert found.returncode == 1, found.stderr
    told = json.loads(found.stdout)
    (cause,) = told["causes"]
    assert cause["name"] == "log-base"
    assert cause["side"] == "torch_a as reported"
    assert cause["after"] <= 1 < cause["before"]
    assert "--reported" in told["command"]


def test_a_page_that_prints_the_scores_differs_in_nothing(study_copy: StudyFolder, tmp_path: Path) -> None:
    page(study_copy, tmp_path, dict)
    options = ("--reported", str(tmp_path / "page"), "--check", "reported", "-f", "json")
    found = lossary("diagnose", "torch_a", "reference", str(study_copy.root), *options)
    assert found.returncode == 0, found.stderr
    (gap,) = json.loads(found.stdout)["gaps"]
    assert "all 5 reported numbers" in gap["text"][0] or "all 6 reported numbers" in gap["text"][0]


def test_a_page_of_other_runs_says_how_to_name_them(study_copy: StudyFolder, tmp_path: Path) -> None:
    page(study_copy, tmp_path, dict)
    options = ("--reported", str(tmp_path / "page"), "--check", "reported", "-f", "json")
    score_run(study_copy, "tf_a")
    found = lossary("diagnose", "tf_a", "reference", str(study_copy.root), *options)
    (gap,) = json.loads(found.stdout)["gaps"]
    assert "lossary import --map" in gap["text"][0]

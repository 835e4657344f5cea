"""Findings on imported curves name the loss that the file has, and claim no more than its points can bear."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lossary.cli.main import app
from lossary.findings.folder import check_folder
from lossary.findings.model import Finding
from lossary.findings.sentences import metric_name
from lossary.results.importers.model import Curve, Imported
from lossary.tables.imported import save_import


def found(root: Path, code: str, loss: np.ndarray, metric: str = "loss") -> Finding:
    curve = Curve(
        run="torch", dataset="wiki", metric=metric, split="train", step=np.arange(1, len(loss) + 1), value=loss
    )
    save_import(root, "runs", [Imported(path=str(root / "log.csv"), kind="csv", curves=[curve])])
    [finding] = [finding for finding in check_folder(root).findings if finding.code == code]
    return finding


def test_a_short_curve_is_not_said_to_have_no_jump(tmp_path: Path) -> None:
    short = found(tmp_path / "short", "L402", np.array([3.0]))
    assert (short.severity, short.measured) == ("pass", "1 point, too few to look for jumps")
    assert "no jump" not in short.expected
    whole = found(tmp_path / "whole", "L402", np.full(26, 3.0))
    assert (whole.measured, whole.expected) == ("26 points", "finite, no jump")


@pytest.mark.parametrize(("metric", "title"), [("loss", "train loss"), ("mlm_loss", "train MLM loss")])
def test_a_finding_calls_a_loss_what_the_table_calls_it(tmp_path: Path, metric: str, title: str) -> None:
    jump = np.where(np.arange(60) == 50, 9.0, 3.0)
    assert f"{title} jumps once" in found(tmp_path / "jump", "L402", jump, metric).gist
    broken = np.where(np.arange(60) == 50, np.nan, 3.0)
    assert f"{title} on wiki is no finite number" in found(tmp_path / "broken", "L402", broken, metric).gist
    assert f"torch: {title} still falls" in found(tmp_path / "falls", "L401", np.linspace(5, 3, 60), metric).gist


def test_metrics_have_names_that_can_be_read() -> None:
    assert [metric_name(m) for m in ("mlm_loss", "sop_accuracy", "loss", "train_loss")] == [
        "MLM loss",
        "SOP accuracy",
        "loss",
        "train loss",
    ]


@pytest.mark.parametrize("name", ["sound", "jump", "broken"])
def test_hundreds_of_curves_of_a_run_are_one_finding_in_every_format(tmp_path: Path, name: str) -> None:
    base = np.full(60, 3.0)
    special = {"sound": 3.0, "jump": 9.0, "broken": np.nan}[name]
    loss = np.where(np.arange(60) == 50, special, base)
    curves = [
        Curve(run="torch", dataset=f"data{at}", metric="mlm_loss", split="eval", step=np.arange(1, 61), value=loss)
        for at in range(200)
    ]
    save_import(tmp_path, "runs", [Imported(path=str(tmp_path / "log.csv"), kind="csv", curves=curves)])
    checked = check_folder(tmp_path)
    assert len([finding for finding in checked.findings if finding.code == "L402"]) == 1
    for form in ("full", "concise", "json", "sarif", "github"):
        said = CliRunner().invoke(app, ["check", str(tmp_path), "--format", form]).output
        assert said.count("data150") <= 3, form
        assert "data0" in said or name == "sound", form

"""What a tracker is given comes back by `lossary import` to the last bit, every step of every run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import lossary
from lossary.cli.main import app

DATASETS = ("reform", "views", "dialogue")
STEPS = (50, 100)


@pytest.fixture
def study(synthetic: Callable[..., Any], planted: Any) -> Path:
    made = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow"})
    for step in STEPS:
        made.score("torch_xxl", {name: planted(mlm=4 + 1 / step) for name in DATASETS}, step=step)
    # One that has no pairs in a dataset, and no first step.
    made.score("tf_xxl", {name: planted(sop=None if name == "views" else 0.5) for name in DATASETS}, step=STEPS[-1])
    path: Path = made.folder.root
    return path


def said(*arguments: str, code: int = 0) -> str:
    found = CliRunner().invoke(app, list(arguments))
    assert found.exit_code == code, found.output
    return found.output


def same(study: Path, imported: Path) -> None:
    for step in STEPS:
        own, theirs = (lossary.table(path, step=step) for path in (study, imported))
        compared = 0
        for cell in own.model.cells:
            if cell.value is not None:
                assert theirs.value(cell.run, cell.dataset, cell.metric) == cell.value
                compared += 1
        for total in own.model.totals:
            if total.value is not None and total.weighting == "validation_share" and total.reason is None:
                assert theirs.value(total.run, "all", total.metric) == total.value
                compared += 1
        assert compared >= 16


def test_tensorboard_holds_every_bit(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "board"
    assert "tensorboard --logdir" in said("export", str(study), "--to", "tensorboard", "--out", str(out))
    said("import", str(out), "--out", str(tmp_path / "imported"))
    same(study, tmp_path / "imported")
    before = sorted(out.rglob("*"))
    with pytest.raises(lossary.LossaryError, match="exists already"):
        CliRunner().invoke(
            app, ["export", str(study), "--to", "tensorboard", "--out", str(out)], catch_exceptions=False
        )
    assert sorted(out.rglob("*")) == before


def test_tensorboard_itself_reads_it(study: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    said("export", str(study), "--run", "torch_xxl", "--to", "tensorboard", "--out", str(tmp_path / "board"))
    found = {}
    for file in (tmp_path / "board" / "torch_xxl").iterdir():
        for event in EventFileLoader(str(file)).Load():
            found |= {(value.tag, event.step): float(make_ndarray(value.tensor)) for value in event.summary.value}
    table = lossary.table(study, step=50)
    assert found["eval/views/mlm_loss", 50] == table.value("torch_xxl", "views", "mlm_loss")
    assert found["eval/total/mlm_loss", 50] == table.total("torch_xxl", "mlm_loss").value
    assert len(found) == len(STEPS) * 4 * 5


@pytest.mark.filterwarnings("default")
def test_mlflow_holds_every_bit_and_each_run_once(study: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert "logged 2 runs" in said("export", str(study), "--to", "mlflow", "--out", uri)
    assert "logged 0 runs" in said("export", str(study), "--to", "mlflow", "--out", uri)
    said("import", str(tmp_path / "mlflow.db"), "--out", str(tmp_path / "imported"))
    same(study, tmp_path / "imported")
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(lossary.open_study(study).name)
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {"torch_xxl", "tf_xxl"}
    assert all(run.data.params["validation_digest"] == lossary.table(study).model.validation_digest for run in runs)


@pytest.mark.filterwarnings("default")
def test_wandb_holds_every_bit(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    said("export", str(study), "--to", "wandb", "--out", str(tmp_path / "logs"))
    said("import", str(tmp_path / "logs"), "--out", str(tmp_path / "imported"))
    same(study, tmp_path / "imported")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "comet", "--out", "x"], "no tracker is called 'comet'"),
        (["--to", "tensorboard"], "tensorboard needs a folder"),
        (["--to", "wandb"], "wandb needs a folder"),
        (["--to", "tensorboard", "--out", "x", "--step", "50"], "every scored step"),
        (["--to", "tensorboard", "--out", "x", "--run", "none"], "no run is called 'none'"),
    ],
)
def test_a_mistake_is_one_clear_error_and_writes_nothing(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(lossary.LossaryError, match=message):
        CliRunner().invoke(app, ["export", str(study), *options], catch_exceptions=False)
    assert not (tmp_path / "x").exists()


def test_imports_are_not_logged_again(tmp_path: Path) -> None:
    (tmp_path / "losses.md").write_text("| dataset | a mlm_loss |\n|---|---|\n| views | 1.5 |\n")
    lossary.import_files(tmp_path / "losses.md", out=tmp_path / "imported")
    with pytest.raises(lossary.LossaryError, match="files only"):
        CliRunner().invoke(
            app,
            ["export", str(tmp_path / "imported"), "--to", "tensorboard", "--out", str(tmp_path / "x")],
            catch_exceptions=False,
        )

"""The command line: one clear message for a mistake, the right exit code, no traceback, nothing half-written."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.command import lossary

from lossary.study_file import load_study

VERBS = (
    "demo",
    "init",
    "run",
    "prepare",
    "train",
    "evaluate",
    "show",
    "compare",
    "check",
    "diagnose",
    "import",
    "report",
    "export",
    "verify",
)


@pytest.fixture
def scored(synthetic: Callable[..., Any], planted: Any) -> Path:
    study = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow"})
    for run in ("torch_xxl", "tf_xxl"):
        study.score(run, {name: planted() for name in ("reform", "views", "dialogue")})
    return Path(study.folder.root)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    found = lossary(verb, "--help")
    assert found.returncode == 0
    assert len(found.stdout.splitlines()) > 5


def test_help_names_every_verb() -> None:
    text = lossary("--help").stdout
    assert all(f" {verb} " in text for verb in VERBS)
    assert lossary("--version").stdout.startswith("lossary ")


def test_init_writes_a_study_that_loads_and_keeps_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / 'odd "name"'
    folder.mkdir()
    assert lossary("init", str(folder)).returncode == 0
    assert load_study(folder).name == 'odd "name"'
    (folder / "study.toml").write_text("mine")
    found = lossary("init", str(folder))
    assert found.returncode == 2
    assert "--force" in found.stderr
    assert (folder / "study.toml").read_text() == "mine"
    assert lossary("init", str(folder), "--force").returncode == 0


def test_init_prints_the_schema() -> None:
    schema = json.loads(lossary("init", "--schema").stdout)
    assert schema["required"] == ["name", "datasets"]


@pytest.mark.parametrize("verb", ["run", "prepare", "train", "evaluate", "show", "report", "export"])
def test_without_a_study_the_way_to_one_is_said(tmp_path: Path, verb: str) -> None:
    found = lossary(verb, str(tmp_path))
    assert found.returncode == 2
    assert found.stderr.startswith("lossary: ")
    assert "lossary init" in found.stderr
    assert not list(tmp_path.iterdir())


def test_a_wrong_study_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        'name = "x"\n[datasets.a]\nsource = "a.jsonl"\n[runs.r]\nbackend = "troch"\nsize = "base"\n'
    )
    found = lossary("run", cwd=tmp_path)
    assert found.returncode == 2
    assert "study.toml: $.runs.r.backend: " in found.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.toml"]


def test_a_missing_source_names_the_place_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        'name = "x"\n[datasets.a]\nsource = "a.jsonl"\n[runs.r]\nbackend = "torch"\nsize = "base"\n'
    )
    found = lossary("prepare", str(tmp_path))
    assert found.returncode == 3
    assert "$.datasets.a.source: no file matches 'a.jsonl'" in found.stderr
    # The folder of leases stays, and holds none.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leases", "study.toml"]
    assert not list(tmp_path.glob("leases/*.json"))


def test_what_is_not_there_yet_is_missing_data(synthetic: Callable[..., Any]) -> None:
    root = str(synthetic({"torch_xxl": "torch"}).folder.root)
    for verb in ("show", "report", "export"):
        found = lossary(verb, root)
        assert found.returncode == 3
        assert "lossary run" in found.stderr
    found = lossary("evaluate", root)
    assert found.returncode == 3
    assert "lossary train" in found.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "--run", "nobody"),
        ("show", "--metrics", "loss"),
        ("export", "--format", "xml"),
        ("export", "--format", "parquet"),
        ("train", "--run", "nobody"),
        ("run", "--run", "nobody"),
        ("run", "--dry-run", "--run", "nobody"),
        ("evaluate", "--run", "nobody"),
        ("evaluate", "--step", "7"),
        ("report", "--run", "nobody"),
        ("check", "--run", "nobody"),
        ("evaluate", "--checkpoint", "x", "--run", "torch_xxl"),
        ("evaluate", "--checkpoint", "x", "--backend", "theano"),
        ("evaluate", "--checkpoint", "x", "--name", "../x"),
        ("evaluate", "--checkpoint", "x", "--name", "torch_xxl"),
        ("show", "--nonsense"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(scored: Path, arguments: tuple[str, ...]) -> None:
    found = lossary(arguments[0], str(scored), *arguments[1:])
    assert found.returncode == 2, found.stderr
    assert found.stderr


def test_a_foreign_folder_that_is_no_checkpoint_is_missing_data(scored: Path, tmp_path: Path) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text(
        '{"model_type": "albert", "vocab_size": 5, "hidden_size": 8, "num_hidden_layers": 1}'
    )
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    from lossary.errors import CheckpointError
    from lossary.models.checkpoints import load_checkpoint

    with pytest.raises(CheckpointError, match="pickle files can run any code"):
        load_checkpoint(tmp_path / "pickled")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_checkpoint(scored)


def test_formats_are_written_whole(scored: Path, tmp_path: Path) -> None:
    for kind in ("json", "csv", "latex", "markdown", "parquet"):
        out = tmp_path / f"table.{kind}"
        assert lossary("export", str(scored), "--format", kind, "--out", str(out)).returncode == 0
        assert out.stat().st_size > 200
    assert sorted(path.suffix for path in tmp_path.glob("table*")) == [
        ".csv",
        ".json",
        ".latex",
        ".markdown",
        ".parquet",
    ]
    assert json.loads((tmp_path / "table.json").read_text())["study"] == "reform views web"


def test_output_that_nobody_reads_is_no_error(scored: Path) -> None:
    command = f'"{sys.executable}" -m lossary show "{scored}" | head -1'
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "reform views web" in found.stdout
    assert "Traceback" not in found.stderr
    assert "BrokenPipe" not in found.stderr


def test_show_prints_the_table(scored: Path) -> None:
    text = lossary("show", str(scored)).stdout
    assert "torch_xxl" in text
    assert "314,000,000" in text
    assert lossary("show", str(scored), "--ascii").stdout.isascii()
    only = lossary("show", str(scored), "--metrics", "sop_loss").stdout
    assert "SOP loss" in only
    assert "MLM loss" not in only

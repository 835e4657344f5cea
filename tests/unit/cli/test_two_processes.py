"""Two commands on one study: the second says who works on what, and readers go on."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.command import lossary

from lossary.folder import StudyFolder
from lossary.lease import STUDY, hold, run_lease


@pytest.fixture
def study(prepared: Any, tmp_path: Path) -> StudyFolder:
    return StudyFolder(Path(shutil.copytree(prepared[1].root, tmp_path / "study")))


@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate", "run"])
def test_the_data_is_being_made(verb: str, study: StudyFolder) -> None:
    with hold(study, STUDY):
        found = lossary(verb, str(study.root))
    assert found.returncode == 75
    assert "another process makes the study's data since" in found.stderr
    assert "Wait for it" in found.stderr
    assert not (study.root / "runs").exists()


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_the_run_is_being_worked_on(verb: str, study: StudyFolder) -> None:
    with hold(study, run_lease("torch_a")):
        found = lossary(verb, "--run", "torch_a", str(study.root))
    assert found.returncode == 75
    assert "another process works on run 'torch_a' since" in found.stderr


def test_other_runs_go_on(study: StudyFolder) -> None:
    with hold(study, run_lease("torch_a")):
        found = lossary("evaluate", "--run", "torch_stories", str(study.root))
    assert found.returncode == 3
    assert "run 'torch_stories' has no checkpoint" in found.stderr


@pytest.mark.parametrize("verb", ["show", "check", "report", "export"])
def test_readers_neither_wait_nor_take(verb: str, study: StudyFolder) -> None:
    alone = lossary(verb, str(study.root))
    with hold(study, STUDY), hold(study, run_lease("torch_a")):
        beside = lossary(verb, str(study.root))
    assert (beside.returncode, beside.stdout, beside.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_data_is_not_made_anew_beside_a_run(study: StudyFolder) -> None:
    with hold(study, run_lease("torch_a")):
        assert lossary("prepare", str(study.root)).returncode == 0
        lines = study.root / "lines.txt"
        lines.write_text(lines.read_text() + "One more line.\n")
        before = {path: path.stat().st_mtime_ns for path in (study.root / "prepared").rglob("*")}
        found = lossary("prepare", str(study.root))
        assert found.returncode == 75
        assert "another process works on run 'torch_a'" in found.stderr
        assert {path: path.stat().st_mtime_ns for path in (study.root / "prepared").rglob("*")} == before
    assert lossary("prepare", str(study.root)).returncode == 0

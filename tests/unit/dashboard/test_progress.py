"""How far runs are, told from files."""

import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest
from tests.scored import score_run

from lossary.dashboard.progress import run_progress
from lossary.folder import StudyFolder
from lossary.results.records import STEP_SCHEMA, write_steps
from lossary.study import Study


@pytest.fixture
def folder(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    return StudyFolder(tmp_path / "study")


def write(folder: StudyFolder, run: str, steps: int, *, age_s: float = 0.0) -> None:
    rows = [
        dict.fromkeys(STEP_SCHEMA.names, 1)
        | {"run": run, "step": step, "dataset": "lines", "total_tokens": 100 * step, "elapsed_s": 2.0 * step}
        for step in range(1, steps + 1)
    ]
    write_steps(folder.steps(run), pa.Table.from_pylist(rows, schema=STEP_SCHEMA))
    before = time.time() - age_s
    os.utime(folder.steps(run), (before, before))


def test_states_are_told_apart(prepared: tuple[Study, StudyFolder], folder: StudyFolder) -> None:
    study = prepared[0]
    assert [run.state for run in run_progress(study, folder)] == ["waiting"] * 3
    write(folder, "torch_a", 3)
    write(folder, "tf_a", 6, age_s=600)
    write(folder, "torch_stories", 12)
    training, stopped, trained = run_progress(study, folder)
    assert (training.state, stopped.state, trained.state) == ("training", "stopped", "trained")
    assert (training.step, training.steps, training.tokens, training.part) == (3, 12, 300, 0.25)
    assert training.tokens_per_s == 50.0
    assert training.left_s == pytest.approx(18.0)
    assert stopped.left_s is None
    score_run(folder, "torch_stories", step=12)
    assert run_progress(study, folder)[2].state == "scored"
    assert run_progress(study, folder)[2].scored == [12]


def test_a_file_that_cannot_be_read_is_as_good_as_none(
    prepared: tuple[Study, StudyFolder], folder: StudyFolder
) -> None:
    folder.steps("tf_a").parent.mkdir(parents=True)
    for damaged in (b"", b"PAR1", b"x" * 1000):
        folder.steps("tf_a").write_bytes(damaged)
        assert run_progress(prepared[0], folder)[1].state == "waiting"
    write_steps(folder.steps("tf_a"), STEP_SCHEMA.empty_table())
    assert run_progress(prepared[0], folder)[1].step == 0

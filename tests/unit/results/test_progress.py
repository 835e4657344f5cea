"""How far runs are, told from files."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from tests.scored import score_run

from lossary.errors import BusyError, DivergenceError, Interrupted
from lossary.files import write_json
from lossary.folder import StudyFolder
from lossary.lease import hold, run_lease
from lossary.results.endings import remembered
from lossary.results.progress import run_progress
from lossary.results.records import STEP_SCHEMA, write_steps
from lossary.study import Study


@pytest.fixture
def folder(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    return StudyFolder(tmp_path / "study")


def write(folder: StudyFolder, run: str, steps: int) -> None:
    rows = [
        dict.fromkeys(STEP_SCHEMA.names, 1)
        | {"run": run, "step": step, "dataset": dataset, "total_tokens": 100 * step, "elapsed_s": 2.0 * step}
        | {"masked": masked, "mlm_nats": 8.0, "sop_pairs": 0, "sop_nats": 0.0}
        for step in range(1, steps + 1)
        for dataset, masked in (("lines", 2), ("stories", 6))
    ]
    write_steps(folder.steps(run), pa.Table.from_pylist(rows, schema=STEP_SCHEMA))


def test_states_are_told_apart(prepared: tuple[Study, StudyFolder], folder: StudyFolder) -> None:
    study = prepared[0]
    assert [run.state for run in run_progress(study, folder)] == ["waiting"] * 3
    write(folder, "torch_a", 3)
    write(folder, "tf_a", 6)
    write(folder, "torch_stories", 12)
    with hold(folder, run_lease("torch_a"), doing="train"):
        training, stopped, trained = run_progress(study, folder)
    assert (training.state, stopped.state, trained.state) == ("training", "stopped", "trained")
    assert (training.step, training.steps, training.tokens, training.part) == (3, 12, 300, 0.25)
    assert training.tokens_per_s == 50.0
    assert training.left_s == pytest.approx(18.0)
    assert stopped.left_s is None
    assert training.holder is not None
    assert training.holder.is_own
    assert run_progress(study, folder)[0].state == "stopped"
    score_run(folder, "torch_stories", step=12)
    assert run_progress(study, folder)[2].state == "scored"
    assert run_progress(study, folder)[2].scored == [12]
    with hold(folder, run_lease("torch_stories"), doing="evaluate"):
        assert run_progress(study, folder)[2].state == "scoring"


def test_a_run_at_work_goes_to_the_step_that_its_process_was_told(
    prepared: tuple[Study, StudyFolder], folder: StudyFolder
) -> None:
    write(folder, "torch_a", 15)
    write_json(folder.run("torch_a") / "run.json", {"recipe": {"steps": 30}})
    assert run_progress(prepared[0], folder)[0].steps == 12
    with hold(folder, run_lease("torch_a"), doing="train"):
        run = run_progress(prepared[0], folder)[0]
    assert (run.state, run.step, run.steps, run.part) == ("training", 15, 30, 0.5)


def test_the_last_loss_is_by_dataset_and_pooled(prepared: tuple[Study, StudyFolder], folder: StudyFolder) -> None:
    write(folder, "torch_a", 70)
    run = run_progress(prepared[0], folder)[0]
    assert {name: loss.mlm for name, loss in run.loss.items()} == {"lines": 4.0, "stories": pytest.approx(8 / 6)}
    # Pooled, not the mean of means; where there was no pair there is no number.
    assert run.micro.mlm == 2.0
    assert run.micro.sop is None


def test_an_error_is_remembered_until_the_stage_is_done(
    prepared: tuple[Study, StudyFolder], folder: StudyFolder
) -> None:
    with pytest.raises(DivergenceError), remembered(folder, "torch_a", "train"):
        raise DivergenceError("the loss is no number", where="step 7", hint="Lower it.")
    ending = run_progress(prepared[0], folder)[0].ending
    assert ending is not None
    assert (ending.kind, ending.message, ending.where, ending.log) == (
        "DivergenceError",
        "the loss is no number",
        "step 7",
        None,
    )
    with pytest.raises(BusyError), remembered(folder, "tf_a", "train"):
        raise BusyError("another process")
    with pytest.raises(Interrupted), remembered(folder, "tf_a", "evaluate"):
        raise Interrupted("stopped after step 3")
    folder.log("tf_a", "evaluate").write_text("what a framework said")
    ending = run_progress(prepared[0], folder)[1].ending
    assert ending is not None
    assert ending.is_interruption
    assert ending.log == folder.log("tf_a", "evaluate")
    with remembered(folder, "torch_a", "train"):
        assert run_progress(prepared[0], folder)[0].ending is None
    assert run_progress(prepared[0], folder)[0].ending is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"time": "x", "kind": 1, "message": 2, "where": [], "hint": {}}'])
def test_a_damaged_ending_is_a_problem(prepared: tuple[Study, StudyFolder], folder: StudyFolder, text: str) -> None:
    folder.logs.mkdir(exist_ok=True)
    folder.ending("torch_a", "train").write_text(text)
    run = run_progress(prepared[0], folder)[0]
    assert (run.state, run.ending, len(run.problems)) == ("waiting", None, 1)


def test_a_file_that_cannot_be_read_is_a_problem(prepared: tuple[Study, StudyFolder], folder: StudyFolder) -> None:
    folder.steps("tf_a").parent.mkdir(parents=True)
    for damaged in (b"", b"PAR1", b"x" * 1000):
        folder.steps("tf_a").write_bytes(damaged)
        run = run_progress(prepared[0], folder)[1]
        assert run.state == "waiting"
        assert [problem.where for problem in run.problems] == [str(folder.steps("tf_a"))]
    write_steps(folder.steps("tf_a"), STEP_SCHEMA.empty_table())
    run = run_progress(prepared[0], folder)[1]
    assert (run.step, run.problems) == (0, ())

"""How runs share a machine: a place that becomes free is taken at once, and a branch waits for its run alone."""

import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossary import pipeline
from lossary.engines import local
from lossary.errors import CheckpointError, RunError, UsageError
from lossary.folder import StudyFolder
from lossary.launcher import NotesOnly, each_run
from lossary.results.endings import read_ending
from lossary.scoring.foreign import Foreign
from lossary.study import Study
from lossary.study_file import load_study


def each(folder: Path, runs: list[str], job: Callable[[str, Any], None], **settings: Any) -> None:
    """What stages do runs with."""
    each_run("train", runs, job, folder=StudyFolder(folder), listener=NotesOnly(), **settings)


def test_the_third_of_three_runs_takes_the_place_that_becomes_free(tmp_path: Path) -> None:
    third = threading.Event()
    order: list[str] = []

    def job(run: str, tools: Any) -> None:
        del tools
        order.append(run)
        if run == "a":
            # Goes on until the third run has begun: that must not wait for it.
            assert third.wait(20)
        if run == "c":
            third.set()

    each(tmp_path, ["a", "b", "c"], job, jobs=2)
    # Which of the first two begins first is the machine's affair, and one may be through before the other begins.
    assert sorted(order) == ["a", "b", "c"]


def test_a_branch_waits_for_its_run_and_for_no_other(tmp_path: Path) -> None:
    branched = threading.Event()
    order: list[str] = []

    def job(run: str, tools: Any) -> None:
        del tools
        order.append(run)
        if run == "slow":
            assert branched.wait(20)
        if run == "branch":
            branched.set()

    each(tmp_path, ["branch", "slow", "base"], job, jobs=2, after={"branch": "base"})
    assert order.index("base") < order.index("branch")


def test_a_run_that_fails_stops_no_other(tmp_path: Path) -> None:
    order: list[str] = []

    def job(run: str, tools: Any) -> None:
        del tools
        order.append(run)
        if run in ("a", "b"):
            raise RunError(f"{run} broke")

    with pytest.raises(RunError, match="2 runs failed to train") as error:
        each(tmp_path, ["a", "b", "c", "d"], job, jobs=1, after={"d": "a"})
    assert sorted(order) == ["a", "b", "c", "d"]
    assert "a broke" in str(error.value)


def test_what_a_killed_run_left_is_taken_away_by_whoever_works_on_it_next(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    left = [
        folder.run("a") / ".run.json.0123456789ab.tmp",
        folder.scores("a", 8).parent / ".00000008.parquet.0123456789ab.tmp",
        folder.checkpoints("a") / ".step-00000008.0123456789ab.tmp" / "model.safetensors",
        folder.checkpoints("a") / ".step-00000008.0123456789ab.old" / "model.safetensors",
    ]
    kept = [folder.scores("a", 8), folder.checkpoint("a", 8) / "state.json", folder.run("b") / left[0].name]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    each(tmp_path, ["a"], lambda *_: None, jobs=1)
    files = {path for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert files == set(kept)
    assert not [path for path in folder.checkpoints("a").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("stage", ["run_study", "train", "evaluate"])
def test_an_unknown_run_is_refused_before_anything_is_made(
    stage: str, tiny_study: Study, tiny_folder: StudyFolder
) -> None:
    before = sorted(tiny_folder.root.rglob("*"))
    asked = {"settings": pipeline.Settings(runs=["nope"])} if stage == "run_study" else {"runs": ["torch_a", "nope"]}
    with pytest.raises(UsageError, match="no run is called 'nope'"):
        getattr(pipeline, stage)(tiny_study, tiny_folder, listener=NotesOnly(), **asked)
    assert sorted(tiny_folder.root.rglob("*")) == before


def test_a_step_that_is_not_kept_is_a_mistake_of_who_asks_and_no_failure_of_the_run(
    tiny_study: Study, tiny_folder: StudyFolder
) -> None:
    for run in ("torch_a", "tf_a"):
        checkpoint = tiny_folder.checkpoint(run, 4)
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text("{}")
    tiny_folder.checkpoint("torch_a", 4).rename(tiny_folder.checkpoint("torch_a", 8))
    for runs, step, said in ((None, 7, "torch_a 8; tf_a 4"), (["torch_a", "tf_a"], 4, "tf_a would be scored")):
        with pytest.raises(UsageError, match=f"no checkpoint of step {step} is kept of torch_a") as error:
            pipeline.evaluate(tiny_study, tiny_folder, runs=runs, which=step, listener=NotesOnly())
        assert said in (error.value.hint or "")
    with pytest.raises(CheckpointError, match="run 'torch_stories' has no checkpoint"):
        pipeline.evaluate(tiny_study, tiny_folder, runs=["torch_stories"], listener=NotesOnly())
    assert [read_ending(tiny_folder, run) for run in tiny_study.runs] == [None] * 3


def test_runs_that_nothing_can_be_done_for_do_not_stop_others_and_are_not_remembered(tmp_path: Path) -> None:
    done: list[str] = []

    def begin(run: str) -> None:
        if run == "b":
            raise CheckpointError("run 'b' has no checkpoint")

    with pytest.raises(CheckpointError, match="run 'b' has no checkpoint"):
        each(tmp_path, ["b", "a"], lambda run, _: done.append(run), jobs=1, begin=begin)
    assert done == ["a"]
    assert read_ending(StudyFolder(tmp_path), "b") is None


def test_a_column_of_a_checkpoint_is_never_taken_over_by_another_folder_of_its_name(
    prepared: tuple[Study, StudyFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(Path(shutil.copytree(prepared[1].root, tmp_path / "study")))
    scored: list[list[str]] = []

    def run_worker(module: str, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert module == "lossary.scoring.job"
        scored.append(request["checkpoints"])
        return {"scored": [{"step": 5}]}

    monkeypatch.setattr(local, "run_worker", run_worker)

    def evaluate(checkpoint: Path, name: str | None = None) -> None:
        found = Foreign(name=name or "out", checkpoint=checkpoint, backend="torch", is_named=name is not None)
        pipeline.evaluate_foreign(folder, [found], listener=NotesOnly())

    first, second = tmp_path / "a" / "out" / "checkpoint-500", tmp_path / "b" / "out" / "checkpoint-500"
    evaluate(first)
    evaluate(first.with_name("checkpoint-600"))
    with pytest.raises(UsageError, match="another checkpoint") as caught:
        evaluate(second)
    assert "--name b-out" in str(caught.value.hint)
    assert len(scored) == 2
    # Whoever names it has it so.
    evaluate(second, name="b-out")
    evaluate(second, name="out")
    evaluate(second)
    assert scored[2:] == [[str(second)]] * 3


def test_a_checkpoint_of_no_known_step_is_no_step_of_a_column(
    prepared: tuple[Study, StudyFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(Path(shutil.copytree(prepared[1].root, tmp_path / "study")))

    def run_worker(_module: str, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        for checkpoint in request["checkpoints"]:
            path = folder.scores(request["name"], checkpoint["step"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return {"scored": [{"step": checkpoint["step"]} for checkpoint in request["checkpoints"]]}

    monkeypatch.setattr(local, "run_worker", run_worker)

    def evaluate(*steps: int | None, name: str = "mine") -> dict[str, list[int]]:
        found = [
            Foreign(name=name, checkpoint=tmp_path / f"at-{step}", backend="torch", kind="transformers", step=step)
            for step in steps
        ]
        return pipeline.evaluate_foreign(folder, found, listener=NotesOnly())

    with pytest.raises(UsageError, match="it does not say of which step it is, and 'mine' has 20") as refused:
        evaluate(20, None)
    assert "at-None" in str(refused.value)
    assert evaluate(None) == evaluate(None) == {"mine": [0]}
    assert evaluate(10, 20) == {"mine": [10, 20]}
    with pytest.raises(UsageError, match="'mine' has 10, 20"):
        evaluate(None)
    assert evaluate(None, name="final") == {"final": [0]}


def test_a_device_that_is_not_here_is_said_before_anything_is_written(tiny_folder: StudyFolder) -> None:
    study = load_study(tiny_folder.root, [f"runs.torch_stories.device={'cuda' if sys.platform == 'darwin' else 'mps'}"])
    for do in (
        lambda: pipeline.run_study(study, tiny_folder, settings=pipeline.Settings(), listener=NotesOnly()),
        lambda: pipeline.run_study(
            study, tiny_folder, settings=pipeline.Settings(runs=["torch_stories"]), listener=NotesOnly()
        ),
    ):
        with pytest.raises(RunError, match="is not here") as caught:
            do()
        assert caught.value.where is not None
        assert caught.value.where.endswith("$.runs.torch_stories.device")
    assert not (tiny_folder.root / "prepared").exists()
    assert not (tiny_folder.root / "logs").exists()

"""Scores on the way: they change no weight, survive a kill at any moment, and say which step was the best."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.conftest import TINY
from tests.unit.training.simple_backend import SimpleBackend

import lossary.training.loop as loop
from lossary import worker
from lossary.errors import StudyError, UsageError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import checkpoint_step, list_checkpoints, load_checkpoint
from lossary.results.records import read_steps
from lossary.results.scorefile import ScoreFile
from lossary.study import Study
from lossary.study_file import parse_study
from lossary.tables.best import Criterion, best_step
from lossary.tables.build import build_table
from lossary.tables.history import evaluations

SCORED = TINY.replace("steps = 12", "steps = 12\nevaluate_every = 3\nkeep_checkpoints = 1").split("[runs.tf_a]")[0]
BEST = SCORED.replace("evaluate_every = 3", 'evaluate_every = 3\nkeep_best = "mlm_loss"')


@pytest.fixture
def copied(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> Callable[[str, str], StudyFolder]:
    """The prepared tiny study with another study file."""

    def copy(name: str, text: str) -> StudyFolder:
        shutil.copytree(prepared[1].root, tmp_path / name)
        (tmp_path / name / "study.toml").write_text(text)
        return StudyFolder(tmp_path / name)

    return copy


def train(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, *, score_last: bool = True) -> Study:
    monkeypatch.setattr(loop, "new_backend", lambda _, shape, **more: SimpleBackend(shape, **more))
    study = parse_study(folder.study_file.read_text())
    on_the_way = worker.ScoresOnTheWay(study, folder, "torch_a", score_last=score_last, emit=lambda _: None)
    loop.train(study, folder, "torch_a", on_the_way=on_the_way, emit=lambda _: None)
    return study


def steps_with_scores(folder: StudyFolder) -> list[int]:
    return sorted(int(path.stem) for path in (folder.run("torch_a") / "scores").glob("*.parquet"))


def outcome(folder: StudyFolder) -> dict[str, Any]:
    """What must not depend on how a run came to its end."""
    records = read_steps(folder.steps("torch_a")).drop_columns(["elapsed_s"])
    kept = {path.name: read_json(path / "state.json") for path in list_checkpoints(folder.checkpoints("torch_a"))}
    scores = {step: pq.read_table(folder.scores("torch_a", step)).to_pydict() for step in steps_with_scores(folder)}
    return {"records": records.to_pydict(), "checkpoints": kept, "scores": scores}


def test_scores_on_the_way_change_no_weight_and_no_record(
    copied: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_scores, without = copied("with", SCORED), copied("without", SCORED.replace("evaluate_every = 3\n", ""))
    train(with_scores, monkeypatch)
    train(without, monkeypatch)
    assert steps_with_scores(with_scores) == [3, 6, 9, 12]
    assert steps_with_scores(without) == [12]
    ours, theirs = outcome(with_scores), outcome(without)
    assert ours["records"] == theirs["records"]
    assert ours["checkpoints"] == theirs["checkpoints"]
    assert ours["scores"][12] == theirs["scores"][12]


def test_without_being_asked_nothing_is_scored(
    copied: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("plain", SCORED.replace("evaluate_every = 3\n", ""))
    train(folder, monkeypatch, score_last=False)
    assert steps_with_scores(folder) == []


def test_a_kill_at_any_moment_loses_nothing_and_repeats_nothing(
    copied: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, source = copied("reference", BEST), copied("source", BEST)
    train(reference, monkeypatch)
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.training.killed", str(source.root), "5"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    moments = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(moments) > 10
    assert [moment["killed"] for moment in moments] == [True] * (len(moments) - 1) + [False]
    expected = outcome(reference)
    for moment in moments:
        folder = StudyFolder(Path(moment["root"]))
        assert outcome(folder) == expected, moment
        scored = (folder.root / "scored.txt").read_text().split()
        assert sorted(scored) == sorted(set(scored)), moment
        assert not list((folder.root / "runs").rglob(".*")), moment


def test_the_best_step_is_kept_shown_and_said(
    copied: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("best", BEST)
    study = train(folder, monkeypatch)
    criterion = Criterion()
    totals = {
        step: build_table(study, folder, runs=["torch_a"], step=step)
        .total("torch_a", "mlm_loss", "validation_share")
        .value
        for step in (3, 6, 9, 12)
    }
    best = min(totals, key=lambda step: totals[step])  # type: ignore[arg-type, return-value]
    assert best != 12, "the last step would be kept anyhow"
    assert [checkpoint_step(path) for path in list_checkpoints(folder.checkpoints("torch_a"))] == [best, 12]
    found = best_step(study, folder, "torch_a", criterion)
    assert found is not None
    assert (found.step, found.value, found.steps) == (best, totals[best], [3, 6, 9, 12])
    table = build_table(study, folder, step=criterion)
    assert table.runs[0].step == best
    told = f"torch_a: step {best} is the best of 4 scored by mlm_loss, total by validation share: {totals[best]:.4f}"
    assert any(note.startswith(told) for note in table.notes)
    assert build_table(study, folder).runs[0].step == 12


@pytest.mark.parametrize("text", ["mlm_loss", "mlm_accuracy:macro", "sop_loss:train_share", "sop_accuracy"])
def test_every_total_of_the_table_can_choose(
    text: str, copied: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("any", SCORED)
    study = train(folder, monkeypatch)
    criterion = Criterion.parse(text, where="test")
    found = best_step(study, folder, "torch_a", criterion)
    assert found is not None
    by_step = {
        step: build_table(study, folder, step=step).total("torch_a", criterion.metric, criterion.weighting).value
        for step in found.steps
    }
    assert by_step[found.step] == found.value
    assert all(value is not None and not criterion.better(value, found.value) for value in by_step.values())
    # Of equal steps the earliest: this backend gets every accuracy equal.
    assert found.step == min(step for step, value in by_step.items() if value == found.value)


def test_curves_have_a_point_for_every_scored_step_and_dataset(
    copied: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("curves", SCORED)
    study = train(folder, monkeypatch)
    points = evaluations(build_table(study, folder), folder)
    assert {(point.dataset, point.step) for point in points if point.metric == "mlm_loss"} == {
        (dataset, step) for dataset in study.datasets for step in (3, 6, 9, 12)
    }


def test_a_step_after_the_one_that_a_run_went_back_to_is_not_the_best(
    copied: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("back", BEST)
    study = train(folder, monkeypatch)
    found = best_step(study, folder, "torch_a", Criterion(), until=3)
    assert found is not None
    assert found.steps == [3]


def test_a_step_without_a_loss_that_others_have_is_not_kept_and_is_told_once(synthetic: Any, planted: Any) -> None:
    study = synthetic({"torch_a": "torch"})
    told: list[dict[str, Any]] = []
    on_the_way = worker.ScoresOnTheWay(study.study, study.folder, "torch_a", score_last=True, emit=told.append)
    on_the_way.recipe = on_the_way.recipe.model_copy(update={"keep_best": "mlm_loss"})
    for step, mlm, views in ((50, 3.0, 3.0), (100, 0.1, float("nan")), (150, 2.0, 2.0)):
        study.score(
            "torch_a",
            {name: planted(mlm=views if name == "views" else mlm) for name in ("reform", "views", "dialogue")},
            step=step,
        )
    assert [on_the_way.kept(step) for step in (50, 100, 150)] == [{50}, {50}, {150}]
    said = "torch_a: no mlm_loss of views at step 100: left out of the choice of the best step"
    assert told == [{"event": "note", "text": said}]


def test_scores_are_of_the_weights_that_the_checkpoint_has(
    copied: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("weights", SCORED.replace("keep_checkpoints = 1", "keep_checkpoints = 9"))
    train(folder, monkeypatch)
    for path in list_checkpoints(folder.checkpoints("torch_a")):
        step = checkpoint_step(path)
        if step % 3 == 0:
            weight = load_checkpoint(path).parameters["albert.embeddings.word_embeddings.weight"][0, 0]
            scores = ScoreFile(folder.scores("torch_a", step)).columns("mlm", ["pairs", "stories", "lines"])
            expected = scores.targets * (20 + float(weight))
            assert scores.nats == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('keep_best = "mlm_loss"', "needs evaluate_every"),
        ('evaluate_every = 3\nkeep_best = "loss"', "keep_best"),
        ('evaluate_every = 3\nkeep_best = "mlm_loss:reported"', "keep_best"),
        ('evaluate_every = 3\nkeep_best = "sop_loss"\nobjective = ["mlm"]', "sop"),
        ("evaluate_every = 0", "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_refused_when_the_study_is_read(change: str, said: str) -> None:
    with pytest.raises(StudyError) as raised:
        parse_study(TINY.replace("steps = 12", f"steps = 12\n{change}"))
    assert said in str(raised.value)


@pytest.mark.parametrize("text", ["", "loss", "mlm_loss:", "mlm_loss:reported", "mlm_loss:macro:macro"])
def test_no_total_is_guessed(text: str) -> None:
    if text == "mlm_loss:":
        assert Criterion.parse(text, where="x") == Criterion()
        return
    with pytest.raises(UsageError):
        Criterion.parse(text, where="x")

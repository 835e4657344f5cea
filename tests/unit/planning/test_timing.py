"""Times before anything is prepared: runs that compute alike are timed once, and nothing is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TINY

from lossary.backends.process import StopRequest
from lossary.folder import StudyFolder
from lossary.planning import timing
from lossary.planning.estimates import Timed, estimate, shape_of_run
from lossary.planning.text import estimate_lines
from lossary.study import Study
from lossary.study_file import parse_study
from lossary.training.timing import random_examples


def test_a_run_is_timed_by_its_worker(tmp_path: Path) -> None:
    study = parse_study(TINY.split("[runs.tf_a]")[0])
    shapes = {run: shape_of_run(study, StudyFolder(tmp_path), run) for run in study.runs}
    told: list[str] = []
    timed = timing.time_runs(study, shapes, steps=2, told=told.append)
    assert told == list(study.runs)
    assert all(0 < time.score_s < time.step_s for time in timed.values())
    assert list(tmp_path.iterdir()) == []


def test_runs_that_compute_alike_are_timed_once(
    monkeypatch: pytest.MonkeyPatch, make_study: Callable[..., Study]
) -> None:
    asked: list[str] = []

    def worker(module: str, job: dict[str, object], *, stop: StopRequest, **_: object) -> dict[str, float]:
        assert module == "lossary.training.timing"
        assert not stop.asked
        asked.append(str(job["run"]))
        return {"step_s": 2.0, "score_s": 0.5}

    monkeypatch.setattr(timing, "run_worker", worker)
    study = make_study()
    shape = shape_of_run(study, StudyFolder(Path("nowhere")), next(iter(study.runs)))
    timed = timing.time_runs(study, dict.fromkeys(study.runs, shape), steps=2, told=str)
    backends = [run.backend for run in study.runs.values()]
    assert len(asked) == len(set(backends))
    assert timed == dict.fromkeys(study.runs, Timed(2.0, 0.5))


def test_estimates_take_the_time_that_was_measured(tmp_path: Path, make_study: Callable[..., Study]) -> None:
    study, folder = make_study(), StudyFolder(tmp_path)
    run, *others = study.runs
    sizes = estimate(study, folder, {run: Timed(2.0, 0.5)})
    assert sizes.runs[0].seconds_left == 2.0 * study.recipe_of(run).steps
    assert sizes.runs[0].scoring_seconds == 0.5 * study.validation.examples
    assert [other.seconds_left for other in sizes.runs[1:]] == [None] * len(others)
    text = "\n".join(estimate_lines(sizes))
    assert "steps were timed here" in text


def test_what_is_timed_has_the_form_of_examples(make_study: Callable[..., Study]) -> None:
    study = make_study()
    run = next(iter(study.runs))
    recipe, shape = study.recipe_of(run), shape_of_run(study, StudyFolder(Path("nowhere")), run)
    made = random_examples(recipe, shape, rows=7)
    assert made.token_ids.shape == (7, recipe.sequence_length)
    assert (made.lengths == recipe.sequence_length).all()
    assert made.token_ids.max() < shape.vocabulary_size
    assert (np.diff(made.positions, axis=1) > 0).all()
    assert (made.masked == made.positions.shape[1]).all()
    assert made.labels.min() > 0

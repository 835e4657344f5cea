"""Ranking: the best is never left out too often, and noise is not called a difference."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import lossary
from lossary.cli.main import app
from lossary.errors import ScoreError, UsageError
from lossary.statistics.estimates import RatioSums, ratio
from lossary.statistics.ranking import noise_floor, worse_than_best

DATASETS = ("reform", "views", "dialogue")


@pytest.fixture
def study(synthetic: Callable[..., Any], planted: Any) -> Path:
    made = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow", "odd": "torch"}, name="ranking")
    for run in ("torch_xxl", "tf_xxl"):
        made.score(run, {name: planted() for name in DATASETS})
        made.score(run, {name: planted(mlm=9.0) for name in DATASETS}, step=50)
    made.score("odd", {name: planted(mlm=9.0) for name in DATASETS})
    path: Path = made.folder.root
    return path


def test_what_is_clearly_worse_may_not_be_the_best(study: Path) -> None:
    found = lossary.rank(study)
    assert set(found.may_be_best).isdisjoint({c.name for c in found.model.candidates if c.run == "odd"})
    assert {name.partition("@")[0] for name in found.may_be_best} <= {"torch_xxl", "tf_xxl"}
    assert found.model.candidates[0].worse is None
    assert found.to_arrow("candidates").num_rows == 3


def test_every_checkpoint_can_be_ranked(study: Path) -> None:
    found = lossary.rank(study, every_step=True)
    assert len(found.model.candidates) == 5
    values = [candidate.value for candidate in found.model.candidates]
    assert values == sorted(values)


def test_accuracies_are_ranked_from_the_highest(study: Path) -> None:
    values = [candidate.value for candidate in lossary.rank(study, by="mlm_accuracy:macro").model.candidates]
    assert values == sorted(values, reverse=True)


def test_the_verb_prints_what_the_function_gives(study: Path) -> None:
    shown = CliRunner().invoke(app, ["rank", str(study), "--format", "json"])
    assert json.loads(shown.stdout) == lossary.rank(study).to_dict()
    text = CliRunner().invoke(app, ["rank", str(study)]).stdout
    assert "may be best" in text
    assert "how much another seed would change is not known" in text


def test_one_checkpoint_cannot_be_ranked(study: Path) -> None:
    with pytest.raises(ScoreError, match="two are the fewest"):
        lossary.rank(study, runs=["odd"])
    with pytest.raises(UsageError, match="no run is called 'nobody'"):
        lossary.rank(study, runs=["nobody"])
    with pytest.raises(UsageError, match="no total is called"):
        lossary.rank(study, by="mlm_lost")


def test_the_best_is_left_out_in_one_study_of_twenty_at_most() -> None:
    rng, left_out, studies, candidates = np.random.default_rng(3), 0, 1500, 6
    for _ in range(studies):
        pieces = rng.integers(1, 21, 60).astype(float)
        # All are equally good, so that each of them is the best.
        nats = rng.standard_t(4, (candidates, 60)) * pieces
        seen = int(np.argmin(nats.sum(axis=1)))
        # The first one stands for the one that is truly best.
        difference = ratio(RatioSums.of(nats[0] - nats[seen], pieces))
        found = worse_than_best(difference, candidates=candidates, lower_is_better=True)
        left_out += seen != 0 and found is not None and not found.may_be_best
    assert 0.01 < left_out / studies < 0.06


def test_the_noise_floor_is_the_pooled_deviation() -> None:
    rng = np.random.default_rng(8)
    groups = [list(rng.normal(centre, 0.02, 4)) for centre in np.linspace(2, 5, 50)]
    floor = noise_floor(groups)
    assert floor is not None
    assert floor.degrees == 150
    assert floor.low < 0.02 < floor.high
    assert abs(floor.deviation - 0.02) < 0.003
    assert noise_floor([[1.0], [2.0]]) is None


def test_two_runs_of_one_configuration_are_told_apart_by_their_seeds_in_one_case_of_twenty() -> None:
    rng, apart, studies = np.random.default_rng(9), 0, 2000
    for _ in range(studies):
        values = rng.normal(3.0, 0.02, (3, 3))
        floor = noise_floor([list(row) for row in values])
        assert floor is not None
        other = rng.normal(3.0, 0.02, 2)
        apart += abs(other[0] - other[1]) > floor.least_difference()
    assert 0.03 < apart / studies < 0.07

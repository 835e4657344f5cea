"""Ranking: the best is never left out too often, and noise is not called a difference."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.schema1 import rows_of
from typer.testing import CliRunner

import lossary
from lossary.cli.main import app
from lossary.errors import ScoreError, UsageError
from lossary.results.records import ScoreHeader, write_scores
from lossary.statistics.estimates import RatioSums, ratio
from lossary.statistics.ranking import noise_floor, worse_than_best
from lossary.tables.best import Criterion
from lossary.tables.load import open_table
from lossary.tables.ranked_table import rank_table

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


class TwoVocabularies:
    """A study with `own` and `mine` in its vocabulary; `rescore` writes a run's rows in pieces of another one."""

    def __init__(self, study: Any, planted: Any) -> None:
        self.study = study
        study.score("own", {name: planted() for name in DATASETS})
        study.score("mine", {name: planted(mlm=6.0) for name in DATASETS})

    def rescore(self, run: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        """Writes `run`: the rows of `own` with twice as many pieces, as `change` gives them, without those it drops."""
        wide = self.study.wide["own", 100]
        rows = [
            row | {"masked": 2 * row["masked"], "position_nats": None, "predicted": None} for row in wide.to_pylist()
        ]
        kept = [found for row in rows if (found := change(row)) is not None]
        header = ScoreHeader(
            run=run,
            step=100,
            objectives=("mlm", "sop"),
            validation_digest=self.study.digest,
            vocabulary_digest="sha256:1",
            left_out={"views": {"examples longer than the model takes": 10}},
        )
        table = rows_of(pa.Table.from_pylist(kept, schema=wide.schema))
        write_scores(self.study.folder.scores(run, 100), table, header)

    @property
    def path(self) -> Path:
        path: Path = self.study.folder.root
        return path


@pytest.fixture
def two(synthetic: Callable[..., Any], planted: Any) -> TwoVocabularies:
    return TwoVocabularies(synthetic({"own": "torch", "mine": "torch"}, name="two"), planted)


def test_across_vocabularies_bits_a_byte_rank_and_what_is_left_out_is_said(two: TwoVocabularies) -> None:
    two.rescore("theirs", lambda row: None if row["dataset"] == "views" and row["example"] < 10 else row)
    found = lossary.rank(two.path)
    assert found.model.criterion.metric == "mlm_bits_per_byte"
    # The same nats of the same bytes: no test tells them apart.
    assert {name.partition("@")[0] for name in found.may_be_best} == {"own", "theirs"}
    notes = "\n".join(found.model.notes)
    assert "theirs, views: left out of 1,950 examples: 10 examples longer than the model takes" in notes
    assert "without 10 examples that only one of both has" in notes


@pytest.mark.parametrize("by", ["mlm_loss", "mlm_accuracy:macro", "sop_accuracy"])
def test_what_is_of_other_pieces_ranks_no_runs_of_several_vocabularies(two: TwoVocabularies, by: str) -> None:
    two.rescore("theirs", lambda row: row)
    shown = CliRunner().invoke(app, ["rank", str(two.path), "--by", by])
    assert isinstance(shown.exception, UsageError)
    metric = by.partition(":")[0]
    assert shown.exception.message == f"{metric} is of other pieces in each vocabulary"
    assert shown.exception.where == "--by"
    assert "mlm_bits_per_byte" in str(shown.exception.hint)
    within = lossary.rank(two.path, by=by, runs=["own", "mine"])
    assert len(within.model.candidates) == 2


def test_across_vocabularies_a_margin_for_all_losses_is_of_bits_alone(two: TwoVocabularies) -> None:
    two.rescore("theirs", lambda row: row)
    decided = lossary.compare("own", "theirs", two.path, within=0.01)
    assert {decision.metric for decision in decided.decisions} == {"mlm_bits_per_byte"}
    assert {decision.answer for decision in decided.decisions} == {"equal"}
    alone = lossary.compare("own", "mine", two.path, within=0.01)
    assert {decision.metric for decision in alone.decisions} == {"mlm_loss", "sop_loss"}


def test_what_has_no_difference_to_the_best_one_may_not_be_the_best(two: TwoVocabularies) -> None:
    # Of reform both have other examples, so that the total has no paired difference.
    two.rescore("theirs", lambda row: row | {"example": row["example"] + 10_000} if row["dataset"] == "reform" else row)
    found = lossary.rank(two.path)
    first, *others = found.model.candidates
    by_run = {candidate.run: candidate for candidate in others}
    apart = by_run["theirs" if first.run == "own" else "own"]
    assert first.may_be_best
    assert (apart.worse, apart.may_be_best, apart.exceeds_noise) == (None, False, None)
    assert apart.reason
    assert f"{apart.name} has no difference to {first.name}" in "\n".join(found.model.notes)
    assert "no difference: see the note" in str(found)


def test_a_total_without_a_dataset_that_others_have_is_none(study: Path, synthetic: Any, planted: Any) -> None:
    made = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow", "odd": "torch"}, name="ranking")
    # It would be the best by far, if the dataset whose losses are no numbers did not count.
    made.score("odd", {name: planted(mlm=float("nan") if name == "views" else 0.1) for name in DATASETS}, step=200)
    found = lossary.rank(study, every_step=True)
    assert 200 not in {candidate.step for candidate in found.model.candidates}
    assert "odd@200: views: 1,950 of 1,950 examples gave no finite loss; left out" in found.model.notes


def test_a_dataset_without_such_a_number_is_in_no_total(study: Path, synthetic: Any, planted: Any) -> None:
    made = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow", "odd": "torch"}, name="ranking")
    for run in made.study.runs:
        made.score(run, {name: planted(sop=None if name == "views" else 0.5) for name in DATASETS}, step=300)
    found = lossary.rank(study, by="sop_loss")
    assert set(found.model.datasets) == {"reform", "dialogue"}
    assert "without views: no candidate has a number" in found.model.notes


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


@pytest.mark.parametrize("by", [None, "mlm_loss:macro", "mlm_accuracy"])
def test_a_table_ranks_its_runs_as_their_files_are_ranked(study: Path, by: str | None) -> None:
    criterion = None if by is None else Criterion.parse(by, where="by")
    for base in ("torch_xxl", "odd"):
        found = rank_table(open_table(study, base=base), criterion)
        expected = lossary.rank(study, by=by).model
        for here, there in zip(found.candidates, expected.candidates, strict=True):
            assert (here.name, here.may_be_best) == (there.name, there.may_be_best)
            numbers = [[n or 0.0 for n in (c.value, c.worse, c.low, c.high, c.p)] for c in (here, there)]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-6, abs=1e-12)
        assert (found.criterion, sorted(found.datasets)) == (expected.criterion, sorted(expected.datasets))


def test_components_of_repeats_are_told_in_every_view(synthetic: Callable[..., Any], planted: Any) -> None:
    made = synthetic({"one": "torch", "again": "torch"}, name="repeats")
    path: Path = made.folder.root
    text = (path / "study.toml").read_text(encoding="utf-8")
    (path / "study.toml").write_text(text.replace('[runs."again"]', '[runs."again"]\nseed = 5'), encoding="utf-8")
    made.score("one", {name: planted() for name in DATASETS})
    made.score("again", {name: planted(mlm=5.0) for name in DATASETS})
    found = lossary.rank(path)
    assert {row.dataset for row in found.model.components} == {*DATASETS, None}
    of_total = next(row.found for row in found.model.components if row.dataset is None)
    one, other = (candidate.value for candidate in found.model.candidates)
    expected = (one - other) ** 2 / 2 - of_total.examples**2
    assert of_total.seeds.deviation == pytest.approx(max(expected, 0.0) ** 0.5)
    assert of_total.configurations is None
    assert found.to_dict()["components"]
    assert "Standard deviations of one number" in str(found)
    of_table = rank_table(open_table(path)).components
    by_name = {row.dataset: row.found.seeds.deviation for row in found.model.components}
    assert {row.dataset: row.found.seeds.deviation for row in of_table} == pytest.approx(by_name)

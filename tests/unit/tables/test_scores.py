"""Sums by DuckDB are those of the columns, for files in order, shuffled, of other examples, and without SOP."""

import shutil
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.columns import compare_columns, estimates_of_columns, file_columns
from tests.scored import score_run

from lossary.errors import ScoreError
from lossary.folder import StudyFolder
from lossary.objectives import OBJECTIVES
from lossary.results.records import read_header, write_scores
from lossary.results.scorefile import ScoreFile, ScoreSums
from lossary.statistics.paired import differs_p
from lossary.statistics.ranking import worse_than_best
from lossary.study import Study
from lossary.tables.deltas import compare_files
from lossary.tables.scores import differences, file_estimates

NAMES = ["pairs", "stories", "lines", "nothing"]


@pytest.fixture
def folder(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    shutil.copytree(prepared[1].root, tmp_path / "a[b]")
    folder = StudyFolder(tmp_path / "a[b]")
    score_run(folder, "torch_a")
    score_run(folder, "tf_a", mean=4.0)
    return folder


def rewrite(path: Path, order: np.ndarray) -> None:
    write_scores(path, pq.read_table(path).take(order), read_header(path))


def same(found: dict, expected: dict) -> None:
    assert list(found) == list(expected)
    for dataset, metrics in expected.items():
        for metric, estimate in metrics.items():
            for one, other in zip(astuple(found[dataset][metric]), astuple(estimate), strict=True):
                assert one == (pytest.approx(other, rel=1e-9) if isinstance(other, float) else other), (dataset, metric)


@pytest.mark.parametrize("has_sop", [True, False])
def test_estimates_of_a_file_are_those_of_its_columns(folder: StudyFolder, has_sop: bool) -> None:
    score_run(folder, "torch_a", has_sop=has_sop)
    path = folder.scores("torch_a", 12)
    same(file_estimates(ScoreFile(path), NAMES), estimates_of_columns(file_columns(path, NAMES)))


def test_estimates_are_remembered_for_the_file_as_it_is(folder: StudyFolder) -> None:
    path = folder.scores("torch_a", 12)
    before = file_estimates(ScoreFile(path), NAMES)
    score_run(folder, "torch_a", mean=8.0)
    after = file_estimates(ScoreFile(path), NAMES)
    assert (after["lines"]["mlm_loss"].value or 0) > (before["lines"]["mlm_loss"].value or 0) + 0.5
    path.write_bytes(b"PAR1")
    with pytest.raises(ScoreError, match="not readable"):
        file_estimates(ScoreFile(path), NAMES)
    path.unlink()
    with pytest.raises(ScoreError, match="not readable"):
        file_estimates(ScoreFile(path), NAMES)


@pytest.mark.parametrize("how", ["in order", "shuffled", "fewer", "without sop"])
def test_differences_of_files_are_those_of_their_columns(folder: StudyFolder, how: str) -> None:
    paths = [folder.scores(run, 12) for run in ("torch_a", "tf_a")]
    rng = np.random.default_rng(0)
    if how == "shuffled":
        rewrite(paths[1], rng.permutation(len(pq.read_table(paths[1]))))
    if how == "fewer":
        kept = pq.read_table(paths[1])["example"].to_numpy() % 3 > 0
        rewrite(paths[1], np.flatnonzero(kept))
    if how == "without sop":
        score_run(folder, "tf_a", mean=4.0, has_sop=False)
    found = compare_files(ScoreFile(paths[0]), ScoreFile(paths[1]), NAMES)
    expected = compare_columns(*(file_columns(path, NAMES) for path in paths))
    same(found.estimates, expected.estimates)
    assert found.unmatched == expected.unmatched


@pytest.mark.parametrize(("shift", "is_told"), [(6e-8, False), (2e-5, True), (2e-4, True)])
def test_what_rounding_leaves_is_no_difference(shift: float, is_told: bool) -> None:
    """Every example differs by the same little: no number of them makes it more than rounding."""
    targets = np.full(400, 20.0)
    nats = shift * targets * (1 + 1e-3 * np.random.default_rng(0).standard_normal(400))
    sums = ScoreSums.of(nats=nats, correct=np.zeros(400), targets=targets, bytes=3 * targets)
    for name, metrics in (("mlm", ("mlm_loss", "mlm_bits_per_byte")), ("sop", ("sop_loss",))):
        found = differences(OBJECTIVES[name], sums)
        for metric in metrics:
            p = differs_p(found[metric])
            assert p is not None
            assert (p < 0.05) == is_told
            worse = worse_than_best(found[metric], candidates=2, lower_is_better=True)
            assert worse is not None
            assert worse.may_be_best != is_told

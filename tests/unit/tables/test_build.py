"""The table says what the scores add up to, and why a number is not there."""

from collections.abc import Callable
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import lossary
from lossary.errors import ScoreError, UsageError
from lossary.files import write_json
from lossary.results.records import STEP_SCHEMA, read_header, write_scores, write_steps
from lossary.tables.best import Criterion, best_step
from lossary.tables.build import build_table, paired_table
from lossary.tables.comparison import Side, compare

RUNS = {"torch_xxl": "torch", "tf_xxl": "tensorflow"}


def test_values_are_sums_divided_once(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS)
    scores = study.score("torch_xxl", {name: planted() for name in ("reform", "views", "dialogue")})
    table = build_table(study.study, study.folder, runs=["torch_xxl"])
    for dataset in ("reform", "views", "dialogue"):
        rows = scores.filter(pc.equal(scores["dataset"].cast("string"), dataset))
        nats, masked, hits, sop_nats, sop_hits, sizes = (
            rows[name].to_numpy() for name in ("mlm_nats", "masked", "mlm_correct", "sop_nats", "sop_correct", "bytes")
        )
        cell = {
            m: table.cell("torch_xxl", dataset, m)
            for m in ("mlm_loss", "mlm_accuracy", "mlm_bits_per_byte", "sop_loss", "sop_accuracy")
        }
        assert cell["mlm_bits_per_byte"].value == pytest.approx(nats.sum() / sizes.sum() / log(2), rel=1e-12)
        assert cell["mlm_loss"].value == pytest.approx(nats.sum() / masked.sum(), rel=1e-12)
        assert cell["mlm_accuracy"].value == pytest.approx(hits.sum() / masked.sum(), rel=1e-12)
        assert cell["sop_loss"].value == pytest.approx(sop_nats.mean(), rel=1e-12)
        assert cell["sop_accuracy"].value == pytest.approx(sop_hits.mean(), rel=1e-12)
        assert cell["mlm_loss"].n == len(rows)
        assert cell["mlm_loss"].low < cell["mlm_loss"].value < cell["mlm_loss"].high
        assert cell["mlm_loss"].link == f"https://example.org/torch_xxl/mlm_loss?dataset={dataset}"


def test_totals_are_weighted_as_they_are_called(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS)
    study.score("torch_xxl", {"reform": planted(mlm=1.8), "views": planted(mlm=4.0), "dialogue": planted(mlm=1.5)})
    table = build_table(study.study, study.folder, runs=["torch_xxl"])
    values = np.array([table.cell("torch_xxl", row.name, "mlm_loss").value for row in table.datasets])
    weights = {
        "validation_share": [row.validation_share for row in table.datasets],
        "train_share": [row.train_share for row in table.datasets],
        "macro": [1 / 3] * 3,
    }
    assert [round(row.train_share, 3) for row in table.datasets] == [0.356, 0.290, 0.354]
    for weighting, share in weights.items():
        total = table.total("torch_xxl", "mlm_loss", weighting)  # type: ignore[arg-type]
        assert total.value == pytest.approx(np.dot(values, share), rel=1e-9)
        assert total.low < total.value < total.high


@pytest.mark.parametrize("gone", ["reform", "views", "dialogue"])
def test_after_a_dataset_left_shares_add_up_and_the_runs_that_had_it_are_named(
    synthetic: Callable[..., Any], planted: Any, gone: str
) -> None:
    """Before the next `prepare` the frozen set lists it still."""
    study = synthetic(RUNS)
    losses = {"reform": 1.8, "views": 4.0, "dialogue": 1.5}
    for run in RUNS:
        study.score(run, {name: planted(mlm=mlm) for name, mlm in losses.items()})
    write_json(
        study.folder.run("torch_xxl") / "run.json",
        {"datasets": list(losses), "weights": dict.fromkeys(losses, 1 / 3), "recipe": {"steps": 100}},
    )
    left = {name: dataset for name, dataset in study.study.datasets.items() if name != gone}
    now = study.study.model_copy(update={"datasets": left})
    table = build_table(now, study.folder)
    assert [row.name for row in table.datasets] == [name for name in losses if name != gone]
    assert sum(row.validation_share for row in table.datasets) == pytest.approx(1.0, abs=1e-12)
    assert sum(row.train_share for row in table.datasets) == pytest.approx(1.0, abs=1e-12)
    assert f"also trained on {gone}, no longer in the study file: torch_xxl" in table.notes
    # What is chosen by a total is chosen by the one that is shown.
    chosen = best_step(now, study.folder, "torch_xxl", Criterion())
    assert chosen is not None
    assert chosen.value == pytest.approx(table.total("torch_xxl", "mlm_loss", "validation_share").value, rel=1e-9)
    # Runs are compared on what is left; of their own mixtures there is no total any more.
    rows = [dict.fromkeys(STEP_SCHEMA.names, 1) | {"run": run, "dataset": n} for run in RUNS for n in losses]
    for run in RUNS:
        write_steps(study.folder.steps(run), pa.Table.from_pylist(rows, schema=STEP_SCHEMA))
    sides = [Side(study=now, folder=study.folder, run=run) for run in RUNS]
    assert compare(*sides).own_mixture is None
    assert not any(note.startswith("also trained") for note in build_table(study.study, study.folder).notes)


def test_a_dataset_without_pairs_has_no_sop_and_its_total_says_so(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS)
    study.score("tf_xxl", {"reform": planted(sop=0.1), "views": planted(sop=None), "dialogue": planted(sop=0.4)})
    table = build_table(study.study, study.folder, runs=["tf_xxl"])
    cell = table.cell("tf_xxl", "views", "sop_loss")
    assert cell.value is None
    assert cell.reason == "no example has two sentences"
    total = table.total("tf_xxl", "sop_loss", "validation_share")
    parts = {name: table.cell("tf_xxl", name, "sop_loss").value for name in ("reform", "dialogue")}
    assert total.value == pytest.approx((0.08 * parts["reform"] + 0.27 * parts["dialogue"]) / 0.35)
    assert "without views" in total.reason


def test_standing_against_floor_and_chance_is_said_in_words(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS)
    study.score(
        "tf_xxl",
        {
            "reform": planted(mlm=6.5, sop=1.03),
            "views": planted(mlm=3.7, sop=0.693),
            "dialogue": planted(mlm=7.2, sop=0.2),
        },
    )
    table = build_table(study.study, study.folder, runs=["tf_xxl"])
    standing = {(c.dataset, c.metric): c.standing for c in table.cells if c.metric.endswith("loss")}
    assert standing == {
        ("reform", "mlm_loss"): "at",
        ("views", "mlm_loss"): "below",
        ("dialogue", "mlm_loss"): "above",
        ("reform", "sop_loss"): "above",
        ("views", "sop_loss"): "at",
        ("dialogue", "sop_loss"): "below",
    }
    notes = "\n".join(table.notes)
    assert "MLM loss on the unigram plateau, no better than the frequencies of pieces: tf_xxl (reform)" in notes
    assert "SOP loss above ln 2, worse than answering by a coin: tf_xxl (reform)" in notes
    assert "SOP loss not shown to be below chance: tf_xxl (views)" in notes


def test_runs_that_cannot_be_compared_are_left_out_and_said(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS | {"late": "jax"})
    all_datasets = {name: planted() for name in ("reform", "views", "dialogue")}
    study.score("torch_xxl", all_datasets)
    study.score("tf_xxl", all_datasets, digest="blake2b:another")
    table = build_table(study.study, study.folder)
    assert [run.name for run in table.runs] == ["torch_xxl"]
    assert "tf_xxl: scored on another validation set; left out" in table.notes
    assert "late: not scored yet; left out" in table.notes


def test_the_newest_scores_are_shown_or_those_of_a_step(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS)
    for step, loss in ((100, 5.0), (2000, 3.0)):
        study.score("torch_xxl", {name: planted(mlm=loss) for name in ("reform", "views", "dialogue")}, step=step)
    assert build_table(study.study, study.folder, runs=["torch_xxl"]).runs[0].step == 2000
    at = build_table(study.study, study.folder, runs=["torch_xxl"], step=100)
    assert at.cell("torch_xxl", "views", "mlm_loss").value == pytest.approx(5.0, abs=0.2)


def test_a_missing_part_of_the_scores_is_a_missing_cell(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS)
    study.score("torch_xxl", {"reform": planted(), "views": planted()})
    cell = build_table(study.study, study.folder).cell("torch_xxl", "dialogue", "mlm_loss")
    assert (cell.value, cell.reason) == (None, "no validation example")


def test_nothing_scored_and_nothing_readable_are_errors(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS)
    with pytest.raises(ScoreError, match="no scores"):
        build_table(study.study, study.folder)
    study.score("torch_xxl", {"reform": planted()})
    with pytest.raises(UsageError, match="no run is called 'nobody'"):
        build_table(study.study, study.folder, runs=["nobody"])
    path = study.folder.scores("torch_xxl", 100)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ScoreError, match=r"00000100\.parquet"):
        build_table(study.study, study.folder)
    path.write_bytes(b"nothing")
    with pytest.raises(ScoreError, match=r"00000100\.parquet"):
        build_table(study.study, study.folder)


def test_the_best_step_of_causal_scores_is_chosen_by_their_own_loss(
    synthetic: Callable[..., Any], planted: Any
) -> None:
    study = synthetic(RUNS)
    for run in RUNS:
        for step, mlm in ((50, 2.0), (100, 3.0)):
            study.score(run, {name: planted(mlm=mlm) for name in ("reform", "views", "dialogue")}, step=step)
    for step in (50, 100):
        path = study.folder.scores("tf_xxl", step)
        rows = pq.read_table(path)
        rows = rows.filter(pc.equal(rows["objective"].cast("string"), "mlm"))
        causal = rows.set_column(rows.column_names.index("objective"), "objective", pa.array(["clm"] * len(rows)))
        write_scores(path, causal.cast(rows.schema), replace(read_header(path), objectives=("clm",)))
    found = lossary.table(study.folder.root, step="best").model
    assert [(run.name, run.step) for run in found.runs] == [("torch_xxl", 50), ("tf_xxl", 50)]
    chosen = [note for note in found.notes if "is the best of 2 scored" in note]
    assert [next(m for m in ("mlm_loss", "clm_loss") if m in note) for note in chosen] == ["mlm_loss", "clm_loss"]


DATASETS = ("reform", "views", "dialogue")


def _without(planted: Any, missing: str, mlm: float) -> dict[str, Any]:
    return {name: planted(mlm=float("nan") if name == missing else mlm) for name in DATASETS}


def test_a_step_without_a_loss_that_others_have_is_not_the_best_and_is_named(
    synthetic: Callable[..., Any], planted: Any
) -> None:
    study = synthetic(RUNS)
    for step, missing, mlm in ((50, "none", 3.0), (100, "views", 0.1), (150, "none", 2.0), (200, "views", 0.2)):
        study.score("torch_xxl", _without(planted, missing, mlm), step=step)
    found = best_step(study.study, study.folder, "torch_xxl", Criterion())
    assert found is not None
    assert (found.step, found.steps) == (150, [50, 150])
    assert found.value == pytest.approx(
        build_table(study.study, study.folder, step=150).total("torch_xxl", "mlm_loss", "validation_share").value
    )
    notes = build_table(study.study, study.folder, step=Criterion()).notes
    assert "torch_xxl: no mlm_loss of views at steps 100, 200: left out of the choice of the best step" in notes
    # Of equal sets all are compared: no step has pairs of `views`.
    for step in (50, 100):
        pairs = {name: planted(sop=None if name == "views" else step / 100) for name in DATASETS}
        study.score("tf_xxl", pairs, step=step)
    by_pairs = best_step(study.study, study.folder, "tf_xxl", Criterion("sop_loss"))
    assert by_pairs is not None
    assert (by_pairs.step, by_pairs.steps) == (50, [50, 100])


def test_steps_that_lack_different_datasets_have_no_best(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS)
    for step, missing in ((50, "views"), (100, "reform")):
        study.score("torch_xxl", _without(planted, missing, 2.0), step=step)
    study.score("tf_xxl", _without(planted, "none", 2.0))
    assert best_step(study.study, study.folder, "torch_xxl", Criterion()) is None
    table = build_table(study.study, study.folder, step=Criterion())
    assert [run.name for run in table.runs] == ["tf_xxl"]
    for step, missing in ((50, "views"), (100, "reform")):
        note = f"torch_xxl: no mlm_loss of {missing} at step {step}: left out of the choice of the best step"
        assert note in table.notes


def test_a_run_without_a_loss_that_others_have_is_not_the_best_and_is_named(
    synthetic: Callable[..., Any], planted: Any
) -> None:
    study = synthetic(RUNS | {"odd": "torch"})
    study.score("torch_xxl", _without(planted, "none", 3.0))
    study.score("tf_xxl", _without(planted, "none", 2.0))
    study.score("odd", _without(planted, "views", 0.1))
    said = "odd: no mlm_loss of views, which other runs have; not the run that others are compared with"
    table = paired_table(study.study, study.folder)
    assert table.base == "tf_xxl"
    assert said in table.notes
    # One that is whole is the base of one that is not.
    two = paired_table(study.study, study.folder, runs=["torch_xxl", "odd"])
    assert (two.base, said in two.notes) == ("torch_xxl", True)
    # What nobody has sets no run apart.
    study.score("torch_xxl", _without(planted, "views", 3.0))
    same = paired_table(study.study, study.folder, runs=["torch_xxl", "odd"])
    assert (same.base, said in same.notes) == ("odd", False)


def test_runs_that_lack_different_datasets_have_no_best_by_it(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic(RUNS)
    for run, missing in (("torch_xxl", "views"), ("tf_xxl", "reform")):
        study.score(run, {name: planted(mlm=float("nan") if name == missing else 2.0, sop=None) for name in DATASETS})
    table = paired_table(study.study, study.folder)
    assert table.base is None
    assert len([note for note in table.notes if "which other runs have" in note]) == 2

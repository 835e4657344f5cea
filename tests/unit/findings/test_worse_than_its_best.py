"""A run that was better before is told of, with the step; one that wanders by sampling or noise is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.unit.findings.simulated import Plan, simulate

from lossary.findings.engine import check
from lossary.findings.folder import check_folder
from lossary.findings.model import Finding
from lossary.findings.subject import Subject
from lossary.results.importers.model import Curve, Imported
from lossary.tables.history import Evaluation
from lossary.tables.imported import save_import

CODE = "L404"


def with_history(subject: Subject, shift: float, *, steps: int = 4, seed: int = 0) -> Subject:
    """Earlier evaluations of every cell: `shift` from it, and off by what sampling does."""
    rng = np.random.default_rng(seed)
    cells = [replace(cell, step=1000) for cell in subject.table.cells]
    points = [
        Evaluation(
            run=cell.run,
            dataset=cell.dataset,
            metric=cell.metric,
            step=100 * (1 + index),
            tokens=None,
            value=cell.value + shift + rng.normal(0, (cell.variance or 0.0) ** 0.5),
            low=None,
            high=None,
            variance=cell.variance,
            n=cell.n,
        )
        for cell in cells
        for index in range(steps)
        if cell.value is not None
    ]
    return replace(subject, table=replace(subject.table, cells=cells), evaluations=points)


def found(subject: Subject) -> list[Finding]:
    return [finding for finding in check(subject).findings if finding.code == CODE]


def test_a_run_that_was_better_before_is_told_of_with_the_step() -> None:
    findings = found(with_history(simulate(Plan(), 1), -0.8))
    warned = [f for f in findings if f.severity == "warning" and "MLM loss" in f.gist]
    assert {f.runs[0] for f in warned} == {"torch_xxl", "tf_xxl", "tf_xxl_seed2"}
    for finding in warned:
        assert "at step 1,000" in finding.gist
        assert finding.p is not None
        assert finding.p < 0.05
        assert {row["best_step"] for row in finding.evidence} <= {100, 200, 300, 400}
        assert "--step best" in finding.next_step


def test_runs_that_fell_or_wander_by_sampling_are_not() -> None:
    assert {f.severity for f in found(with_history(simulate(Plan(), 1), 0.8))} == {"pass"}
    warned = [
        seed
        for seed in range(40)
        if any(f.severity == "warning" for f in found(with_history(simulate(Plan(examples=60), seed), 0.0, seed=seed)))
    ]
    assert len(warned) <= 5, warned


def test_few_examples_and_a_single_step_are_skipped() -> None:
    assert {f.severity for f in found(with_history(simulate(Plan(examples=4), 1), -0.8))} <= {"skipped", "pass"}
    assert {f.severity for f in found(simulate(Plan(), 1))} == {"skipped"}


def imported(root: Path, *, split: str = "eval", **losses: np.ndarray) -> list[Finding]:
    curves = [
        Curve(run="torch", dataset=name, metric="mlm_loss", split=split, step=100 * np.arange(1, 1 + len(v)), value=v)  # type: ignore[arg-type]
        for name, v in losses.items()
    ]
    save_import(root, "runs", [Imported(path=str(root / "log.csv"), kind="csv", curves=curves)])
    return [finding for finding in check_folder(root).findings if finding.code == CODE]


def test_an_imported_curve_that_rises_is_told_of_without_n_or_p(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 30)
    noise = np.random.default_rng(0).normal(0, 0.01, 30)
    [finding] = imported(tmp_path, wiki=2 + 4 * (x - 0.5) ** 2 + noise, books=3 - x + noise)
    assert finding.severity == "warning"
    assert finding.datasets == ["wiki"]
    assert (finding.n, finding.p) == (None, None)
    assert "no n, so no test" in finding.test
    assert "at step 3,000" in finding.gist


def test_noise_of_an_imported_curve_training_and_few_points_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for seed in range(20):
        [noisy] = imported(tmp_path / f"noise-{seed}", wiki=3 + rng.normal(0, 0.2, 40))
        assert noisy.severity == "pass", seed
    rising = np.linspace(2, 4, 30)
    assert [f.severity for f in imported(tmp_path / "train", split="train", wiki=rising)] == ["skipped"]
    assert [f.severity for f in imported(tmp_path / "few", wiki=rising[:5])] == ["skipped"]


def test_curves_that_only_wander_are_hardly_told_of_and_risen_ones_are() -> None:
    from benchmarks.best_steps import share_told

    wandering = [share_told(40, points, noise, 0.9, 0.0) for points in (30, 200) for noise in (0.05, 0.1)]
    assert max(wandering) <= 0.1
    assert share_told(40, 200, 0.2, 0.0, 0.0) <= 0.05
    assert min(share_told(40, points, 0.02, 0.0, 0.5) for points in (30, 200)) >= 0.9

"""A total that falls while one dataset rises is told of; noise, and datasets that all fall, are not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import lossary
from lossary.findings.model import Finding
from lossary.results.records import read_header, write_scores
from lossary.results.scorefile import ScoreFile

CODE = "L405"


def with_steps(made: Any, planted: Any, *shifts: dict[str, float], noise: float = 0.05) -> None:
    """Scores of `torch` at a step for each dict: those of the first, with so many nats a target more, and noise."""
    import pyarrow.parquet as pq

    made.score("torch", {name: planted() for name in ("reform", "views", "dialogue")}, step=100)
    path = made.folder.scores("torch", 100)
    table, header = pq.read_table(path), read_header(path)
    rng = np.random.default_rng(len(shifts))
    for number, shift in enumerate(shifts):
        names = table["dataset"].cast(pa.string()).to_pylist()
        targets = table["targets"].to_numpy()
        is_mlm = np.array([name == "mlm" for name in table["objective"].cast(pa.string()).to_pylist()])
        more = (
            (np.array([shift.get(name, 0.0) for name in names]) + rng.normal(0, noise, len(names))) * targets * is_mlm
        )
        nats = np.maximum(table["nats"].to_numpy() + more, 0.01)
        place, lists = table.column_names.index("nats"), table.column_names.index("target_nats")
        step = 200 + 100 * number
        changed = table.set_column(place, "nats", pa.array(nats))
        changed = changed.set_column(lists, "target_nats", pa.nulls(len(names), table.schema.field(lists).type))
        changed = changed.set_column(table.column_names.index("step"), "step", pa.array([step] * len(names)))
        write_scores(made.folder.scores("torch", step), changed, replace(header, step=step))


@pytest.fixture
def told(synthetic: Callable[..., Any], planted: Any) -> Callable[..., list[Finding]]:
    def of(*shifts: dict[str, float], **more: float) -> list[Finding]:
        made = synthetic({"torch": "torch"})
        with_steps(made, planted, *shifts, **more)
        return [finding for finding in lossary.check(made.folder.root) if finding.code == CODE]

    return of


def test_a_dataset_that_pays_for_the_total_is_named(told: Callable[..., list[Finding]]) -> None:
    (found,) = told({"views": -0.2}, {"views": -0.4, "reform": 0.08})
    assert found.severity == "warning"
    assert found.datasets == ["reform"]
    assert "the total MLM loss falls by" in found.gist
    assert "that of reform rises by 0.08" in found.gist
    assert found.p is not None
    assert found.p < 0.05
    assert found.evidence[0]["step"] == 300


@pytest.mark.parametrize(
    "shifts",
    [
        ({"views": -0.2}, {"views": -0.4, "reform": -0.1}),  # all fall
        ({"views": 0.2}, {"views": 0.4, "reform": 0.1}),  # the total rises, too
        ({"views": -0.2}, {"views": -0.4, "reform": 0.02}),  # too little to matter
        ({}, {}),  # nothing but noise
    ],
)
def test_what_is_no_trade_is_not(shifts: tuple[dict[str, float], ...], told: Callable[..., list[Finding]]) -> None:
    assert {finding.severity for finding in told(*shifts)} == {"pass"}


def test_a_rise_that_noise_explains_is_not(told: Callable[..., list[Finding]]) -> None:
    assert {finding.severity for finding in told({"views": -0.2, "reform": 0.04}, noise=3.0)} == {"pass"}


def test_a_single_step_is_skipped(told: Callable[..., list[Finding]]) -> None:
    assert {finding.severity for finding in told()} == {"skipped"}


def test_the_planted_rows_are_paired(synthetic: Callable[..., Any], planted: Any) -> None:
    made = synthetic({"torch": "torch"})
    with_steps(made, planted, {"reform": 0.08}, noise=0.0)
    first, second = (ScoreFile(made.folder.scores("torch", step)) for step in (100, 200))
    sums = first.paired(second, "mlm", ["reform"]).sums["reform"].nats
    assert sums.y / sums.x == pytest.approx(0.08)

"""Which columns the table in a terminal has, and how many runs stand side by side."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lossary.api.results import TableResult
from lossary.errors import UsageError
from lossary.tables.build import build_table
from lossary.tables.model import Table

RUNS = dict.fromkeys(("a", "b", "c", "d", "e"), "torch")


@pytest.fixture
def table(synthetic: Callable[..., Any], planted: Any) -> Table:
    study = synthetic(RUNS)
    for name in RUNS:
        study.score(name, {dataset: planted(mlm=1.7) for dataset in ("reform", "views")})
    return build_table(study.study, study.folder, base="a")


def heads(table: Table, width: int) -> list[list[str]]:
    """The names of runs in each block of the MLM loss."""
    lines = TableResult(table).text(metrics=["mlm_loss"], width=width).splitlines()
    return [[name for name in line.split() if name in RUNS] for line in lines if line.startswith("dataset")]


def test_as_many_runs_stand_side_by_side_as_the_width_takes(table: Table) -> None:
    assert heads(table, 100) == [["a", "b"], ["c", "d"], ["e"]]
    assert heads(table, 180) == [["a", "b", "c", "d", "e"]]
    widest = max(map(len, TableResult(table).text(metrics=["mlm_loss"], width=180).splitlines()))
    assert 100 < widest <= 180


def test_where_nothing_was_trained_there_are_no_columns_of_training(table: Table) -> None:
    assert "train rows" in str(TableResult(table))
    datasets = [replace(row, train_rows=None, train_share=None) for row in table.datasets]
    text = str(TableResult(replace(table, datasets=datasets)))
    assert "train" not in text.split("±")[0]
    assert "100.0" in text


def test_differences_stand_only_where_a_metric_has_them(table: Table) -> None:
    deltas = [replace(row, value=None) if row.metric == "mlm_accuracy" else row for row in table.deltas]
    found = TableResult(replace(table, deltas=deltas))
    assert "Δ base" not in found.text(metrics=["mlm_accuracy"])
    assert "Δ base" in found.text(metrics=["mlm_loss"])


def test_a_metric_without_a_value_is_refused(table: Table) -> None:
    with pytest.raises(UsageError, match="no metric is called 'clm_loss'"):
        TableResult(table).text(metrics=["clm_loss"])

"""Records in JSON under names, and tables with a column of metrics beside those of datasets or runs."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lossary.results.importers.model import Imported

Read = Callable[..., Imported]


def numbers_of(found: Imported) -> dict[tuple[str, str | None, str], float]:
    return {(n.run, n.dataset, n.metric): n.value for n in found.numbers}


def test_records_below_runs_are_of_them(read: Read) -> None:
    def records(wiki: float) -> list[dict[str, Any]]:
        return [
            {"metric": "mlm_loss", "dataset": "wiki", "value": wiki},
            {"metric": "mlm_accuracy", "dataset": "wiki", "value": 0.5},
        ]

    found = read("runs.json", json.dumps({"a": records(2.5), "b": records(2.75)}))
    assert numbers_of(found) == {
        ("a", "wiki", "mlm_loss"): 2.5,
        ("a", "wiki", "mlm_accuracy"): 0.5,
        ("b", "wiki", "mlm_loss"): 2.75,
        ("b", "wiki", "mlm_accuracy"): 0.5,
    }


@pytest.mark.parametrize(
    ("names", "expected", "is_told"),
    [
        (("train", "validation"), {("t", "all", "train"), ("t", "all", "eval")}, False),
        (("wiki", "books"), {("t", "wiki", "unknown"), ("t", "books", "unknown")}, False),
        (("ab12", "cd34"), {("ab12", "all", "unknown"), ("cd34", "all", "unknown")}, True),
    ],
)
def test_lists_below_names_are_of_splits_datasets_or_runs(
    read: Read, names: tuple[str, str], expected: set[tuple[str, str, str]], is_told: bool
) -> None:
    points = [{"step": 1, "loss": 3.5}, {"step": 2, "loss": 2.5}]
    found = read("t.json", json.dumps(dict.fromkeys(names, points)))
    assert {(c.run, c.dataset, c.split) for c in found.curves} == expected
    assert any("nothing says whether 'ab12', 'cd34' are datasets or runs" in note for note in found.notes) == is_told


def test_one_list_has_the_run_that_stands_beside_it(read: Read) -> None:
    text = json.dumps({"run": "base", "seed": 3, "metrics": [{"step": 1, "val_loss": 3.5}, {"step": 2, "val_loss": 3}]})
    assert [(c.run, tuple(c.value)) for c in read("t.json", text).curves] == [("base", (3.5, 3.0))]


def test_columns_beside_one_of_metrics_are_what_the_rows_do_not_name(read: Read) -> None:
    expected = {
        ("a", "wiki", "loss"): 2.5,
        ("a", "books", "loss"): 3.5,
        ("b", "wiki", "loss"): 2.25,
        ("b", "books", "loss"): 3.25,
    }
    by_run = read("t.csv", "run,metric,wiki,books,params\na,val_loss,2.5,3.5,7\nb,val_loss,2.25,3.25,9\n")
    assert numbers_of(by_run) == expected
    by_dataset = read("t.csv", "dataset,metric,a,b\nwiki,val_loss,2.5,2.25\nbooks,val_loss,3.5,3.25\n")
    assert numbers_of(by_dataset) == expected


def test_settings_among_columns_of_runs_are_told(read: Read) -> None:
    found = read("t.csv", "metric,base,large,params\nwiki_loss,2.5,2.25,100\nbooks_loss,3.5,3.25,100\n")
    assert {number.run for number in found.numbers} == {"base", "large"}
    assert "columns that say settings or speeds are left out: params" in found.notes

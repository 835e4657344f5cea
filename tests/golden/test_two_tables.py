"""A page that a team kept by hand: every number and link comes back, with the findings of a careful reader."""

import re
from pathlib import Path

import pytest

from lossary.findings.engine import Checked, check
from lossary.findings.model import Finding
from lossary.findings.subject import subject_of_table
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.recognise import read_any
from lossary.tables.imported import imported_table, save_import
from lossary.tables.model import Table

PAGE = Path(__file__).parents[2] / "examples" / "two-tables" / "losses.md"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("two-tables")
    save_import(folder, "two tables", [read_any(PAGE, parse_maps([]))])
    return imported_table(folder)


@pytest.fixture(scope="module")
def checked(table: Table) -> Checked:
    return check(subject_of_table(table, "two-tables"))


def one(checked: Checked, name: str, subject: str) -> Finding:
    return next(
        f for f in checked.findings if f.name == name and f.subject.startswith(subject) and f.severity != "pass"
    )


def test_every_number_and_link_comes_back(table: Table) -> None:
    text = PAGE.read_text(encoding="utf-8")
    printed = re.findall(r"\[`?([\d.]+)`?\]\(([^)]+)\)", text)
    shown = [(number.reported, number.link) for number in [*table.cells, *table.totals] if number.reported is not None]
    assert sorted(printed) == sorted(shown)
    rows = {row.name: (row.train_rows, row.train_share, row.validation_share, row.link) for row in table.datasets}
    assert rows == {
        "queries": (314_000_000, pytest.approx(0.356), 0.08, "https://example.org/data/queries"),
        "views": (256_000_000, pytest.approx(0.29), 0.65, "https://example.org/data/views"),
        "dialogue": (312_000_000, 0.354, 0.27, None),
    }
    assert table.cell("torch", "views", "mlm_accuracy").value == pytest.approx(0.5152)
    assert table.cell("torch", "dialogue", "mlm_loss").value is None
    assert [run.section for run in table.runs] == [*["PyTorch beside TensorFlow"] * 2, *["xlarge beside xxlarge"] * 2]


def test_a_total_that_equals_a_part(checked: Checked) -> None:
    found = one(checked, "total-not-weighted-sum", "xl · SOP loss")
    assert found.severity == "warning"
    assert "0.624" in found.expected
    assert "equals the value of dialogue to the last digit" in found.means


def test_the_weighting_that_fits_best_is_named_and_fits_not_exactly(checked: Checked) -> None:
    found = one(checked, "total-not-weighted-sum", "totals by validation share")
    for text in ("1.398, printed 1.42", "3.559, printed 3.47", "0.04894, printed 0.05"):
        assert text in found.measured
    assert "no weighting of the page gives all totals exactly" in found.means
    errors = {row["weighting"]: row["largest_error"] for row in found.evidence}
    assert min(errors, key=lambda name: errors[name]) == "validation share"
    assert errors["validation share"] < 0.03


def test_order_prediction_of_xlarge_is_above_chance_on_two_datasets(checked: Checked) -> None:
    assert list(one(checked, "sop-above-chance", "xl").datasets) == ["queries", "dialogue"]


def test_loss_and_accuracy_of_torch_do_not_fit_on_views(checked: Checked) -> None:
    conflicts = [f for f in checked.findings if f.name == "loss-accuracy-conflict" and f.severity == "warning"]
    assert [f.subject for f in conflicts] == ["torch · views"]
    assert "29 % of positions" in conflicts[0].means
    assert "10.7 nats" in conflicts[0].means


def test_gaps_are_of_datasets_and_two_runs_share_a_profile(checked: Checked) -> None:
    assert "views +2.740" in one(checked, "gap-dataset-specific", "torch − tf").measured
    assert "views +2.410" in one(checked, "gap-dataset-specific", "xl − xxl · MLM loss").measured
    assert "learned only queries" in one(checked, "shared-failure-profile", "torch and xl").means


def test_the_missing_cells_are_implied_by_the_totals(checked: Checked) -> None:
    assert "about 4.27" in one(checked, "missing-cells", "torch · MLM loss").means
    assert "about 48.3 %" in one(checked, "missing-cells", "torch · MLM accuracy").means


def test_validation_weighs_views_otherwise_than_training(checked: Checked) -> None:
    found = one(checked, "train-validation-shares-differ", "the total")
    assert found.measured == "views: 65 % of validation, 29 % of training"
    assert found.severity == "warning"

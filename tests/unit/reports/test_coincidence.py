"""Runs that a chart cannot tell apart are drawn as one, and only those; the chart names them."""

from pathlib import Path

import numpy as np
import pytest

from lossary.reports.charts import write_curves
from lossary.reports.html.links import Ids
from lossary.reports.html.views.coincidence import Course, Scale, coincide_text, grouped
from lossary.reports.html.views.curves import CurveChart, CurvesView, curves_view, static_charts
from lossary.results.importers.model import Curve, Imported
from lossary.tables.imported import save_import
from lossary.tables.load import open_table

STEPS = np.arange(1, 201)
FALLING = 2 + 4 * np.exp(-STEPS / 50)
# One of 180 pixels over 4 nats.
PIXEL = 4 / 180


def view_of(root: Path, **losses: np.ndarray) -> CurvesView:
    """The curves of an import of runs with these losses on one dataset, at every step as far as they go."""
    curves = [
        Curve(run=run, dataset="wiki", metric="mlm_loss", split="eval", step=STEPS[: len(loss)], value=loss)
        for run, loss in losses.items()
    ]
    save_import(root, "runs", [Imported(path=str(root / "log.csv"), kind="csv", curves=curves)])
    opened = open_table(root)
    return curves_view(opened, Ids(list(losses), ["wiki"]))


def chart_of(root: Path, **losses: np.ndarray) -> CurveChart:
    [chart] = view_of(root, **losses).charts
    return chart


def test_runs_of_the_same_losses_have_one_mark_and_are_named(tmp_path: Path) -> None:
    chart = chart_of(tmp_path, torch=FALLING, jax=FALLING + 0.1 * PIXEL, other=FALLING + 0.5)
    assert [[line.run for line in group] for group in chart.lines] == [["torch", "jax"], ["other"]]
    assert chart.same == ["2 runs coincide: torch, jax"]
    assert chart.about.endswith("2 runs coincide: torch, jax")
    assert {row[0] for row in chart.data.rows} == {"torch", "jax", "other"}


@pytest.mark.parametrize(
    "other",
    [
        FALLING + 3 * PIXEL,
        np.where(STEPS == 100, FALLING + 1, FALLING),  # a spike
        FALLING[:150],  # ends earlier
    ],
)
def test_runs_that_can_be_told_apart_keep_their_marks(tmp_path: Path, other: np.ndarray) -> None:
    chart = chart_of(tmp_path, one=FALLING, other=other)
    assert len(chart.lines) == 2
    assert chart.same == []


def test_near_on_a_linear_axis_is_not_near_on_a_logarithmic_one(tmp_path: Path) -> None:
    small = np.geomspace(4, 0.001, 200)
    assert len(chart_of(tmp_path, one=small, other=small + 0.2 * PIXEL).lines) == 2


def test_page_and_pictures_draw_one_line_for_both(tmp_path: Path) -> None:
    view = view_of(tmp_path, torch=FALLING, jax=FALLING, other=FALLING + 0.5)
    [of_page] = view.payload["charts"].values()
    assert [group for group, *_ in of_page["lines"]] == [[0, 1], [2]]
    [static] = static_charts(view)
    assert {(row["run"], row["runs"]) for row in static.spec["datasets"]["mean"]} == {
        ("torch", "torch, jax"),
        ("other", "other"),
    }
    opened = open_table(tmp_path)
    (opened.folder.root / "report").mkdir()
    markdown = write_curves(opened.folder.report, view)
    assert "wiki: 2 runs coincide: torch, jax" in markdown
    assert "2 runs coincide: torch, jax" in (opened.folder.report / "curves-mlm.svg").read_text(encoding="utf-8")


def test_groups_keep_the_order_and_every_item() -> None:
    scale = Scale(0, 1, 0, 180)
    found = grouped([5.0, 9.0, 5.5, 30.0, 9.9], scale.near)
    assert found == [[5.0, 5.5], [9.0, 9.9], [30.0]]


def test_a_curve_of_one_point_coincides_with_itself_only_where_it_stands() -> None:
    scale = Scale(1, 100, 1, 5)
    one = Course(np.array([50]), np.array([3.0]), np.array([50]), np.array([3.0]))
    moved = one._replace(step=np.array([60]), mean_step=np.array([60]))
    assert scale.same(one, one)
    assert not scale.same(one, moved)


def test_many_names_are_counted() -> None:
    assert coincide_text([f"run {i}" for i in range(60)]) == "60 runs coincide: run 0, run 1, run 2, run 3 and 56 more"

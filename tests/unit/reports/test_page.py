"""The page: views, decimation, pictures, policy; what a browser has to show stands in tests/browser."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossary.errors import MissingPackage
from lossary.findings.folder import check_table, with_base
from lossary.reports.html.charts.dots import dots_chart
from lossary.reports.html.charts.forest import forest_chart
from lossary.reports.html.charts.svg import file_svg, inline_svg
from lossary.reports.html.decimation import min_max, pack
from lossary.reports.html.engine import chart_engine
from lossary.reports.html.file import content_policy, html_report, json_block
from lossary.reports.html.limits import largest_datasets, leading_runs
from lossary.reports.html.links import Anchors, Ids
from lossary.reports.html.marks import marks_of
from lossary.reports.html.view import page_view
from lossary.reports.html.views.examples import gap_pair
from lossary.reports.html.views.losses import losses_view
from lossary.reports.html.views.mixture import mixture_view
from lossary.reports.page import ReportOptions, write_report
from lossary.reports.text import TOTAL, number, short_names
from lossary.tables.build import build_table
from lossary.tables.load import OpenTable

HOSTILE = "<img src=x onerror=alert(1)></script>"
DATASETS = ("reform", "views", "dialogue")


@pytest.fixture
def opened(synthetic: Callable[..., Any], planted: Any) -> OpenTable:
    """Three runs on three datasets; the last one without SOP on one of them."""
    study = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow", "tf_xl": "tensorflow"}, name=HOSTILE)
    study.score("torch_xxl", {name: planted(mlm=4.0) for name in DATASETS})
    study.score("tf_xxl", {name: planted(mlm=1.5, sop=0.1, sop_accuracy=0.97) for name in DATASETS})
    study.score("tf_xl", {"reform": planted(sop=1.03), "views": planted(sop=None), "dialogue": planted()})
    return with_base(OpenTable(build_table(study.study, study.folder), study.study, study.folder))


@pytest.fixture
def anchors(opened: OpenTable) -> Anchors:
    ids = Ids([run.name for run in opened.table.runs], [row.name for row in opened.table.datasets])
    return Anchors(ids, charts=["curves-mlm_loss-1"], examples=[])


def test_every_cell_is_written_as_everywhere_else(opened: OpenTable, anchors: Anchors) -> None:
    view = losses_view(opened.table, anchors)
    expected = ["mlm_loss", "mlm_accuracy", "mlm_bits_per_byte", "sop_loss", "sop_accuracy"]
    assert [block.metric for block in view.blocks] == expected
    for block in view.blocks:
        for row, dataset in zip(block.rows, opened.table.datasets, strict=True):
            for cell, run in zip(row.cells, opened.table.runs, strict=True):
                model = opened.table.cell(run.name, dataset.name, block.metric)
                assert cell.text == number(model.value, block.metric)
                assert (cell.reason is None) == (model.value is not None)


def test_a_cell_links_to_its_run_and_to_its_chart(opened: OpenTable, anchors: Anchors) -> None:
    block = losses_view(opened.table, anchors).blocks[0]
    assert block.rows[1].cells[0].href == "https://example.org/torch_xxl/mlm_loss?dataset=views"
    assert block.rows[1].cells[0].chart == "#curves-mlm_loss-1"
    assert block.rows[0].cells[0].chart is None
    assert block.rows[0].link == "https://example.org/reform"
    bare = replace(opened.table, cells=[replace(cell, link="javascript:x") for cell in opened.table.cells])
    assert losses_view(bare, anchors).blocks[0].rows[1].cells[0].href == "#run-0"


def test_the_best_of_a_row_is_the_lowest_loss_and_the_highest_accuracy(opened: OpenTable, anchors: Anchors) -> None:
    for block in losses_view(opened.table, anchors).blocks[:2]:
        for row in block.rows:
            values = [cell.value for cell in row.cells]
            best = (min if block.is_loss else max)(values)
            assert [cell.is_best for cell in row.cells] == [
                number(v, block.metric) == number(best, block.metric) for v in values
            ]


def test_what_is_missing_has_a_reason_and_nothing_else(opened: OpenTable, anchors: Anchors) -> None:
    cell = losses_view(opened.table, anchors).blocks[3].rows[1].cells[2]
    assert (cell.text, cell.value, cell.half, cell.chart) == ("—", None, "", None)
    assert cell.reason == "no example has two sentences"


def test_marks_tell_56_runs_apart() -> None:
    marks = marks_of([f"run{index}" for index in range(56)])
    assert len({(mark.colour, mark.shape) for mark in marks.values()}) == 56
    assert len({mark.id for mark in marks.values()}) == 56


curves = st.integers(3, 2000).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, 2**31), st.integers(2, 60), st.integers(1, 40))
)


@given(curves)
def test_decimation_keeps_the_extremes_of_every_bucket(given: tuple[int, int, int, int]) -> None:
    n, seed, linear, logarithmic = given
    rng = np.random.default_rng(seed)
    step = np.cumsum(rng.integers(1, 5, n))
    value = rng.normal(size=n).round(1)
    kept = min_max(step, value, linear=linear, logarithmic=logarithmic)
    assert kept[0] == 0
    assert kept[-1] == n - 1
    assert (np.diff(kept) > 0).all()
    bucket = np.floor((step - step[0]) / (step[-1] - step[0]) * linear)
    for which in np.unique(bucket):
        of_bucket = np.flatnonzero(bucket == which)
        seen = value[np.intersect1d(kept, of_bucket)]
        assert (seen.min(), seen.max()) == (value[of_bucket].min(), value[of_bucket].max())
    assert len(kept) <= 2 * (linear + logarithmic + 2) + 2


def unpacked(text: str) -> list[tuple[int, float]]:
    """As the page's script reads it."""
    numbers, value, shift = [], 0, 0
    for byte in base64.b64decode(text):
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(-(value + 1) // 2 if value % 2 else value // 2)
            value = shift = 0
    points, step, loss = [], 0, 0
    for index in range(0, len(numbers), 2):
        step, loss = step + numbers[index], loss + numbers[index + 1]
        points.append((step, loss / 10_000))
    return points


@given(st.lists(st.tuples(st.integers(1, 2**33), st.floats(-100, 1000)), max_size=50))
def test_a_packed_curve_comes_back(points: list[tuple[int, float]]) -> None:
    points = sorted(points)
    step = np.array([p[0] for p in points], np.int64)
    value = np.array([p[1] for p in points])
    found = unpacked(pack(step, value))
    assert [p[0] for p in found] == step.tolist()
    assert np.allclose([p[1] for p in found], value, atol=0.5e-4)


def test_charts_are_valid_vega_lite(opened: OpenTable) -> None:
    found = [dots_chart(opened.table, "mlm_loss"), forest_chart(opened.table, "sop_loss")]
    for chart in found:
        assert chart is not None
        altair.LayerChart.from_dict(chart[0].spec, validate=True)


def test_the_forest_has_every_paired_difference_and_the_total(opened: OpenTable) -> None:
    found = forest_chart(opened.table, "mlm_loss")
    assert found is not None
    chart, note = found
    assert not note
    assert len(chart.data.rows) == (3 + 1) * 2
    assert chart.data.rows[-1][0] == TOTAL
    assert forest_chart(replace(opened.table, deltas=[], base=None), "mlm_loss") is None


def test_a_picture_holds_nothing_but_a_picture(opened: OpenTable) -> None:
    table = opened.table
    hostile = {"reform": HOSTILE, "views": "]]>&lt;b", "dialogue": "x\" onload='y"}
    cells = [replace(cell, dataset=hostile[cell.dataset]) for cell in table.cells]
    rows = [replace(row, name=hostile[row.name]) for row in table.datasets]
    found = dots_chart(replace(table, cells=cells, datasets=rows, deltas=[]), "mlm_loss")
    assert found is not None
    text = inline_svg(found[0].spec)
    assert set(re.findall(r"<([a-zA-Z]+)", text)) <= {"svg", "g", "path", "line", "rect", "text"}
    assert not re.search(r"<[^>]*\s(on\w+|style|href|class)=", text)
    assert "&lt;img src=x" in text
    assert "currentColor" not in file_svg(found[0].spec)


def test_json_cannot_end_its_element() -> None:
    value = {"name": "</script><!-- \u2028"}
    text = json_block(value)
    assert "<" not in text
    assert json.loads(text) == value


def test_the_policy_names_exactly_what_stands_in_the_page(opened: OpenTable) -> None:
    html = html_report(page_view(opened, check_table(opened, where="study")))
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert style is not None
    assert len(scripts) == 1
    expected = content_policy([style[1]], [*scripts, chart_engine().script])
    # In an attribute quotes are escaped.
    assert expected.replace("'", "&#39;") in html
    assert "unsafe" not in expected
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in expected
    assert "style=" not in re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    assert "<img" not in html
    assert not re.search(r"""\s(src|href)="(?!#|https://example)""", re.sub(r"(?s)<script.*?</script>", "", html))


def test_sections_stand_in_the_order_of_a_readers_questions(opened: OpenTable) -> None:
    html = html_report(page_view(opened, check_table(opened, where="study")))
    assert re.findall(r'<section id="(\w+)"', html) == [
        *("verdict", "findings", "losses", "dots", "decisions", "pairs"),
        *("diagnosis", "curves", "mixture", "examples", "provenance"),
    ]


def test_what_is_too_much_to_draw_is_left_out_and_said(opened: OpenTable) -> None:
    part = largest_datasets(opened.table, 2)
    assert [row.name for row in part.datasets] == ["views", "dialogue"]
    assert part.note.startswith("2 of 3 datasets")
    assert largest_datasets(opened.table, 3).note == ""
    runs, note = leading_runs(replace(opened.table, base="tf_xl"), 2)
    assert [run.name for run in runs] == ["torch_xxl", "tf_xl"]
    assert "2 of 3 runs" in note


def test_the_gap_is_between_the_base_and_the_worst(opened: OpenTable) -> None:
    assert opened.table.base == "tf_xxl"
    assert gap_pair(opened.table) in {("tf_xxl", "torch_xxl"), ("tf_xxl", "tf_xl")}
    assert gap_pair(replace(opened.table, base=None)) is None


def test_shares_of_the_loss_add_up_or_are_not_known(opened: OpenTable) -> None:
    ids = Ids([run.name for run in opened.table.runs], list(DATASETS))
    view = mixture_view(opened, ids)
    assert view.loss_of == "tf_xxl"
    assert sum(float(row.of_loss) for row in view.rows) == pytest.approx(100, abs=0.2)
    cells = [replace(c, value=None) if c.dataset == "views" else c for c in opened.table.cells]
    unknown = mixture_view(opened._replace(table=replace(opened.table, cells=cells)), ids)
    assert unknown.loss_of is None
    assert {row.of_loss for row in unknown.rows} == {"—"}


def test_without_the_packages_markdown_is_written_and_says_what_is_missing(
    opened: OpenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingPackage("pages need Jinja2", hint="Install: pip")

    monkeypatch.setattr("lossary.reports.html.view.require_packages", missing)
    written = write_report(opened, check_table(opened, where="study"))
    assert written.html is None
    assert written.page == written.markdown
    assert "Jinja2" in written.note


def test_markdown_is_shortened_by_whole_sections_and_says_so(opened: OpenTable) -> None:
    checked = check_table(opened, where="study")
    whole = write_report(opened, checked).markdown.read_text(encoding="utf-8")
    for most in (len(whole) - 1, 4000, 1000):
        text = write_report(opened, checked, ReportOptions(max_chars=most)).markdown.read_text(encoding="utf-8")
        assert len(text) <= most
        note = text.rstrip().rsplit("\n\n", 1)[1]
        assert note.startswith("*Left out, to keep within")
        assert "Provenance" in note
        # What is there is there as a whole.
        for block in text.split("\n\n")[:-1]:
            assert block.rstrip("\n") in whole


def test_pictures_beside_markdown_are_png_on_request(opened: OpenTable) -> None:
    written = write_report(opened, check_table(opened, where="study"), ReportOptions(png=True))
    text = written.markdown.read_text(encoding="utf-8")
    for name in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text):
        path: Path = written.markdown.parent / name
        assert path.suffix == ".png"
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.with_suffix(".svg").is_file()
    assert "forest-mlm.png" in text


@given(st.lists(st.text("ab", min_size=1, max_size=60), unique=True, max_size=20))
def test_names_are_short_and_no_two_are_alike(names: list[str]) -> None:
    short = short_names(names, 25)
    shown = [short.get(name, name) for name in names]
    assert len(set(shown)) == len(names)
    assert all(len(text) <= 25 for text in shown)
    assert all(name in short for name in names if len(name) > 25)

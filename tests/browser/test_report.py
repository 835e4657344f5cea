"""report.html in a real browser: it asks the network for nothing, its policy holds, and what it offers works."""

import json
from pathlib import Path
from typing import Any

import pytest

from lossary.findings.folder import check_table
from lossary.reports.page import write_report
from lossary.tables.load import open_paired

from .studies import Shape, write_study
from .visits import Open

REPORTS = ["plain", "hostile", "bare", "wide", "imported", "several"]


@pytest.mark.parametrize("name", REPORTS)
def test_every_page_draws_all_charts_without_an_error_or_a_request(visit: Open, name: str) -> None:
    found = visit(name)
    found.drawn()
    assert found.page.locator("figure .plot svg").count() == found.page.locator("figure[data-chart]").count() > 0


@pytest.mark.parametrize("name", REPORTS)
def test_links_lead_to_places_of_the_page_or_to_harmless_addresses(visit: Open, name: str) -> None:
    page = visit(name).page
    hrefs = page.eval_on_selector_all(
        "a[href]", "links => [...new Set(links.map((link) => link.getAttribute('href')))]"
    )
    ids = set(page.eval_on_selector_all("[id]", "elements => elements.map((element) => element.id)"))
    assert {href[1:] for href in hrefs if href.startswith("#")} <= ids
    assert all(href.startswith(("#", "https://")) for href in hrefs)
    assert page.locator("img").count() == 0


def test_ids_are_unique(visit: Open) -> None:
    page = visit("plain").page
    ids = page.eval_on_selector_all("[id]", "elements => elements.map((element) => element.id)")
    assert len(ids) == len(set(ids))


def test_nothing_is_wider_than_the_window(visit: Open) -> None:
    for width in (1280, 390):
        for name in REPORTS:
            page = visit(name, viewport={"width": width, "height": 800}).page
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["plain", "hostile", "imported"])
def test_axe_finds_nothing_serious(visit: Open, name: str, scheme: str) -> None:
    found = visit(name, color_scheme=scheme, bypass_csp=True)
    found.drawn()
    assert not found.barriers()


def test_every_table_has_heads_with_a_scope(visit: Open) -> None:
    page = visit("plain").page
    assert page.locator("table th:not([scope])").count() == 0
    assert page.locator("main table").count() > 8
    figures = page.locator("figure").count()
    assert page.locator("figure table").count() == figures


def column(page: Any, index: int) -> list[float]:
    """The values of a column of the first table, as they stand."""
    script = f"rows => rows.map((row) => Number(row.children[{index}].dataset.v))"
    values: list[float] = page.eval_on_selector_all("table[data-table=mlm_loss] tbody tr", script)
    return values


def test_a_click_sorts_and_another_turns_it_around(visit: Open) -> None:
    page = visit("plain").page
    head = page.locator("table[data-table=mlm_loss] th[data-run=run_01]")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 5) == sorted(column(page, 5))
    assert len(set(column(page, 5))) == 3
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 5) == sorted(column(page, 5), reverse=True)
    page.locator("table[data-table=mlm_loss] thead button", has_text="dataset").click()
    assert head.get_attribute("aria-sort") == "none"
    names = page.locator("table[data-table=mlm_loss] tbody th").all_inner_texts()
    assert names == sorted(names)


def test_what_is_missing_is_sorted_last_either_way(visit: Open) -> None:
    page = visit("hostile").page
    head = page.locator("table[data-table=mlm_loss] th[data-run=run_02]")
    for _ in range(2):
        head.locator("button").click()
        texts = page.locator("table[data-table=mlm_loss] tbody tr td:last-child").all_inner_texts()
        assert [text.startswith("—") for text in texts] == [False, True, True]


def test_the_filter_keeps_rows_and_columns(visit: Open) -> None:
    page = visit("plain").page
    page.keyboard.press("/")
    page.keyboard.type("set_002 run_01")
    table = page.locator("table[data-table=mlm_loss]")
    assert table.locator("tbody tr:visible").count() == 1
    assert table.locator("thead th[data-run]:visible").all_inner_texts()[0].startswith("run_01")
    assert table.locator("thead th[data-run]:visible").count() == 1
    assert "of" in page.locator("#filtered").inner_text()
    page.keyboard.press("Escape")
    page.fill("#filter", "")
    assert table.locator("tbody tr:visible").count() == 3
    page.fill("#filter", "nothing is called so")
    assert table.locator("tbody tr:visible").count() == 0


def test_copies_what_is_seen(visit: Open) -> None:
    found = visit("plain")
    page = found.page
    page.fill("#filter", "dataset_001")
    page.locator("button[data-copy=markdown]").first.click()
    copied = found.until("document.documentElement.dataset.copied")
    lines = copied.splitlines()
    assert lines[0].startswith("| dataset | train rows |")
    assert lines[1].startswith("|---|---:|") or lines[1].startswith("| --- | ---: |")
    assert "dataset\\_001" in lines[2] or "dataset_001" in lines[2]
    assert "±" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
    page.evaluate("delete document.documentElement.dataset.copied")
    page.locator("button[data-copy=csv]").first.click()
    rows = found.until("document.documentElement.dataset.copied").splitlines()
    assert rows[0].startswith("dataset,train rows,train %,val %,floor,run_00")
    assert rows[1].startswith('dataset_001,"2,000"')


def test_keys_move_turn_and_help(visit: Open) -> None:
    page = visit("plain", color_scheme="light").page
    page.keyboard.press("j")
    assert page.evaluate("location.hash") == "#findings"
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("location.hash") == "#findings"
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_another_baseline_shows_plain_differences_and_the_first_comes_back(visit: Open) -> None:
    page = visit("plain").page
    cell = page.locator("table[data-table=mlm_loss] tbody tr:first-child td").nth(5)
    tested = cell.locator(".delta").inner_text()
    assert "●" in tested
    page.keyboard.press("b")
    assert page.locator("#base").input_value() == "1"
    assert page.locator("table[data-table=mlm_loss] th.isbase").get_attribute("data-run") == "run_01"
    assert cell.locator(".delta").inner_text() == ""
    other = page.locator("table[data-table=mlm_loss] tbody tr:first-child td").nth(4)
    assert other.locator(".delta").inner_text().startswith("-")
    assert "not tested" in (other.locator(".delta").get_attribute("title") or "")
    page.select_option("#base", "0")
    assert cell.locator(".delta").inner_text() == tested


def test_axes_may_be_tokens_examples_or_steps_linear_or_logarithmic(visit: Open) -> None:
    found = visit("plain")
    page = found.page
    figure = page.locator("#curves figure").first
    found.drawn()
    figure.scroll_into_view_if_needed()
    assert "tokens" in figure.locator("svg").inner_html()
    for unit in ("examples", "steps"):
        page.select_option("#axis-unit", unit)
        found.until(f"document.querySelector('#curves figure svg').innerHTML.includes('>{unit}<')")
    linear = figure.locator("svg").inner_html()
    page.check("#axis-x-log")
    page.check("#axis-y-log")
    found.until("document.querySelector('#curves figure').dataset.drawn === 'true'")
    assert figure.locator("svg").inner_html() != linear
    marks = "document.querySelectorAll('#curves figure:first-of-type .mark-symbol path').length"
    before = page.evaluate(marks)
    page.locator("#curves input[data-show='1']").uncheck()
    found.until(f"{marks} < {before}")
    assert not page.locator("#dots input[data-show='1']").is_checked()


def test_a_tooltip_answers_and_stays_text(visit: Open) -> None:
    found = visit("imported")
    found.drawn()
    found.page.locator("#dots .mark-symbol.role-mark path").last.hover()
    tooltip = found.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert found.page.locator("#vg-tooltip-element img").count() == 0


@pytest.mark.parametrize("name", ["plain", "imported"])
def test_without_javascript_tables_and_pictures_are_there(visit: Open, name: str) -> None:
    page = visit(name, java_script_enabled=False).page
    assert page.locator("table[data-table=mlm_loss] tbody tr").first.is_visible()
    assert page.locator("#dots figure .plot svg").first.is_visible()
    assert page.locator("figure .plot svg").count() == page.locator("figure").count()
    assert not page.locator(".tools").first.is_visible()


def test_print_opens_everything(visit: Open) -> None:
    page = visit("plain", color_scheme="dark").page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".top").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0


def test_print_without_javascript_opens_everything_too(visit: Open) -> None:
    page = visit("plain", java_script_enabled=False).page
    page.emulate_media(media="print")
    assert page.locator("#losses table[data-table=mlm_accuracy] tbody tr").first.is_visible()


def test_right_to_left_text_is_kept_apart(visit: Open) -> None:
    page = visit("plain").page
    text = page.locator("#examples .text").first
    assert text.get_attribute("dir") == "auto"
    assert page.evaluate("getComputedStyle(document.querySelector('#examples .text')).unicodeBidi") == "isolate"
    assert page.locator("#examples b >> text=bold").count() == 0


def test_a_link_into_a_folded_part_opens_it(visit: Open) -> None:
    found = visit("plain")
    found.page.evaluate("location.hash = 'examples-2'")
    found.until("document.getElementById('examples-2').open")


@pytest.mark.slow
def test_twelve_runs_on_eight_datasets_make_less_than_two_megabytes(tmp_path: Path) -> None:
    opened = open_paired(write_study(tmp_path / "study", Shape(runs=12, datasets=8, examples=300, steps=2000)))
    written = write_report(opened, check_table(opened, where="study"))
    assert written.html is not None
    assert written.html.stat().st_size < 2_000_000


def test_the_data_is_json(visit: Open) -> None:
    page = visit("plain").page
    data = json.loads(page.locator("#data").text_content())
    assert data["runs"] == ["run_00", "run_01", "run_02"]


def test_runs_that_coincide_have_one_mark_which_goes_over_when_its_run_is_hidden(visit: Open) -> None:
    found = visit("twins")
    page = found.page
    found.drawn()
    figure = page.locator("#curves figure").first
    assert figure.locator(".same").inner_text() == "2 runs coincide: run_00, run_01"
    assert "2 runs coincide: run_00, run_01" in (figure.locator(".plot").get_attribute("aria-label") or "")
    lines = "document.querySelector('#curves figure').querySelectorAll('.mark-line path[stroke-width=\"1.7\"]').length"
    assert page.evaluate(lines) == 2
    page.locator("#curves input[data-show='2']").uncheck()
    found.until(f"{lines} === 1")
    figure.locator(".mark-symbol path").first.hover()
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "run_00, run_01" in tooltip.inner_text()
    page.locator("#curves input[data-show='0']").uncheck()
    found.until("document.querySelector('#curves figure').dataset.drawn === 'true'")
    assert page.evaluate(lines) == 1
    page.locator("#curves input[data-show='1']").uncheck()
    found.until(f"{lines} === 0")


def test_an_imported_number_leads_to_where_it_came_from_and_can_be_searched(visit: Open) -> None:
    found = visit("imported")
    page = found.page
    assert page.locator("#origins").get_attribute("open") is None
    # One number has no link of its own, the other keeps it and has a second one.
    page.locator("table[data-table=mlm_loss] tbody tr").first.locator("a.n").last.click()
    found.until("document.querySelector('#origins').open")
    target = page.locator("#origins tr:target")
    assert target.inner_text().split("\t")[2:5] == ["2.500", "2.5", "printed"]
    assert "page.md, line 3" in target.inner_text()
    assert page.locator("table[data-table=mlm_loss] a.from").count() == 1
    rows = page.locator("#origins tbody tr:not(.reading)")
    assert rows.count() == 3
    page.locator("#origins input").fill("second 3.5")
    assert [row.is_visible() for row in rows.all()].count(True) == 1
    assert page.locator("#origins output").inner_text() == "1 of 3 rows"


_DELTAS = """metric => [...document.querySelectorAll(`table[data-table=${metric}] tbody tr:first-child td:has(a.n)`)]
  .map((cell) => cell.querySelector('.delta')?.textContent ?? '')"""


def test_nats_of_different_vocabularies_have_no_difference_and_no_best(visit: Open) -> None:
    page = visit("several").page
    for _ in range(2):
        # To the base that was paired, then to another one.
        assert page.evaluate(_DELTAS, "mlm_loss") == ["", ""]
        assert sorted(map(bool, page.evaluate(_DELTAS, "mlm_bits_per_byte"))) == [False, True]
        page.select_option("#base", "1")
    assert page.locator("table[data-table=mlm_loss] td.best").count() == 0
    assert page.locator("table[data-table=mlm_bits_per_byte] td.best").count() > 0


def test_bits_a_byte_are_folded_where_nothing_needs_them(visit: Open) -> None:
    assert visit("plain").page.locator("details[data-metric=mlm_bits_per_byte]").get_attribute("open") is None
    page = visit("several").page
    assert page.locator("details[data-metric=mlm_bits_per_byte]").get_attribute("open") is not None
    assert page.locator("#dots figure, #pairs figure").evaluate_all("found => found.map((figure) => figure.id)") == [
        "dots-mlm_bits_per_byte",
        "dots-clm_bits_per_byte",
        "forest-mlm_bits_per_byte",
    ]

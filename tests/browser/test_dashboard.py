"""The dashboard in a real browser: it asks its own origin only, what it offers works, a study that grows fills in."""

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lossary.results.records import read_header, write_scores

from .visits import Open

STUDIES = ["plain", "hostile", "bare", "wide", "imported", "several"]
PAGES = ["", "curves", "compare", "findings", "diagnosis"]
EXAMPLES = "examples?dataset=dataset_001&first=run_00&second=run_02"


@pytest.mark.parametrize("study", STUDIES)
def test_every_page_draws_its_charts_without_an_error_or_a_request_elsewhere(look: Open, study: str) -> None:
    for path in PAGES:
        found = look(f"{study}/{path}")
        found.drawn()
        assert found.page.locator("main h1, main h2").count() > 0


@pytest.mark.parametrize("study", ["plain", "hostile", "wide"])
def test_pages_of_runs_datasets_and_examples_too(look: Open, study: str) -> None:
    for path in ("run?name=run_01", "dataset?name=dataset_001", EXAMPLES, "?base=run_00"):
        found = look(f"{study}/{path}")
        found.drawn()
        page = found.page
        assert page.locator("img").count() == 0
        hrefs = page.eval_on_selector_all("a[href]", "links => links.map((link) => link.getAttribute('href'))")
        assert all(href.startswith(("#", "/", "https://")) for href in hrefs)


def test_a_page_that_does_not_exist_says_what_does(look: Open) -> None:
    page = look("plain/run?name=nobody", expected="404").page
    assert "no run is called 'nobody'" in page.locator("main").inner_text()
    page.get_by_role("link", name="run_02").click()
    assert page.locator("h1").inner_text().strip() == "run_02"


def test_nothing_is_wider_than_the_window(look: Open) -> None:
    for width in (1280, 390):
        for address in ("plain/", f"hostile/{EXAMPLES}", "wide/", "wide/run?name=run_01", "imported/compare"):
            page = look(address, viewport={"width": width, "height": 800}).page
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "address",
    [
        "plain/",
        "plain/compare",
        f"plain/{EXAMPLES}",
        "plain/run?name=run_01",
        "plain/dataset?name=dataset_001",
        "imported/",
    ],
)
def test_axe_finds_nothing_serious(look: Open, address: str, scheme: str) -> None:
    found = look(address, color_scheme=scheme, bypass_csp=True)
    found.drawn()
    assert not found.barriers()


def test_sort_filter_and_copy_work_on_pages_of_their_own(look: Open) -> None:
    found = look("plain/dataset?name=dataset_001")
    page = found.page
    head = page.locator("#losses th", has_text="MLM loss")
    for how in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == how
        values = page.eval_on_selector_all(
            "#losses tbody tr", "rows => rows.map((row) => Number(row.children[1].dataset.v))"
        )
        assert values == sorted(values, reverse=how == "descending")
    page.locator("#losses button[data-copy=markdown]").click()
    assert found.until("document.documentElement.dataset.copied").startswith("| run | MLM loss |")


def test_a_choice_of_runs_is_an_address_and_the_way_back_works(look: Open) -> None:
    page = look("plain/compare?first=run_00&second=run_01").page
    page.select_option("select[name=second]", "run_02")
    page.wait_for_url("**/compare?first=run_00&second=run_02**")
    assert page.locator("#losses th[data-run=run_02]").count() > 0
    page.get_by_label("swap both runs").click()
    page.wait_for_url("**/compare?first=run_02&second=run_00")
    page.go_back()
    page.wait_for_url("**/compare?first=run_00&second=run_02**")


def test_another_baseline_is_paired_by_the_server(look: Open) -> None:
    page = look("plain/").page
    before = page.locator("table[data-table=mlm_loss] th.isbase").get_attribute("data-run")
    page.keyboard.press("b")
    page.wait_for_url("**/plain/?base=*")
    base = page.locator("table[data-table=mlm_loss] th.isbase").get_attribute("data-run")
    assert base != before
    assert page.locator("table[data-table=mlm_loss] .delta", has_text="●").count() > 0


def test_pages_of_examples_turn_by_keys(look: Open) -> None:
    page = look(f"plain/{EXAMPLES}").page
    assert page.locator("ol.examples > li").count() == 25
    assert page.locator(".masked").count() > 50
    page.keyboard.press("n")
    page.wait_for_url("**page=2**")
    assert page.locator("ol.examples > li").first.get_attribute("value") == "26"
    page.keyboard.press("p")
    page.wait_for_url("**page=1**")


def test_without_javascript_tables_forms_and_texts_are_there(look: Open) -> None:
    page = look(f"plain/{EXAMPLES}", java_script_enabled=False).page
    page.select_option("select[name=dataset]", "dataset_002")
    page.get_by_role("button", name="Show").click()
    assert "dataset_002" in page.locator(".lead").inner_text()


def test_the_report_is_saved(look: Open, tmp_path: Path) -> None:
    page = look("plain/").page
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as report").click()
    download.value.save_as(tmp_path / "report.html")
    assert download.value.suggested_filename == "plain-report.html"
    assert "run_02" in (tmp_path / "report.html").read_text(encoding="utf-8")


def worsen(folder: Path, run: str) -> None:
    """Replaces the newest scores of a run by ones twice as bad."""
    path = max((folder / "runs" / run / "scores").glob("*.parquet"))
    table, header = pq.read_table(path), read_header(path)
    doubled = pc.multiply(table.column("nats"), 2.0)
    lists = [row and [2 * nats for nats in row] for row in table.column("target_nats").to_pylist()]
    for name, column in (("nats", doubled), ("target_nats", pa.array(lists, pa.list_(pa.float32())))):
        table = table.set_column(table.column_names.index(name), name, column)
    write_scores(path, table, header)


def test_new_scores_come_into_an_open_page_and_leave_what_its_reader_set_up(
    look: Open, folders: dict[str, Path]
) -> None:
    found = look("live/")
    page = found.page
    page.evaluate("window.isTheSamePage = true")
    cell = page.locator("table[data-table=mlm_loss] tbody tr[data-name=dataset_001] td").nth(4)
    before = float(cell.get_attribute("data-v") or 0)
    page.keyboard.press("/")
    page.keyboard.type("dataset_001")
    page.locator("details[data-metric=mlm_accuracy] > summary").click()
    worsen(folders["live"], "run_00")
    found.until("document.documentElement.dataset.version")
    deadline = time.monotonic() + 20
    while float(cell.get_attribute("data-v") or 0) < 1.9 * before and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert float(cell.get_attribute("data-v") or 0) == pytest.approx(2 * before, rel=1e-6)
    assert page.evaluate("window.isTheSamePage")
    assert page.locator("#filter").input_value() == "dataset_001"
    assert page.locator("table[data-table=mlm_loss] tbody tr:visible").count() == 1
    assert page.locator("details[data-metric=mlm_accuracy]").get_attribute("open") is not None
    found.drawn()


def test_a_study_that_breaks_says_so_on_the_open_page(look: Open, folders: dict[str, Path]) -> None:
    page = look("live/").page
    file = folders["live"] / "study.toml"
    good = file.read_text(encoding="utf-8")
    file.write_text("name = [", encoding="utf-8")
    try:
        page.locator("#note", has_text="cannot be read as it is now").wait_for(timeout=20_000)
        assert "run_00" in page.locator("main").inner_text()
    finally:
        file.write_text(good, encoding="utf-8")
    page.locator("#note").wait_for(state="hidden", timeout=20_000)

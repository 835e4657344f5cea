"""Every page of the dashboard, for studies that are hard on it."""

import html
import re
import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from starlette.testclient import TestClient
from tests.scored import score_run
from tests.unit.dashboard.studies import HOSTILE, imported_study

from lossary.dashboard.app import create_app
from lossary.dashboard.views import with_code
from lossary.files import write_json
from lossary.folder import StudyFolder
from lossary.study import Study


def client(*paths: Path) -> TestClient:
    return TestClient(create_app(list(paths)), base_url="http://localhost:8000")


@pytest.fixture(scope="module")
def scored(prepared: tuple[Study, StudyFolder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study with scores of all its runs, one without SOP; pages only read it."""
    root = tmp_path_factory.mktemp("scored") / "study"
    shutil.copytree(prepared[1].root, root)
    for run, mean, has_sop in (("torch_a", 3.0, True), ("tf_a", 4.0, True), ("torch_stories", 5.0, False)):
        score_run(StudyFolder(root), run, mean=mean, has_sop=has_sop)
    return root


PAGES = [
    "",
    "?base=tf_a",
    "compare",
    "compare?first=torch_a&second=torch_stories",
    "compare?first=tf_a&second=tf_a",
    "examples",
    "examples?dataset=lines&first=torch_a&second=tf_a&measure=sop&order=largest&page=1",
    "examples?dataset=lines&first=torch_a&second=torch_stories&measure=sop",
    "examples?first=tf_a&second=tf_a",
    "findings",
    "diagnosis",
    "run?name=torch_stories",
    "dataset?name=lines",
]


def until(asked: TestClient, page: str, words: str, *, patience_s: float = 30.0) -> Any:
    """A page once it says some words: newer files are looked at now and then, and later on a machine that is busy."""
    end = time.monotonic() + patience_s
    while words not in (found := asked.get(page)).text:
        assert time.monotonic() < end, f"{page} never says {words!r}"
        time.sleep(0.1)
    return found


def texts(page: str) -> list[str]:
    return re.findall(r">([^<]+)<", page)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_a_study_is_there(scored: Path, page: str) -> None:
    asked = client(scored)
    found = asked.get(f"/s/study/{page}")
    assert found.status_code == 200
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert "None" not in texts(found.text)
    again = asked.get(f"/s/study/{page}", headers={"if-none-match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for address in set(re.findall(r'href="(/[^"]*)"', found.text)):
        assert asked.get(html.unescape(address)).status_code == 200, address


def test_a_single_study_is_the_first_page_and_several_are_listed(scored: Path, tmp_path: Path) -> None:
    found = client(scored).get("/")
    assert (found.history[0].status_code, found.url.path) == (307, "/s/study/")
    other = imported_study(tmp_path / "study", ["a"], ["x"])
    page = client(scored, other).get("/").text
    assert 'href="/s/study/"' in page
    assert 'href="/s/study-2/"' in page


def test_numbers_are_those_of_the_table_and_differences_those_of_the_base(scored: Path) -> None:
    from lossary.reports.text import delta_text, number
    from lossary.tables.load import open_table

    table = open_table(scored, base="tf_a").table
    page = client(scored).get("/s/study/?base=tf_a").text
    for cell in table.cells:
        if cell.value is not None:
            assert f">{number(cell.value, cell.metric)}</a>" in page
    for delta in table.deltas:
        if delta.value is not None:
            assert delta_text(delta, width=0) in page
    assert client(scored).get("/s/study/?base=nobody").status_code == 404


def test_the_examples_of_a_page_are_in_order_with_their_texts(scored: Path) -> None:
    asked = client(scored)
    query = {"dataset": "stories", "first": "torch_a", "second": "tf_a"}
    first = asked.get(f"/s/study/examples?{urlencode(query)}").text
    assert 'rel="next"' in first
    ranks = [int(rank) for rank in re.findall(r'<li value="(\d+)"', first)]
    second = asked.get(f"/s/study/examples?{urlencode(query | {'page': 2})}").text
    ranks += [int(rank) for rank in re.findall(r'<li value="(\d+)"', second)]
    assert ranks == list(range(1, len(ranks) + 1))
    assert 'class="target"' in first
    for wrong, status in (("0", 400), ("-1", 400), ("x", 400), ("99999", 404), ("1" * 40, 400), ("٣", 400)):
        assert asked.get(f"/s/study/examples?{urlencode(query | {'page': wrong})}").status_code == status
    for key in ("measure", "order"):
        assert asked.get(f"/s/study/examples?{urlencode(query | {key: 'x'})}").status_code == 400


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "page", ["run?name=", "dataset?name=", "?base=", "compare?first=", "examples?dataset=", "compare?other="]
)
def test_a_name_that_does_not_exist_is_said_and_never_a_path(scored: Path, page: str, name: str) -> None:
    found = client(scored).get(f"/s/study/{page}{quote(name, safe='')}")
    assert found.status_code in (400, 404)
    assert "<img" not in found.text
    assert "<script>" not in found.text
    assert "root:" not in found.text
    if page.startswith("run"):
        assert "torch_stories" in found.text


@pytest.mark.parametrize(
    "path",
    [
        "/s/study/../../etc/passwd",
        "/s/study/..%2f..%2fetc%2fpasswd",
        "/s/%2e%2e/%2e%2e/etc/passwd",
        "/assets/../app.py",
        "/assets/..%2fapp.py",
        "/assets/%2fetc%2fpasswd",
        "/s/study/study.toml",
        "/s/study/runs/torch_a/run.json",
        "/s//",
        "//etc/passwd",
    ],
)
def test_no_address_is_a_path(scored: Path, path: str) -> None:
    found = client(scored).get(path)
    assert found.status_code == 404
    assert "lossary" in found.text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imported_study(tmp_path_factory.mktemp("hostile") / "page", HOSTILE, HOSTILE[::-1], holes=4)


def hostile_pages() -> list[str]:
    pages = ["", "compare", "findings", "diagnosis"]
    pages += [f"{page}?name={quote(name, safe='')}" for page in ("run", "dataset") for name in HOSTILE]
    return pages + [f"compare?{urlencode({'first': a, 'second': b})}" for a, b in pairwise(HOSTILE)]


@pytest.mark.parametrize("page", hostile_pages())
def test_names_are_text_wherever_they_stand(hostile: Path, page: str) -> None:
    found = client(hostile).get(f"/s/page/{page}")
    assert found.status_code == 200
    assert not re.search(r"<(img|b>a page)", found.text)
    for attributes in re.findall(r"<script([^>]*)>", found.text):
        assert attributes.startswith(' src="/assets/') or attributes == ' type="application/json" id="data"'
    for attributes in re.findall(r"<[a-z]+((?:\s[^<>]*)?)>", found.text):
        assert not re.search(r'\son\w+="', re.sub(r'"[^"]*"', '""', attributes))
        assert " style=" not in re.sub(r'"[^"]*"', '""', attributes)
    for address in re.findall(r'(?:href|src|action)="([^"]*)"', found.text):
        assert address.startswith(("/", "#", "https://", "http://")), address
        assert not address.startswith("//")
    # The value of an option holds the name as it is; nobody sees it.
    assert not any("\u202e" in text for text in texts(found.text))
    assert "49" not in texts(found.text)


def test_imported_numbers_have_no_examples_and_say_so(hostile: Path) -> None:
    found = client(hostile).get("/s/page/examples")
    assert (found.status_code, "have no examples" in found.text) == (200, True)


def test_a_study_of_60_runs_and_300_datasets_is_shown_a_metric_at_a_time(tmp_path: Path) -> None:
    runs, datasets = [f"run_{i:02}" for i in range(60)], [f"dataset_{j:03}" for j in range(300)]
    asked = client(imported_study(tmp_path / "large", runs, datasets, holes=7))
    page = asked.get("/s/large/").text
    assert page.count(' data-table="') == 1
    assert page.count("<tr data-name=") == 300
    other = asked.get("/s/large/?metric=sop_accuracy").text
    assert 'data-table="sop_accuracy"' in other
    assert asked.get("/s/large/?metric=x").status_code == 400
    for path in ("run?name=run_59", "dataset?name=dataset_299", "compare?first=run_01&second=run_02", "findings"):
        assert asked.get(f"/s/large/{path}").status_code == 200


def test_a_study_without_sop_has_no_table_of_it(tmp_path: Path) -> None:
    asked = client(imported_study(tmp_path / "plain", ["a", "b"], ["x", "y"], sop=False))
    for path in ("", "run?name=a", "dataset?name=x", "compare"):
        page = asked.get(f"/s/plain/{path}")
        assert page.status_code == 200
        assert "SOP loss" not in page.text


def test_the_report_is_the_one_file_that_the_report_verb_makes(scored: Path) -> None:
    found = client(scored).get("/s/study/report.html")
    assert found.status_code == 200
    assert found.headers["content-disposition"] == 'attachment; filename="study-report.html"'
    assert "default-src &#39;none&#39;" in found.text
    assert "tf_a" in found.text


def test_a_study_that_is_not_prepared_says_what_to_do_and_fills_in(
    prepared: tuple[Study, StudyFolder], write_study: Callable[..., None], tmp_path: Path
) -> None:
    root = tmp_path / "new"
    write_study(root)
    asked = client(root)
    page = asked.get("/s/new/")
    assert page.status_code == 200
    assert "not prepared yet" in page.text
    assert page.text.count('class="state waiting"') == 3
    assert asked.get("/s/new/compare").status_code == 404
    before = asked.get("/s/new/state.json").json()
    shutil.copytree(prepared[1].root, root, dirs_exist_ok=True)
    score_run(StudyFolder(root), "tf_a")
    until(asked, "/s/new/", 'data-run="tf_a"')
    assert asked.get("/s/new/state.json").json()["version"] != before["version"]
    assert "A single run has no gap" in asked.get("/s/new/examples").text


def test_a_run_that_failed_is_called_so(write_study: Callable[..., None], tmp_path: Path) -> None:
    root = tmp_path / "new"
    write_study(root)
    told = {"kind": "DivergenceError", "message": "the loss is <nan>", "where": None, "hint": None}
    write_json(StudyFolder(root).ending("tf_a", "train"), {"schema": 1, "time": 0.0, "stage": "train", **told})
    page = client(root).get("/s/new/").text
    assert page.count('class="state failed"') == 1
    assert page.count('class="state waiting"') == 2
    assert "the loss is &lt;nan&gt;" in page
    # Commands in what is to be done are set as commands.
    assert "Run <code>lossary run</code>" in page


def test_what_stands_between_backticks_is_code_and_nothing_else_is_html() -> None:
    assert with_code("Run `a <b>` & go.") == "Run <code>a &lt;b&gt;</code> &amp; go."
    assert with_code("a ` alone <b>") == "a ` alone &lt;b&gt;"


def test_a_study_file_that_breaks_leaves_the_last_good_page_with_a_note(scored: Path, tmp_path: Path) -> None:
    root = tmp_path / "study"
    shutil.copytree(scored, root)
    asked = client(root)
    good = asked.get("/s/study/").text
    assert 'id="note" class="stale" role="status" hidden' in good
    (root / "study.toml").write_text("name = [")
    broken = until(asked, "/s/study/", "cannot be read as it is now")
    assert broken.status_code == 200
    assert "tf_a" in broken.text


def test_a_study_that_never_could_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("nam = 3")
    found = client(tmp_path).get(f"/s/{next(iter([tmp_path.name])).lower().replace('_', '-')}/")
    assert found.status_code == 200
    assert "unknown key" in found.text

"""Every view of one table: the same numbers, nothing hostile gets through, and it fits."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from lossary.dashboard.addresses import Addresses
from lossary.dashboard.views import run_view
from lossary.files import write_json
from lossary.findings.folder import check_table
from lossary.reports.export import csv_text, json_value, latex_text, parquet_table
from lossary.reports.html.links import Anchors, Ids
from lossary.reports.html.render import breaks
from lossary.reports.html.views.mixture import mixture_view
from lossary.reports.html.views.pairs import pairs_view
from lossary.reports.markdown import escape_markdown, markdown_link, markdown_table
from lossary.reports.page import write_report
from lossary.reports.terminal import terminal_text
from lossary.reports.text import number, plain, safe_link, total_counts, trained_on
from lossary.results.records import STEP_SCHEMA, write_steps
from lossary.tables.build import build_table
from lossary.tables.comparability import differing_settings
from lossary.tables.load import OpenTable
from lossary.tables.model import Table

HOSTILE = "<img src=x onerror=alert(1)> | [x](javascript:alert(1)) `code` *b* \u202e\n\x1b[31m=1+1 & $x$"
DATASETS = ("reform", "views", "dialogue")


def report_of(study: Any, table: Table) -> str:
    """The page of a synthetic study, with its findings."""
    opened = OpenTable(table, study.study, study.folder)
    return write_report(opened, check_table(opened, where="study")).markdown.read_text(encoding="utf-8")


@pytest.fixture
def table(synthetic: Callable[..., Any], planted: Any) -> Table:
    study = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow", "tf_xl": "tensorflow"})
    study.score("torch_xxl", {name: planted(mlm=4.0) for name in DATASETS})
    study.score("tf_xxl", {name: planted(mlm=1.5, sop=0.1, sop_accuracy=0.97) for name in DATASETS})
    study.score("tf_xl", {"reform": planted(sop=1.03), "views": planted(sop=None), "dialogue": planted()})
    return build_table(study.study, study.folder)


def test_json_has_the_documented_fields(table: Table) -> None:
    value = json.loads(json.dumps(json_value(table), allow_nan=False))
    assert {"name", "train_rows", "train_share", "validation_share"} <= value["datasets"][0].keys()
    assert {"run", "dataset", "metric", "value", "n", "low", "high"} <= value["cells"][0].keys()
    assert {"run", "metric", "weighting", "value"} <= value["totals"][0].keys()
    assert len(value["cells"]) == 3 * 3 * 5
    assert len(value["totals"]) == 3 * 5 * 3
    assert sum(row["train_share"] for row in value["datasets"]) == pytest.approx(1)


def test_all_views_show_the_same_number(table: Table) -> None:
    cell = table.cell("tf_xxl", "views", "mlm_loss")
    text = number(cell.value, "mlm_loss")
    assert text in terminal_text(table)
    assert text in markdown_table(table, ["tf_xxl"])
    assert text in latex_text(table)
    rows = [row for row in csv.DictReader(io.StringIO(csv_text(table))) if row["kind"] == "cell"]
    found = next(r for r in rows if (r["run"], r["dataset"], r["metric"]) == ("tf_xxl", "views", "mlm_loss"))
    assert float(found["value"]) == cell.value
    assert parquet_table(table).num_rows == len(table.cells)


def test_markdown_links_numbers_and_datasets(table: Table) -> None:
    page = markdown_table(table, ["tf_xxl"], ["mlm_loss"])
    assert "[reform](https://example.org/reform)" in page
    assert "](https://example.org/tf_xxl/mlm_loss?dataset=views)" in page
    assert "| views |" in page.replace("  ", " ")


@pytest.mark.parametrize("runs", [1, 2, 3, 7])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_terminal_page_fits_100_columns(table: Table, runs: int, ascii_only: bool) -> None:
    names = [f"a_run_with_a_rather_long_name_{i}" for i in range(runs)]
    columns = [replace(table.runs[0], name=name) for name in names]
    cells = [replace(c, run=name) for name in names for c in table.cells if c.run == "torch_xxl"]
    cells = [replace(c, dataset=f"{c.dataset}_of_a_long_name_that_goes_on") for c in cells]
    rows = [replace(row, name=f"{row.name}_of_a_long_name_that_goes_on") for row in table.datasets]
    totals = [replace(t, run=name) for name in names for t in table.totals if t.run == "torch_xxl"]
    wide = replace(table, runs=columns, cells=cells, totals=totals, datasets=rows)
    text = terminal_text(wide, ascii_only=ascii_only)
    assert max(map(len, text.splitlines())) <= 100
    assert number(cells[0].value, "mlm_loss") in text
    if ascii_only:
        assert text.isascii()


def test_missing_is_a_dash_and_never_a_zero(table: Table) -> None:
    line = next(
        line for line in markdown_table(table, ["tf_xl"], ["sop_loss"]).splitlines() if line.startswith("| views")
    )
    assert line.endswith("| — |")
    assert "nan" not in terminal_text(table).lower().replace("finance", "")


def test_hostile_text_stays_text() -> None:
    escaped = escape_markdown(HOSTILE)
    assert "<img" not in escaped
    assert "\n" not in escaped
    assert "\x1b" not in escaped
    assert "\u202e" not in escaped
    assert "\\|" in escaped
    assert "\\[x\\]" in escaped
    assert "\\`code\\`" in escaped
    assert plain("a\tb\u200f") == "a·b·"
    assert escape_markdown("torch_xxl") == "torch_xxl"


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        " javascript:x",
        "java\nscript:x",
        "//evil",
        "vbscript:x",
        "http://[bad",
    ],
)
def test_dangerous_links_are_refused(link: str) -> None:
    assert safe_link(link) is None
    assert markdown_link("1.5", link) == "1.5"


def test_links_cannot_leave_their_brackets() -> None:
    assert markdown_link("x", "https://example.org/a)b|c d") == "x"
    assert markdown_link("x", "https://example.org/a)b|c") == "[x](https://example.org/a%29b%7Cc)"


def test_a_hostile_study_makes_a_harmless_page(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic({"r": "torch"}, name=HOSTILE, link="javascript:alert(1)")
    study.score("r", {name: planted() for name in DATASETS})
    table = build_table(study.study, study.folder)
    page = report_of(study, table)
    for text in (page, terminal_text(table)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<img" not in page
    assert "(javascript:" not in page.replace("\\]\\(", "").replace("\\](", "")
    assert r"\textbackslash" not in latex_text(table)


def test_csv_disarms_formulas(table: Table) -> None:
    armed = replace(table, cells=[replace(table.cells[0], reason='=HYPERLINK("http://x")', run="+1", link="@x")])
    row = next(csv.DictReader(io.StringIO(csv_text(armed))), None)
    assert row is None or row["run"].startswith("'+")


def test_latex_escapes_its_specials(table: Table) -> None:
    named = replace(table, datasets=[replace(row, name=f"{row.name}_50%&#") for row in table.datasets])
    renamed = replace(named, cells=[replace(c, dataset=f"{c.dataset}_50%&#") for c in table.cells])
    assert r"reform\_50\%\&\#" in latex_text(renamed)


def test_the_report_says_verdict_table_runs_mixture_and_provenance(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic({"a": "torch", "b": "jax"})
    for run in ("a", "b"):
        study.score(run, {name: planted() for name in DATASETS})
    page = report_of(study, build_table(study.study, study.folder))
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == [
        "# reform views web",
        "## Findings",
        "## Loss by dataset",
        "## Runs",
        "## Curves",
        "## Mixture",
        "## Provenance",
    ]
    assert "6 of 6 cells measured on 3,000 frozen validation examples." in page
    assert "No step records" in page
    assert "3 bad rows left out" in page


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        (["reform", "views", "dialogue"], "all"),
        (["dialogue", "views", "reform"], "all"),
        (["reform", "views"], "all but dialogue"),
        (["views"], "views"),
        (["reform", "views", "gone"], "all but dialogue, and also gone (removed)"),
        (["reform", "views", "dialogue", "gone", "old"], "all, and also gone, old (removed)"),
        (["gone"], "gone (removed)"),
        (["views", "gone"], "views, and also gone (removed)"),
        (None, None),
    ],
)
def test_what_a_run_was_trained_on_is_said_alike_everywhere(
    synthetic: Callable[..., Any], planted: Any, trained: list[str] | None, said: str | None
) -> None:
    """As many datasets as the study has need not be those of the study; of a checkpoint from elsewhere nobody knows."""
    study = synthetic({"a": "torch"})
    run = "a" if trained else "elsewhere"
    study.score(run, {name: planted() for name in DATASETS})
    if trained:
        record = {"datasets": trained, "weights": dict.fromkeys(trained, 1.0), "recipe": {"steps": 100}}
        write_json(study.folder.run(run) / "run.json", record)
        rows = [dict.fromkeys(STEP_SCHEMA.names, 1) | {"run": run, "dataset": name} for name in trained]
        write_steps(study.folder.steps(run), pa.Table.from_pylist(rows, schema=STEP_SCHEMA))
    opened = OpenTable(build_table(study.study, study.folder), study.study, study.folder)
    column = opened.table.runs[0]
    assert (column.name, trained_on(column, study.study)) == (run, said)
    assert f"| {escape_markdown(said or '—')} |" in report_of(study, opened.table)
    assert (study.folder.report / "report.html").is_file()
    # Planned shares are those of the study file: a run that was begun with others has its own beside them.
    own = f"a was begun with {', '.join(f'{name} {100 / len(trained or [1]):.1f} %' for name in trained or [])}."
    for text in (report_of(study, opened.table), mixture_view(opened, Ids([run], DATASETS)).note):
        assert (own in text.replace("\\", "")) == ("removed" in (said or ""))
    ids = Ids([run], DATASETS)
    pairs = pairs_view(opened, Anchors(ids, charts=[], examples=[]), ids)
    shown = dict(zip(pairs.columns, pairs.runs[0].facts, strict=True)).get("trained on")
    assert shown == said
    facts = dict(run_view(opened, run, Addresses("study")).facts)
    assert facts.get("trained on") == said


def test_a_total_of_what_nobody_knows_is_none(table: Table) -> None:
    first, *others = table.datasets
    unshared = replace(table, datasets=[replace(row, validation_share=None) for row in table.datasets])
    assert total_counts(unshared)[2] == "—"
    assert total_counts(replace(table, datasets=[replace(first, train_rows=None), *others]))[0] == "—"
    assert total_counts(table)[1:] == ["100.0", "100.0"]


@pytest.mark.parametrize(
    ("name", "html"),
    [
        ("dataset_001", "dataset_001"),
        ("a/very/long/path.jsonl", "a/<wbr>very/<wbr>long/<wbr>path.<wbr>jsonl"),
        ("<b>_a_b & a long name", "&lt;b&gt;_a_<wbr>b &amp; a long name"),
    ],
)
def test_long_names_break_at_their_joints(name: str, html: str) -> None:
    assert breaks(name) == html


def test_a_setting_is_written_as_a_reader_would() -> None:
    records = [{"datasets": ["a", "b"], "tied": True, "clip": None}, {"datasets": ["a"], "tied": False, "clip": 1.5}]
    found = {setting.name: setting.values for setting in differing_settings(records)}
    assert found == {"datasets": ["a, b", "a"], "tied": ["true", "false"], "clip": ["none", "1.5"]}

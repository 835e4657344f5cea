"""The functions that `lossary` names give the numbers that its verbs print."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from typer.testing import CliRunner

import lossary
from lossary.cli.main import app

DATASETS = ("reform", "views", "dialogue")
HOSTILE = '<script>alert("x")</script>&'


@pytest.fixture
def study(synthetic: Callable[..., Any], planted: Any) -> Path:
    made = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow"}, name=HOSTILE)
    made.score("torch_xxl", {name: planted() for name in DATASETS})
    made.score("tf_xxl", {name: planted(mlm=4.4, sop=None if name == "views" else 0.5) for name in DATASETS})
    made.score("tf_xxl", {name: planted(mlm=4.2) for name in DATASETS}, step=50)
    path: Path = made.folder.root
    return path


def printed(*arguments: str) -> str:
    found = CliRunner().invoke(app, list(arguments))
    assert found.exit_code in (0, 1), found.output
    return found.stdout


def whole(html: str) -> ElementTree.Element:
    """HTML that is also XML: every tag closed, everything escaped."""
    return ElementTree.fromstring(f"<div>{html}</div>")


def test_every_public_name_is_there_and_documented() -> None:
    for name in lossary.__all__:
        assert name == "__version__" or getattr(lossary, name).__doc__
    assert set(dir(lossary)) == set(lossary.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lossary.nothing  # type: ignore[attr-defined]


def test_importing_it_loads_nothing_and_touches_no_variable() -> None:
    code = (
        "import os, sys; before = dict(os.environ); import lossary; lossary.table\n"
        "heavy = {'numpy', 'pyarrow', 'torch', 'tensorflow', 'pandas', 'rich', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy; assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_table_is_that_of_show_and_export(study: Path) -> None:
    table = lossary.table(study, base="torch_xxl")
    assert str(table) == printed("show", str(study), "--base", "torch_xxl")
    exported = json.loads(printed("export", str(study)))
    assert {**json.loads(json.dumps(table.to_dict())), "base": None, "deltas": []} == exported
    for cell in exported["cells"]:
        assert table.value(cell["run"], cell["dataset"], cell["metric"]) == cell["value"]
        assert table.cell(cell["run"], cell["dataset"], cell["metric"]).reason == cell["reason"]
    for total in exported["totals"]:
        assert table.total(total["run"], total["metric"], total["weighting"]).value == total["value"]
    assert table.value("tf_xxl", None, "mlm_loss") == table.total("tf_xxl", "mlm_loss").value
    of_total = table.delta("tf_xxl", None, "mlm_loss")
    assert (of_total.base, of_total.dataset) == ("torch_xxl", None)
    assert of_total.value is not None
    assert of_total.value > 0
    assert lossary.table(study, runs=["tf_xxl"], step=50).runs == ["tf_xxl"]
    assert lossary.table(study, runs=["tf_xxl"], step="best").cell("tf_xxl", "views", "mlm_loss").step == 50
    assert table.to_markdown() + "\n" == printed("export", str(study), "-f", "markdown")


@pytest.mark.parametrize("kind", ["", "cells", "totals", "deltas", "datasets", "runs"])
def test_rows_have_typed_columns_even_where_there_are_none(study: Path, kind: str) -> None:
    with_base, without = (lossary.table(study, base=base).to_arrow(kind) for base in ("torch_xxl", None))
    assert with_base.schema == without.schema
    assert not any(pa.types.is_null(column.type) for column in without.schema)
    if kind in ("", "cells"):
        assert without.num_rows == 2 * 3 * 5
        assert without.schema.field("value").type == pa.float64()
    frame = lossary.table(study, base="torch_xxl").to_pandas(kind)
    assert list(frame.columns) == with_base.column_names
    assert len(frame) == with_base.num_rows


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda table: table.value("no", "views", "mlm_loss"), "no run is called 'no'"),
        (lambda table: table.value("tf_xxl", "no", "mlm_loss"), "no dataset is called 'no'"),
        (lambda table: table.value("tf_xxl", "views", "no"), "no metric is called 'no'"),
        (lambda table: table.total("tf_xxl", "mlm_loss", "reported"), "no total is called 'mlm_loss:reported'"),
        (lambda table: table.delta("tf_xxl", "views", "mlm_loss"), "no difference"),
        (lambda table: table.to_arrow("no"), "no kind of rows is called 'no'"),
        (lambda table: table.to_pandas("no"), "no kind of rows is called 'no'"),
    ],
)
def test_an_unknown_name_is_one_clear_error(study: Path, ask: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(lossary.LossaryError, match=said) as caught:
        ask(lossary.table(study))
    assert caught.value.hint


@pytest.mark.parametrize(
    "ask",
    [
        lambda path: lossary.table(path),
        lambda path: lossary.open_study(path),
        lambda path: lossary.compare("a", "b", path),
        lambda path: lossary.check(path),
        lambda path: lossary.report(path),
        lambda path: lossary.diagnose("torch", study=path),
        lambda path: lossary.import_files(path / "none.md", out=path / "out"),
        lambda path: lossary.import_files(out=path / "out"),
        lambda path: lossary.table(path, step="first"),
        lambda _: lossary.table(None),  # type: ignore[arg-type]
        lambda _: lossary.open_study(5),  # type: ignore[arg-type]
        lambda path: lossary.import_files([], out=path / "out"),
    ],
)
def test_what_is_no_study_is_one_clear_error_and_writes_nothing(tmp_path: Path, ask: Callable[[Path], Any]) -> None:
    with pytest.raises(lossary.LossaryError):
        ask(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pandas_is_asked_for_only_where_it_is_needed(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = lossary.table(study)
    assert table.to_arrow().num_rows
    with pytest.raises(lossary.LossaryError, match="needs pandas") as caught:
        table.to_pandas()
    assert "lossary[pandas]" in str(caught.value.hint)


def test_a_comparison_is_that_of_its_verb(study: Path) -> None:
    found = lossary.compare("torch_xxl", "tf_xxl", study, step=100)
    assert found.is_comparable
    assert json.loads(json.dumps(found.to_dict())) == json.loads(
        printed("compare", "torch_xxl", "tf_xxl", str(study), "--step", "100", "-f", "json")
    )
    assert found.to_arrow().num_rows == len(found.deltas) > 0
    assert "backend" in found.to_arrow("settings").column("name").to_pylist() or found.to_arrow("checks").num_rows
    whole(found._repr_html_())


def test_findings_are_a_sequence_of_those_of_check(study: Path) -> None:
    found = lossary.check(study)
    assert json.loads(json.dumps(found.to_dict())) == json.loads(printed("check", str(study), "-f", "json"))
    assert [finding.code for finding in found] == found.to_arrow().column("code").to_pylist()
    assert found[0] is next(iter(found))
    assert found[:2] == list(found)[:2]
    assert len(found) == found.to_pandas().shape[0]
    with pytest.raises(lossary.LossaryError, match="no severity is called 'bad'"):
        found.fails("bad")  # type: ignore[arg-type]
    ignored = lossary.check(study, ignore={found[0].code: "known"})
    assert ignored[0].ignored == "known" or ignored[0].code != found[0].code
    whole(found._repr_html_())


def test_an_open_study_stands_for_its_path(study: Path) -> None:
    opened = lossary.open_study(study / "study.toml")
    assert (opened.name, opened.datasets, opened.runs) == (HOSTILE, list(DATASETS), ["torch_xxl", "tf_xxl"])
    assert lossary.open_study(opened) is opened
    assert str(lossary.table(opened)) == str(lossary.table(study))
    assert str(lossary.compare("torch_xxl", "tf_xxl", opened)) == str(lossary.compare("torch_xxl", "tf_xxl", study))


def test_a_report_is_written_where_its_verb_writes_it(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    written = lossary.report()
    assert written.page.resolve() == study / "report" / "report.html"
    link = whole(written._repr_html_()).find(".//a")
    assert link is not None
    assert link.get("href") == "report/report.html"


def test_an_import_gives_its_table_and_how_it_was_read(tmp_path: Path) -> None:
    source = tmp_path / "losses.md"
    source.write_text("| dataset | a mlm_loss | b mlm_loss |\n|---|---|---|\n| views | 1.5 | 1.25 |\n")
    dry = lossary.import_files(source, out=tmp_path / "out", dry_run=True)
    assert "2 numbers" in dry.reading
    assert not (tmp_path / "out").exists()
    with pytest.raises(lossary.LossaryError, match="dry run"):
        _ = dry.model
    whole(dry._repr_html_())
    found = lossary.import_files(source, out=tmp_path / "out")
    assert found.value("b", "views", "mlm_loss") == 1.25
    assert str(lossary.table(tmp_path / "out")) in str(found)
    assert lossary.compare("a", "b", tmp_path / "out").deltas[0].value == -0.25
    (tmp_path / "map.toml").write_text(found.map_toml)
    again = lossary.import_files([source], out=tmp_path / "again", maps=[str(tmp_path / "map.toml")])
    assert again.value("b", "views", "mlm_loss") == 1.25
    whole(found._repr_html_())


def test_html_holds_the_numbers_and_nothing_that_runs(study: Path) -> None:
    table = lossary.table(study, base="torch_xxl")
    found = whole(table._repr_html_())
    assert not found.findall(".//script")
    assert HOSTILE in "".join(found.itertext())
    rows = ["".join(row.itertext()) for row in found.findall(".//tbody/tr")]
    assert [next(name for name in DATASETS if row.startswith(name)) for row in rows] == list(DATASETS)
    for cell in (cell for cell in table.model.cells if cell.metric in table.model.shown):
        if cell.value is None:
            assert any(cell.reason == td.get("title") for td in found.findall(".//td"))
        else:
            assert f"{cell.value:.3f}".removeprefix("0" if cell.unit == "fraction" else "") in "".join(rows)


def test_a_notebook_shows_it(study: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cells = [
        "import lossary",
        f"lossary.table({str(study)!r})",
        f"lossary.check({str(study)!r})",
        f"lossary.table({str(study / 'none')!r})",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    shown = [cell.outputs[0] for cell in notebook.cells[1:]]
    assert "<table>" in shown[0]["data"]["text/html"]
    assert "rules" in shown[1]["data"]["text/html"]
    assert shown[2]["ename"] == "StudyError"

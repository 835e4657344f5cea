"""Every imported number says where it came from: file, place, text, which point, and why it was read so."""

import json
from pathlib import Path

import pytest

from lossary.findings.folder import check_table
from lossary.reports.export import csv_text, json_value
from lossary.reports.html.links import Ids
from lossary.reports.html.views import origins
from lossary.reports.html.views.origins import OriginsView, origins_view
from lossary.reports.page import write_report
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.recognise import read_any
from lossary.tables.imported import save_import
from lossary.tables.load import OpenTable, open_table

PAGE = """| dataset | torch MLM loss | tf MLM loss | tf MLM acc |
|---|---|---|---|
| wiki | 1.50 | [2.5](https://example.org/run) | 43.1 % |
| <b>books</b> | 1.75 | — | 40.0 % |
| total | 1.60 | 2.55 | |
"""
LOG = "".join(
    json.dumps(record) + "\n"
    for record in ({"step": 10, "eval/wiki/loss": 3.0}, {"step": 20, "eval/wiki/loss": 2.0}, {"step": 30, "lr": 1.0})
)


def imported(root: Path, name: str, text: str) -> OpenTable:
    root.mkdir(exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    save_import(root, "page", [read_any(root / name, parse_maps([]))])
    return open_table(root)


def view_of(opened: OpenTable, run: str | None = None) -> OriginsView:
    table = opened.table
    view = origins_view(table, Ids([r.name for r in table.runs], [d.name for d in table.datasets]), run=run)
    assert view is not None
    return view


def test_every_number_of_a_page_is_told_of_with_its_line_and_text(tmp_path: Path) -> None:
    view = view_of(imported(tmp_path / "page", "losses.md", PAGE))
    rows = {(o.run, o.dataset, o.shown): (o.printed, o.statistic, o.place, o.link) for _, g in view.groups for o in g}
    assert rows["torch", "wiki", "1.500"] == ("1.50", "printed", "losses.md, line 3, torch MLM loss", None)
    assert rows["tf", "wiki", "2.500"][3] == "https://example.org/run"
    assert rows["torch", "total", "1.600"][2] == "losses.md, line 5, torch MLM loss"
    assert view.count == len(rows) == 7
    assert [reading for reading, _ in view.groups] == [
        "“torch MLM loss” of Markdown tables is read as MLM loss",
        "“tf MLM loss” of Markdown tables is read as MLM loss",
        "“tf MLM acc” of Markdown tables is read as MLM acc; per cent, divided by 100",
    ]


def test_a_point_of_a_curve_says_which_of_how_many_it_is(tmp_path: Path) -> None:
    opened = imported(tmp_path / "log", "metrics.jsonl", LOG)
    [(reading, [row])] = view_of(opened).groups
    assert row.statistic == "the last of 2 points"
    assert "metrics.jsonl" in row.place
    assert row.place.endswith("step 20")
    assert "“eval/wiki/loss”" in reading
    earlier = open_table(opened.folder.root, step=10).table.cell("metrics", "wiki", "loss")
    assert earlier.statistic == "the point of step 10, of 2"


def test_json_csv_and_the_page_hold_it_escaped(tmp_path: Path) -> None:
    opened = imported(tmp_path / "page", "losses.md", PAGE)
    cell = json_value(opened.table)["cells"][0]
    assert (cell["place"], cell["statistic"]) == ("losses.md, line 3, torch MLM loss", "printed")
    assert cell["reading"].startswith("“torch MLM loss”")
    assert "losses.md, line 3, torch MLM loss" in csv_text(opened.table)
    html = write_report(opened, check_table(opened, where="page")).html
    assert html is not None
    text = html.read_text(encoding="utf-8")
    assert "<b>books" not in text
    for origin in (o for _, rows in view_of(opened).groups for o in rows):
        assert f'href="#{origin.id}"' in text
        assert f'id="{origin.id}"' in text


def test_a_page_of_one_run_tells_of_it_alone_and_what_is_left_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = imported(tmp_path / "page", "losses.md", PAGE)
    assert {o.run for _, rows in view_of(opened, "torch").groups for o in rows} == {"torch"}
    monkeypatch.setattr(origins, "_MOST", 2)
    view = view_of(opened)
    assert len(view.ids) == 2
    assert view.note.startswith("2 of 7 numbers; table.json has all")

"""Hundreds of findings of one rule, and hundreds of places of one note, are told in a few lines."""

import json
from pathlib import Path

import pytest

from lossary.findings.engine import Checked
from lossary.findings.model import Finding
from lossary.reports.findings import FORMATS, findings_markdown
from lossary.results.importers.maps import Maps
from lossary.results.importers.recognise import read_any


def checked(count: int) -> Checked:
    findings = [
        Finding(code="L104", name="conflict", severity="warning", subject=f"base · d{at}", measured="", gist=f"d{at}")
        for at in range(count)
    ]  # fmt: skip
    other = Finding(code="L402", name="nan-or-spike", severity="warning", subject="base", measured="", gist="a spike")
    return Checked(findings=[*findings, other], tests=0)


@pytest.mark.parametrize("form", ["full", "concise", "sarif", "github", "markdown"])
def test_many_findings_of_one_rule_are_folded_and_others_stay(form: str) -> None:
    told = findings_markdown(checked(300)) if form == "markdown" else FORMATS[form](checked(300))
    assert told.count("L104") <= 12 + (form == "sarif")
    assert "290 more findings of this rule" in told
    assert "a spike" in told
    few = findings_markdown(checked(11)) if form == "markdown" else FORMATS[form](checked(11))
    assert "d10" in few
    assert "more findings" not in few


def test_json_has_every_finding() -> None:
    assert len(json.loads(FORMATS["json"](checked(300)))["findings"]) == 301


def test_what_many_lines_of_a_file_lack_is_one_note(tmp_path: Path) -> None:
    rows = "".join(f"| {f'd{at}' if at % 2 else ''} | 2.{at:03d} |\n" for at in range(100))
    (tmp_path / "t.md").write_text(f"| Dataset | loss |\n|---|---|\n{rows}", encoding="utf-8")
    notes = [note for note in read_any(tmp_path / "t.md", Maps()).notes if "no dataset" in note]
    assert len(notes) == 1
    assert notes[0].endswith("and 42 more")
    lines = (json.dumps({"step": step, **{f"eval/d{at}/accuracy": 50 for at in range(100)}}) for step in (1, 2))
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert len(read_any(tmp_path / "t.jsonl", Maps()).notes) == 1

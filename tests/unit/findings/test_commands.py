"""Commands that are printed are taken by a shell as they stand."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lossary.cli.main import app
from lossary.findings.subject import Subject
from lossary.tables.load import open_table

TABLE = """| dataset | my run (v2) mlm loss | my run (v2) sop loss | b mlm loss | b sop loss |
|---|---|---|---|---|
| wiki | 4.20 | 0.90 | 4.10 | 0.40 |
| code | 3.10 | 0.95 | 3.00 | 0.41 |
"""


def test_folders_and_runs_with_spaces_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a table.md").write_text(TABLE)
    said = CliRunner().invoke(app, ["import", "a table.md", "--out", "my imports"]).stdout
    assert "lossary show 'my imports', lossary check 'my imports'" in said
    subject = Subject(table=open_table(Path("my imports")).table, where="my imports")
    command = subject.command("compare", "my run (v2)", "b", more="--step best")
    assert shlex.split(command) == ["lossary", "compare", "my run (v2)", "b", "my imports", "--step", "best"]


def test_init_quotes_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "`lossary run 'my study'`" in CliRunner().invoke(app, ["init", "my study"]).stdout

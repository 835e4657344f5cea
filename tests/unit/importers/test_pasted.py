"""What is pasted, or comes through a pipe: read as a file is, and told as what it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_MARKDOWN = "| dataset | loss A | loss B |\n|---|---|---|\n| wiki | 1.2 | 1.3 |\n| code | 2.2 | 2.3 |\n"
_CELLS = "dataset\tloss A\tloss B\nwiki\t1.2\t1.3\ncode\t2.2\t2.3\n"
_HTML = (
    "<table><tr><th>dataset</th><th>loss A</th><th>loss B</th></tr><tr><td>wiki</td><td>1.2</td><td>1.3</td></tr>"
    "<tr><td>code</td><td>2.2</td><td>2.3</td></tr></table>"
)


def pipe(sent: bytes, out: Path) -> subprocess.CompletedProcess[bytes]:
    """Sends bytes to `lossary import -`."""
    command = [sys.executable, "-m", "lossary", "import", "-", "-o", str(out)]
    return subprocess.run(command, input=sent, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("text", [_MARKDOWN, _CELLS, _HTML])
def test_a_pasted_table_is_read(text: str, tmp_path: Path) -> None:
    told = pipe(text.encode(), tmp_path / "out")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(b"standard input: ")
    assert b"2 runs, 2 datasets, 4 numbers" in told.stdout
    saved = (tmp_path / "out" / "imported.json").read_text()
    assert "standard input" in saved
    assert "/stdin" not in saved


@pytest.mark.parametrize("sent", [b"", os.urandom(3000), b"\0" * 3000, b"a\tb\n1\t2\n", b"{"])
def test_what_cannot_be_read_is_said_of_standard_input(sent: bytes, tmp_path: Path) -> None:
    told = pipe(sent, tmp_path / "out")
    assert told.returncode == 3
    assert told.stderr.startswith(b"lossary: standard input: ")
    assert b"Traceback" not in told.stderr
    assert not (tmp_path / "out").exists()

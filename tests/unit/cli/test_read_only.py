"""A study in a folder that cannot be written to: readers read, writers say so in one message and exit 3."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.scored import score_run

from lossary.folder import StudyFolder

# The folder is mounted onto itself, read-only, for the command alone: modes do not stop a superuser.
_MOUNT = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@cache
def _mounts(root: Path) -> bool:
    command = ["unshare", "-rm", "sh", "-c", _MOUNT, str(root), "touch", str(root / "probe")]
    if shutil.which("unshare") is None:
        return False
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.returncode != 0 and "Read-only" in found.stderr


@pytest.fixture(scope="module")
def root(prepared: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("read-only") / "study"
    shutil.copytree(prepared[1].root, path, ignore=shutil.ignore_patterns("diagnosis", "runs"))
    for run in ("torch_a", "tf_a"):
        score_run(StudyFolder(path), run)
    if not _mounts(path):
        pytest.skip("this machine lets nobody mount a folder read-only (unshare -rm)")
    return path


def lossary(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", "-rm", "sh", "-c", _MOUNT, str(root), sys.executable, "-m", "lossary", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in found.stderr, found.stderr
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["show", "--base", "tf_a"],
        ["check", "--fail-on", "never"],
        ["compare", "torch_a", "tf_a"],
        ["examples", "torch_a", "tf_a", "--dataset", "lines"],
        ["verify"],
        ["status"],
        ["status", "--json"],
        ["plan"],
        ["export"],
    ],
    ids=" ".join,
)
def test_readers_read(root: Path, arguments: list[str]) -> None:
    found = lossary(root, *arguments, str(root))
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout


def test_a_report_is_written_elsewhere(root: Path, tmp_path: Path) -> None:
    found = lossary(root, "report", str(root), "--out", str(tmp_path / "page"))
    assert (found.returncode, found.stderr) == (0, "")
    written = {path.name for path in (tmp_path / "page").iterdir()}
    assert {"report.html", "report.md", "table.csv", "table.json"} <= written
    assert json.loads((tmp_path / "page" / "table.json").read_text())["study"] == "tiny"


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare"],
        ["train"],
        ["evaluate"],
        ["run"],
        ["report"],
        ["add", "STUDY", "runs.more", "backend=torch", "size=base"],
        ["rm", "STUDY", "runs.torch_a"],
        ["mv", "STUDY", "runs.torch_a", "other"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_writers_say_so_in_one_message(root: Path, arguments: list[str]) -> None:
    asked = [str(root) if word == "STUDY" else word for word in arguments]
    found = lossary(root, *asked, *([] if "STUDY" in arguments else [str(root)]))
    assert found.returncode == 3
    message, hint = found.stderr.strip().splitlines()
    assert message.startswith(f"lossary: {root}")
    assert message.endswith("read-only file system")
    assert hint.startswith("  Copy the study to a file system that can be written to")

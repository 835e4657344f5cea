"""The page at the end of a run stands until something that it is made from changes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.scored import score_run

from lossary.api.functions import report
from lossary.folder import StudyFolder
from lossary.reports.closing import kept_page, make_page
from lossary.study import Study
from lossary.study_file import load_study


@pytest.fixture(scope="module")
def written(prepared: tuple[Study, StudyFolder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study with scores and a page."""
    root = tmp_path_factory.mktemp("closing") / "study"
    shutil.copytree(prepared[1].root, root, ignore=shutil.ignore_patterns("diagnosis", "runs", "report"))
    for run in ("torch_a", "tf_a"):
        score_run(StudyFolder(root), run)
    assert kept_page(load_study(root), StudyFolder(root)) is None
    page = make_page(load_study(root), StudyFolder(root))
    assert not page.is_kept
    return root


def kept(root: Path) -> bool:
    return kept_page(load_study(root), StudyFolder(root)) is not None


def test_what_stands_is_what_was_written(written: Path) -> None:
    page = kept_page(load_study(written), StudyFolder(written))
    assert page is not None
    assert page.is_kept
    assert page.path == written / "report" / "report.html"
    assert "torch_a" in page.terminal
    again = make_page(load_study(written), StudyFolder(written))
    assert again.terminal == page.terminal
    assert kept(written)


def scored_again(root: Path) -> None:
    score_run(StudyFolder(root), "tf_a", mean=2.0)


def another_step(root: Path) -> None:
    score_run(StudyFolder(root), "tf_a", step=6)


def scores_gone(root: Path) -> None:
    StudyFolder(root).scores("tf_a", 12).unlink()


def other_settings(root: Path) -> None:
    file = root / "study.toml"
    file.write_text(file.read_text() + 'link = "https://example.org"\n')


def diagnosed(root: Path) -> None:
    (root / "diagnosis").mkdir()
    (root / "diagnosis" / "a.md").write_text("# A cause\n")


def a_picture_gone(root: Path) -> None:
    (root / "report" / "table.csv").unlink()


def a_digit_damaged(root: Path) -> None:
    page, record = root / "report" / "report.html", (root / "report" / "report.html").stat()
    page.write_bytes(page.read_bytes().replace(b"0.", b"1.", 1))
    os.utime(page, ns=(record.st_atime_ns, record.st_mtime_ns))


def record_damaged(root: Path) -> None:
    (root / "report" / "made.json").write_text("{")


def record_of_other_types(root: Path) -> None:
    (root / "report" / "made.json").write_text("[1]")


def another_report(root: Path) -> None:
    report(root, base="tf_a")


@pytest.mark.parametrize(
    "change",
    [
        scored_again,
        another_step,
        scores_gone,
        other_settings,
        diagnosed,
        a_picture_gone,
        a_digit_damaged,
        record_damaged,
        record_of_other_types,
        another_report,
    ],
)
def test_it_is_made_again_after(change: Callable[[Path], None], written: Path, tmp_path: Path) -> None:
    root = tmp_path / "study"
    shutil.copytree(written, root, copy_function=shutil.copy2)
    assert kept(root)
    change(root)
    assert not kept(root)
    make_page(load_study(root), StudyFolder(root))
    assert kept(root)


def test_a_report_elsewhere_leaves_it_alone(written: Path, tmp_path: Path) -> None:
    report(written, base="tf_a", out=tmp_path / "page")
    assert kept(written)


def test_asking_imports_nothing_that_a_page_takes(written: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from lossary.folder import StudyFolder
from lossary.reports.closing import kept_page
from lossary.study_file import load_study
root = Path({os.fspath(written)!r})
assert kept_page(load_study(root), StudyFolder(root))
heavy = [name for name in ("duckdb", "scipy", "altair", "pandas") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)

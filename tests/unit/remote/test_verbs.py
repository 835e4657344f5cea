"""Verbs and functions are given a study's URL in the place of its folder, and say the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import lossary
from lossary.cli.main import app
from lossary.errors import BusyError, UsageError


@pytest.fixture
def both(synthetic: Callable[..., Any], planted: Any, tmp_path: Path) -> tuple[str, str]:
    """A study in a folder, and at a URL."""
    study = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow"})
    for run, nats in (("torch_xxl", 2.0), ("tf_xxl", 2.1)):
        study.score(run, {name: planted(mlm=nats, sop=0.3) for name in ("reform", "views", "dialogue")})
    url = f"file://{tmp_path}/store/study"
    assert run_verb("push", str(study.folder.root), url)[0] == 0
    return str(study.folder.root), url


def run_verb(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


@pytest.mark.parametrize(
    "verb", [["show"], ["compare", "torch_xxl", "tf_xxl"], ["rank"], ["export"], ["show", "--base", "tf_xxl"]]
)
def test_a_verb_says_of_a_url_what_it_says_of_the_folder(verb: list[str], both: tuple[str, str]) -> None:
    folder, url = both
    first, *options = verb
    names, rest = ([], options) if first != "compare" else (options, [])
    assert run_verb(first, *names, url, *rest) == run_verb(first, *names, folder, *rest)


def test_what_a_verb_writes_is_there(both: tuple[str, str], tmp_path: Path) -> None:
    _, url = both
    assert run_verb("report", url)[0] == 0
    assert run_verb("add", url, "runs.other", 'backend="torch"', 'size="base"')[0] == 0
    assert run_verb("pull", url, str(tmp_path / "pulled"))[0] == 0
    assert (tmp_path / "pulled" / "report" / "report.md").is_file()
    assert "[runs.other]" in (tmp_path / "pulled" / "study.toml").read_text()


def test_a_study_that_is_written_can_be_read_and_says_who_works(both: tuple[str, str]) -> None:
    from lossary.folder import StudyFolder
    from lossary.lease import hold, run_lease

    _, url = both
    with lossary.working_copy(url) as folder:
        assert run_verb("show", url)[0] == 0
        with hold(StudyFolder(folder), run_lease("tf_xxl"), doing="train"), pytest.raises(BusyError):
            run_verb("report", url)
    assert json.loads(run_verb("status", url, "--json")[1])["working"] == []


def test_functions_take_urls_and_refuse_to_write_what_would_be_lost(both: tuple[str, str]) -> None:
    folder, url = both
    assert lossary.table(url).to_dict() == lossary.table(folder).to_dict()
    opened = lossary.open_study(url)
    assert list(opened.study.runs) == ["torch_xxl", "tf_xxl"]
    for study in (url, opened):
        with pytest.raises(UsageError, match="opened at a URL for reading"):
            lossary.report(study)
    with lossary.working_copy(url) as copy:
        lossary.report(copy)
    assert (lossary.open_study(url).folder.root / "report" / "report.md").is_file()


def test_a_folder_is_pushed_once_unless_it_is_to_replace_what_is_there(both: tuple[str, str], tmp_path: Path) -> None:
    folder, url = both
    with pytest.raises(UsageError, match="there is a study already"):
        run_verb("push", folder, url)
    (Path(folder) / "runs" / "tf_xxl" / "scores" / "00000100.parquet").unlink()
    assert run_verb("push", folder, url, "--replace")[0] == 0
    assert [run.name for run in lossary.table(url).model.runs] == ["torch_xxl"]
    with pytest.raises(UsageError, match="it exists already"):
        run_verb("pull", url, folder)
    with pytest.raises(UsageError, match="is no URL"):
        run_verb("push", folder, str(tmp_path / "x"))

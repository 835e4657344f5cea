"""Watching a study: what is scored is told once, a rule that fires ends it, and so does the end of the work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lossary.cli.main import app
from lossary.errors import StudyError
from lossary.folder import StudyFolder
from lossary.lease import hold, run_lease
from lossary.watching import COURSE, Event, watch

DATASETS = ("reform", "views", "dialogue")


@pytest.fixture
def made(synthetic: Callable[..., Any], planted: Any) -> Any:
    found = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow"}, name="watched")
    for run in ("torch_xxl", "tf_xxl"):
        found.score(run, {name: planted(mlm=3.0) for name in DATASETS}, step=50)
    return found


def events(root: Path, sleep: Callable[[float], None]) -> list[Event]:
    return list(watch(root, rules=COURSE, severity="warning", every_s=1.0, sleep=sleep))


def test_a_study_that_nobody_works_on_is_told_and_left(made: Any) -> None:
    def never(_: float) -> None:
        raise AssertionError("it waits for nobody")

    found = events(made.folder.root, never)
    assert [event.kind for event in found][-1] == "ended"
    assert "no rule fired" in found[-1].text


def test_a_rule_that_fires_while_somebody_works_ends_it(made: Any, planted: Any) -> None:
    folder: StudyFolder = made.folder
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        assert len(looks) < 4
        # The loss jumps far above what it was at step 50.
        made.score("tf_xxl", {name: planted(mlm=30.0) for name in DATASETS}, step=100)

    with hold(folder, run_lease("tf_xxl")):
        found = events(folder.root, sleep)
    assert looks
    assert found[-1].kind == "fired"
    assert found[-1].finding is not None
    assert found[-1].finding.code == "L404"
    assert sum(event.text.startswith("tf_xxl: scored") for event in found) == 2


def test_the_end_of_the_work_ends_it(made: Any) -> None:
    lease = hold(made.folder, run_lease("tf_xxl"))
    lease.__enter__()
    found = events(made.folder.root, lambda _: lease.__exit__(None, None, None))
    assert found[-1].kind == "ended"


def test_rules_are_chosen_by_code_and_exit_codes_say_what_happened(made: Any, planted: Any) -> None:
    root = str(made.folder.root)
    assert CliRunner().invoke(app, ["watch", root]).exit_code == 0
    made.score("tf_xxl", {name: planted(mlm=30.0) for name in DATASETS}, step=100)
    assert CliRunner().invoke(app, ["watch", root]).exit_code == 1
    assert CliRunner().invoke(app, ["watch", root, "--on", "L402"]).exit_code == 0
    assert CliRunner().invoke(app, ["watch", root, "--on", "worse-than-its-best"]).exit_code == 1
    assert "no rule is called" in str(CliRunner().invoke(app, ["watch", root, "--on", "L999"]).exception)


def test_what_is_no_study_is_said(tmp_path: Path) -> None:
    with pytest.raises(StudyError):
        events(tmp_path, lambda _: None)

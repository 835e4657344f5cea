"""How runs share a machine: a place that becomes free is taken at once, and a branch waits for its run alone."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lossary import pipeline
from lossary.errors import RunError
from lossary.folder import StudyFolder


class Silent:
    """A listener that hears nothing."""

    def progress(self, text: str, done: float, total: float | None) -> None: ...
    def event(self, run: str, event: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


def each(folder: Path, runs: list[str], job: Callable[[str, Any], None], **settings: Any) -> None:
    """What stages do runs with."""
    pipeline._each_run("train", runs, job, folder=StudyFolder(folder), listener=Silent(), **settings)


def test_the_third_of_three_runs_takes_the_place_that_becomes_free(tmp_path: Path) -> None:
    third = threading.Event()
    order: list[str] = []

    def job(run: str, tools: Any) -> None:
        del tools
        order.append(run)
        if run == "a":
            # Goes on until the third run has begun: that must not wait for it.
            assert third.wait(20)
        if run == "c":
            third.set()

    each(tmp_path, ["a", "b", "c"], job, jobs=2)
    assert sorted(order[:2]) == ["a", "b"]
    assert order[2] == "c"


def test_a_branch_waits_for_its_run_and_for_no_other(tmp_path: Path) -> None:
    branched = threading.Event()
    order: list[str] = []

    def job(run: str, tools: Any) -> None:
        del tools
        order.append(run)
        if run == "slow":
            assert branched.wait(20)
        if run == "branch":
            branched.set()

    each(tmp_path, ["branch", "slow", "base"], job, jobs=2, after={"branch": "base"})
    assert order.index("base") < order.index("branch")


def test_a_run_that_fails_stops_no_other(tmp_path: Path) -> None:
    order: list[str] = []

    def job(run: str, tools: Any) -> None:
        del tools
        order.append(run)
        if run in ("a", "b"):
            raise RunError(f"{run} broke")

    with pytest.raises(RunError, match="2 runs failed to train") as error:
        each(tmp_path, ["a", "b", "c", "d"], job, jobs=1, after={"d": "a"})
    assert sorted(order) == ["a", "b", "c", "d"]
    assert "a broke" in str(error.value)

"""Equal within a margin: three answers, never two at once, and what each takes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import lossary
from lossary.cli.main import app
from lossary.errors import UsageError
from lossary.statistics.equivalence import examples_to_decide, margin_tests
from lossary.statistics.estimates import Estimate
from lossary.tables.equality import parse_margins

DATASETS = ("reform", "views", "dialogue")


@pytest.fixture
def study(synthetic: Callable[..., Any], planted: Any) -> Path:
    """Two runs that are the same, and a third that is worse on one dataset."""
    made = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow", "odd": "torch"}, name="equality")
    for run in ("torch_xxl", "tf_xxl"):
        made.score(run, {name: planted() for name in DATASETS})
    made.score("odd", {name: planted(mlm=9.0) if name == "views" else planted() for name in DATASETS})
    path: Path = made.folder.root
    return path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@given(
    value=st.floats(-1, 1),
    deviation=st.floats(1e-6, 1),
    margin=st.floats(1e-4, 1),
    degrees=st.integers(1, 10_000),
)
def test_no_difference_is_equal_and_differs_at_once(
    value: float, deviation: float, margin: float, degrees: int
) -> None:
    found = margin_tests(Estimate(value=value, variance=deviation**2, degrees=degrees, n=degrees + 1), margin)
    assert found is not None
    assert 0 <= found.equal <= 1
    assert 0 <= found.differs <= 1
    assert max(found.equal, found.differs) >= 0.5


@given(value=st.floats(0, 0.5), margin=st.floats(0.01, 1), scale=st.floats(1.5, 10))
def test_a_wider_margin_is_never_harder_to_show(value: float, margin: float, scale: float) -> None:
    estimate = Estimate(value=value, variance=0.01, degrees=100, n=101)
    narrow, wide = margin_tests(estimate, margin), margin_tests(estimate, margin * scale)
    assert narrow is not None
    assert wide is not None
    assert wide.equal <= narrow.equal + 1e-12
    assert wide.differs >= narrow.differs - 1e-12


def test_a_difference_without_spread_is_judged_by_its_size() -> None:
    inside = margin_tests(Estimate(value=0.0, variance=0.0, degrees=5, n=6), 0.01)
    outside = margin_tests(Estimate(value=0.02, variance=0.0, degrees=5, n=6), 0.01)
    assert inside == (0.0, 1.0)
    assert outside == (1.0, 0.0)
    assert margin_tests(Estimate(value=0.1), 0.01) is None


def test_the_examples_that_it_takes_grow_towards_the_edge() -> None:
    needed = [
        examples_to_decide(Estimate(value=value, variance=1e-4, degrees=99, n=100), 0.01)
        for value in (0.0, 0.005, 0.009)
    ]
    assert needed[0] is not None
    assert needed[1] is not None
    assert needed[2] is not None
    assert needed[0] < needed[1] < needed[2]
    assert examples_to_decide(Estimate(value=0.01, variance=1e-4, degrees=99, n=100), 0.01) is None


def test_as_many_examples_as_are_named_decide_in_about_four_of_five_cases() -> None:
    import numpy as np

    rng, margin, deviation, truth = np.random.default_rng(5), 0.1, 1.0, 0.03
    pilot = Estimate(value=truth, variance=deviation**2 / 100, degrees=99, n=100)
    n = examples_to_decide(pilot, margin)
    assert n is not None
    decided = 0
    for _ in range(400):
        drawn = rng.normal(truth, deviation, n)
        estimate = Estimate(value=drawn.mean(), variance=drawn.var(ddof=1) / n, degrees=n - 1, n=n)
        found = margin_tests(estimate, margin)
        decided += found is not None and found.equal < 0.05
    assert 0.72 < decided / 400 < 0.9


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "", "x", "mlm_loss=", "mlm_loss=0"])
def test_what_is_no_margin_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no margin"):
        parse_margins([text], where="--within")


def test_margins_are_read_as_they_are_written() -> None:
    assert parse_margins(["0.01", "sop_accuracy=0.005"], where="") == {"": 0.01, "sop_accuracy": 0.005}
    with pytest.raises(UsageError, match="two margins"):
        parse_margins(["0.01", "0.02"], where="")


def test_equal_runs_exit_with_0_and_others_with_1(study: Path) -> None:
    same = run("compare", "torch_xxl", "tf_xxl", str(study), "--within", "3")
    assert same.exit_code == 0, same.output
    assert "are equal within the margin in all 8 comparisons" in same.stdout
    differing = run("compare", "torch_xxl", "odd", str(study), "--within", "0.5")
    assert differing.exit_code == 1
    assert "differs by more than 0.5" in differing.stdout
    unknown = run("compare", "torch_xxl", "tf_xxl", str(study), "--within", "0.0001")
    assert unknown.exit_code == 1
    assert "cannot say yet" in unknown.stdout


def test_a_metric_without_a_margin_is_not_decided(study: Path) -> None:
    found = lossary.compare("torch_xxl", "tf_xxl", study, within={"mlm_accuracy": 0.2})
    assert {decision.metric for decision in found.decisions} == {"mlm_accuracy"}
    assert found.to_arrow("decisions").num_rows == len(DATASETS) + 1
    with pytest.raises(lossary.LossaryError, match="no metric is called 'mlm_lost'"):
        lossary.compare("torch_xxl", "tf_xxl", study, within={"mlm_lost": 0.2})


def test_json_junit_and_github_say_the_same(study: Path) -> None:
    asked = ("compare", "torch_xxl", "odd", str(study), "--within", "0.5", "--format")
    decisions = json.loads(run(*asked, "json").stdout)["decisions"]
    suite = ElementTree.fromstring(run(*asked, "junit").stdout.split("\n", 1)[1])
    failing = sum(decision["answer"] in ("differs", "undecided") for decision in decisions)
    assert (int(suite.attrib["tests"]), int(suite.attrib["failures"])) == (len(decisions), failing)
    assert len(suite.findall("testcase/failure")) == failing > 0
    lines = run(*asked, "github").stdout.splitlines()
    assert sum(line.startswith("::error") for line in lines) == sum(d["answer"] == "differs" for d in decisions)


def test_junit_needs_a_margin(study: Path) -> None:
    found = run("compare", "torch_xxl", "tf_xxl", str(study), "--format", "junit")
    assert isinstance(found.exception, UsageError)
    assert "--within" in str(found.exception.hint)


def test_the_study_file_can_ask_for_equality(study: Path) -> None:
    file = study / "study.toml"
    file.write_text(file.read_text() + "\n[check]\nwithin = { mlm_loss = 1.5 }\n")
    found = {finding.severity: finding for finding in lossary.check(study, base="torch_xxl") if finding.code == "L108"}
    assert found["warning"].runs == ["odd", "torch_xxl"]
    assert "views" in found["warning"].gist
    assert found["pass"].subject == "tf_xxl − torch_xxl"
    page = lossary.report(study, base="torch_xxl").page.read_text()
    assert "differs by more than 1.5" in page


def test_without_a_margin_the_rule_does_not_speak(study: Path) -> None:
    found = [finding for finding in lossary.check(study) if finding.code == "L108"]
    assert [finding.severity for finding in found] == ["skipped"]

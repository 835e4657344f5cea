"""Causes that one check cannot tell apart: another one may, else both are told."""

import shlex
import subprocess
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from lossary.diagnosis.engine import Check, Told, examine
from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.model import Diagnosis
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject
from lossary.reports.diagnosis import diagnosis_markdown, diagnosis_text, diagnosis_value, headline


def candidate(name: str, residual: float) -> Candidate:
    return Candidate(names=(name,), says=f"{name} says so", residual=residual)


def check(name: str, *tried: Candidate) -> Check:
    fit = Fit(distance=5.0, tried=tried, how="made up")
    return Check(name=name, stage="examples", about="", needs=(), run=lambda _: Told(fit=fit, measured="differs"))


class Session:
    label, cpu_s = "side", 0.0

    def need(self, *_: str) -> None:
        pass


def diagnosed(*checks: Check) -> Diagnosis:
    subject = Subject(session=cast(Any, Session()), setup=cast(Any, None), documents=[], probes=cast(Any, None))
    return Diagnosis(study="s", sides=("side", "reference"), outcomes=tuple(examine(subject, checks)))


FLIPPED, INDEPENDENT = candidate("labels-flipped", 0.4), candidate("labels-independent-of-order", 0.3)


@pytest.mark.parametrize("order", [1, -1])
def test_a_check_that_sees_more_decides_a_tie_of_another(order: int) -> None:
    sees_more = check("examples", FLIPPED, candidate("labels-independent-of-order", 3.0))
    sees_less = check("validation", INDEPENDENT, FLIPPED)
    found = diagnosed(*[sees_more, sees_less][::order])
    assert [cause.name for cause in found.causes] == ["labels-flipped"]
    assert all(not outcome.ties for outcome in found.outcomes)
    # The experiment that is told is that of the cause that is named.
    told = next(outcome for outcome in found.outcomes if outcome.check == "validation")
    assert told.causes[0].after == 0.4
    assert told.tried[0] is FLIPPED


def test_a_tie_that_nothing_decides_is_told_whole() -> None:
    found = diagnosed(check("validation", INDEPENDENT, FLIPPED))
    assert [(cause.name, cause.ties) for cause in found.causes] == [
        ("labels-independent-of-order", ("labels-flipped",))
    ]
    assert "labels-independent-of-order or labels-flipped" in diagnosis_text(found)


def test_the_command_that_replays_a_check_can_be_pasted_into_a_shell() -> None:
    command = shlex.join(["lossary", "diagnose", "my adapter's.py", "torch"])
    found = replace(diagnosed(check("reported loss", FLIPPED)), command=command)
    (told,) = (line for line in diagnosis_text(found).splitlines() if " --check " in line)
    script = 'lossary() { printf "%s|" "$@"; }; ' + told.split(maxsplit=1)[1]
    shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == "diagnose|my adapter's.py|torch|--check|reported loss|"


def test_another_cause_decides_nothing() -> None:
    found = diagnosed(check("examples", candidate("mask-rate", 0.2)), check("validation", INDEPENDENT, FLIPPED))
    assert [cause.name for cause in found.causes] == ["mask-rate", "labels-independent-of-order"]
    assert np.isfinite(found.cost_s)


def test_of_two_ties_the_stronger_evidence_leads() -> None:
    stronger = Fit(distance=9.0, tried=(FLIPPED, INDEPENDENT), how="made up")
    more = Check(
        name="examples", stage="examples", about="", needs=(), run=lambda _: Told(fit=stronger, measured="differs")
    )
    found = diagnosed(check("validation", INDEPENDENT, FLIPPED), more)
    assert [(cause.name, cause.ties) for cause in found.causes] == [
        ("labels-flipped", ("labels-independent-of-order",))
    ]


def test_what_is_not_compared_is_neither_equal_nor_ruled_out() -> None:
    fit = Fit(distance=0.2, tried=(), how="made up")
    told = Told(fit=fit, measured="equal", skipped={"order of epochs": "one epoch is too short"})
    stream = Check(name="stream", stage="stream", about="", needs=(), run=lambda _: told)

    def lacks(_: Subject) -> Told:
        raise NotCompared("the adapter has no `measure`")

    found = diagnosed(stream, Check(name="loss", stage="loss", about="", needs=(), run=lacks))
    assert headline(found) == (
        "No difference beyond noise in 1 comparison. Not compared: stream (order of epochs), loss."
    )
    text = " ".join(diagnosis_text(found, width=300).split())
    assert "ruled out side: stream (but for order of epochs) " in text
    assert "not compared side: stream (order of epochs): one epoch is too short" in text
    assert "loss" not in text.split("ruled out", 1)[1].split("not compared")[0]
    outcomes = {(one["check"], one["part"]): one["verdict"] for one in diagnosis_value(found)["outcomes"]}
    assert outcomes == {
        ("stream", ""): "ruled out",
        ("stream", "order of epochs"): "not compared",
        ("loss", ""): "not compared",
    }
    assert "| side | stream (order of epochs) | not compared | one epoch is too short |" in diagnosis_markdown(found)


def test_a_cause_does_not_hide_what_was_not_compared() -> None:
    def lacks(_: Subject) -> Told:
        raise NotCompared("the adapter has no `measure`")

    found = diagnosed(check("examples", FLIPPED), Check(name="loss", stage="loss", about="", needs=(), run=lacks))
    assert headline(found) == "side: labels-flipped says so. Not compared: loss."


def test_where_nothing_was_compared_nothing_is_called_equal() -> None:
    def lacks(_: Subject) -> Told:
        raise NotCompared("the adapter has no `measure`")

    found = diagnosed(Check(name="loss", stage="loss", about="", needs=(), run=lacks))
    assert headline(found) == "Nothing was compared by the checks. Not compared: loss."


def feed(name: str, distance: float, facts: tuple[str, ...], *tried: Candidate) -> Check:
    told = Told(fit=Fit(distance=distance, tried=tried, how="made up"), measured="differs", facts=facts)
    return Check(name=name, stage="examples", about="", needs=(), run=lambda _: told)


WRONG, RIGHT = candidate("segment-ids-flipped", 0.6), candidate("segments-by-sentence", 0.4)
REFUSED = candidate("segment-ids-flipped", 7.0)


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_that_a_check_with_more_evidence_refused_is_not_confirmed_by_one_with_less(order: int) -> None:
    more, less = feed("examples", 40.0, ("segments",), REFUSED), feed("validation", 5.0, ("segments", "sop"), WRONG)
    found = diagnosed(*[more, less][::order])
    assert found.causes == ()
    assert {outcome.verdict for outcome in found.outcomes} == {"stage only"}
    assert "segment-ids-flipped (refused by `examples`)" in diagnosis_text(found, width=300)


def test_where_a_name_is_refused_another_that_reproduces_leads() -> None:
    found = diagnosed(
        feed("examples", 40.0, ("segments",), RIGHT, REFUSED), feed("validation", 5.0, ("segments",), WRONG, RIGHT)
    )
    assert [(cause.name, cause.ties) for cause in found.causes] == [("segments-by-sentence", ())]


@pytest.mark.parametrize(
    "other",
    [
        feed("examples", 40.0, ("mask rate",), REFUSED),  # it sees another thing
        feed("examples", 2.0, ("segments",), REFUSED),  # it has less evidence
        feed("examples", 0.5, (), REFUSED),  # these examples are healthy; those that are evaluated are not
        feed(
            "examples", 40.0, ("segments",), REFUSED, Candidate(names=("segment-ids-flipped", "x"), says="", residual=1)
        ),
    ],
)
def test_a_name_stays_where_nothing_speaks_against_it(other: Check) -> None:
    found = diagnosed(other, feed("validation", 5.0, ("segments",), WRONG))
    told = next(outcome for outcome in found.outcomes if outcome.check == "validation")
    assert [cause.name for cause in told.causes] == ["segment-ids-flipped"]

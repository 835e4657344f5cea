"""Runs of which some examples alone were scored, until it was clear how they differ from another one."""

from collections.abc import Mapping

from lossary.findings.model import Finding, Key, Rule, skipped
from lossary.findings.sentences import few
from lossary.findings.subject import Subject
from lossary.tables.model import SequentialAnswer

__all__ = ["RULE"]

_ID = ("L109", "decided-early")
_SAYS = {"equal": "equal", "differs": "differs", "undecided": "not decided"}


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    answers = subject.table.sequential
    if not answers:
        return [skipped(_ID, "evaluations", "no run was evaluated until decided")]
    runs = dict.fromkeys(answer.run for answer in answers)
    return [_finding(subject, [answer for answer in answers if answer.run == run]) for run in runs]


def _finding(subject: Subject, answers: list[SequentialAnswer]) -> Finding:
    first, total = answers[0], answers[-1]
    parts = [answer for answer in answers if answer.dataset is not None]
    asked = "" if first.margin is None else f" by more than {first.margin:g}"
    apart = [answer for answer in parts if answer.answer == "differs"]
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="info" if first.margin is None or not apart else "warning",
        subject=f"{first.run}@{first.step:,} · against {first.base}@{first.base_step:,}",
        measured=few(f"{_place(answer)} {_number(answer)} {_SAYS[answer.answer]}" for answer in parts),
        gist=f"{first.run}: {len(apart)} of {len(parts)} datasets differ from {first.base}{asked}, after "
        f"{total.examples:,} of {total.available:,} examples",
        expected="whole scores, where the numbers of a cell are wanted",
        test=f"{first.rule}; all intervals at once at {1 - first.level:.0%}, wherever each dataset stopped, of the "
        "texts that frozen examples were drawn from",
        means="these differences are known, and the run's cells are not: they are of all examples or of none",
        next_step=subject.command("evaluate", more=f"--run {first.run}"),
        n=total.examples,
        runs=[first.run, first.base],
        datasets=[str(answer.dataset) for answer in parts],
        evidence=[
            {
                "dataset": answer.dataset,
                "value": answer.value,
                "low": answer.low,
                "high": answer.high,
                "examples": answer.examples,
                "available": answer.available,
                "answer": answer.answer,
            }
            for answer in answers
        ],
    )


def _place(answer: SequentialAnswer) -> str:
    return answer.dataset or "in total"


def _number(answer: SequentialAnswer) -> str:
    return "—" if answer.value is None else f"{answer.value:+.4f}"


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="What `lossary evaluate --until decided` found of a run on some of the examples: it is in no cell.",
    conclude=_conclude,
)

"""Runs that the study file wants to be equal to the base within a margin, and are not, or are not shown to be."""

from collections.abc import Mapping, Sequence

from lossary.findings.bearing import LEAST
from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.sentences import few, metric_name
from lossary.findings.subject import Subject
from lossary.tables.equality import Decision, decide

__all__ = ["RULE"]

_ID = ("L108", "not-equal-within-margin")


def _place(found: Decision) -> str:
    return f"{metric_name(found.metric)} of {'the total' if found.dataset is None else found.dataset}"


def _conclude(subject: Subject, _: Mapping[Key, float]) -> list[Finding]:
    if not subject.margins:
        return [skipped(_ID, "equality", "the study file names no margin: [check] within = …")]
    decisions = [
        found
        for found in decide(subject.table, subject.margins)
        if found.answer is not None and found.n >= LEAST[_ID[0]].n
    ]
    if not decisions:
        return [skipped(_ID, "equality", f"no two runs have {LEAST[_ID[0]].n} common examples of a dataset")]
    by_run: dict[str, list[Decision]] = {}
    for found in decisions:
        by_run.setdefault(found.run, []).append(found)
    return [finding for run, of_run in by_run.items() for finding in _of_run(subject, run, of_run)]


def _of_run(subject: Subject, run: str, decisions: Sequence[Decision]) -> list[Finding]:
    base = decisions[0].base
    differing = [found for found in decisions if found.answer == "differs"]
    unknown = [found for found in decisions if found.answer == "undecided"]
    if differing:
        worst = max(differing, key=lambda found: abs(found.value or 0.0) / found.margin)
        gist = (
            f"{run} is not equal to {base}: its {_place(worst)} is {worst.value or 0.0:+.4f} off, "
            f"shown to be more than {worst.margin:g}"
        )
        return [_finding(subject, (run, base), differing, ("warning", gist))]
    if unknown:
        first = unknown[0]
        gist = (
            f"{run} is not shown to be equal to {base} within {first.margin:g}: "
            f"the examples do not decide {len(unknown)} of {len(decisions)} comparisons"
        )
        return [_finding(subject, (run, base), unknown, ("info", gist))]
    shown = f"equal in all {len(decisions)} comparisons"
    return [passed(_ID, f"{run} − {base}", shown, "within the margins of [check]")]


def _finding(subject: Subject, runs: tuple[str, str], decisions: Sequence[Decision], says: tuple[str, str]) -> Finding:
    run, base = runs
    severity, gist = says
    needed = [found.examples_needed for found in decisions if found.examples_needed is not None]
    p = [found.differs_p for found in decisions if severity == "warning" and found.differs_p is not None]
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning" if severity == "warning" else "info",
        subject=f"{run} − {base}",
        measured=few(
            f"{_place(found)} {found.value or 0.0:+.4f} [{found.low or 0.0:+.4f}, {found.high or 0.0:+.4f}]"
            for found in decisions
        ),
        gist=gist,
        expected="within " + few(f"{margin:g} ({name or 'losses'})" for name, margin in subject.margins.items()),
        test="two one-sided tests of equality and a test of a least effect, paired by example; Holm over all decisions",
        means="what makes the runs differ is larger than the margin that was named"
        if severity == "warning"
        else f"about {max(needed):,} examples of a dataset would decide"
        if needed
        else "too few examples to decide",
        next_step=subject.command("compare", base, run),
        p=min(p, default=None),
        runs=[run, base],
        datasets=[found.dataset for found in decisions if found.dataset is not None],
        evidence=[
            {"dataset": found.dataset, "metric": found.metric, "difference": found.value, "answer": found.answer}
            for found in decisions
        ],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="Runs that `[check] within` wants to be equal to the base: warns where a paired difference is shown to be "
    "larger than the margin (Holm over all decisions), informs where the examples do not decide.",
    conclude=_conclude,
)

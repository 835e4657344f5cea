"""Runs the checks on each side, cheapest first, and then the experiments that need both.

    with Session(...) as side:
        outcomes = examine(subject, CHECKS)

What one check cannot show stops no other. A check that fails with an error of lossary's own data is an error; one whose
side raises or lacks a method is `not compared`.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.model import Cause, Outcome, Stage
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject

__all__ = ["Check", "Told", "concluded", "examine", "not_compared"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of a side with the reference."""

    name: str
    stage: Stage
    about: str  # what is compared, one sentence for the reference page
    needs: tuple[str, ...]  # methods of the adapter
    run: Callable[[Subject], "Told | list[Told]"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a check tells the engine: the fit, and words for it."""

    fit: Fit
    measured: str
    datasets: tuple[str, ...] = ()
    remains: str = ""
    facts: tuple[str, ...] = ()  # of a feed: which of them deviate
    skipped: Mapping[str, str] = field(default_factory=dict)  # parts that were not compared, and why


Progress = Callable[[str], None]


def examine(subject: Subject, checks: Sequence[Check], *, progress: Progress = lambda _: None) -> list[Outcome]:
    """The outcomes of all checks for one side."""
    outcomes: list[Outcome] = []
    for check in checks:
        progress(f"{subject.label}: {check.name}")
        started, before = time.process_time(), subject.session.cpu_s
        found = _run(check, subject)
        cost = time.process_time() - started + subject.session.cpu_s - before
        outcomes += [replace(outcome, cost_s=cost / len(found)) for outcome in found]
        if any(outcome.verdict in ("confirmed", "stage only") for outcome in found):
            subject.known.setdefault("deviating", []).append(check.name)
        elif all(outcome.verdict == "ruled out" for outcome in found if not outcome.part):
            subject.known.setdefault("ruled out", []).append(check.name)
    return _told_apart(_never_refused(outcomes))


def _never_refused(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """No cause is confirmed that a check with more evidence of the same facts has refused: few examples fit much."""
    return [
        outcome if outcome.verdict != "confirmed" else _without(_refused(outcome, outcomes), outcome)
        for outcome in outcomes
    ]


def _refused(outcome: Outcome, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Names that were put into the reference and left the same facts unexplained, and the check that did so."""
    found: dict[str, str] = {}
    for other in outcomes:
        if other.check == outcome.check or other.distance < outcome.distance:
            continue
        if set(other.facts) & set(outcome.facts):
            fits = {name for candidate in other.tried if candidate.reproduces for name in candidate.names}
            single = (candidate.names for candidate in other.tried if len(candidate.names) == 1)
            found |= {name: other.check for (name,) in single if name not in fits}
    return found


def _without(refused: Mapping[str, str], outcome: Outcome) -> Outcome:
    """The outcome without causes that are refused: another that reproduces leads, or none."""
    allowed = [c for c in outcome.tried if not (c.reproduces and set(c.names) & refused.keys())]
    if len(allowed) == len(outcome.tried):
        return outcome
    left = next((c for c in allowed if c.reproduces), None)
    if left is None:
        names = ", ".join(f"{name} (refused by `{refused[name]}`)" for name in sorted(_names(outcome) & refused.keys()))
        remains = f"{names} would reproduce these few examples; more of the same kind contradict it"
        return replace(outcome, verdict="stage only", causes=(), ties=(), tried=tuple(allowed), remains=remains)
    fewest = [c for c in allowed if c.reproduces and len(c.names) == len(left.names)]
    ties = tuple(dict.fromkeys(name for c in fewest for name in c.names if name not in left.names))
    causes = _causes(left, outcome, before=outcome.distance, datasets=outcome.causes[0].datasets, ties=ties)
    return replace(outcome, causes=causes, ties=ties, tried=tuple(allowed))


def _told_apart(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Where one check cannot tell causes apart, another one may that sees more of them."""
    told, known = list(outcomes), set[str]()
    for number in sorted(range(len(told)), key=lambda n: (bool(told[n].ties), -_evidence(told[n]))):
        told[number] = _told_apart_by(known, told[number])
        known |= {cause.name for cause in told[number].causes}
    sure = {cause.name for outcome in told if not outcome.ties for cause in outcome.causes}
    return [_without_ties(outcome) if _names(outcome) and _names(outcome) <= sure else outcome for outcome in told]


def _evidence(outcome: Outcome) -> float:
    return max((cause.before for cause in outcome.causes), default=0.0)


def _names(outcome: Outcome) -> set[str]:
    return {cause.name for cause in outcome.causes}


def _without_ties(outcome: Outcome) -> Outcome:
    return replace(outcome, ties=(), causes=tuple(replace(cause, ties=()) for cause in outcome.causes))


def _told_apart_by(known: set[str], outcome: Outcome) -> Outcome:
    """The outcome with a cause that is known already, if its evidence allows that as well."""
    if not set(outcome.ties) & known or _names(outcome) <= known:
        return outcome
    other = next((c for c in outcome.tried if c.reproduces and set(c.names) <= known), None)
    if other is None:
        return outcome
    first = outcome.causes[0]
    ties = tuple(name for name in dict.fromkeys((*_names(outcome), *outcome.ties)) if name not in other.names)
    causes = _causes(other, outcome, before=first.before, datasets=first.datasets, ties=ties)
    return replace(outcome, causes=causes, ties=ties, tried=(other, *(c for c in outcome.tried if c is not other)))


def _run(check: Check, subject: Subject) -> list[Outcome]:
    try:
        subject.session.need(*check.needs)
        told = check.run(subject)
    except NotCompared as reason:
        return [not_compared(check.name, check.stage, subject.label, str(reason))]
    return concluded(check.name, check.stage, subject.label, told)


def not_compared(check: str, stage: Stage, side: str, needs: str, *, part: str = "") -> Outcome:
    """The outcome of a check, or of a part of one, that cannot look without what it `needs`."""
    return Outcome(
        check=check, part=part, stage=stage, side=side, verdict="not compared", measured="not compared", needs=needs
    )


def concluded(check: str, stage: Stage, side: str, told: Told | list[Told]) -> list[Outcome]:
    """All outcomes of a check: those of what it compared, and of each part that it could not."""
    each = told if isinstance(told, list) else [told]
    found = [_conclude(check, stage, side, one) for one in each]
    skipped = {part: why for one in each for part, why in one.skipped.items()}
    return found + [not_compared(check, stage, side, why, part=part) for part, why in skipped.items()]


def _conclude(check: str, stage: Stage, side: str, told: Told) -> Outcome:
    """The outcome of a check from what it fitted."""
    fit = told.fit
    common = {
        "check": check,
        "stage": stage,
        "side": side,
        "measured": told.measured,
        "how": fit.how,
        "tried": fit.tried,
        "facts": told.facts,
        "distance": fit.distance,
    }
    if fit.equal:
        return Outcome(verdict="ruled out", **common)  # type: ignore[arg-type]
    if not fit.confirmed or fit.best is None:
        return Outcome(verdict="stage only", remains=told.remains, **common)  # type: ignore[arg-type]
    outcome = Outcome(verdict="confirmed", remains=told.remains, **common)  # type: ignore[arg-type]
    ties = tuple(
        dict.fromkeys(name for candidate in fit.ties for name in candidate.names if name not in fit.best.names)
    )
    causes = _causes(fit.best, outcome, before=fit.distance, datasets=told.datasets, ties=ties)
    return replace(outcome, causes=causes, ties=ties)


def _causes(
    best: Candidate, outcome: Outcome, *, before: float, datasets: tuple[str, ...], ties: tuple[str, ...] = ()
) -> tuple[Cause, ...]:
    # A sentence for each name, where the fitter gives them one by one.
    sentences = best.values.get("sentences", {})
    return tuple(
        Cause(
            name=name,
            says=sentences.get(name, best.says),
            stage=outcome.stage,
            side=outcome.side,
            values={key: value for key, value in best.values.items() if key != "sentences"},
            datasets=datasets,
            ties=ties,
            before=before,
            after=best.residual,
        )
        for name in best.names
    )


def chosen(checks: Sequence[Check], names: Iterable[str]) -> list[Check]:
    """The checks with these names, and those that come before them: they identify what later ones build on."""
    wanted = set(names)
    last = max((number for number, check in enumerate(checks) if check.name in wanted), default=-1)
    return list(checks[: last + 1])

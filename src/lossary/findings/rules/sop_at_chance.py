"""SOP loss that is not shown to be below chance, though the examples would suffice to show it."""

from collections.abc import Mapping

from lossary.findings.bearing import LEAST, bears, mean_above
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.sentences import few, share_of
from lossary.findings.subject import Subject
from lossary.statistics.paired import one_sided_p
from lossary.tables.model import Cell

__all__ = ["RULE"]

_ID = ("L102", "sop-at-chance")
_PRINTED_MARGIN = 0.01
# Wider intervals say nothing about learning; `interval-too-wide` speaks of them. Nearer below chance is not learned.
_NARROW = 0.1


def _judged(subject: Subject) -> dict[str, list[Cell]]:
    """By run: cells with a chance to compare with; labels that are all the same leave none."""
    found: dict[str, list[Cell]] = {}
    for cell in subject.cells("sop_loss"):
        if subject.floor(cell) and (subject.table.is_imported or bears(_ID[0], cell)):
            found.setdefault(cell.run, []).append(cell)
    return found


def _is_at_chance(subject: Subject, cell: Cell) -> bool:
    floor = subject.floor(cell) or 0.0
    if subject.table.is_imported:
        return abs((cell.value or 0.0) - floor) <= _PRINTED_MARGIN
    if cell.low is None or cell.high is None:
        return False
    return cell.high >= floor and cell.high - cell.low < 2 * _NARROW


def _tests(subject: Subject) -> list[Test]:
    """One a run: that its losses lie, on average over datasets, a margin or more below chance."""
    if subject.table.is_imported:
        return []
    found = []
    for run, cells in _judged(subject).items():
        p = one_sided_p(mean_above([(cell, subject.floor(cell) or 0.0) for cell in cells]), -_NARROW)
        if p is not None:
            found.append(Test(key=(run,), p=p))
    return found


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    if not subject.cells("sop_loss"):
        return [skipped(_ID, "SOP loss", "no run has an SOP loss")]
    judged = _judged(subject)
    if not judged:
        least = LEAST[_ID[0]].n
        return [skipped(_ID, "SOP loss", f"no cell has labels of both kinds and {least} pairs or more")]
    findings = []
    for run, of_run in judged.items():
        stuck = [cell for cell in of_run if _is_at_chance(subject, cell)]
        if stuck:
            findings.append(_finding(subject, run, of_run, stuck, adjusted))
        else:
            shown = f"none of {len(of_run)} datasets at chance"
            findings.append(passed(_ID, run, shown, "interval below the label entropy, or too wide to tell"))
    return findings


def _finding(
    subject: Subject, run: str, of_run: list[Cell], stuck: list[Cell], adjusted: Mapping[Key, float]
) -> Finding:
    everywhere = len(stuck) == len(of_run)
    shown = everywhere and (subject.table.is_imported or adjusted.get((run,), 1.0) < LEVEL)
    test = f"the 95 % interval is not below chance and narrower than ±{_NARROW}"
    if subject.table.is_imported:
        test = f"as printed, within {_PRINTED_MARGIN} of chance; no n, so no test"
    elif shown:
        test += f"; on average less than {_NARROW} below chance: one-sided t, Holm over all tests of the check"
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning" if shown else "info",
        subject=f"{run} · {len(stuck)} of {len(of_run)} datasets",
        measured=few(f"{cell.dataset} {cell.value:.3f}" for cell in stuck),
        gist=f"{run}: SOP loss is no better than chance on {share_of(len(stuck), len(of_run))}: "
        + few((f"{cell.dataset} {cell.value:.3f}" for cell in stuck), 3),
        expected="below the label entropy: "
        + few(dict.fromkeys(f"{subject.floor(cell) or 0.0:.3f}" for cell in stuck), 3),
        test=test,
        means="the order of segments was not learned there",
        ranked=(
            "trained too briefly, or with too high a learning rate for its width"
            if everywhere
            else "documents without sentences in order: lists, single lines, shuffled text",
            "segment ids or labels do not reach the head",
        ),
        next_step=f"{subject.command('report')}: SOP curves by dataset",
        n=sum(cell.n for cell in stuck) or None,
        p=adjusted.get((run,)) if shown else None,
        runs=[run],
        datasets=[cell.dataset for cell in stuck],
        evidence=[{"dataset": c.dataset, "value": c.value, "low": c.low, "high": c.high} for c in stuck],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"SOP loss whose 95 % interval is not below the label entropy though it is narrower than ±{_NARROW} nats; a "
    f"warning if that is so on all datasets of a run and their mean is shown to be less than {_NARROW} below.",
    tests=_tests,
    conclude=_conclude,
)

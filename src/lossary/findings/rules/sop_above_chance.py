"""SOP loss above that of a coin: whoever answers one half for either order does better."""

from collections.abc import Mapping
from itertools import groupby
from math import log

from lossary.findings.bearing import LEAST, bears, loss_of
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.sentences import few, share_of
from lossary.findings.subject import Subject
from lossary.statistics.paired import one_sided_p
from lossary.tables.model import Cell

__all__ = ["RULE"]

_ID = ("L101", "sop-above-chance")
# Not the entropy of the labels: that of a few labels may be 0, which no honest model reaches. No model that is right
# everywhere can lie above ln 2.
_COIN = log(2)
# Imported numbers have no n and no test: a printed value this far above is called above.
_PRINTED_MARGIN = 0.02


def _judged(subject: Subject) -> list[Cell]:
    """The cells that the rule can speak of."""
    cells = subject.cells("sop_loss")
    return cells if subject.table.is_imported else [cell for cell in cells if bears(_ID[0], cell)]


def _tests(subject: Subject) -> list[Test]:
    if subject.table.is_imported:
        return []
    tested = [(cell, one_sided_p(loss_of(cell), _COIN)) for cell in _judged(subject)]
    return [Test(key=(cell.run, cell.dataset), p=p) for cell, p in tested if p is not None]


def _is_above(subject: Subject, cell: Cell, adjusted: Mapping[Key, float]) -> bool:
    if subject.table.is_imported:
        return (cell.value or 0.0) > _COIN + _PRINTED_MARGIN
    return adjusted.get((cell.run, cell.dataset), 1.0) < LEVEL


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    if not subject.cells("sop_loss"):
        return [skipped(_ID, "SOP loss", "no run has an SOP loss")]
    cells = _judged(subject)
    if not cells:
        return [skipped(_ID, "SOP loss", f"no cell has {LEAST[_ID[0]].n} pairs or more: too few for a test")]
    findings = []
    for run, of_run in ((run, list(group)) for run, group in groupby(cells, key=lambda cell: cell.run)):
        above = [cell for cell in of_run if _is_above(subject, cell, adjusted)]
        if above:
            findings.append(_finding(subject, run, of_run, above, adjusted))
            continue
        worst = max(of_run, key=lambda cell: cell.value or 0.0)
        findings.append(
            passed(_ID, run, f"highest: {worst.dataset} {worst.value:.3f}", f"not shown to be above {_COIN:.3f}, ln 2")
        )
    return findings


def _finding(
    subject: Subject, run: str, of_run: list[Cell], above: list[Cell], adjusted: Mapping[Key, float]
) -> Finding:
    rest = [cell for cell in of_run if cell not in above]
    measured = few(f"{cell.dataset} {cell.value:.3f}" for cell in above)
    if rest:
        measured += " | not above: " + few(f"{cell.dataset} {cell.value:.3f}" for cell in rest)
    p_values = [adjusted[cell.run, cell.dataset] for cell in above if (cell.run, cell.dataset) in adjusted]
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"{run} · {len(above)} of {len(of_run)} datasets",
        measured=measured,
        gist=f"{run}: SOP loss is higher than a coin's {_COIN:.3f} on {share_of(len(above), len(of_run))}: "
        + few((f"{cell.dataset} {cell.value:.3f}" for cell in above), 3),
        expected=f"≤ {_COIN:.3f}, ln 2: the loss of answering one half for either order",
        test="one-sided t, Holm over all tests of the check"
        if p_values
        else f"as printed, more than {_PRINTED_MARGIN} above; no n, so no test",
        means="wrong answers are given with confidence: a model that knows nothing and says so would lose less",
        ranked=(
            (
                "pairs or labels of these datasets differ between training and validation: other datasets are well"
                if rest
                else "the head was not loaded, or its labels are swapped: all datasets suffer"
            ),
            "the run learned training pairs by heart: compare its training loss with this one",
            "the run diverged late: look at its SOP curve by dataset",
        ),
        next_step=subject.command("compare", subject.peer(run, "sop_loss"), run),
        n=sum(cell.n for cell in above) or None,
        p=max(p_values) if p_values else None,
        runs=[run],
        datasets=[cell.dataset for cell in above],
        evidence=[{"dataset": c.dataset, "value": c.value, "low": c.low, "high": c.high, "n": c.n} for c in of_run],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="SOP loss above ln 2, that of answering one half for either order; one-sided t test. "
    f"Imported numbers have no n: more than {_PRINTED_MARGIN} above counts.",
    tests=_tests,
    conclude=_conclude,
)

"""SOP loss above the label entropy: whoever answers with the labels' frequencies does better."""

from collections.abc import Mapping
from itertools import groupby

from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.subject import Subject
from lossary.statistics.paired import one_sided_p
from lossary.tables.model import Cell

__all__ = ["RULE"]

_ID = ("L101", "sop-above-chance")
# Without a number of examples nothing can be tested: a printed value this far above is called above.
_PRINTED_MARGIN = 0.02


def _tests(subject: Subject) -> list[Test]:
    found = []
    for cell in subject.cells("sop_loss"):
        p = one_sided_p(subject.estimate(cell.run, cell.dataset, "sop_loss"), subject.floor(cell) or 0.0)
        if p is not None:
            found.append(Test(key=(cell.run, cell.dataset), p=p))
    return found


def _is_above(subject: Subject, cell: Cell, adjusted: Mapping[Key, float]) -> bool:
    if (cell.run, cell.dataset) in adjusted:
        return adjusted[cell.run, cell.dataset] < LEVEL
    return cell.value is not None and cell.value > (subject.floor(cell) or 0.0) + _PRINTED_MARGIN


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    cells = subject.cells("sop_loss")
    if not cells:
        return [skipped(_ID, "SOP loss", "no run has an SOP loss")]
    findings = []
    for run, of_run in ((run, list(group)) for run, group in groupby(cells, key=lambda cell: cell.run)):
        above = [cell for cell in of_run if _is_above(subject, cell, adjusted)]
        if not above:
            worst = max(of_run, key=lambda cell: (cell.value or 0.0) - (subject.floor(cell) or 0.0))
            shown = f"highest: {worst.dataset} {worst.value:.3f}"
            findings.append(passed(_ID, run, shown, f"≤ {subject.floor(worst) or 0.0:.3f} (label entropy)"))
            continue
        findings.append(_finding(subject, run, of_run, above, adjusted))
    return findings


def _finding(
    subject: Subject, run: str, of_run: list[Cell], above: list[Cell], adjusted: Mapping[Key, float]
) -> Finding:
    rest = [cell for cell in of_run if cell not in above]
    measured = ", ".join(f"{cell.dataset} {cell.value:.3f}" for cell in above)
    if rest:
        measured += " | not affected: " + ", ".join(f"{cell.dataset} {cell.value:.3f}" for cell in rest)
    p_values = [adjusted[cell.run, cell.dataset] for cell in above if (cell.run, cell.dataset) in adjusted]
    test = (
        f"one-sided t, Holm over {len(adjusted)} of this rule and all others"
        if p_values
        else f"as printed, more than {_PRINTED_MARGIN} above; no n, so no test"
    )
    everywhere = not rest
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"{run} · {len(above)} of {len(of_run)} datasets",
        measured=measured,
        expected="≤ " + ", ".join(sorted({f"{subject.floor(cell) or 0.0:.3f}" for cell in above})) + " (label entropy)",
        test=test,
        means="confidently wrong, not merely unlearned: answering with the labels' frequencies would cost less",
        ranked=(
            (
                "the head was not loaded, or its labels are swapped: all datasets suffer"
                if everywhere
                else "pairs or labels of these datasets differ between training and validation: others are well"
            ),
            "the run learned training pairs by heart: compare its training loss with this one",
            "the run diverged late: look at its SOP curve by dataset",
        ),
        next_step=f"lossary compare {subject.peer(run, 'sop_loss')} {run} {subject.where}",
        n=sum(cell.n for cell in above) or None,
        p=max(p_values) if p_values else None,
        runs=[run],
        datasets=[cell.dataset for cell in above],
        evidence=[{"dataset": c.dataset, "value": c.value, "low": c.low, "high": c.high, "n": c.n} for c in of_run],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="SOP loss above the entropy of the validation labels (ln 2 where nobody counted them); one-sided t test. "
    f"Imported numbers have no n: more than {_PRINTED_MARGIN} above counts.",
    tests=_tests,
    conclude=_conclude,
)

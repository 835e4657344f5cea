"""MLM loss that is not below the entropy of the masked pieces' frequencies: nothing but frequencies was learned."""

from collections.abc import Mapping

from lossary.findings.bearing import LEAST, bears, mean_above
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.sentences import few, share_of
from lossary.findings.subject import Subject
from lossary.statistics.paired import one_sided_p
from lossary.tables.model import Cell

__all__ = ["RULE"]

_ID = ("L103", "mlm-not-below-unigram")
# A loss that is lower than the entropy by less than this part of it is still that of frequencies.
_MARGIN = 0.05


def _judged(subject: Subject) -> dict[str, list[Cell]]:
    """By run: cells with an entropy and an interval to compare."""
    found: dict[str, list[Cell]] = {}
    for cell in subject.cells("mlm_loss"):
        if cell.floor and cell.standing is not None and bears(_ID[0], cell):
            found.setdefault(cell.run, []).append(cell)
    return found


def _tests(subject: Subject) -> list[Test]:
    """One a run: that its losses lie, on average over datasets, a margin or more below the entropies."""
    found = []
    for run, cells in _judged(subject).items():
        p = one_sided_p(mean_above([(cell, (1 - _MARGIN) * (cell.floor or 0.0)) for cell in cells]), 0.0)
        if p is not None:
            found.append(Test(key=(run,), p=p))
    return found


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    judged = _judged(subject)
    if not judged:
        why = f"no cell has an interval, {LEAST[_ID[0]].n} examples or more, and a count of its pieces"
        return [skipped(_ID, "MLM loss", why)]
    findings = []
    for run, of_run in judged.items():
        stuck = [cell for cell in of_run if cell.standing != "below"]
        if stuck:
            findings.append(_finding(subject, run, of_run, stuck, adjusted))
        else:
            findings.append(passed(_ID, run, f"below on {share_of(len(of_run), len(of_run))}", "below"))
    return findings


def _finding(
    subject: Subject, run: str, of_run: list[Cell], stuck: list[Cell], adjusted: Mapping[Key, float]
) -> Finding:
    shown = len(stuck) == len(of_run) and adjusted.get((run,), 1.0) < LEVEL
    more = f"; on average less than {100 * _MARGIN:.0f} % below: one-sided t, Holm over all tests of the check"
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning" if shown else "info",
        subject=f"{run} · {len(stuck)} of {len(of_run)} datasets",
        measured=few(f"{cell.dataset} {cell.value:.3f}" for cell in stuck),
        gist=f"{run}: MLM loss is no better than the frequencies of pieces on {share_of(len(stuck), len(of_run))}: "
        + few((f"{cell.dataset} {cell.value:.3f}, frequencies {cell.floor:.3f}" for cell in stuck), 2),
        expected=few(f"{cell.dataset} below {cell.floor:.3f}" for cell in stuck) + " (unigram entropy)",
        test="the 95 % interval is not below" + (more if shown else ""),
        means="the plateau before context is used: nothing but the frequencies of pieces was learned",
        ranked=(
            "trained too briefly: the plateau lasts millions of tokens in small models",
            "learning rate too high for the width: the plateau lasts for ever",
            "masked pieces or labels of the dataset are made wrongly",
        ),
        next_step=f"{subject.command('report')}: MLM curves by dataset",
        n=sum(cell.n for cell in stuck),
        p=adjusted.get((run,)) if shown else None,
        runs=[run],
        datasets=[cell.dataset for cell in stuck],
        evidence=[{"dataset": c.dataset, "value": c.value, "floor": c.floor} for c in stuck],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="MLM loss whose 95 % interval is not below the unigram entropy of the masked pieces; a warning if that is so "
    f"on all datasets of a run and their mean is shown to be less than {100 * _MARGIN:.0f} % below.",
    tests=_tests,
    conclude=_conclude,
)

"""Runs that are bad on the same datasets and at par on the same others: look for one cause that they share."""

from collections.abc import Mapping
from itertools import combinations

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.subject import Subject

__all__ = ["RULE", "profile"]

_ID = ("L106", "shared-failure-profile")
_AT_PAR = 0.15
_WORSE = 0.5


def profile(subject: Subject, run: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """Datasets on which a run's MLM loss is at par with the best run's, and those on which it is far worse.

    None unless there are both, and nothing in between.
    """
    par, worse = set(), set()
    for row in subject.table.datasets:
        value = subject.table.cell(run, row.name, "mlm_loss").value
        lowest, count = subject.lowest.get(row.name, (0.0, 0))
        if value is None or count < 2:
            continue
        if value - lowest <= _AT_PAR:
            par.add(row.name)
        elif value - lowest >= _WORSE:
            worse.add(row.name)
        else:
            return None
    return (frozenset(par), frozenset(worse)) if par and worse else None


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    names = [run.name for run in subject.table.runs]
    if len(names) < 3:
        return [skipped(_ID, "profiles", "fewer than three runs")]
    profiles = {name: found for name in names if (found := profile(subject, name)) is not None}
    findings = []
    for first, second in combinations(profiles, 2):
        (par, worse), (other_par, other_worse) = profiles[first], profiles[second]
        common = worse & other_worse
        # A cell that one of them lacks contradicts nothing.
        if par == other_par and common and not (worse & other_par) and not (other_worse & par):
            findings.append(_finding(subject, first, second, par, common))
    return findings or [passed(_ID, f"{len(names)} runs", "no two runs fail on the same datasets only", "no such pair")]


def _finding(subject: Subject, first: str, second: str, par: frozenset[str], common: frozenset[str]) -> Finding:
    best = {name: subject.lowest[name][0] for name in par | common}
    shown = []
    for name in [*sorted(par), *sorted(common)]:
        excess = [(subject.table.cell(run, name, "mlm_loss").value or 0.0) - best[name] for run in (first, second)]
        shown.append(f"{name} {excess[0]:+.2f} / {excess[1]:+.2f}")
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"{first} and {second}",
        measured=", ".join(shown) + " (nats above the best run)",
        expected="failures of different runs to differ",
        test=f"at par within {_AT_PAR} nats on the same datasets, worse by {_WORSE} or more on the same others",
        means=f"both look like runs that learned only {', '.join(sorted(par))}",
        ranked=(
            f"a shared cause in what was fed: {', '.join(sorted(common))} did not reach training as in validation",
            f"both were trained on {', '.join(sorted(par))} alone, or nearly",
            "two causes that look alike",
        ),
        next_step="compare what both runs were fed before anything else: rows, fields, shares, digests of the shards",
        runs=[first, second],
        datasets=sorted(par | common),
        evidence=[{"dataset": name, "best": best[name]} for name in best],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"Two runs at par (within {_AT_PAR} nats of the best) on the same datasets and worse by {_WORSE} nats or "
    "more on the same others.",
    conclude=_conclude,
)

"""Runs that are bad on the same datasets and at par on the same others: look for one cause that they share."""

from collections.abc import Mapping
from itertools import combinations, product
from typing import NamedTuple

from lossary.findings.bearing import LEAST, bears, loss_of
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.sentences import few, metric_name
from lossary.findings.subject import Subject
from lossary.statistics.estimates import Estimate
from lossary.statistics.paired import one_sided_p
from lossary.tables.model import Cell

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
        value = subject.table.cell(run, row.name, subject.main).value
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


class _Shared(NamedTuple):
    """Two runs of one profile: datasets at par, and those on which both are worse."""

    first: str
    second: str
    par: frozenset[str]
    worse: frozenset[str]


def _shared(subject: Subject) -> list[_Shared]:
    names = [run.name for run in subject.table.runs]
    profiles = {name: found for name in names if (found := profile(subject, name)) is not None}
    shared = []
    for first, second in combinations(profiles, 2):
        (par, worse), (other_par, other_worse) = profiles[first], profiles[second]
        common = worse & other_worse
        # A cell that one of them lacks contradicts nothing.
        if par == other_par and common and not (worse & other_par) and not (other_worse & par):
            shared.append(_Shared(first, second, par, common))
    return shared


def _tests(subject: Subject) -> list[Test]:
    """One a pair: both runs, on every dataset of the one kind against every one of the other; the worst counts."""
    if subject.table.is_imported:
        return []
    found = []
    for pair in _shared(subject):
        contrasts = [
            _contrast(subject, run, worse, par)
            for run in (pair.first, pair.second)
            for worse, par in product(pair.worse, pair.par)
        ]
        p_values = [one_sided_p(contrast, 0.0) for contrast in contrasts if contrast is not None]
        if len(p_values) == len(contrasts) and None not in p_values:
            found.append(Test(key=(pair.first, pair.second), p=max(p or 0.0 for p in p_values)))
    return found


def _contrast(subject: Subject, run: str, worse: str, par: str) -> Estimate | None:
    """By how much more a run is above the best one on one dataset than on another; as if runs were independent."""
    cells: list[Cell] = []
    for dataset in (worse, par):
        of_dataset = [cell for cell in subject.cells(subject.main) if cell.dataset == dataset]
        own = next(cell for cell in of_dataset if cell.run == run)
        cells += [own, min(of_dataset, key=lambda cell: cell.value or 0.0)]
    if not bears(_ID[0], *cells):
        return None
    above, best_above, near, best_near = (loss_of(cell) for cell in cells)
    value = (above.value or 0.0) - (best_above.value or 0.0) - (near.value or 0.0) + (best_near.value or 0.0)
    return Estimate(
        value=value,
        n=min(cell.n for cell in cells),
        variance=sum(part.variance or 0.0 for part in (above, best_above, near, best_near)),
        degrees=min(cell.n for cell in cells) - 1,
    )


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    count = len(subject.table.runs)
    if count < 3:
        return [skipped(_ID, "profiles", "fewer than three runs")]
    findings = []
    for pair in _shared(subject):
        key = (pair.first, pair.second)
        if subject.table.is_imported or adjusted.get(key, 1.0) < LEVEL:
            findings.append(_finding(subject, pair, adjusted.get(key)))
        elif key not in adjusted:
            why = f"a cell has fewer than {LEAST[_ID[0]].n} examples, or no interval: no test"
            findings.append(skipped(_ID, " and ".join(key), why))
    return findings or [passed(_ID, f"{count} runs", "no two runs fail on the same datasets only", "no such pair")]


def _finding(subject: Subject, pair: _Shared, p: float | None) -> Finding:
    first, second, par, common = pair
    best = {name: subject.lowest[name][0] for name in par | common}
    shown = []
    for name in [*sorted(par), *sorted(common)]:
        excess = [(subject.table.cell(run, name, subject.main).value or 0.0) - best[name] for run in (first, second)]
        shown.append(f"{name} {excess[0]:+.2f} / {excess[1]:+.2f}")
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"{first} and {second}",
        measured=few(shown) + " (nats above the best run)",
        gist=f"{first} and {second}: {metric_name(subject.main)} of both is as good as "
        f"the best run's on {few(sorted(par), 3)} and at "
        f"least {_WORSE} nats worse on {few(sorted(common), 3)}",
        expected="failures of different runs to differ",
        test=f"at par within {_AT_PAR} nats on the same datasets, worse by {_WORSE} or more on the same others"
        + ("; as printed, no n, so no test" if p is None else "; one-sided t, Holm over all tests of the check"),
        means=f"both look like runs that learned only {few(sorted(par))}",
        ranked=(
            f"a shared cause in what was fed: {few(sorted(common))} did not reach training as in validation",
            f"both were trained on {few(sorted(par))} alone, or nearly",
            "two causes that look alike",
        ),
        next_step="compare what both runs were fed before anything else: rows, fields, shares, digests of the shards",
        p=p,
        runs=[first, second],
        datasets=sorted(par | common),
        evidence=[{"dataset": name, "best": best[name]} for name in best],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"Two runs at par (within {_AT_PAR} nats of the best) on the same datasets and worse by {_WORSE} nats or "
    "more on the same others; one-sided t of the difference between both kinds of datasets.",
    tests=_tests,
    conclude=_conclude,
)

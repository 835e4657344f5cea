"""A smaller model with a lower loss than a larger one of the same kind."""

import re
from collections.abc import Mapping

from lossary.findings.bearing import LEAST, bears
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.sentences import metric_name
from lossary.findings.subject import Subject
from lossary.statistics.estimates import Estimate
from lossary.statistics.paired import differs_p
from lossary.tables.model import RunColumn, Total

__all__ = ["RULE"]

_ID = ("L107", "smaller-better-than-larger")
_SIZES = ("base", "large", "xlarge", "xxlarge")
_SHORT = {"l": "large", "xl": "xlarge", "xxl": "xxlarge"}
_LEAST = 0.02


def _rank(run: RunColumn) -> int | None:
    """Place of a run's size; of an imported run, by its name."""
    text = run.size or run.name
    words = re.split(r"[^a-z]+", text.lower())
    named = [_SHORT.get(word, word) for word in words]
    found = [_SIZES.index(word) for word in named if word in _SIZES]
    return found[0] if len(found) == 1 else None


def _total(subject: Subject, run: str) -> Total | None:
    for weighting in ("reported", "validation_share", "macro"):
        total = subject.table.find_total(run, subject.main, weighting)
        if total is not None and total.value is not None:
            return total
    return None


def _pairs(subject: Subject) -> list[tuple[RunColumn, RunColumn]]:
    """(smaller, larger) of one backend, where both sizes are known."""
    ranked = [(rank, run) for run in subject.table.runs if (rank := _rank(run)) is not None]
    return [
        (small, large)
        for low, small in ranked
        for high, large in ranked
        if low < high and small.backend == large.backend
    ]


def _difference(subject: Subject, small: str, large: str) -> Estimate | None:
    delta = subject.table.delta(large, None, subject.main) if subject.table.base == small else None
    if delta is not None and delta.value is not None:
        return Estimate(value=delta.value, variance=delta.variance, degrees=max(1, delta.n - 1), n=delta.n)
    first, second = _total(subject, small), _total(subject, large)
    if first is None or second is None:
        return None
    variance = None if first.variance is None or second.variance is None else first.variance + second.variance
    return Estimate(
        value=(second.value or 0.0) - (first.value or 0.0), variance=variance, degrees=max(1, first.n), n=first.n
    )


def _bears(subject: Subject, run: str) -> bool:
    cells = [cell for cell in subject.cells(subject.main) if cell.run == run]
    return bool(cells) and bears(_ID[0], *cells)


def _tests(subject: Subject) -> list[Test]:
    if subject.table.is_imported:
        return []
    found = []
    for small, large in _pairs(subject):
        if not (_bears(subject, small.name) and _bears(subject, large.name)):
            continue
        difference = _difference(subject, small.name, large.name)
        p = None if difference is None else differs_p(difference)
        if p is not None:
            found.append(Test(key=(small.name, large.name), p=p))
    return found


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    pairs = _pairs(subject)
    if not pairs:
        return [skipped(_ID, "sizes", "no two sizes of one backend are known")]
    findings = []
    loss = metric_name(subject.main)
    for small, large in pairs:
        difference = _difference(subject, small.name, large.name)
        if difference is None or difference.value is None:
            continue
        subject_text = f"{small.name} and {large.name}"
        key = (small.name, large.name)
        if not subject.table.is_imported and key not in adjusted:
            why = f"a dataset has fewer than {LEAST[_ID[0]].n} examples, or no interval: no test"
            findings.append(skipped(_ID, subject_text, why))
        elif difference.value > _LEAST and (subject.table.is_imported or adjusted[key] < LEVEL):
            findings.append(
                Finding(
                    code=_ID[0],
                    name=_ID[1],
                    severity="warning",
                    subject=subject_text,
                    measured=f"the larger model's {loss} in total is {difference.value:.3f} higher",
                    gist=f"{large.name}: its {loss} in total is {difference.value:.3f} higher than that of the "
                    f"smaller model {small.name}",
                    expected="a larger model at least as good",
                    test="difference of totals, Holm over all tests of the check"
                    if key in adjusted
                    else "as printed; no n, so no test",
                    means="the larger one was not trained as far as it could be, or not rightly",
                    ranked=(
                        "learning rate too high for the larger model: look for a jump in its curve",
                        "fewer steps or tokens",
                        "a wrong head count or unloaded weights: same shapes, worse from the start",
                    ),
                    next_step=subject.command("compare", small.name, large.name),
                    n=difference.n or None,
                    p=adjusted.get(key),
                    runs=[small.name, large.name],
                )
            )
        else:
            findings.append(passed(_ID, subject_text, f"{difference.value:+.3f}", f"≤ {_LEAST}, or not shown"))
    return findings or [skipped(_ID, "sizes", "no totals to compare")]


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="Total MLM loss of a smaller size is more than "
    f"{_LEAST} nats below that of a larger one of the same backend.",
    tests=_tests,
    conclude=_conclude,
)

"""Runs every rule on a subject; Holm's adjustment is over all tests of the check, whichever rule makes them."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lossary.errors import UsageError
from lossary.findings.model import SEVERITIES, Finding, Key, Rule, Severity
from lossary.findings.rules import RULES
from lossary.findings.sentences import few
from lossary.findings.subject import Subject
from lossary.statistics.multiplicity import holm

__all__ = ["Checked", "check"]

# Rules on what a run has learned of a dataset.
_OF_LEARNING = frozenset({"L101", "L102", "L103", "L104", "L105", "L106", "L107", "L404", "L405"})


@dataclass(frozen=True, kw_only=True)
class Checked:
    """All findings, worst first, and how many tests were adjusted together."""

    findings: list[Finding]
    tests: int

    def count(self, severity: Severity) -> int:
        """Findings of a severity that nobody asked to ignore."""
        return sum(found.severity == severity and found.ignored is None for found in self.findings)

    def fails(self, level: Severity) -> bool:
        """Whether there is a finding as bad as `level` that nobody asked to ignore."""
        worse = SEVERITIES[: SEVERITIES.index(level) + 1]
        return any(found.severity in worse and found.ignored is None for found in self.findings)


def check(subject: Subject, *, ignore: Mapping[str, str] | None = None, rules: Sequence[Rule] = RULES) -> Checked:
    """Findings of all rules. `ignore` gives reasons by a rule's code or name.

    Raises UsageError if a rule to be ignored does not exist or the reason is empty.
    """
    reasons = _reasons(ignore or {}, rules)
    tests = [(rule.code, test) for rule in rules for test in rule.tests(subject)]
    adjusted = holm([test.p for _, test in tests])
    by_rule: dict[str, dict[Key, float]] = {rule.code: {} for rule in rules}
    for (code, test), p in zip(tests, adjusted, strict=True):
        by_rule[code][test.key] = p
    found = [finding for rule in rules for finding in rule.conclude(subject, by_rule[rule.code])]
    found = [_with_untrained(finding, subject) for finding in found]
    found = [replace(finding, ignored=reasons.get(finding.code)) for finding in found]
    order = {severity: index for index, severity in enumerate(SEVERITIES)}
    return Checked(findings=sorted(found, key=lambda f: (order[f.severity], f.code)), tests=len(tests))


def _with_untrained(finding: Finding, subject: Subject) -> Finding:
    """A finding on what runs learned, which says first on which datasets they were never trained.

    One that is of nothing else is no warning: such numbers are expected.
    """
    if finding.code not in _OF_LEARNING or finding.severity not in ("error", "warning", "info"):
        return finding
    trained = {run.name: run.datasets for run in subject.table.runs}
    never = {
        run: [name for name in finding.datasets if name not in datasets]
        for run in finding.runs
        if (datasets := trained.get(run)) is not None
    }
    told = [f"{run} was never trained on {few(names, 3)}" for run, names in never.items() if names]
    if not told:
        return finding
    only = all(set(never.get(run, ())) == set(finding.datasets) for run in finding.runs)
    return replace(
        finding,
        severity="info" if only else finding.severity,
        gist=f"{finding.gist}; {'; '.join(told)}",
        ranked=(*told, *finding.ranked),
    )


def _reasons(ignore: Mapping[str, str], rules: Iterable[Rule]) -> dict[str, str]:
    codes = {key: rule.code for rule in rules for key in (rule.code, rule.name)}
    found = {}
    for key, reason in ignore.items():
        if key not in codes:
            near = difflib.get_close_matches(key, codes, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(codes))}."
            raise UsageError(f"no rule is called {key!r}", where="$.check.ignore", hint=hint)
        if not reason.strip():
            raise UsageError(f"{key} is ignored without a reason", where="$.check.ignore", hint="Say why.")
        found[codes[key]] = reason
    return found

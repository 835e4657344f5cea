"""Findings, worst first: what was measured and expected, what it means, what to try."""

from dataclasses import dataclass

from lossary.findings.engine import Checked
from lossary.findings.model import SEVERITIES, Finding, Severity
from lossary.findings.sentences import few
from lossary.reports.findings import summary
from lossary.reports.html.links import Links
from lossary.reports.text import plain

__all__ = ["FindingGroup", "FindingView", "FindingsView", "findings_view"]

# So many stand open: a reader sees what matters without a click, and the page does not begin with a wall.
_OPEN = 2
_NAMED = 4
# Of one rule, or of checks that passed, so many are listed; `lossary check` lists them all.
_MOST_FINDINGS, _MOST_CHECKS = 100, 200


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """One finding; `lines` are label and text, `ranked` its hypotheses, `datasets` names and links."""

    severity: Severity
    code: str
    name: str
    subject: str
    measured: str
    gist: str
    lines: list[tuple[str, str]]
    ranked: list[str]
    next_step: str
    ignored: str | None
    datasets: list[tuple[str, str | None]]
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class FindingGroup:
    """Findings of one rule and severity, as of several runs; one alone is a group, too."""

    severity: Severity
    code: str
    name: str
    subjects: str
    findings: list[FindingView]
    total: int
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class FindingsView:
    """Findings to read, checks that passed, and those that could not be made."""

    summary: str
    groups: list[FindingGroup]
    passed: list[FindingView]
    skipped: list[FindingView]
    num_passed: int
    num_skipped: int


def findings_view(checked: Checked, links: Links) -> FindingsView:
    """All findings of a check."""
    worst = SEVERITIES[:3]
    shown = [found for found in checked.findings if found.severity in worst]
    passed = [found for found in checked.findings if found.severity == "pass"]
    skipped = [found for found in checked.findings if found.severity == "skipped"]
    ordered = sorted(shown, key=lambda found: found.ignored is not None)
    return FindingsView(
        summary=summary(checked),
        groups=_groups(ordered, links),
        passed=[_finding(found, links) for found in passed[:_MOST_CHECKS]],
        skipped=[_finding(found, links) for found in skipped[:_MOST_CHECKS]],
        num_passed=len(passed),
        num_skipped=len(skipped),
    )


def _groups(findings: list[Finding], links: Links) -> list[FindingGroup]:
    """In their order; the first of those to warn of stand open."""
    by_rule: dict[tuple[Severity, str, bool], list[Finding]] = {}
    for found in findings:
        by_rule.setdefault((found.severity, found.code, found.ignored is not None), []).append(found)
    groups: list[FindingGroup] = []
    for (severity, code, ignored), of_rule in by_rule.items():
        is_open = severity in ("error", "warning") and not ignored and len(groups) < _OPEN
        groups.append(
            FindingGroup(
                severity=severity,
                code=code,
                name=of_rule[0].name,
                subjects=_subjects(of_rule),
                findings=[
                    _finding(found, links, is_open=is_open and index == 0)
                    for index, found in enumerate(of_rule[:_MOST_FINDINGS])
                ],
                total=len(of_rule),
                is_open=is_open,
            )
        )
    return groups


def _subjects(findings: list[Finding]) -> str:
    """What several findings are about, in a line."""
    return plain(few((found.subject for found in findings), _NAMED))


def _finding(found: Finding, links: Links, *, is_open: bool = False) -> FindingView:
    p = "" if found.p is None else f"p = {found.p:.2g} after Holm"
    n = "" if found.n is None else f"n = {found.n:,}"
    test = ", ".join(text for text in (found.test, p, n) if text)
    lines = (("measured", found.measured), ("expected", found.expected), ("test", test), ("means", found.means))
    return FindingView(
        severity=found.severity,
        code=found.code,
        name=found.name,
        subject=plain(found.subject),
        measured=plain(found.measured),
        gist=plain(found.gist),
        lines=[(label, plain(text)) for label, text in lines if text],
        ranked=[plain(text) for text in found.ranked],
        next_step=plain(found.next_step),
        ignored=None if found.ignored is None else plain(found.ignored),
        datasets=[(plain(name), links.dataset(name)) for name in found.datasets],
        is_open=is_open,
    )

"""Findings, worst first: what was measured and expected, what it means, what to try."""

from dataclasses import dataclass

from lossary.findings.engine import Checked
from lossary.findings.model import SEVERITIES, Finding, Severity
from lossary.reports.findings import summary
from lossary.reports.html.links import Links
from lossary.reports.text import plain

__all__ = ["FindingView", "FindingsView", "findings_view"]

# So many stand open: a reader sees what matters without a click, and the page does not begin with a wall.
_OPEN = 2


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """One finding; `lines` are label and text, `ranked` its hypotheses, `datasets` names and links."""

    severity: Severity
    code: str
    name: str
    subject: str
    measured: str
    lines: list[tuple[str, str]]
    ranked: list[str]
    next_step: str
    ignored: str | None
    datasets: list[tuple[str, str | None]]
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class FindingsView:
    """Findings to read, checks that passed, and those that could not be made."""

    summary: str
    findings: list[FindingView]
    passed: list[FindingView]
    skipped: list[FindingView]


def findings_view(checked: Checked, links: Links) -> FindingsView:
    """All findings of a check."""
    worst = SEVERITIES[:3]
    shown = [found for found in checked.findings if found.severity in worst]
    ordered = sorted(shown, key=lambda found: found.ignored is not None)
    return FindingsView(
        summary=summary(checked),
        findings=[_finding(found, links, index) for index, found in enumerate(ordered)],
        passed=[_finding(found, links) for found in checked.findings if found.severity == "pass"],
        skipped=[_finding(found, links) for found in checked.findings if found.severity == "skipped"],
    )


def _finding(found: Finding, links: Links, index: int | None = None) -> FindingView:
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
        lines=[(label, plain(text)) for label, text in lines if text],
        ranked=[plain(text) for text in found.ranked],
        next_step=plain(found.next_step),
        ignored=None if found.ignored is None else plain(found.ignored),
        datasets=[(plain(name), links.dataset(name)) for name in found.datasets],
        is_open=index is not None and index < _OPEN and found.ignored is None and found.severity != "info",
    )

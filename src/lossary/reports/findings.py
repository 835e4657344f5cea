"""Findings as text, JSON, SARIF 2.1.0 (code scanning) and GitHub annotations.

Of one rule the first ones stand, and one line for all others, so that hundreds of datasets bury nothing; JSON has all.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from io import StringIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lossary.findings.engine import Checked
from lossary.findings.model import SEVERITIES, Finding, Severity
from lossary.findings.rules import RULES
from lossary.findings.sentences import few
from lossary.reports.markdown import escape_markdown
from lossary.reports.text import plain
from lossary.version import __version__

__all__ = ["FORMATS", "findings_markdown", "findings_text", "github_escape", "summary", "verdict_text"]

_MOST_ALIKE = 10
_STYLES: dict[Severity, str] = {
    "error": "bold red",
    "warning": "bold yellow",
    "info": "cyan",
    "pass": "green",
    "skipped": "dim",
}
_SARIF_LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}
_GITHUB_LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "notice"}


def summary(checked: Checked) -> str:
    """How many findings of each severity, and what was tested."""
    ignored = sum(found.ignored is not None and found.severity in _SARIF_LEVELS for found in checked.findings)
    parts = [f"{checked.count(severity)} {severity}" for severity in SEVERITIES]
    return (
        f"{', '.join(parts)}"
        + (f", {ignored} ignored" if ignored else "")
        + f" · {len(RULES)} rules, {f'Holm over {checked.tests} tests' if checked.tests else 'no test was made'}"
    )


def verdict_text(checked: Checked, severity: Severity = "warning") -> str:
    """One line: the worst finding, or that there is none."""
    for found in checked.findings:
        if found.severity in SEVERITIES[: SEVERITIES.index(severity) + 1] and found.ignored is None:
            return f"{found.severity}: {found.headline}"
    return "nothing to warn of"


def _shown(checked: Checked, everything: bool) -> list[Finding]:
    """The findings to tell; those of one rule and severity beyond the first ones as one."""
    kept = ("error", "warning", "info") if not everything else SEVERITIES
    by_rule: dict[tuple[Severity, str, str | None], list[Finding]] = {}
    for found in checked.findings:
        if found.severity in kept:
            by_rule.setdefault((found.severity, found.code, found.ignored), []).append(found)
    return [found for alike in by_rule.values() for found in _folded(alike)]


def _folded(alike: list[Finding]) -> list[Finding]:
    first, others = alike[:_MOST_ALIKE], alike[_MOST_ALIKE:]
    if len(others) < 2:
        return alike
    subjects = few((found.subject for found in others), 4)
    rest = Finding(
        code=first[0].code,
        name=first[0].name,
        severity=first[0].severity,
        subject=subjects,
        measured="",
        gist=f"{len(others)} more findings of this rule: {subjects}",
        next_step="lossary check --format json",
        ignored=first[0].ignored,
    )
    return [*first, rest]


def findings_text(checked: Checked, *, style: str = "full", width: int = 100, colour: bool = False) -> str:
    """Text for a terminal: every finding in full, or a line each; passed and skipped checks a line each."""
    console = Console(
        file=StringIO(),
        width=width,
        highlight=False,
        force_terminal=colour,
        color_system="standard" if colour else None,
    )
    for found in _shown(checked, everything=True):
        detailed = style == "full" and found.severity in _SARIF_LEVELS and found.ignored is None
        (_print_full if detailed else _print_line)(found, console)
    console.print(summary(checked), style="bold")
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def _print_line(found: Finding, console: Console) -> None:
    style = _STYLES[found.severity]
    text = found.gist or f"{found.subject}: {found.measured}" + (
        f"; expected {found.expected}" if found.expected else ""
    )
    tail = f" [dim](ignored: {escape(plain(found.ignored))})[/]" if found.ignored else ""
    console.print(
        f"[{style}]{found.severity}[/] {escape(f'[{found.name}]')} {found.code} · {escape(plain(text))}{tail}",
        soft_wrap=True,
    )


def _print_full(found: Finding, console: Console) -> None:
    style = _STYLES[found.severity]
    console.print(f"[{style}]{found.severity}[/]{escape(f'[{found.name}]')} {found.code} · {escape(plain(found.gist))}")
    p = "" if found.p is None else f", p = {found.p:.2g}"
    n = "" if found.n is None else f", n = {found.n:,}"
    ranked = "\n".join(f"{index} {text}" for index, text in enumerate(found.ranked, 1))
    lines = {
        "measured": found.measured,
        "expected": found.expected,
        "test": f"{found.test}{p}{n}",
        "means": found.means,
        "ranked": ranked,
        "try": found.next_step,
    }
    grid = Grid(box=None, show_header=False, padding=(0, 1, 0, 0))
    grid.add_column(min_width=10)
    grid.add_column(overflow="fold")
    for name, text in lines.items():
        if text:
            grid.add_row(f"  {name}", "\n".join(escape(plain(line)) for line in text.split("\n")))
    console.print(grid)
    console.print()


def _json(checked: Checked) -> str:
    value = {
        "schema": 1,
        "lossary": __version__,
        "tests": checked.tests,
        "counts": {severity: checked.count(severity) for severity in SEVERITIES},
        "findings": [asdict(found) for found in checked.findings],
    }
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=list) + "\n"


def _sarif(checked: Checked) -> str:
    rules = [{"id": rule.code, "name": rule.name, "shortDescription": {"text": rule.about}} for rule in RULES]
    results = [
        {
            "ruleId": found.code,
            "level": _SARIF_LEVELS[found.severity],
            "message": {"text": _message(found)},
            "locations": [{"logicalLocations": [{"name": found.subject}]}],
            **({"suppressions": [{"kind": "external", "justification": found.ignored}]} if found.ignored else {}),
        }
        for found in _shown(checked, everything=False)
    ]
    driver = {"name": "lossary", "version": __version__, "rules": rules}
    value = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _message(found: Finding) -> str:
    parts = [found.gist, f"expected {found.expected}" if found.expected else "", found.means]
    return "; ".join(part for part in parts if part)


def _github(checked: Checked) -> str:
    lines = []
    for found in _shown(checked, everything=False):
        if found.ignored is None:
            title = github_escape(f"{found.name} {found.code}", property_=True)
            message = github_escape(_message(found))
            lines.append(f"::{_GITHUB_LEVELS[found.severity]} title={title}::{message}\n")
    return "".join(lines) + summary(checked) + "\n"


def github_escape(text: str, *, property_: bool = False) -> str:
    """Text as workflow commands take it: a line break in a name must not start a command of its own."""
    escaped = plain(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return escaped.replace(":", "%3A").replace(",", "%2C") if property_ else escaped


FORMATS: dict[str, Callable[[Checked], str]] = {
    "full": findings_text,
    "concise": lambda checked: findings_text(checked, style="concise"),
    "json": _json,
    "sarif": _sarif,
    "github": _github,
}


def findings_markdown(checked: Checked) -> str:
    """The findings of a report, worst first; what passed is counted."""
    lines = [f"{summary(checked)}."]
    for found in _shown(checked, everything=False):
        ignored = f" (ignored: {escape_markdown(found.ignored)})" if found.ignored else ""
        lines += [
            "",
            f"**{found.severity}** `{found.name}` {found.code} · {escape_markdown(found.gist)}.{ignored}",
            "",
        ]
        rows: Sequence[tuple[str, str]] = (
            ("measured", found.measured),
            ("expected", found.expected),
            ("test", found.test + ("" if found.p is None else f", p = {found.p:.2g}")),
            ("means", found.means),
            ("ranked", "; ".join(f"({i}) {text}" for i, text in enumerate(found.ranked, 1))),
            ("try", found.next_step),
        )
        lines += [f"- {name}: {escape_markdown(text)}" for name, text in rows if text]
    return "\n".join(lines)

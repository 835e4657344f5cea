"""A finding, a test, a rule. One rule stands in each file of `rules/`; the engine runs them all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lossary.findings.subject import Subject

__all__ = ["LEVEL", "SEVERITIES", "Finding", "Key", "Rule", "Severity", "Test", "passed", "skipped"]

LEVEL = 0.05
Severity = Literal["error", "warning", "info", "pass", "skipped"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info", "pass", "skipped")
Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule's claim; `pass` and `skipped` are claims, too."""

    code: str
    name: str
    severity: Severity
    subject: str  # what it is about: a run, a dataset, a total
    measured: str
    gist: str = ""  # one sentence that can be read alone: run, metric, what is wrong; empty where nothing is
    expected: str = ""
    test: str = ""
    means: str = ""
    ranked: Sequence[str] = ()  # hypotheses, likeliest first
    next_step: str = ""
    n: int | None = None
    p: float | None = None  # adjusted
    runs: Sequence[str] = ()
    datasets: Sequence[str] = ()
    evidence: Sequence[Mapping[str, Any]] = ()  # the rows that it rests on
    ignored: str | None = None  # why a user wants it left out

    @property
    def headline(self) -> str:
        """The gist with the rule that says so."""
        return f"{self.gist} ({self.name}, {self.code})"


@dataclass(frozen=True, kw_only=True)
class Test:
    """A p-value of one claim; the engine adjusts those of all rules together."""

    __test__ = False  # not one of pytest's
    key: Key
    p: float


def _no_tests(_: Subject) -> list[Test]:
    return []


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: which tests it makes, and what it concludes from their adjusted p-values."""

    code: str
    name: str
    about: str  # what it looks at and its threshold, one sentence for the reference
    conclude: Callable[[Subject, Mapping[Key, float]], list[Finding]]
    tests: Callable[[Subject], list[Test]] = field(default=_no_tests)


def passed(rule: tuple[str, str], subject: str, measured: str, expected: str) -> Finding:
    """What was looked at and found in order, with value and threshold."""
    code, name = rule
    return Finding(code=code, name=name, severity="pass", subject=subject, measured=measured, expected=expected)


def skipped(rule: tuple[str, str], subject: str, reason: str) -> Finding:
    """What could not be looked at, and why."""
    code, name = rule
    return Finding(code=code, name=name, severity="skipped", subject=subject, measured=reason)

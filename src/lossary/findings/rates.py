"""Rules that hold one count of a dataset against another: what they share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lossary.findings.model import Finding, Key, Rule, Severity, passed, skipped
from lossary.findings.subject import DatasetFacts, Subject

__all__ = ["Rate"]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A count out of another, its threshold, and what it means."""

    code: str
    name: str
    what: str
    gist: str  # what is true of `count` of them, after the dataset's name and both counts
    count: Callable[[DatasetFacts], int | None]
    of: Callable[[DatasetFacts], int | None]
    most: float
    severity: Severity
    means: str
    next_step: str

    def conclude(self, subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
        """A finding, a pass or a reason for each dataset."""
        del adjusted  # Counts of everything there is: no sampling, no test.
        identity = (self.code, self.name)
        if not subject.facts:
            return [skipped(identity, self.what, "nobody counted: the datasets were not prepared here")]
        findings = []
        for dataset, facts in subject.facts.items():
            count, of = self.count(facts), self.of(facts)
            if count is None or not of:
                findings.append(skipped(identity, dataset, f"{self.what}: not counted for this dataset"))
                continue
            shown = f"{count:,} of {of:,} ({100 * count / of:.2f} %)"
            expected = f"≤ {100 * self.most:g} %" if self.most else "none"
            if count / of <= self.most:
                findings.append(passed(identity, dataset, shown, expected))
                continue
            findings.append(
                Finding(
                    code=self.code,
                    name=self.name,
                    severity=self.severity,
                    subject=dataset,
                    measured=f"{self.what}: {shown}",
                    gist=f"{dataset}: {count:,} of {of:,} {self.gist}",
                    expected=expected,
                    test="counted, not sampled",
                    means=self.means,
                    next_step=self.next_step,
                    n=of,
                    datasets=[dataset],
                    evidence=[{"dataset": dataset, "count": count, "of": of}],
                )
            )
        return findings

    def rule(self) -> Rule:
        """As a rule of the engine."""
        bound = f"more than {100 * self.most:g} %" if self.most else "any"
        return Rule(code=self.code, name=self.name, about=f"{self.what}: {bound}.", conclude=self.conclude)

"""Counts of a dataset that make its loss mean something else: overlap, unknown pieces, duplicates, identical pairs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lossary.findings.model import Finding, Key, Rule, Severity, passed, skipped
from lossary.findings.subject import DatasetFacts, Subject

__all__ = ["RULES"]


@dataclass(frozen=True, kw_only=True)
class _Rate:
    """A count out of another, its threshold, and what it means."""

    code: str
    name: str
    what: str
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


RULES = tuple(
    rate.rule()
    for rate in (
        _Rate(
            code="L301",
            name="train-validation-overlap",
            what="training documents whose text is also a validation example's",
            count=lambda facts: facts.overlap,
            of=lambda facts: facts.documents,
            most=0.0,
            severity="error",
            means="validation loss of this dataset is partly training loss",
            next_step="delete its spans and run `lossary prepare`: documents with a validation text leave training",
        ),
        _Rate(
            code="L302",
            name="unknown-pieces",
            what="unknown pieces",
            count=lambda facts: facts.unknown_tokens,
            of=lambda facts: facts.tokens,
            most=0.01,
            severity="warning",
            means="unknown pieces are easy to predict and say nothing: loss is too low, accuracy too high",
            next_step="a larger vocabulary, or a tokenizer trained on this dataset, too",
        ),
        _Rate(
            code="L303",
            name="duplicate-documents",
            what="documents whose text another one has, too",
            count=lambda facts: facts.duplicates,
            of=lambda facts: facts.documents,
            most=0.2,
            severity="warning",
            means="the dataset is smaller than its rows say, and is seen more often than planned",
            next_step="remove duplicates, or read the share as one of texts, not of rows",
        ),
        _Rate(
            code="L304",
            name="identical-pairs",
            what="pairs of two identical fields",
            count=lambda facts: facts.identical_pairs,
            of=lambda facts: facts.pairs,
            most=0.01,
            severity="warning",
            means="their order cannot be told: SOP loss of the dataset cannot fall below share · ln 2",
            next_step="leave pairs of identical fields out of the source",
        ),
    )
)

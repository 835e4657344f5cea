"""Documents that repeat the text of another one."""

from lossary.findings.rates import Rate

__all__ = ["RULE"]

RULE = Rate(
    code="L303",
    name="duplicate-documents",
    what="documents that repeat the text of another one, not counting the first of each",
    gist="documents repeat the text of another document",
    count=lambda facts: facts.duplicates,
    of=lambda facts: facts.documents,
    most=0.2,
    severity="warning",
    means="the dataset is smaller than its rows say, and is seen more often than planned",
    next_step="remove duplicates, or read the share as one of texts, not of rows",
).rule()

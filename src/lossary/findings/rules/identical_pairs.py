"""Pairs of two identical fields, whose order cannot be told."""

from lossary.findings.rates import Rate

__all__ = ["RULE"]

RULE = Rate(
    code="L304",
    name="identical-pairs",
    what="pairs of two identical fields",
    gist="pairs have two identical fields, whose order cannot be told",
    count=lambda facts: facts.identical_pairs,
    of=lambda facts: facts.pairs,
    most=0.01,
    severity="warning",
    means="their order cannot be told: SOP loss of the dataset cannot fall below share · ln 2",
    next_step="leave pairs of identical fields out of the source",
).rule()

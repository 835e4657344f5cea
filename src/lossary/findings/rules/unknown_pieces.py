"""Pieces that the tokenizer does not know: easy to predict, and empty of meaning."""

from lossary.findings.rates import Rate

__all__ = ["RULE"]

RULE = Rate(
    code="L302",
    name="unknown-pieces",
    what="unknown pieces",
    gist="pieces are unknown to the tokenizer",
    count=lambda facts: facts.unknown_tokens,
    of=lambda facts: facts.tokens,
    most=0.01,
    severity="warning",
    means="unknown pieces are easy to predict and say nothing: loss is too low, accuracy too high",
    next_step="a larger vocabulary, or a tokenizer trained on this dataset, too",
).rule()

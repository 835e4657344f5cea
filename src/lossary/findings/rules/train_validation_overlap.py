"""Training documents whose text is also that of a validation example."""

from lossary.findings.rates import Rate

__all__ = ["RULE"]

RULE = Rate(
    code="L301",
    name="train-validation-overlap",
    what="training documents whose text is also a validation example's",
    gist="training documents have a text that is also in the validation set",
    count=lambda facts: facts.overlap,
    of=lambda facts: facts.documents,
    most=0.0,
    severity="error",
    means="validation loss of this dataset is partly training loss",
    next_step="delete its spans and run `lossary prepare`: documents with a validation text leave training",
).rule()

"""Runs that were evaluated on different examples of a dataset: numbers side by side that are of two things."""

from collections.abc import Mapping

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.subject import Subject
from lossary.tables.example_sets import ExampleSet, differing_sets, sets_text

__all__ = ["RULE"]

_ID = ("L207", "different-examples")


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted  # Examples are the same or not: no sampling, no test.
    known = [cell for cell in subject.table.cells if cell.validation_digest and cell.n]
    if not known:
        return [skipped(_ID, "examples", "nothing is known of single examples")]
    found = differing_sets(known)
    if not found:
        return [passed(_ID, "examples", "all runs have the same ones of a dataset", "the same ones")]
    return [_of_dataset(dataset, sets) for dataset, sets in found.items()]


def _of_dataset(dataset: str, sets: list[ExampleSet]) -> Finding:
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"examples of {dataset}",
        measured=sets_text(sets),
        gist=f"{dataset}: runs were evaluated on different examples",
        expected="the same examples for all runs: equal ids, and equal hashes of what was asked",
        test="every example held against those of the other runs",
        means="numbers of this dataset, and totals with it, cannot be compared between these runs",
        ranked=("a file that was cut off, or an evaluation with --limit", "another prompt or version of the task"),
        next_step="evaluate all runs on the same examples and import again; compare names the first that differs",
        runs=[run for found in sets for run in found.runs],
        datasets=[dataset],
        evidence=[{"examples": found.examples, "runs": ", ".join(found.runs)} for found in sets],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="Runs that were evaluated on different examples of a dataset, by ids and hashes of what was asked.",
    conclude=_conclude,
)

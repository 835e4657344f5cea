"""Bytes of targets that are not those of the frozen text: bits a byte are then wrong, however exact nats are."""

from collections.abc import Mapping

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.sentences import few
from lossary.findings.subject import Subject
from lossary.tables.byte_counts import ByteCounts

__all__ = ["RULE"]

_ID = ("L206", "bytes-not-of-the-text")


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted  # Every example is counted: no sampling, no test.
    if not subject.bytes:
        return [skipped(_ID, "bytes", "no scores count bytes of a text that is kept here")]
    by_run: dict[tuple[str, str], list[ByteCounts]] = {}
    for counts in subject.bytes:
        by_run.setdefault((counts.run, counts.objective), []).append(counts)
    return [_of_run(run, objective, found) for (run, objective), found in by_run.items()]


def _of_run(run: str, objective: str, found: list[ByteCounts]) -> Finding:
    wrong = [counts for counts in found if counts.more or counts.fewer]
    examples = sum(counts.examples for counts in found)
    subject = f"{run} · bytes of {objective.upper()} targets"
    if not wrong:
        return passed(_ID, subject, f"those of the text in {examples:,} examples", "those of the text")
    shown = few(
        f"{counts.dataset}: {counts.more + counts.fewer:,} of {counts.examples:,} examples, first {_first(counts)}"
        for counts in wrong
    )
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="error",
        subject=subject,
        measured=shown,
        gist=f"{run}: the bytes of targets are not those of the text, on {few([c.dataset for c in wrong], 3)}",
        expected="bytes of the hidden words, or at most those of the text",
        test="every example held against the frozen text",
        means="bits a byte of this run, and its differences to runs in other vocabularies, are wrong; nats are not",
        ranked=("rows in another order than their bytes", "characters counted, or bytes of normalised text"),
        next_step="write `bytes` by example, as docs/scores.md says, or score the checkpoint with lossary evaluate",
        n=examples,
        runs=[run],
        datasets=[counts.dataset for counts in wrong],
        evidence=[counts._asdict() for counts in wrong],
    )


def _first(counts: ByteCounts) -> str:
    if counts.first is None:
        return "unknown"
    example, counted, expected = counts.first
    return f"{example} with {counted:,} bytes where {expected:,} are"


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="Bytes of targets that are not those of the frozen text, where a study keeps it.",
    conclude=_conclude,
)

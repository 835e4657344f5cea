"""Order labels that are not balanced: chance is below ln 2, and accuracy above a half means less."""

from collections.abc import Mapping

from scipy.special import betainc

from lossary.findings.bearing import LEAST
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.subject import Subject

__all__ = ["RULE"]

_ID = ("L305", "label-prior")
_LEAST = 0.02


def fair_coin_p(heads: int, tosses: int) -> float:
    """The exact two-sided p-value of a fair coin: both tails, which are alike."""
    fewer = min(heads, tosses - heads)
    return min(1.0, 2 * float(betainc(tosses - fewer, fewer + 1, 0.5)))


def _tests(subject: Subject) -> list[Test]:
    return [
        Test(key=(name,), p=fair_coin_p(counts.swapped, counts.pairs))
        for name, counts in subject.labels.items()
        if counts.pairs >= LEAST[_ID[0]].n
    ]


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    if not adjusted:
        few_ones = any(counts.pairs for counts in subject.labels.values())
        why = f"no dataset has {LEAST[_ID[0]].n} pairs or more" if few_ones else "no order labels are on record"
        return [skipped(_ID, "labels", why)]
    findings = []
    for name, counts in subject.labels.items():
        if (name,) not in adjusted:
            continue
        share = counts.swapped / counts.pairs
        shown = f"{100 * share:.1f} % of {counts.pairs:,} pairs are swapped"
        if abs(share - 0.5) <= _LEAST or adjusted[name,] >= LEVEL:
            findings.append(passed(_ID, name, shown, "50 %"))
            continue
        findings.append(
            Finding(
                code=_ID[0],
                name=_ID[1],
                severity="warning",
                subject=name,
                measured=shown,
                gist=f"{name}: {100 * share:.1f} % of its {counts.pairs:,} validation pairs are swapped, not half, so "
                "that an SOP accuracy above a half proves nothing",
                expected="50 %",
                test="binomial, Holm over all tests of the check",
                means="chance is not ln 2 here; read SOP losses against the label entropy",
                ranked=("negatives were added to real pairs", "pairs are swapped by something else than a coin"),
                next_step="look at how the pairs of this dataset are made",
                n=counts.pairs,
                p=adjusted[name,],
                datasets=[name],
                evidence=[{"dataset": name, "pairs": counts.pairs, "swapped": counts.swapped}],
            )
        )
    return findings


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"Order labels of the validation set off a half by more than {100 * _LEAST:g} points; binomial test.",
    tests=_tests,
    conclude=_conclude,
)

"""Hypotheses about one quantity, ranked: the fewest faults that reproduce it, then the closest.

fit_of([Hypothesis(parts=(part,), residual=0.4)], distance=70.0, how="…")
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.laws.scored import Part

__all__ = ["Hypothesis", "fit_of"]

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """Faults put into the reference, each as often as it was put in, and how far a side is from what comes of it."""

    parts: tuple[Part, ...]
    residual: float  # in units of the tolerance
    fitted: int = 0  # free values
    values: dict[str, Any] = field(default_factory=dict)  # beside those of the parts

    @property
    def names(self) -> tuple[str, ...]:
        """Each fault once, in a fixed order."""
        return tuple(sorted({part.name for part in self.parts}))

    def candidate(self) -> Candidate:
        """As it is told."""
        sentences: dict[str, str] = {}
        values: dict[str, Any] = {}
        for part in self.parts:
            before = sentences.get(part.name)
            sentences[part.name] = part.says if before is None else f"{before}; {part.says}"
            values |= dict(part.values)
        if len(sentences) > 1:
            values["sentences"] = sentences
        says = "; ".join(sentences[name] for name in self.names)
        return Candidate(names=self.names, says=says, residual=self.residual, values=values | self.values)


def fit_of(hypotheses: Iterable[Hypothesis], *, distance: float, how: str) -> Fit:
    """A fit: of hypotheses that reproduce, those with the fewest faults, one for each set of names; then the closest of
    the others. A hypothesis that needs more faults than another that reproduces is left out: it contains that one.
    """
    if distance <= 1.0:
        return Fit(distance=distance, tried=(), how=how)
    found = [hypothesis for hypothesis in hypotheses if hypothesis.parts]
    reproducing = [hypothesis for hypothesis in found if hypothesis.residual <= 1.0]
    fewest = min((len(hypothesis.parts) for hypothesis in reproducing), default=0)
    leading = [hypothesis for hypothesis in reproducing if len(hypothesis.parts) == fewest]
    others = [hypothesis for hypothesis in found if hypothesis.residual > 1.0 and len(hypothesis.parts) <= 2]
    leading.sort(key=lambda hypothesis: (hypothesis.fitted, hypothesis.residual))
    others.sort(key=lambda hypothesis: hypothesis.residual)
    chosen: dict[tuple[str, ...], Hypothesis] = {}
    for hypothesis in leading:
        chosen.setdefault(hypothesis.names, hypothesis)
    shown = len(chosen) + _SHOWN
    for hypothesis in others:
        if len(chosen) == shown:
            break
        chosen.setdefault(hypothesis.names, hypothesis)
    return Fit(distance=distance, tried=tuple(h.candidate() for h in chosen.values()), how=how)

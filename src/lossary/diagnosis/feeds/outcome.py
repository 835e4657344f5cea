"""What explaining a feed leads to: a fit with the facts behind it, put together from aspects that are looked at apart.

joined([aspect_of_examples, aspect_of_masks], how="…").best
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lossary.diagnosis.fit import Candidate, Fit

__all__ = ["Aspect", "Deviation", "FeedFit", "joined"]


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """A fact whose rate no healthy feed has."""

    fact: str
    says: str  # a sentence, with the dataset and the count
    excess: float  # in units of the critical value


@dataclass(frozen=True, kw_only=True)
class FeedFit(Fit):
    """A fit with the facts behind it."""

    deviations: tuple[Deviation, ...] = ()  # farthest first
    skipped: Mapping[str, str] = field(default_factory=dict)  # facts that cannot be known, and why


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """Facts that faults of one kind change, and no others do."""

    distance: float
    candidates: tuple[Candidate, ...] = ()  # best first
    deviations: tuple[Deviation, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


def joined(aspects: Sequence[Aspect], *, how: str) -> FeedFit:
    """One fit of all aspects: what reproduces a feed has to do so in each of them."""
    deviating = [aspect for aspect in aspects if aspect.distance > 1]
    tried: list[Candidate] = []
    if len(deviating) > 1 and all(aspect.candidates for aspect in deviating):
        tried.append(_together([aspect.candidates[0] for aspect in deviating]))
    for aspect in deviating:
        elsewhere = max((other.distance for other in aspects if other is not aspect), default=0.0)
        tried += [replace(c, residual=max(c.residual, elsewhere)) for c in aspect.candidates]
    deviations = sorted((d for aspect in aspects for d in aspect.deviations), key=lambda d: -d.excess)
    return FeedFit(
        distance=max((aspect.distance for aspect in aspects), default=0.0),
        tried=tuple(sorted(tried, key=lambda candidate: not candidate.reproduces)),
        how=how,
        deviations=tuple(deviations),
        skipped={name: reason for aspect in aspects for name, reason in aspect.skipped.items()},
    )


def _together(candidates: Sequence[Candidate]) -> Candidate:
    faults: dict[str, Any] = {}
    for candidate in candidates:
        faults |= candidate.values["faults"]
    return Candidate(
        names=tuple(dict.fromkeys(name for candidate in candidates for name in candidate.names)),
        says="; ".join(candidate.says for candidate in candidates),
        residual=max(candidate.residual for candidate in candidates),
        values={"faults": faults},
    )

"""Whether an optimizer goes on where it was after its state was saved and loaded.

    fit = identify_resume(observation, law, rates=rates, at=3, loaded=weights)
    fit.best.names                       # ("moments-lost-on-resume",)

Updates from given gradients are interrupted once, between two of them. The weights that come back have to be those that
were there, to the bit; the updates after it have to be those of a law that never stopped. Faults put into that law:
moments, or the count of their corrections, that begin anew, and the schedule from its start.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lossary.diagnosis.adapter import Arrays
from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.laws.loading import identify_loading
from lossary.diagnosis.laws.update_evidence import Evidence, UpdateObservation
from lossary.diagnosis.laws.update_space import LawSettings, Lost

__all__ = ["identify_resume"]

_ALL: tuple[frozenset[Lost], ...] = tuple(frozenset(lost) for lost in ("mvt", "mv", "m", "v", "t"))  # type: ignore[arg-type]
_SAYS = {
    "mvt": "after a resume the optimizer begins anew: its moments are lost, and the count of its updates",
    "mv": "after a resume the optimizer's moments begin anew",
    "m": "after a resume the optimizer's first moment begins anew",
    "v": "after a resume the optimizer's second moment begins anew",
    "t": "after a resume the bias corrections count updates from 0 again, the moments are kept",
}


def identify_resume(
    observation: UpdateObservation,
    law: LawSettings,
    *,
    rates: Sequence[float],
    rate_of: Callable[[int], float],
    at: int,
    loaded: Arrays,
    precision: str = "fp32",
) -> Fit:
    """From K updates, of which the first after a resume is number `at`; `loaded` are the weights that came back.

    `rates` are those of the steps, `rate_of(step)` that of any.
    """
    before = observation.weights[at - 1]
    returned = identify_loading([before], [loaded], precision=precision)
    if not returned.equal:
        stale = tuple(_stale(observation, at, loaded))
        return Fit(distance=returned.distance, tried=stale or returned.tried, how=returned.how)
    roots = [law, replace(law, counts="steps")] if observation.first and (law.correct_m or law.correct_v) else [law]
    evidence = Evidence.of(observation, rates).measured(law)
    distance, root = min(((evidence.distance(one), one) for one in roots), key=lambda pair: pair[0])
    how = "1 ulp of each weight and the rounding of a step in float32; weights are copies, with no tolerance"
    if distance <= 1:
        return Fit(distance=distance, tried=(), how=how)
    tried = [_forgotten(evidence, one, at, lost) for one in roots for lost in _ALL]
    again = np.array([*rates[:at], *(rate_of(step) for step in range(len(rates) - at))])[:, None]
    restarted = replace(evidence, rates=again, cache={})
    tried += [_schedule(restarted.distance(root), "")]
    tried += [_schedule(_forgotten(restarted, one, at, _ALL[0]).residual, "mvt") for one in roots]
    best: dict[tuple[str, ...], Candidate] = {}
    for candidate in sorted(tried, key=lambda c: (not c.reproduces, not c.reproduces and c.residual)):
        best.setdefault(candidate.names, candidate)
    return Fit(distance=distance, tried=tuple(sorted(best.values(), key=lambda c: c.rank)), how=how)


def _forgotten(evidence: Evidence, law: LawSettings, at: int, lost: frozenset[Lost]) -> Candidate:
    key = "".join(part for part in "mvt" if part in lost)
    name = "step-count-lost-on-resume" if key == "t" else "moments-lost-on-resume"
    settings = replace(law, resumed=at, lost=lost)
    return Candidate(
        names=(name,), says=_SAYS[key], residual=evidence.distance(settings), values={"lost": sorted(lost)}
    )


def _schedule(residual: float, lost: str) -> Candidate:
    sentences = {"schedule-restarts-on-resume": "after a resume the schedule starts over"}
    if lost:
        sentences["moments-lost-on-resume"] = _SAYS[lost]
    return Candidate(
        names=tuple(sentences), says="; ".join(sentences.values()), residual=residual, values={"sentences": sentences}
    )


def _stale(observation: UpdateObservation, at: int, loaded: Arrays) -> Iterator[Candidate]:
    """Weights of some updates before."""
    path: list[Any] = [observation.start, *observation.weights]
    for number in range(at):
        if all(name in loaded and np.array_equal(path[number][name], loaded[name]) for name in path[number]):
            missed = at - number
            says = f"a resumed run goes on with the weights of {missed} update{'s' if missed > 1 else ''} before"
            yield Candidate(names=("updates-lost-on-resume",), says=says, residual=0.0, values={"updates": missed})

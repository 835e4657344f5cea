"""One solver: which fewest changes of a stage's settings make the reference do what was observed.

    stage = Stage(settings={"divided by": "all"}, predict=..., noise=1e-6, how="...", knobs=(Knob(...),))
    fit = solve(stage, observed)

Settings are declared; a knob changes one of them, into a choice or into a number that it reads off what was observed.
Distances are in units of the noise. Singles are tried before pairs; of what reproduces the observed with as few
changes, all stay, so that what the evidence does not tell apart is told as such.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.fit import Candidate, Fit

__all__ = ["Knob", "Settings", "Stage", "choice", "distance", "solve"]

Floats = NDArray[np.float64]
Settings = Mapping[str, Any]
# How many single changes are gone on from.
_BEAM = 12


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One fault: how it changes the settings; `change` may read numbers off the observed."""

    name: str
    says: str  # may name fitted settings, as "{scale:.4g}"
    change: Callable[[Settings, "Stage", Floats], Iterator[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A reference: what it does under given settings, (N,) numbers, and by how much an equal one may differ."""

    settings: Settings
    predict: Callable[[Settings], Floats]
    noise: Floats | float
    how: str  # how the noise was found
    knobs: tuple[Knob, ...]


def choice(name: str, says: str, **values: Any) -> Knob:
    """A knob that sets settings to values."""
    return Knob(name=name, says=says, change=lambda *_: iter([values]))


def distance(stage: Stage, settings: Settings, observed: Floats) -> float:
    """The largest difference, in units of the noise; infinite where one of both is no number."""
    apart = np.abs(stage.predict(settings) - observed) / stage.noise
    return float(np.max(np.where(np.isfinite(apart), apart, np.inf), initial=0.0))


def solve(stage: Stage, observed: Floats, *, most: int = 2) -> Fit:
    """What reproduces the observed with the fewest changes, else what comes closest."""
    start = distance(stage, stage.settings, observed)
    if start <= 1.0:
        return Fit(distance=start, tried=(), how=stage.how)
    level: list[tuple[tuple[Knob, ...], Settings]] = [((), stage.settings)]
    tried: list[Candidate] = []
    for _ in range(most):
        found = list(_next(stage, observed, level))
        found.sort(key=lambda one: one[0])
        tried += [_candidate(left, knobs, settings) for left, knobs, settings in found]
        if found and found[0][0] <= 1.0:
            break
        level = [(knobs, settings) for _, knobs, settings in found[:_BEAM]]
    tried.sort(key=lambda one: one.rank)
    return Fit(distance=start, tried=tuple(tried), how=stage.how)


def _next(
    stage: Stage, observed: Floats, level: list[tuple[tuple[Knob, ...], Settings]]
) -> Iterator[tuple[float, tuple[Knob, ...], Settings]]:
    """Every change more that a level allows, once for each set of knobs."""
    best: dict[frozenset[str], tuple[float, tuple[Knob, ...], Settings]] = {}
    for knobs, settings in level:
        for knob in stage.knobs:
            if knob.name in {one.name for one in knobs}:
                continue
            for changes in knob.change(settings, stage, observed):
                if any(settings.get(key) != stage.settings.get(key) for key in changes):
                    continue  # Another knob has set this: both would not stand.
                after = {**settings, **changes}
                left = distance(stage, after, observed)
                names = frozenset({knob.name, *(one.name for one in knobs)})
                if names not in best or left < best[names][0]:
                    best[names] = (left, (*knobs, knob), after)
    yield from best.values()


def _candidate(left: float, knobs: tuple[Knob, ...], settings: Settings) -> Candidate:
    sentences = {knob.name: knob.says.format(**{k.replace(" ", "_"): v for k, v in settings.items()}) for knob in knobs}
    return Candidate(
        names=tuple(sentences),
        says="; ".join(sentences.values()),
        residual=left,
        values={**settings, "sentences": sentences},
    )

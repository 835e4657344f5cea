"""How many steps the demo takes: as many as its time allows, told from some timed steps of each run on this machine.

The number and why stand in the study file that the demo writes; a demo that goes on keeps it.
"""

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossary.pipeline import StepTime

__all__ = ["BUDGET_S", "FULL", "Choice", "choose", "fits", "has_choice", "with_choice"]

BUDGET_S = 300.0
# With all of them the models leave the plateau of frequencies; with fewer some datasets may stay on it.
FULL = 2000
_STEPS = (FULL, 1600, 1200, 800, 400, 200)
# Besides its steps a run is scored, which takes as long as so many; the page takes as long as a framework to start.
_SCORING_STEPS = 60
# A machine is not as quick all the time as when it was timed.
_MARGIN = 1.15
_LINE = re.compile(r"^steps = (\d+)(  # chosen: .*)?$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A number of steps, how long the demo takes with them in all, and why it is this number."""

    steps: int
    total_s: float
    why: str


def choose(times: Mapping[str, "StepTime"], *, at_once: int, spent_s: float) -> Choice:
    """The most steps that end within the time, of which so much is spent; the fewest of the list if none do."""
    totals = {steps: spent_s + _MARGIN * _left_s(list(times.values()), steps, at_once) for steps in _STEPS}
    steps = next((steps for steps in _STEPS if totals[steps] <= BUDGET_S), _STEPS[-1])
    timed = ", ".join(f"{run} {time.step_s:.3f} s" for run, time in times.items())
    return Choice(steps=steps, total_s=totals[steps], why=f"a step takes {timed} here, {at_once} at once")


def _left_s(times: Sequence["StepTime"], steps: int, at_once: int) -> float:
    """Runs start in their order, as soon as one of `at_once` places is free; then the page is written."""
    places = [0.0] * at_once
    for time in times:
        free = heapq.heappop(places)
        heapq.heappush(places, free + time.start_s + (steps + _SCORING_STEPS) * time.step_s)
    return max(places) + min(time.start_s for time in times)


def has_choice(text: str) -> bool:
    """Whether a study file says how many steps were chosen for it."""
    found = _LINE.search(text)
    return found is not None and found[2] is not None


def fits(text: str, template: str) -> bool:
    """Whether a study file is the demo's, with any choice of steps."""
    found = _LINE.search(text)
    known = found is not None and int(found[1]) in _STEPS
    return known and _LINE.sub(f"steps = {FULL}", text) == template


def with_choice(template: str, choice: Choice) -> str:
    """The study file of the demo with the chosen steps."""
    return _LINE.sub(f"steps = {choice.steps}  # chosen: {choice.why}", template, count=1)

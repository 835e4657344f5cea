"""Looks at a running study until a rule fires, or until nobody works on it any more.

    for event in watch(Path("my-study"), rules=("L4",), severity="warning", every_s=5):
        print(event.text)

A finding that was there when watching began is told at once: it fires, too. Nothing is written or locked.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lossary.dashboard.snapshots import Snapshot, WatchedStudy
from lossary.findings.model import SEVERITIES, Finding, Severity

__all__ = ["COURSE", "Event", "watch"]

# Rules on the course of training, by the beginning of their codes: what a table says of a model that is half trained
# (a loss at the plateau, order at chance) is true and no news.
COURSE = ("L203", "L4")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something to be told; `fired` and `ended` are the last one."""

    kind: Literal["scored", "problem", "fired", "ended"]
    text: str
    finding: Finding | None = None


def watch(
    path: Path,
    *,
    rules: Sequence[str],
    severity: Severity,
    every_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Event]:
    """Events of a study as they come. Raises what opening it raises: StudyError, UsageError."""
    watched = WatchedStudy(path)
    told: dict[str, tuple[int, ...]] = {}
    problem = ""
    while True:
        snapshot = watched.snapshot(wait=True)
        if snapshot.reason is not None and snapshot.study is None and snapshot.opened is None:
            raise snapshot.reason
        yield from _scored(snapshot, told)
        said = _problem(snapshot)
        if said and said != problem:
            yield Event(kind="problem", text=said)
        problem = said
        fired = _fired(snapshot, rules, severity)
        for finding in fired:
            yield Event(kind="fired", text=f"{finding.severity}: {finding.headline}", finding=finding)
        if fired:
            return
        if not snapshot.is_running:
            yield Event(kind="ended", text=_ending(snapshot))
            return
        sleep(every_s)


def _scored(snapshot: Snapshot, told: dict[str, tuple[int, ...]]) -> Iterator[Event]:
    """Runs that were scored at a step since the last look."""
    for run in snapshot.progress:
        steps = tuple(run.scored)
        if steps and steps != told.get(run.run):
            yield Event(kind="scored", text=f"{run.run}: scored at step {steps[-1]:,} of {run.steps:,}")
        told[run.run] = steps


def _problem(snapshot: Snapshot) -> str:
    # That there are no scores yet is how every study begins.
    if snapshot.reason is not None and not snapshot.is_running:
        return f"{snapshot.reason}"
    return ""


def _fired(snapshot: Snapshot, rules: Sequence[str], severity: Severity) -> list[Finding]:
    if snapshot.checked is None:
        return []
    worse = SEVERITIES[: SEVERITIES.index(severity) + 1]
    return [
        finding
        for finding in snapshot.checked.findings
        if finding.severity in worse and finding.ignored is None and finding.code.startswith(tuple(rules))
    ]


def _ending(snapshot: Snapshot) -> str:
    done = sum(run.state == "scored" for run in snapshot.progress)
    return f"nobody works on it: {done} of {len(snapshot.progress)} runs are scored, and no rule fired"

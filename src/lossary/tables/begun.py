"""What runs were begun with, from their `run.json`: it stays theirs when the study file changes.

begun = begun_with(folder, "torch_xxl")
begun.shares                    # {"wiki": 0.7, "news": 0.3}, though the study file has lost `news`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lossary.data.parts import read_run_record
from lossary.folder import StudyFolder
from lossary.study import NOT_OF_WEIGHTS, Study
from lossary.tables.model import Table

__all__ = ["Begun", "Schedule", "begun_of", "begun_with", "own_mixtures", "recipe_begun"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """For how many steps a run was planned, from which step on: the learning rate falls to 0 at `steps`."""

    begins: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The datasets of a run, their planned shares (None: an earlier lossary did not keep them), its schedules."""

    datasets: Sequence[str]
    shares: dict[str, float] | None
    schedules: Sequence[Schedule]
    chosen: bool = False  # whether the study file gave it datasets of its own

    def steps_at(self, step: int) -> int:
        """By the schedule of how many steps the update from `step` to `step + 1` was made."""
        return next((part for part in reversed(self.schedules) if part.begins <= step), self.schedules[0]).steps

    @property
    def course(self) -> str:
        """The schedules in words, where there was more than one."""
        if len(self.schedules) < 2:
            return ""
        planned = [f"of {part.steps:,} up to {after.begins:,}" for part, after in pairwise(self.schedules)]
        return f"under the schedule {', '.join(planned)}, then of {self.schedules[-1].steps:,}"


def begun_with(folder: StudyFolder, run: str) -> Begun | None:
    """What `run.json` says; None if the run was not begun here."""
    record = read_run_record(folder, run)
    return None if record is None else begun_of(record)


def recipe_begun(study: Study, folder: StudyFolder, run: str) -> dict[str, Any]:
    """All that weights depend on of the recipe by which a run was trained; of one that was not begun, the study's.

    The study file may have changed since. What an earlier lossary did not record is taken from there.
    """
    now = study.recipe_of(run).model_dump(mode="json", exclude=set(NOT_OF_WEIGHTS))
    record = read_run_record(folder, run) or {"recipe": {}}
    return {name: record["recipe"].get(name, value) for name, value in now.items()}


def begun_of(record: Mapping[str, Any]) -> Begun:
    """What a `run.json` that was read says."""
    weights = record.get("weights") or {}
    whole = sum(weights.values())
    # An earlier lossary kept no history: its runs were trained in one go.
    history = record.get("history") or [{"from": 0, "steps": record["recipe"]["steps"]}]
    return Begun(
        datasets=record.get("datasets", []),
        chosen=record.get("description", {}).get("datasets") is not None,
        shares={name: weight / whole for name, weight in weights.items()} if whole else None,
        schedules=[Schedule(begins=part["from"], steps=part["steps"]) for part in history],
    )


def own_mixtures(folder: StudyFolder, table: Table) -> list[str]:
    """Runs that keep a mixture with a dataset that left the study: their planned shares, in words."""
    present = {row.name for row in table.datasets}
    found = []
    for run in table.runs:
        begun = begun_with(folder, run.name)
        if begun is not None and begun.shares and not present.issuperset(begun.shares):
            shares = ", ".join(f"{name} {100 * begun.shares.get(name, 0.0):.1f} %" for name in begun.datasets)
            found.append(f"{run.name} was begun with {shares}")
    return found

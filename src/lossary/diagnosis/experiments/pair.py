"""The two sides of a diagnosis, together."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lossary.diagnosis.adapter import Document
from lossary.diagnosis.model import Gap
from lossary.diagnosis.session import Launch, NotCompared, launch_process
from lossary.diagnosis.sides import Side
from lossary.diagnosis.subject import Subject
from lossary.folder import StudyFolder
from lossary.models.checkpoints import list_checkpoints, load_own_checkpoint
from lossary.models.parameters import Parameters
from lossary.study import Study

__all__ = ["Experiment", "Pair"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One side beside the reference, or two sides; `subjects` are those that have a process."""

    study: Study
    folder: StudyFolder
    sides: tuple[Side, ...]
    subjects: tuple[Subject, ...]
    documents: list[Document]
    reported: Path | None = None  # a folder of imported tables
    launch: Launch = launch_process

    @property
    def runs(self) -> list[str]:
        """The sides that are runs of the study."""
        return [side.run for side in self.sides if side.run is not None]

    def subject(self, side: Side) -> Subject | None:
        """The process of a side; None for the reference."""
        return next((subject for subject in self.subjects if subject.session.spec is side.spec), None)

    def trained(self, side: Side) -> Parameters | None:
        """The weights that a side has trained; None where it has none."""
        return self._trained.get(side.label)

    @cached_property
    def _trained(self) -> dict[str, Parameters]:
        found: dict[str, Parameters] = {}
        for side in self.sides:
            subject = self.subject(side)
            if side.run is not None:
                paths = list_checkpoints(self.folder.checkpoints(side.run))
                if paths:
                    found[side.label] = load_own_checkpoint(paths[-1]).parameters
            elif subject is not None and subject.session.can("checkpoint"):
                try:
                    found[side.label] = subject.session.ask("checkpoint")
                except NotCompared:
                    continue  # Trained nothing yet; other experiments do without.
        return found


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment on a pair."""

    name: str
    title: str
    about: str  # one sentence for the reference page
    run: Callable[[Pair], Iterable[Gap]]

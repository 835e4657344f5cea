"""Where everything of a study lies; nothing here writes.

A study's folder is plain files. Only names that the study file has accepted become parts of a path, so that no
path leaves the folder. What was made of a dataset lies under the name that it is drawn as (naming.py).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from lossary.naming import AS_DRAWN, Names, names_of

__all__ = ["StudyFolder"]


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study.

    Datasets go by their present names; with `drawn` by what they are drawn as, as files have it.
    """

    root: Path
    drawn: bool = False

    @property
    def names(self) -> Names:
        """How names of datasets here and in files translate."""
        return AS_DRAWN if self.drawn else names_of(self.root)

    @property
    def as_drawn(self) -> "StudyFolder":
        """The same folder for those who make what lies in it: names are those of the files."""
        return StudyFolder(self.root, drawn=True)

    @property
    def study_file(self) -> Path:
        return self.root / "study.toml"

    @property
    def made_by(self) -> Path:
        """The study file by which what stands was made."""
        return self.root / "made.toml"

    @property
    def generations(self) -> Path:
        """Earlier states of the study, each a study of its own."""
        return self.root / "generations"

    @property
    def removed(self) -> Path:
        """What `lossary rm` took out of the study."""
        return self.root / "removed"

    @property
    def tokenizer(self) -> Path:
        return self.root / "tokenizer"

    @property
    def validation(self) -> Path:
        return self.root / "validation"

    def validation_part(self, dataset: str) -> Path:
        """The frozen validation examples of a dataset."""
        return self.validation / self.names.drawn_as(dataset)

    @property
    def views(self) -> Path:
        """The validation examples in other vocabularies; made again where they are missing."""
        return self.root / "views"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def report_record(self) -> Path:
        """What the report of `lossary run` was made from."""
        return self.report / "made.json"

    @property
    def diagnosis(self) -> Path:
        """Diagnoses, and the traces that they rest on."""
        return self.root / "diagnosis"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, run: str, stage: str) -> Path:
        """What the worker of a run said in a stage, but for events."""
        return self.logs / f"{run}.{stage}.log"

    def ending(self, run: str, stage: str) -> Path:
        """The error that ended a stage of a run; not there after one that came to its end."""
        return self.logs / f"{run}.{stage}.ended.json"

    def said_of(self, run: str) -> list[Path]:
        """What goes by the name of a run outside its folder: logs, jobs and endings of stages, a lease that is left.

        Names may hold dots: those of run `a` are not those of a run `a.train`.
        """
        name = re.compile(rf"{re.escape(run)}\.(train|evaluate|time)(\.rank\d+)?\.(log|job\.json|ended\.json)")
        found = sorted(path for path in self.logs.glob("*") if name.fullmatch(path.name))
        lease = self.leases / f"run-{run}.json"
        return [*found, lease] if lease.is_file() else found

    @property
    def leases(self) -> Path:
        """Who works on what."""
        return self.root / "leases"

    def dataset(self, name: str) -> Path:
        """Tokenised documents of a dataset."""
        return self.root / "prepared" / self.names.drawn_as(name)

    def spans(self, name: str, sequence_length: int) -> Path:
        """Training examples of a dataset at one sequence length."""
        return self.dataset(name) / f"spans-{sequence_length}"

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    def origin(self, run: str) -> Path:
        """Which checkpoints from elsewhere a column holds the scores of."""
        return self.run(run) / "origin.json"

    def checkpoints(self, run: str) -> Path:
        return self.run(run) / "checkpoints"

    def checkpoint(self, run: str, step: int) -> Path:
        return self.checkpoints(run) / f"step-{step:08d}"

    def steps(self, run: str) -> Path:
        """The step records of a run."""
        return self.run(run) / "steps.parquet"

    def scores(self, run: str, step: int) -> Path:
        """The scores of a run at one step."""
        return self.run(run) / "scores" / f"{step:08d}.parquet"

    def sequential(self, run: str, step: int) -> Path:
        """The scores of a run at one step on some of the examples: an evaluation that stopped where it was clear."""
        return self.run(run) / "sequential" / f"{step:08d}.parquet"

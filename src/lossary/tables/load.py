"""What a path holds: a study that was made here, or tables that were imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lossary.errors import StudyError
from lossary.folder import StudyFolder
from lossary.study import Study
from lossary.study_file import find_study_file, load_study
from lossary.tables.best import Best, Criterion, StepChoice
from lossary.tables.build import build_table, paired_table
from lossary.tables.imported import IMPORTED, imported_table
from lossary.tables.model import Table
from lossary.tables.totals import best_in_total

__all__ = ["OpenTable", "is_imported", "open_paired", "open_table", "step_of_study", "with_pairs"]


class OpenTable(NamedTuple):
    """A table, and the study that it is of; None if it was imported."""

    table: Table
    study: Study | None
    folder: StudyFolder


def is_imported(path: Path) -> bool:
    """Whether a path is a folder of imports and no study."""
    return path.is_dir() and (path / IMPORTED).is_file() and not (path / "study.toml").is_file()


def open_table(
    path: Path, *, runs: Sequence[str] | None = None, step: StepChoice = None, base: str | None = None
) -> OpenTable:
    """The table of a study or of a folder of imports. Raises StudyError if the path holds neither."""
    if is_imported(path):
        return OpenTable(imported_table(path, runs=runs, step=step, base=base), None, StudyFolder(path.resolve()))
    if path.is_dir() and not (path / "study.toml").is_file():
        raise StudyError(
            "neither a study nor imported tables",
            where=str(path),
            hint="`lossary init` writes a study file, `lossary import FILES…` reads tables that others made.",
        )
    file = find_study_file(path)
    folder = StudyFolder(file.resolve().parent)
    study = load_study(file)
    return OpenTable(build_table(study, folder, runs=runs, step=step_of_study(step), base=base), study, folder)


def step_of_study(step: StepChoice) -> int | Criterion | None:
    """A choice of steps as a study's own scores have it. Raises UsageError if it names no total of theirs."""
    if not isinstance(step, Best):
        return step
    return Criterion.parse(step.criterion, where="--step") if step.criterion else Criterion("")


def open_paired(
    path: Path, *, runs: Sequence[str] | None = None, step: StepChoice = None, base: str | None = None
) -> OpenTable:
    """As `open_table`, with paired differences to `base`, else to the run with the lowest MLM loss.

    Scores are read once, while differences that are added later read them again.
    """
    if base is None and is_imported(path):
        return with_pairs(open_table(path, runs=runs, step=step))
    if base is None and (path.is_file() or (path / "study.toml").is_file()):
        file = find_study_file(path)
        study, folder = load_study(file), StudyFolder(file.resolve().parent)
        return OpenTable(paired_table(study, folder, runs=runs, step=step_of_study(step)), study, folder)
    return open_table(path, runs=runs, step=step, base=base)


def with_pairs(opened: OpenTable, *, base: str | None = None) -> OpenTable:
    """A table of imported scores of examples, with paired differences to `base`, else to the best run.

    It stays as it is if it has them already, if there is nothing to pair, or if its numbers are printed ones.
    """
    table = opened.table
    chosen = base or best_in_total(table, table.main_loss)
    if chosen is None or table.base is not None or (base is None and (table.is_imported or len(table.runs) < 2)):
        return opened
    return opened._replace(table=imported_table(opened.folder.root, runs=[run.name for run in table.runs], base=chosen))

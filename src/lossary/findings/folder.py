"""Checks what a folder holds: a study that was made here, or imported tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lossary.findings.engine import Checked, check
from lossary.findings.subject import Subject, subject_of_study, subject_of_table
from lossary.tables.best import StepChoice
from lossary.tables.deltas import add_deltas
from lossary.tables.imported import CURVES
from lossary.tables.load import OpenTable, open_table, with_pairs

__all__ = ["check_folder", "check_table", "subject_of", "with_base"]


def check_folder(
    path: Path,
    *,
    runs: Sequence[str] | None = None,
    step: StepChoice = None,
    base: str | None = None,
    ignore: Mapping[str, str] | None = None,
) -> Checked:
    """Findings of the study or the imports at `path`; reasons to ignore are added to those of the study file."""
    return check_table(open_table(path, runs=runs, step=step), where=str(path), base=base, ignore=ignore)


def check_table(
    opened: OpenTable, *, where: str, base: str | None = None, ignore: Mapping[str, str] | None = None
) -> Checked:
    """Findings of an opened table."""
    of_file = opened.study.check.ignore if opened.study is not None else {}
    return check(subject_of(opened, where=where, base=base), ignore={**of_file, **(ignore or {})})


def subject_of(opened: OpenTable, *, where: str, base: str | None = None) -> Subject:
    """What rules look at: with paired differences to `base`, else to the run with the lowest MLM loss."""
    study, folder = opened.study, opened.folder
    if study is None:
        curves = folder.root / CURVES
        paired = with_pairs(opened, base=base).table
        return subject_of_table(paired, where, curves if curves.is_file() else None)
    return subject_of_study(study, folder, with_base(opened, base=base).table)


def with_base(opened: OpenTable, *, base: str | None = None) -> OpenTable:
    """The table with paired differences to `base`, else to the run with the lowest MLM loss.

    It stays as it is if it has them already, if there is nothing to pair, or if printed numbers were imported.
    """
    table, study, folder = opened
    if study is None:
        return with_pairs(opened, base=base)
    if table.base is not None or len(table.runs) < 2:
        return opened
    chosen = base or Subject(table=table, where=str(folder.root)).best or table.runs[0].name
    paths = {run.name: folder.scores(run.name, run.step) for run in table.runs if run.step is not None}
    return opened._replace(table=add_deltas(table, paths, base=chosen))

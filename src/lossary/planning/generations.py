"""Generations: what stands, kept as a study of its own before a change that would lose some of it.

    generations/0001/        a whole study: study.toml as it was when it was made, tokenizer, prepared, validation, runs

Files are hard links where the file system allows: every file of a study is replaced whole, never written in place, so
that the older study stays as it was and takes no room. It appears whole or not at all.
"""

import os
import shutil
import tempfile
from pathlib import Path

from lossary.errors import UsageError
from lossary.files import write_atomic
from lossary.folder import StudyFolder
from lossary.planning.model import Plan

__all__ = ["begin_generation", "remember_study_file"]

_PARTS = ("tokenizer", "prepared", "validation", "runs", "report", "diagnosis")


def remember_study_file(folder: StudyFolder) -> None:
    """Keeps the study file by which what stands was made."""
    text = folder.study_file.read_bytes()
    if not folder.made_by.is_file() or folder.made_by.read_bytes() != text:
        with write_atomic(folder.made_by) as temporary:
            temporary.write_bytes(text)


def begin_generation(folder: StudyFolder, plan: Plan) -> Path:
    """Keeps all that stands as the next generation, then takes away what the plan would lose; returns where it is.

    Raises UsageError if nothing stands that could be kept.
    """
    if not folder.made_by.is_file():
        raise UsageError(
            "it is not known by which study file this was made",
            where=str(folder.made_by),
            hint=f"Put the study file of then there as {folder.made_by.name}, or copy study.toml to a new folder.",
        )
    kept = _snapshot(folder)
    _take_away(folder, plan)
    return kept


def _snapshot(folder: StudyFolder) -> Path:
    folder.generations.mkdir(exist_ok=True)
    numbers = [int(path.name) for path in folder.generations.iterdir() if path.name.isdigit()]
    target = folder.generations / f"{max(numbers, default=0) + 1:04d}"
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=folder.generations))
    try:
        _link(folder.made_by, temporary / "study.toml")
        _link(folder.made_by, temporary / folder.made_by.name)
        for part in _PARTS:
            if (folder.root / part).is_dir():
                shutil.copytree(
                    folder.root / part, temporary / part, copy_function=_link, ignore=shutil.ignore_patterns(".*")
                )
        temporary.chmod(folder.root.stat().st_mode & 0o777)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another device, or a file system without hard links.
        shutil.copy2(source, target)


def _take_away(folder: StudyFolder, plan: Plan) -> None:
    """Removes what cannot stay. Whatever a crash leaves of it, the next plan sees, and the generation has it all."""
    for run in sorted(plan.lost_runs):
        _remove(folder.run(run))
    for item in plan.refused:
        if item.kind == "tokenizer":
            for path in (folder.validation, folder.root / "prepared", folder.tokenizer):
                _remove(path)
        elif item.kind in ("dataset", "validation"):
            _remove(folder.validation_part(item.name))
            if item.kind == "dataset":
                _remove(folder.dataset(item.name))


def _remove(path: Path) -> None:
    """A folder is gone at once; what is in it follows."""
    if path.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
        path.replace(aside / path.name)
        shutil.rmtree(aside)

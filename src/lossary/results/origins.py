"""Which checkpoints from elsewhere a column holds the scores of, and the command that scores one of them again.

keep_origin(folder, "bert", [ScoredFrom(step=500, checkpoint=path, origin=path.parent)])
again(folder, "bert", 500)      # lossary evaluate my-study --checkpoint out/checkpoint-500 --name bert --step 500
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossary.errors import DataError
from lossary.files import read_json, write_json
from lossary.folder import StudyFolder

__all__ = ["ScoredFrom", "again", "keep_origin", "origins"]


@dataclass(frozen=True, kw_only=True)
class ScoredFrom:
    """What was scored as one step of a column, and with which options."""

    step: int
    checkpoint: Path
    origin: Path  # the folder that its steps are steps of
    tokenizer: Path | None = None
    precision: str = "fp32"
    backend: str = "torch"

    def options(self) -> list[str]:
        """What the command line is given for it."""
        given = ["--checkpoint", str(self.checkpoint), "--step", str(self.step)]
        given += [] if self.tokenizer is None else ["--tokenizer", str(self.tokenizer)]
        given += [] if self.precision == "fp32" else ["--precision", self.precision]
        return given + ([] if self.backend == "torch" else ["--backend", self.backend])


def origins(folder: StudyFolder, run: str) -> list[str]:
    """Folders whose scores a column holds; none where it was scored in another way."""
    path = folder.origin(run)
    return list(read_json(path)["checkpoints"]) if path.is_file() else []


def keep_origin(folder: StudyFolder, run: str, scored: Sequence[ScoredFrom]) -> None:
    """Adds checkpoints to those of a column."""
    path = folder.origin(run)
    known: dict[str, Any] = read_json(path) if path.is_file() else {}
    folders = [*known.get("checkpoints", []), *(str(one.origin) for one in scored)]
    steps = known.get("steps", {}) | {str(one.step): one.options() for one in scored}
    write_json(path, {"checkpoints": list(dict.fromkeys(folders)), "steps": steps})


def again(folder: StudyFolder, run: str, step: int) -> str:
    """The command that scores a column at a step again, quoted for a shell; of a model in Python, its call."""
    try:
        found = read_json(folder.origin(run))
    except (OSError, DataError):
        found = {}
    options = found.get("steps", {}).get(str(step))
    if options is None and len(folders := found.get("checkpoints", [])) == 1:
        # Of an earlier lossary, which kept where steps are, and not which.
        steps = Path(folders[0]) / f"checkpoint-{step}"
        options = ["--checkpoint", str(steps if steps.is_dir() else folders[0]), "--step", str(step)]
    if options is None:
        return f"`lossary.evaluate(model, {str(folder.root)!r}, run={run!r}, step={step})` in Python"
    return f"`{shlex.join(['lossary', 'evaluate', str(folder.root), *options, '--name', run])}`"

"""How far the runs of a study are, told from the files that training and scoring leave; no process is asked."""

import time
from dataclasses import dataclass
from typing import Literal

import pyarrow.parquet as pq

from lossary.errors import ScoreError
from lossary.folder import StudyFolder
from lossary.seals import check_sealed
from lossary.study import Study

__all__ = ["RunProgress", "State", "run_progress"]

State = Literal["waiting", "training", "stopped", "trained", "scored"]
# Step records are written every ten seconds of training; a run that wrote none for so long does not train.
_SILENCE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """A run of the study file: its last step on disk, and how long the rest takes at its speed so far."""

    run: str
    state: State
    step: int
    steps: int
    tokens: int
    tokens_per_s: float | None
    left_s: float | None
    scored: list[int]  # steps with scores

    @property
    def part(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.step / self.steps)


def run_progress(study: Study, folder: StudyFolder, *, now: float | None = None) -> list[RunProgress]:
    """Progress of every run, in the order of the study file."""
    return [_progress(study, folder, run, time.time() if now is None else now) for run in study.runs]


def _progress(study: Study, folder: StudyFolder, run: str, now: float) -> RunProgress:
    steps = study.recipe_of(run).steps
    step, tokens, elapsed, written = _last(folder, run)
    scored = sorted(int(path.stem) for path in (folder.run(run) / "scores").glob("*.parquet") if path.stem.isdigit())
    state: State
    if step >= steps or (not step and scored):
        state = "scored" if scored else "trained"
    elif step and now - written < _SILENCE_S:
        state = "training"
    else:
        state = "stopped" if step else "waiting"
    return RunProgress(
        run=run,
        state=state,
        step=step,
        steps=steps,
        tokens=tokens,
        tokens_per_s=tokens / elapsed if elapsed else None,
        left_s=elapsed / step * (steps - step) if state == "training" else None,
        scored=scored,
    )


def _last(folder: StudyFolder, run: str) -> tuple[int, int, float, float]:
    """Step, tokens and seconds of training of the last record, and when it was written; zeros if there is none.

    They are read from the file's footer. A file that is being replaced, or damaged, is as good as none: its run shows
    up in the next look.
    """
    path = folder.steps(run)
    try:
        written = path.stat().st_mtime
        check_sealed(path)
        metadata = pq.read_metadata(path)
        names = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
        last = {
            name: max(metadata.row_group(group).column(names.index(name)).statistics.max for group in range(groups))
            for name in ("step", "total_tokens", "elapsed_s")
            if (groups := metadata.num_row_groups)
        }
    except (OSError, ValueError, AttributeError, ScoreError):
        # pyarrow's exceptions are ValueErrors and OSErrors; statistics are None where a column holds nothing.
        return 0, 0, 0.0, 0.0
    return int(last.get("step", 0)), int(last.get("total_tokens", 0)), float(last.get("elapsed_s", 0.0)), written

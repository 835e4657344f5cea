"""The evaluation job of a worker process: `python -m lossary.scoring.job JOB.json`."""

from pathlib import Path
from typing import Any

from lossary.backends.api import Backend
from lossary.backends.process import Emit, worker_main
from lossary.folder import StudyFolder
from lossary.models.architectures import ModelShape
from lossary.models.checkpoints import Checkpoint
from lossary.scoring.score import ScoreJob, open_backend, score_checkpoint
from lossary.scoring.sequential import Until, score_until_decided

__all__ = ["main"]


def main() -> None:
    """Scores what the job names: `{"folder", "checkpoints"}`, the other fields of `ScoreJob`, and perhaps `until`."""
    worker_main(_work)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    fields = dict(job)
    folder = StudyFolder(Path(fields.pop("folder")), drawn=True)
    models = _Models()
    until = fields.pop("until", None)
    done = []
    for path in fields.pop("checkpoints"):
        one = ScoreJob(**fields, checkpoint=Path(path))
        if until is None:
            done.append(score_checkpoint(folder, one, open_backend=models.open, emit=emit))
        else:
            asked = Until.of(until)
            done.append(score_until_decided(folder, one, asked, open_backend=models.open, emit=emit))
    return {"scored": done}


class _Models:
    """One model for all checkpoints of one shape: a framework takes longer to make it than to fill it."""

    def __init__(self) -> None:
        self._shape: ModelShape | None = None
        self._backend: Backend | None = None

    def open(self, job: ScoreJob, checkpoint: Checkpoint) -> Backend:
        if self._backend is None or checkpoint.shape != self._shape:
            self._shape, self._backend = checkpoint.shape, open_backend(job, checkpoint)
        else:
            self._backend.load_parameters(checkpoint.parameters)
        return self._backend


if __name__ == "__main__":
    main()

"""The evaluation job of a worker process: `python -m lossary.evaluation.job JOB.json`."""

from pathlib import Path
from typing import Any

from lossary.backends.process import Emit, worker_main
from lossary.evaluation.score import ScoreJob, score_checkpoint
from lossary.folder import StudyFolder

__all__ = ["main"]


def main() -> None:
    """Scores what the job names: `{"folder"}` and the fields of `ScoreJob`."""
    worker_main(_work)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    fields = dict(job)
    folder = StudyFolder(Path(fields.pop("folder")))
    return score_checkpoint(folder, ScoreJob(**fields | {"checkpoint": Path(fields["checkpoint"])}), emit=emit)


if __name__ == "__main__":
    main()

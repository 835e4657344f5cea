"""The training job of a worker process: `python -m lossary.training.job JOB.json`."""

from pathlib import Path
from typing import Any

from lossary.backends.process import Emit, worker_main
from lossary.folder import StudyFolder
from lossary.study import load_study
from lossary.training.loop import train

__all__ = ["main"]


def main() -> None:
    """Trains the run that the job names: `{"study_file", "run"}`."""
    worker_main(_work)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    study_file = Path(job["study_file"])
    return train(load_study(study_file), StudyFolder(study_file.parent), job["run"], emit=emit)


if __name__ == "__main__":
    main()

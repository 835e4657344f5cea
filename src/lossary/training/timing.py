"""How long a step takes here: `python -m lossary.training.timing JOB.json`. Some steps whose weights nobody keeps.

JOB.json      {"study", "folder", "run", "steps"}
"""

from pathlib import Path
from typing import Any

from lossary.backends.process import Emit, worker_main
from lossary.folder import StudyFolder
from lossary.study import check_study
from lossary.training.loop import time_steps

__all__ = ["main"]


def main() -> None:
    """Times the run that the job names."""
    worker_main(_work)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    study, folder = check_study(job["study"]), StudyFolder(Path(job["folder"]))
    return {"step_s": time_steps(study, folder, job["run"], steps=job["steps"], emit=emit)}


if __name__ == "__main__":
    main()

"""The worker that scores models which lossary does not train: `python -m lossary.scoring.foreign_job JOB.json`."""

import importlib
from pathlib import Path
from typing import Any

from lossary.backends.api import require_packages
from lossary.backends.process import Emit, worker_main
from lossary.errors import LossaryError
from lossary.folder import StudyFolder
from lossary.scoring.api import Scorer
from lossary.scoring.evaluate import Asked, score_study
from lossary.vocabulary.open import open_vocabulary

__all__ = ["main"]


def main() -> None:
    """Scores what the job names: `{"folder", "name", "batch_size", "precision", "checkpoints"}`.

    Each of the checkpoints is `{"path", "tokenizer", "step"}`; a folder is its own tokenizer where none is named.
    """
    worker_main(_work)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    folder, done = StudyFolder(Path(job["folder"])), []
    for checkpoint in job["checkpoints"]:
        asked = Asked(run=job["name"], step=checkpoint["step"], batch_size=job["batch_size"])
        try:
            scorer = _open(checkpoint, job["precision"])
            path = score_study(folder, scorer, asked, holds=False, emit=emit)
        except LossaryError as error:
            # What is said of a model names its folder: a job may have several.
            error.where = error.where or checkpoint["path"]
            raise
        done.append({"scores": str(path), "step": asked.step})
    return {"scored": done}


def _open(checkpoint: dict[str, Any], precision: str) -> Scorer:
    require_packages("torch", "a model of transformers")
    opener = importlib.import_module("lossary.backends.torch.huggingface")
    vocabulary = open_vocabulary(Path(checkpoint["tokenizer"] or checkpoint["path"]))
    scorer: Scorer = opener.open_huggingface(Path(checkpoint["path"]), vocabulary, precision=precision)
    return scorer


if __name__ == "__main__":
    main()

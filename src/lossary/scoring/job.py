"""The evaluation job of a worker process, or of one of several: `python -m lossary.scoring.job JOB.json`."""

from functools import partial
from pathlib import Path
from typing import Any

from lossary.backends.api import Backend, join_ranks
from lossary.backends.process import Emit, worker_main
from lossary.backends.ranks import OneRank, Ranks
from lossary.folder import StudyFolder
from lossary.models.architectures import ModelShape
from lossary.models.checkpoints import Checkpoint
from lossary.scoring.ranks import store_together
from lossary.scoring.score import ScoreJob, open_backend, score_checkpoint, store_alone
from lossary.scoring.sequential import Until, score_until_decided

__all__ = ["main"]


def main() -> None:
    """Scores what the job names: `{"folder", "checkpoints"}`, the other fields of `ScoreJob`, and perhaps `until`.

    As one of several it also has `{"rank", "ranks", "store"}`: all score, the first one writes and tells.
    """
    worker_main(_work)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    fields = dict(job)
    place = [fields.pop(name, None) for name in ("rank", "ranks", "store")]
    ranks = OneRank() if place[1] is None else join_ranks(*place)
    folder = StudyFolder(Path(fields.pop("folder")), drawn=True)
    models = _Models(ranks)
    tell: Emit = emit if ranks.rank == 0 else lambda _: None
    store = store_alone if ranks.size == 1 else partial(store_together, ranks)
    until = fields.pop("until", None)
    done = []
    for path in fields.pop("checkpoints"):
        one = ScoreJob(**fields, checkpoint=Path(path))
        if until is None:
            done.append(score_checkpoint(folder, one, open_backend=models.open, store=store, emit=tell))
        else:
            done.append(score_until_decided(folder, one, Until.of(until), open_backend=models.open, emit=tell))
    return {"scored": done}


class _Models:
    """One model for all checkpoints of one shape: a framework takes longer to make it than to fill it."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._shape: ModelShape | None = None
        self._backend: Backend | None = None

    def open(self, job: ScoreJob, checkpoint: Checkpoint) -> Backend:
        if self._backend is None or checkpoint.shape != self._shape:
            self._shape, self._backend = checkpoint.shape, open_backend(job, checkpoint, self._ranks)
        else:
            self._backend.load_parameters(checkpoint.parameters)
        return self._backend


if __name__ == "__main__":
    main()

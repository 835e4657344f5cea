"""What the worker process of a run does: it trains and, with the same model in the same process, scores on the way.

python -m lossary.worker JOB.json      {"study", "folder", "run", "score_last"}; as one of several also {"rank",
                                       "ranks", "store"}
"""

from collections.abc import Set
from functools import partial
from pathlib import Path
from typing import Any

from lossary.backends.api import Backend, join_ranks, load_backend
from lossary.backends.process import Emit, worker_main
from lossary.backends.ranks import OneRank, Ranks
from lossary.folder import StudyFolder
from lossary.scoring.ranks import store_together
from lossary.scoring.score import job_of_run, score_checkpoint, store_alone
from lossary.study import Study
from lossary.study_file import check_study
from lossary.training.loop import train

__all__ = ["main", "train_as_rank"]


class ScoresOnTheWay:
    """Scores the steps that the recipe asks for, and the last one if asked; knows which checkpoint is the best."""

    def __init__(
        self,
        study: Study,
        folder: StudyFolder,
        run: str,
        *,
        score_last: bool,
        ranks: Ranks | None = None,
        emit: Emit,
    ) -> None:
        self.study, self.folder, self.run = study, folder, run
        self.ranks = OneRank() if ranks is None else ranks
        self.emit = emit
        self.recipe = study.recipe_of(run)
        self.score_last = score_last
        self.told = set[str]()

    def due(self, step: int) -> bool:
        """Whether a step is scored."""
        every = self.recipe.evaluate_every
        if step == self.recipe.steps:
            return self.score_last or every is not None
        return every is not None and step > 0 and step % every == 0

    def at(self, checkpoint: Path, backend: Backend) -> None:
        """Scores a checkpoint whose weights the backend has; scores that are there for the same weights are kept."""
        job = job_of_run(self.study, self.run, checkpoint)
        store = store_alone if self.ranks.size == 1 else partial(store_together, self.ranks)
        score_checkpoint(self.folder.as_drawn, job, open_backend=lambda *_: backend, store=store, emit=self.emit)

    def kept(self, step: int) -> Set[int]:
        """The best step so far, if the recipe asks to keep it."""
        if self.recipe.keep_best is None:
            return frozenset()
        # Totals are DuckDB's: most runs ask for none.
        from lossary.tables.best import Criterion, best_of, lacking_notes, step_totals

        criterion = Criterion.parse(self.recipe.keep_best, where="keep_best")
        totals = step_totals(self.study, self.folder, self.run, criterion, until=step)
        for note in lacking_notes(self.run, totals, criterion.metric):
            if note not in self.told:
                self.told.add(note)
                self.emit({"event": "note", "text": note})
        best = best_of(totals, criterion)
        return frozenset() if best is None else frozenset({best.step})


def main() -> None:
    """Trains the run that the job names."""
    worker_main(_work, warm_up=load_backend)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    study, folder = check_study(job["study"]), StudyFolder(Path(job["folder"]))
    ranks = join_ranks(job["rank"], job["ranks"], job["store"]) if "ranks" in job else OneRank()
    return train_as_rank(study, folder, job["run"], score_last=job["score_last"], ranks=ranks, emit=emit)


def train_as_rank(
    study: Study, folder: StudyFolder, run: str, *, score_last: bool, ranks: Ranks, emit: Emit
) -> dict[str, Any]:
    """Trains a run in this process, as one of its ranks; the first one tells how it goes."""
    tell: Emit = emit if ranks.rank == 0 else lambda _: None
    on_the_way = ScoresOnTheWay(study, folder, run, score_last=score_last, ranks=ranks, emit=tell)
    return train(study.drawn(), folder.as_drawn, run, on_the_way=on_the_way, ranks=ranks, emit=tell)


if __name__ == "__main__":
    main()

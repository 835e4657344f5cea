"""Scores in a user's own training: once a step, as plain numbers for whoever monitors, logs or chooses by them.

    live = LiveScores("my-study", run="mine", tokenizer=tokenizer)
    live.score(model, step=500)         # {"wiki_mlm_loss": …, "wiki_mlm_loss_low": …, "total_mlm_loss": …}

A dataset's number is `<dataset>_<metric>`, with the ends of its interval as `_low` and `_high`; the total by validation
share is `total_<metric>`, by training share and macro `total_<metric>_train_share` and `total_<metric>_macro`. What has
no value has no key.
"""

from typing import Any

from lossary.api.functions import PathLike, open_study
from lossary.api.results import OpenStudy, TableResult
from lossary.errors import UsageError
from lossary.study import Precision
from lossary.study_file import check_name

__all__ = ["TOTAL", "LiveScores", "numbers_of"]

TOTAL = "total"


class LiveScores:
    """A study, and the name under which a training's models are scored on it.

    UsageError where the study or the name cannot be used: before anything is trained.
    """

    def __init__(
        self,
        study: PathLike | OpenStudy,
        *,
        run: str,
        tokenizer: Any = None,
        precision: Precision = "fp32",
        batch_size: int | None = None,
    ) -> None:
        from lossary.data.validation import load_validation

        self.study = open_study(study)
        self.run = run
        self.tokenizer = tokenizer
        self.precision: Precision = precision
        self.batch_size = batch_size
        self.notes: list[str] = []
        check_name(run, where="run")
        if run in self.study.runs:
            raise UsageError(f"{run!r} is a run of the study", where="run", hint="Give the training another name.")
        if TOTAL in load_validation(self.study.folder).datasets:
            raise UsageError(
                f"a dataset is called {TOTAL!r}, as the total is here",
                where=str(self.study.path),
                hint="Rename the dataset.",
            )
        self._model: Any = None
        self._scorer: Any = None
        # By the digest of weights, or the step of a scorer that has none.
        self._known: dict[str | int, dict[str, float]] = {}

    def score(self, model: Any, step: int) -> dict[str, float]:
        """The numbers of a model at a step.

        Weights that were scored before keep their numbers and their step: a Trainer that loads its best checkpoint at
        the end is still at its last step.
        """
        from lossary.api.evaluate import evaluate, scorer_of

        if self._model is not model:
            scorer = scorer_of(model, self.tokenizer, self.study, precision=self.precision)
            self._model, self._scorer = model, scorer
        has_digest = hasattr(self._scorer, "weights_digest")
        weights = self._scorer.weights_digest() if has_digest else step
        if weights not in self._known:
            found = evaluate(
                self._scorer, self.study, run=self.run, step=step, batch_size=self.batch_size, note=self._note
            )
            self._known[weights] = numbers_of(found)
        return dict(self._known[weights])

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def numbers_of(found: TableResult) -> dict[str, float]:
    """The numbers of a table of one run, by the names that trackers and callbacks see."""
    numbers: dict[str, float] = {}
    for cell in found.model.cells:
        _add(numbers, f"{cell.dataset}_{cell.metric}", cell.value, cell.low, cell.high)
    for total in found.model.totals:
        weighting = "" if total.weighting == "validation_share" else f"_{total.weighting}"
        # A total that leaves a dataset out is not the one that its name says.
        value = total.value if total.reason is None else None
        _add(numbers, f"{TOTAL}_{total.metric}{weighting}", value, total.low, total.high)
    return numbers


def _add(numbers: dict[str, float], name: str, value: float | None, low: float | None, high: float | None) -> None:
    if value is None:
        return
    numbers[name] = value
    if low is not None and high is not None:
        numbers[f"{name}_low"], numbers[f"{name}_high"] = low, high

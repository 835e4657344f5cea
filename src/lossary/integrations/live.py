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
from lossary.study import Precision, check_name

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
        self._step: int | None = None
        self._numbers: dict[str, float] = {}

    def score(self, model: Any, step: int) -> dict[str, float]:
        """The numbers of a model at a step. A step that was asked for last is not scored again."""
        if step != self._step:
            from lossary.api.evaluate import evaluate

            found = evaluate(
                model,
                self.study,
                run=self.run,
                step=step,
                tokenizer=self.tokenizer,
                precision=self.precision,
                batch_size=self.batch_size,
                note=self._note,
            )
            self._step, self._numbers = step, numbers_of(found)
        return dict(self._numbers)

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

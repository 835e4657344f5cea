"""Scores in a `Trainer` of transformers, at every evaluation.

    from lossary.integrations.transformers import LossaryCallback

    LossaryCallback("my-study", run="mine", tokenizer=tokenizer).attach(trainer)
    trainer.train()

Every evaluation then has `eval_<dataset>_<metric>` and `eval_total_<metric>` (names in `live.py`), so that
`metric_for_best_model="eval_total_mlm_loss"` and early stopping see them. With several evaluation sets, whose callbacks
come one after another, a step is scored once, and its numbers stand in the metrics of the first set. Under several
processes each scores a part of the examples.
"""

from typing import Any, Self

from lossary.api.functions import PathLike
from lossary.api.results import OpenStudy
from lossary.errors import MissingPackage
from lossary.integrations.live import LiveScores
from lossary.study import Precision

try:
    from transformers import EarlyStoppingCallback, TrainerCallback
except ImportError:
    raise MissingPackage("LossaryCallback needs transformers", hint='pip install "lossary[torch]"') from None

__all__ = ["LossaryCallback"]

_PREFIX = "eval_"


class LossaryCallback(TrainerCallback):  # type: ignore[misc]
    """Scores the model on a study's validation set whenever it is evaluated, under the name `run`.

    `tokenizer`: the model's own; None is the one that the Trainer has (`processing_class`), or the study's own where it
    has none. `precision`: None computes as the Trainer evaluates, under bf16 where it does.

    `attach(trainer)` registers it before early stopping and lets it log to all that the Trainer reports to. Given in
    `callbacks=[…]` instead, it has to stand before `EarlyStoppingCallback`, and its numbers reach metrics and
    `trainer_state.json` only: a Trainer logs before it calls back.
    """

    def __init__(
        self,
        study: PathLike | OpenStudy,
        *,
        run: str,
        tokenizer: Any = None,
        precision: Precision | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.live = LiveScores(
            study, run=run, tokenizer=tokenizer, precision=precision or "fp32", batch_size=batch_size
        )
        self._follows_trainer = precision is None
        self._trainer: Any = None
        self._logged: int | None = None
        self._round: tuple[int, set[str]] = (-1, set())

    def attach(self, trainer: Any) -> Self:
        """Registers it with a Trainer, in place: after callbacks that are there, and before early stopping."""
        self._trainer = trainer
        callbacks = trainer.callback_handler.callbacks
        stopping = (at for at, found in enumerate(callbacks) if isinstance(found, EarlyStoppingCallback))
        callbacks.insert(next(stopping, len(callbacks)), self)
        return self

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        *,
        metrics: dict[str, float] | None = None,
        model: Any = None,
        processing_class: Any = None,
        **more: Any,
    ) -> None:
        """Adds the numbers of this step to `metrics`."""
        del control, more
        if self.live.tokenizer is None:
            self.live.tokenizer = processing_class
        if self._follows_trainer:
            self.live.precision = "bf16" if args.bf16 or args.bf16_full_eval else "fp32"
        numbers = {f"{_PREFIX}{name}": value for name, value in self.live.score(model, state.global_step).items()}
        if metrics is not None and self._begins_round(metrics, state.global_step):
            metrics.update(numbers)
        if self._logged != state.global_step:
            self._logged = state.global_step
            self._log(numbers, state)

    def _begins_round(self, metrics: dict[str, float], step: int) -> bool:
        """Whether these are the metrics of the first of several evaluation sets: early stopping counts each it sees."""
        of_set = next((name for name in metrics if name.endswith("_runtime")), "")
        if self._round[0] != step or of_set in self._round[1]:
            self._round = (step, set())
        self._round[1].add(of_set)
        return len(self._round[1]) == 1

    def _log(self, numbers: dict[str, float], state: Any) -> None:
        if self._trainer is not None:
            self._trainer.log(dict(numbers))
        else:
            state.log_history.append({**numbers, "epoch": state.epoch, "step": state.global_step})

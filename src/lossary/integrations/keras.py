"""Scores in a Keras `fit`, at the end of every epoch.

    from lossary.integrations.keras import LossaryCallback

    call = lambda ids, mask, types: model({"token_ids": ids, "padding_mask": mask, …}, training=False)
    model.fit(…, callbacks=[LossaryCallback("my-study", run="mine", call=call, tokenizer=tokenizer), EarlyStopping(…)])

The logs of an epoch then have `val_<dataset>_<metric>` and `val_total_<metric>` (names in `live.py`): `EarlyStopping`
and `ModelCheckpoint` that stand after it may monitor them, and the history keeps them.
"""

from collections.abc import Callable
from typing import Any

from lossary.api.functions import PathLike
from lossary.api.results import OpenStudy
from lossary.errors import MissingPackage
from lossary.integrations.live import LiveScores

try:
    import keras
except ImportError:
    raise MissingPackage(
        "LossaryCallback needs keras", hint='pip install "lossary[tensorflow]" or "lossary[jax]"'
    ) from None

__all__ = ["LossaryCallback"]


class LossaryCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Scores the model on a study's validation set at the end of each epoch, under the name `run`.

    `call` gives logits as `lossary.KerasScorer` has it; `objectives` are what it predicts. `every`: epochs between two.
    """

    def __init__(
        self,
        study: PathLike | OpenStudy,
        *,
        run: str,
        call: Callable[..., Any],
        tokenizer: Any = None,
        objectives: tuple[str, ...] = ("mlm",),
        every: int = 1,
        batch_size: int | None = None,
    ) -> None:
        from lossary.backends.keras.scorer import KerasScorer

        super().__init__()
        self.live = LiveScores(study, run=run, batch_size=batch_size)
        self._scorer = KerasScorer(call, tokenizer, objectives=objectives)
        self._every = every

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the numbers of this epoch to `logs`; the step is that of the optimizer."""
        if (epoch + 1) % self._every or logs is None:
            return
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        logs.update({f"val_{name}": value for name, value in self.live.score(self._scorer, step).items()})

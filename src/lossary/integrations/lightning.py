"""Scores in a Lightning `Trainer`, at the end of every validation.

    from lossary.integrations.lightning import LossaryCallback

    callback = LossaryCallback("my-study", run="mine", tokenizer=tokenizer, model=lambda module: module.bert)
    Trainer(…, callbacks=[callback, ModelCheckpoint(monitor="val_total_mlm_loss")])

It logs `val_<dataset>_<metric>` and `val_total_<metric>` (names in `live.py`). The sanity check before training is not
scored.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lossary.api.functions import PathLike
from lossary.api.results import OpenStudy
from lossary.errors import MissingPackage
from lossary.integrations.live import LiveScores
from lossary.study import Precision

if TYPE_CHECKING:
    _Callback = object
else:
    try:
        # Lightning goes by two names, and a Trainer of one knows the callbacks of its own.
        if "lightning" in sys.modules:
            from lightning.pytorch.callbacks import Callback as _Callback
        else:
            from pytorch_lightning.callbacks import Callback as _Callback
    except ImportError:
        hint = "pip install 'pytorch-lightning!=2.6.2,!=2.6.3'"
        raise MissingPackage("LossaryCallback needs Lightning", hint=hint) from None

__all__ = ["LossaryCallback"]


class LossaryCallback(_Callback):
    """Scores a module's model on a study's validation set at the end of each validation, under the name `run`.

    `model` takes the model of transformers, or a scorer, out of the module; None: the module itself is one.
    """

    def __init__(
        self,
        study: PathLike | OpenStudy,
        *,
        run: str,
        tokenizer: Any = None,
        model: Callable[[Any], Any] | None = None,
        precision: Precision = "fp32",
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.live = LiveScores(study, run=run, tokenizer=tokenizer, precision=precision, batch_size=batch_size)
        self._model = model

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Logs the numbers of this step through the module."""
        if trainer.sanity_checking:
            return
        model = pl_module if self._model is None else self._model(pl_module)
        for name, value in self.live.score(model, trainer.global_step).items():
            # Every rank has the same number already.
            pl_module.log(f"val_{name}", value, rank_zero_only=False, sync_dist=False)

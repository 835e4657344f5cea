"""When a run is stopped because nothing can come of it."""

import math
from typing import Any

import numpy as np

from lossary.errors import DivergenceError
from lossary.training.plan import RunPlan
from lossary.training.sums import Sums

__all__ = ["Guard"]


class Guard:
    """Stops a run that cannot come to anything, before its checkpoint is overwritten."""

    # So many steps in a row above the loss of a uniform guess, by this factor, are no beginning of learning.
    _patience = 50
    _factor = 3.0

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self.uniform = math.log(plan.shape.vocabulary_size)
        self.bad_steps = 0

    def check(self, step: int, sums: Sums, norm: float, rate: float, datasets: list[str]) -> None:
        loss = float(sums["mlm_nats"].sum() / max(1.0, sums["masked"].sum()))
        if not (math.isfinite(loss) and math.isfinite(norm) and np.isfinite(sums["sop_nats"]).all()):
            self._stop(f"step {step:,}: the loss is {loss:g}, the gradient norm {norm:g}", sums, rate, datasets)
        self.bad_steps = self.bad_steps + 1 if loss > self._factor * self.uniform else 0
        if self.bad_steps >= self._patience:
            seen = f"the MLM loss was above {self._factor:g} times a uniform guess for {self.bad_steps} steps"
            self._stop(f"step {step:,}: {seen}, now {loss:.3g}", sums, rate, datasets)

    def check_weights(self, step: int, parameters: dict[str, Any]) -> None:
        bad = [name for name, value in parameters.items() if not np.isfinite(value).all()]
        if bad:
            raise DivergenceError(f"step {step:,}: {len(bad)} parameters hold no numbers, {bad[0]} first", hint=_LOWER)

    def _stop(self, seen: str, sums: Sums, rate: float, datasets: list[str]) -> None:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums["mlm_nats"] / sums["masked"]
        losses = ", ".join(f"{name} {mean:.3g}" for name, mean in zip(datasets, means, strict=True) if mean == mean)
        raise DivergenceError(
            f"{seen}; learning rate {rate:.3g}; MLM by dataset: {losses or 'no number'}",
            where=self.plan.run,
            hint=_LOWER,
        )


_LOWER = (
    "The last good checkpoint is kept. Lower the learning rate: a rate for one batch size is √(b/B) times as "
    "large for another; or warm up longer."
)

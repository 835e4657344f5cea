"""Progress of a run, as it is told: speed, time left, losses."""

import time
from collections import deque
from statistics import median

import numpy as np

from lossary.backends.process import Emit
from lossary.training.sums import SUMS, Sums

__all__ = ["Meter"]

_EVENT_EVERY_S = 0.5
# Of the running means that progress shows, in steps.
_WINDOW = 50


class Meter:
    """Progress events at a bounded rate: speed, time left, losses over the last steps.

    A backend's first step is not counted, since it may compile; steps that compile another shape later, or wait, do
    not move the median. Between steps checkpoints are written and scored: as much of that is expected as there was.
    """

    def __init__(self, emit: Emit, run: str, steps: int) -> None:
        self.emit = emit
        self.run = run
        self.steps = steps
        self._window: list[Sums] = []
        self._seconds: deque[float] = deque(maxlen=_WINDOW)
        self._tokens: deque[int] = deque(maxlen=_WINDOW)
        self._done = 0
        self._between = 0.0
        self._began = self._ended = time.monotonic()
        self._shown = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._began = time.monotonic()
        if self._done:
            self._between += self._began - self._ended

    def show(self, step: int, sums: Sums, datasets: list[str], tokens: int) -> None:
        """A step ended."""
        self._ended = now = time.monotonic()
        self._window = [*self._window[-_WINDOW + 1 :], sums]
        if self._done:
            self._seconds.append(max(now - self._began, 1e-9))
            self._tokens.append(tokens)
        self._done += 1
        if now - self._shown < _EVENT_EVERY_S and step < self.steps:
            return
        self._shown = now
        usual = median(self._seconds) if self._seconds else None
        pooled = {key: np.sum([part[key] for part in self._window], axis=0) for key in SUMS}
        self.emit(
            {
                "event": "progress",
                "run": self.run,
                "step": step,
                "steps": self.steps,
                "tokens_per_s": None if usual is None else float(np.mean(self._tokens)) / usual,
                "eta_s": None if usual is None else (usual + self._between / self._done) * (self.steps - step),
                "loss": {name: _means(pooled, number) for number, name in enumerate(datasets)},
            }
        )


def _means(pooled: Sums, number: int) -> dict[str, float | None]:
    masked, pairs = pooled["masked"][number], pooled["sop_pairs"][number]
    return {
        "mlm": float(pooled["mlm_nats"][number] / masked) if masked else None,
        "sop": float(pooled["sop_nats"][number] / pairs) if pairs else None,
    }

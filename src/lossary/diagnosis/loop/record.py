"""The record of a loop's first steps, as analysis reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Micro", "Record", "Step"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Micro:
    """A micro batch: what was reported of it, and what follows from its logits."""

    loss: float  # as the Trainer adds it up for its log
    sums: Mapping[str, tuple[float, float, float]]  # by targets: losses of targets, of all pieces, number of targets
    slots: int  # rows times length
    rows: int
    part: Floats | None  # (E,) gradient of the sum of the declared loss
    gradient: Floats  # (E,) what had gathered in the weights' gradients after it


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the optimizer."""

    micro: tuple[Micro, ...]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a Trainer did in its first steps."""

    model: str
    trainer: str
    shift: int
    declared: Mapping[str, Any]
    total_steps: int
    steps: tuple[Step, ...]
    problems: tuple[str, ...]

    @cached_property
    def whole(self) -> bool:
        """Whether every micro batch has logits and labels."""
        return bool(self.steps) and not self.problems and all(micro.sums for step in self.steps for micro in step.micro)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Record":
        """From what the worker wrote."""
        steps = tuple(Step(micro=tuple(_micro(one) for one in step["micro"])) for step in value["steps"])
        return cls(**{**value, "problems": tuple(value["problems"]), "steps": steps})


def _micro(value: Mapping[str, Any]) -> Micro:
    """A micro batch without logits has nothing that follows from them."""
    names = Micro.__dataclass_fields__
    blank = {"sums": {}, "slots": 0, "rows": 0, "part": None}
    return Micro(**{**blank, **{name: one for name, one in value.items() if name in names}})

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
    left: Floats | None  # (E,) what was there before the first one of a step
    norms: Floats  # (T,) of `gradient`, each tensor in full
    training: bool | None = None  # whether the model was in training mode
    pads_seen: int = 0  # pads that no attention mask told of


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the optimizer."""

    micro: tuple[Micro, ...]
    used: Floats  # (E,) the gradient that the optimizer was given
    before: Floats  # (E,) weights
    after: Floats
    rates: tuple[float, ...]  # of each group
    without: tuple[str, ...]  # tensors without a gradient


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
    parameters: Mapping[str, int]  # how many elements of each trained tensor were kept, in their order
    float32: bool  # whether weights are kept in it
    dropout: bool  # whether there is any
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]
    logs: tuple[Mapping[str, float], ...]
    evaluated: Mapping[str, Any] | None

    @cached_property
    def whole(self) -> bool:
        """Whether every micro batch has logits and labels."""
        return bool(self.steps) and not self.problems and all(micro.sums for step in self.steps for micro in step.micro)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Record":
        """From what the worker wrote."""
        steps = tuple(
            Step(
                micro=tuple(_micro(one) for one in step["micro"]),
                **{name: step[name] for name in ("used", "before", "after")},
                rates=tuple(step["rates"]),
                without=tuple(step["without"]),
            )
            for step in value["steps"]
        )
        return cls(
            **{**value, "problems": tuple(value["problems"]), "steps": steps, "logs": tuple(value["logs"])},
        )

    def spread(self, values: Floats) -> Floats:
        """Values of tensors (T,) to their elements (E,)."""
        return np.repeat(values, list(self.parameters.values()))

    def of_tensor(self, values: Floats) -> dict[str, Floats]:
        """Values of elements (E,) by tensor."""
        ends = np.cumsum(list(self.parameters.values()))
        return dict(zip(self.parameters, np.split(values, ends[:-1]), strict=True))


def _micro(value: Mapping[str, Any]) -> Micro:
    """A micro batch without logits has nothing that follows from them."""
    names = Micro.__dataclass_fields__
    blank = {"sums": {}, "slots": 0, "rows": 0, "part": None}
    return Micro(**{**blank, **{name: one for name, one in value.items() if name in names}})

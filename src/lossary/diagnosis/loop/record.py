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
    ids: NDArray[np.int64]  # (B, T)
    labels: NDArray[np.int64]  # (B, T), −100 where there is no target
    part: Floats | None  # (E,) gradient of the sum of the declared loss
    gradient: Floats  # (E,) what had gathered in the weights' gradients after it


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the optimizer."""

    micro: tuple[Micro, ...]
    before: Floats  # (E,) weights
    after: Floats
    clipped: Floats  # (E,) gradient that the optimizer was given
    clipped_norm: float  # of the whole of it
    groups: tuple[Mapping[str, Any], ...]  # of the optimizer: settings, and names of tensors


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a Trainer did in its first steps."""

    model: str
    trainer: str
    optimizer: str
    shift: int
    declared: Mapping[str, Any]
    total_steps: int
    tensors: tuple[str, ...]
    sizes: tuple[int, ...]
    steps: tuple[Step, ...]
    logs: tuple[Mapping[str, float], ...]
    problems: tuple[str, ...]

    @cached_property
    def whole(self) -> bool:
        """Whether every micro batch has logits and labels."""
        return bool(self.steps) and not self.problems and all(micro.sums for step in self.steps for micro in step.micro)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Record":
        """From what the worker wrote."""
        steps = tuple(
            Step(**{**_known(Step, step), "micro": tuple(_micro(one) for one in step["micro"])})
            for step in value["steps"]
        )
        return cls(**{**_known(cls, value), "steps": steps})


def _micro(value: Mapping[str, Any]) -> Micro:
    empty = np.zeros((0, 0), np.int64)
    blank = {"sums": {}, "slots": 0, "rows": 0, "ids": empty, "labels": empty, "part": None}
    return Micro(**{**blank, **_known(Micro, value)})


def _known(kind: type, value: Mapping[str, Any]) -> dict[str, Any]:
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items() if key in names}

"""What one line of a log says, and what the lines above say of it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from lossary.results.importers.model import Split

__all__ = ["Field", "Row", "State"]


class Field(NamedTuple):
    """A name and its number as a line has them, and why it is none that can be compared, if it is not."""

    name: str
    value: float
    refused: str | None = None


@dataclass(kw_only=True)
class Row:
    """One line: its place on the axis, its fields, and what its other words say."""

    line: int
    fields: list[Field]
    step: int | None = None
    epoch: float | None = None
    total: int | None = None
    split: Split | None = None
    dataset: str | None = None
    words: str = ""
    rank: str = ""  # the process that wrote it: of several each may say a loss of its own
    part: int = 0  # of a log that starts anew at its first step
    bars: int = 0  # how many were drawn before it
    is_before_all: bool = False  # no line up to it says a step
    is_entry: bool = False  # a dict of transformers' Trainer, whose names have its own prefixes


@dataclass
class State:
    """What lines above say of those below."""

    last: "Row | None" = None
    keras_epoch: int | None = None
    ended: bool = False
    bars: list[tuple[int, int]] = field(default_factory=list)  # done, of how many
    evaluated_after: int = 0
    is_cost_a_word: bool = False  # what Marian trained on is a mean over words
    updates: dict[str, int] = field(default_factory=dict)  # of Sockeye's checkpoints
    unsaid: dict[str, int] = field(default_factory=dict)  # names beside losses with a number of no metric, their lines
    told: set[int] = field(default_factory=set)  # lines that say nothing of their own: bars that are not full

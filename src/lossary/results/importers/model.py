"""The one form that every importer gives: facts (`Tag`), what they mean (`Meaning`), then numbers and curves.

A tag says what a source itself says of a series: its run, its name, the split that the format knows. What the name
means is decided later, for all series of a run together.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ALL",
    "Axis",
    "Curve",
    "ExampleScores",
    "Imported",
    "ImportedDataset",
    "Mapped",
    "Meaning",
    "Number",
    "Role",
    "Split",
    "Tag",
    "Unit",
    "Unread",
    "metric_name",
    "noted",
]

# A loss that is not of one dataset is one of all of them.
ALL = "all"
# `unknown` where nobody says what a number was measured on.
Split = Literal["train", "eval", "test", "unknown"]
Axis = Literal["step", "epoch", "tokens"]
Unit = Literal["nats", "bits"]
Role = Literal[
    "dataset", "run", "split", "step", "epoch", "tokens", "metric", "value",
    "train_rows", "train_share", "validation_share", "ignore",
]  # fmt: skip


class Tag(NamedTuple):
    """What a source says of one series, before its name is understood.

    `core` is what the grammar of names is to read: the name without what the format itself says. `refused` is the
    reason why the format knows it for no point of a curve.
    """

    run: str
    name: str
    core: str
    split: Split | None = None
    dataset: str | None = None
    axis: Axis = "step"
    unit: Unit = "nats"
    refused: str | None = None


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a series is of: `metric` without its split (`mlm_loss`, `loss`), `statistic` where it is no plain value."""

    dataset: str
    metric: str
    split: Split
    statistic: str = ""


def metric_name(metric: str, split: Split) -> str:
    """The name that a metric has in a table: one of training or of a test set says so, `train_mlm_loss`."""
    return f"{split}_{metric}" if split in ("train", "test") else metric


def noted(said: str, names: list[str], most: int = 8) -> str:
    """A note of many places at once: the first ones, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{said}: {'; '.join(names[:most])}{more}"


@dataclass(frozen=True, kw_only=True)
class Number:
    """A printed number, `text` as it stands on the page; `dataset` None is a total, `rounding` half its last unit.

    `reading` is the name that it has in the file and what that was taken for.
    """

    run: str
    dataset: str | None
    metric: str
    value: float
    text: str
    rounding: float
    link: str | None = None
    section: str | None = None
    step: int | None = None
    place: str = ""
    statistic: str = "printed"
    reading: str = ""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points of one run, dataset and metric; `metric` is without its split. step, value: (N,), by step."""

    run: str
    dataset: str
    metric: str
    split: Split
    step: NDArray[np.int64]
    value: NDArray[np.float64]
    axis: Axis = "step"
    place: str = ""
    section: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExampleScores:
    """What a run got on each example of a dataset under one metric, whose number is Σ y / Σ x; (N,) each, by `example`.

    `content` digests what was asked: an example of two runs is the same one if its name and its content are.
    """

    run: str
    dataset: str
    metric: str
    example: list[str]
    content: list[str]
    y: NDArray[np.float64]  # NaN where the evaluation gave no number
    x: NDArray[np.float64]  # 1 of a mean over examples
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class ImportedDataset:
    """A row of a table: what it says of the dataset."""

    name: str
    train_rows: int | None = None
    train_share: float | None = None
    validation_share: float | None = None
    train_share_rounding: float = 0.0
    validation_share_rounding: float = 0.0
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """How a column or series of a file was understood; `reason` if left out; `conflict` if two had one place."""

    source: str
    meaning: str
    reason: str | None = None
    run: str = ""
    dataset: str = ""
    metric: str = ""
    points: int = 0
    axis: str = ""
    conflict: bool = False
    file: str = ""


class Unread(NamedTuple):
    """How many lines look like data and were not read, and the first ones, each with its place."""

    total: int = 0
    first: tuple[str, ...] = ()

    def joined(self, other: "Unread") -> "Unread":
        """Those of two files as one."""
        return Unread(self.total + other.total, self.first + other.first)

    def behind(self, place: str) -> "Unread":
        """The same with what they are lines of: a cell of a notebook, a file of a folder."""
        return self._replace(first=tuple(f"{place}, {shown}" for shown in self.first))

    def note(self, most: int = 5) -> list[str]:
        """The note that tells of them, if there are any."""
        shown = "; ".join(self.first[:most]) + (f" and {self.total - most} more" if self.total > most else "")
        said = "1 line looks like data and was" if self.total == 1 else f"{self.total:,} lines look like data and were"
        return [f"{said} not read: {shown}"] if self.total else []


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What one file or folder holds."""

    path: str
    kind: str
    datasets: list[ImportedDataset] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    examples: list[ExampleScores] = field(default_factory=list)
    mapping: list[Mapped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: set[int] = field(default_factory=set)  # of its file: those that were read or that a note tells of
    unread: Unread = field(default_factory=Unread)

    @property
    def runs(self) -> set[str]:
        """The runs that it has anything of."""
        of_points = {curve.run for curve in self.curves} | {number.run for number in self.numbers}
        return of_points | {scores.run for scores in self.examples}

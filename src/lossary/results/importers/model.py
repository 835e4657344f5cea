"""The one form that every importer gives: numbers of a table, points of curves, and how names were understood."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ALL",
    "Curve",
    "ImportedDataset",
    "ImportedMetric",
    "Imported",
    "Mapped",
    "Number",
    "Role",
]

# A loss that is not of one dataset is one of all of them.
ALL = "all"
ImportedMetric = Literal["mlm_loss", "mlm_accuracy", "sop_loss", "sop_accuracy"]
Role = Literal["dataset", "train_rows", "train_share", "validation_share", "ignore"]


@dataclass(frozen=True, kw_only=True)
class Number:
    """A printed number, `text` as it stands on the page; `dataset` None is a total, `rounding` half its last unit."""

    run: str
    dataset: str | None
    metric: ImportedMetric
    value: float
    text: str
    rounding: float
    link: str | None = None
    section: str | None = None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points of one run, dataset and metric; `split` tells training from evaluation. step, value: (N,), by step."""

    run: str
    dataset: str
    metric: ImportedMetric
    split: Literal["train", "eval"]
    step: NDArray[np.int64]
    value: NDArray[np.float64]


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
    """How a column or series was understood; `reason` if it was left out."""

    source: str
    meaning: str
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What one file holds."""

    path: str
    kind: str
    datasets: list[ImportedDataset] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    mapping: list[Mapped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

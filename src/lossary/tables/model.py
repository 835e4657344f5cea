"""The table model: one for terminal, Markdown, CSV, JSON and LaTeX, so that a number cannot disagree with itself."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["METRICS", "WEIGHTINGS", "Cell", "DatasetRow", "Metric", "RunColumn", "Table", "Total", "Weighting"]

Metric = Literal["mlm_loss", "mlm_accuracy", "sop_loss", "sop_accuracy"]
METRICS: tuple[Metric, ...] = ("mlm_loss", "mlm_accuracy", "sop_loss", "sop_accuracy")
Weighting = Literal["validation_share", "train_share", "macro"]
WEIGHTINGS: tuple[Weighting, ...] = ("validation_share", "train_share", "macro")
Standing = Literal["below", "at", "above"]


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A dataset: rows it trains on, its shares, its link."""

    name: str
    train_rows: int
    train_share: float
    validation_share: float
    validation_examples: int
    link: str | None


@dataclass(frozen=True, kw_only=True)
class RunColumn:
    """A run at the step it was scored at; None where a foreign checkpoint does not say."""

    name: str
    backend: str
    size: str
    step: int
    tokens: int | None
    datasets: list[str] | None  # trained on
    device: str
    precision: str
    weights_digest: str
    link: str | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number with what it takes to trust it, or the reason why there is none."""

    run: str
    dataset: str
    metric: Metric
    value: float | None
    low: float | None
    high: float | None
    variance: float | None  # of the value, by sampling of validation examples
    n: int  # examples (pairs for SOP)
    unit: Literal["nats", "fraction"]
    interval: str
    reason: str | None
    floor: float | None  # unigram entropy for MLM loss, label entropy for SOP loss
    standing: Standing | None  # of the interval against the floor
    step: int
    validation_digest: str
    link: str | None


@dataclass(frozen=True, kw_only=True)
class Total:
    """A number over all datasets; the weighting is part of its name."""

    run: str
    metric: Metric
    weighting: Weighting
    value: float | None
    low: float | None
    high: float | None
    n: int
    interval: str
    reason: str | None
    link: str | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table of one study on one validation set."""

    study: str
    datasets: list[DatasetRow]
    runs: list[RunColumn]
    cells: list[Cell]
    totals: list[Total]
    notes: list[str] = field(default_factory=list)
    signature: str
    validation_digest: str
    tokenizer_digest: str

    def cell(self, run: str, dataset: str, metric: Metric) -> Cell:
        """The cell at a place; every place has one."""
        return self._cells[run, dataset, metric]

    def total(self, run: str, metric: Metric, weighting: Weighting) -> Total:
        """The total of a run's metric under a weighting."""
        found = (t for t in self.totals if (t.run, t.metric, t.weighting) == (run, metric, weighting))
        return next(found)

    @property
    def _cells(self) -> dict[tuple[str, str, str], Cell]:
        return {(cell.run, cell.dataset, cell.metric): cell for cell in self.cells}

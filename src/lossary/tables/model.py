"""The table model: one for terminal, Markdown, CSV, JSON and LaTeX, so that a number cannot disagree with itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Literal

from lossary.objectives import OBJECTIVES, metrics_of, objective_of

__all__ = [
    "METRICS",
    "WEIGHTINGS",
    "Cell",
    "DatasetRow",
    "Delta",
    "Measure",
    "Metric",
    "RunColumn",
    "SeedSpreadRow",
    "SequentialAnswer",
    "Standing",
    "Table",
    "Total",
    "Unit",
    "Weighting",
    "is_across_vocabularies",
    "measure_of",
    "with_objectives",
]

# `[train_|test_][objective_]quantity`: `mlm_loss`, `accuracy`, `train_loss`, `nsp_accuracy`, `test_mlm_perplexity`.
Metric = str
# What scores are measured by; an imported table has what its pages have.
METRICS: tuple[Metric, ...] = tuple(metrics_of(OBJECTIVES))
# `reported` is what an imported page calls its total: it does not say how it weights.
Weighting = Literal["validation_share", "train_share", "macro", "reported"]
WEIGHTINGS: tuple[Weighting, ...] = ("validation_share", "train_share", "macro")
Standing = Literal["below", "at", "above"]
Unit = Literal["nats", "fraction", "perplexity", "bits a byte"]
_QUANTITIES: dict[str, tuple[Unit, str]] = {
    "loss": ("nats", "loss"),
    "accuracy": ("fraction", "acc"),
    "perplexity": ("perplexity", "perplexity"),
    "bits_per_byte": ("bits a byte", "bits per byte"),
}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a metric is: all that views and rules ask of it follows from its name."""

    name: Metric
    title: str
    unit: Unit
    lower_is_better: bool
    objective: str | None  # None where nobody says what is predicted
    split: Literal["train", "test"] | None  # None: validation, or not said


@cache
def measure_of(metric: Metric) -> Measure:
    """A metric by its name: a split, an objective, a quantity."""
    first, _, rest = metric.partition("_")
    split: Literal["train", "test"] | None = first if first in ("train", "test") and rest else None  # type: ignore[assignment]
    plain = rest if split else metric
    quantity = next((name for name in _QUANTITIES if plain.endswith(name)), "loss")
    objective = plain.removesuffix(quantity).rstrip("_")
    unit, shown = _QUANTITIES[quantity]
    known = OBJECTIVES[objective].title if objective in OBJECTIVES else objective.replace("_", " ")
    return Measure(
        name=metric,
        title=" ".join(part for part in (split or "", known, shown) if part),
        unit=unit,
        lower_is_better=quantity != "accuracy",
        objective=objective if objective in OBJECTIVES else None,
        split=split,
    )


def is_across_vocabularies(metric: Metric) -> bool:
    """Whether a metric is of the text, not of pieces: numbers of two vocabularies may be compared."""
    return measure_of(metric).unit == "bits a byte"


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A dataset: rows it trains on, its shares, its link; None where an imported page does not say."""

    name: str
    train_rows: int | None
    train_share: float | None
    validation_share: float | None
    validation_examples: int | None
    link: str | None
    validation_digest: str | None = None  # of its frozen examples
    # Half a unit of the last digit that an imported page prints.
    train_share_rounding: float = 0.0
    validation_share_rounding: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunColumn:
    """A run at the step it was scored at; None where a foreign checkpoint does not say."""

    name: str
    backend: str | None
    size: str | None
    step: int | None
    tokens: int | None
    datasets: list[str] | None  # trained on
    device: str | None
    precision: str | None
    weights_digest: str | None
    link: str | None
    seed: int | None = None
    section: str | None = None  # of an imported page: runs that stood in one table
    tokenizer: str | None = None  # "same" where the checkpoint holds the study's vocabulary; None: nobody compared
    vocabulary: str | None = None  # that it was scored in, for people and as a digest; None where nobody says
    vocabulary_digest: str | None = None
    vocabulary_size: int | None = None  # of one that is not the study's


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
    unit: Unit
    interval: str
    reason: str | None
    floor: float | None  # unigram entropy for MLM loss, label entropy for SOP loss
    standing: Standing | None  # of the interval against the floor
    step: int | None
    validation_digest: str | None
    link: str | None
    reported: str | None = None  # the number as an imported page prints it
    rounding: float = 0.0  # half a unit of its last digit
    place: str | None = None  # where an import found it: file, line or name in it
    has_own_step: bool = False  # where the datasets of an import were last measured at different steps
    statistic: str | None = None  # of an import: whether it was printed, or which point of a curve it is
    reading: str | None = None  # of an import: the name in the file, and what it was taken for


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
    variance: float | None = None
    reported: str | None = None
    rounding: float = 0.0
    place: str | None = None
    statistic: str | None = None
    reading: str | None = None


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A run against the base on the examples that both were scored on; `dataset` None is the total by validation share.

    `p` is two-sided, `adjusted_p` after Holm over all deltas of the table.
    """

    run: str
    base: str
    dataset: str | None
    metric: Metric
    value: float | None
    low: float | None
    high: float | None
    variance: float | None
    n: int
    unmatched: int
    p: float | None
    adjusted_p: float | None
    differs: bool | None
    examples_paired: int | None  # that would show it with power 0.8
    examples_unpaired: int | None
    reason: str | None
    degrees: float | None = None  # of freedom of the variance


@dataclass(frozen=True, kw_only=True)
class SeedSpreadRow:
    """A number over runs that differ in their seed only: another source of error than the sampling of examples."""

    runs: list[str]
    dataset: str | None  # None: the total by validation share
    metric: Metric
    mean: float
    deviation: float  # sample standard deviation between seeds


@dataclass(frozen=True, kw_only=True)
class SequentialAnswer:
    """How a run differs from a base by a random part of the examples, scored until it was clear; in no cell.

    All intervals of a run hold at once with probability 1 − `level`, wherever each dataset stopped.
    """

    run: str
    step: int
    base: str
    base_step: int
    dataset: str | None  # None: the total by validation share
    metric: Metric
    unit: Unit
    rule: str
    level: float
    margin: float | None  # None: whether there is a difference at all
    value: float | None  # run minus base
    low: float | None
    high: float | None
    examples: int  # scored
    available: int
    answer: Literal["equal", "differs", "undecided"]
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table of one study on one validation set, or of one imported page."""

    study: str
    datasets: list[DatasetRow]
    runs: list[RunColumn]
    cells: list[Cell]
    totals: list[Total]
    notes: list[str] = field(default_factory=list)
    signature: str
    validation_digest: str | None
    tokenizer_digest: str | None
    base: str | None = None
    deltas: list[Delta] = field(default_factory=list)
    seed_spreads: list[SeedSpreadRow] = field(default_factory=list)
    sequential: list[SequentialAnswer] = field(default_factory=list)

    def cell(self, run: str, dataset: str, metric: Metric) -> Cell:
        """The cell at a place; every place has one."""
        return self._cells[run, dataset, metric]

    def total(self, run: str, metric: Metric, weighting: Weighting) -> Total:
        """The total of a run's metric under a weighting; every place has one, save for `reported`: KeyError."""
        return self._totals[run, metric, weighting]

    def find_total(self, run: str, metric: Metric, weighting: Weighting) -> Total | None:
        """As `total`, or None: not every imported page prints one."""
        return self._totals.get((run, metric, weighting))

    def delta(self, run: str, dataset: str | None, metric: Metric) -> Delta | None:
        """The difference of a run to the base."""
        return self._deltas.get((run, dataset, metric))

    @cached_property
    def metrics(self) -> list[Metric]:
        """The metrics that have a value anywhere: those of studies first, then validation before training and tests."""
        having = dict.fromkeys(cell.metric for cell in self.cells if cell.value is not None)
        having |= dict.fromkeys(total.metric for total in self.totals if total.value is not None)
        known = [metric for metric in METRICS if metric in having]
        others = [metric for metric in having if metric not in METRICS]
        return known + sorted(others, key=lambda metric: (measure_of(metric).split or "", metric != "loss", metric))

    @cached_property
    def measured(self) -> list[Metric]:
        """The metrics that have a cell, with a value or the reason why there is none."""
        return list(dict.fromkeys(cell.metric for cell in self.cells))

    @property
    def objectives(self) -> list[str]:
        """What its runs were scored on."""
        found = (objective_of(metric) for metric in self.measured)
        return list(dict.fromkeys(objective.name for objective in found if objective is not None))

    @property
    def is_across_vocabularies(self) -> bool:
        """Whether its runs were scored in several vocabularies: only bits a byte compare them all."""
        return len({run.vocabulary_digest for run in self.runs if run.vocabulary_digest}) > 1

    @property
    def shown(self) -> list[Metric]:
        """The metrics with a value that are shown unless others are asked for: bits a byte where they are needed."""
        keeps = self.is_across_vocabularies or self.has_own_metrics
        return [metric for metric in self.metrics if keeps or not is_across_vocabularies(metric)]

    @property
    def compared(self) -> list[Metric]:
        """The losses, and bits a byte where they are needed: what differences between runs are drawn of.

        Tasks that others evaluated may have accuracies only.
        """
        found = [measure_of(metric) for metric in self.shown]
        units = {"nats", "bits a byte"} | ({"fraction"} if self.has_own_metrics and not self.is_imported else set())
        return [m.name for m in found if m.unit in units and m.split is None]

    @property
    def losses(self) -> list[Metric]:
        """The losses of validation that have a value."""
        found = [measure_of(metric) for metric in self.metrics]
        return [measure.name for measure in found if measure.unit == "nats" and measure.split is None]

    @property
    def main_loss(self) -> Metric:
        """What runs are ranked by: the loss of masked words, else the first that there is; bits across vocabularies."""
        if self.is_across_vocabularies and (bits := [m for m in self.metrics if is_across_vocabularies(m)]):
            return bits[0]
        others = [metric for metric in self.metrics if measure_of(metric).unit == "nats"]
        preferred = [metric for metric in ("mlm_loss", "clm_loss", "loss") if metric in self.losses]
        return next(iter([*preferred, *self.losses, *others, *self.metrics, "mlm_loss"]))

    @property
    def is_imported(self) -> bool:
        """Whether its numbers come from somebody's page rather than from scores."""
        return self.validation_digest is None

    @property
    def has_own_metrics(self) -> bool:
        """Whether each dataset has metrics of its own, as pages and tasks do; those of a study have the same."""
        return self.tokenizer_digest is None

    @cached_property
    def _cells(self) -> dict[tuple[str, str, str], Cell]:
        return {(cell.run, cell.dataset, cell.metric): cell for cell in self.cells}

    @cached_property
    def _totals(self) -> dict[tuple[str, str, str], Total]:
        return {(total.run, total.metric, total.weighting): total for total in self.totals}

    @cached_property
    def _deltas(self) -> dict[tuple[str, str | None, str], Delta]:
        return {(delta.run, delta.dataset, delta.metric): delta for delta in self.deltas}


def with_objectives(table: Table, objectives: Sequence[str]) -> Table:
    """The table with places for objectives that none of its runs was scored on, each with the reason."""
    absent = [OBJECTIVES[name] for name in objectives if name not in table.objectives]
    cells, totals = list(table.cells), list(table.totals)
    for objective in absent:
        nothing = {"value": None, "low": None, "high": None, "variance": None, "n": 0, "interval": "", "link": None}
        nothing |= {"reason": objective.lacking}
        for metric in objective.metrics:
            unit = measure_of(metric).unit
            cells += [
                replace(cell, metric=metric, unit=unit, floor=None, standing=None, **nothing)  # type: ignore[arg-type]
                for cell in table.cells
                if cell.metric == table.measured[0]
            ]
            totals += [
                replace(total, metric=metric, **nothing)  # type: ignore[arg-type]
                for total in table.totals
                if total.metric == table.measured[0]
            ]
    order = metrics_of(objectives)
    rows = [row.name for row in table.datasets]
    runs = [run.name for run in table.runs]
    return replace(
        table,
        cells=sorted(cells, key=lambda c: (runs.index(c.run), rows.index(c.dataset), order.index(c.metric))),
        totals=totals,
    )

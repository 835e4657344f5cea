"""The best step of a run: by one total over datasets, among the steps that were scored; of equal ones the earliest.

best_step(study, folder, "torch_xxl", Criterion.parse("mlm_loss:macro"))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lossary.data.batches import training_shares
from lossary.data.parts import present_validation
from lossary.data.shards import MANIFEST
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.results.records import read_header
from lossary.results.scorefile import ScoreFile
from lossary.statistics.estimates import weighted_mean
from lossary.study import Study
from lossary.tables.model import METRICS, WEIGHTINGS, Metric, Weighting, measure_of
from lossary.tables.scores import file_estimates

__all__ = [
    "Best",
    "BestStep",
    "Criterion",
    "StepChoice",
    "best_step",
    "parse_step",
    "prepared_length",
    "total_of",
    "weights_of",
]


@dataclass(frozen=True)
class Best:
    """Each run's best step, by `METRIC[:WEIGHTING]`; what is not said is what the table is ranked by."""

    criterion: str = ""


# None: the last one that there is.
StepChoice = int | Best | None


def parse_step(text: str | None, *, where: str = "--step") -> StepChoice:
    """`last`, a number, or `best[:METRIC[:WEIGHTING]]`. Raises UsageError."""
    if text is None or text == "last":
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    word, colon, criterion = text.partition(":")
    if word != "best" or (colon and not criterion):
        hint = "A number, last, or best[:METRIC[:WEIGHTING]]."
        raise UsageError(f"no step is called {text!r}", where=where, hint=hint)
    return Best(criterion)


@dataclass(frozen=True)
class Criterion:
    """A total that steps are compared by; without a metric, that of the first loss that each run has."""

    metric: Metric = "mlm_loss"
    weighting: Weighting = "validation_share"

    @classmethod
    def parse(
        cls, text: str, *, where: str, metrics: Sequence[Metric] = METRICS, weighting: Weighting = "validation_share"
    ) -> Self:
        """`metric` or `metric:weighting`, of some metrics and with a weighting where none is said. UsageError."""
        metric, _, said = text.partition(":")
        if metric not in metrics or (said and said not in WEIGHTINGS):
            raise UsageError(
                f"no total is called {text!r}",
                where=where,
                hint=f"Metrics: {', '.join(metrics)}; after a colon, how it is weighted: {', '.join(WEIGHTINGS)}.",
            )
        return cls(metric, next((known for known in WEIGHTINGS if known == said), weighting))

    def better(self, first: float, second: float) -> bool:
        """Whether the first value is better than the second."""
        return first < second if measure_of(self.metric).lower_is_better else first > second

    def __str__(self) -> str:
        return f"{self.metric}, total by {self.weighting.replace('_', ' ')}"


@dataclass(frozen=True, kw_only=True)
class BestStep:
    """The step that was chosen, its total, and the steps that it was chosen from."""

    step: int
    value: float
    steps: list[int]


def best_step(
    study: Study, folder: StudyFolder, run: str, criterion: Criterion, *, until: int | None = None
) -> BestStep | None:
    """The best step of a run on the study's validation set, all of it, up to a step; None if none has such a total."""
    validation = present_validation(study, folder)
    weights = weights_of(study, folder, criterion.weighting, validation)
    totals: dict[int, float] = {}
    for path in sorted((folder.run(run) / "scores").glob("*.parquet")):
        if until is not None and int(path.stem) > until:
            continue
        header = read_header(path)
        # A step is not better for a dataset that it was not scored on.
        if all(header.part(name) == validation["parts"][name] for name in weights):
            value = total_of(path, weights, criterion.metric)
            if value is not None:
                totals[header.step] = value
    best: int | None = None
    for step, value in totals.items():
        if best is None or criterion.better(value, totals[best]):
            best = step
    return None if best is None else BestStep(step=best, value=totals[best], steps=list(totals))


def total_of(path: Path, weights: dict[str, float], metric: Metric) -> float | None:
    """The total of a file of scores as the table has it: datasets without a value are left out; None if all are."""
    estimates = file_estimates(ScoreFile(path), list(weights))
    parts = [(weight, estimates[name].get(metric)) for name, weight in weights.items()]
    return weighted_mean([(w, part) for w, part in parts if part is not None and part.value is not None]).value


def prepared_length(study: Study, folder: StudyFolder, datasets: Sequence[str]) -> int | None:
    """The shortest length of a run that the datasets are prepared for: runs may be newer than what is prepared."""
    lengths = sorted({study.recipe_of(run).sequence_length for run in study.runs})
    return next((n for n in lengths if all((folder.spans(name, n) / MANIFEST).is_file() for name in datasets)), None)


def weights_of(
    study: Study, folder: StudyFolder, weighting: Weighting, validation: Mapping[str, Any]
) -> dict[str, float]:
    """How much each dataset of the validation set counts in a total; empty where shares are not known."""
    described = validation["per_dataset"]
    if weighting == "train_share":
        length = prepared_length(study, folder, list(described))
        return {} if length is None else training_shares(study, folder, length, list(described))
    return {name: row["share"] if weighting == "validation_share" else 1.0 for name, row in described.items()}

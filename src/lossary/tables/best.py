"""The best step of a run: by one total over datasets, among the steps that were scored; of equal ones the earliest.

best_step(study, folder, "torch_xxl", Criterion.parse("mlm_loss:macro"))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from lossary.data.batches import training_shares
from lossary.data.parts import present_validation
from lossary.data.shards import MANIFEST
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.results.records import read_header
from lossary.results.scorefile import ScoreFile
from lossary.statistics.estimates import Estimate, weighted_mean
from lossary.study import Study
from lossary.tables.model import METRICS, WEIGHTINGS, Metric, Weighting, measure_of
from lossary.tables.own_scores import score_files
from lossary.tables.scores import file_estimates

__all__ = [
    "Best",
    "BestStep",
    "Criterion",
    "StepChoice",
    "Totals",
    "best_of",
    "best_step",
    "lacking_notes",
    "parse_step",
    "prepared_length",
    "step_totals",
    "totals_on_one_set",
    "weights_of",
]


@dataclass(frozen=True)
class Best:
    """Each run's best step, by `METRIC[:WEIGHTING]`; what is not said is what the table is ranked by."""

    criterion: str = ""


# A step, a run, or a file of scores.
Key = TypeVar("Key")
_NOTHING = Estimate(value=None, reason="not what it was scored on")
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


@dataclass(frozen=True)
class Totals(Generic[Key]):
    """Totals over one set of datasets, and what has none: by step or run, the datasets that it lacks and why."""

    datasets: list[str]
    values: dict[Key, float]
    lacking: dict[Key, dict[str, str]]


def best_step(
    study: Study, folder: StudyFolder, run: str, criterion: Criterion, *, until: int | None = None
) -> BestStep | None:
    """The best step of a run on the study's validation set, all of it, up to a step; None if none has such a total."""
    return best_of(step_totals(study, folder, run, criterion, until=until), criterion)


def best_of(totals: Totals[int], criterion: Criterion) -> BestStep | None:
    """The best of the steps that have a total, of equal ones the earliest; None if there are none."""
    best: int | None = None
    for step, value in totals.values.items():
        if best is None or criterion.better(value, totals.values[best]):
            best = step
    return None if best is None else BestStep(step=best, value=totals.values[best], steps=list(totals.values))


def step_totals(
    study: Study, folder: StudyFolder, run: str, criterion: Criterion, *, until: int | None = None
) -> Totals[int]:
    """The totals of a run's steps over every dataset that one of them has a value of.

    Steps that were not scored on all of the validation set, or have no value where others have one, have no total.
    """
    validation = present_validation(study, folder)
    weights = weights_of(study, folder, criterion.weighting, validation)
    files, unscored = dict[int, Path](), dict[int, dict[str, str]]()
    for path in score_files(folder, run):
        if until is not None and int(path.stem) > until:
            continue
        header = read_header(path)
        # A step is not better for a dataset that it was not scored on.
        if lacking := [name for name in weights if header.part(name) != validation["parts"][name]]:
            unscored[header.step] = dict.fromkeys(lacking, "not all of its examples are scored")
        else:
            files[header.step] = path
    found = totals_on_one_set(files, weights, criterion.metric)
    return replace(found, lacking=dict(sorted((unscored | found.lacking).items())))


def totals_on_one_set(files: Mapping[Key, Path], weights: Mapping[str, float], metric: Metric) -> Totals[Key]:
    """The totals of files of scores over every dataset that one of them has a value of, as the table has them.

    A file that lacks one of these values has no total: over fewer datasets it would be of something else. A dataset
    without a value anywhere is left out of all; without any, there are no totals, and nothing is lacking.
    """
    found: dict[Key, dict[str, Estimate]] = {}
    for key, path in files.items():
        estimates = file_estimates(ScoreFile(path), list(weights))
        found[key] = {name: estimates[name].get(metric, _NOTHING) for name in weights}
    names = [name for name in weights if any(of_file[name].value is not None for of_file in found.values())]
    totals = Totals[Key](names, {}, {})
    for key, of_file in found.items():
        lacking = {name: of_file[name].reason or "" for name in names if of_file[name].value is None}
        if lacking:
            totals.lacking[key] = lacking
            continue
        total = weighted_mean([(weights[name], of_file[name]) for name in names]).value
        if total is not None:
            totals.values[key] = total
    return totals


def lacking_notes(run: str, totals: Totals[int], metric: Metric) -> list[str]:
    """Which steps of a run were not compared with its others, and for want of which datasets."""
    steps: dict[str, list[str]] = {}
    for step, names in totals.lacking.items():
        steps.setdefault(", ".join(names), []).append(f"{step:,}")
    return [
        f"{run}: no {metric} of {names} at {'step' if len(alike) == 1 else 'steps'} {', '.join(alike)}: "
        "left out of the choice of the best step"
        for names, alike in steps.items()
    ]


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

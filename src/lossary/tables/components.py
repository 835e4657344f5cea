"""Components of variance of repeats that were scored here, by dataset and in total."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lossary.objectives import objective_of
from lossary.results.scorefile import ScoreFile
from lossary.statistics.components import Components, components
from lossary.statistics.estimates import Estimate, weighted_mean
from lossary.tables.deltas import compare_files
from lossary.tables.model import Metric
from lossary.tables.scores import file_estimates

__all__ = ["ComponentsRow", "components_of"]


@dataclass(frozen=True, kw_only=True)
class ComponentsRow:
    """What moves one number; groups are in the order of `configurations`."""

    dataset: str | None  # None: the total
    configurations: list[list[str]]
    found: Components


def components_of(
    groups: Sequence[Sequence[Path]], weights: Mapping[str, float], metric: Metric
) -> list[ComponentsRow]:
    """A row for each dataset and the total of files of scores in groups that differ in their seed alone.

    Empty where no group has two. A dataset that a file has no number of is left out.
    """
    if all(len(group) < 2 for group in groups):
        return []
    objective = objective_of(metric)
    asked = [] if objective is None else [objective.name]
    names = list(weights)
    known = {path: _with_total(file_estimates(ScoreFile(path), names), weights, metric) for g in groups for path in g}
    pairs = [
        _with_total(compare_files(ScoreFile(a), ScoreFile(b), names, asked).estimates, weights, metric)
        for group in groups
        for a, b in pairwise(group)
    ]
    rows = []
    for name in [*names, None]:
        values = [[known[path][name].value for path in group] for group in groups]
        if any(value is None for group in values for value in group):
            continue
        variances = [variance for pair in pairs if (variance := pair[name].variance) is not None]
        # Each of two runs brings half of what the examples do to their difference.
        noise = sum(variances) / len(variances) / 2 if variances else 0.0
        found = components([[value or 0.0 for value in group] for group in values], noise=noise)
        if found is not None:
            runs = [[path.parent.parent.name for path in group] for group in groups]
            rows.append(ComponentsRow(dataset=name, configurations=runs, found=found))
    return rows


def _with_total(
    of_file: Mapping[str, Mapping[Metric, Estimate]], weights: Mapping[str, float], metric: Metric
) -> dict[str | None, Estimate]:
    nothing = Estimate(value=None, reason="not measured")
    found: dict[str | None, Estimate] = {name: of_file[name].get(metric, nothing) for name in weights}
    found[None] = weighted_mean([(weight, found[name]) for name, weight in weights.items()])
    return found

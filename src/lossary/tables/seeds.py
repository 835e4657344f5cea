"""Spread over seeds: runs of a study that differ in nothing but their seed, put beside each other."""

import json
from collections.abc import Sequence

from lossary.folder import StudyFolder
from lossary.statistics.seeds import seed_spread
from lossary.study import Study
from lossary.tables.begun import begun_with, recipe_begun
from lossary.tables.model import Cell, SeedSpreadRow, Total

__all__ = ["configurations", "seed_spreads"]


def seed_spreads(
    opened: tuple[Study, StudyFolder], runs: Sequence[str], cells: Sequence[Cell], totals: Sequence[Total]
) -> list[SeedSpreadRow]:
    """A row for each group of runs, dataset (None: the total by validation share) and metric that has values."""
    found = []
    for group in (group for group in configurations(opened, runs) if len(group) > 1):
        for metric in dict.fromkeys(cell.metric for cell in cells):
            values: dict[str | None, list[float]] = {}
            for cell in cells:
                if cell.run in group and cell.metric == metric and cell.value is not None:
                    values.setdefault(cell.dataset, []).append(cell.value)
            for total in totals:
                if (total.metric, total.weighting) == (metric, "validation_share") and total.run in group:
                    values.setdefault(None, []).extend([] if total.value is None else [total.value])
            for dataset, of_seeds in values.items():
                spread = seed_spread(of_seeds)
                if spread is not None and spread.seeds == len(group):
                    found.append(
                        SeedSpreadRow(
                            runs=group, dataset=dataset, metric=metric, mean=spread.mean, deviation=spread.deviation
                        )
                    )
    return found


def configurations(opened: tuple[Study, StudyFolder], runs: Sequence[str]) -> list[list[str]]:
    """Runs of the study in groups that differ in nothing but their seed; a run that has no such others stands alone."""
    study, folder = opened
    groups: dict[str, list[str]] = {}
    for run in (run for run in runs if run in study.runs):
        groups.setdefault(_apart_from_the_seed(study, folder, run), []).append(run)
    return [
        part
        for group in groups.values()
        for part in ([group] if _differ_in_seed(opened, group) else [[run] for run in group])
    ]


def _differ_in_seed(opened: tuple[Study, StudyFolder], group: list[str]) -> bool:
    return len(group) > 1 and len({recipe_begun(*opened, run)["seed"] for run in group}) == len(group)


def _apart_from_the_seed(study: Study, folder: StudyFolder, run: str) -> str:
    """All that a run's weights depend on but its seed: of a run that was begun, its own mixture and schedules."""
    settings = study.runs[run]
    recipe = {name: value for name, value in recipe_begun(study, folder, run).items() if name != "seed"}
    start = None if settings.start is None else settings.start.model_dump()
    begun = begun_with(folder, run)
    own = study.datasets_of(run) if begun is None else [begun.datasets, begun.shares, list(map(vars, begun.schedules))]
    return json.dumps([settings.backend, settings.size_value, start, own, recipe], sort_keys=True)

"""Where the links of a page lead: anchors in the one-file report, addresses in the dashboard.

Views ask a `Links` and never build an address themselves, so that the same templates serve both.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from lossary.tables.model import Metric

__all__ = ["Anchors", "Ids", "Links"]


class Links(Protocol):
    """Addresses of the places of a page; None where the page has no such place."""

    def run(self, run: str) -> str | None:
        """Where a run is described."""

    def dataset(self, dataset: str) -> str | None:
        """Where a dataset is described."""

    def curves(self, dataset: str, metric: Metric) -> str | None:
        """The chart of a metric in training."""

    def examples(self, dataset: str) -> str | None:
        """The examples of a dataset."""

    def origin(self, run: str, dataset: str | None, metric: Metric) -> str | None:
        """Where an imported number is said to come from; of a printed total `dataset` is None."""


class Ids:
    """Ids of places of a page. They are made from positions: names may hold anything."""

    def __init__(self, runs: Sequence[str], datasets: Sequence[str]) -> None:
        self._runs = {name: index for index, name in enumerate(runs)}
        self._datasets = {name: index for index, name in enumerate(datasets)}

    def has_dataset(self, dataset: str) -> bool:
        """Whether it has a place: findings name datasets that left the study, too."""
        return dataset in self._datasets

    def run(self, run: str) -> str:
        """Of a run's row among the runs."""
        return f"run-{self._runs[run]}"

    def dataset(self, dataset: str) -> str:
        """Of a dataset's row in the mixture."""
        return f"dataset-{self._datasets[dataset]}"

    def curves(self, dataset: str, metric: str) -> str:
        """Of a chart of curves."""
        return f"curves-{metric}-{self._datasets[dataset]}"

    def examples(self, dataset: str) -> str:
        """Of the examples of a dataset."""
        return f"examples-{self._datasets[dataset]}"

    def origin(self, run: str, dataset: str | None, metric: str) -> str:
        """Of the line that says where a number comes from."""
        place = "total" if dataset is None else self._datasets[dataset]
        return f"from-{self._runs[run]}-{place}-{metric}"


class Anchors:
    """Places inside the one-file report; `charts`, `examples` and `origins` are those that the report has."""

    def __init__(
        self, ids: Ids, *, charts: Collection[str], examples: Collection[str], origins: Collection[str] = ()
    ) -> None:
        self._ids = ids
        self._origins = set(origins)
        self._charts = set(charts)
        self._examples = set(examples)

    def run(self, run: str) -> str | None:
        return f"#{self._ids.run(run)}"

    def dataset(self, dataset: str) -> str | None:
        return f"#{self._ids.dataset(dataset)}" if self._ids.has_dataset(dataset) else None

    def curves(self, dataset: str, metric: Metric) -> str | None:
        # Accuracies have no curve of their own: they stand beside the loss.
        found = self._ids.curves(dataset, metric.removeprefix("train_").replace("accuracy", "loss"))
        return f"#{found}" if found in self._charts else None

    def examples(self, dataset: str) -> str | None:
        found = self._ids.examples(dataset)
        return f"#{found}" if found in self._examples else None

    def origin(self, run: str, dataset: str | None, metric: Metric) -> str | None:
        found = self._ids.origin(run, dataset, metric)
        return f"#{found}" if found in self._origins else None

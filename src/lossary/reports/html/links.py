"""Where the links of a page lead: anchors in the one-file report, addresses in the dashboard.

Views ask a `Links` and never build an address themselves, so that the same templates serve both.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from lossary.tables.model import Metric

__all__ = ["Anchors", "Links"]


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


class Anchors:
    """Places inside the one-file report. Ids are made from positions: names may hold anything."""

    def __init__(
        self,
        runs: Sequence[str],
        datasets: Sequence[str],
        *,
        charts: Collection[tuple[str, str]] = (),
        examples: Collection[str] = (),
    ) -> None:
        self._runs = {name: index for index, name in enumerate(runs)}
        self._datasets = {name: index for index, name in enumerate(datasets)}
        self._charts = set(charts)
        self._examples = set(examples)

    def run(self, run: str) -> str | None:
        return f"#{self.run_id(run)}" if run in self._runs else None

    def dataset(self, dataset: str) -> str | None:
        return f"#{self.dataset_id(dataset)}" if dataset in self._datasets else None

    def curves(self, dataset: str, metric: Metric) -> str | None:
        of_loss = f"{metric.split('_')[0]}_loss"
        return f"#{self.curves_id(dataset, of_loss)}" if (dataset, of_loss) in self._charts else None

    def examples(self, dataset: str) -> str | None:
        return f"#{self.examples_id(dataset)}" if dataset in self._examples else None

    def run_id(self, run: str) -> str:
        """The id of a run's row among the runs."""
        return f"run-{self._runs[run]}"

    def dataset_id(self, dataset: str) -> str:
        """The id of a dataset's row in the mixture."""
        return f"dataset-{self._datasets[dataset]}"

    def curves_id(self, dataset: str, metric: str) -> str:
        """The id of a chart of curves."""
        return f"curves-{metric}-{self._datasets[dataset]}"

    def examples_id(self, dataset: str) -> str:
        """The id of the examples of a dataset."""
        return f"examples-{self._datasets[dataset]}"

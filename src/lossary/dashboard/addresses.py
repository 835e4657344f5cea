"""Addresses of the dashboard's pages.

Names stand in the query, never in the path: an imported run may be called `../x`, and browsers shorten paths as they
please. What is asked for is looked up among the names that the study has; it never becomes part of a file's name.
"""

from urllib.parse import urlencode

from lossary.dashboard.snapshots import Snapshot
from lossary.reports.html.links import Ids
from lossary.tables.model import Metric

__all__ = ["Addresses"]


class Addresses:
    """The `Links` of one study in the dashboard."""

    def __init__(self, slug: str, snapshot: Snapshot | None = None) -> None:
        self.root = f"/s/{slug}/"
        opened = snapshot.opened if snapshot is not None else None
        self._runs = dict.fromkeys(run.name for run in opened.table.runs) if opened else {}
        self._datasets = dict.fromkeys(row.name for row in opened.table.datasets) if opened else {}
        # Imported numbers have no examples; whether there are curves the files say.
        self._has_scores = opened is not None and opened.study is not None
        self._ids = Ids(list(self._runs), list(self._datasets))
        self._has_curves = snapshot is not None and snapshot.has_curves

    def run(self, run: str) -> str | None:
        return self.page("run", name=run) if run in self._runs else None

    def dataset(self, dataset: str) -> str | None:
        return self.page("dataset", name=dataset) if dataset in self._datasets else None

    def curves(self, dataset: str, _: Metric) -> str | None:
        # Accuracies have no curve of their own: they stand beside the loss.
        return (
            self.page("dataset", name=dataset) + "#curves" if self._has_curves and dataset in self._datasets else None
        )

    def examples(self, dataset: str) -> str | None:
        known = self._has_scores and dataset in self._datasets and len(self._runs) > 1
        return self.page("examples", dataset=dataset) if known else None

    def origin(self, run: str, dataset: str | None, metric: Metric) -> str | None:
        if self._has_scores or run not in self._runs or not (dataset is None or dataset in self._datasets):
            return None
        return f"{self.page('run', name=run)}#{self._ids.origin(run, dataset, metric)}"

    def page(self, page: str, /, **query: str | int | None) -> str:
        """The address of a page, `""` for the landing page; what is None is left out."""
        kept = [(key, str(value)) for key, value in query.items() if value is not None]
        return self.root + page + (f"?{urlencode(kept)}" if kept else "")

"""Addresses of the dashboard's pages.

Names stand in the query, never in the path: an imported run may be called `../x`, and browsers shorten paths as they
please. What is asked for is looked up among the names that the study has; it never becomes part of a file's name.
"""

from collections.abc import Collection
from urllib.parse import urlencode

from lossary.tables.model import Metric, Table

__all__ = ["Addresses"]


class Addresses:
    """The `Links` of one study in the dashboard."""

    def __init__(self, slug: str, table: Table | None = None, *, has_scores: bool = False) -> None:
        self.root = f"/s/{slug}/"
        self._runs: Collection[str] = {run.name for run in table.runs} if table else ()
        self._datasets: Collection[str] = {row.name for row in table.datasets} if table else ()
        self._has_scores = has_scores

    def run(self, run: str) -> str | None:
        return self.page("run", name=run) if run in self._runs else None

    def dataset(self, dataset: str) -> str | None:
        return self.page("dataset", name=dataset) if dataset in self._datasets else None

    def curves(self, dataset: str, metric: Metric) -> str | None:
        measure = metric.partition("_")[0]
        return self.page("dataset", name=dataset) + f"#curves-{measure}" if dataset in self._datasets else None

    def examples(self, dataset: str) -> str | None:
        known = self._has_scores and dataset in self._datasets and len(self._runs) > 1
        return self.page("examples", dataset=dataset) if known else None

    def page(self, page: str, /, **query: str | int | None) -> str:
        """The address of a page, `""` for the landing page; what is None is left out."""
        kept = [(key, str(value)) for key, value in query.items() if value is not None]
        return self.root + page + (f"?{urlencode(kept)}" if kept else "")

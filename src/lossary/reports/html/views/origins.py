"""Where each imported number came from: file and place in it, the text as printed, which point it is, how it was read.

Numbers that were read alike stand together; of a very large import the page holds a part, table.json holds all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from lossary.reports.html.links import Ids
from lossary.reports.text import number, plain, safe_link
from lossary.tables.model import Cell, Table, Total

__all__ = ["Origin", "OriginsView", "origins_view"]

_MOST = 4_000


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A number: where it stands and what it is."""

    id: str
    dataset: str
    run: str
    shown: str
    printed: str
    statistic: str
    place: str
    link: str | None


@dataclass(frozen=True, kw_only=True)
class OriginsView:
    """Numbers by how they were read; `note` says what is left out."""

    groups: list[tuple[str, list[Origin]]]
    count: int
    note: str

    @property
    def ids(self) -> list[str]:
        """Of all numbers that are told of."""
        return [found.id for _, rows in self.groups for found in rows]


def origins_view(table: Table, ids: Ids, *, run: str | None = None) -> OriginsView | None:
    """The numbers of an import, or of one run of it; None of a study that was scored here."""
    if not table.is_imported:
        return None
    having = [entry for entry in _numbers(table) if run is None or entry.run == run]
    groups: dict[str, list[Origin]] = {}
    for entry in islice(having, _MOST):
        groups.setdefault(plain(entry.reading or ""), []).append(_origin(entry, ids))
    note = ""
    if len(having) > _MOST:
        note = f"{_MOST:,} of {len(having):,} numbers; table.json has all: place, reported, statistic, reading."
    return OriginsView(groups=list(groups.items()), count=len(having), note=note)


def _numbers(table: Table) -> Iterable[Cell | Total]:
    yield from (cell for cell in table.cells if cell.value is not None and cell.place is not None)
    yield from (total for total in table.totals if total.value is not None and total.place is not None)


def _origin(entry: Cell | Total, ids: Ids) -> Origin:
    dataset = entry.dataset if isinstance(entry, Cell) else None
    return Origin(
        id=ids.origin(entry.run, dataset, entry.metric),
        dataset="total" if dataset is None else plain(dataset),
        run=plain(entry.run),
        shown=number(entry.value, entry.metric),
        printed=plain(entry.reported or ""),
        statistic=plain(entry.statistic or ""),
        place=plain(entry.place or ""),
        link=safe_link(entry.link),
    )

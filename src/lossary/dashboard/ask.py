"""What a page was asked for: parameters of the address, looked up among what exists."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lossary.dashboard.addresses import Addresses
from lossary.dashboard.snapshots import Snapshot
from lossary.tables.load import OpenTable
from lossary.tables.model import Table

__all__ = ["Ask", "Missing", "Wrong"]


class Missing(Exception):
    """Something was asked for that does not exist; `known` are names and addresses of what does."""

    def __init__(self, message: str, *, what: str = "", known: Sequence[tuple[str, str | None]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.what = what
        self.known = list(known)


class Wrong(Exception):
    """A parameter that cannot be meant."""


class Ask(NamedTuple):
    """One page of one study, as it was asked for."""

    snapshot: Snapshot
    links: Addresses
    query: Mapping[str, str]

    @property
    def opened(self) -> OpenTable:
        """The table; Missing as long as there is none."""
        if self.snapshot.opened is None:
            raise Missing("there is no table yet", what="pages", known=[("progress", self.links.page(""))])
        return self.snapshot.opened

    @property
    def table(self) -> Table:
        return self.opened.table

    def run(self, key: str = "name", default: str | None = None) -> str:
        """The run that a parameter names; Missing with all that there are."""
        return self._one(key, "run", [run.name for run in self.table.runs], default)

    def dataset(self, key: str = "name", default: str | None = None) -> str:
        """The dataset that a parameter names; Missing with all that there are."""
        return self._one(key, "dataset", [row.name for row in self.table.datasets], default)

    def _one(self, key: str, what: str, known: Sequence[str], default: str | None) -> str:
        name = self.query.get(key) or default
        if name in known and name is not None:
            return name
        link = self.links.run if what == "run" else self.links.dataset
        message = f"no {what} is named" if name is None else f"no {what} is called {name!r}"
        raise Missing(message, what=f"{what}s", known=[(entry, link(entry)) for entry in known])

    def choice(self, key: str, known: Sequence[Any], default: Any = None) -> Any:
        """One of some values, the first by default."""
        value = self.query.get(key) or (known[0] if default is None else default)
        if value not in known:
            raise Wrong(f"{key} is {value!r}; known: {', '.join(map(str, known))}")
        return value

    def number(self, key: str, default: int, *, low: int, high: int) -> int:
        """A whole number within bounds."""
        text = self.query.get(key, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 16 and low <= int(text) <= high):
            raise Wrong(f"{key} is {text!r}; expected is a whole number from {low:,} to {high:,}")
        return int(text)

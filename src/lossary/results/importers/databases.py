"""SQLite files of others, opened read-only and without trust."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lossary.errors import SourceError

__all__ = ["Database", "open_database"]


class Database(NamedTuple):
    """An open database and its tables; views are none."""

    connection: sqlite3.Connection
    tables: set[str]

    def columns(self, table: str) -> set[str]:
        """The columns of one of its tables."""
        return {row[1] for row in self.connection.execute(f"PRAGMA table_info({table})")}


@contextmanager
def open_database(path: Path) -> Iterator[Database]:
    """The database of a file; SourceError if it is none or is damaged, also while it is being read."""
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            # A view may hide a query without end, and a schema functions of its own.
            connection.execute("PRAGMA trusted_schema = OFF")
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            yield Database(connection, {row[0] for row in names})
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise SourceError(f"not a database that can be read: {error}", where=str(path)) from None

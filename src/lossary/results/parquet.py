"""Parquet files asked by DuckDB: one connection in memory for the process, a cursor for each question.

    ask("SELECT count(*) FROM read_parquet(?)", [file_name(path)])

A question runs on one thread: whoever has several files asks for them side by side, and sums do not depend on how
threads shared the rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lossary.errors import ScoreError
from lossary.seals import check_sealed

__all__ = ["ask", "ask_arrow", "file_name"]


def file_name(path: Path) -> str:
    """A path as `read_parquet` takes it: one whose folder has brackets or stars in its name is no pattern.

    The file is compared with its checksum, once a process: DuckDB would not notice.
    """
    check_sealed(path)
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def ask(query: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """All rows of an answer. ScoreError if a file is missing, damaged or of another kind."""
    with _cursor() as cursor:
        return list(_executed(cursor, query, parameters).fetchall())


def ask_arrow(query: str, parameters: Sequence[Any] | Mapping[str, Any]) -> pa.Table:
    """An answer as columns. ScoreError as in `ask`."""
    with _cursor() as cursor, _readable(parameters):
        return cursor.sql(query, params=parameters).to_arrow_table()


def _executed(
    cursor: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] | Mapping[str, Any]
) -> duckdb.DuckDBPyConnection:
    with _readable(parameters):
        return cursor.execute(query, parameters)


@contextmanager
def _readable(parameters: Sequence[Any] | Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        values = parameters.values() if isinstance(parameters, Mapping) else parameters
        where = next((value for value in values if isinstance(value, str)), None)
        raise ScoreError(f"not readable: {error}", where=where, hint="Delete it and evaluate again.") from None


def _cursor() -> duckdb.DuckDBPyConnection:
    return _connection().cursor()


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    # Opening one takes longer than most questions. What was read of a file is not kept: it may be replaced, and the
    # operating system keeps it anyway.
    return duckdb.connect(config={"threads": 1, "enable_external_file_cache": False})

"""Which rows pass a condition: DuckDB decides, on columns that are handed to it, types as they are in the rows.

    verdict = RowFilter("lang = 'de'").judge_values([["de", "en", None]])
    verdict.passes                    # [True, False, False]
    verdict.bad                       # rows that it cannot be asked of: why, and what they hold

A condition that is NULL for a row does not pass it. Rows are grouped by the types of their values, so that one on which
the condition has no meaning is told apart from one that does not pass, whatever rows stand beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.data.fields import MISSING, field_type, fields_inside, is_text
from lossary.errors import SourceError
from lossary.expressions import connection, parse_condition

__all__ = ["RowFilter", "Verdict", "row_filter"]

_KINDS: dict[type, str] = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "text"}
_ARROW = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "text": pa.string(),
    "list of text": pa.list_(pa.string()),
    "list of numbers": pa.list_(pa.float64()),
}
# What may be wrong with one row and not with the next.
_ROW_ERRORS = (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException)
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_SAMPLE = 200


@dataclass(kw_only=True)
class Verdict:
    """For every row whether it passes; reason and sample of those that cannot be judged, which do not pass."""

    passes: NDArray[np.bool_]
    bad: dict[int, tuple[str, str]] = field(default_factory=dict)


class _Meaningless(Exception):
    """The condition has no meaning on columns of these types."""


@lru_cache(maxsize=16)
def row_filter(text: str) -> "RowFilter":
    """The filter of a condition, made once a process."""
    return RowFilter(text)


class RowFilter:
    """A condition of the study file, ready to be asked."""

    def __init__(self, text: str) -> None:
        self.condition = parse_condition(text)
        self.fields = self.condition.fields

    def check(self, schema: pa.Schema, where: str) -> None:
        """Raises SourceError if the condition has no meaning on the columns of a table, which has its fields."""
        kinds = [field_type(schema, name) for name in self.fields]
        for name, kind in zip(self.fields, kinds, strict=True):
            if pa.types.is_struct(kind) or pa.types.is_map(kind):
                inside = fields_inside(kind, name)[:20]
                hint = f"Name one of its fields: {', '.join(inside)}." if inside else None
                raise SourceError(f"`where` names {name!r}, which is {_kind_of(kind)}", where=where, hint=hint)
        # A row of nulls: what fails on it fails on every row.
        columns = [_plain(pa.array([None], kind)) for kind in kinds]
        try:
            self._check_truth(_select(_table(columns), self.condition.sql))
        except _ROW_ERRORS as error:
            raise self._meaningless(_words(error), kinds, where) from None
        except _Meaningless as error:
            raise self._meaningless(str(error), kinds, where) from None

    def _meaningless(self, why: str, kinds: Sequence[pa.DataType | None], where: str) -> SourceError:
        named = ", ".join(f"{n!r} is {_kind_of(k)}" for n, k in zip(self.fields, kinds, strict=True))
        return SourceError(
            f"`where` cannot be evaluated: {why}",
            where=where,
            hint=f"Here {named}; cast(x as double) makes a number of text, try_cast NULL of what is none.",
        )

    def judge_columns(self, columns: Sequence[pa.Array]) -> Verdict:
        """Asks the columns of a table, which `check` has seen."""
        rows = len(columns[0])
        verdict = Verdict(passes=np.zeros(rows, np.bool_))
        plain = [_plain(column) for column in columns]
        for place, column in enumerate(plain):
            if column is None:
                plain[place] = _without_invalid(columns[place], verdict)
        self._judge(np.arange(rows), plain, [_kind_of(column.type) for column in columns], verdict)
        verdict.passes[list(verdict.bad)] = False
        return verdict

    def judge_values(self, columns: Sequence[Sequence[Any]]) -> Verdict:
        """Asks columns of values as JSON has them; MISSING counts as null."""
        rows = len(columns[0])
        verdict = Verdict(passes=np.zeros(rows, np.bool_))
        groups: dict[tuple[str, ...], list[int]] = {}
        kinds = [_kinds(column) for column in columns]
        if all(len(set(kind)) == 1 for kind in kinds):
            groups[tuple(kind[0] for kind in kinds)] = list(range(rows))
        else:
            for row, signature in enumerate(zip(*kinds, strict=True)):
                groups.setdefault(signature, []).append(row)
        for signature, chosen in groups.items():
            values = [list(column) if len(chosen) == rows else [column[row] for row in chosen] for column in columns]
            if all(kind in _ARROW for kind in signature):
                arrays = [_array(value, kind) for value, kind in zip(values, signature, strict=True)]
                self._judge(np.asarray(chosen), arrays, signature, verdict)
            else:
                self._reject(chosen, signature, values, verdict)
        return verdict

    def _judge(self, rows: Any, columns: list[pa.Array], kinds: Sequence[str], verdict: Verdict) -> None:
        try:
            passes, failed = self._asked(columns)
        except _Meaningless:
            passes, failed = np.zeros(len(rows), np.bool_), np.ones(len(rows), np.bool_)
        verdict.passes[rows] = passes
        places = np.flatnonzero(failed)
        if len(places):
            values = [column.take(pa.array(places)).to_pylist() for column in columns]
            self._reject(rows[places], kinds, values, verdict)

    def _reject(self, rows: Any, kinds: Sequence[str], values: list[list[Any]], verdict: Verdict) -> None:
        names = {"integer": "number"}
        told = [(name, names.get(kind, kind)) for name, kind in zip(self.fields, kinds, strict=True)]
        # Null is never what a condition fails on.
        blamed = [pair for pair in told if pair[1] != "null"] or told
        reason = f"`where` cannot be evaluated: {', '.join(f'{name!r} is {kind}' for name, kind in blamed)}"
        for row, found in zip(rows, zip(*values, strict=True), strict=True):
            sample = ", ".join(f"{name} = {_shown(value)}" for name, value in zip(self.fields, found, strict=True))
            verdict.bad.setdefault(int(row), (reason, sample[:_SAMPLE]))

    def _asked(self, columns: list[pa.Array]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """For every row whether it passes, and whether it cannot be evaluated on what the row holds."""
        table = _table(columns)
        try:
            found = _select(table, self.condition.sql)
        except _ROW_ERRORS:
            return self._asked_row_by_row(table)
        self._check_truth(found)
        passes = found.cast(pa.bool_()).fill_null(False)
        return passes.to_numpy(zero_copy_only=False), np.zeros(len(table), np.bool_)

    def _check_truth(self, found: pa.Array) -> None:
        if not pa.types.is_boolean(found.type) and not pa.types.is_null(found.type):
            raise _Meaningless(f"it gives {_kind_of(found.type)}, neither true nor false")

    def _asked_row_by_row(self, table: pa.Table) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """As `_asked` where some row fails: TRY makes NULL of a failure and nothing else here is NULL."""
        try:
            # On no row nothing fails, and what CASE would take for a truth value is told by its type.
            self._check_truth(_select(table.slice(0, 0), self.condition.sql))
            found = _select(table, f"TRY(CASE WHEN {self.condition.sql} THEN TRUE ELSE FALSE END)")
        except _ROW_ERRORS as error:
            raise _Meaningless(_words(error)) from None
        failed = found.is_null().to_numpy(zero_copy_only=False).copy()
        passes = found.fill_null(False).to_numpy(zero_copy_only=False).copy()
        if self.condition.chooses:
            # Whether DuckDB skips a part of which one row needs nothing depends on the rows beside it.
            for row in np.flatnonzero(failed).tolist():
                passes[row], failed[row] = self._asked_alone(table.slice(row, 1))
        return passes, failed

    def _asked_alone(self, row: pa.Table) -> tuple[bool, bool]:
        try:
            return _select(row, self.condition.sql).to_pylist() == [True], False
        except _ROW_ERRORS:
            return False, True


def _table(columns: Sequence[pa.Array]) -> pa.Table:
    return pa.table(list(columns), [f"c{place}" for place in range(len(columns))])


def _select(table: pa.Table, sql: str) -> pa.Array:
    try:
        found = connection().from_arrow(table).project(f"{sql} AS passes").to_arrow_table()["passes"]
    except _ROW_ERRORS:
        raise
    except duckdb.OutOfMemoryException:
        raise SourceError(
            "`where` takes more memory than it may have", hint="Does it make long texts longer? Leave that out."
        ) from None
    except duckdb.Error as error:
        raise _Meaningless(_words(error)) from None
    return found.combine_chunks()


def _words(error: duckdb.Error) -> str:
    """What DuckDB says of a condition, without its own names."""
    line = str(error).splitlines()[0].partition("Error: ")[2] or "no meaning on these types"
    return line.partition(" when casting from source column")[0].removesuffix(
        ". You might need to add explicit type casts."
    )


def _shown(value: Any) -> str:
    return "null" if value is None or value is MISSING else repr(value)


def _kinds(column: Sequence[Any]) -> list[str]:
    """What each value of a column is."""
    found = set(map(type, column))
    only = _KINDS.get(next(iter(found))) if len(found) == 1 else None
    if only is not None and only != "integer":
        return [only] * len(column)
    return [_kind(value) for value in column]


def _kind(value: Any) -> str:
    kind = "null" if value is MISSING else _KINDS.get(type(value))
    if kind == "integer" and not _LEAST <= value <= _MOST:
        return "number"
    if kind is not None:
        return kind
    if not isinstance(value, list):
        return "object"
    kinds = set(map(type, value))
    if kinds <= {str}:
        return "list of text"
    return "list of numbers" if kinds <= {int, float} else "list"


def _array(values: list[Any], kind: str) -> pa.Array:
    if kind == "null":
        return pa.nulls(len(values))
    if kind == "number":
        values = [float(value) for value in values]
    elif kind == "list of numbers":
        values = [[float(number) for number in value] for value in values]
    return pa.array(values, _ARROW[kind])


def _plain(column: pa.Array) -> pa.Array | None:
    """A column as DuckDB is to see it: text that is UTF-8, times without a zone; None if some text is not UTF-8."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        # In UTC, whatever zone the machine is in.
        return column.cast(pa.timestamp(kind.unit))
    if is_text(kind):
        try:
            return column.cast(pa.large_binary()).cast(pa.large_string())
        except pa.ArrowInvalid:
            return None
    return column


def _without_invalid(column: pa.Array, verdict: Verdict) -> pa.Array:
    texts: list[str | None] = []
    for row, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            verdict.bad[row] = ("not UTF-8", value[:_SAMPLE].decode(errors="replace"))
    return pa.array(texts, pa.large_string())


def _kind_of(kind: pa.DataType | None) -> str:
    if kind is None:
        return "missing"
    if is_text(kind):
        return "text"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "boolean"
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return "number" if any(is_number(kind) for is_number in numbers) else str(kind).partition("[")[0].partition("<")[0]

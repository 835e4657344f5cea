"""Fields of rows by name: `text`, or `meta.text` for a field inside another.

A field at the top whose own name is `meta.text` is meant before the field `text` of `meta`.

    get = value_of("meta.text")
    get({"meta": {"text": "a"}})      # "a"; MISSING where there is none
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lossary.errors import SourceError

__all__ = [
    "MISSING",
    "absent",
    "check_fields",
    "column_of",
    "field_type",
    "fields_inside",
    "is_text",
    "known_fields",
    "unknown_field",
    "value_of",
]

_MOST_SHOWN = 20


class Missing(Enum):
    """That a row has no such field: not the same as null."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


def value_of(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """Reads a field of a row of JSON. Inside of null everything is null."""
    head, *rest = name.split(".")
    if not rest:
        return lambda row: row.get(name, MISSING)

    def nested(row: Mapping[str, Any]) -> Any:
        if name in row:
            return row[name]
        value = row.get(head, MISSING)
        for part in rest:
            if value is None or value is MISSING:
                return value
            value = value.get(part, MISSING) if isinstance(value, dict) else MISSING
        return value

    return nested


def field_type(schema: pa.Schema, name: str) -> pa.DataType | None:
    """The type of a field of a table; None if there is none."""
    if name in schema.names:
        return schema.field(name).type
    head, *rest = name.split(".")
    if not rest or head not in schema.names:
        return None
    kind = schema.field(head).type
    for part in rest:
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def is_text(kind: pa.DataType | None) -> bool:
    """Whether a column holds text, as strings or as bytes."""
    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return kind is not None and (any(test(kind) for test in tests) or str(kind) == "string_view")


def column_of(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A field of a batch as a column; null wherever what holds it is. Dictionaries are written out."""
    if name in batch.schema.names:
        column = batch.column(name)
    else:
        head, *rest = name.split(".")
        column = pc.struct_field(batch.column(head), rest)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def check_fields(names: Iterable[str], known: pa.Schema | Iterable[str], where: str, *, key: str = "") -> None:
    """Raises SourceError unless a table, or a list of names, has every field; `key` is where the study names it."""
    schema = known if isinstance(known, pa.Schema) else pa.schema([(name, pa.string()) for name in known])
    for name in names:
        if field_type(schema, name) is None:
            raise unknown_field(name, list(known_fields(schema)), where, key=key)


def fields_inside(kind: pa.DataType, prefix: str) -> list[str]:
    """Names of the fields of a struct; none of another type."""
    return list(known_fields(kind.fields, f"{prefix}.")) if pa.types.is_struct(kind) else []


def known_fields(schema: Iterable[pa.Field], prefix: str = "") -> Iterator[str]:
    """Names of all fields that hold something themselves."""
    for field in schema:
        if pa.types.is_struct(field.type):
            yield from fields_inside(field.type, f"{prefix}{field.name}")
        else:
            yield f"{prefix}{field.name}"


def absent(name: str) -> str:
    """That a row has no such field, in few words."""
    head, dot, rest = name.partition(".")
    return f"no field {name!r}" + (f", nor {rest!r} in {head!r}" if dot else "")


def unknown_field(name: str, known: Iterable[str], where: str, *, key: str = "") -> SourceError:
    """The error of a field that nothing has, with those there are: nearest first."""
    head, dot, rest = name.partition(".")
    both = f", and none in {head!r} {rest!r}" if dot else ""
    names = sorted(known, key=lambda other: -difflib.SequenceMatcher(None, name, other).ratio())
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    more = f" and {len(names) - _MOST_SHOWN:,} more" if len(names) > _MOST_SHOWN else ""
    listed = f"Fields: {', '.join(names[:_MOST_SHOWN])}{more}." if names else "There is no field."
    return SourceError(
        f"no field is called {name!r}{both}" + (f" (named by `{key}`)" if key else ""),
        where=where,
        hint=(f"Did you mean {near[0]!r}? " if near else "") + listed,
    )

"""Fields of rows by name: `text`, or `meta.text` for a field inside another.

A field whose own name is `meta.text` is meant before the field `text` of `meta`; names inside may hold dots as well.

    get = value_of("meta.text")
    get({"meta": {"text": "a"}})      # "a"; MISSING where there is none
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    "without_views",
]

_MOST_SHOWN = 20
_LONGEST_SHOWN = 60


class Missing(Enum):
    """That a row has no such field: not the same as null."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


def value_of(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """Reads a field of a row of JSON. Inside of null everything is null."""
    if "." not in name:
        return lambda row: row.get(name, MISSING)
    return lambda row: _value(row, name)


def _value(row: Mapping[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    for head, rest in _splits(name):
        inner = row.get(head, MISSING)
        if inner is None:
            return None
        found = _value(inner, rest) if isinstance(inner, dict) else MISSING
        if found is not MISSING:
            return found
    return MISSING


def _splits(name: str) -> list[tuple[str, str]]:
    """All ways in which a name may be that of a field and one inside it: names may hold dots themselves."""
    parts = name.split(".")
    return [(".".join(parts[:place]), ".".join(parts[place:])) for place in range(1, len(parts))]


def field_type(schema: pa.Schema, name: str) -> pa.DataType | None:
    """The type of a field of a table; None if there is none."""
    found = _find(list(schema), name)
    return None if found is None else found[1]


def _find(fields: Sequence[pa.Field], name: str) -> tuple[list[str], pa.DataType] | None:
    """Names of the fields from the top down to one, and its type."""
    known = {field.name: field.type for field in fields}
    if name in known:
        return [name], known[name]
    for head, rest in _splits(name):
        if head in known and pa.types.is_struct(known[head]):
            found = _find(known[head].fields, rest)
            if found is not None:
                return [head, *found[0]], found[1]
    return None


def is_text(kind: pa.DataType | None) -> bool:
    """Whether a column holds text, as strings or as bytes."""
    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return kind is not None and (any(test(kind) for test in tests) or str(kind) == "string_view")


def column_of(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A field of a batch as a column; null wherever what holds it is. Dictionaries are written out."""
    found = _find(list(batch.schema), name)
    assert found is not None, name
    (top, *inside), _ = found
    column = pc.struct_field(batch.column(top), inside) if inside else batch.column(top)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose views of strings are strings, also inside of structs: rows of views cannot be taken out."""
    fields = [field.with_type(_without_views(field.type)) for field in batch.schema]
    if all(field.type.equals(known.type) for field, known in zip(fields, batch.schema, strict=True)):
        return batch
    # What is no UTF-8 is told row by row, later.
    columns = [
        pc.cast(column, options=pc.CastOptions(field.type, allow_invalid_utf8=True))
        for column, field in zip(batch.columns, fields, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _without_views(kind: pa.DataType) -> pa.DataType:
    if str(kind) == "string_view":
        return pa.large_string()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type)) for field in kind.fields])
    return kind


def check_fields(names: Iterable[str], known: pa.Schema | Iterable[str], where: str, *, key: str = "") -> None:
    """Raises SourceError unless a table, or a list of names, has every field; `key` is where the study names it."""
    schema = known if isinstance(known, pa.Schema) else pa.schema([(name, pa.string()) for name in known])
    for name in names:
        if field_type(schema, name) is None:
            raise unknown_field(name, list(known_fields(schema)), where, key=key)
        _check_once(name, schema, where)


def _check_once(name: str, schema: Iterable[pa.Field], where: str) -> None:
    """Raises SourceError if several columns have the name, or that of what it lies in."""
    fields = list(schema)
    found = _find(fields, name)
    for part in found[0] if found else []:
        same = [field for field in fields if field.name == part]
        if len(same) > 1:
            raise SourceError(
                f"{len(same)} columns are called {part!r}",
                where=where,
                hint="Which of them is meant? Give each a name of its own.",
            )
        fields = list(same[0].type.fields) if pa.types.is_struct(same[0].type) else []


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
    # Where the first line of a CSV is no header, the names are texts.
    shown = [other if len(other) <= _LONGEST_SHOWN else f"{other[:_LONGEST_SHOWN]}…" for other in names[:_MOST_SHOWN]]
    listed = f"Fields: {', '.join(shown)}{more}." if names else "There is no field."
    return SourceError(
        f"no field is called {name!r}{both}" + (f" (named by `{key}`)" if key else ""),
        where=where,
        hint=(f"Did you mean {near[0]!r}? " if near and len(near[0]) <= _LONGEST_SHOWN else "") + listed,
    )

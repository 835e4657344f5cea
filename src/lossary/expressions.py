"""Conditions on rows, as `lang = 'de' and length(text) > 200`: SQL of which only what is listed here is known.

    condition = parse_condition("meta.lang = 'de'")
    condition.fields, condition.sql        # ("meta.lang",), "(c0 = 'de')"

DuckDB parses the text; its tree is walked and written anew from known parts, fields as c0, c1, …, so that nothing is
ever executed that was not written here. No row is looked at.
"""

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import duckdb

__all__ = ["Condition", "ConditionError", "connection", "parse_condition"]

FUNCTIONS = tuple(
    name
    for line in (
        "abs ceil coalesce contains date_part ends_with floor greatest if ilike_escape least left len length",
        "like_escape lower ltrim nullif not_ilike_escape not_like_escape position regexp_full_match regexp_matches",
        "replace right round rtrim starts_with strlen strpos substr substring trim upper",
    )
    for name in line.split()
)
TYPES = (
    *("bigint", "bool", "boolean", "date", "decimal", "double", "float", "hugeint", "int", "integer", "numeric"),
    *("real", "smallint", "string", "text", "timestamp", "tinyint", "varchar"),
)
_BINARY = {name: name for name in ("+", "-", "*", "/", "//", "%", "||")} | {
    "~~": "LIKE",
    "!~~": "NOT LIKE",
    "~~*": "ILIKE",
    "!~~*": "NOT ILIKE",
}
_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
    "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
}
# How the tree calls what is not known here.
_REFUSED = {
    "SUBQUERY": "a query inside",
    "WINDOW": "a window function",
    "STAR": "`*`",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a column by number",
    "LAMBDA": "a lambda",
    "COLLATE": "COLLATE",
}
_PREFIX = "SELECT * FROM rows WHERE "
_MOST_CHARACTERS = 10_000
_MOST_DEPTH = 100
_NUMBER = re.compile(r"-?[0-9_]*\.?[0-9_]*([eE][+-]?[0-9]+)?")
Node = dict[str, Any]


class ConditionError(ValueError):
    """What is wrong with a condition; `hint` is what to do, for whoever shows it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition that was checked: its fields in the order of c0, c1, …, and the SQL over these.

    `chooses`: some part of it decides whether another is evaluated.
    """

    text: str
    fields: tuple[str, ...]
    sql: str
    chooses: bool


@cache
def connection() -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, on one thread, which opens no file, loads nothing and cannot be set otherwise."""
    opened = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "memory_limit": "512MB",
            "enable_external_access": False,
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
            "allow_community_extensions": False,
        },
    )
    opened.execute("SET lock_configuration = true")
    return opened


@lru_cache(maxsize=64)
def parse_condition(text: str) -> Condition:
    """Checks a condition. Raises ConditionError, which says at which character."""
    if not text.strip():
        raise ConditionError("the condition is empty", hint="Leave the key out to keep every row.")
    if len(text) > _MOST_CHARACTERS:
        raise ConditionError(f"the condition has {len(text):,} characters; {_MOST_CHARACTERS:,} at most are read")
    _check_comments(text)
    walk = _Walk(text)
    sql = walk.sql(_tree(text), 0)
    if not walk.fields:
        raise ConditionError("the condition names no field", hint="Something of a row is expected, as lang = 'de'.")
    return Condition(text=text, fields=tuple(walk.fields), sql=sql, chooses=walk.chooses)


def _check_comments(text: str) -> None:
    if "\0" in text:
        raise ConditionError(f"character {text.index(chr(0)) + 1} is a zero byte")
    for offset, kind in duckdb.tokenize(text):
        if kind == duckdb.token_type.comment:
            raise ConditionError(f"{_at(text, offset)} there is a comment; a condition has none")
    if text.rstrip().endswith(";"):
        raise ConditionError(f"{_at(text, len(text.rstrip().encode()) - 1)} there is ';'; one condition is expected")


def _tree(text: str) -> Node:
    """The tree of the condition: all else of the statement has to be what an empty condition would have."""
    found = _serialised(text)
    if found.get("error"):
        raise _not_parsed(text, found)
    plain = _serialised("true")
    trees = []
    for statement in (*found["statements"], *plain["statements"]):
        statement.pop("named_param_map", None)
        trees.append(statement["node"].pop("where_clause", None))
    if found != plain or not isinstance(trees[0], dict):
        raise _more_than_a_condition()
    return trees[0]


def _more_than_a_condition() -> ConditionError:
    return ConditionError(
        "more than a condition stands here",
        hint="What would stand behind WHERE is expected: no second statement, no ORDER BY, LIMIT, GROUP BY or UNION.",
    )


def _serialised(condition: str) -> Node:
    # As a parameter, so that the text is data to the statement that is executed.
    row = connection().execute("SELECT json_serialize_sql(?)", [_PREFIX + condition]).fetchall()[0]
    try:
        return json.loads(row[0])  # type: ignore[no-any-return]
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> ConditionError:
    return ConditionError(f"the condition is nested more than {_MOST_DEPTH} deep")


def _not_parsed(text: str, found: Node) -> ConditionError:
    message = str(found.get("error_message", "")).splitlines()[0]
    if "depth" in message:
        return _too_deep()
    if "Only SELECT" in message:
        return _more_than_a_condition()
    position = found.get("position")
    offset = int(position) - len(_PREFIX) if position is not None else None
    if offset is not None and offset >= len(text.encode()):
        return ConditionError("the condition ends too early")
    place = f"{_at(text, offset)} " if offset is not None else ""
    near = re.fullmatch(r'syntax error at or near "(.*)"', message)
    what = f"{near[1]!r} is not expected here" if near else message
    if near and text.rstrip().endswith(near[1]) and offset == len(text.rstrip().encode()) - len(near[1].encode()):
        what += ", or something is missing behind it"
    return ConditionError(
        f"{place}{what}", hint="Text stands in 'single quotes'; a field with an odd name in double ones."
    )


def _at(text: str, offset: int) -> str:
    """`at character 5`, from an offset in bytes."""
    return f"at character {len(text.encode()[:offset].decode(errors='ignore')) + 1}:"


@dataclass
class _Walk:
    """Writes the SQL of a tree whose every node is known."""

    text: str
    fields: list[str] = field(default_factory=list)
    chooses: bool = False

    def sql(self, node: Node, depth: int) -> str:
        if depth > _MOST_DEPTH:
            raise _too_deep()
        write = _WRITERS.get(node["class"])
        if write is None:
            raise self._refused(node, _REFUSED.get(node["class"], node["class"].lower()))
        return write(self, node, depth + 1)

    def _all(self, nodes: Sequence[Node], depth: int) -> list[str]:
        return [self.sql(node, depth) for node in nodes]

    def _refused(self, node: Node, what: str, hint: str | None = None) -> ConditionError:
        offset = int(node.get("query_location", -1)) - len(_PREFIX)
        place = f"{_at(self.text, offset)} " if 0 <= offset < len(self.text.encode()) else ""
        return ConditionError(
            f"{place}{what} is not known in a condition",
            hint=hint
            or "Known: comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS NULL, CASE, CAST and listed functions.",
        )

    def _column(self, name: str) -> str:
        if name not in self.fields:
            self.fields.append(name)
        return f"c{self.fields.index(name)}"

    def reference(self, node: Node, _: int) -> str:
        return self._column(".".join(node["column_names"]))

    def constant(self, node: Node, _: int) -> str:
        kind, text = node["literal"]["kind"], node["literal"]["text"]
        if kind == "NULL_LITERAL":
            return "NULL"
        if kind == "BOOLEAN" and text in ("true", "false"):
            return str(text).upper()
        if kind in ("INTEGER", "NUMERIC") and _NUMBER.fullmatch(text):
            return f"({text})"
        if kind == "STRING" and "\0" not in text:
            return "'" + str(text).replace("'", "''") + "'"
        raise self._refused(node, f"a constant of the kind {kind.lower()}")

    def comparison(self, node: Node, depth: int) -> str:
        sign = _COMPARISONS.get(node["type"])
        if sign is None:
            raise self._refused(node, node["type"].lower())
        return f"({self.sql(node['left'], depth)} {sign} {self.sql(node['right'], depth)})"

    def conjunction(self, node: Node, depth: int) -> str:
        word = {"CONJUNCTION_AND": " AND ", "CONJUNCTION_OR": " OR "}[node["type"]]
        return f"({word.join(self._all(node['children'], depth))})"

    def between(self, node: Node, depth: int) -> str:
        value, low, high = self._all([node["input"], node["lower"], node["upper"]], depth)
        return f"({value} BETWEEN {low} AND {high})"

    def case(self, node: Node, depth: int) -> str:
        self.chooses = True
        checks = [
            f"WHEN {self.sql(check['when_expr'], depth)} THEN {self.sql(check['then_expr'], depth)}"
            for check in node["case_checks"]
        ]
        return f"(CASE {' '.join(checks)} ELSE {self.sql(node['else_expr'], depth)} END)"

    def cast(self, node: Node, depth: int) -> str:
        word = "TRY_CAST" if node["try_cast"] else "CAST"
        return f"{word}({self.sql(node['child'], depth)} AS {self._type(node['type_expr'])})"

    def _type(self, node: Node) -> str:
        name = node["type_name"].lower()
        if name not in TYPES or node["schema"] or node["catalog"]:
            near = difflib.get_close_matches(name, TYPES, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise self._refused(node, f"the type {node['type_name']!r}", f"{hint}Known types: {', '.join(TYPES)}.")
        sizes = [child["literal"]["text"] for child in node["children"] if child["class"] == "CONSTANT"]
        if len(sizes) != len(node["children"]) or not all(size.isdecimal() for size in sizes):
            raise self._refused(node, f"this form of the type {node['type_name']!r}")
        return f"{name}({', '.join(sizes)})" if sizes else name

    def operator(self, node: Node, depth: int) -> str:
        kind, children = node["type"], node["children"]
        if kind in ("STRUCT_EXTRACT", "ARRAY_EXTRACT"):
            return self._column(self._path(node))
        parts = self._all(children, depth) if kind in _OPERATORS else []
        if not parts:
            raise self._refused(node, kind.removeprefix("OPERATOR_").lower().replace("_", " "))
        self.chooses = self.chooses or kind == "OPERATOR_COALESCE"
        return str(_OPERATORS[kind](parts))

    def _path(self, node: Node) -> str:
        """The field that `meta['lang']` or `meta.lang` means."""
        if node["class"] == "COLUMN_REF":
            return ".".join(node["column_names"])
        if node["class"] == "OPERATOR" and node["type"] in ("STRUCT_EXTRACT", "ARRAY_EXTRACT"):
            inner, key = node["children"]
            if key["class"] == "CONSTANT" and key["literal"]["kind"] == "STRING":
                return f"{self._path(inner)}.{key['literal']['text']}"
        raise self._refused(node, "a part that is not named", "Name a field inside another as meta.lang.")

    def function(self, node: Node, depth: int) -> str:
        name = node["function_name"].removesuffix("_star")
        arguments = node["arguments"]
        odd = node["schema"] or node["catalog"] or node["filter"] or node["distinct"] or node["order_bys"]["orders"]
        if odd or any(argument["name"] for argument in arguments):
            raise self._refused(node, f"this form of {name!r}", f"Write {name}(field).")
        operator = node["is_operator"] and name in _BINARY
        if not operator and name not in FUNCTIONS:
            near = difflib.get_close_matches(name, FUNCTIONS, n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise self._refused(node, f"the function {name!r}", f"{hint}Known functions: {', '.join(FUNCTIONS)}.")
        parts = self._all([argument["expression"] for argument in arguments], depth)
        if operator:
            return f"({f' {_BINARY[name]} '.join(parts)})" if len(parts) == 2 else f"({_BINARY[name]} {parts[0]})"
        self.chooses = self.chooses or name in ("coalesce", "if", "nullif")
        if name.startswith("regexp_"):
            self._check_pattern(arguments[1:])
        # `position('a' in b)` has a form of its own, strpos the same arguments in this order.
        return f"{'strpos' if name == 'position' else name}({', '.join(parts)})"

    def _check_pattern(self, arguments: Sequence[Node]) -> None:
        """A pattern that is written down is tried on the empty text."""
        constants = [argument["expression"] for argument in arguments]
        if not constants or any(one["class"] != "CONSTANT" for one in constants):
            return
        try:
            connection().execute(
                f"SELECT regexp_matches('', {', '.join(self.constant(one, 0) for one in constants)})"
            ).fetchall()
        except duckdb.Error as error:
            found = str(error).splitlines()[0].partition("Error: ")[2]
            raise self._refused(constants[0], f"the pattern ({found})", "Patterns are written as for RE2.") from None


_OPERATORS: dict[str, Callable[[list[str]], str]] = {
    "OPERATOR_NOT": lambda parts: f"(NOT {parts[0]})",
    "OPERATOR_IS_NULL": lambda parts: f"({parts[0]} IS NULL)",
    "OPERATOR_IS_NOT_NULL": lambda parts: f"({parts[0]} IS NOT NULL)",
    "OPERATOR_COALESCE": lambda parts: f"coalesce({', '.join(parts)})",
    "COMPARE_IN": lambda parts: f"({parts[0]} IN ({', '.join(parts[1:])}))",
}
_WRITERS: dict[str, Callable[[_Walk, Node, int], str]] = {
    "COLUMN_REF": _Walk.reference,
    "CONSTANT": _Walk.constant,
    "COMPARISON": _Walk.comparison,
    "CONJUNCTION": _Walk.conjunction,
    "BETWEEN": _Walk.between,
    "CASE": _Walk.case,
    "CAST": _Walk.cast,
    "OPERATOR": _Walk.operator,
    "FUNCTION": _Walk.function,
}

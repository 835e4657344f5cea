"""Which rows pass: as plain Python would say, whatever the types are, and never silently."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossary.data.fields import MISSING
from lossary.data.filters import RowFilter
from lossary.errors import SourceError
from lossary.expressions import FUNCTIONS

CALLS = {
    "abs": "abs(n) = 3",
    "ceil": "ceil(f) = 3",
    "coalesce": "coalesce(missing, t) = 'Abc d'",
    "contains": "contains(t, 'bc')",
    "date_part": "date_part('year', cast('2020-02-03' as date)) = 2020 and n < 0",
    "ends_with": "ends_with(t, ' d')",
    "floor": "floor(f) = 2",
    "greatest": "greatest(n, 5) = 5",
    "if": "if(n < 0, true, false)",
    "ilike_escape": "t ilike 'a%' escape '!'",
    "least": "least(n, 5) = -3",
    "left": "left(t, 2) = 'Ab'",
    "len": "len(t) = 5",
    "length": "length(t) = 5",
    "like_escape": "t like 'A%' escape '!'",
    "lower": "lower(t) = 'abc d'",
    "ltrim": "ltrim(t) = t",
    "not_ilike_escape": "t not ilike 'x%' escape '!'",
    "not_like_escape": "t not like 'a%' escape '!'",
    "nullif": "nullif(n, 4) = -3",
    "position": "position('bc' in t) = 2",
    "regexp_full_match": "regexp_full_match(t, 'A.*')",
    "regexp_matches": "regexp_matches(t, 'b')",
    "replace": "replace(t, ' ', '') = 'Abcd'",
    "right": "right(t, 1) = 'd'",
    "round": "round(f) = 3",
    "rtrim": "rtrim(t) = t",
    "starts_with": "starts_with(t, 'Abc')",
    "strlen": "strlen(t) = 5",
    "strpos": "strpos(t, 'bc') = 2",
    "substr": "substr(t, 2, 2) = 'bc'",
    "substring": "substring(t, 2, 2) = 'bc'",
    "trim": "trim(t) = t",
    "upper": "upper(t) = 'ABC D'",
}


def judged(text: str, *rows: dict[str, Any]) -> tuple[list[bool], dict[int, str]]:
    asked = RowFilter(text)
    verdict = asked.judge_values([[row.get(name, MISSING) for row in rows] for name in asked.fields])
    return verdict.passes.tolist(), {row: reason for row, (reason, _) in verdict.bad.items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_known_function_can_be_called(name: str) -> None:
    assert judged(CALLS[name], {"t": "Abc d", "n": -3, "f": 2.5}) == ([True], {})


def test_null_and_missing_do_not_pass_and_are_not_bad() -> None:
    rows = [{"lang": "de"}, {"lang": "en"}, {"lang": None}, {}]
    assert judged("lang = 'de'", *rows) == ([True, False, False, False], {})
    assert judged("not lang = 'de'", *rows) == ([False, True, False, False], {})
    assert judged("lang is null", *rows) == ([False, False, True, True], {})
    assert judged("coalesce(lang, 'de') = 'de'", *rows) == ([True, False, True, True], {})


def test_each_row_is_judged_by_its_own_types() -> None:
    rows: list[dict[str, Any]] = [{"s": value} for value in (5, 0.5, 7.5, "9", True, None, [1], {"x": 1}, 1 << 70)]
    passes, bad = judged("s > 1", *rows)
    assert passes == [True, False, True, False, False, False, False, False, True]
    assert bad == {
        3: "`where` cannot be evaluated: 's' is text",
        6: "`where` cannot be evaluated: 's' is list of numbers",
        7: "`where` cannot be evaluated: 's' is object",
    }


def test_what_fails_in_one_row_costs_that_row() -> None:
    rows = [{"s": "5"}, {"s": "x"}, {"s": None}, {"s": "0"}]
    assert judged("cast(s as int) > 1", *rows) == (
        [True, False, False, False],
        {1: "`where` cannot be evaluated: 's' is text"},
    )
    assert judged("try_cast(s as int) > 1", *rows) == ([True, False, False, False], {})
    assert judged("cast(n as tinyint) > 1", {"n": 5}, {"n": 500}) == (
        [True, False],
        {1: "`where` cannot be evaluated: 'n' is number"},
    )


def test_the_sample_of_a_bad_row_shows_what_it_holds() -> None:
    verdict = RowFilter("lower(a) = b").judge_values([[3], ["x"]])
    assert verdict.bad == {0: ("`where` cannot be evaluated: 'a' is number, 'b' is text", "a = 3, b = 'x'")}


def test_a_condition_that_gives_no_truth_value_is_bad_for_every_row() -> None:
    passes, bad = judged("length(t)", {"t": "x"}, {"t": None})
    assert passes == [False, False]
    assert list(bad) == [0, 1]


def test_a_number_is_no_truth_value_whatever_fails_beside_it() -> None:
    for rows in ([{"t": "5"}], [{"t": "5"}, {"t": "x"}]):
        passes, bad = judged("cast(t as int)", *rows)
        assert not any(passes)
        assert list(bad) == list(range(len(rows)))


def test_lists_of_text_can_be_asked() -> None:
    rows = [{"tags": ["a", "b"]}, {"tags": []}, {"tags": None}, {"tags": ["a", 3]}]
    assert judged("'a' in tags", *rows) == (
        [True, False, False, False],
        {3: "`where` cannot be evaluated: 'tags' is list"},
    )


def test_fields_that_differ_in_case_are_two() -> None:
    assert judged("Lang = 'a' and lang = 'b'", {"Lang": "a", "lang": "b"}, {"Lang": "b", "lang": "a"})[0] == [
        True,
        False,
    ]


COLUMNS = {
    "text": pa.array(["a", "b", None]),
    "large": pa.array(["a", "b", None], pa.large_string()),
    "bytes": pa.array([b"a", b"b", None], pa.binary()),
    "words": pa.array(["a", "b", None]).dictionary_encode(),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_text_of_every_kind(name: str) -> None:
    asked = RowFilter(f"{name} = 'a'")
    asked.check(pa.schema([(name, COLUMNS[name].type)]), "x.parquet")
    assert asked.judge_columns([COLUMNS[name]]).passes.tolist() == [True, False, False]


def test_a_time_is_that_of_utc_whatever_the_machine_says() -> None:
    column = pa.array([0, 3_600_000], pa.timestamp("ms", "Asia/Tokyo"))
    assert RowFilter("made >= '1970-01-01 01:00:00'").judge_columns([column]).passes.tolist() == [False, True]


def test_text_that_is_not_utf8_costs_its_row() -> None:
    verdict = RowFilter("t = 'a' or t is null").judge_columns([pa.array([b"a", b"\xff", None], pa.binary())])
    assert verdict.passes.tolist() == [True, False, True]
    assert verdict.bad[1][0] == "not UTF-8"


WRONG = {
    "n > 'abc'": "Could not convert string 'abc'",
    "lower(n) = 'a'": "No function matches the given name and argument types 'lower(BIGINT)'",
    "t > 5": "Cannot compare values of type VARCHAR and type INTEGER_LITERAL",
    "t + 1 = 2": "`where` cannot be evaluated",
    "length(t)": "it gives number, neither true nor false",
    "m = 'a'": "`where` names 'm', which is struct",
}


@pytest.mark.parametrize(("text", "says"), WRONG.items())
def test_a_table_whose_columns_have_other_types_is_refused_at_once(text: str, says: str) -> None:
    schema = pa.schema([("n", pa.int64()), ("t", pa.string()), ("m", pa.struct([("a", pa.string())]))])
    with pytest.raises(SourceError) as raised:
        RowFilter(text).check(schema, "x.parquet")
    assert says in raised.value.message
    assert raised.value.where == "x.parquet"
    assert raised.value.hint
    assert not [word for word in ("Error", "LINE", "c0", "explicit type casts") if word in str(raised.value)]


Row = dict[str, Any]
NUMBERS = st.one_of(st.integers(-5, 5), st.sampled_from([0.5, 2.5, -1.0]))
ROWS = st.lists(
    st.fixed_dictionaries(
        {"t": st.one_of(st.none(), st.text("abä ", max_size=4)), "flag": st.one_of(st.none(), st.booleans())},
        optional={"n": st.one_of(st.none(), NUMBERS, st.text("ab", max_size=2))},
    ),
    max_size=30,
)


def _and(*parts: bool | None) -> bool | None:
    return False if False in parts else None if None in parts else True


def _long(row: Row) -> bool | None:
    return None if row["t"] is None else len(row["t"]) > 2


def _big(row: Row) -> bool | None:
    value = row.get("n")
    return None if value is None else value > 1


def _starts(row: Row) -> bool | None:
    return None if row["t"] is None else row["t"].startswith("a")


# Each with what Python says: True, False, None (unknown).
CONDITIONS: dict[str, Callable[[Row], bool | None]] = {
    "length(t) > 2": _long,
    "t like 'a%' and n > 1": lambda row: _and(_starts(row), _big(row)),
    "flag and length(t) > 2": lambda row: _and(row["flag"], _long(row)),
    "n > 1": _big,
    "t in ('a', 'b', '')": lambda row: None if row["t"] is None else row["t"] in ("a", "b", ""),
    "t is null or flag is not null": lambda row: row["t"] is None or row["flag"] is not None,
    "contains(t, 'ä')": lambda row: None if row["t"] is None else "ä" in row["t"],
}


@pytest.mark.parametrize("text", CONDITIONS)
@given(rows=ROWS)
@settings(max_examples=40, deadline=None)
def test_a_filter_says_what_python_says(text: str, rows: list[Row]) -> None:
    asked = RowFilter(text)
    verdict = asked.judge_values([[row.get(name, MISSING) for row in rows] for name in asked.fields])
    # `n > 1` of a text has no meaning, in lossary as in Python.
    odd = {place for place, row in enumerate(rows) if "n" in asked.fields and isinstance(row.get("n"), str)}
    assert set(verdict.bad) == odd
    expected = [place not in odd and CONDITIONS[text](row) is True for place, row in enumerate(rows)]
    assert verdict.passes.tolist() == expected


NEIGHBOURS = [
    "n > 1 and (length(t) > 1 or flag)",
    # What DuckDB need not evaluate for one row alone it does for many: failures would be told or not.
    "try_cast(coalesce(t, 'q') as int) >= cast(n as int)",
    "coalesce((case when flag then null else 1 end) > cast(t as int), true)",
    "case when t like 'a%' then cast(n as int) > 1 else cast(t as int) is null end",
]


@pytest.mark.parametrize("text", NEIGHBOURS)
@given(rows=ROWS, cut=st.integers(0, 30))
@settings(max_examples=25, deadline=None)
def test_a_row_is_judged_alike_whatever_stands_beside_it(text: str, rows: list[Row], cut: int) -> None:
    asked = RowFilter(text)
    columns = [[row.get(name, MISSING) for row in rows] for name in asked.fields]
    whole = asked.judge_values(columns)
    first = min(cut, len(rows))
    pieces = [(0, slice(first)), (first, slice(first, None)), *((row, slice(row, row + 1)) for row in range(len(rows)))]
    for start, piece in pieces:
        part = asked.judge_values([column[piece] for column in columns])
        stop = start + len(part.passes)
        assert part.passes.tolist() == whole.passes[start:stop].tolist()
        assert {row + start: why for row, why in part.bad.items()} == {
            row: why for row, why in whole.bad.items() if start <= row < stop
        }

"""Conditions: what is known is written anew, everything else is refused in one line, with its place."""

import pytest

from lossary.errors import StudyError
from lossary.expressions import ConditionError, connection, parse_condition
from lossary.study_file import parse_study

KNOWN = {
    "lang = 'de' and length(text) > 200": ("lang", "text"),
    "meta.lang <> 'de'": ("meta.lang",),
    "meta['lang'].code = 'de'": ("meta.lang.code",),
    "\"meta.lang\" = 'de'": ("meta.lang",),
    "\"we ird\".\"x\"\"y\" in ('a', 'it''s')": ('we ird.x"y',),
    "Lang = lang": ("Lang", "lang"),
    "score between -1 and 1.5e3 or not flag": ("score", "flag"),
    "title like '%a%' and body not ilike 'b!%' escape '!'": ("title", "body"),
    "a is null or b is not null or c is true or d is not distinct from 3": ("a", "b", "c", "d"),
    "case when a then 'x' else b end = 'x'": ("a", "b"),
    "cast(n as decimal(10, 2)) > 1 and try_cast(m as double) < 2 and d::date > '2020-01-01'": ("n", "m", "d"),
    "a + b * -c % 3 // 2 / 7 - 1 >= 0 and a || 'x' = 'yx'": ("a", "b", "c"),
    "regexp_matches(text, '^[a-z]+', 'i') and text ~ 'a' and text similar to 'b+'": ("text",),
    "'news' in tags and contains(tags, 'sport') and len(tags) < 3": ("tags",),
    "coalesce(lower(trim(lang)), '') = 'de' and starts_with(url, 'https')": ("lang", "url"),
    "position('a' in t) > 1 and substring(t from 1 for 2) = 'ab' and left(t, 1) = 'a'": ("t",),
    "text = 'ü🙂' and größe > 3": ("text", "größe"),
}

REFUSED = {
    # Other statements, and more of this one.
    "": "the condition is empty",
    " \n ": "the condition is empty",
    "a = 1; DROP TABLE rows": "more than a condition",
    "a = 1;": "at character 6: there is ';'",
    "a = 1 group by a": "more than a condition",
    "a order by 1": "more than a condition",
    "a = 1 limit 5": "more than a condition",
    "a = 1 qualify true": "more than a condition",
    "a = 1 union all select 1": "more than a condition",
    "a) UNION SELECT (1": "at character 2: ')' is not expected here",
    "true) or (a": "at character 5: ')' is not expected here",
    "select 1": "at character 1: 'select' is not expected here",
    "PRAGMA database_list": "at character 8: 'database_list'",
    "COPY (select 1) TO '/tmp/x'": "at character 7: 'select'",
    "SET threads = 4": "at character 5: 'threads'",
    "INSTALL httpfs": "at character 9: 'httpfs'",
    "attach '/tmp/x.db'": "the type 'attach' is not known",
    # Queries, files, settings, functions of the machine.
    "a in (select 1)": "at character 6: a query inside",
    "exists (select 1)": "at character 1: a query inside",
    "a = any(select 1)": "a query inside",
    "a = (from read_csv('/etc/passwd'))": "at character 5: a query inside",
    "a = (select content from read_text('/etc/passwd'))": "a query inside",
    "read_csv('/etc/passwd') = a": "at character 1: the function 'read_csv'",
    "a = 1 and read_parquet('x') = 2": "at character 11: the function 'read_parquet'",
    "getenv('HOME') = a": "the function 'getenv'",
    "current_setting('threads') = a": "the function 'current_setting'",
    "set_config('threads', 3) = a": "the function 'set_config'",
    "nextval('s') = a": "the function 'nextval'",
    "random() > 0.5 and a = 1": "the function 'random'",
    "now() > a": "the function 'now'",
    "sleep_ms(3) = a": "the function 'sleep_ms'",
    "repeat(a, 1000000000) = 'x'": "the function 'repeat'",
    "a.query('select 1') = 1": "this form of 'query'",
    # Aggregates, windows, forms of SQL that have no place here.
    "count(*) > 1": "at character 1: the function 'count'",
    "sum(a) > 1": "the function 'sum'",
    "row_number() over () > 1": "a window function",
    "lower(a) filter (where true) = 'x'": "this form of 'lower'",
    "length(distinct a) > 1": "this form of 'length'",
    "length(a := 3) > b": "this form of 'length'",
    "main.lower(a) = 'x'": "this form of 'lower'",
    "*": "`*` is not known",
    "columns(*)": "`*` is not known",
    "a = ?": "at character 5: a parameter",
    "a = $1": "a parameter",
    "#1 = 2": "a column by number",
    "a -> 1": "a lambda",
    "a collate nocase = 'x'": "COLLATE",
    "a[1] = 2": "at character 2: a part that is not named",
    "a[1:2] = 'x'": "array slice",
    "try(a)": "try is not known",
    "unnest(a) = 1": "the function 'unnest'",
    "{'a': 1} = a": "struct_pack",
    "a = X'ab'": "at character 5: a constant of the kind hex",
    "a at time zone 'UTC' > '2020-01-01'": "the function 'timezone'",
    # Slips of the pen.
    "lenght(text) > 3": "at character 1: the function 'lenght'",
    "text = 'ü🙂' and foo(text)": "at character 17: the function 'foo'",
    "a = 1 and\n  bad(a)": "at character 13: the function 'bad'",
    "a =": "at character 3: '=' is not expected here, or something is missing behind it",
    "(a = 1": "something is missing behind it",
    "a = 'x": "at character 5: unterminated string literal",
    'a = "x': "at character 5: ",
    "= 'x'": "at character 1: '='",
    "a::integr > 1": "at character 4: the type 'integr'",
    "a::int[] is null": "the type 'list'",
    "regexp_matches(a, '(')": "at character 19: the pattern",
    "1 = 1": "the condition names no field",
    "true": "the condition names no field",
    # Comments, size, depth.
    "a = 1 -- all": "at character 7: there is a comment",
    "a /* b */ = 1": "at character 3: there is a comment",
    "a = 1\0": "character 6 is a zero byte",
    "a = 'x' or " * 1000 + "a": "has 11,001 characters",
    "(" * 3000 + "a" + ")" * 3000: "nested more than 100 deep",
    "not " * 150 + "a": "nested more than 100 deep",
    "1+" * 900 + "a > 1": "nested more than 100 deep",
    "case when a then " * 300 + "a" + " end" * 300: "nested more than 100 deep",
}


@pytest.mark.parametrize(("text", "fields"), KNOWN.items())
def test_what_is_known_names_its_fields_and_is_written_anew(text: str, fields: tuple[str, ...]) -> None:
    condition = parse_condition(text)
    assert condition.fields == fields
    # What is written says the same when it is read again: nothing is lost between the two.
    again = parse_condition(condition.sql)
    assert again.sql == condition.sql


@pytest.mark.parametrize(("text", "says"), REFUSED.items(), ids=[text[:30] for text in REFUSED])
def test_everything_else_is_refused_in_one_line_of_the_study_file(text: str, says: str) -> None:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\0", "\\u0000")
    toml = f'name = "x"\n[datasets.d]\nsource = "a.jsonl"\nwhere = "{escaped}"\n'
    with pytest.raises(StudyError) as raised:
        parse_study(toml + '[runs.r]\nbackend = "torch"\nsize = "base"\n')
    assert says in raised.value.message
    assert "\n" not in raised.value.message
    assert len(raised.value.message) < 200
    assert raised.value.where == "$.datasets.d.where"
    assert raised.value.exit_code == 2
    assert not [word for word in ("Error", "LINE", "Parser", "Binder", "duckdb") if word in str(raised.value)]


def test_there_are_more_than_thirty_hostile_conditions() -> None:
    assert len(REFUSED) > 60


def test_a_near_name_is_offered_and_the_known_ones_are_listed() -> None:
    with pytest.raises(ConditionError) as raised:
        parse_condition("lenght(text) > 3")
    assert raised.value.hint is not None
    assert raised.value.hint.startswith("Did you mean 'length'? Known functions: abs, ")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/fields-x'",
        "SET threads = 2",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "INSTALL httpfs",
        "LOAD httpfs",
        "ATTACH '/tmp/fields-x.db'",
        "SELECT getenv('HOME')",
    ],
)
def test_the_connection_itself_reaches_nothing_outside(statement: str) -> None:
    import duckdb

    with pytest.raises(duckdb.Error):
        connection().execute(statement).fetchall()

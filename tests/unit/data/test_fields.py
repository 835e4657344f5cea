"""Fields inside others, joined fields, conditions and limits: the same rows from every format, whatever its blocks."""

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from tests.conftest import write_tiny_sources

from lossary.data import parsing, prepare, sources, streams
from lossary.data.changes import data_changes, reading
from lossary.data.parsing import ParsedBlock, parse
from lossary.data.prepare import prepare_datasets
from lossary.data.source_files import list_files
from lossary.data.sources import read_blocks
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import SourceError, StudyError
from lossary.files import digest_file, digest_json, read_json
from lossary.folder import StudyFolder
from lossary.study import Dataset, Study
from lossary.study_file import parse_study

ROWS: list[dict[str, Any]] = [
    {
        "text": f"text number {i} " + "word " * (i % 9),
        "title": None if i % 4 == 0 else f"Title {i}",
        "lang": ["de", "en", None][i % 3],
        "n": i % 10,
        "meta": {"source": {"name": f"site {i % 5}"}, "body": f"body of {i}"},
    }
    for i in range(200)
]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=37)


def flat(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "meta"} | {"meta.body": row["meta"]["body"]}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    delimiter = "\t" if ".tsv" in path.name else ","
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat(rows[0])), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(map(flat, rows))
    path.write_text(text.getvalue())


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(row["text"] + "\n" for row in rows))


Write = Callable[[Path, list[dict[str, Any]]], None]


def packed(write: Write) -> Write:
    def write_packed(path: Path, rows: list[dict[str, Any]]) -> None:
        plain = path.with_suffix("")
        write(plain, rows)
        data = plain.read_bytes()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else zstandard.compress(data))

    return write_packed


TABLES: dict[str, Write] = {
    "a.jsonl": write_jsonl,
    "a.json": write_json,
    "a.parquet": write_parquet,
    "a.csv": write_csv,
    "a.tsv": write_csv,
    "a.jsonl.zst": packed(write_jsonl),
    "a.csv.gz": packed(write_csv),
    "a.json.gz": packed(write_json),
}
FORMATS = TABLES | {"a.txt": write_lines, "a.txt.gz": packed(write_lines)}


def read(root: Path, source: str | list[str], **keys: Any) -> ParsedBlock:
    """All rows of a source."""
    dataset = Dataset.model_validate({"source": source, **keys})
    whole = ParsedBlock()
    for block in read_blocks(dataset, list_files(dataset, root, where="$.datasets.x.source")):
        for part in parse(block):
            whole.rows += part.rows
            whole.texts += part.texts
            whole.filtered += part.filtered
            whole.bad += part.bad
    return whole


def texts(found: ParsedBlock) -> list[str]:
    return [one[0] for one in found.texts]


@pytest.mark.parametrize("name", TABLES)
def test_a_field_inside_another(tmp_path: Path, name: str) -> None:
    TABLES[name](tmp_path / name, ROWS)
    found = read(tmp_path, name, text="meta.body")
    assert texts(found) == [row["meta"]["body"] for row in ROWS]
    assert not found.bad


@pytest.mark.parametrize("name", TABLES)
def test_several_fields_are_joined_and_parts_without_text_skipped(tmp_path: Path, name: str) -> None:
    TABLES[name](tmp_path / name, ROWS)
    found = read(tmp_path, name, text=["title", "text", "meta.body"], join=" | ")
    parts = [[row["title"], row["text"], row["meta"]["body"]] for row in ROWS]
    assert texts(found) == [" | ".join(part for part in row if part) for row in parts]


@pytest.mark.parametrize("name", TABLES)
def test_a_pair_of_fields_inside_others_stays_a_pair(tmp_path: Path, name: str) -> None:
    TABLES[name](tmp_path / name, ROWS)
    found = read(tmp_path, name, text=["text", "meta.body"])
    assert found.texts == [(row["text"], row["meta"]["body"]) for row in ROWS]


@pytest.mark.parametrize("name", FORMATS)
def test_a_condition_on_the_text(tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name, ROWS)
    found = read(tmp_path, name, where="length(text) > 40")
    assert texts(found) == [row["text"] for row in ROWS if len(row["text"]) > 40]
    assert sorted(found.rows + found.filtered) == list(range(200))


@pytest.mark.parametrize("name", TABLES)
def test_a_condition_on_other_fields_than_the_text(tmp_path: Path, name: str) -> None:
    TABLES[name](tmp_path / name, ROWS)
    found = read(tmp_path, name, where="lang = 'de' and meta.body not like '%0' and cast(n as int) > 2")
    passing = [i for i, row in enumerate(ROWS) if row["lang"] == "de" and i % 10 and row["n"] > 2]
    assert found.rows == passing
    assert len(found.filtered) == 200 - len(passing)


@pytest.mark.parametrize("limit", [1, 30, 67, 500])
@pytest.mark.parametrize("name", FORMATS)
def test_a_limit_is_the_first_documents_in_file_order(tmp_path: Path, name: str, limit: int) -> None:
    FORMATS[name](tmp_path / name, ROWS)
    all_rows = read(tmp_path, name, where="length(text) > 20")
    found = read(tmp_path, name, where="length(text) > 20", limit=limit)
    assert found.rows == all_rows.rows[:limit]
    assert found.texts == all_rows.texts[:limit]
    assert found.filtered == [row for row in all_rows.filtered if row < found.rows[-1] or len(all_rows.rows) < limit]


def test_a_limit_runs_over_files_and_leaves_bad_rows_out(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}, {"text": 3}, {"text": "two"}])
    write_jsonl(tmp_path / "b.jsonl", [{"text": ""}, {"text": "three"}, {"text": None}, {"text": "four"}])
    found = read(tmp_path, "*.jsonl", limit=3)
    assert texts(found) == ["one", "two", "three"]
    assert [bad.row for bad in found.bad] == [1, 3]


def test_documents_of_paragraphs_and_files_are_filtered_and_limited(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short\n\na longer\nparagraph\n\nanother longer one\n\nand a last long one\n")
    found = read(tmp_path, "a.txt", documents="blank_lines", where="length(text) > 6", limit=2)
    assert texts(found) == ["a longer\nparagraph", "another longer one"]
    assert found.rows == [2, 5]
    assert found.filtered == [0]
    assert texts(read(tmp_path, "a.txt", documents="file", where="contains(text, 'last')"))[0].startswith("short")


KEYS = [
    {"text": "meta.body"},
    {"text": ["title", "text"], "join": "\n"},
    {"where": "n > 3 and lang is not null"},
    {"where": "n > 3", "limit": 41},
    {"text": ["title", "meta.body"], "join": "\n", "where": "meta.source.name = 'site 2'", "limit": 7},
]


@pytest.mark.parametrize("keys", KEYS, ids=range(len(KEYS)))
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_the_size_of_blocks_changes_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, keys: dict[str, Any]
) -> None:
    rows = [*ROWS, {"text": "odd", "title": None, "lang": "de", "n": None, "meta": {"source": None, "body": ""}}]
    TABLES[name](tmp_path / name, rows)
    whole = read(tmp_path, name, **keys)
    for size in (1, 700, 5000):
        monkeypatch.setattr(sources, "BLOCK_BYTES", size)
        monkeypatch.setattr(parsing, "BLOCK_BYTES", size)
        monkeypatch.setattr(parsing, "_BATCH_ROWS", size % 50 + 1)
        monkeypatch.setattr(streams, "_READ_BYTES", size)
        assert read(tmp_path, name, **keys) == whole


def test_all_formats_give_the_same(tmp_path: Path) -> None:
    keys = {"text": ["title", "meta.body"], "join": " / ", "where": "lang = 'en' or meta.body like '%7'", "limit": 50}
    for name, write in TABLES.items():
        write(tmp_path / name, ROWS)
    found = [read(tmp_path, name, **keys) for name in TABLES]
    assert len(found[0].rows) == 50
    assert all(one == found[0] for one in found)


def test_a_field_of_that_very_name_is_meant_first(tmp_path: Path) -> None:
    row = {"meta.text": "at the top", "meta": {"text": "inside"}}
    write_jsonl(tmp_path / "a.jsonl", [row, {"meta": {"text": "inside only"}}])
    write_parquet(tmp_path / "a.parquet", [row])
    assert texts(read(tmp_path, "a.jsonl", text="meta.text")) == ["at the top", "inside only"]
    assert texts(read(tmp_path, "a.parquet", text="meta.text")) == ["at the top"]
    assert not read(tmp_path, "a.parquet", text="meta.text", where="meta.text = 'inside'").rows


def test_names_inside_may_hold_dots_as_well(tmp_path: Path) -> None:
    rows = [{"meta": {"dc.title": "dotted"}, "a.b": {"c": "below"}}]
    for name, write in (("a.jsonl", write_jsonl), ("a.parquet", write_parquet)):
        write(tmp_path / name, rows)
        assert texts(read(tmp_path, name, text=["meta.dc.title", "a.b.c"], join=" ")) == ["dotted below"]


def test_inside_of_null_is_null(tmp_path: Path) -> None:
    rows = [{"meta": {"text": "a"}}, {"meta": None}, {"meta": {"text": None}}]
    for name, write in (("a.jsonl", write_jsonl), ("a.parquet", write_parquet)):
        write(tmp_path / name, rows)
        found = read(tmp_path, name, text="meta.text")
        assert [(bad.row, bad.reason) for bad in found.bad] == [
            (1, "'meta.text' is null, not text"),
            (2, "'meta.text' is null, not text"),
        ]


def test_what_is_bad_in_joined_fields(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"a": "one", "b": "two"},
        {"a": "one"},
        {"b": " "},
        {"a": None, "b": ""},
        {},
        {"a": 3, "b": "two"},
        {"a": "one", "b": ["two"]},
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    found = read(tmp_path, "a.jsonl", text=["a", "b"], join="+")
    assert texts(found) == ["one+two", "one"]
    assert {bad.row: bad.reason for bad in found.bad} == {
        2: "empty",
        3: "empty",
        4: "empty",
        5: "'a' is number, not text",
        6: "'b' is list, not text",
    }


def test_bad_rows_are_told_in_the_order_of_rows_and_filtered_ones_are_not_bad(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"text": "", "n": 1}\n{"text": "x", "n": "high"}\nnot json\n{"text": "", "n": 9}\n{"text": "y", "n": 9}\n'
    )
    found = read(tmp_path, "a.jsonl", where="n > 5")
    assert (texts(found), found.filtered) == (["y"], [0])
    assert [(bad.row, bad.reason) for bad in found.bad] == [
        (1, "`where` cannot be evaluated: 'n' is text"),
        (2, "not JSON"),
        (3, "empty"),
    ]


WRONG_FIELDS = [
    ("a.parquet", {"text": "meta.bdoy"}, "no field is called 'meta.bdoy', and none in 'meta' 'bdoy'", "meta.body"),
    ("a.parquet", {"text": "titel"}, "no field is called 'titel'", "title"),
    ("a.parquet", {"text": "meta.source"}, "'meta.source' is struct<name: string>; text is expected", None),
    ("a.parquet", {"where": "lnag = 'de'"}, "no field is called 'lnag' (named by `where`)", "lang"),
    ("a.parquet", {"where": "n = 'x'"}, "`where` cannot be evaluated: Could not convert string 'x'", None),
    ("a.csv", {"text": "meta.bdoy"}, "no field is called 'meta.bdoy', and none in 'meta' 'bdoy'", "meta.body"),
    ("a.csv", {"where": "lnag = 'de'"}, "no field is called 'lnag' (named by `where`)", "lang"),
    ("a.csv", {"where": "n > 3"}, "`where` cannot be evaluated: Cannot compare values of type VARCHAR", None),
    ("a.txt", {"where": "lang = 'de'"}, "no field is called 'lang' (named by `where`)", None),
    ("a.txt", {"text": ["a", "b"], "join": " "}, "plain text has one field, and several are asked for", None),
    ("a.jsonl", {"where": "lnag is null"}, "no field is called 'lnag' (named by `where`)", "lang"),
    ("a.jsonl", {"text": ["titel", "text"], "join": " "}, "no field is called 'titel' (named by `text`)", "title"),
    ("a.jsonl", {"text": "meta.bdoy"}, "200 rows no field 'meta.bdoy', nor 'bdoy' in 'meta'", "meta.body"),
    ("a.jsonl", {"where": "lower(n) = 'x'"}, "200 rows `where` cannot be evaluated: 'n' is number", None),
    ("a.jsonl", {"where": "n > 99"}, "the condition passes none of 200 rows", None),
]


@pytest.mark.parametrize(("name", "keys", "says", "near"), WRONG_FIELDS, ids=range(len(WRONG_FIELDS)))
def test_what_the_rows_do_not_have_is_refused_with_what_they_have(
    tmp_path: Path, name: str, keys: dict[str, Any], says: str, near: str | None
) -> None:
    FORMATS[name](tmp_path / name, ROWS)
    with pytest.raises(SourceError) as raised:
        prepare.judge(
            "x", dataset := Dataset.model_validate({"source": name, **keys}), files(dataset, tmp_path), where="k"
        )
    assert says in raised.value.message
    assert raised.value.where == ("k.where" if "passes none" in says else str(tmp_path / name))
    assert raised.value.exit_code == 3
    if near is not None:
        assert raised.value.hint is not None
        assert raised.value.hint.startswith(f"Did you mean {near!r}? Fields: {near}, ")


def files(dataset: Dataset, root: Path) -> list[Any]:
    return list_files(dataset, root, where="x")


WRONG_KEYS = [
    ('text = ["a", "b", "c"]', "text names 3 fields"),
    ('join = " "', "join makes one text of several fields, and text names 1"),
    ('text = ["a"]\njoin = " "', "join makes one text of several fields, and text names 1"),
    ('text = ["a", "b", "a"]\njoin = " "', "text names the field 'a' twice"),
    ('text = ["a", "b"]\njoin = \'\\n\'', "a backslash and a letter"),
    ("limit = 0", "greater than or equal to 1"),
    ("limit = -5", "greater than or equal to 1"),
    ("limit = 1.5", "valid integer"),
    ("limit = true", "valid integer"),
    ('limit = "10"', "valid integer"),
    ("where = 3", "valid string"),
    ("where = ['a = 1']", "valid string"),
]


@pytest.mark.parametrize(("keys", "says"), WRONG_KEYS)
def test_wrong_keys_are_refused_by_the_study_file(keys: str, says: str) -> None:
    with pytest.raises(StudyError, match="datasets") as raised:
        parse_study(
            f'name = "x"\n[datasets.d]\nsource = "a.jsonl"\n{keys}\n[runs.r]\nbackend = "torch"\nsize = "base"\n'
        )
    assert says in raised.value.message


# --- prepared studies ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    write_tiny_sources(tmp_path)
    (tmp_path / "study.toml").touch()
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    return StudyFolder(tmp_path)


def study_of(keys: str, *, source: str = "rows.jsonl") -> Study:
    return parse_study(
        f'name = "x"\n[tokenizer]\nvocabulary_size = 60\nsample_bytes = 200000\n[datasets.stories]\n'
        f'source = "stories.jsonl"\n[datasets.rows]\nsource = "{source}"\n{keys}\n'
        '[runs.r]\nbackend = "torch"\nsize = "base"\n'
    )


def prepared(study: Study, folder: StudyFolder) -> dict[str, Any]:
    return prepare_datasets(study, folder, workers=1)["rows"]


def test_without_the_keys_nothing_is_named_that_was_not_named_before(folder: StudyFolder) -> None:
    study = study_of("")
    assert reading(study.datasets["rows"]) == {"fields": ["text"], "documents": "lines"}
    manifest = prepared(study, folder)
    content = digest_file(folder.root / "rows.jsonl")
    model = open_tokenizer(folder).digest
    assert manifest["request"] == digest_json([2, [content], {"fields": ["text"], "documents": "lines"}, model])
    assert manifest["reading"] == {"fields": ["text"], "documents": "lines"}
    assert "filtered_rows" not in manifest
    made_from = read_json(folder.tokenizer / "manifest.json")["made_from"]
    assert made_from["trained_on"]["rows"] == digest_json([[content], {"fields": ["text"], "documents": "lines"}])


@pytest.mark.parametrize(
    ("key", "value"),
    [("join", '"\\n"\ntext = ["title", "text"]'), ("where", '"n > 3"'), ("limit", "50"), ("text", '"meta.body"')],
)
def test_a_key_that_changes_is_another_way_of_reading(folder: StudyFolder, key: str, value: str) -> None:
    prepared(study_of(""), folder)
    study = study_of(f"{key} = {value}")
    assert reading(study.datasets["rows"]) != reading(study_of("").datasets["rows"])
    # The tokenizer, which no run depends on, was trained on the text that changed.
    assert data_changes(study, folder).tokenizer.fate == "anew"
    prepared(study, folder)
    assert data_changes(study, folder).anew == []
    assert data_changes(study_of(""), folder).anew


def test_what_a_condition_left_out_is_counted_and_said(folder: StudyFolder) -> None:
    manifest = prepared(study_of('where = "n > 6"'), folder)
    assert (manifest["documents"], manifest["bad_rows"], manifest["filtered_rows"]) == (60, 0, 140)
    assert manifest["notes"] == ["`where` kept 60 of 200 rows"]


def test_a_limit_above_what_there_is_is_a_note(folder: StudyFolder) -> None:
    manifest = prepared(study_of("limit = 100000"), folder)
    assert manifest["documents"] == 200
    assert manifest["notes"] == ["limit is 100,000, and there are 200 documents"]
    assert prepared(study_of("limit = 200"), folder)["notes"] == []


def test_a_condition_that_passes_nothing_is_one_error_and_makes_nothing(folder: StudyFolder) -> None:
    with pytest.raises(SourceError) as raised:
        prepared(study_of('where = "n > 99"'), folder)
    assert raised.value.message == "the condition passes none of 200 rows"
    assert raised.value.where == f"{folder.study_file}: $.datasets.rows.where"
    assert not (folder.root / "prepared").exists()
    assert not folder.tokenizer.exists()


def test_work_cut_short_goes_on_to_the_same_bytes(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(streams, "_READ_BYTES", 1000)
    study = study_of('text = ["title", "text"]\njoin = "\\n"\nwhere = "n <> 4"\nlimit = 120')
    whole_manifest = prepared(study, folder)
    whole = {path.name: path.read_bytes() for path in folder.dataset("rows").iterdir()}
    shutil.rmtree(folder.root / "prepared")
    tokenise, made = prepare.tokenise_block, 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        made += 1
        if made == 22:
            raise KeyboardInterrupt
        return tokenise(*args, **kwargs)

    monkeypatch.setattr(prepare, "tokenise_block", failing)
    with pytest.raises(KeyboardInterrupt):
        prepared(study, folder)
    assert (folder.root / "prepared" / ".rows.partial").is_dir()
    assert prepared(study, folder) == whole_manifest
    assert {path.name: path.read_bytes() for path in folder.dataset("rows").iterdir()} == whole
    assert whole_manifest["documents"] == 120


def test_processes_give_the_same_bytes(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(streams, "_READ_BYTES", 1000)
    monkeypatch.setattr(prepare, "_WORTH_A_PROCESS", 1)
    study = study_of("where = \"lang = 'de'\"\nlimit = 50")
    one = prepare_datasets(study, folder, workers=1)["rows"]
    shutil.rmtree(folder.root / "prepared")
    assert prepare_datasets(study, folder, workers=2)["rows"] == one


def test_the_tokenizer_is_trained_on_what_is_read_and_in_its_proportion(folder: StudyFolder) -> None:
    rows = [{"text": "xylophon " * 40, "keep": False}] * 3000 + [
        {"text": f"quartz {i} " * 3, "keep": True} for i in range(50)
    ]
    write_jsonl(folder.root / "many.jsonl", rows)
    study = study_of('where = "keep"', source="many.jsonl")
    lines = list(prepare._sample(study, {n: files(d, folder.root) for n, d in study.datasets.items()}))
    assert not [line for line in lines if "xylophon" in line]
    # All that is left of it is taken, however large the file is.
    assert len([line for line in lines if "quartz" in line]) == 50


def test_the_text_that_sides_are_given_is_that_of_the_study(folder: StudyFolder) -> None:
    from lossary.diagnosis.documents import sample_documents

    study = study_of('text = ["title", "meta.body"]\njoin = ": "\nwhere = "n = 3"\nlimit = 2')
    found = [one["text"] for one in sample_documents(study, folder, most=5) if one["dataset"] == "rows"]
    assert found == ["Title 3: body of 3", "Title 13: body of 13"]

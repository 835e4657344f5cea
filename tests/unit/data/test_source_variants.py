"""A hundred ways in which sources and tokenizers come: each is read, or refused in one message of lossary's own."""

import gzip
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossary.data.prepare import prepare_datasets
from lossary.data.validation import prepare_examples
from lossary.errors import DataError, LossaryError, SourceError
from lossary.folder import StudyFolder
from lossary.study_file import parse_study

WORDS = [
    a + b + c for a in ("ba", "ke", "lo", "mi") for b in ("nu", "pra", "sto") for c in ("vel", "zan", "qui", "rof")
]
TEXTS = [f"{WORDS[i % 48]} {WORDS[(i * 7) % 48]} {WORDS[(i * 11 + 3) % 48]}." for i in range(60)]
LINES = ("\n".join(TEXTS) + "\n").encode()
JSONL = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
ROWS = [{"text": text} for text in TEXTS]
NESTED = "".join(json.dumps({"meta": row}) + "\n" for row in ROWS).encode()
CSV = b"id,text\n" + b"".join(f'{i},"{text}"\n'.encode() for i, text in enumerate(TEXTS))
# What no message may show: names of libraries' files, functions and their own words.
INTERNALS = (
    "INTERNAL",
    ".cc(",
    "Traceback",
    "Error:",
    "_row_groups",
    "sentencepiece_",
    "pyarrow",
    "fsspec",
    "ArrowInvalid",
)


def parquet(**columns: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        pq.write_table(pa.table(columns), path)

    return write


def raw(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def twice_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(TEXTS), pa.array(TEXTS)], names=["text", "text"]), path)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@dataclass(frozen=True)
class Variant:
    """A file, how the study names it, and what comes of it: a number of documents, or a part of the message."""

    file: str
    write: Callable[[Path], None]
    expected: int | str
    source: str = ""
    more: str = ""
    bad: int = 0


ARRAY = json.dumps(ROWS).encode()
PRETTY = json.dumps(ROWS[0], indent=2).encode()
ZST = zstandard.ZstdCompressor().compress
VARIANTS = [
    # Text.
    Variant("a.txt", raw(LINES), 60),
    Variant("a.TXT", raw(LINES), 60),
    Variant("a.txt", raw(LINES.rstrip(b"\n")), 60),
    Variant("a.txt", raw(b""), "it is empty"),
    Variant(
        "a.jsonl", raw(JSONL + b'{"text": "ba", "text": "ke lo."}\n{"text": "ba.", "meta": {"text": 1}}\n'), 61, bad=1
    ),
    Variant("a.jsonl", raw(JSONL + b'{"x": 1, "text": "ba ke.", "x": 2}\n'), 61),
    Variant("a.json", raw(b'[{"text": "ba ke.", "text": "lo."}, {"text": "mi."}]'), "the key 'text' twice"),
    Variant("a.json", raw(json.dumps([*ROWS, {"text": 'ba "text" ke.'}, {"text": "mi.", "meta": ROWS}]).encode()), 62),
    Variant("a.txt", raw(b"\n \n\t\n"), "no usable row"),
    Variant("a.txt", raw(b"\xef\xbb\xbf" + LINES), 60),
    Variant("a.txt", raw("\n".join(TEXTS).encode("utf-16")), "UTF-16"),
    Variant("a.txt", raw(LINES + "caf\xe9 au lait\n".encode("latin-1")), 60, bad=1),
    Variant("a.txt", raw("\n".join(f"caf\xe9 {text}" for text in TEXTS).encode("latin-1")), "not UTF-8"),
    Variant("a.txt", raw(LINES.replace(b"\n", b"\r\n")), 60),
    Variant("a.txt", raw(LINES.replace(b"\n", b"\r")), 1),
    Variant("a.txt", raw(LINES + b"a\x00b\n"), 61),
    Variant("a.txt", raw(LINES.replace(b"\n", b"\n\n")), 60),
    Variant("a.txt", raw(LINES.replace(b"\n", b"\n\n")), 60, more='\ndocuments = "blank_lines"'),
    Variant("a.txt", raw(LINES), 1, more='\ndocuments = "file"'),
    Variant("a.txt", raw(LINES), "plain text has one field", more='\ntext = ["a", "b"]'),
    Variant("a.txt", raw(LINES + b"x" * (17 << 20)), 60, bad=1),
    # Compressed.
    Variant("a.txt.gz", raw(gzip.compress(LINES)), 60),
    Variant("a.TXT.GZ", raw(gzip.compress(LINES)), 60),
    Variant("a.txt.gz", raw(gzip.compress(LINES[:900]) + gzip.compress(LINES[900:])), 60),
    Variant("a.txt.gz", raw(gzip.compress(LINES)[:-20]), "damaged or cut short"),
    Variant("a.txt.gz", raw(LINES), "damaged or cut short"),
    Variant("a.txt.gz", raw(b""), "it is empty"),
    Variant("a.txt.zst", raw(ZST(LINES)), 60),
    Variant("a.txt.zst", raw(ZST(LINES[:900]) + ZST(LINES[900:])), 60),
    Variant("a.txt.zst", raw(ZST(LINES)[:-20]), "damaged or cut short"),
    Variant("a.txt.zst", raw(LINES), "damaged or cut short"),
    Variant("a.jsonl.zst", raw(ZST(JSONL)), 60),
    Variant("a.csv.gz", raw(gzip.compress(CSV)), 60),
    Variant("a.json.gz", raw(gzip.compress(ARRAY)), 60),
    Variant("a.txt", raw(gzip.compress(LINES)), "gzip (.gz), which its name"),
    # JSON Lines.
    Variant("a.jsonl", raw(JSONL), 60),
    Variant("a.ndjson", raw(JSONL), 60),
    Variant("a.JSONL", raw(JSONL), 60),
    Variant("a.jsonl", raw(b""), "it is empty"),
    Variant("a.jsonl", raw(b"\xef\xbb\xbf" + JSONL), 60),
    Variant("a.jsonl", raw(JSONL.replace(b"\n", b"\r\n")), 60),
    Variant("a.jsonl", raw(JSONL.replace(b"\n", b"\n\n")), 60),
    Variant("a.jsonl", raw(JSONL.rstrip(b"\n")), 60),
    Variant("a.jsonl", raw(JSONL[:-20]), 59, bad=1),
    Variant("a.jsonl", raw(ARRAY), "a JSON list, not an object"),
    Variant("a.jsonl", raw(b"1\n2\n"), "a JSON number, not an object"),
    Variant("a.jsonl", raw(b'"text"\n'), "a JSON text, not an object"),
    Variant("a.jsonl", raw(b"null\n"), "a JSON null, not an object"),
    Variant("a.jsonl", raw(JSONL.replace(b"text", b"body")), "no field 'text'"),
    Variant("a.jsonl", raw(JSONL + b'{"body": "x"}\n'), 60, bad=1),
    Variant("a.jsonl", raw(b'{"text": null}\n' * 5), "'text' is null, not text"),
    Variant("a.jsonl", raw(JSONL + b'{"text": null}\n{"text": 3}\n{"text": []}\n{"text": ""}\n'), 60, bad=4),
    Variant("a.jsonl", raw(JSONL.replace(b'{"text"', b'{"text": "old", "text"')), "60 rows the key 'text' twice"),
    Variant("a.jsonl", raw(JSONL + b'{"text": "\\ud800 lone"}\n'), 60, bad=1),
    Variant("a.jsonl", raw(JSONL + b'{"text": "caf\xe9"}\n'), 60, bad=1),
    Variant("a.jsonl", raw(LINES), "not JSON"),
    Variant("a.jsonl", raw(JSONL), "no field 'answer'", more='\ntext = ["text", "answer"]'),
    Variant("a.jsonl", raw(b'{"text": {"text": "nested"}}\n'), "'text' is object, not text"),
    Variant("a.jsonl", raw(json.dumps(ROWS[0], indent=1).encode()), "not JSON"),
    # JSON.
    Variant("a.json", raw(ARRAY), 60),
    Variant("a.json", raw(json.dumps(ROWS, indent=2).encode()), 60),
    Variant("a.json", raw(JSONL), 60),
    Variant("a.json", raw(PRETTY), "too large for this text"),
    Variant("a.json", raw(b"\xef\xbb\xbf" + ARRAY), 60),
    Variant("a.json", raw(b""), "it is empty"),
    Variant("a.json", raw(b"[]"), "it is empty"),
    Variant("a.json", raw(ARRAY[:-30]), "not JSON"),
    Variant("a.json", raw(b'["a", "b"]'), "a JSON text, not an object"),
    Variant("a.json", raw(JSONL + b"oops\n"), 60, bad=1),
    # CSV.
    Variant("a.csv", raw(CSV), 60),
    Variant("a.CSV", raw(CSV), 60),
    Variant("a.csv", raw(CSV.replace(b",", b";")), 60),
    Variant("a.tsv", raw(CSV.replace(b",", b"\t")), 60),
    Variant("a.csv", raw(b"\xef\xbb\xbf" + CSV), 60),
    Variant("a.csv", raw(CSV.replace(b"\n", b"\r\n")), 60),
    Variant("a.csv", raw(CSV.replace(b".", b"\n.")), 60),
    Variant("a.csv", raw(CSV + b'60,""\n'), 60, bad=1),
    Variant("a.csv", raw(CSV + b'60,"caf\xe9"\n'), 60, bad=1),
    Variant("a.csv", raw(CSV.replace(b"text", b"body", 1)), "no field is called 'text'"),
    Variant("a.csv", raw(b""), "it is empty"),
    Variant("a.csv", raw(b"id,text\n"), "it is empty"),
    Variant("a.csv", raw(CSV + b"1,2,3,4\n"), "not readable as CSV"),
    Variant("a.csv", raw(LINES), "no field is called 'text'"),
    Variant("a.csv", raw(CSV.replace(b"id", b"text", 1)), "2 columns are called 'text'"),
    Variant("a.parquet", twice_parquet, "2 columns are called 'text'"),
    # Parquet.
    Variant("a.parquet", parquet(text=TEXTS), 60),
    Variant("a.Parquet", parquet(text=TEXTS), 60),
    Variant("a.parquet", parquet(text=pa.array(TEXTS, pa.large_string())), 60),
    Variant("a.parquet", parquet(text=pa.array(TEXTS).dictionary_encode()), 60),
    Variant("a.parquet", parquet(text=pa.array([text.encode() for text in TEXTS], pa.binary())), 60),
    Variant("a.parquet", parquet(text=[*TEXTS, None, ""]), 60, bad=2),
    Variant("a.parquet", parquet(text=pa.array([], pa.string())), "it is empty"),
    Variant("a.parquet", parquet(text=[1, 2, 3]), "text is expected"),
    Variant("a.parquet", parquet(text=[["a"], ["b"]]), "text is expected"),
    Variant("a.parquet", parquet(body=TEXTS), "no field is called 'text'"),
    Variant("a.parquet", raw(b""), "it is empty"),
    Variant("a.parquet", raw(b"PAR1"), "not readable as Parquet"),
    Variant("a.parquet", raw(JSONL), "not readable as Parquet"),
    Variant("a.jsonl", parquet(text=TEXTS), "it holds Parquet"),
    Variant("a.parquet.gz", raw(b"x"), "of no known kind"),
    # Fields inside others, joins, conditions, limits.
    Variant("a.jsonl", raw(NESTED), 60, more='\ntext = "meta.text"'),
    Variant("a.jsonl", raw(NESTED + b'{"meta": null}\n{"meta": 3}\n{}\n'), 60, more='\ntext = "meta.text"', bad=3),
    Variant("a.json.gz", raw(gzip.compress(NESTED)), 60, more='\ntext = "meta.text"'),
    Variant("a.jsonl", raw(NESTED), "no field 'meta.txt', nor 'txt' in 'meta'", more='\ntext = "meta.txt"'),
    Variant("a.parquet", parquet(meta=ROWS), 60, more='\ntext = "meta.text"'),
    Variant("a.parquet", parquet(meta=ROWS), "none in 'meta' 'txt'", more='\ntext = "meta.txt"'),
    Variant(
        "a.parquet", parquet(meta=ROWS), "'meta' is struct<text: string>; text is expected", more='\ntext = "meta"'
    ),
    Variant("a.csv", raw(CSV.replace(b"text", b"meta.text", 1)), 60, more='\ntext = "meta.text"'),
    Variant("a.csv", raw(CSV), 60, more='\ntext = ["id", "text"]\njoin = " "'),
    Variant(
        "a.jsonl", raw(JSONL + b'{"more": "alone"}\n{}\n'), 61, more='\ntext = ["text", "more"]\njoin = " "', bad=1
    ),
    Variant("a.jsonl", raw(JSONL), "no field is called 'mroe'", more='\ntext = ["text", "mroe"]\njoin = " "'),
    Variant("a.txt", raw(LINES), "plain text has one field", more='\ntext = ["text", "b"]\njoin = " "'),
    Variant("a.csv.gz", raw(gzip.compress(CSV)), 50, more='\nwhere = "cast(id as int) < 50"'),
    Variant("a.csv", raw(CSV + b"x,y\n"), 60, more='\nwhere = "cast(id as int) < 99"', bad=1),
    Variant("a.csv", raw(CSV), "Cannot compare values of type VARCHAR", more='\nwhere = "id < 10"'),
    Variant("a.tsv", raw(CSV.replace(b",", b"\t")), 60, more="\nwhere = \"starts_with(text, 'b') or true\""),
    Variant("a.txt", raw(LINES + b"caf\xe9\n"), 60, more='\nwhere = "length(text) > 3"', bad=1),
    Variant("a.txt.zst", raw(ZST(LINES)), "no field is called 'lang'", more="\nwhere = \"lang = 'de'\""),
    Variant("a.jsonl", raw(JSONL), "the condition passes none of 60 rows", more='\nwhere = "length(text) > 999"'),
    Variant("a.jsonl", raw(JSONL), "the function 'read_csv' is not known", more="\nwhere = \"read_csv('x') = text\""),
    Variant("a.jsonl.zst", raw(ZST(JSONL)), 25, more="\nlimit = 25"),
    Variant("a.parquet", parquet(text=[None, *TEXTS]), 25, more="\nlimit = 25", bad=1),
    Variant("a.txt", raw(LINES), 60, more="\nlimit = 99"),
    # Files.
    Variant("a.doc", raw(LINES), "of no known kind"),
    Variant("noext", raw(LINES), "of no known kind"),
    Variant("a.txt", fifo, "not an ordinary file"),
    Variant("a.jsonl", folder, "is a folder"),
    Variant("a.txt", dangling, "no file matches"),
    Variant("a.txt", raw(LINES), "no file matches", source="b.txt"),
    Variant("a.txt", raw(LINES), "no file matches", source="b*.txt"),
    Variant("a.txt", raw(LINES), "no file matches", source="$HOME/a.txt"),
    Variant("a[1].txt", raw(LINES), 60),
    Variant("a [x] b.txt", raw(LINES), 60, source="*.txt"),
    Variant("тексты ☃.txt", raw(LINES), 60),
    Variant("a.txt", raw(LINES), 60, source='["a.txt", "*.txt", "./a.t*"]'),
    Variant("a.txt", raw(LINES), "no builtin dataset", source="builtin:nmaes"),
    Variant("a.txt", raw(LINES), "nosuch", source="nosuch://bucket/a.txt"),
]


def study_text(variant: Variant) -> str:
    source = variant.source or variant.file
    listed = source if source.startswith("[") else json.dumps(source, ensure_ascii=False)
    return (
        f'name = "v"\n[tokenizer]\nvocabulary_size = 60\n[datasets.a]\nsource = {listed}{variant.more}\n'
        '[runs.r]\nbackend = "torch"\nsize = "base"\n'
    )


def prepared(root: Path, text: str) -> dict[str, object]:
    (root / "study.toml").write_text(text, encoding="utf-8")
    return prepare_datasets(parse_study(text), StudyFolder(root), workers=1)["a"]


def test_there_are_a_hundred() -> None:
    assert len(VARIANTS) >= 100


@pytest.mark.parametrize("number", range(len(VARIANTS)), ids=[f"{i}-{v.file}" for i, v in enumerate(VARIANTS)])
def test_every_source_is_read_or_refused_in_words_of_its_own(tmp_path: Path, number: int) -> None:
    variant = VARIANTS[number]
    variant.write(tmp_path / variant.file)
    if isinstance(variant.expected, int):
        manifest = prepared(tmp_path, study_text(variant))
        assert (manifest["documents"], manifest["bad_rows"]) == (variant.expected, variant.bad)
        return
    with pytest.raises(LossaryError) as raised:
        prepared(tmp_path, study_text(variant))
    message = str(raised.value)
    assert variant.expected in message
    assert raised.value.exit_code in (2, 3)
    assert raised.value.where
    assert not [word for word in INTERNALS if word in message]
    # Nothing was made of it, nor of any other dataset.
    assert not (tmp_path / "prepared" / "a").exists()


TOKENIZERS = [
    (b"", "no SentencePiece model"),
    (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n", "no SentencePiece model"),
    (b'{"version": "1.0", "model": {"type": "BPE"}}', "no SentencePiece model"),
    (os.urandom(4000), "no SentencePiece model"),
]


@pytest.mark.parametrize(("data", "says"), TOKENIZERS)
def test_a_file_that_is_no_tokenizer_is_refused_in_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.txt").write_bytes(LINES)
    (tmp_path / "m.model").write_bytes(data)
    text = study_text(Variant("a.txt", raw(LINES), 0)).replace("vocabulary_size = 60", 'model = "m.model"')
    with pytest.raises(LossaryError) as raised:
        prepared(tmp_path, text)
    assert says in str(raised.value)
    assert str(raised.value.where) == f"{tmp_path / 'study.toml'}: $.tokenizer.model"
    assert not [word for word in INTERNALS if word in str(raised.value)]


@pytest.mark.parametrize(("size", "says"), [(5000, "which allows"), (32, "characters alone need")])
def test_a_vocabulary_that_does_not_fit_says_what_does(tmp_path: Path, size: int, says: str) -> None:
    letters = "".join(chr(0x4E00 + i) for i in range(80))
    data = LINES + "\n".join(letters[i:] for i in range(40)).encode()
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(LossaryError, match=says):
        prepared(tmp_path, study_text(Variant("a.txt", raw(b""), 0)).replace("= 60", f"= {size}"))


def test_the_second_dataset_is_judged_before_anything_is_made_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(LINES)
    (tmp_path / "b.jsonl").write_bytes(JSONL.replace(b"text", b"body"))
    text = study_text(Variant("a.txt", raw(b""), 0)).replace("[runs.r]", '[datasets.b]\nsource = "b.jsonl"\n[runs.r]')
    with pytest.raises(SourceError, match="dataset 'b' has no usable row: 60 rows no field 'text'"):
        prepared(tmp_path, text)
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "b.jsonl", "study.toml"}


def test_a_file_that_is_empty_among_others_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(LINES)
    (tmp_path / "b.txt").write_bytes(b"")
    assert prepared(tmp_path, study_text(Variant("a.txt", raw(b""), 0, source="*.txt")))["documents"] == 60


def test_brackets_in_the_name_of_the_study_are_no_pattern(tmp_path: Path) -> None:
    root = tmp_path / "study [1] *"
    root.mkdir()
    (root / "a.txt").write_bytes(LINES)
    assert prepared(root, study_text(Variant("a.txt", raw(b""), 0, source="*.txt")))["documents"] == 60
    assert prepared(root, study_text(Variant("a.txt", raw(b""), 0, source="a.txt")))["documents"] == 60


def test_home_is_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.txt").write_bytes(LINES)
    assert prepared(tmp_path, study_text(Variant("a.txt", raw(b""), 0, source="~/a.txt")))["documents"] == 60


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "json", "csv", "parquet", "txt.gz", "jsonl.zst"])
@given(data=st.binary(max_size=400))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(data)
    (tmp_path / "b.txt").write_bytes(LINES)
    text = study_text(Variant(f"a.{suffix}", raw(data), 0))
    text = text.replace("[runs.r]", '[datasets.b]\nsource = "b.txt"\n[runs.r]')
    with suppress(LossaryError):
        prepared(tmp_path, text)


@pytest.mark.parametrize(
    ("data", "says", "hint"),
    [
        (
            b"one text\nanother text\n",
            "has 2 documents, and [validation] max_fraction = 0.2 lets none",
            "It takes 5 doc",
        ),
        (
            ("schöner Bär am Tal\n" * 9 + "ein Haus\nein Weg\n").encode("latin-1"),
            "9 rows were left out as bad (9 not UTF-8)",
            "iconv",
        ),
    ],
)
def test_too_few_documents_say_how_many_there_are_and_what_became_of_the_rest(
    tmp_path: Path, data: bytes, says: str, hint: str
) -> None:
    text = study_text(Variant("a.txt", raw(b""), 0))
    folder = StudyFolder(tmp_path)
    (tmp_path / "a.txt").write_bytes(LINES)
    prepared(tmp_path, text)
    prepare_examples(parse_study(text), folder)
    more = text.replace("[runs.r]", '[datasets.b]\nsource = "b.txt"\n[runs.r]')
    (tmp_path / "b.txt").write_bytes(data)
    prepared(tmp_path, more)
    with pytest.raises(DataError) as raised:
        prepare_examples(parse_study(more), folder)
    assert says in raised.value.message
    assert hint in (raised.value.hint or "")
    assert raised.value.where == f"{tmp_path / 'study.toml'}: $.datasets.b"


@pytest.mark.parametrize(
    "data",
    [
        b'[\n{"text": "a"},\n{"text": "b"}\n]\n',
        b'[{"text": "a"},\n{"text": "b"}]\n',
        b'[{"text": "a"}, {"text": "b"}]\n',
    ],
)
def test_a_list_in_json_lines_is_told_what_it_should_be(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(SourceError, match=r"\.json( instead)?\."):
        prepared(tmp_path, study_text(Variant("a.jsonl", raw(b""), 0)))

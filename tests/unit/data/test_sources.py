"""Sources of every kind, and bad input by the dozen: what is wrong, in which file, at which row."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from lossary.data import parsing, sources, streams
from lossary.data.parsing import ParsedBlock, parse
from lossary.data.source_files import list_files
from lossary.data.sources import read_blocks
from lossary.errors import LossaryError, SourceError, StudyError
from lossary.study import Dataset

TEXTS = ["first text", "second: ещё один", "third\nwith a line"]


def read(root: Path, source: str | list[str], text: str | list[str] = "text", **more: str) -> ParsedBlock:
    """All rows of a source."""
    dataset = Dataset.model_validate({"source": source, "text": text, **more})
    whole = ParsedBlock()
    for block in read_blocks(dataset, list_files(dataset, root, where="$.datasets.x.source")):
        for part in parse(block):
            whole.rows += part.rows
            whole.texts += part.texts
            whole.bad += part.bad
    return whole


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in texts).encode()


def test_jsonl_plain_and_compressed_give_the_same(tmp_path: Path) -> None:
    data = jsonl(TEXTS)
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(data))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(data[:30]) + zstandard.compress(data[30:]))
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst"):
        found = read(tmp_path, name)
        assert [texts[0] for texts in found.texts] == TEXTS
        assert found.rows == [0, 1, 2]
        assert not found.bad


def test_globs_and_lists_are_read_in_order_and_rows_are_counted_on(tmp_path: Path) -> None:
    for name, text in (("b", "two"), ("a", "one"), ("z", "three")):
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl([text, text + "!"]))
    found = read(tmp_path, ["[ab].jsonl", "z.jsonl"])
    assert [texts[0] for texts in found.texts] == ["one", "one!", "two", "two!", "three", "three!"]
    assert found.rows == list(range(6))


def test_a_url_that_fsspec_opens_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello there\n")
    assert read(tmp_path, f"file://{tmp_path}/a.txt").texts == [("hello there",)]


def test_parquet_with_two_fields_dictionaries_and_several_row_groups(tmp_path: Path) -> None:
    table = pa.table(
        {"q": pa.array(["a b", "c d"] * 50).dictionary_encode(), "r": pa.array([f"row {i}" for i in range(100)])}
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=30)
    found = read(tmp_path, "x.parquet", ["q", "r"])
    assert found.rows == list(range(100))
    assert found.texts[31] == ("c d", "row 31")


@pytest.mark.parametrize(
    ("documents", "expected"),
    [("lines", ["a", "b", "c"]), ("blank_lines", ["a\nb", "c"]), ("file", ["a\nb\n\n\nc\n"])],
)
def test_plain_text_by_lines_paragraphs_or_whole(tmp_path: Path, documents: str, expected: list[str]) -> None:
    (tmp_path / "x.txt").write_text("a\nb\n\n\nc\n")
    found = read(tmp_path, "x.txt", documents=documents)
    assert [texts[0] for texts in found.texts] == expected


def test_blocks_end_at_lines_whatever_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"line number {i} " + "x" * (i % 70) for i in range(500)]
    (tmp_path / "x.jsonl").write_bytes(jsonl(texts))
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(streams, "_READ_BYTES", 77)
    found = read(tmp_path, "x.jsonl")
    assert [t[0] for t in found.texts] == texts
    assert found.rows == list(range(500))


@pytest.mark.parametrize("name", ["names", "docstrings", "comments", "reference"])
def test_builtin_datasets_hold_text_and_are_the_same_each_time(tmp_path: Path, name: str) -> None:
    field = ["name", "summary"] if name == "names" else "text"
    first, second = (read(tmp_path, f"builtin:{name}", field) for _ in range(2))
    assert first.texts == second.texts
    assert len(first.texts) > 20
    assert all(text.strip() for texts in first.texts for text in texts)


BAD_LINES = {
    b'{"text": "good"}': None,
    b'{"text": "caf\xe9"}': "not UTF-8",
    b'{"text": "half': "not JSON",
    b'["text", "x"]': "a JSON list, not an object",
    b'"text"': "a JSON text, not an object",
    b"null": "a JSON null, not an object",
    b'{"other": "x"}': "no field 'text'",
    b'{"text": null}': "'text' is null, not text",
    b'{"text": 3}': "'text' is number, not text",
    b'{"text": ["x"]}': "'text' is list, not text",
    b'{"text": {"x": 1}}': "'text' is object, not text",
    b'{"text": ""}': "empty",
    b'{"text": " \\n\\t "}': "empty",
    b'{"text": "lone \\ud800 surrogate"}': "not JSON",
    b'{"text": NaN}': "not JSON",
}


def test_bad_rows_are_named_with_file_row_and_reason(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(BAD_LINES))
    found = read(tmp_path, "x.jsonl")
    assert found.texts == [("good",)]
    reasons = {number: reason for number, reason in enumerate(BAD_LINES.values()) if reason}
    assert {row.row: row.reason for row in found.bad} == reasons
    assert {row.file for row in found.bad} == {str(tmp_path / "x.jsonl")}


def test_parquet_rows_that_are_null_empty_or_not_utf8_are_bad(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array([b"good", None, b"", b"\xff\xfe", b"fine"], pa.binary())})
    pq.write_table(table, tmp_path / "x.parquet")
    found = read(tmp_path, "x.parquet")
    assert found.rows == [0, 4]
    assert [(row.row, row.reason) for row in found.bad] == [
        (1, "'text' is null, not text"),
        (2, "empty"),
        (3, "not UTF-8"),
    ]


def test_a_document_too_large_costs_its_row_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MOST_DOCUMENT_BYTES", 2 << 20)
    (tmp_path / "x.jsonl").write_bytes(jsonl(["small", "y" * (3 << 20), "small too"]))
    found = read(tmp_path, "x.jsonl")
    assert found.rows == [0, 2]
    assert found.bad[0].reason == "longer than 2 MiB"


def _cut(path: Path, data: bytes) -> None:
    path.write_bytes(data[: len(data) * 2 // 3])


def test_files_cut_short_name_the_file(tmp_path: Path) -> None:
    data = jsonl([f"text {i * 7919 % 1000} and {i}" for i in range(5000)])
    _cut(tmp_path / "a.jsonl.gz", gzip.compress(data))
    _cut(tmp_path / "b.jsonl.zst", zstandard.compress(data))
    pq.write_table(pa.table({"text": ["x"] * 100}), tmp_path / "c.parquet")
    _cut(tmp_path / "c.parquet", (tmp_path / "c.parquet").read_bytes())
    (tmp_path / "d.jsonl.gz").write_bytes(b"this is not gzip")
    (tmp_path / "e.jsonl.zst").write_bytes(b"this is not zstd")
    (tmp_path / "f.parquet").write_bytes(b"PAR1 nothing PAR1")
    for name in ("a.jsonl.gz", "b.jsonl.zst", "c.parquet", "d.jsonl.gz", "e.jsonl.zst", "f.parquet"):
        with pytest.raises(SourceError, match=name.replace(".", r"\.")):
            read(tmp_path, name)


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    values = [f"text {i * 7919 % 10007} {i}" for i in range(3000)]
    pq.write_table(pa.table({"text": values}), tmp_path / "x.parquet", row_group_size=1000, compression="zstd")
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(SourceError, match=r"x\.parquet, row group 1"):
        read(tmp_path, "x.parquet")


@pytest.mark.parametrize(
    ("source", "text", "kind", "words"),
    [
        ("nothing*.jsonl", "text", SourceError, "no file matches"),
        ("missing.jsonl", "text", SourceError, "no file matches"),
        ("x.doc", "text", SourceError, "no known kind"),
        ("noext", "text", SourceError, "no known kind"),
        ("x.parquet", "txet", SourceError, "Did you mean 'text'?"),
        ("x.parquet", "number", SourceError, "text is expected"),
        ("x.txt", ["a", "b"], SourceError, "one field"),
        ("builtin:nmaes", "text", StudyError, "builtin:names"),
        ("builtin:names", "title", SourceError, "Fields: name, summary"),
        ("gopher://x/y.jsonl", "text", SourceError, "gopher"),
    ],
)
def test_what_cannot_be_read_says_so(
    tmp_path: Path, source: str, text: str, kind: type[LossaryError], words: str
) -> None:
    pq.write_table(pa.table({"text": ["x"], "number": [1]}), tmp_path / "x.parquet")
    for name in ("x.doc", "x.txt", "noext"):
        (tmp_path / name).write_text("x\n")
    with pytest.raises(kind) as caught:
        read(tmp_path, source, text)
    assert words in str(caught.value)
    assert caught.value.where


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(sources, "MOST_DOCUMENT_BYTES", 1 << 20)
    (tmp_path / "x.txt").write_bytes(b"x" * (4 << 20))
    with pytest.raises(SourceError, match="a line is longer than 1 MiB"):
        read(tmp_path, "x.txt")


def test_parquet_of_string_views_is_read_also_where_only_some_rows_are_wanted(tmp_path: Path) -> None:
    views = pa.array([f"row {i} größer" for i in range(60)], pa.string_view())
    inside = pa.StructArray.from_arrays([views], names=["text"])
    pq.write_table(pa.table({"text": views, "meta": inside, "n": range(60)}), tmp_path / "x.parquet")
    assert read(tmp_path, "x.parquet", where="n >= 58").texts == [("row 58 größer",), ("row 59 größer",)]
    assert read(tmp_path, "x.parquet", "meta.text", where="meta.text = 'row 7 größer'").rows == [7]


GERMAN = "Über die Straße läuft ein schöner Bär.\n" * 40


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.txt", GERMAN.encode("utf-16"), "the text is UTF-16"),
        ("x.txt", GERMAN.encode("utf-16-le"), "the text is UTF-16"),
        ("x.csv", ("text\n" + GERMAN).encode("utf-16-be"), "the text is UTF-16"),
        ("x.jsonl", GERMAN.encode("utf-32"), "the text is UTF-32"),
        ("x.txt", bytes(5000), "binary"),
        ("x.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "git lfs pull"),
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "git lfs pull"),
        ("x.jsonl", gzip.compress(jsonl(TEXTS)), "gzip (.gz), which its name does not say"),
        ("x.txt", zstandard.compress(b"a text\n"), "Zstandard (.zst)"),
        ("x.json", '[{"text": "größer"}]'.encode("latin-1"), "not UTF-8"),
        ("x.csv", (", ".join(GERMAN.split()) * 4).encode(), "no field is called 'text'"),
    ],
)
def test_what_is_not_what_its_name_says_is_told(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError) as caught:
        read(tmp_path, name)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 2500


def test_a_zero_byte_in_a_text_is_left_to_its_row(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(GERMAN.encode() + b"a\0b\n")
    assert read(tmp_path, "x.txt").texts[-1] == ("a\0b",)


def test_one_file_by_several_paths_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "link.txt").symlink_to("a.txt")
    found = read(tmp_path, ["*.txt", "./a.txt", f"../{tmp_path.name}/a.txt", str(tmp_path / "link.txt")])
    assert found.texts == [("one",), ("two",)]


def test_colons_in_the_name_of_a_file_are_no_chain(tmp_path: Path) -> None:
    root = tmp_path / "a::b"
    root.mkdir()
    (root / "x::y.txt").write_text("one\n")
    pq.write_table(pa.table({"text": ["two"]}), root / "z.parquet")
    assert read(root, ["x::y.txt", "z.parquet"]).texts == [("one",), ("two",)]


class _Unreachable(Exception):
    """As what libraries raise that reach other machines."""


_Unreachable.__module__ = "httpx2._errors"


def test_why_nobody_answers_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise _Unreachable("name or service not known")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.exists", fails)
    with pytest.raises(SourceError, match="name or service not known") as caught:
        read(tmp_path, "memory://x.txt")
    assert caught.value.where == "$.datasets.x.source"
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.exists", lambda *_, **__: False)

    def hides(*_: object, **__: object) -> None:
        raise FileNotFoundError("memory://x.txt") from _Unreachable("403 Forbidden")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.info", hides)
    with pytest.raises(SourceError, match="403 Forbidden"):
        read(tmp_path, "memory://x.txt")

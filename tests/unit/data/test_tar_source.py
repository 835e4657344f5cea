"""WebDataset's archives: members to rows, and what is refused of them."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.corpus import ROWS, jsonl, prepared, study_text

from lossary.data.prepare import prepare_datasets
from lossary.errors import LossaryError
from lossary.folder import StudyFolder
from lossary.study_file import parse_study

Members = Iterable[tuple[str, bytes]]


def archive(members: Members, **options: Any) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", **options) as tar:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return sink.getvalue()


def members(rows: Iterable[dict[str, Any]] = ROWS, folder: str = "", *, picture: bool = True) -> Members:
    for number, row in enumerate(rows):
        key = f"{folder}{number:06d}"
        if picture:
            yield f"{key}.jpg", bytes([0xFF, 0xD8, number])
        yield f"{key}.txt", row["text"].encode()
        yield f"{key}.json", json.dumps(row, indent=1).encode()


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    other = ("text", "reading", "notes")
    return {k: v for k, v in left.items() if k not in other} == {k: v for k, v in right.items() if k not in other}


WRITTEN = [
    ("a.tar", archive(members())),
    ("a.tar", archive(members(folder="./deep/er/"), format=tarfile.PAX_FORMAT)),
    ("a.tar", archive(members(folder="x" * 120 + "/"), format=tarfile.GNU_FORMAT)),
    ("a.TAR", archive((name.replace(".txt", ".TXT"), data) for name, data in members())),
    ("a.tar.gz", gzip.compress(archive(members()))),
    ("a.tgz", gzip.compress(archive(members()))),
    ("a.tar.zst", zstandard.compress(archive(members()))),
]


@pytest.mark.parametrize(("name", "data"), WRITTEN)
@pytest.mark.parametrize(
    ("more", "plain"),
    [
        ('text = "txt"', ""),
        ('text = "json.text"', ""),
        (
            'text = "txt"\nwhere = "json.lang = \'ja\' or json.meta.score > 3.5"',
            "where = \"lang = 'ja' or meta.score > 3.5\"",
        ),
        ('text = ["txt", "json.meta.title"]', 'text = ["text", "meta.title"]'),
        ('text = ["json.meta.title", "txt"]\njoin = "\\n"', 'text = ["meta.title", "text"]\njoin = "\\n"'),
        ('text = "txt"\nlimit = 11', "limit = 11"),
    ],
)
def test_members_give_the_same_shards_as_rows(tmp_path: Path, name: str, data: bytes, more: str, plain: str) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "a.jsonl").write_bytes(jsonl())
    manifest = prepared(tmp_path, study_text(name, more), name="b")
    assert same(manifest, prepared(tmp_path, study_text("a.jsonl", plain), name="a"))


def test_members_that_are_no_text_are_counted(tmp_path: Path) -> None:
    more = [("README", b"x"), ("__meta__.txt", b"x"), ("000000.npy", b"x")]
    (tmp_path / "a.tar").write_bytes(archive([*members(), *more]))
    manifest = prepared(tmp_path, study_text("a.tar", 'text = "txt"'))
    assert manifest["notes"] == [
        "members of archives that are no text were passed over: 42 .jpg, 2 without a suffix, 1 .npy"
    ]
    # A member alone is a row without text.
    assert (manifest["documents"], manifest["bad_reasons"]) == (42, {"no field 'txt'": 1})


def test_a_shard_of_a_sample_that_lacks_its_text_counts_it(tmp_path: Path) -> None:
    rows = [("1.txt", b"one text"), ("2.json", b"{}"), ("3.txt", b"caf\xe9"), ("4.txt", b" "), ("5.txt", b"two")]
    (tmp_path / "a.tar").write_bytes(archive(rows))
    manifest = prepared(tmp_path, study_text("a.tar", 'text = "txt"'))
    assert manifest["documents"] == 2
    assert manifest["bad_reasons"] == {"no field 'txt'": 1, "not UTF-8": 1, "empty": 1}


@pytest.mark.parametrize(
    "data", [b"{", b"", b"  \n ", b'{"text": "a\nb"}', b'1, "text": "x"', b'{"text": "\xe9"}', b"[]"]
)
def test_a_member_that_is_no_json_costs_its_row(tmp_path: Path, data: bytes) -> None:
    rows = [("1.json", b'{"text": "one"}'), ("2.json", data), ("3.json", b'{"text":\n "two"}')]
    (tmp_path / "a.tar").write_bytes(archive(rows))
    manifest = prepared(tmp_path, study_text("a.tar", 'text = "json.text"'))
    assert (manifest["documents"], manifest["bad_rows"]) == (2, 1)


def test_rows_are_numbered_over_archives_and_a_bad_one_is_shown(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(archive(members(ROWS[:5])))
    (tmp_path / "1.tar").write_bytes(archive([("a.txt", b"fine"), ("b.txt", b"\xff")]))
    prepare_datasets(parse_study(study_text("*.tar", 'text = "txt"')), StudyFolder(tmp_path), workers=1)
    (line,) = (tmp_path / "prepared" / "d" / "quarantine.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert (found["row"], found["reason"], found["file"]) == (6, "not UTF-8", str(tmp_path / "1.tar"))


GOOD = archive(members())
LINK = tarfile.TarInfo("a.txt")
LINK.type = tarfile.SYMTYPE


def flipped(place: int) -> bytes:
    data = bytearray(GOOD)
    data[place] ^= 0xFF
    return bytes(data)


def with_link() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        tar.addfile(LINK)
    return sink.getvalue()


REFUSED: list[tuple[str, bytes, str, str]] = [
    ("a.tar", GOOD[: 512 * 20], "txt", "damaged or cut short"),
    ("a.tar", GOOD[: 512 * 20 + 100], "txt", "damaged or cut short"),
    ("a.tar", GOOD[:700], "txt", "damaged or cut short"),
    ("a.tar", flipped(512 * 8 + 20), "txt", "damaged or cut short"),
    ("a.tar", flipped(4), "txt", "damaged or cut short"),
    ("a.tar", GOOD + GOOD, "txt", "more follows the end of the archive"),
    ("a.tar", b"no archive at all" * 99, "txt", "damaged or cut short"),
    ("a.tar", b"", "txt", "it is empty"),
    ("a.tar", bytes(1024), "txt", "it is empty"),
    ("a.tar", gzip.compress(GOOD), "txt", "damaged or cut short"),
    ("a.tar.gz", gzip.compress(GOOD)[:-20], "txt", "the gzip stream is damaged or cut short"),
    ("a.tar.gz", GOOD, "txt", "the gzip stream is damaged or cut short"),
    ("a.tar", GOOD, "jpg", "the member 000000.jpg is no text"),
    ("a.tar", archive([("a.txt", b"x"), ("a.pkl", b"x")]), "pkl", "the member a.pkl is no text"),
    ("a.tar", archive([("a.txt.gz", b"x")]), "txt.gz", "the member a.txt.gz is no text"),
    ("a.tar", GOOD, "text", "Did you mean 'txt'?"),
    ("a.tar", GOOD, "json.txt", "no field 'json.txt', nor 'txt' in 'json'"),
    ("a.tar", GOOD, "json", "'json' is object, not text"),
    ("a.tar", archive([("a.txt", b"x"), ("a.txt", b"y")]), "txt", "the member a.txt is there twice"),
    ("a.tar", archive([("a.txt", b"x" * ((16 << 20) + 1))]), "txt", "a.txt is longer than 16 MiB"),
    ("a.tar", archive([("README", b"x")]), "txt", "it is empty"),
    ("a.tar", with_link(), "txt", "it is empty"),
]


@pytest.mark.parametrize(("name", "data", "text", "says"), REFUSED, ids=[f"{i}-{r[0]}" for i, r in enumerate(REFUSED)])
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, data: bytes, text: str, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(LossaryError) as raised:
        prepared(tmp_path, study_text(name, f'text = "{text}"'))
    assert says in str(raised.value)
    assert raised.value.where
    assert not (tmp_path / "study" / "prepared" / "d").exists()


@pytest.mark.parametrize("change", [lambda size: size - 512, lambda size: size // 2])
def test_no_row_is_lost_in_silence_wherever_an_archive_is_cut(tmp_path: Path, change: Callable[[int], int]) -> None:
    data = archive(members(ROWS[:3], picture=False))
    end = len(data.rstrip(b"\0")) + 511 & ~511
    for size in range(change(end), end, 37):
        (tmp_path / "a.tar").write_bytes(data[:size])
        with pytest.raises(LossaryError, match="damaged or cut short"):
            prepared(tmp_path, study_text("a.tar", 'text = "txt"'))

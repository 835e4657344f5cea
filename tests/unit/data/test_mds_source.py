"""MosaicML's shards: columns to rows, and what is refused of them. Written here byte by byte as the format has it."""

import bz2
import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from tests.corpus import ROWS, jsonl, prepared, study_text

from lossary.data.prepare import prepare_datasets
from lossary.errors import LossaryError
from lossary.folder import StudyFolder
from lossary.study_file import parse_study

COLUMNS = {
    "text": "str",
    "lang": "bytes",
    "meta": "json",
    "n": "int",
    "score": "float32",
    "id": "str_int",
    "raw": "pkl",
}
SIZES = {"int": 8, "float32": 4}


def encode(value: Any, encoding: str) -> bytes:
    if encoding == "json":
        return json.dumps(value).encode()
    if encoding in SIZES:
        return np.array(value, {"int": "<i8", "float32": "<f4"}[encoding]).tobytes()
    return value if isinstance(value, bytes) else str(value).encode()


def shard(samples: Sequence[dict[str, Any]], columns: dict[str, str]) -> bytes:
    parts = []
    for sample in samples:
        cells = [encode(sample[name], encoding) for name, encoding in columns.items()]
        sizes = [len(cell) for cell, kind in zip(cells, columns.values(), strict=True) if kind not in SIZES]
        parts.append(np.array(sizes, "<u4").tobytes() + b"".join(cells))
    config = b'{"encoding": "of the writer"}'
    offsets = np.cumsum([0, *map(len, parts)]) + 4 + 4 * (len(parts) + 1) + len(config)
    head = np.uint32(len(parts)).tobytes() + offsets.astype("<u4").tobytes()
    return head + config + b"".join(parts)


PACKS: dict[str, Callable[[bytes], bytes]] = {
    "zstd:3": zstandard.compress,
    "gz": gzip.compress,
    "bz2:9": bz2.compress,
    "br": lambda data: pa.Codec("brotli").compress(data, asbytes=True),
    "snappy": lambda data: pa.Codec("snappy").compress(data, asbytes=True),
}


def told(name: str, data: bytes) -> dict[str, Any]:
    return {"basename": name, "bytes": len(data), "hashes": {"sha1": hashlib.sha1(data).hexdigest()}}


def saved(
    rows: Sequence[dict[str, Any]] = ROWS,
    *,
    columns: dict[str, str] = COLUMNS,
    each: int = 99,
    packed: str | None = None,
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir()
        entries = []
        samples = [
            {**row, "n": number, "score": row["meta"]["score"], "id": str(10**30 + number), "raw": b"\x80\x04."}
            for number, row in enumerate(rows)
        ]
        for number, start in enumerate(range(0, len(samples), each)):
            data, name = shard(samples[start : start + each], columns), f"shard.{number:05d}.mds"
            entry = {
                "column_encodings": list(columns.values()),
                "column_names": list(columns),
                "column_sizes": [SIZES.get(kind) for kind in columns.values()],
                "compression": packed,
                "format": "mds",
                "hashes": ["sha1"],
                "raw_data": told(name, data),
                "samples": len(samples[start : start + each]),
                "size_limit": 1 << 26,
                "version": 2,
                "zip_data": None,
            }
            if packed is not None:
                name, data = f"{name}.{packed.partition(':')[0]}", PACKS[packed](data)
                entry["zip_data"] = told(name, data)
            (folder / name).write_bytes(data)
            entries.append(entry)
        (folder / "index.json").write_text(json.dumps({"shards": entries, "version": 2}))

    return write


@pytest.mark.parametrize("write", [saved(), *[saved(packed=packed) for packed in PACKS], saved(each=14)])
@pytest.mark.parametrize(
    ("more", "plain"),
    [
        ("", ""),
        ('text = "meta.title"', 'text = "meta.title"'),
        (
            "where = \"n >= 7 and n < 12 and score > 0.55 and lang <> 'x'\"",
            'where = "meta.score > 0.65 and meta.score < 1.15"',
        ),
        ('text = ["text", "meta.title"]', 'text = ["text", "meta.title"]'),
        ('text = ["meta.title", "text"]\njoin = "\\n"', 'text = ["meta.title", "text"]\njoin = "\\n"'),
        ("limit = 11", "limit = 11"),
    ],
)
def test_the_same_rows_give_the_same_shards_as_in_json_lines(
    tmp_path: Path, write: Callable[[Path], None], more: str, plain: str
) -> None:
    write(tmp_path / "mds")
    size = len(ROWS) // (len(list((tmp_path / "mds").iterdir())) - 1)
    for start in range(0, len(ROWS), size):
        (tmp_path / f"a{start:02d}.jsonl").write_bytes(jsonl(ROWS[start:][:size]))
    found = [
        {key: value for key, value in manifest.items() if key not in ("reading", "notes")}
        for manifest in (
            prepared(tmp_path, study_text("mds", more), name="b"),
            prepared(tmp_path, study_text("a*.jsonl", plain), name="a"),
        )
    ]
    assert found[0] == found[1]


def test_numbers_written_as_text_are_text(tmp_path: Path) -> None:
    saved()(tmp_path / "mds")
    where = 'where = "cast(id as hugeint) < 1000000000000000000000000000005"'
    assert prepared(tmp_path, study_text("mds", where))["documents"] == 5


def test_text_that_is_not_utf8_costs_its_row_alone(tmp_path: Path) -> None:
    rows = [*ROWS[:4], {**ROWS[4], "text": b"caf\xe9"}]
    saved(rows)(tmp_path / "mds")
    assert prepared(tmp_path, study_text("mds"))["bad_reasons"] == {"not UTF-8": 1}


def test_another_index_of_the_same_shards_is_another_dataset(tmp_path: Path) -> None:
    saved(columns={"text": "str", "lang": "str"})(tmp_path / "mds")
    before = prepare_datasets(parse_study(study_text("mds")), StudyFolder(tmp_path), workers=1)["d"]
    index = tmp_path / "mds" / "index.json"
    index.write_text(index.read_text().replace('["text", "lang"]', '["lang", "text"]'))
    after = prepare_datasets(parse_study(study_text("mds")), StudyFolder(tmp_path), workers=1)["d"]
    assert after["digest"] != before["digest"]


def changed(change: Callable[[dict[str, Any]], object], **options: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        saved(**options)(folder)
        index = json.loads((folder / "index.json").read_text())
        change(index)
        (folder / "index.json").write_text(json.dumps(index))

    return write


def entry(**changes: Any) -> Callable[[Path], None]:
    return changed(lambda index: index["shards"][0].update(changes))


def spoiled(change: Callable[[bytes], bytes], *, hashed: bool = False, **options: Any) -> Callable[[Path], None]:
    """Changes the shard; with `hashed` the index is changed to fit."""

    def write(folder: Path) -> None:
        saved(**options)(folder)
        (path,) = folder.glob("shard*")
        data = change(path.read_bytes())
        path.write_bytes(data)
        if hashed:
            index = json.loads((folder / "index.json").read_text())
            key = "zip_data" if index["shards"][0]["zip_data"] else "raw_data"
            index["shards"][0][key] = told(path.name, data)
            (folder / "index.json").write_text(json.dumps(index))

    return write


def put(place: int, value: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        return data[: 4 * place] + np.uint32(value).tobytes() + data[4 * place + 4 :]

    return change


def without_shard(folder: Path) -> None:
    saved()(folder)
    (folder / "shard.00000.mds").unlink()


def without_index(folder: Path) -> None:
    folder.mkdir()
    (folder / "index.json").write_text("[")


REFUSED: list[tuple[Callable[[Path], None], str, str]] = [
    (spoiled(lambda data: data[:-5]), "", "stand in index.json"),
    (spoiled(lambda data: data + b"x"), "", "stand in index.json"),
    (spoiled(lambda data: data[:-5], packed="zstd:3"), "", "stand in index.json"),
    (spoiled(lambda data: data[:-5], packed="zstd:3", hashed=True), "", "stand in index.json|the shard is damaged"),
    (spoiled(lambda data: b"x" * len(data), packed="gz", hashed=True), "", "the shard is damaged"),
    (spoiled(lambda data: b"x" * len(data), packed="br", hashed=True), "", "the shard is damaged|stand in index.json"),
    (spoiled(lambda data: data[:-1] + b"?"), "", "its sha1 is not that of index.json"),
    (spoiled(put(0, 7), hashed=True), "", "it has 7 samples; 42 stand in index.json"),
    (spoiled(put(1, 7), hashed=True), "", "the places of its samples lead outside of it"),
    (spoiled(put(9, 1 << 31), hashed=True), "", "the places of its samples lead outside of it"),
    (spoiled(put(43, 1 << 31), hashed=True), "", "the places of its samples lead outside of it"),
    (spoiled(lambda data: data[:44], hashed=True), "", "samples; 42 stand in index.json|lead outside"),
    (without_shard, "", "that it names is missing"),
    (changed(lambda index: index.update(version=1)), "", "version 1"),
    (changed(lambda index: index.pop("version")), "", "no version"),
    (changed(lambda index: index.update(shards=[])), "", "of 0 shards"),
    (changed(lambda index: index["shards"].append(3)), "", "the shard 1 of it is no object"),
    (entry(format="json"), "", "has the format 'json'; 'mds' is expected"),
    (entry(column_names=["text"]), "", "does not name as many columns"),
    (entry(column_names=["text"] * 7), "", "columns of the same name"),
    (entry(column_sizes=["a"] * 7), "", "says no sizes"),
    (entry(samples=-1), "", "says no sizes"),
    (entry(samples=41), "", "it has 42 samples; 41 stand in index.json"),
    (entry(raw_data=None), "", "does not say file and size"),
    (entry(raw_data={"basename": "../../etc/passwd", "bytes": 3, "hashes": {}}), "", "one beside it is expected"),
    (changed(lambda index: index["shards"][0].update(compression="lzma"), packed="gz"), "", "compressed as 'lzma'"),
    (entry(column_sizes=[4] * 7), "", "does not have the columns of its index"),
    (entry(column_sizes=[None] * 7), "", "does not have the columns of its index"),
    (saved(columns={"text": "int16", "n": "int"}), "", "does not have the columns|another size"),
    (saved(), 'text = "raw"', "the column 'raw' is pickled: reading it would run what it holds"),
    (saved(), "where = \"raw = 'x'\"", "the column 'raw' is pickled"),
    (saved(columns={"text": "str", "raw": "jpeg"}), 'text = "raw"', "the column 'raw' is jpeg, no text or number"),
    (saved(columns={"lang": "str"}), "", "no field is called 'text'"),
    (saved(), "where = \"lnag = 'x'\"", "Did you mean 'lang'?"),
    (saved(), 'text = "n"', "'n' is number, not text"),
    (saved(), 'text = "meta"', "'meta' is object, not text"),
    (saved(), 'text = "meta.titel"', "no field 'meta.titel', nor 'titel' in 'meta'"),
    (without_index, "", "not JSON"),
]


@pytest.mark.parametrize(("write", "more", "says"), REFUSED)
def test_what_cannot_be_read_is_refused_by_name(
    tmp_path: Path, write: Callable[[Path], None], more: str, says: str
) -> None:
    write(tmp_path / "mds")
    with pytest.raises(LossaryError, match=says) as raised:
        prepared(tmp_path, study_text("mds", more))
    assert raised.value.where
    assert not (tmp_path / "study" / "prepared" / "d").exists()

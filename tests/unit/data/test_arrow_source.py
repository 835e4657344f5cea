"""Hugging Face's folders, Arrow files and streams: as datasets, and what is refused of them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from tests.corpus import ROWS, SCRIPTS, jsonl, prepared, study_text

from lossary.data.parsing import BLOCK_BYTES, parse
from lossary.data.prepare import prepare_datasets
from lossary.data.source_files import list_files
from lossary.data.sources import read_blocks
from lossary.errors import LossaryError, SourceError
from lossary.folder import StudyFolder
from lossary.study import Dataset
from lossary.study_file import parse_study

TABLE = pa.Table.from_pylist(ROWS)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


def saved(rows: Sequence[dict[str, Any]] = ROWS, shards: int = 3) -> Callable[[Path], object]:
    return lambda path: datasets.Dataset.from_list(list(rows)).save_to_disk(str(path), num_shards=shards)


def stream(*tables: pa.Table, rows: int = 7, **options: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with path.open("wb") as handle:
            for table in tables or (TABLE,):
                with pa.ipc.new_stream(handle, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
                    writer.write_table(table, max_chunksize=rows)

    return write


def file(table: pa.Table = TABLE, rows: int = 7, **options: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            writer.write_table(table, max_chunksize=rows)

    return write


HALVES = TABLE.slice(0, 25), TABLE.slice(25)
TYPED = [
    TABLE.cast(pa.schema([("text", kind), ("lang", pa.string()), ("meta", TABLE.schema.field("meta").type)]))
    for kind in (pa.large_string(), pa.binary(), pa.string_view())
]
DICTIONARY = TABLE.set_column(0, "text", TABLE.column(0).dictionary_encode())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("corpus", saved()),
        ("corpus", saved(shards=1)),
        ("a.arrow", stream()),
        ("a.ARROW", stream(rows=1000)),
        ("a.arrow", file()),
        ("a.ipc", file(rows=1)),
        ("a.arrow", stream(compression="lz4")),
        ("a.feather", lambda path: pa.feather.write_feather(TABLE, path, compression="zstd")),
        ("a.arrow", stream(*HALVES)),
        ("a.arrow", stream(HALVES[0], TABLE.slice(0, 0), DICTIONARY.slice(25))),
        ("a.arrow", stream(HALVES[0].select(["lang", "text", "meta"]), HALVES[1])),
        *[("a.arrow", stream(table)) for table in TYPED],
        ("a.arrow", file(DICTIONARY)),
    ],
)
@pytest.mark.parametrize(
    "more",
    [
        "",
        "where = \"lang = 'ja' or meta.score > 3.5\"",
        'text = "meta.title"',
        'text = ["text", "meta.title"]',
        'text = ["meta.title", "text"]\njoin = "\\n"',
        "limit = 11",
    ],
)
def test_the_same_rows_give_the_same_shards_as_in_json_lines(
    tmp_path: Path, name: str, write: Callable[[Path], object], more: str
) -> None:
    write(tmp_path / name)
    # A file begins a block of its own, so it takes as many files of JSON Lines.
    parts = sorted((tmp_path / name).glob("*.arrow")) or [tmp_path / name]
    size = len(ROWS) // len(parts)
    for number, _ in enumerate(parts):
        (tmp_path / f"a{number}.jsonl").write_bytes(jsonl(ROWS[number * size :][:size]))
    manifest = prepared(tmp_path, study_text(name, more), name="b")
    assert manifest == prepared(tmp_path, study_text("a*.jsonl", more), name="a")
    assert manifest["documents"] > 0


def test_a_glob_of_folders_reads_each_dataset_and_passes_over_others(tmp_path: Path) -> None:
    saved(ROWS[:9])(tmp_path / "parts" / "a")
    saved(ROWS[9:])(tmp_path / "parts" / "b")
    (tmp_path / "parts" / "c").mkdir()
    assert prepared(tmp_path, study_text("parts/*"))["documents"] == len(ROWS)


def test_where_blocks_end_depends_on_the_text_alone(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{i} " + text * 40 for i in range(600) for text in SCRIPTS]})
    assert table.nbytes > 2 * BLOCK_BYTES
    cuts = []
    for rows in (3, 100, 1000, 1 << 20):
        stream(table, rows=rows)(tmp_path / "a.arrow")
        dataset = Dataset(source="a.arrow")
        blocks = list(read_blocks(dataset, list_files(dataset, tmp_path, where="")))
        cuts.append([block.num_rows for block in blocks])
        assert [text for block in blocks for part in parse(block) for (text,) in part.texts] == table[0].to_pylist()
        assert max(len(block.data) for block in blocks) < 1.1 * BLOCK_BYTES
    assert len(cuts[0]) > 1
    assert all(cut == cuts[0] for cut in cuts)


def test_text_that_is_not_utf8_costs_its_row_alone(tmp_path: Path) -> None:
    texts = [text.encode() for text in TABLE[0].to_pylist()]
    texts[5] = b"caf\xe9"
    binary = pa.array(texts, pa.binary())
    invalid = pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())
    stream(pa.table({"text": pa.chunked_array([invalid])}))(tmp_path / "a.arrow")
    manifest = prepared(tmp_path, study_text("a.arrow"))
    assert (manifest["documents"], manifest["bad_reasons"]) == (len(ROWS) - 1, {"not UTF-8": 1})


def test_a_file_elsewhere_is_read_like_one_here(tmp_path: Path) -> None:
    stream(*HALVES)(tmp_path / "a.arrow")
    system = fsspec.filesystem("memory")
    for name in ("a.arrow", "corpus/data-0.arrow"):
        system.pipe(f"/arrow-test/{name}", (tmp_path / "a.arrow").read_bytes())
    system.pipe("/arrow-test/corpus/state.json", b'{"_data_files": [{"filename": "data-0.arrow"}]}')
    here = prepared(tmp_path, study_text("a.arrow"), name="a")
    assert prepared(tmp_path, study_text("memory://arrow-test/a.arrow"), name="b") == here
    assert prepared(tmp_path, study_text("memory://arrow-test/corpus"), name="c") == here


def test_a_dataset_that_moved_is_the_same_and_one_that_changed_is_not(tmp_path: Path) -> None:
    saved()(tmp_path / "a")
    text = study_text("a")
    before = prepare_datasets(parse_study(text), StudyFolder(tmp_path), workers=1)["d"]
    saved()(tmp_path / "b")
    assert (tmp_path / "a" / "state.json").read_bytes() == (tmp_path / "b" / "state.json").read_bytes()
    moved = prepare_datasets(parse_study(study_text("b")), StudyFolder(tmp_path), workers=1)["d"]
    assert (moved["request"], moved["digest"]) == (before["request"], before["digest"])
    saved([*ROWS, {**ROWS[0], "text": "one more row of words"}])(tmp_path / "c")
    changed = prepare_datasets(parse_study(study_text("c")), StudyFolder(tmp_path), workers=1)["d"]
    assert changed["documents"] == len(ROWS) + 1
    assert changed["request"] != before["request"]


def spoiled(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        saved()(path)
        change(path)

    return write


def state(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        found = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps(found | changes))

    return spoiled(change)


def cut(write: Callable[[Path], object], size: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[:size] if size > 0 else data[: len(data) + size])

    return change


def without_end(path: Path) -> None:
    stream()(path)
    path.write_bytes(path.read_bytes()[:-8])


def bad_offsets(path: Path) -> None:
    with pa.ipc.new_stream(path, pa.schema([("text", pa.string())])) as writer:
        writer.write_batch(pa.record_batch({"text": ["ab", "cd", "ef"]}))
    offsets = np.array([0, 2, 4, 6], np.int32).tobytes()
    path.write_bytes(path.read_bytes().replace(offsets, np.array([0, 1 << 30, 4, 6], np.int32).tobytes()))


def bad_index(path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 9], pa.int8()), pa.array(["a"]), safe=False)
    stream(pa.table({"text": column}))(path)


REFUSED = [
    ("corpus", spoiled(lambda path: (path / "data-00001-of-00003.arrow").unlink()), "that it names is missing"),
    ("corpus", state(_data_files=None), "it names no data files"),
    ("corpus", state(_data_files=[]), "it names no data files"),
    ("corpus", state(_data_files=[{"filename": "../a.arrow"}]), "one beside it is expected"),
    ("corpus", state(_data_files=[{"filename": "/etc/passwd"}]), "one beside it is expected"),
    ("corpus", state(_data_files=[{}]), "it names the file None"),
    ("corpus", state(_indices_files=[{"filename": "i.arrow"}]), "rows are chosen by a file of indices"),
    ("corpus", spoiled(lambda path: (path / "state.json").write_text("{")), "not JSON"),
    ("corpus", spoiled(lambda path: (path / "state.json").write_text("[]")), "a JSON object is expected"),
    ("corpus", spoiled(lambda path: (path / "data-00001-of-00003.arrow").write_bytes(b"x" * 99)), "not readable as"),
    (
        "corpus",
        lambda path: datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)).save_to_disk(str(path)),
        "has the splits train; one is a dataset",
    ),
    ("corpus", saved([{"body": "b"}], shards=1), "no field is called 'text'"),
    ("corpus", saved([{"text": 3}], shards=1), "the field 'text' is int64; text is expected"),
    ("corpus", saved([{"text": {"a": "b"}}], shards=1), "Name one of its fields: text.a"),
    ("a.arrow", cut(stream(), 100), "not readable as Arrow"),
    ("a.arrow", cut(stream(), -100), "not readable as Arrow"),
    ("a.arrow", without_end, "the stream has no end mark"),
    ("a.arrow", cut(stream(*HALVES), -3), "not readable as Arrow|no end mark"),
    ("a.arrow", cut(file(), -9), "not readable as Arrow"),
    ("a.arrow", cut(file(), 50), "not readable as Arrow"),
    ("a.arrow", cut(stream(), 6), "not readable as Arrow"),
    ("a.arrow", lambda path: path.write_bytes(b"FEA1" + bytes(60)), "Feather of the first version"),
    ("a.arrow", lambda path: path.write_bytes(b"PAR1" + bytes(60)), "not readable as Arrow"),
    ("a.arrow", lambda path: path.write_bytes(b""), "it is empty"),
    ("a.arrow.gz", lambda path: path.write_bytes(b"x"), "of no known kind"),
    ("a.arrow", bad_offsets, "the record batch is damaged"),
    ("a.arrow", bad_index, "the record batch is damaged"),
    ("a.arrow", stream(pa.table([["a"], ["b"]], names=["text", "text"])), "2 columns are called 'text'"),
]


@pytest.mark.parametrize(("name", "write", "says"), REFUSED, ids=[f"{i}-{r[0]}" for i, r in enumerate(REFUSED)])
def test_what_cannot_be_read_is_refused_by_name(
    tmp_path: Path, name: str, write: Callable[[Path], object], says: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(LossaryError, match=says) as raised:
        prepared(tmp_path, study_text(name))
    assert raised.value.where
    assert not (tmp_path / "study" / "prepared" / "d").exists()


def test_a_condition_without_meaning_on_the_columns_is_refused_at_once(tmp_path: Path) -> None:
    saved()(tmp_path / "corpus")
    with pytest.raises(SourceError, match="`where` cannot be evaluated"):
        prepared(tmp_path, study_text("corpus", 'where = "lang > 3"'))


def test_any_flipped_byte_is_read_or_refused(tmp_path: Path) -> None:
    stream(rows=25)(tmp_path / "a.arrow")
    data = bytearray((tmp_path / "a.arrow").read_bytes())
    dataset = Dataset(source="a.arrow")
    outcomes = set()
    for place in range(0, len(data), 5):
        damaged = data.copy()
        damaged[place] ^= 0xFF
        (tmp_path / "a.arrow").write_bytes(damaged)
        try:
            blocks = read_blocks(dataset, list_files(dataset, tmp_path, where=""))
            outcomes.add(sum(len(part.rows) for block in blocks for part in parse(block)) > 0)
        except SourceError as error:
            outcomes.add(error.message.partition(":")[0])
    assert True in outcomes
    assert "not readable as Arrow" in outcomes

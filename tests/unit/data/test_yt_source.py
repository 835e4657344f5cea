"""Tables of YTsaurus, read by the real client from a stand-in of a cluster: every row once, whatever goes wrong."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.corpus import ROWS, jsonl, prepared, study_text
from tests.yt_cluster import Cluster, Refused, Table, cluster

from lossary.data import prepare, yt_source
from lossary.data.parsing import parse
from lossary.data.prepare import prepare_datasets
from lossary.data.shards import open_dataset
from lossary.data.source_files import list_files
from lossary.data.sources import read_blocks
from lossary.errors import LossaryError, MissingPackage, SourceError, UnreadSource
from lossary.folder import StudyFolder
from lossary.study import Dataset
from lossary.study_file import parse_study

# The client's own pauses between tries are seconds.
QUICK = '{proxy={retries={count=2;backoff={policy="constant_time";constant_time=10}}}}'
TABLE = pa.table(
    {
        "text": pa.array([row["text"].encode() for row in ROWS], pa.binary()),
        "title": [row["meta"]["title"] for row in ROWS],
        "lang": [row["lang"] for row in ROWS],
        "score": [row["meta"]["score"] for row in ROWS],
    }
)
DICTIONARY = TABLE.set_column(0, "text", TABLE.column(0).dictionary_encode())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YT_CONFIG_PATCHES", QUICK)
    monkeypatch.setenv("YT_TOKEN", "secret")
    monkeypatch.setattr(yt_source, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(yt_source, "_RANGE_BYTES", 500)


@pytest.fixture
def home() -> Iterator[Cluster]:
    with cluster(corpus=Table(streams=[TABLE])) as found:
        yield found


def url(found: Cluster, path: str = "home/corpus") -> str:
    return f"yt://{found.address}/{path}"


def texts(source: str, **settings: Any) -> list[str]:
    dataset = Dataset(source=source, **settings)
    files = list_files(dataset, Path("/"), where="study.toml: $.datasets.d.source")
    return ["|".join(row) for block in read_blocks(dataset, files) for part in parse(block) for row in part.texts]


TEXTS = [row["text"] for row in ROWS]
SPLITS: list[Sequence[pa.Table]] = [
    [TABLE],
    [TABLE.slice(0, 13), TABLE.slice(13, 1), TABLE.slice(14)],
    [TABLE.slice(0, 20), DICTIONARY.slice(20)],
    [DICTIONARY.slice(0, 9), DICTIONARY.slice(9, 9).combine_chunks(), TABLE.slice(18)],
    # Each with a dictionary of its own.
    [
        TABLE.slice(at, 7).set_column(0, "text", TABLE.slice(at, 7).column(0).dictionary_encode())
        for at in range(0, 42, 7)
    ],
]


@pytest.mark.parametrize("streams", SPLITS)
def test_rows_of_all_streams_come_once_and_in_order(home: Cluster, streams: Sequence[pa.Table]) -> None:
    home.tables["//home/corpus"].streams = streams
    assert texts(url(home)) == TEXTS
    reads = home.reads()
    assert len(reads) > 5
    assert [row for start, end in reads for row in range(start, end)] == list(range(len(ROWS)))
    columns = {tuple(params["path"].attributes["columns"]) for command, params in home.log if command == "read_table"}
    assert columns == {("text",)}


@pytest.mark.parametrize(
    ("more", "plain"),
    [
        ("", ""),
        ("where = \"lang = 'ja' or score > 3.5\"", "where = \"lang = 'ja' or meta.score > 3.5\""),
        ('text = ["text", "title"]', 'text = ["text", "meta.title"]'),
        ('text = ["title", "text"]\njoin = "\\n"', 'text = ["meta.title", "text"]\njoin = "\\n"'),
        ("limit = 11", "limit = 11"),
    ],
)
def test_a_table_gives_the_same_shards_as_its_rows(
    tmp_path: Path, home: Cluster, monkeypatch: pytest.MonkeyPatch, more: str, plain: str
) -> None:
    monkeypatch.setattr(yt_source, "_RANGE_BYTES", 1 << 20)
    (tmp_path / "a.jsonl").write_bytes(jsonl())
    found = [
        {key: value for key, value in manifest.items() if key not in ("text", "reading", "notes")}
        for manifest in (
            prepared(tmp_path, study_text(url(home), more), name="b"),
            prepared(tmp_path, study_text("a.jsonl", plain), name="a"),
        )
    ]
    assert found[0] == found[1]
    assert found[0]["documents"] > 0


def test_a_limit_reads_no_more_than_it_needs(home: Cluster) -> None:
    assert texts(url(home), limit=3) == TEXTS[:3]
    assert max(end for _, end in home.reads()) < len(ROWS) / 2


def test_a_folder_is_its_tables_by_name(home: Cluster) -> None:
    home.tables |= {
        "//home/parts/b": Table(streams=[TABLE.slice(20)]),
        "//home/parts/a": Table(streams=[TABLE.slice(0, 20)]),
        "//home/parts/notes": Table(streams=[TABLE], kind="document"),
    }
    assert texts(url(home, "home/parts/")) == TEXTS


def every_other(how: str) -> Callable[[str, dict[str, Any]], str | None]:
    count = Counter[str]()

    def fault(command: str, _: dict[str, Any]) -> str | None:
        count[command] += 1
        return how if command in ("read_table", "get", "lock") and count[command] % 2 else None

    return fault


def only_reads(how: str) -> Callable[[str, dict[str, Any]], str | None]:
    count = Counter[str]()

    def fault(command: str, _: dict[str, Any]) -> str | None:
        count[command] += 1
        return how if command == "read_table" and count[command] % 3 else None

    return fault


TRAILER = '{"code": 100, "message": "the node went away", "attributes": {}, "inner_errors": []}'


@pytest.mark.parametrize(
    "fault",
    [every_other("unavailable"), only_reads("gone"), only_reads("cut"), only_reads(TRAILER), only_reads("unavailable")],
    ids=["503", "gone", "cut", "trailer", "503s"],
)
def test_every_row_comes_once_from_a_cluster_that_stumbles(
    home: Cluster, fault: Callable[[str, dict[str, Any]], str | None]
) -> None:
    home.tables["//home/corpus"].streams = SPLITS[-1]
    home.fault = fault
    assert texts(url(home)) == TEXTS


@pytest.mark.parametrize("how", ["short", "long"])
def test_an_answer_with_too_few_or_too_many_rows_is_not_taken(home: Cluster, how: str) -> None:
    home.fault = only_reads(how)
    assert texts(url(home), limit=20) == TEXTS[:20]
    home.fault = lambda command, _: how if command == "read_table" and home.reads()[-1][0] else None
    with pytest.raises(SourceError, match=r"cannot be read: .* rows came"):
        texts(url(home))


def test_who_writes_meanwhile_is_not_seen(tmp_path: Path, home: Cluster) -> None:
    table = home.tables["//home/corpus"]

    def write(command: str, _: dict[str, Any]) -> None:
        # The first read is that by which the dataset is judged.
        if len(home.reads()) == 3 and command == "read_table":
            table.streams, table.revision = [TABLE.slice(0, 5)], 2

    home.fault = write
    text = study_text(url(home))
    first = prepare_datasets(parse_study(text), StudyFolder(tmp_path), workers=1)["d"]
    assert first["documents"] == len(ROWS)
    gc.collect()
    assert not home.transactions
    assert prepare_datasets(parse_study(text), StudyFolder(tmp_path), workers=1)["d"]["documents"] == 5


def test_a_table_is_known_by_its_content_and_not_read_again(tmp_path: Path, home: Cluster) -> None:
    text = study_text(url(home))
    before = prepare_datasets(parse_study(text), StudyFolder(tmp_path), workers=1)["d"]
    home.log.clear()
    assert prepare_datasets(parse_study(text), StudyFolder(tmp_path), workers=1)["d"] == before
    assert home.reads() == []
    table = home.tables["//home/corpus"]
    assert before["files"][0]["digest"] == f"yt:{table.id}:1:{len(ROWS)}"
    with pytest.raises(UnreadSource):
        list_files(Dataset(source=url(home)), tmp_path, where="", waits=False)


def test_several_processes_read_their_ranges_and_give_the_same_bytes(
    tmp_path: Path, home: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_WORTH_A_PROCESS", 0)
    monkeypatch.setattr(yt_source, "_RANGE_BYTES", 1500)
    home.fault = lambda command, _: "cut" if command == "read_table" and len(home.reads()) == 3 else None
    study = parse_study(study_text(url(home)))
    digests = []
    for name, workers in (("one", 1), ("three", 3)):
        (tmp_path / name).mkdir()
        digests.append(prepare_datasets(study, StudyFolder(tmp_path / name), workers=workers)["d"]["digest"])
    assert digests[0] == digests[1]


KILLED = """
import sys
from pathlib import Path
from lossary.data import yt_source
from lossary.data.prepare import prepare_datasets
from lossary.folder import StudyFolder
from lossary.study_file import parse_study
yt_source._RANGE_BYTES = 500
yt_source._FIRST_PAUSE_S = 0.001
prepare_datasets(parse_study(Path(sys.argv[1], "study.toml").read_text()), StudyFolder(Path(sys.argv[1])), workers=1)
"""


def test_a_killed_command_goes_on_and_reads_nothing_again_that_was_made(tmp_path: Path, home: Cluster) -> None:
    text = study_text(url(home))
    (tmp_path / "a").mkdir()
    whole = prepare_datasets(parse_study(text), StudyFolder(tmp_path / "a"), workers=1)["d"]
    home.log.clear()
    home.fault = lambda *_: "unavailable" if len(home.reads()) > 6 else None
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "study.toml").write_text(text, encoding="utf-8")
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "b")], env=os.environ)
    while len(home.reads()) <= 6 and child.poll() is None:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    made = len(list((tmp_path / "b" / "prepared" / ".d.partial").glob("block-*.json")))
    assert made > 2
    home.fault = lambda *_: None
    home.log.clear()
    again = prepare_datasets(parse_study(text), StudyFolder(tmp_path / "b"), workers=1)["d"]
    assert (again["digest"], again["request"]) == (whole["digest"], whole["request"])
    rows = [int(row) for shard in open_dataset(StudyFolder(tmp_path / "b"), "d").shards for row in shard.row]
    assert rows == list(range(len(ROWS)))
    # The first range is asked for to judge the dataset; of the others only those that were not made.
    step = home.reads()[0][1]
    assert [start // step for start, _ in home.reads()[1:]] == list(range(made, -(-len(ROWS) // step)))


def test_the_table_of_losses_links_to_the_page_of_a_table() -> None:
    source = "yt://cluster.example.com/home/corpus/web"
    assert Dataset(source=source).page == "https://cluster.example.com/?page=navigation&path=//home/corpus/web"
    assert Dataset(source=source, link="https://example.org").page == "https://example.org"
    assert Dataset(source="a.jsonl").page is None


def refusing(code: int, *commands: str) -> Callable[[Cluster], None]:
    def fault(command: str, _: dict[str, Any]) -> None:
        if command in commands:
            raise Refused(code, "no")

    return lambda found: setattr(found, "fault", fault)


def losing(found: Cluster) -> None:
    def fault(command: str, _: dict[str, Any]) -> None:
        if command == "read_table":
            found.transactions.clear()

    found.fault = fault


def columns(**types: str) -> Callable[[Cluster], None]:
    schema = [{"name": name, "type": kind} for name, kind in types.items()]
    return lambda found: setattr(found.tables["//home/corpus"], "schema", schema)


def table(**settings: Any) -> Callable[[Cluster], None]:
    return lambda found: found.tables.update({"//home/corpus": Table(**({"streams": [TABLE]} | settings))})


def nothing(_: Cluster) -> None:
    return None


REFUSED: list[tuple[Callable[[Cluster], object], str, str, str]] = [
    (refusing(901, "get"), "home/corpus", "", "permission denied"),
    (refusing(901, "lock"), "home/corpus", "", "permission denied"),
    (refusing(901, "read_table"), "home/corpus", "", "rows 0 to .*: permission denied"),
    (lambda found: setattr(found, "token", "another"), "home/corpus", "", "does not take the token"),
    (nothing, "home/nothing", "", "there is no such table or folder"),
    (table(dynamic=True), "home/corpus", "", "is a dynamic table; a static one is expected"),
    (table(kind="file"), "home/corpus", "", "is a file; a table is expected"),
    (table(schema=[]), "home/corpus", "", "has no schema"),
    (table(streams=[TABLE.slice(0, 0)]), "home/corpus", "", "it is empty"),
    (
        lambda found: found.tables.update({"//home/x/y": Table(streams=[TABLE], kind="file")}),
        "home/x",
        "",
        "has no table",
    ),
    (nothing, "home/*", "", "is a pattern"),
    (nothing, "", "", "names no cluster and table"),
    (losing, "home/corpus", "", "the snapshot was lost while it was read"),
    (columns(text="any"), "home/corpus", "", "the column 'text' is any; text, numbers and booleans are read"),
    (columns(text="int64"), "home/corpus", "", "the field 'text' is int64; text is expected"),
    (columns(body="utf8"), "home/corpus", "", "no field is called 'text'"),
    (nothing, "home/corpus", 'text = "meta.title"', "no field is called 'meta.title'"),
    (nothing, "home/corpus", 'where = "lnag = 3"', "Did you mean 'lang'?"),
    (nothing, "home/corpus", 'where = "lang > 3"', "`where` cannot be evaluated"),
    (nothing, "home/corpus", "where = \"lang = 'xx'\"", "the condition passes none of 42 rows"),
    (lambda found: setattr(found, "fault", lambda *_: "unavailable"), "home/corpus", "", "cannot be read"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path, home: Cluster, number: int) -> None:
    spoil, path, more, says = REFUSED[number]
    spoil(home)
    with pytest.raises(LossaryError, match=says) as raised:
        prepared(tmp_path, study_text(url(home, path), more))
    assert raised.value.where
    assert raised.value.exit_code == 3
    assert not [word for word in ("Traceback", "YtError", "requests", "{'") if word in str(raised.value)]
    # What is told of an error holds what it happened in; no lock outlives it.
    del raised
    gc.collect()
    assert not home.transactions


def test_a_cluster_that_is_not_there_is_told_so() -> None:
    with cluster() as found:
        address = found.address
    with pytest.raises(SourceError, match=r"yt://.* cannot be read"):
        texts(f"yt://{address}/home/corpus")


def test_without_the_client_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yt.wrapper", None)
    with pytest.raises(MissingPackage) as raised:
        texts("yt://cluster.example.com/home/corpus")
    assert 'pip install "lossary[yt]"' in str(raised.value)

"""Texts beside frozen examples: made once, from sources that are what they were; never a reason to fail."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.scored import score_run

from lossary.data import freeze_texts as freezing
from lossary.data.frozen_texts import TEXTS, known_texts, read_texts, texts_folder
from lossary.data.parts import known_part
from lossary.data.prepare import prepare_datasets
from lossary.data.spans import example_rows
from lossary.data.validation import load_validation, prepare_examples
from lossary.errors import ShardError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.pipeline import prepare
from lossary.study import Study
from lossary.verify import verify


def make(study: Study, folder: StudyFolder) -> list[str]:
    prepare_datasets(study, folder, workers=1)
    return prepare_examples(study, folder)


def texts_of(folder: StudyFolder, name: str) -> dict[int, list[str]]:
    """Texts of the examples of a dataset by the row of their document."""
    found: dict[int, list[str]] = {}
    validation = load_validation(folder)
    number = validation.datasets.index(name)
    windows = (window for window in validation.windows() if window.dataset[0] == number)
    texts = read_texts(folder, name)
    assert texts is not None
    for window, block in zip(windows, texts, strict=True):
        assert len(window) == len(block)
        for place, row in enumerate(example_rows(window.example).tolist()):
            found.setdefault(row, []).append(block.bytes_of(place).decode())
    return found


def stamps(folder: StudyFolder) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.root.rglob("*") if path.is_file()}


def test_texts_are_stretches_of_the_documents(prepared: tuple[Study, StudyFolder]) -> None:
    _, folder = prepared
    stories = [json.loads(line)["text"] for line in (folder.root / "stories.jsonl").read_text().splitlines()]
    pairs = [json.loads(line) for line in (folder.root / "pairs.jsonl").read_text().splitlines()]
    lines = (folder.root / "lines.txt").read_text().splitlines()
    whole = 0
    for name, documents in (
        ("stories", stories),
        ("pairs", [f"{row['query']}\n{row['answer']}" for row in pairs]),
        ("lines", lines),
    ):
        for row, texts in texts_of(folder, name).items():
            for text in texts:
                whole += text in documents[row]
                # Where pieces were cut between the segments, each side still stands there.
                assert text in documents[row] or any(
                    text[:at] in documents[row] and text[at + 1 :] in documents[row]
                    for at, character in enumerate(text)
                    if character == " "
                )
    assert whole > 20


def test_a_second_preparation_writes_nothing(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    assert make(tiny_study, tiny_folder) == []
    before = stamps(tiny_folder)
    assert make(tiny_study, tiny_folder) == []
    assert stamps(tiny_folder) == before


def test_parts_that_were_frozen_before_are_given_their_texts_and_stay(
    tiny_study: Study, tiny_folder: StudyFolder
) -> None:
    make(tiny_study, tiny_folder)
    digest = load_validation(tiny_folder).digest
    first = {name: known_texts(tiny_folder, known_part(tiny_folder, name)) for name in tiny_study.datasets}
    for name in tiny_study.datasets:
        shutil.rmtree(texts_folder(tiny_folder, name))
    score_run(tiny_folder, "torch_a")
    assert make(tiny_study, tiny_folder) == []
    assert load_validation(tiny_folder).digest == digest
    again = {name: known_texts(tiny_folder, known_part(tiny_folder, name)) for name in tiny_study.datasets}
    assert again == first
    assert None not in first.values()


def test_a_part_that_is_frozen_anew_has_texts_of_its_own(
    tiny_study: Study, make_study: Callable[..., Study], tiny_folder: StudyFolder
) -> None:
    make(tiny_study, tiny_folder)
    make(make_study(("seed = 3", "seed = 4")), tiny_folder)
    for name in tiny_study.datasets:
        part = known_part(tiny_folder, name)
        texts = known_texts(tiny_folder, part)
        assert texts is not None
        assert texts["part"] == part["digest"]


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda path: path.unlink(), "its sources are gone"),
        (lambda path: path.write_text(path.read_text() + "one line more.\n"), "its sources changed"),
        (lambda path: path.write_text(path.read_text().replace("ba", "ke")), "its sources changed"),
    ],
)
def test_sources_that_are_not_there_any_more_cost_a_note_and_no_more(
    tiny_study: Study, tiny_folder: StudyFolder, break_it: Callable[[Path], object], says: str
) -> None:
    make(tiny_study, tiny_folder)
    score_run(tiny_folder, "torch_a")
    for name in tiny_study.datasets:
        shutil.rmtree(texts_folder(tiny_folder, name))
    break_it(tiny_folder.root / "lines.txt")
    for _ in range(2):
        (note,) = prepare_examples(tiny_study, tiny_folder)
        assert f"no text is kept of lines ({says}" in note
        assert read_texts(tiny_folder, "lines") is None
        assert read_texts(tiny_folder, "pairs") is not None


def test_texts_stay_when_their_sources_go(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    make(tiny_study, tiny_folder)
    before = texts_of(tiny_folder, "lines")
    for name in ("lines.txt", "pairs.jsonl", "stories.jsonl"):
        (tiny_folder.root / name).unlink()
    assert make(tiny_study, tiny_folder) == []
    assert texts_of(tiny_folder, "lines") == before


def test_a_source_whose_digest_lies_is_found_by_its_documents(
    tiny_study: Study, tiny_folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tiny_study, tiny_folder)
    shutil.rmtree(texts_folder(tiny_folder, "lines"))
    path = tiny_folder.root / "lines.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    monkeypatch.setattr(freezing, "same_contents", lambda *_: True)
    (note,) = prepare_examples(tiny_study, tiny_folder)
    assert "no text is kept of lines (its sources changed" in note


@pytest.mark.parametrize("kind", ["parquet", "csv", "gz", "json"])
def test_every_kind_of_file_gives_the_same_texts(
    make_study: Callable[..., Study], tiny_study: Study, tiny_folder: StudyFolder, kind: str
) -> None:
    make(tiny_study, tiny_folder)
    expected = sorted(text for texts in texts_of(tiny_folder, "stories").values() for text in texts)
    rows = [json.loads(line) for line in (tiny_folder.root / "stories.jsonl").read_text().splitlines()]
    path = tiny_folder.root / f"stories.{'jsonl.gz' if kind == 'gz' else kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=70)
    elif kind == "csv":
        path.write_text("text\n" + "".join(f'"{row["text"]}"\n' for row in rows))
    elif kind == "gz":
        path.write_bytes(gzip.compress((tiny_folder.root / "stories.jsonl").read_bytes()))
    else:
        path.write_text(json.dumps(rows))
    study = make_study(('source = "stories.jsonl"', f'source = "{path.name}"'))
    assert make(study, tiny_folder) == []
    assert sorted(text for texts in texts_of(tiny_folder, "stories").values() for text in texts) == expected


@pytest.mark.parametrize("more", ["limit = 250", "where = \"text like '%ba%'\"", 'documents = "blank_lines"'])
def test_rows_are_counted_as_they_were(make_study: Callable[..., Study], tiny_folder: StudyFolder, more: str) -> None:
    path = tiny_folder.root / "lines.txt"
    if "blank" in more:
        path.write_text(path.read_text().replace(".\n", ".\n\nand "))
    study = make_study(('source = "lines.txt"', f'source = "lines.txt"\n{more}'))
    assert make(study, tiny_folder) == []
    lines = path.read_text().splitlines()
    for row, texts in texts_of(tiny_folder, "lines").items():
        assert texts[0].split(" ")[0] in lines[row]


def test_fields_that_are_joined_are_one_text(make_study: Callable[..., Study], tiny_folder: StudyFolder) -> None:
    study = make_study(('text = ["query", "answer"]', 'text = ["query", "answer"]\njoin = " || "'))
    assert make(study, tiny_folder) == []
    assert any(" || " in text for texts in texts_of(tiny_folder, "pairs").values() for text in texts)


def test_a_text_of_several_blocks_goes_on_where_a_block_of_examples_ends(
    tiny_study: Study, tiny_folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents whose examples lie in two blocks, or whose source is parsed in several parts, are found again."""
    make(tiny_study, tiny_folder)
    expected = {name: texts_of(tiny_folder, name) for name in tiny_study.datasets}
    shutil.rmtree(tiny_folder.validation)
    monkeypatch.setattr("lossary.data.freeze._EXAMPLES_A_BLOCK", 7)
    monkeypatch.setattr("lossary.data.sources.BLOCK_BYTES", 2000)
    monkeypatch.setattr("lossary.data.parsing.BLOCK_BYTES", 500)
    monkeypatch.setattr("lossary.data.piece_places._BYTES_A_CALL", 50)
    assert make(tiny_study, tiny_folder) == []
    assert len(known_part(tiny_folder, "stories")["files"]["examples.arrow"]) > 3
    assert {name: texts_of(tiny_folder, name) for name in tiny_study.datasets} == expected


def test_damage_is_found_when_texts_are_read_and_by_verify(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    make(tiny_study, tiny_folder)
    path = texts_folder(tiny_folder, "lines") / TEXTS
    assert {file.state for file in verify(tiny_folder) if file.path.parent == path.parent} == {"whole"}
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    texts = read_texts(tiny_folder, "lines")
    assert texts is not None
    with pytest.raises(ShardError, match="not what was written"):
        list(texts)
    (damaged,) = [file for file in verify(tiny_folder) if file.state == "damaged"]
    assert (damaged.kind, damaged.path) == ("texts", path)


def test_a_preparation_that_was_killed_is_made_whole_by_the_next(
    tiny_study: Study, tiny_folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tiny_study, tiny_folder)
    expected = texts_of(tiny_folder, "lines")
    shutil.rmtree(texts_folder(tiny_folder, "lines"))

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(freezing, "write_manifest", kill)
    with pytest.raises(Killed):
        prepare_examples(tiny_study, tiny_folder)
    monkeypatch.undo()
    # What a process leaves that had no time to take anything away.
    left = tiny_folder.validation_part("lines") / ".texts.0123456789ab.tmp"
    left.mkdir()
    (left / TEXTS).write_bytes(b"half")
    prepare(tiny_study, tiny_folder, workers=1, listener=Silent())
    assert texts_of(tiny_folder, "lines") == expected
    assert not left.exists()


class Silent:
    def progress(self, text: str, done: float, total: float | None) -> None: ...
    def event(self, run: str, event: object) -> None: ...
    def note(self, text: str) -> None: ...


def test_sums_of_the_manifest_are_those_of_the_blocks(prepared: tuple[Study, StudyFolder]) -> None:
    _, folder = prepared
    for name in load_validation(folder).datasets:
        manifest = read_json(texts_folder(folder, name) / "manifest.json")
        blocks = list(read_texts(folder, name) or [])
        assert manifest["bytes"] == sum(int(block.offsets[-1]) for block in blocks)
        assert manifest["words"] == sum(len(block.begin) for block in blocks) > 0
        assert all((block.target_bytes > 0).mean() > 0.9 for block in blocks)

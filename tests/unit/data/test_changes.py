"""What of tokenizer and datasets stays: identity is content, wherever files lie and whenever they were touched."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import TINY

from lossary.data.changes import data_changes
from lossary.data.prepare import prepare_datasets
from lossary.data.shards import open_dataset
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import SourceError
from lossary.files import digest_file
from lossary.folder import StudyFolder
from lossary.study import Study
from lossary.study_file import parse_study

NAMES = ("pairs", "stories", "lines")


def fates(study: Study, folder: StudyFolder, **how: object) -> dict[str, str]:
    changes = data_changes(study, folder, **how)  # type: ignore[arg-type]
    return {"tokenizer": changes.tokenizer.fate} | {name: change.fate for name, change in changes.datasets.items()}


def tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): digest_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


KEPT = dict.fromkeys(("tokenizer", *NAMES), "kept")


@pytest.fixture
def made(tiny_study: Study, tiny_folder: StudyFolder) -> tuple[Study, StudyFolder]:
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    return tiny_study, tiny_folder


def test_nothing_is_there_yet(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    assert set(fates(tiny_study, tiny_folder).values()) == {"made"}


def moved(folder: StudyFolder) -> StudyFolder:
    return StudyFolder(Path(shutil.move(folder.root, folder.root.with_name("elsewhere"))))


def copied(folder: StudyFolder) -> StudyFolder:
    return StudyFolder(Path(shutil.copytree(folder.root, folder.root.with_name("copy"))))


def touched(folder: StudyFolder) -> StudyFolder:
    for path in folder.root.glob("*.*l*"):
        os.utime(path, (1, 1))
    return folder


def linked(folder: StudyFolder) -> StudyFolder:
    path = folder.root / "lines.txt"
    path.rename(folder.root / "real.text")
    path.symlink_to("real.text")
    return folder


def without_sources(folder: StudyFolder) -> StudyFolder:
    for name in ("pairs.jsonl", "stories.jsonl", "lines.txt"):
        (folder.root / name).unlink()
    return folder


@pytest.mark.parametrize("change", [moved, copied, touched, linked, without_sources])
def test_where_files_lie_and_when_they_were_touched_changes_nothing(
    made: tuple[Study, StudyFolder], change: Callable[[StudyFolder], StudyFolder]
) -> None:
    study, folder = made
    before = tree(folder.root / "prepared"), open_tokenizer(folder).digest
    folder = change(folder)
    assert fates(study, folder) == KEPT
    prepare_datasets(study, folder, workers=1)
    after = tree(folder.root / "prepared"), open_tokenizer(folder).digest
    shards = [
        {name: digest for name, digest in found[0].items() if name.endswith(".arrow")} for found in (before, after)
    ]
    assert shards[0] == shards[1]
    assert before[1] == after[1]


def test_asking_writes_nothing(made: tuple[Study, StudyFolder]) -> None:
    study, folder = made
    (folder.root / "lines.txt").write_text("another text\n")
    before = tree(folder.root)
    assert fates(study, folder)["lines"] == "anew"
    assert tree(folder.root) == before


def test_the_same_size_at_the_same_path_is_not_the_same_text(made: tuple[Study, StudyFolder]) -> None:
    study, folder = made
    path = folder.root / "lines.txt"
    path.write_bytes(path.read_bytes().replace(b"a", b"e"))
    assert data_changes(study, folder).datasets["lines"].why in (
        "the tokenizer is made anew",
        "its source holds something else",
    )
    assert fates(study, folder)["lines"] == "anew"


def test_another_source_setting_with_gone_files_is_an_error_that_names_file_and_key(
    made: tuple[Study, StudyFolder],
) -> None:
    _, folder = made
    other = parse_study(TINY.replace("lines.txt", "no-such.txt"))
    with pytest.raises(SourceError) as raised:
        data_changes(other, folder)
    assert str(raised.value.where) == f"{folder.study_file}: $.datasets.lines.source"


def depend(folder: StudyFolder) -> None:
    (folder.checkpoint("torch_a", 12)).mkdir(parents=True)


def test_a_tokenizer_that_runs_use_stays_when_a_dataset_comes(made: tuple[Study, StudyFolder]) -> None:
    _, folder = made
    shutil.copy(folder.root / "lines.txt", folder.root / "more.txt")
    text = TINY.replace("[validation]", '[datasets.more]\nsource = "more.txt"\n[validation]').replace(
        "lines = 0.25 }", "lines = 0.25, more = 0.1 }"
    )
    study = parse_study(text)
    assert fates(study, folder)["tokenizer"] == "anew"
    depend(folder)
    assert fates(study, folder) == KEPT | {"more": "made"}
    before = {name: open_dataset(folder, name).manifest["digest"] for name in NAMES}
    prepare_datasets(study, folder, workers=1)
    assert {name: open_dataset(folder, name).manifest["digest"] for name in NAMES} == before
    assert data_changes(study, folder).tokenizer.why.endswith("it was trained on lines, pairs, stories as they were")


def test_a_source_that_grew_is_told_and_may_be_kept_out(made: tuple[Study, StudyFolder]) -> None:
    study, folder = made
    depend(folder)
    with (folder.root / "lines.txt").open("a") as file:
        file.write("one line more.\n")
    change = data_changes(study, folder).datasets["lines"]
    assert change.fate == "anew"
    assert "its source had" in change.why
    assert fates(study, folder, keep=["lines"]) == KEPT


def test_settings_that_change_are_named(make_study: Callable[..., Study], made: tuple[Study, StudyFolder]) -> None:
    _, folder = made
    depend(folder)
    change = data_changes(make_study(("= 120", "= 100")), folder).tokenizer
    assert change.fate == "anew"
    assert "vocabulary_size was 120, is 100" in change.why


def test_a_file_that_changes_while_it_is_read_is_an_error(
    tiny_study: Study, tiny_folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lossary.data import prepare

    tokenise = prepare.tokenise_block

    def disturbed(block: object, **how: object) -> object:
        with (tiny_folder.root / "pairs.jsonl").open("a") as file:
            file.write("{}\n")
        return tokenise(block, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "tokenise_block", disturbed)
    with pytest.raises(SourceError, match="changed while it was read"):
        prepare_datasets(tiny_study, tiny_folder, workers=1)
    assert not tiny_folder.dataset("pairs").exists()

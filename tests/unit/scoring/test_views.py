"""Views in a study's folder: made once, kept, found damaged, passed over where they are too long, and never silent."""

import errno
import gc
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.small_vocabularies import SmallVocabulary
from tests.vocabularies import save_family

from lossary.data.examples import concatenate
from lossary.data.frozen_texts import read_texts, texts_folder
from lossary.data.prepare import prepare_datasets
from lossary.data.validation import load_validation, prepare_examples
from lossary.errors import ShardError, UsageError, VocabularyError
from lossary.folder import StudyFolder
from lossary.scoring import views
from lossary.scoring.api import View, Window
from lossary.scoring.view_making import LOST, UNKNOWN
from lossary.scoring.views import TOO_LONG, WITHOUT_TEXT, open_view
from lossary.study import Study
from lossary.verify import verify
from lossary.vocabulary.open import open_vocabulary

BYTES = SmallVocabulary("bytes")


@pytest.fixture
def study(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    shutil.copytree(prepared[1].root, tmp_path / "study", ignore=shutil.ignore_patterns("views"))
    return StudyFolder(tmp_path / "study")


def all_of(view: View) -> list[Window]:
    return list(view.windows())


def bytes_by_example(view: View) -> dict[tuple[str, int], int]:
    found = {}
    for window in view.windows():
        assert window.target_bytes is not None
        numbers = zip(window.examples.example.tolist(), window.target_bytes.tolist(), strict=True)
        found.update({(window.dataset, number): size for number, size in numbers})
    return found


def stamps(folder: StudyFolder) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.views.rglob("*") if path.is_file()}


def test_the_studys_own_vocabulary_gets_the_frozen_examples(study: StudyFolder) -> None:
    validation = load_validation(study)
    for view in (open_view(study, None, "mlm"), open_view(study, open_vocabulary(study.tokenizer), "mlm")):
        windows = all_of(view)
        found = concatenate([window.examples for window in windows])
        for name, values in vars(validation.examples).items():
            np.testing.assert_array_equal(getattr(found, name), values)
        assert (len(view), view.longest, view.parts) == (len(validation), validation.longest, validation.parts)
        assert view.left_out == {}
        for window in windows:
            (texts,) = read_texts(study, window.dataset) or []
            assert window.target_bytes is not None
            assert window.target_bytes.tolist() == texts.target_bytes.tolist()
    assert not study.views.exists()


def test_without_text_only_the_own_vocabulary_is_there(study: StudyFolder) -> None:
    for name in load_validation(study).datasets:
        shutil.rmtree(texts_folder(study, name))
    assert {window.target_bytes is None for window in open_view(study, None, "mlm").windows()} == {True}
    with pytest.raises(ShardError, match="no text is kept") as error:
        open_view(study, BYTES, "mlm")
    assert "lossary prepare" in str(error.value)


def test_a_dataset_without_text_is_left_out_and_counted(study: StudyFolder) -> None:
    shutil.rmtree(texts_folder(study, "lines"))
    view = open_view(study, BYTES, "mlm")
    assert view.datasets == ["pairs", "stories"] == list(view.parts)
    assert view.left_out["lines"] == {WITHOUT_TEXT: 15}
    assert len(view) == 45 == sum(len(window.examples) for window in view.windows())


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_a_view_is_made_once_and_is_the_same_every_time(study: StudyFolder, objective: views.TokenObjective) -> None:
    told: list[str] = []
    first = open_view(study, BYTES, objective, progress=lambda text, *_: told.append(text))
    assert {text.partition(":")[0] for text in told} == {"pairs", "stories", "lines"}
    before, seen = stamps(study), all_of(first)
    assert len(before) == 4
    again = open_view(study, BYTES, objective, progress=lambda text, *_: told.append(f"again {text}"))
    assert not any(text.startswith("again") for text in told)
    assert stamps(study) == before
    assert (again.digest, again.objective, again.longest) == (first.digest, objective, first.longest)
    for one, other in zip(seen, again.windows(), strict=True):
        assert one.dataset == other.dataset
        for name, values in vars(one.examples).items():
            np.testing.assert_array_equal(getattr(other.examples, name), values)
    shutil.rmtree(study.views)
    assert open_view(study, BYTES, objective).digest == first.digest


def test_vocabularies_and_objectives_have_views_of_their_own(study: StudyFolder) -> None:
    others = [SmallVocabulary("words"), SmallVocabulary("characters"), BYTES]
    digests = {open_view(study, one, objective).digest for one in others for objective in ("mlm", "clm")}
    assert len(digests) == 6 == len(list(study.views.iterdir()))


def test_a_view_says_whether_its_vocabulary_loses_capitals(study: StudyFolder) -> None:
    # The tokenizer of the study is trained in small letters.
    assert [open_view(study, one, "mlm").folds_case for one in (None, BYTES)] == [True, False]
    assert open_view(study, None, "clm").folds_case


def test_two_vocabularies_have_the_same_bytes_of_targets(study: StudyFolder) -> None:
    own, other = bytes_by_example(open_view(study, None, "mlm")), bytes_by_example(open_view(study, BYTES, "mlm"))
    assert own == other == bytes_by_example(open_view(study, SmallVocabulary("words"), "mlm"))
    texts = bytes_by_example(open_view(study, SmallVocabulary("words", causal=True, bos=True), "clm"))
    assert texts == bytes_by_example(open_view(study, SmallVocabulary("bytes", causal=True, bos=True), "clm"))
    assert texts == bytes_by_example(open_view(study, SmallVocabulary("spaced words", causal=True, bos=True), "clm"))


@pytest.mark.frameworks
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "xlmr"])
def test_families_hide_the_same_bytes_or_count_what_they_lose(study: StudyFolder, tmp_path: Path, family: str) -> None:
    own = bytes_by_example(open_view(study, None, "mlm"))
    view = open_view(study, open_vocabulary(save_family(family, tmp_path / family)), "mlm")
    found = bytes_by_example(view)
    assert found.keys() == own.keys()
    assert all(found[key] <= own[key] for key in own)
    less = sum(found[key] < own[key] for key in own)
    lost = sum(counts.get(UNKNOWN, 0) + counts.get(LOST, 0) for counts in view.left_out.values())
    assert less <= lost
    if family in ("roberta", "modernbert"):
        assert found == own


@pytest.mark.frameworks
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_causal_families_read_all_of_the_text(study: StudyFolder, tmp_path: Path, family: str) -> None:
    vocabulary = open_vocabulary(save_family(family, tmp_path / family))
    view = open_view(study, vocabulary, "clm")
    for window in view.windows():
        (texts,) = read_texts(study, window.dataset) or []
        assert window.target_bytes is not None
        for row in range(5):
            data, ids = texts.bytes_of(row), window.examples.token_ids[row, : window.examples.lengths[row]]
            pieces = vocabulary.encode([data.decode()])[0]
            front = [vocabulary.specials.bos] if family == "llama" else []
            assert ids.tolist() == [*front, *pieces.ids.tolist()]
            assert window.target_bytes[row] == len(data) - (0 if front else pieces.end[0] - pieces.begin[0])


def test_the_own_vocabulary_reads_the_text_too(study: StudyFolder) -> None:
    view = open_view(study, None, "clm")
    own = open_vocabulary(study.tokenizer)
    assert view.vocabulary_digest == own.digest
    window = next(view.windows())
    (texts,) = read_texts(study, window.dataset) or []
    ids = own.encode([texts.bytes_of(0).decode()])[0].ids.tolist()
    assert window.examples.token_ids[0, 1 : len(ids) + 1].tolist() == ids


def test_what_is_too_long_is_passed_over_and_counted(study: StudyFolder) -> None:
    whole = open_view(study, BYTES, "mlm")
    lengths = np.concatenate([window.examples.lengths for window in whole.windows()])
    limit = int(np.median(lengths))
    view = open_view(study, BYTES, "mlm", max_length=limit)
    assert len(list(study.views.iterdir())) == 1
    found = np.concatenate([window.examples.lengths for window in view.windows()])
    assert sorted(found.tolist()) == sorted(lengths[lengths <= limit].tolist())
    assert len(view) == len(found) < len(whole)
    assert view.longest == found.max() <= limit
    assert sum(counts[TOO_LONG] for counts in view.left_out.values()) == int((lengths > limit).sum())
    assert all(window.examples.token_ids.shape[1] <= limit for window in view.windows())
    assert bytes_by_example(view).items() <= bytes_by_example(whole).items()
    # A limit that nothing is above is none.
    assert open_view(study, BYTES, "mlm", max_length=10_000).digest == whole.digest != view.digest
    with pytest.raises(UsageError, match="no example is as short as 3 tokens"):
        open_view(study, BYTES, "mlm", max_length=3)


def test_what_is_left_out_is_of_the_examples_that_are_scored(study: StudyFolder) -> None:
    vocabulary = SmallVocabulary("words", unknown=".*ba.*")
    whole = open_view(study, vocabulary, "mlm")
    few = open_view(study, vocabulary, "mlm", max_length=10)

    def lost(view: View) -> int:
        return sum(counts.get(UNKNOWN, 0) for counts in view.left_out.values())

    def words(view: View) -> int:
        return sum(int(window.examples.masked.sum()) for window in view.windows())

    assert 0 < lost(few) < lost(whole)
    total = sum(len(block.begin) for name in whole.datasets for block in read_texts(study, name) or [])
    assert words(whole) + lost(whole) == total - sum(counts.get(LOST, 0) for counts in whole.left_out.values())


def test_nothing_can_be_hidden_without_a_mask(study: StudyFolder) -> None:
    with pytest.raises(VocabularyError, match="no mask piece"):
        open_view(study, SmallVocabulary("words", causal=True), "mlm")


def test_a_flipped_byte_is_found_and_verify_says_what_to_do(study: StudyFolder) -> None:
    view = open_view(study, BYTES, "mlm")
    (path,) = study.views.glob("*/lines.arrow")
    assert {file.state for file in verify(study) if file.kind == "views"} == {"whole"}
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="Delete its folder"):
        all_of(view)
    (damaged,) = [file for file in verify(study) if file.state == "damaged"]
    assert (damaged.kind, damaged.path) == ("views", path)
    shutil.rmtree(path.parent)
    assert open_view(study, BYTES, "mlm").digest == view.digest


def test_a_damaged_manifest_is_made_again(study: StudyFolder) -> None:
    digest = open_view(study, BYTES, "mlm").digest
    (path,) = study.views.glob("*/manifest.json")
    path.write_text(path.read_text().replace("mlm", "mlx"))
    assert open_view(study, BYTES, "mlm").digest == digest
    assert not [file for file in verify(study) if file.state == "damaged"]


def test_what_was_killed_is_made_again_and_left_overs_go(study: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(views, "write_manifest", kill)
    with pytest.raises(Killed):
        open_view(study, BYTES, "mlm")
    monkeypatch.undo()
    assert not list(study.views.glob("*"))
    old, new = study.views / ".abc.0123456789ab.tmp", study.views / ".abc.ba9876543210.tmp"
    old.mkdir(parents=True)
    new.mkdir()
    monkeypatch.setattr(views, "_STALE_S", -1)
    open_view(study, BYTES, "mlm")
    assert not old.exists()
    new.mkdir()
    monkeypatch.undo()
    # What is young may be somebody's who writes it just now.
    open_view(study, BYTES, "clm")
    assert new.exists()


def test_a_folder_that_cannot_be_written_to_keeps_no_view(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    expected = open_view(study, BYTES, "mlm").digest
    shutil.rmtree(study.views)

    @contextmanager
    def read_only(path: Path) -> Iterator[Path]:
        raise OSError(errno.EROFS, "Read-only file system", str(path))
        yield path

    monkeypatch.setattr(views, "write_directory_atomic", read_only)
    view = open_view(study, BYTES, "mlm")
    assert (view.digest, len(all_of(view))) == (expected, 3)
    assert not study.views.exists()
    assert len(list(temporary.iterdir())) == 1
    del view
    gc.collect()
    assert not list(temporary.iterdir())


def test_two_processes_that_make_the_same_view_both_have_it(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = open_view(study, BYTES, "mlm").digest
    kept = study.root / "kept"
    study.views.rename(kept)

    @contextmanager
    def beaten(path: Path) -> Iterator[Path]:
        shutil.copytree(kept, study.views)
        yield study.views / "unused"
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    (kept / "unused").mkdir()
    monkeypatch.setattr(views, "write_directory_atomic", beaten)
    assert open_view(study, BYTES, "mlm").digest == expected


def test_views_of_what_is_no_longer_frozen_go(
    make_study: Callable[..., Study], tiny_study: Study, tiny_folder: StudyFolder
) -> None:
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    prepare_examples(tiny_study, tiny_folder)
    before = open_view(tiny_folder, BYTES, "mlm")
    other = open_view(tiny_folder, SmallVocabulary("words"), "mlm")
    study = make_study(("seed = 3", "seed = 4"))
    prepare_datasets(study, tiny_folder, workers=1)
    prepare_examples(study, tiny_folder)
    with pytest.raises(ShardError, match="frozen anew meanwhile"):
        all_of(other)
    after = open_view(tiny_folder, BYTES, "mlm")
    assert after.digest != before.digest
    assert len(list(tiny_folder.views.iterdir())) == 2


def test_long_texts_come_in_small_windows(study: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = concatenate([window.examples for window in open_view(study, BYTES, "clm").windows()])
    shutil.rmtree(study.views)
    monkeypatch.setattr(views, "_PADDED", 500)
    windows = all_of(open_view(study, BYTES, "clm"))
    assert max(window.examples.token_ids.size for window in windows) <= 500
    again = concatenate([window.examples for window in windows])
    assert again.token_ids.tolist() == whole.token_ids.tolist()

"""A dataset under another name: only the study file changes, and all that was made of it is shown by the new name."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from tests.scored import score_run

from lossary.data.parts import known_parts, present_validation
from lossary.data.validation import load_validation
from lossary.editing.add import add
from lossary.editing.document import StudyDocument
from lossary.editing.move import Move, move
from lossary.editing.remove import remove
from lossary.errors import StudyError
from lossary.files import digest_file
from lossary.folder import StudyFolder
from lossary.naming import names_of
from lossary.planning.plan import make_plan
from lossary.results.queries import dearest, loss_spread, widest_gaps
from lossary.results.records import read_header
from lossary.results.scorefile import ScoreFile
from lossary.status import status_of
from lossary.study import Study
from lossary.study_file import load_study
from lossary.tables.examples import Pair, open_gap
from lossary.tables.load import open_table
from lossary.tables.texts import open_texts, texts_of


@pytest.fixture
def done(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    """A prepared study with scores of two runs, that is its own copy."""
    root = tmp_path / "done"
    shutil.copytree(prepared[1].root, root)
    folder = StudyFolder(root)
    for run in ("torch_a", "torch_stories"):
        score_run(folder, run)
    return folder


def rename(folder: StudyFolder, old: str, new: str) -> list[str]:
    return move(folder.study_file, folder, Move("datasets", old, new))


def made(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "study.toml")
    return {str(path.relative_to(root)): digest_file(path) for path in files}


def numbers(root: Path, **names: str) -> list[tuple[object, ...]]:
    cells = open_table(root, base="torch_a").table.cells
    return [(cell.run, names.get(cell.dataset, cell.dataset), cell.metric, cell.value, cell.low) for cell in cells]


def fates(folder: StudyFolder) -> set[tuple[str, str, str]]:
    items = make_plan(load_study(folder.study_file), folder).items
    return {(item.kind, item.name, item.fate) for item in items if item.kind in ("tokenizer", "dataset", "validation")}


def test_only_the_study_file_changes_and_every_number_stays(done: StudyFolder) -> None:
    files, text, before, planned = made(done.root), done.study_file.read_text(), numbers(done.root), fates(done)
    said = rename(done, "lines", "rows")
    assert "drawn_as" in said[0]
    assert made(done.root) == files
    assert list(load_study(done.study_file).datasets) == ["pairs", "stories", "rows"]
    assert numbers(done.root, rows="lines") == before
    assert {(kind, "lines" if name == "rows" else name, fate) for kind, name, fate in fates(done)} == planned
    notes = open_table(done.root).table.notes
    assert any("rows" in note for note in notes)
    assert not any("lines" in note for note in notes)
    rename(done, "rows", "lines")
    assert done.study_file.read_text() == text


def test_everybody_who_reads_scores_calls_it_by_its_present_name(done: StudyFolder) -> None:
    def files() -> list[ScoreFile]:
        return [ScoreFile(done.scores(run, 12)) for run in ("torch_a", "torch_stories")]

    def answers() -> list[object]:
        first, second = files()
        spread, worst = loss_spread({"a": first, "b": second}, "mlm"), dearest(first, "mlm", 2)
        found = [spread, worst, widest_gaps(first, second, "mlm", 2), read_header(first.path).validation]
        return [{str(key): value for key, value in one.items()} for one in found]

    def as_lines(found: list[object]) -> list[object]:
        return [{key.replace("rows", "lines"): value for key, value in one.items()} for one in found]  # type: ignore[attr-defined]

    before, example = answers(), dearest(files()[0], "mlm", 1)["lines"][0]
    pair = partial(Pair, first="torch_a", second="torch_stories")
    gap_before = open_gap(load_study(done.study_file), done, pair(dataset="lines")).page()
    rename(done, "lines", "rows")
    assert as_lines(answers()) == before
    assert "lines" not in str(answers())
    for file in files():
        assert {row.dataset for row in file.rows({("rows", example)})["rows", example].values()} == {"rows"}
        assert not file.rows({("lines", example)})
    page = open_gap(load_study(done.study_file), done, pair(dataset="rows")).page()
    for row, earlier in zip(page, gap_before, strict=True):
        assert (row.rank, row.example, row.delta) == (earlier.rank, earlier.example, earlier.delta)
        assert {name: score._replace(dataset="lines") for name, score in row.first.items()} == earlier.first
    texts = texts_of(lambda: open_texts(done), "rows", page)
    assert all(text.reason is None and text.plain for text in texts)


def test_the_frozen_set_is_the_same_under_both_names(done: StudyFolder) -> None:
    before, part = load_validation(done), known_parts(done)["lines"]["digest"]
    examples = before.examples
    rename(done, "lines", "rows")
    after = load_validation(done)
    assert (after.digest, after.datasets) == (before.digest, ["pairs", "stories", "rows"])
    assert (after.examples.token_ids == examples.token_ids).all()
    assert known_parts(done)["rows"]["digest"] == after.parts["rows"] == part
    described = present_validation(load_study(done.study_file), done)["per_dataset"]
    assert sum(row["share"] for row in described.values()) == pytest.approx(1)
    assert [(one.name, one.state, one.validation) for one in status_of(done.root).datasets][-1] == (
        "rows",
        "made",
        "made",
    )


def test_a_new_dataset_of_the_old_name_has_draws_and_files_of_its_own(done: StudyFolder) -> None:
    rename(done, "lines", "rows")
    (done.root / "more.txt").write_text((done.root / "lines.txt").read_text()[::-1])
    study = add(done.study_file, "datasets", "lines", {"source": "more.txt"}, shares={"validation": 0.1})
    assert study.datasets["lines"].drawn_as == "lines-2"
    assert done.dataset("lines").name == "lines-2"
    assert done.dataset("rows").name == "lines"
    assert ("dataset", "rows", "kept") in fates(done)
    assert ("dataset", "lines", "made") in fates(done)
    # What left the study is not taken for it either.
    remove(done.study_file, done, "datasets", "rows")
    assert names_of(done.root).called("lines") == "lines (removed)"
    assert "rows" not in known_parts(done)


@pytest.mark.parametrize("clash", ["lines", "LINES", "stories"])
def test_two_datasets_never_share_what_they_are_drawn_as(done: StudyFolder, clash: str) -> None:
    table = '[datasets.stories]\ndrawn_as = "lines"' if clash == "stories" else "[datasets.stories]"
    text = done.study_file.read_text().replace("[datasets.stories]", table)
    if clash != "stories":
        text = text.replace("[datasets.lines]", '[datasets.rows]\ndrawn_as = "lines"').replace(
            "lines = 0.25", "rows = 0.25, " + clash + " = 1"
        )
        text = text.replace("[datasets.rows]", f'[datasets.{clash}]\nsource = "lines.txt"\n[datasets.rows]')
    done.study_file.write_text(text)
    with pytest.raises(StudyError, match="both drawn as") as caught:
        load_study(done.study_file)
    assert "drawn_as" in str(caught.value.hint)


def test_two_names_may_be_exchanged(done: StudyFolder) -> None:
    before = numbers(done.root)
    for old, new in (("lines", "x"), ("stories", "lines"), ("x", "stories")):
        rename(done, old, new)
    after = {(name, *rest) for run, name, *rest in numbers(done.root)}
    swapped = {"lines": "stories", "stories": "lines"}
    assert after == {(swapped.get(name, name), *rest) for run, name, *rest in before}


def test_a_renaming_by_hand_is_recognised_and_said(done: StudyFolder) -> None:
    text = done.study_file.read_text()
    done.study_file.write_text(
        text.replace("[datasets.lines]", "[datasets.rows]").replace("lines = 0.25", "rows = 0.25")
    )
    item = next(item for item in make_plan(load_study(done.study_file), done).items if item.name == "rows")
    assert item.fate == "made"
    assert 'drawn_as = "lines"' in item.why
    done.study_file.write_text(
        done.study_file.read_text().replace("[datasets.rows]", '[datasets.rows]\ndrawn_as = "lines"')
    )
    assert {fate for _, _, fate in fates(done)} == {"kept"}


def test_nothing_else_renames(done: StudyFolder) -> None:
    with pytest.raises(StudyError, match=r"study\.toml does not say"):
        load_study(done.study_file, ['datasets.lines.drawn_as="old"'])
    other = done.root / "other.toml"
    other.write_text(done.study_file.read_text())
    assert load_study(other)
    rename(done, "lines", "rows")
    other.write_text(done.study_file.read_text())
    assert load_study(other).datasets["rows"].drawn_as == "lines"
    other.write_text(other.read_text().replace('drawn_as = "lines"', 'drawn_as = "pairs2"'))
    with pytest.raises(StudyError, match=r"study\.toml does not say"):
        load_study(other)


def test_a_kill_leaves_the_old_name_or_the_new_one(done: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = numbers(done.root)
    write = StudyDocument.write

    def killed_before(_: StudyDocument) -> None:
        raise KeyboardInterrupt

    def killed_after(document: StudyDocument) -> None:
        write(document)
        raise KeyboardInterrupt

    for killed, name in ((killed_before, "lines"), (killed_after, "rows")):
        with monkeypatch.context() as patched:
            patched.setattr(StudyDocument, "write", killed)
            with pytest.raises(KeyboardInterrupt):
                rename(done, "lines", "rows")
        assert numbers(done.root, **{name: "lines"}) == before
    # The same command again finds it done.
    rename(done, "lines", "rows")
    assert numbers(done.root, rows="lines") == before


def test_a_dataset_of_which_nothing_was_made_is_just_renamed(tiny_folder: StudyFolder) -> None:
    assert rename(tiny_folder, "lines", "rows") == []
    assert "drawn_as" not in tiny_folder.study_file.read_text()

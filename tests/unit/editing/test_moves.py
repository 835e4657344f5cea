"""mv: the study file keeps its form, what was made keeps its bytes, and the table shows the new name."""

import shutil
import tomllib
from pathlib import Path

import pytest
from tests.conftest import TINY
from tests.scored import score_run

from lossary.editing.document import StudyDocument
from lossary.editing.move import Move, move
from lossary.editing.remove import remove
from lossary.errors import DataError, StudyError, UsageError
from lossary.files import digest_file, write_json
from lossary.folder import StudyFolder
from lossary.study import Study
from lossary.study_file import load_study
from lossary.tables.load import open_table

MORE = """
[runs."b.1"]  # branch
backend = "torch"
size = "base"
start = { run = "torch_a", step = 4 }  # from
[recipe.more]
"""


@pytest.fixture
def done(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    """A prepared study with scores of two runs, that is its own copy."""
    root = tmp_path / "done"
    shutil.copytree(prepared[1].root, root)
    folder = StudyFolder(root)
    for run in ("torch_a", "torch_stories"):
        score_run(folder, run)
    return folder


def made(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "study.toml")
    return {str(path.relative_to(root)): digest_file(path) for path in files}


def test_a_run_takes_along_what_was_made_of_it(done: StudyFolder) -> None:
    before = made(done.root)
    table = open_table(done.root).table
    text = done.study_file.read_text()
    move(done.study_file, done, Move("runs", "torch_a", "größer.2"))
    moved = {name.replace("runs/torch_a/", "runs/größer.2/"): digest for name, digest in before.items()}
    assert made(done.root) == moved
    assert done.study_file.read_text() == text.replace("[runs.torch_a]", '[runs."größer.2"]')
    after = open_table(done.root).table
    names = {"torch_a": "größer.2"}
    assert [run.name for run in after.runs] == [names.get(run.name, run.name) for run in table.runs]
    old, new = ([(cell.dataset, cell.metric, cell.value) for cell in found.cells] for found in (table, after))
    assert old == new
    assert {cell.run for cell in after.cells} == {"größer.2", "torch_stories"}
    move(done.study_file, done, Move("runs", "größer.2", "torch_a"))
    assert made(done.root) == before
    assert load_study(done.study_file) == load_study_text(text, done)


def load_study_text(text: str, folder: StudyFolder) -> Study:
    path = folder.root / "again.toml"
    path.write_text(text)
    study = load_study(path)
    path.unlink()
    return study


FORMS = {
    "tables": TINY,
    "quoted": TINY.replace("[runs.torch_a]", '[ runs . "torch_a" ]  # x').replace(
        "[datasets.lines]", "[datasets.'lines']"
    ),
    "table of shares": TINY.replace(
        "shares = { pairs = 0.25, stories = 0.5, lines = 0.25 }",
        "[validation.shares]\npairs = 0.25\nstories = 0.5\nlines = 0.25 # few",
    ),
    "one line": TINY.replace("[datasets.lines]\nsource", "[datasets]\nlines.source"),
    "inline": TINY.replace(
        '[datasets.lines]\nsource = "lines.txt"', '[datasets]\nlines = { source = "lines.txt" } # x'
    ),
    "listed": TINY.replace('["stories"]', '[\n  "stories",\n  "lines", # few\n]'),
    "branch": TINY + MORE.replace("[recipe.more]\n", ""),
    "windows": TINY.replace("\n", "\r\n"),
    "mark": "\ufeff" + TINY,
}


@pytest.mark.parametrize("asked", [Move("runs", "torch_a", "c"), Move("datasets", "lines", "rows")])
@pytest.mark.parametrize("form", FORMS)
def test_only_the_name_changes_in_the_study_file(tiny_folder: StudyFolder, form: str, asked: Move) -> None:
    file = tiny_folder.study_file
    file.write_bytes(FORMS[form].encode())
    before = load_study(file)
    move(file, tiny_folder, asked)
    after = load_study(file)
    kept, changed = FORMS[form].splitlines(), file.read_bytes().decode().splitlines()
    assert len(kept) == len(changed)
    differ = [(old, new) for old, new in zip(kept, changed, strict=True) if old != new]
    assert differ
    assert all(asked.old in old and asked.new in new for old, new in differ)
    assert (b"\r\n" in file.read_bytes()) == (form == "windows")
    names = {asked.old: asked.new}
    for one, other in ((before.runs, after.runs), (before.datasets, after.datasets)):
        assert len(one) == len(other)
    assert [names.get(name, name) for name in getattr(before, asked.kind)] == list(getattr(after, asked.kind))
    move(file, tiny_folder, Move(asked.kind, asked.new, asked.old))
    assert load_study(file) == before


def test_a_name_that_is_also_something_else_is_renamed_in_its_place_alone(tiny_folder: StudyFolder) -> None:
    file = tiny_folder.study_file
    file.write_text(TINY.replace("lines", "steps").replace("steps.txt", "lines.txt"))
    wanted = tomllib.loads(file.read_text())
    move(file, tiny_folder, Move("datasets", "steps", "source"))
    study = load_study(file)
    assert list(study.datasets) == ["pairs", "stories", "source"]
    assert study.recipe.steps == wanted["recipe"]["steps"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Move("runs", "nobody", "c"), "no run is called"),
        (Move("datasets", "nobody", "c"), "no dataset is called"),
        (Move("runs", "torch_a", "tf_a"), "is taken"),
        (Move("runs", "torch_a", "torch_a"), "is taken"),
        (Move("runs", "torch_a", "TF_A"), "differ in case"),
        (Move("runs", "torch_a", "../up"), "cannot be the name"),
        (Move("runs", "torch_a", "a/b"), "cannot be the name"),
        (Move("runs", "torch_a", ""), "cannot be the name"),
        (Move("datasets", "stories", "lines"), "is taken"),
        (Move("datasets", "lines", "STORIES"), "differ in case"),
    ],
)
def test_a_refused_move_changes_nothing(done: StudyFolder, asked: Move, said: str) -> None:
    before, text = made(done.root), done.study_file.read_bytes()
    with pytest.raises(UsageError, match=said) as caught:
        move(done.study_file, done, asked)
    assert caught.value.where
    assert (made(done.root), done.study_file.read_bytes()) == (before, text)


def test_a_run_that_another_one_was_begun_from_keeps_its_name(done: StudyFolder) -> None:
    write_json(done.run("torch_stories") / "run.json", {"start": {"run": "torch_a", "step": 4}})
    with pytest.raises(UsageError, match="torch_stories was begun from 'torch_a'"):
        move(done.study_file, done, Move("runs", "torch_a", "c"))


def test_a_crash_after_the_study_file_is_ended_by_the_same_command(
    done: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made(done.root)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    write = StudyDocument.write
    with monkeypatch.context() as patched:
        patched.setattr(StudyDocument, "write", lambda document: killed(write(document)))
        with pytest.raises(KeyboardInterrupt):
            move(done.study_file, done, Move("runs", "torch_a", "c"))
    assert made(done.root) == before
    move(done.study_file, done, Move("runs", "torch_a", "c"))
    assert "runs/c/scores/00000012.parquet" in made(done.root)
    assert "torch_a" not in load_study(done.study_file).runs


def test_a_study_file_that_is_a_link_stays_one_and_a_read_only_one_is_left_alone(
    tiny_folder: StudyFolder, tmp_path: Path
) -> None:
    file = tiny_folder.study_file
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    move(link, tiny_folder, Move("runs", "torch_a", "c"))
    assert link.is_symlink()
    assert "c" in load_study(file).runs
    file.chmod(0o444)
    with pytest.raises(DataError, match="read-only"):
        move(file, tiny_folder, Move("runs", "c", "d"))
    file.write_text("[runs")
    with pytest.raises(StudyError, match="not TOML"):
        move(file, tiny_folder, Move("runs", "c", "d"))


def test_what_is_said_of_a_run_goes_along_or_away_with_its_name(done: StudyFolder) -> None:
    def failed(run: str) -> Path:
        write_json(done.ending(run, "train"), {"schema": 1, "stage": "train", "kind": "RunError", "message": run})
        done.log(run, "train").write_text(run)
        return done.ending(run, "train")

    failed("torch_a")
    # A name with dots is another run's.
    other = failed("torch_a.train")
    done.diagnosis.mkdir()
    write_json(done.diagnosis / "torch_a-tf_a.json", {"sides": ["torch_a", "tf_a"]})
    (done.diagnosis / "torch_a-tf_a.md").write_text("torch_a is worse")
    write_json(done.diagnosis / "reference.json", {"sides": ["reference"]})
    notes = move(done.study_file, done, Move("runs", "torch_a", "wider"))
    assert any("diagnoses that speak of torch_a" in note for note in notes)
    assert [path.name for path in done.said_of("wider")] == ["wider.train.ended.json", "wider.train.log"]
    assert not done.said_of("torch_a")
    assert other.is_file()
    assert [path.name for path in done.diagnosis.iterdir()] == ["reference.json"]
    assert len(list(done.removed.glob("*-diagnosis-torch_a-tf_a.*"))) == 2
    remove(done.study_file, done, "runs", "wider")
    assert not done.said_of("wider")

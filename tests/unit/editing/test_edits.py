"""add and rm: the study file keeps its form, and nothing is lost or half changed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import TINY
from tests.scored import score_run

from lossary.editing.add import add
from lossary.editing.document import parse_settings, parse_target
from lossary.editing.remove import remove
from lossary.errors import StudyError, UsageError
from lossary.files import digest_file, read_json, write_json
from lossary.folder import StudyFolder
from lossary.planning.plan import make_plan
from lossary.study import Study
from lossary.study_file import load_study
from lossary.tables.load import open_table

COMMENTED = "# head\n" + TINY.replace("[datasets.stories]", "# why stories\n[datasets.stories]  # beside") + "# end\n"
SIZE = {"from": "base", "width": 0.0208, "depth": 0.0833}
FORMS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "windows": lambda text: text.replace("\n", "\r\n").encode(),
    "no end": lambda text: text.rstrip("\n").encode(),
    "mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "blank lines": lambda text: text.replace("\n[", "\n\n[").encode(),
    "tight": lambda text: "\n".join(line for line in text.splitlines() if line).encode() + b"\n",
}


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
    """Every file but those of removed/, and its digest."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and "removed" not in path.parts)
    return {str(path.relative_to(root)): digest_file(path) for path in files}


def add_dataset(file: Path, share: float | None = 0.1) -> Study:
    return add(file, "datasets", "more", {"source": "lines.txt"}, shares={"validation": share})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["datasets", "runs"])
def test_what_is_added_and_removed_leaves_nothing(tiny_folder: StudyFolder, form: str, kind: str) -> None:
    file = tiny_folder.study_file
    file.write_bytes(FORMS[form](COMMENTED))
    before, study = made(tiny_folder.root), load_study(file)
    if kind == "datasets":
        assert add_dataset(file).datasets["more"].source == "lines.txt"
    else:
        assert add(file, "runs", "more", {"backend": "torch", "size": SIZE}, shares={}).runs["more"].backend == "torch"
    text = file.read_bytes()
    assert text != FORMS[form](COMMENTED)
    assert (b"\r\n" in text) == (form == "windows")
    assert text.count(b"\r\n") in (0, text.count(b"\n"))
    for comment in (b"# head", b"# why stories", b"# beside", b"# end"):
        assert comment in text
    remove(file, tiny_folder, kind, "more")
    assert load_study(file) == study
    assert made(tiny_folder.root) == before


def test_a_name_comes_back_with_the_same_text_or_as_another_dataset(done: StudyFolder) -> None:
    file, shares = done.study_file, {"validation": 0.25}
    # What a run was trained on stays prepared.
    write_json(done.run("torch_a") / "run.json", {"datasets": ["lines"], "recipe": {"steps": 12}})
    remove(file, done, "datasets", "lines")
    (done.root / "new.txt").write_text("Another text. It has other lines.\n" * 40)
    apart = add(file, "datasets", "lines", {"source": "new.txt"}, shares=shares)
    assert apart.datasets["lines"].drawn_as == "lines-2"
    remove(file, done, "datasets", "lines")
    again = add(file, "datasets", "lines", {"source": "lines.txt"}, shares=shares)
    assert again.datasets["lines"].drawn_as is None
    assert {i.what: i.fate for i in make_plan(again, done).items}["dataset lines"] == "kept"


def test_examples_of_a_name_that_comes_back_stay_if_its_text_does(done: StudyFolder) -> None:
    remove(done.study_file, done, "datasets", "lines")
    again = add(done.study_file, "datasets", "lines", {"source": "lines.txt"}, shares={"validation": 0.25})
    (item,) = [item for item in make_plan(again, done).items if item.what == "validation lines"]
    assert item.fate == "kept"
    assert "stay if it holds what they were frozen from, else it is refused" in item.why


def test_a_refused_edit_changes_nothing(tiny_folder: StudyFolder) -> None:
    file = tiny_folder.study_file
    before = made(tiny_folder.root)
    refused: list[tuple[type[Exception], Callable[[], object]]] = [
        (UsageError, lambda: add_dataset(file, share=None)),
        (StudyError, lambda: add_dataset(file, share=-1.0)),
        (StudyError, lambda: add(file, "datasets", "more", {"sauce": "x"}, shares={"validation": 0.1})),
        (UsageError, lambda: add(file, "datasets", "lines", {"source": "x"}, shares={"validation": 0.1})),
        (UsageError, lambda: add(file, "runs", "b", {"backend": "torch", "size": "base"}, shares={"validation": 0.1})),
        (StudyError, lambda: add(file, "runs", "b", {"backend": "numpy", "size": "base"}, shares={})),
        (UsageError, lambda: remove(file, tiny_folder, "datasets", "stories")),  # torch_stories has nothing else
        (UsageError, lambda: remove(file, tiny_folder, "runs", "nobody")),
    ]
    for kind, edit in refused:
        with pytest.raises(kind):
            edit()
    assert made(tiny_folder.root) == before


def test_the_last_run_and_a_run_that_others_start_from_stay(tiny_folder: StudyFolder) -> None:
    file = tiny_folder.study_file
    start = {"run": "torch_a", "step": 4}
    add(file, "runs", "branch", {"backend": "torch", "size": SIZE, "start": start}, shares={})
    with pytest.raises(UsageError, match="branch starts from 'torch_a'"):
        remove(file, tiny_folder, "runs", "torch_a")
    for run in ("branch", "tf_a", "torch_stories"):
        remove(file, tiny_folder, "runs", run)
    with pytest.raises(UsageError, match="the last run"):
        remove(file, tiny_folder, "runs", "torch_a")


@pytest.mark.parametrize("delete", [False, True])
def test_a_removed_run_leaves_the_table_and_the_others_as_they_are(done: StudyFolder, delete: bool) -> None:
    before = made(done.root)
    cells = [cell for cell in open_table(done.root).table.cells if cell.run == "torch_a"]
    removed = remove(done.study_file, done, "runs", "torch_stories", delete=delete)
    table = open_table(done.root).table
    assert [run.name for run in table.runs] == ["torch_a"]
    assert table.cells == cells
    gone = {name for name in before if name.startswith("runs/torch_stories/")}
    assert gone
    assert made(done.root).keys() == before.keys() - gone
    assert done.removed.exists() is not delete
    if removed.moved_to is not None:
        assert {f"runs/torch_stories/{name}" for name in made_in(removed.moved_to)} == gone


def made_in(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def test_scores_that_no_study_file_names_are_removed_too(done: StudyFolder) -> None:
    score_run(done, "a_checkpoint")
    text = done.study_file.read_bytes()
    assert "a_checkpoint" in [run.name for run in open_table(done.root).table.runs]
    remove(done.study_file, done, "runs", "a_checkpoint")
    assert "a_checkpoint" not in [run.name for run in open_table(done.root).table.runs]
    assert done.study_file.read_bytes() == text


def test_a_removed_dataset_stays_held_out(done: StudyFolder) -> None:
    others = {name: digest for name, digest in made(done.root).items() if "lines" not in name and name != "study.toml"}
    removed = remove(done.study_file, done, "datasets", "lines")
    assert removed.moved_to is not None
    assert not done.dataset("lines").exists()
    assert (done.validation_part("lines") / "hashes.arrow").is_file()
    assert others.items() <= made(done.root).items()
    study = load_study(done.study_file)
    assert "lines" not in study.datasets
    assert not make_plan(study, done).refused


def test_what_runs_were_trained_on_stays_prepared(done: StudyFolder) -> None:
    (done.checkpoints("torch_a") / "step-00000012").mkdir(parents=True)
    write_json(done.run("torch_a") / "run.json", {"datasets": ["pairs", "stories", "lines"]})
    removed = remove(done.study_file, done, "datasets", "lines")
    assert removed.moved_to is None
    assert "torch_a" in removed.notes[-1]
    assert read_json(done.dataset("lines") / "manifest.json")["documents"]


def test_a_crash_after_the_study_file_is_ended_by_the_same_command(
    done: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lossary.editing.remove.step_aside", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(done.study_file, done, "runs", "torch_stories")
    assert "torch_stories" not in load_study(done.study_file).runs
    assert remove(done.study_file, done, "runs", "torch_stories").moved_to is not None
    assert not done.run("torch_stories").exists()


@pytest.mark.parametrize("target", ["wiki", "datasets.", "datasets.../up", "models.a", "runs.a/b", "runs..."])
def test_targets_name_a_dataset_or_a_run(target: str) -> None:
    with pytest.raises(UsageError):
        parse_target(target)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("source=data/a.txt", "data/a.txt"),
        ('source="a.txt"', "a.txt"),
        ('source=["a.txt", "b.txt"]', ["a.txt", "b.txt"]),
        ("text=2024", "2024"),
        ("source=a\nb = 1", "a\nb = 1"),
        ("where=lang = 'de' and length(text) > 200", "lang = 'de' and length(text) > 200"),
        ("where=\"meta.lang\" = 'de'", "\"meta.lang\" = 'de'"),
        ('where="n > 3"', "n > 3"),
        ('join="\\n"', "\n"),
        ("join=; ", ";"),
        ('join="; "', "; "),
        ("limit=100_000", 100_000),
    ],
)
def test_values_are_toml_and_bare_words_strings(setting: str, value: object) -> None:
    key = setting.split("=")[0]
    assert parse_settings("datasets", [setting]) == {key: value}
    assert parse_settings("runs", ["steps=9", "size={ from = 'base' }"]) == {"steps": 9, "size": {"from": "base"}}


@pytest.mark.parametrize("delete", [False, True])
def test_a_run_that_lies_elsewhere_behind_a_link_stays_there(done: StudyFolder, tmp_path: Path, delete: bool) -> None:
    place = tmp_path / "elsewhere" / "torch_a"
    place.parent.mkdir()
    shutil.move(done.run("torch_a"), place)
    done.run("torch_a").symlink_to(os.path.relpath(place, done.run("torch_a").parent))
    removed = remove(done.study_file, done, "runs", "torch_a", delete=delete)
    assert not done.run("torch_a").is_symlink()
    assert (place / "scores").is_dir()
    if delete:
        assert (removed.moved_to, done.removed.exists()) == (None, False)
        assert any(str(place) in note for note in removed.notes)
    else:
        assert removed.moved_to is not None
        assert removed.moved_to.resolve() == place

"""A study of texts alone: one call freezes them, and every verb says what there is and what is not."""

import tomllib
from pathlib import Path

import pytest
from tests.conftest import write_tiny_sources
from typer.testing import CliRunner

import lossary
from lossary.cli.main import app
from lossary.data.builtin import builtin_rows
from lossary.data.validation import load_validation
from lossary.editing.new import new_study_file
from lossary.errors import LossaryError, StudyError, UsageError
from lossary.folder import StudyFolder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    write_tiny_sources(root)
    return root


@pytest.fixture(scope="module")
def study(place: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        source = next(path for path in sorted(Path().rglob("*")) if path.suffix == ".txt")
        lossary.new_study("mine", {"texts": source, "comments": "builtin:comments"}, examples=60, sequence_length=32)
        again = lossary.new_study(
            "mine", {"texts": source, "comments": "builtin:comments"}, examples=60, sequence_length=32
        )
    assert again.runs == []
    return place / "mine"


def test_texts_are_frozen_in_equal_parts_and_nothing_is_trained_on(study: Path) -> None:
    validation = load_validation(StudyFolder(study))
    counts = {name: part["examples"] for name, part in validation.manifest["per_dataset"].items()}
    assert counts == {"texts": 30, "comments": 30}
    assert not list(study.rglob("spans-*"))


def test_what_is_held_out_is_told_so_that_nobody_trains_on_it(study: Path) -> None:
    opened = lossary.open_study(study)
    texts = [str(row["text"]) for row in builtin_rows("comments")]
    held = opened.holds_out(texts)
    # Thirty examples come from thirty documents at most, some of which stand there more than once.
    assert 1 <= len({text for text, is_held in zip(texts, held, strict=True) if is_held}) <= 30
    some = next(text for text, is_held in zip(texts, held, strict=True) if is_held)
    assert opened.holds_out([some.upper().replace(" ", "\n  "), some + " and more"]) == [True, False]


def test_a_small_text_has_as_many_pieces_as_it_allows_unless_a_number_is_named(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("a few words of text\nand a few more\n" * 40)
    small = lossary.new_study(tmp_path / "small", {"few": tmp_path / "few.txt"}, examples=10)
    assert small.folder.tokenizer.joinpath("spiece.model").stat().st_size > 5
    file = small.path / "study.toml"
    text = file.read_text() + "\n[tokenizer]\nvocabulary_size = 30000\n"
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "study.toml").write_text(text)
    found = CliRunner().invoke(app, ["prepare", str(tmp_path / "named")])
    assert isinstance(found.exception, StudyError)
    assert "too large for this text" in str(found.exception)


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        (("show",), "has no runs: `lossary evaluate --checkpoint FOLDER`"),
        (("check",), "has no runs: `lossary evaluate --checkpoint FOLDER`"),
        (("report",), "has no runs: `lossary evaluate --checkpoint FOLDER`"),
        (("diagnose", "torch", "reference"), "the study has no runs"),
        (("train",), "the study has no runs"),
        (("evaluate",), "the study has no runs"),
    ],
)
def test_verbs_that_need_scores_say_how_to_get_some(study: Path, verb: tuple[str, ...], says: str) -> None:
    found = CliRunner().invoke(app, [*verb, str(study)])
    assert isinstance(found.exception, LossaryError), found.output
    assert says in f"{found.exception.message} {found.exception.hint}"


@pytest.mark.parametrize("verb", ["run", "plan", "status", "prepare", "verify"])
def test_verbs_that_need_no_scores_do_their_work(study: Path, verb: str) -> None:
    found = CliRunner().invoke(app, [verb, str(study)])
    assert found.exit_code == 0, found.exception


def test_paths_are_of_the_current_folder_and_stay_portable_inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    sources = {"in": "mine/data/a.txt", "out": ["b.txt", "builtin:comments", "s3://bucket/c.txt"], "home": "~/d.txt"}
    found = tomllib.loads(new_study_file("x", sources, Path("mine")))["datasets"]
    assert found["in"]["source"] == "data/a.txt"
    assert found["out"]["source"] == [str(place / "b.txt"), "builtin:comments", "s3://bucket/c.txt"]
    assert found["home"]["source"] == "~/d.txt"


def test_keys_of_a_dataset_are_taken_and_unknown_ones_refused() -> None:
    text = new_study_file('a "name"', {"code": {"source": "/x/c.jsonl", "text": "content"}}, Path("mine"))
    assert tomllib.loads(text)["datasets"]["code"] == {"source": "/x/c.jsonl", "text": "content"}
    with pytest.raises(UsageError, match="'txt' is no key"):
        new_study_file("x", {"code": {"source": "c.jsonl", "txt": "content"}}, Path("mine"))
    with pytest.raises(UsageError, match="it has no source"):
        new_study_file("x", {"code": {"text": "content"}}, Path("mine"))
    with pytest.raises(StudyError):
        new_study_file("x", {}, Path("mine"))


def test_another_study_in_the_folder_is_left_alone(study: Path) -> None:
    before = (study / "study.toml").read_bytes()
    with pytest.raises(UsageError, match="another study file"):
        lossary.new_study(study, {"others": "builtin:comments"})
    assert (study / "study.toml").read_bytes() == before


def test_init_writes_the_same(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["init", str(tmp_path / "new"), "--dataset", "comments=builtin:comments"])
    assert found.exit_code == 0, found.exception
    table = tomllib.loads((tmp_path / "new" / "study.toml").read_text())
    assert table["datasets"] == {"comments": {"source": "builtin:comments"}}
    for wrong in ("comments", "=x", "comments=", "a/b=x"):
        assert isinstance(
            CliRunner().invoke(app, ["init", str(tmp_path / "other"), "--dataset", wrong]).exception, LossaryError
        )
    assert not (tmp_path / "other").exists()

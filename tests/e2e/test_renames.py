"""A dataset renamed at any moment: bit for bit what the study makes without it, and everywhere the new name."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.test_changes import change, lossary, run, tree, weights

from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import list_checkpoints
from lossary.results.records import read_steps
from lossary.tables.load import open_table

OLD, NEW = "zulu", "yankee"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, write_study: Callable[..., None]) -> Path:
    root = tmp_path_factory.mktemp("finished")
    write_study(root, "[runs.tf_a]")
    file = root / "study.toml"
    file.write_text(re.sub(r"\blines\b(?!\.txt)", OLD, file.read_text()))
    run(root)
    return root


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def mv(root: Path, old: str, new: str) -> str:
    done = lossary("mv", str(root), f"datasets.{old}", new)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cut(root: Path) -> None:
    """As after a kill: the last checkpoint, and what was scored of it, are not there yet."""
    folder = StudyFolder(root)
    for checkpoint in list_checkpoints(folder.checkpoints("torch_a"))[1:]:
        shutil.rmtree(checkpoint)
    shutil.rmtree(folder.scores("torch_a", 0).parent)


def prepared(root: Path) -> dict[str, str]:
    """All but manifests of sources, which hold paths."""
    found = tree(root, "tokenizer", "validation", "prepared")
    return {name: digest for name, digest in found.items() if not re.fullmatch(r"prepared/\w+/manifest\.json", name)}


def losses(root: Path) -> list[tuple[object, ...]]:
    cells = open_table(root).table.cells
    return [(cell.run, cell.dataset.replace(NEW, OLD), cell.metric, cell.step, cell.value, cell.low) for cell in cells]


def trained(root: Path) -> list[dict[str, object]]:
    rows = read_steps(StudyFolder(root).steps("torch_a"), as_drawn=True).drop_columns(["elapsed_s"])
    found: list[dict[str, object]] = rows.to_pylist()
    return found


def test_a_renaming_in_the_middle_of_training_changes_no_bit(study: Path, finished: Path) -> None:
    cut(study)
    mv(study, OLD, NEW)
    said = run(study)
    assert "goes on   run torch_a: from step 8 to 12" in said
    assert OLD not in said.replace(f"go by {OLD}", "")
    assert weights(study, "torch_a") == weights(finished, "torch_a")
    assert losses(study) == losses(finished)
    assert trained(study) == trained(finished)
    assert prepared(study) == prepared(finished)
    assert read_json(study / "runs/torch_a/run.json") == read_json(finished / "runs/torch_a/run.json")


def test_more_steps_and_a_dataset_that_comes_later_are_those_without_the_renaming(study: Path, finished: Path) -> None:
    other = Path(shutil.copytree(finished, study.parent / "other"))
    mv(study, OLD, NEW)
    for root, name in ((study, NEW), (other, OLD)):
        add_dataset(root, name)
        change(root, ("steps = 12", "steps = 16"))
        run(root)
    assert weights(study, "torch_a") == weights(other, "torch_a")
    assert losses(study) == losses(other)
    assert prepared(study) == prepared(other)
    mv(study, NEW, OLD)
    assert (study / "study.toml").read_text() == (other / "study.toml").read_text()
    assert lossary("plan", str(study)).returncode == 0
    assert "plan: " not in run(study)


def add_dataset(root: Path, beside: str) -> None:
    lines = (root / "lines.txt").read_text().splitlines()
    (root / "more.txt").write_text("\n".join(line[::-1] for line in lines) + "\n")
    new = '[datasets.more]\nsource = "more.txt"\n[validation]'
    change(root, ("[validation]", new), (f"{beside} = 0.25 }}", f"{beside} = 0.25, more = 0.1 }}"))


READERS = (
    ("show",),
    ("compare", "torch_a", "b"),
    ("compare", "torch_a", "b", "--format", "json"),
    ("examples", "torch_a", "b", "--dataset", NEW),
    ("check",),
    ("check", "--format", "json"),
    ("status",),
    ("status", "--json"),
    ("plan",),
    ("plan", "--format", "json"),
    ("verify",),
    ("evaluate", "--all"),
)


def test_every_verb_says_the_present_name(study: Path) -> None:
    change(
        study, more='[runs.b]\nbackend = "torch"\nseed = 4\nsize = { from = "base", width = 0.0208, depth = 0.0833 }\n'
    )
    mv(study, OLD, NEW)
    run(study)
    told = set()
    for verb, *more in READERS:
        done = lossary(verb, *more, str(study))
        assert done.returncode in (0, 1), (verb, done.stderr)
        said = done.stdout + done.stderr
        # Folders and files are where they were, and a plan says so.
        rest = re.sub(rf"[\w./-]*/{OLD}\b[\w./-]*|go by {OLD}", "", said)
        assert OLD not in rest, (verb, more, rest)
        told |= {verb} if NEW in said else set()
    assert told >= {"show", "compare", "examples", "status", "plan"}
    page = (study / "report" / "report.html").read_text()
    assert NEW in page
    assert not re.search(rf"(?<![/\w]){OLD}\b", page)
    assert not re.search(rf"(?<![/\w]){OLD}\b", (study / "report" / "report.md").read_text())
    again = lossary("mv", str(study), f"datasets.{OLD}", NEW)
    assert again.returncode == 0
    unknown = lossary("examples", "torch_a", "b", "--dataset", OLD, str(study))
    assert unknown.returncode == 2
    assert NEW in unknown.stderr

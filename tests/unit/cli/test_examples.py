"""`lossary examples` as a user types it."""

import json
import shutil
from pathlib import Path

import pytest
from tests.scored import score_run
from tests.unit.cli.command import lossary

from lossary.folder import StudyFolder
from lossary.study import Study


@pytest.fixture
def root(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> str:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    score_run(StudyFolder(tmp_path / "study"), "torch_a")
    score_run(StudyFolder(tmp_path / "study"), "tf_a", mean=4.0)
    return str(tmp_path / "study")


def test_examples_are_shown_in_every_format(root: str, tmp_path: Path) -> None:
    verb = ["examples", "torch_a", "tf_a", root, "--dataset", "stories"]
    text = lossary(*verb, "--worst", "3").stdout
    assert text.splitlines()[0].startswith("tf_a − torch_a on stories: +")
    assert "the 3 shown make" in text
    assert sum(" masked  MLM " in line for line in text.splitlines()) == 3
    assert max(map(len, text.splitlines())) <= 110
    value = json.loads(lossary(*verb, "--worst", "5", "-f", "json").stdout)
    assert [row["rank"] for row in value["examples"]] == [1, 2, 3, 4, 5]
    assert sum(value["histogram"]["counts"]) == value["paired"]
    out = tmp_path / "worst.md"
    assert lossary(*verb, "-f", "markdown", "--measure", "sop", "--order", "largest", "-o", str(out)).returncode == 0
    assert "| Δ nats | row | order |" in out.read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["torch_a", "tf_a", "--dataset", "../x"], "no dataset is called"),
        (["torch_a", "nobody", "--dataset", "stories"], "no run is called"),
        (["torch_a", "torch_a", "--dataset", "stories"], "compared with itself"),
        (["torch_a", "tf_a", "--dataset", "stories", "--order", "best"], "--order: 'best' is not known"),
        (["torch_a", "tf_a", "--dataset", "stories", "--measure", "acc"], "--measure: no objective is called 'acc'"),
    ],
)
def test_a_mistake_has_one_message(root: str, more: list[str], message: str) -> None:
    found = lossary("examples", *more[:2], root, *more[2:])
    assert found.returncode == 2
    assert message in found.stderr


def test_imported_numbers_have_no_examples(tmp_path: Path) -> None:
    page = tmp_path / "losses.csv"
    page.write_text("dataset,a_mlm_loss,b_mlm_loss\nx,1.5,2.5\ny,3.5,4.5\n")
    assert lossary("import", str(page), "--out", str(tmp_path)).returncode == 0
    found = lossary("examples", "a", "b", str(tmp_path), "--dataset", "x")
    assert (found.returncode, "no examples" in found.stderr) == (2, True)

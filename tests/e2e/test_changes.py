"""A finished study that changes: what people want works; what would lose a result is refused, nothing touched."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lossary.files import digest_file, read_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import list_checkpoints
from lossary.tables.load import open_table

RUN = '[runs.{}]\nbackend = "torch"\nsize = {{ from = "base", width = 0.0208, depth = 0.0833 }}\n'


def lossary(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lossary", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )


def run(root: Path, *more: str) -> str:
    done = lossary("run", str(root), *more)
    assert done.returncode == 0, done.stderr
    return done.stderr


def change(root: Path, *changes: tuple[str, str], more: str = "") -> None:
    text = (root / "study.toml").read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (root / "study.toml").write_text(text + more)


def add_dataset(root: Path) -> None:
    lines = (root / "lines.txt").read_text().splitlines()
    (root / "more.txt").write_text("\n".join(line[::-1] for line in lines) + "\n")
    new = '[datasets.more]\nsource = "more.txt"\n[validation]'
    change(root, ("[validation]", new), ("lines = 0.25 }", "lines = 0.25, more = 0.1 }"))


def weights(root: Path, name: str) -> str:
    last = list_checkpoints(StudyFolder(root).checkpoints(name))[-1]
    return str(read_json(last / "state.json")["weights_digest"])


def tree(root: Path, *parts: str) -> dict[str, str]:
    paths = (path for part in parts for path in sorted((root / part).rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): digest_file(path) for path in paths}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, write_study: Callable[..., None]) -> Path:
    root = tmp_path_factory.mktemp("finished")
    write_study(root, "[runs.tf_a]")
    run(root)
    return root


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def test_a_dataset_more_steps_a_run_and_a_branch_at_once(study: Path, finished: Path) -> None:
    add_dataset(study)
    change(study, ("steps = 12", "steps = 18"), more=RUN.format("b") + 'start = { run = "torch_a", step = 8 }\n')
    frozen = tree(study, "tokenizer", "validation/lines", "validation/pairs", "validation/stories")
    said = run(study)
    assert "goes on   run torch_a: from step 12 to 18" in said
    assert "starts from step 8 of torch_a" in said
    assert {name: frozen[name] for name in tree(study, "tokenizer", "validation") if name in frozen} == frozen
    table = open_table(study).table
    assert {row.name for row in table.datasets} == {"pairs", "stories", "lines", "more"}
    assert all(cell.value is not None for cell in table.cells if cell.metric == "mlm_loss")
    trained = {column.name: column.datasets for column in table.runs}
    assert trained == {"torch_a": ["pairs", "stories", "lines"], "b": ["pairs", "stories", "lines", "more"]}
    assert read_json(StudyFolder(study).run("b") / "run.json")["start"]["step"] == 8
    # What was seen up to the old end is what was seen before.
    before, after = (pq.read_table(StudyFolder(root).steps("torch_a")).to_pylist() for root in (finished, study))
    for row in [*before, *after]:
        del row["elapsed_s"]
    assert after[: len(before)] == before
    assert lossary("plan", str(study)).returncode == 0
    assert "made" not in run(study)
    # Each step is held against the schedule that it was made by, those of the branch against its own.
    found = json.loads(lossary("check", str(study), "--format", "json").stdout)["findings"]
    schedules = {one["subject"]: one["severity"] for one in found if one["code"] == "L403"}
    assert schedules == {"torch_a": "pass", "b": "pass"}


def test_a_dataset_that_comes_while_a_run_is_on_its_way_does_not_change_its_bits(study: Path, finished: Path) -> None:
    folder = StudyFolder(study)
    for checkpoint in list_checkpoints(folder.checkpoints("torch_a"))[1:]:
        shutil.rmtree(checkpoint)
    add_dataset(study)
    assert "goes on   run torch_a: from step 8 to 12" in run(study)
    assert weights(study, "torch_a") == weights(finished, "torch_a")


def test_a_branch_with_nothing_changed_is_the_run_itself(study: Path, finished: Path) -> None:
    change(study, more=RUN.format("twin") + 'start = { run = "torch_a", step = 8 }\n')
    run(study)
    assert weights(study, "twin") == weights(finished, "torch_a")


def test_a_refused_change_touches_nothing_and_a_generation_keeps_everything(study: Path) -> None:
    change(study, ("learning_rate = 0.003", "learning_rate = 0.004"))
    before = tree(study, ".")
    for verb in ("run", "train"):
        done = lossary(verb, str(study))
        assert done.returncode == 2
        assert "recipe.optimizer.learning_rate: 0.003 before, 0.004 now" in done.stderr
        assert "Traceback" not in done.stderr
    left = tree(study, ".")
    assert {name: left[name] for name in left if not name.startswith("leases")} == {
        name: before[name] for name in before if not name.startswith("leases")
    }
    old = weights(study, "torch_a")
    run(study, "--new-generation")
    assert weights(study, "torch_a") != old
    assert weights(study / "generations" / "0001", "torch_a") == old
    shown = lossary("show", str(study / "generations" / "0001"))
    assert shown.returncode == 0, shown.stderr
    assert "total by val%" in shown.stdout


def test_a_finished_run_is_scored_on_what_came_after_a_dataset_of_its_own_left(study: Path, finished: Path) -> None:
    add_dataset(study)
    gone = '[datasets.lines]\nsource = "lines.txt"\n'
    change(study, (gone, ""), ("lines = 0.25, more = 0.1 }", "more = 0.1 }"))
    run(study)
    assert weights(study, "torch_a") == weights(finished, "torch_a")
    table = open_table(study).table
    assert table.cell("torch_a", "more", "mlm_loss").value is not None
    assert any("also trained on lines, no longer in the study file" in note for note in table.notes)


def test_a_copied_study_without_its_sources_goes_on(study: Path, finished: Path) -> None:
    for source in ("pairs.jsonl", "stories.jsonl", "lines.txt"):
        (study / source).unlink()
    shutil.rmtree(study / "runs")
    said = run(study)
    assert "sources are gone" in said
    assert weights(study, "torch_a") == weights(finished, "torch_a")

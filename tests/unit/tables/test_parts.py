"""What was scored on what: a dataset that came later has no number for old scores, and is in no difference."""

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.scored import score_run

from lossary.data.manifests import read_manifest, write_manifest
from lossary.errors import UsageError
from lossary.files import write_json
from lossary.folder import StudyFolder
from lossary.results.origins import ScoredFrom, keep_origin, origins
from lossary.results.records import read_header, write_scores
from lossary.stages.evaluate import evaluate
from lossary.study import Study
from lossary.tables.build import best_run, build_table
from lossary.tables.comparison import Side, compare
from lossary.tables.history import evaluations


@pytest.fixture
def scored(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> tuple[Study, StudyFolder]:
    """`tf_a` was scored on all datasets, `torch_a` before `lines` was there."""
    shutil.copytree(prepared[1].root, tmp_path / "study")
    study, folder = prepared[0], StudyFolder(tmp_path / "study")
    for run in ("torch_a", "tf_a"):
        score_run(folder, run, mean=3.0 if run == "tf_a" else 4.0)
    path = folder.scores("torch_a", 12)
    header = read_header(path)
    parts = {name: digest for name, digest in header.validation.items() if name != "lines"}
    scores = pq.read_table(path)
    known = scores.filter(pc.not_equal(scores["dataset"].cast("string"), "lines"))
    write_scores(path, known, replace(header, validation=parts, validation_digest="blake2b:before"))
    return study, folder


def test_a_cell_without_scores_on_the_present_examples_has_a_reason(scored: tuple[Study, StudyFolder]) -> None:
    table = build_table(*scored, base="tf_a")
    for metric in table.measured:
        cell = table.cell("torch_a", "lines", metric)
        assert (cell.value, cell.reason) == (None, "not scored on the present examples of lines")
        assert table.cell("tf_a", "lines", metric).value is not None
        assert table.cell("torch_a", "pairs", metric).value is not None
        assert "without lines" in str(table.total("torch_a", metric, "validation_share").reason)
        delta = table.delta("torch_a", "lines", metric)
        assert delta is not None
        assert (delta.value, delta.p) == (None, None)
        total = table.delta("torch_a", None, metric)
        assert total is not None
        assert total.value is not None
        assert total.reason == "without lines"
    assert any(note.startswith("torch_a: not scored on the present examples of lines") for note in table.notes)


class Told:
    """Keeps notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def progress(self, text: str, done: float, total: float | None) -> None: ...
    def event(self, run: str, event: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None:
        self.notes.append(text)


def test_evaluate_says_how_what_is_from_elsewhere_is_scored_on_a_later_dataset(
    scored: tuple[Study, StudyFolder], tmp_path: Path
) -> None:
    study, folder = scored
    study, told = study.model_copy(update={"runs": {}}), Told()

    def said() -> str:
        told.notes.clear()
        with pytest.raises(UsageError, match="the study has no runs"):
            evaluate(study, folder, listener=told)
        command = told.notes[0].removeprefix("torch_a is not scored on the present examples of lines: ")
        assert [f"torch_a is not scored on the present examples of lines: {command}"] == told.notes
        assert any(command.removesuffix(" scores it") in note for note in build_table(study, folder).notes)
        return command

    assert said() == f"`lossary.evaluate(model, {str(folder.root)!r}, run='torch_a', step=12)` in Python scores it"
    out = tmp_path / "my out"
    for origin in ({"checkpoints": [str(out)]}, {"checkpoints": [str(out), "elsewhere"]}):
        write_json(folder.origin("torch_a"), origin)
        assert (f"--checkpoint '{out}' --step 12 --name torch_a` scores it" in said()) == (
            len(origin["checkpoints"]) == 1
        )
    found = ScoredFrom(step=12, checkpoint=out / "a", origin=out, tokenizer=tmp_path / "it's", precision="bf16")
    keep_origin(folder, "torch_a", [found])
    line = shlex.split(said().removesuffix(" scores it").strip("`"))
    assert line[:4] == ["lossary", "evaluate", str(folder.root), "--checkpoint"]
    assert line[4:] == f"{out}/a|--step|12|--tokenizer|{tmp_path}/it's|--precision|bf16|--name|torch_a".split("|")
    assert origins(folder, "torch_a") == [str(out), "elsewhere"]


def test_scores_of_examples_that_were_replaced_are_no_numbers_of_the_present_ones(
    scored: tuple[Study, StudyFolder],
) -> None:
    study, folder = scored
    path = folder.scores("tf_a", 12)
    header = read_header(path)
    stale = replace(header, validation=header.validation | {"pairs": "blake2b:other"})
    write_scores(path, pq.read_table(path), stale)
    table = build_table(study, folder, base="torch_a")
    assert table.cell("tf_a", "pairs", "mlm_loss").value is None
    delta = table.delta("tf_a", "pairs", "mlm_loss")
    assert delta is not None
    assert delta.value is None
    assert not [found for found in evaluations(table, folder) if (found.run, found.dataset) == ("tf_a", "pairs")]


def test_the_best_run_is_the_best_on_what_all_were_scored_on(scored: tuple[Study, StudyFolder]) -> None:
    # All of what `tf_a` lost on `lines` would not help `torch_a`.
    notes: list[str] = []
    assert best_run(*scored, notes=notes) == "tf_a"
    assert notes == []


def test_studies_are_subtracted_on_the_datasets_whose_examples_are_the_same(
    scored: tuple[Study, StudyFolder], tmp_path: Path
) -> None:
    study, folder = scored
    shutil.copytree(folder.root, tmp_path / "other")
    other = StudyFolder(tmp_path / "other")
    manifest = read_manifest(other.validation)
    path = other.scores("tf_a", 12)
    header = read_header(path)
    changed = "blake2b:" + "0" * 32
    parts = header.validation | {"lines": changed}
    write_manifest(other.validation, manifest | {"digest": changed, "parts": parts})
    write_scores(path, pq.read_table(path), replace(header, validation=parts, validation_digest=changed))
    sides = [Side(study=study, folder=where, run="tf_a") for where in (folder, other)]
    found = compare(*sides)
    assert not found.checks.refused
    assert found.table is not None
    assert [row.name for row in found.table.datasets] == ["pairs", "stories"]
    assert any(note.startswith("lines: other validation examples") for note in found.table.notes)

"""Windows of the validation set: the same records, in the same order, however many examples one has."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.scored import score_run

from lossary.backends.api import Backend
from lossary.data import freeze
from lossary.data.examples import Examples
from lossary.data.validation import load_validation, prepare_examples
from lossary.evaluation.score import ScoreJob, score_windows
from lossary.folder import StudyFolder
from lossary.results import records
from lossary.results.records import SCORE_SCHEMA, read_header, write_score_windows
from lossary.study import Study

JOB = ScoreJob(name="torch_a", checkpoint=Path(), backend="torch")


class Counting:
    """A backend whose nats follow from the pieces alone."""

    max_tokens = 200
    few_shapes = False
    device = "none"

    def score(self, examples: Examples) -> Any:
        used = examples.weights > 0
        nats = np.where(used, examples.labels / 64 + examples.positions / 1024, 0).astype(np.float32)
        rows = SimpleNamespace(
            mlm_nats=nats.sum(axis=1, dtype=np.float64),
            mlm_correct=(nats > 1).sum(axis=1),
            sop_nats=examples.lengths / 8,
            sop_correct=examples.lengths % 2 == 0,
        )
        return SimpleNamespace(rows=rows, position_nats=nats, predicted=examples.labels)


def scores(folder: StudyFolder) -> pa.Table:
    windows = score_windows(cast(Backend, Counting()), load_validation(folder), JOB, has_sop=True, emit=lambda _: None)
    return pa.concat_tables(windows)


@pytest.fixture
def folder(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    return StudyFolder(tmp_path / "study")


def test_scores_do_not_depend_on_the_windows(
    prepared: tuple[Study, StudyFolder], folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scores(folder)
    examples = load_validation(folder).examples
    assert expected["example"].to_pylist() == examples.example.tolist()
    assert expected["mlm_nats"].to_numpy() == pytest.approx(
        [
            (examples.labels[row, :n] / 64 + examples.positions[row, :n] / 1024).sum()
            for row, n in enumerate(examples.masked)
        ],
        rel=1e-6,
    )
    shutil.rmtree(folder.validation)
    monkeypatch.setattr(freeze, "_EXAMPLES_A_BLOCK", 7)
    prepare_examples(prepared[0], folder)
    assert len(list(load_validation(folder).windows())) == 3 + 5 + 3
    assert scores(folder).combine_chunks().equals(expected.combine_chunks())


def test_windows_are_written_as_one_table_would_be(
    folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = score_run(folder, "torch_a")
    header = read_header(folder.scores("torch_a", 12))
    monkeypatch.setattr(records, "_GROUP_ROWS", 16)
    parts = [table.slice(start, 7) for start in range(0, len(table), 7)]
    write_score_windows(tmp_path / "scores.parquet", parts, header)
    assert pq.read_table(tmp_path / "scores.parquet").cast(SCORE_SCHEMA).equals(table)
    assert read_header(tmp_path / "scores.parquet") == header
    sizes = pq.ParquetFile(tmp_path / "scores.parquet").metadata
    assert {sizes.row_group(group).num_rows <= 32 for group in range(sizes.num_row_groups)} == {True}

"""Windows of the validation set: the same records, in the same order, however many examples one has."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.scored import score_run

from lossary.data import freeze
from lossary.data.examples import Examples
from lossary.data.validation import load_validation, prepare_examples
from lossary.errors import ScoreError
from lossary.folder import StudyFolder
from lossary.results import records
from lossary.results.records import ScoreHeader, read_header, write_score_windows, write_scores
from lossary.scoring.kept import KeptScores
from lossary.scoring.score import score_windows
from lossary.scoring.views import open_view
from lossary.study import Study

HEADER = ScoreHeader(run="torch_a", step=12, objectives=("mlm", "sop"))


class Counting:
    """A scorer whose nats follow from the pieces alone."""

    vocabulary = None
    objectives = ("mlm", "sop")
    max_length = None
    max_tokens = 200
    few_shapes = False
    device = "none"

    def __init__(self) -> None:
        self.scored = 0

    def score(self, examples: Examples) -> Any:
        used = examples.weights > 0
        self.scored += int((examples.lengths > 1).sum())
        nats = np.where(used, examples.labels / 64 + examples.positions / 1024, 0).astype(np.float32)
        rows = SimpleNamespace(
            mlm_nats=nats.sum(axis=1, dtype=np.float64),
            mlm_correct=(nats > 1).sum(axis=1),
            sop_nats=examples.lengths / 8,
            sop_correct=examples.lengths % 2 == 0,
        )
        return SimpleNamespace(rows=rows, position_nats=nats, predicted=examples.labels)


def scores(folder: StudyFolder) -> pa.Table:
    return pa.concat_tables(scored(folder, HEADER, Counting()))


def scored(
    folder: StudyFolder, header: ScoreHeader, scorer: Counting, kept: KeptScores | None = None
) -> Iterator[pa.Table]:
    """The scores of the whole set as they are written."""
    validation = load_validation(folder)
    return score_windows(
        scorer, open_view(folder, None, "mlm").windows(), header, total=len(validation), kept=kept, emit=lambda _: None
    )


def by_key(table: pa.Table) -> list[dict[str, Any]]:
    """Rows by what they are of."""
    return sorted(table.to_pylist(), key=lambda row: (row["objective"], row["dataset"], row["example"]))


@pytest.fixture
def folder(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    return StudyFolder(tmp_path / "study")


def test_scores_do_not_depend_on_the_windows(
    prepared: tuple[Study, StudyFolder], folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scores(folder)
    examples = load_validation(folder).examples
    mlm, sop = (expected.filter(pc.equal(expected["objective"].cast(pa.string()), name)) for name in ("mlm", "sop"))
    assert mlm["example"].to_pylist() == examples.example.tolist()
    assert sop["example"].to_pylist() == examples.example[examples.sop_labels >= 0].tolist()
    assert sop["label"].to_pylist() == examples.sop_labels[examples.sop_labels >= 0].tolist()
    assert mlm["targets"].to_pylist() == examples.masked.tolist()
    assert mlm["nats"].to_numpy() == pytest.approx(
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
    assert by_key(scores(folder)) == by_key(expected)


def written(folder: StudyFolder, header: ScoreHeader, kept: KeptScores | None, backend: Counting) -> bytes:
    """The file of scores as the job writes it."""
    path = folder.root / "joined.parquet"
    write_score_windows(path, scored(folder, header, backend, kept), header)
    return path.read_bytes()


@pytest.mark.parametrize("scored", [["pairs"], ["lines", "pairs"], ["stories"], ["pairs", "stories", "lines"], []])
@pytest.mark.parametrize("rows_a_group", [16, 16_384])
def test_scores_that_stand_are_joined_to_what_scoring_all_anew_would_write(
    scored: list[str],
    rows_a_group: int,
    prepared: tuple[Study, StudyFolder],
    folder: StudyFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.rmtree(folder.validation)
    monkeypatch.setattr(freeze, "_EXAMPLES_A_BLOCK", 7)
    monkeypatch.setattr(records, "_GROUP_ROWS", rows_a_group)
    prepare_examples(prepared[0], folder)
    score_run(folder, "torch_a")
    path = folder.scores("torch_a", 12)
    header = replace(read_header(path), validation=load_validation(folder).parts)
    whole, every = written(folder, header, None, Counting()), Counting()
    # The file of before: some of the datasets, in an order of their own, and one that has left the study.
    table = pq.ParquetFile(folder.root / "joined.parquet").read()
    names = table["dataset"].cast(pa.string()).to_pylist()
    rows = [row for dataset in scored for row, name in enumerate(names) if name == dataset]
    of_others = table.slice(0, 3).set_column(3, "dataset", pa.array(["gone"] * 3).dictionary_encode())
    before = pa.concat_tables(
        [table.take(pa.array(rows, pa.int64())), of_others.cast(table.schema)], promote_options="none"
    )
    parts = {name: header.validation[name] for name in scored} | {"gone": "blake2b:0"}
    write_scores(path, before, replace(header, validation=parts, validation_digest="blake2b:another"))
    kept = KeptScores(path, header)
    assert kept.datasets == set(scored)
    assert written(folder, header, kept, every) == whole
    described = load_validation(folder).manifest["per_dataset"]
    assert every.scored == sum(described[name]["examples"] for name in described if name not in scored)


@pytest.mark.parametrize(
    "change",
    [
        {"weights_digest": "blake2b:1"},
        {"device": "another"},
        {"precision": "bf16"},
        {"lossary": "another"},
        {"objectives": ("mlm",)},
        {"tokenizer_digest": "blake2b:2"},
        {"validation": {}},
        {"validation": {"pairs": "blake2b:3"}},
    ],
    ids=str,
)
def test_scores_that_were_made_otherwise_are_not_taken_over(change: dict[str, Any], folder: StudyFolder) -> None:
    table = score_run(folder, "torch_a")
    path = folder.scores("torch_a", 12)
    header = read_header(path)
    assert KeptScores(path, header).datasets == {"pairs", "stories", "lines"}
    write_scores(path, table, replace(header, **change))
    assert KeptScores(path, header).datasets == set()
    path.write_bytes(path.read_bytes()[:-5])
    assert KeptScores(path, header).datasets == set()
    path.unlink()
    assert KeptScores(path, header).datasets == set()


def test_rows_of_other_examples_are_refused(folder: StudyFolder) -> None:
    table = score_run(folder, "torch_a")
    path = folder.scores("torch_a", 12)
    header = read_header(path)
    write_scores(path, table.slice(1), header)
    kept = KeptScores(path, header)
    with pytest.raises(ScoreError, match="not those of its frozen examples"):
        kept.take("mlm", "pairs", next(load_validation(folder).windows()).example)


def test_windows_are_written_as_one_table_would_be(
    folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = score_run(folder, "torch_a")
    header = read_header(folder.scores("torch_a", 12))
    monkeypatch.setattr(records, "_GROUP_ROWS", 16)
    parts = [table.slice(start, 7) for start in range(0, len(table), 7)]
    write_score_windows(tmp_path / "scores.parquet", parts, header)
    assert by_key(pq.read_table(tmp_path / "scores.parquet")) == by_key(table)
    assert read_header(tmp_path / "scores.parquet") == header
    sizes = pq.ParquetFile(tmp_path / "scores.parquet").metadata
    groups = [sizes.row_group(group) for group in range(sizes.num_row_groups)]
    of_objective = [group.column(2).statistics for group in groups]
    assert all(group.num_rows <= 16 for group in groups)
    assert all(found.min == found.max for found in of_objective)
    counts = [sum(row["objective"] == name for row in table.to_pylist()) for name in ("mlm", "sop")]
    assert len(groups) == sum(-(-count // 16) for count in counts)

"""NaN and infinite losses in a file of scores: cells they spoil have a reason, all others are untouched."""

import json
import math
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.columns import compare_columns, estimates_of_columns, file_columns
from tests.scored import score_run

from lossary.findings.folder import check_table
from lossary.folder import StudyFolder
from lossary.reports.export import json_value
from lossary.reports.terminal import terminal_text
from lossary.results.records import SCORE_SCHEMA, read_header, write_scores
from lossary.results.scorefile import ScoreFile
from lossary.study import Study
from lossary.tables.build import build_table
from lossary.tables.deltas import compare_files
from lossary.tables.load import OpenTable
from lossary.tables.model import Table
from lossary.tables.scores import NO_NUMBER, file_estimates

RUNS = ("torch_a", "tf_a")
NAMES = ["pairs", "stories", "lines"]
BAD = st.sampled_from([math.nan, math.inf, -math.inf, None])
Sprinkle = list[tuple[int, str, float | None]]
sprinkled = st.lists(st.tuples(st.integers(0, 59), st.sampled_from(["mlm", "sop"]), BAD), max_size=6)


@pytest.fixture(scope="module")
def folder(prepared: tuple[Study, StudyFolder], tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    root = tmp_path_factory.mktemp("sprinkled")
    shutil.copytree(prepared[1].root, root / "study")
    folder = StudyFolder(root / "study")
    for run in RUNS:
        score_run(folder, run)
    return folder


@cache
def clean(path: Path) -> pa.Table:
    return pq.read_table(path, schema=SCORE_SCHEMA)


def sprinkle(path: Path, where: Sprinkle) -> set[tuple[str, str]]:
    """Puts values into a clean file; returns the datasets and objectives that they spoil."""
    table = clean(path)
    rows: list[dict[str, Any]] = table.to_pylist()
    spoilt = set()
    for place, objective, value in where:
        of_objective = [row for row in rows if row["objective"] == objective]
        row = of_objective[place % len(of_objective)]
        row["nats"] = value
        spoilt.add((row["dataset"], objective))
    write_scores(path, pa.Table.from_pylist(rows, schema=SCORE_SCHEMA), read_header(path))
    return spoilt


def numbers(value: Any) -> list[float]:
    if isinstance(value, float):
        return [value]
    if isinstance(value, dict | list | tuple):
        return [number for item in (value.values() if isinstance(value, dict) else value) for number in numbers(item)]
    return []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=sprinkled)
def test_spoilt_cells_have_a_reason_and_the_others_are_equal(
    prepared: tuple[Study, StudyFolder], folder: StudyFolder, where: Sprinkle
) -> None:
    study, path = prepared[0], folder.scores("tf_a", 12)
    sprinkle(path, [])
    before = build_table(study, folder, base="torch_a")
    spoilt = sprinkle(path, where)
    after = build_table(study, folder, base="torch_a")
    assert all(map(math.isfinite, numbers(json_value(after))))
    json.dumps(json_value(after), allow_nan=False)
    for old, new in zip(before.cells, after.cells, strict=True):
        hit = new.run == "tf_a" and (new.dataset, new.metric[:3]) in spoilt
        assert (new.value is None and NO_NUMBER in (new.reason or "")) if hit else asdict(new) == asdict(old)
    for old, new in zip(before.deltas, after.deltas, strict=True):
        hit = (new.dataset, new.metric[:3]) in spoilt
        if hit:
            assert new.value is None
            assert NO_NUMBER in (new.reason or "")
        elif new.dataset is not None:
            assert (new.value, new.low, new.high, new.p, new.n) == (old.value, old.low, old.high, old.p, old.n)
    files = [ScoreFile(folder.scores(run, 12)) for run in RUNS]
    columns = [file_columns(file.path, NAMES) for file in files]
    estimates = file_estimates(files[1], NAMES)
    for name, metrics in estimates_of_columns(columns[1]).items():
        assert {m: e.reason for m, e in metrics.items()} == {m: e.reason for m, e in estimates[name].items()}
    paired, by_columns = compare_files(files[0], files[1], NAMES), compare_columns(*columns)
    for name, metrics in by_columns.estimates.items():
        assert {m: e.reason for m, e in metrics.items()} == {m: e.reason for m, e in paired.estimates[name].items()}


def test_the_rest_of_a_study_speaks_on(prepared: tuple[Study, StudyFolder], folder: StudyFolder) -> None:
    everything: Sprinkle = [(row, objective, math.nan) for row in range(60) for objective in ("mlm", "sop")]
    sprinkle(folder.scores("tf_a", 12), everything)
    table: Table = build_table(prepared[0], folder, base="torch_a")
    assert "nan" not in terminal_text(table).lower()
    assert all(cell.value is not None for cell in table.cells if cell.run == "torch_a" and cell.metric == "mlm_loss")
    checked = check_table(OpenTable(table, prepared[0], folder), where="here")
    assert any(finding.code == "L402" and "tf_a" in finding.runs for finding in checked.findings)


@pytest.mark.parametrize("value", [1e120, -1e300, np.finfo(np.float64).max])
def test_losses_beyond_every_bound_are_no_numbers_either(
    prepared: tuple[Study, StudyFolder], folder: StudyFolder, value: float
) -> None:
    sprinkle(folder.scores("tf_a", 12), [(row, "mlm", value) for row in range(60)] + [(3, "sop", value)])
    table = build_table(prepared[0], folder, base="torch_a")
    assert all(map(math.isfinite, numbers(json_value(table))))
    assert all(cell.reason for cell in table.cells if cell.run == "tf_a" and cell.metric == "mlm_loss")

"""Studies that were scored before schema 2: table, differences, JSON and worst examples are what they were.

What is expected was written by the version that wrote schema 1, from the same scores; LOSSARY_UPDATE_GOLDEN=1 is of no
use here.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.schema1 import rows_of, write_schema_1

from lossary.reports.examples import GapView, examples_json
from lossary.reports.export import json_value
from lossary.results.records import read_header, write_scores
from lossary.results.scorefile import ScoreFile
from lossary.study import Study
from lossary.tables.build import build_table
from lossary.tables.examples import ORDERS, Pair, open_gap
from lossary.tables.texts import ExampleText

EXPECTED = Path(__file__).parent / "expected" / "schema1.json"
RUNS = {"torch_xxl": "torch", "tf_xxl": "tensorflow", "no_order": "torch"}


def nine_digits(value: Any) -> Any:
    """Sums differ in their last bits between machines."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return json.loads(re.sub(r"-?\d+\.\d{9,}(e-\d+)?", lambda m: f"{float(m[0]):.9g}", text))


@pytest.fixture
def study(synthetic: Callable[..., Any], planted: Any) -> Any:
    """Three runs; the last has no sentence-order head, and a loss of it is no number."""
    found = synthetic(RUNS)
    found.score("torch_xxl", {"reform": planted(mlm=1.76), "views": planted(mlm=4.04, mlm_accuracy=0.5)})
    found.score("tf_xxl", {name: planted(mlm=1.5, sop=0.1) for name in ("reform", "views", "dialogue")})
    without = found.score("no_order", {"reform": planted(mlm=2.5, sop=None), "views": planted(mlm=2.0, sop=None)})
    rows = without.to_pylist()
    rows[3] |= {"mlm_nats": float("nan"), "position_nats": None}
    tables = {"no_order": pa.Table.from_pylist(rows, schema=without.schema)}
    for run in RUNS:
        path = found.folder.scores(run, 100)
        write_schema_1(path, tables.get(run, found.wide[run, 100]), read_header(path))
    return found


def gap_of(study: Any, measure: str, order: Any) -> dict[str, Any]:
    gap = open_gap(
        study.study, study.folder, Pair(first="torch_xxl", second="tf_xxl", dataset="views", measure=measure)
    )
    rows = gap.page(order, limit=7)
    texts = [ExampleText(segments=[], reason="none") for _ in rows]
    found: dict[str, Any] = json.loads(examples_json(GapView(gap=gap, order=order, rows=rows, texts=texts)))
    return found


def everything(study: Any) -> dict[str, Any]:
    table = json_value(build_table(study.study, study.folder, base="torch_xxl")) | {"lossary": "0"}
    gaps = {f"{measure}, {order}": gap_of(study, measure, order) for measure in ("mlm", "sop") for order in ORDERS}
    return {"table": table, "gaps": gaps}


def agrees(found: Any, expected: Any) -> bool:
    """Whether all that was expected is there, in its order; there may be more, as bits a byte."""
    if isinstance(expected, dict):
        return all(key in found and agrees(found[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        known = [item for item in found if not (isinstance(item, dict) and item.get("metric") == "mlm_bits_per_byte")]
        return len(known) == len(expected) and all(map(agrees, known, expected))
    return bool(found == expected)


def test_every_number_is_what_it_was(study: Any) -> None:
    found, expected = nine_digits(everything(study)), json.loads(EXPECTED.read_text(encoding="utf-8"))
    for part in ("cells", "totals", "deltas"):
        assert agrees(found["table"][part], expected["table"][part]), part
    assert agrees(found, expected)


def test_bits_a_byte_have_a_reason_where_bytes_of_targets_were_not_counted(study: Any) -> None:
    table = build_table(study.study, study.folder)
    cell = table.cell("tf_xxl", "views", "mlm_bits_per_byte")
    assert (cell.value, cell.reason) == (None, "nobody knows the bytes of the targets")
    assert "mlm_bits_per_byte" not in table.metrics


def test_schema_1_is_read_as_the_rows_that_it_would_be(study: Any, tmp_path: Path) -> None:
    for run in RUNS:
        old = ScoreFile(study.folder.scores(run, 100))
        path = tmp_path / f"{run}.parquet"
        wide = pq.read_table(old.path)
        write_scores(path, rows_of(wide, with_bytes=False), old.header)
        new = ScoreFile(path)
        assert (old.header.schema, new.header.schema) == (1, 2)
        assert old.sums() == new.sums()
        wanted = {("views", 5), ("reform", 0), ("reform", 3)}
        assert old.rows(wanted) == new.rows(wanted)
        names = ["reform", "views", "dialogue"]
        for objective in old.objectives:
            paired = old.paired(new, objective, names)
            assert paired.unmatched == dict.fromkeys(names, 0)
            assert all(sums.nats.y == 0 for sums in paired.sums.values())
            assert paired.sums.keys() == old.sums()[objective].keys()


def test_a_study_without_order_has_no_empty_block(study: Any) -> None:
    of_all: Study = study.study
    table = build_table(of_all, study.folder, runs=["no_order"])
    assert table.objectives == ["mlm"]
    both = build_table(of_all, study.folder, runs=["no_order", "tf_xxl"])
    assert both.cell("no_order", "views", "sop_loss").reason == "the checkpoint has no sentence-order head"

"""Files of scores that others wrote: the page's own example is whole, and each thing that is wrong is named."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.schema1 import rows_of

from lossary.errors import ScoreError
from lossary.results.records import ScoreHeader, read_header, write_scores
from lossary.results.whole_scores import check_scores
from lossary.seals import check_sealed
from lossary.tables.build import build_table
from lossary.tables.deltas import add_deltas

DOCS = Path(__file__).parents[3] / "docs" / "scores.md"
HEADER = {"schema": 2, "run": "mine", "step": 4, "objectives": ["mlm", "sop"], "validation": {"wiki": "blake2b:0"}}


def row(example: int, **changes: Any) -> dict[str, Any]:
    return {
        "run": "mine",
        "step": 4,
        "objective": "mlm",
        "dataset": "wiki",
        "example": example,
        "tokens": 20,
        "targets": 2,
        "bytes": 9,
        "nats": 3.5,
        "correct": 1,
        "label": None,
        "target_nats": [3.0, 0.5],
        "predicted": [7, 9],
    } | changes


def pair(example: int, **changes: Any) -> dict[str, Any]:
    lists = {"target_nats": None, "predicted": None, "bytes": None}
    return row(example, objective="sop", targets=1, nats=0.5, label=1) | lists | changes


def written(path: Path, rows: list[dict[str, Any]], **header: Any) -> Path:
    """A file as somebody writes it who has pyarrow and no lossary."""
    metadata = {"lossary": json.dumps(HEADER | header)}
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), path)
    return path


def test_a_whole_file_is_whole_in_any_order(tmp_path: Path) -> None:
    rows = [pair(9), row(5), row(9), row(2), pair(2), row(7, nats=None, target_nats=None)]
    path = written(tmp_path / "x.parquet", rows)
    assert check_scores(path).objectives == ("mlm", "sop")
    assert not check_sealed(path)


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        ([row(5), row(2), row(5)], {}, "example 5 of wiki has 2 rows under mlm"),
        ([row(5), pair(5), pair(5)], {}, "example 5 of wiki has 2 rows under sop"),
        ([row(5), row(6, dataset="news")], {}, "dataset 'news'; the header has the parts of wiki"),
        ([row(5), row(6, objective="clm")], {}, "objective 'clm'; the header names mlm, sop"),
        ([row(5), row(6, step=8)], {}, "rows are of step 8"),
        ([row(5), row(6, run="other")], {}, "several runs: 'mine', 'other'"),
        ([row(5), row(6, correct=3)], {}, "example 6 of wiki under mlm: 3 right of 2 targets"),
        ([row(5), row(6, nats=-1.0)], {}, "nats are -1.0, below 0"),
        ([row(5), row(6, nats=9.5)], {}, "nats are 9.5, and those of its targets add up to 3.5"),
        ([row(5), row(6, predicted=[1])], {}, "example 6 of wiki under mlm: lists of another length"),
        ([row(5), pair(5, label=3)], {}, "label is 3; 0 or 1 is expected"),
        ([row(5), pair(5, tokens=21)], {}, "example 5 of wiki has 20 tokens under mlm and 21 under sop"),
        ([row(5)], {"objectives": ["glm"]}, "no objective is called 'glm'"),
        ([row(5)], {"objectives": []}, "the header names no objective"),
        ([row(5)], {"validation": {}}, "does not say what was scored"),
        ([row(5)], {"schema": 3}, "another version"),
        ([row(5)], {"folds_case": "no"}, "folds_case is 'no' in the header; true or false is expected"),
        ([row(5, nats="much")], {}, "column 'nats' is string; double is expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named(tmp_path: Path, rows: list[dict[str, Any]], header: dict[str, Any], said: str) -> None:
    with pytest.raises(ScoreError, match=re.escape(said)):
        check_scores(written(tmp_path / "x.parquet", rows, **header))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    rows = [{name: value for name, value in row(5).items() if name != "bytes"}]
    with pytest.raises(ScoreError, match="there is no column 'bytes'"):
        check_scores(written(tmp_path / "x.parquet", rows))


def test_no_number_of_a_file_that_is_not_whole_is_shown(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic({"mine": "torch", "theirs": "torch"})
    scores = {name: planted() for name in ("reform", "views", "dialogue")}
    study.score("mine", scores)
    study.score("theirs", scores)
    path = study.folder.scores("theirs", 100)
    table = pq.read_table(path)
    place = table.column_names.index("target_nats")
    table = table.set_column(place, "target_nats", pa.nulls(len(table), table.schema.field(place).type))
    pq.write_table(pa.concat_tables([table, table.slice(7, 1)]), path)
    with pytest.raises(ScoreError, match="example 7 of reform has 2 rows under mlm"):
        build_table(study.study, study.folder)
    pq.write_table(table, path)
    assert build_table(study.study, study.folder).cell("theirs", "views", "mlm_loss").value is not None


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = tmp_path / "study" / "validation" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"parts": {"wiki": "blake2b:0"}}))
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(compile(block, DOCS.name, "exec"), names)  # noqa: S102 - the page's own examples
    assert names["file"].sums()["mlm"]["wiki"].nats.y == 18.75


class Across:
    """A study with a run in its own vocabulary and one in another, of the same bytes but for some examples."""

    def __init__(self, study: Any, planted: Any, pieces: int = 2) -> None:
        self.study = study
        scores = {name: planted() for name in ("reform", "views", "dialogue")}
        study.score("own", scores)
        wide = study.wide["own", 100].to_pylist()
        rows = [item | {"masked": item["masked"] * pieces, "tokens": item["tokens"] + 5} for item in wide]
        for item in rows:
            item["position_nats"] = item["predicted"] = None
        table = rows_of(pa.Table.from_pylist(rows, schema=study.wide["own", 100].schema))
        kept = [r for r in table.to_pylist() if not (r["dataset"] == "views" and r["example"] < 10)]
        kept[0]["bytes"] += 1
        header = ScoreHeader(
            run="theirs",
            step=100,
            objectives=("mlm", "sop"),
            validation_digest=study.digest,
            vocabulary="WordPiece 30,522",
            vocabulary_digest="sha256:1",
            left_out={"views": {"examples longer than the model takes": 10}},
        )
        write_scores(study.folder.scores("theirs", 100), pa.Table.from_pylist(kept, schema=table.schema), header)
        built = build_table(study.study, study.folder)
        paths = {run.name: study.folder.scores(run.name, 100) for run in built.runs}
        self.table = add_deltas(built, paths, base="own")


@pytest.fixture
def across(synthetic: Callable[..., Any], planted: Any) -> Across:
    return Across(synthetic({"own": "torch"}), planted)


def test_across_vocabularies_bits_a_byte_are_paired_and_nats_are_not(across: Across) -> None:
    table = across.table
    assert table.is_across_vocabularies
    assert table.main_loss == "mlm_bits_per_byte"
    for metric in ("mlm_loss", "mlm_accuracy", "sop_loss", "sop_accuracy"):
        delta = table.delta("theirs", "views", metric)
        assert delta is not None
        assert (delta.value, delta.p) == (None, None)
        assert "another vocabulary" in str(delta.reason)
    # The same nats of the same bytes: the difference is 0 wherever they agree.
    views, reform = (table.delta("theirs", name, "mlm_bits_per_byte") for name in ("views", "reform"))
    assert views is not None
    assert reform is not None
    assert (views.value, views.unmatched, views.n) == (0.0, 10, 1940)
    assert (reform.value, reform.unmatched) == (0.0, 2)


def test_notes_say_who_has_which_vocabulary_and_what_is_left_out(across: Across) -> None:
    notes = "\n".join(across.table.notes)
    assert "WordPiece 30,522: theirs" in notes
    assert "theirs, views: left out of 1,950 examples: 10 examples longer than the model takes" in notes
    assert [run.vocabulary for run in across.table.runs] == [None, "WordPiece 30,522"]


@pytest.mark.parametrize(
    ("folding", "said"),
    [
        (set(), None),
        ({"own", "theirs"}, None),
        ({"theirs"}, "capitals are not asked of theirs, whose vocabulary folds case, which the scores of own"),
        ({"own"}, "capitals are not asked of own, whose vocabulary folds case, which the scores of theirs"),
    ],
)
def test_a_note_says_whose_vocabulary_folds_case_where_others_do_not(
    across: Across, folding: set[str], said: str | None
) -> None:
    study = across.study
    for run in folding:
        _rewrite(study.folder.scores(run, 100), folds_case=True)
    notes = [note for note in build_table(study.study, study.folder).notes if "capitals" in note]
    assert len(notes) == (said is not None)
    assert said is None or notes[0].startswith(said)
    assert not [note for note in build_table(study.study, study.folder, runs=["own"]).notes if "capitals" in note]


def test_older_scores_of_a_vocabulary_that_folds_case_are_of_one_that_does(across: Across) -> None:
    folder = across.study.folder
    theirs = folder.scores("theirs", 100)
    newer = folder.scores("newer", 100)
    newer.parent.mkdir(parents=True)
    rows = pq.read_table(theirs)
    names = pa.array(["newer"] * len(rows)).cast(rows.schema.field("run").type)
    rows = rows.set_column(rows.column_names.index("run"), "run", names)
    write_scores(newer, rows, replace(read_header(theirs), run="newer", folds_case=True))
    (note,) = [note for note in build_table(across.study.study, folder).notes if "capitals" in note]
    assert note.startswith("capitals are not asked of theirs, newer, whose") or note.startswith(
        "capitals are not asked of newer, theirs, whose"
    )
    assert "the scores of own do" in note


def test_the_key_of_case_is_written_only_where_it_is_true(tmp_path: Path) -> None:
    """Versions that do not know it read every other file."""
    for folds in (False, True):
        header = ScoreHeader(
            run="mine", step=4, objectives=("mlm",), validation={"wiki": "blake2b:0"}, folds_case=folds
        )
        encoded = header.encode()
        assert ("folds_case" in json.loads(encoded[b"lossary"])) is folds
        assert ScoreHeader.decode(encoded, tmp_path) == header
    with pytest.raises(ScoreError, match="holds no scores"):
        read_header(written(tmp_path / "x.parquet", [row(5)], of_a_later_version=True))
    assert not read_header(written(tmp_path / "y.parquet", [row(5)])).folds_case


def _rewrite(path: Path, **changes: Any) -> None:
    rows = pq.read_table(path)
    write_scores(path, rows, replace(read_header(path), **changes))


def test_bits_stand_beside_losses_only_across_vocabularies(across: Across) -> None:
    study = across.study
    alone = build_table(study.study, study.folder, runs=["own"])
    assert "mlm_bits_per_byte" in alone.metrics
    assert "mlm_bits_per_byte" not in alone.shown
    assert "mlm_bits_per_byte" in across.table.shown
    cell = alone.cell("own", "views", "mlm_bits_per_byte")
    assert cell.value is not None
    assert cell.low is not None
    assert cell.low < cell.value < (cell.high or 0)
    assert (alone.cell("own", "views", "mlm_loss").floor, across.table.cell("theirs", "views", "mlm_loss").floor) == (
        6.5,
        None,
    )


def test_a_causal_run_stands_in_the_table(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic({"left": "torch", "right": "torch"})
    for run in ("left", "right"):
        study.score(run, {name: planted(mlm=2.0 if run == "left" else 3.0, sop=None) for name in ("reform", "views")})
        path = study.folder.scores(run, 100)
        rows = rows_of(study.wide[run, 100])
        names = pa.array(["clm"] * len(rows)).dictionary_encode()
        table = rows.set_column(2, "objective", names)
        header = ScoreHeader(run=run, step=100, objectives=("clm",), validation_digest=study.digest)
        write_scores(path, table, header)
    table = build_table(study.study, study.folder, base="left")
    assert table.objectives == ["clm"]
    assert table.main_loss == "clm_loss"
    assert table.losses == ["clm_loss"]
    delta = table.delta("right", "views", "clm_loss")
    assert delta is not None
    assert delta.value is not None
    assert delta.value > 0
    assert all(cell.metric.startswith("clm") for cell in table.cells)

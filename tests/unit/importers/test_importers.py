"""Importers: each kind with the numbers it holds, and hostile files that end in one clear error."""

import json
import math
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossary.errors import LossaryError, SourceError, UsageError
from lossary.reports.export import csv_text
from lossary.reports.imports import import_text
from lossary.reports.markdown import markdown_table
from lossary.reports.terminal import terminal_text
from lossary.results.importers.grids import parse_number
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.model import Imported
from lossary.results.importers.names import read_name, role, row_scale
from lossary.results.importers.recognise import read_any
from lossary.results.importers.tensorboard import read_events
from lossary.tables.imported import imported_table, save_import

NO_MAPS = parse_maps([])


def curve(found: Imported, dataset: str, metric: str = "loss", split: str = "eval") -> tuple[list[int], list[float]]:
    match = next(c for c in found.curves if (c.dataset, c.metric, c.split) == (dataset, metric, split))
    return match.step.tolist(), match.value.tolist()


@pytest.mark.parametrize(
    ("text", "value", "rounding"),
    [
        ("1.762", 1.762, 0.0005),
        ("1,762", 1.762, 0.0005),
        ("`0.03`", 0.03, 0.005),
        ("35.6%", 0.356, 0.0005),
        ("35,6 %", 0.356, 0.0005),
        ("882 000 000", 882e6, 0.5),
        ("1.234,5", 1234.5, 0.05),
        ("1,234.5", 1234.5, 0.05),
        ("7.1E+00", 7.1, 0.05),
        ("5.059 ±.079", 5.059, 0.0005),
        ("**1.5**", 1.5, 0.05),
        ("-0.5", -0.5, 0.05),
    ],
)
def test_numbers_are_read_as_they_are_printed(text: str, value: float, rounding: float) -> None:
    parsed = parse_number(text)
    assert parsed is not None
    assert parsed.value == pytest.approx(value, rel=1e-12)
    assert parsed.rounding == pytest.approx(rounding)


@pytest.mark.parametrize("text", ["-", "—", "", "n/a", "NaN", "`-`"])
def test_missing_is_missing(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize("text", ["abc", "1.2 apples", "=1+1", "--3", "inf", "-inf", "1e999", "1e-999999999"])
def test_what_is_no_number_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a number|beyond"):
        parse_number(text)


def test_rows_take_a_comma_for_thousands() -> None:
    parsed = parse_number("314,000", decimal_comma=False)
    assert parsed is not None
    assert parsed.value == 314000


@given(st.floats(0.001, 99), st.integers(1, 6))
def test_a_printed_number_comes_back(value: float, decimals: int) -> None:
    parsed = parse_number(f"{value:.{decimals}f}")
    assert parsed is not None
    assert abs(parsed.value - value) <= parsed.rounding * (1 + 1e-9)


def test_roles_are_known_in_english_and_russian() -> None:
    assert role("Датасет") == role("dataset") == "dataset"
    assert role("Доля в трейне") == role("share in train") == role("train %") == "train_share"
    assert role("Доля в валидации") == role("validation share") == "validation_share"
    assert role("train rows, mln") == "train_rows"
    assert row_scale("train rows, mln") == row_scale("строк, млн") == 10**6
    assert read_name("comment").quantity is None


@pytest.mark.parametrize(
    ("name", "split", "objective", "quantity", "rest"),
    [
        ("eval/wiki/mlm_loss", "eval", "mlm", "loss", "wiki"),
        ("eval_wiki_loss", "eval", None, "loss", "wiki"),
        ("train/loss", "train", None, "loss", ""),
        ("validation/new_views/sop_accuracy", "eval", "sop", "accuracy", "new_views"),
        ("val_loss", "eval", None, "loss", ""),
        ("eval_test_set_loss", "eval", None, "loss", "test_set"),
        ("order_book_loss", None, None, "loss", "order_book"),
        ("next_sentence_loss", None, "nsp", "loss", ""),
        ("lm loss validation ppl", "eval", "lm", "perplexity", ""),
        ("torch_MLM_val", "eval", "mlm", None, "torch"),
        ("run 7 SOP accuracy", None, "sop", "accuracy", "run 7"),
        ("validLoss", "eval", None, "loss", ""),
    ],
)
def test_names_are_taken_apart_from_their_ends(
    name: str, split: str | None, objective: str | None, quantity: str | None, rest: str
) -> None:
    found = read_name(name)
    assert (found.split, found.objective, found.quantity, found.rest) == (split, objective, quantity, rest)


@pytest.mark.parametrize("name", ["loss-scale", "eval_loss_runtime", "lm loss vs samples"])
def test_what_only_speaks_about_a_loss_is_none(name: str) -> None:
    assert read_name(name).about


def test_a_map_overrules_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Korpus;Zeilen;Ergebnis;Notiz\nweb;1.000;2,5;gut\n", encoding="utf-8")
    found = read_any(path, parse_maps(["Korpus=dataset", "Zeilen=train_rows", "Ergebnis=alt:mlm_loss"]))
    assert [(n.run, n.dataset, n.metric, n.value) for n in found.numbers] == [("alt", "web", "mlm_loss", 2.5)]
    assert any(mapped.source == "Notiz" and mapped.reason for mapped in found.mapping)
    with pytest.raises(UsageError, match="not a mapping"):
        parse_maps(["Ergebnis=loss"])


def test_the_table_that_lossary_writes_is_one_that_it_reads(
    synthetic: Callable[..., object], planted: Callable[..., object], tmp_path: Path
) -> None:
    from lossary.tables.build import build_table

    study = synthetic({"tf_xxl": "tensorflow"})
    study.score("tf_xxl", {name: planted() for name in ("reform", "views", "dialogue")})  # type: ignore[attr-defined]
    table = build_table(study.study, study.folder)  # type: ignore[attr-defined]
    path = tmp_path / "own.md"
    path.write_text("# own\n\n" + markdown_table(table, ["tf_xxl"]) + "\n", encoding="utf-8")
    found = read_any(path, NO_MAPS)
    for number in found.numbers:
        if number.dataset is not None:
            cell = table.cell("tf_xxl", number.dataset, number.metric)
            assert cell.value == pytest.approx(number.value, abs=number.rounding * 1.01)
            assert number.link == cell.link
    assert {dataset.train_rows for dataset in found.datasets} == {314_000_000, 256_000_000, 312_000_000}


def test_trainer_state(tmp_path: Path) -> None:
    path = tmp_path / "run-1" / "trainer_state.json"
    path.parent.mkdir()
    history = [{"step": 10, "loss": 5.0, "learning_rate": 1e-3}, {"step": 10, "eval_wiki_loss": 4.5, "epoch": 1}]
    path.write_text(json.dumps({"best_metric": None, "log_history": history}), encoding="utf-8")
    found = read_any(path, NO_MAPS)
    assert curve(found, "wiki") == ([10], [4.5])
    assert curve(found, "all", split="train") == ([10], [5.0])
    assert found.curves[0].run == "run-1"


def test_csv_logger(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch,accuracy,loss,val_loss\n0,0.1,5.0,4.9\n1,0.2,4.0,nan\n", encoding="utf-8")
    found = read_any(path, NO_MAPS)
    steps, values = curve(found, "all")
    assert steps == [0, 1]
    assert values[0] == 4.9
    assert math.isnan(values[1])
    assert curve(found, "all", "accuracy", "train") == ([0, 1], [0.1, 0.2])


def test_wandb_export(tmp_path: Path) -> None:
    path = tmp_path / "wandb.csv"
    path.write_text(
        '"Step","a - eval/wiki/mlm_loss","a - eval/wiki/mlm_loss__MIN","b - eval/wiki/mlm_loss"\n'
        '"100","4.5","4.4","4.1"\n"200","4.0","4.0",""\n',
        encoding="utf-8",
    )
    found = read_any(path, NO_MAPS)
    assert {c.run for c in found.curves} == {"a", "b"}
    assert curve(found, "wiki", "mlm_loss") == ([100, 200], [4.5, 4.0])


def test_megatron_log(tmp_path: Path) -> None:
    path = tmp_path / "megatron.log"
    path.write_text(
        " iteration      100/ 500000 | consumed samples: 25600 | lm loss: 7.30E+00 | sop loss: 6.91E-01 | lr: 1e-4\n"
        " iteration      200/ 500000 | consumed samples: 51200 | lm loss: 6.30E+00 | sop loss: 5.91E-01 |\n"
        " validation loss at iteration 200 | lm loss value: 6.1 | lm loss PPL: 446.0 | sop loss value: 5.5E-01 |\n",
        encoding="utf-8",
    )
    found = read_any(path, NO_MAPS)
    assert curve(found, "all", "mlm_loss", "train") == ([100, 200], [7.3, 6.3])
    assert curve(found, "all", "sop_loss", "train") == ([100, 200], [0.691, 0.591])
    assert curve(found, "all", "sop_loss") == ([200], [0.55])
    path.write_text(
        " iteration 10/ 50 | lm loss: 7.0 |\n validation loss at iteration 30 | lm loss value: 6.1 |\n",
        encoding="utf-8",
    )
    assert curve(read_any(path, NO_MAPS), "all") == ([30], [6.1])


def test_two_series_of_one_place_are_both_kept_and_both_named(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 10, "val_loss": 5.2, "eval_loss": 4.5, "train_loss": 4.0}\n', encoding="utf-8")
    found = read_any(path, NO_MAPS)
    assert curve(found, "all [val_loss]") == ([10], [5.2])
    assert curve(found, "all [eval_loss]") == ([10], [4.5])
    assert any("'val_loss'" in note and "'eval_loss'" in note and "--map" in note for note in found.notes)
    assert sum(mapped.conflict for mapped in found.mapping) == 2
    decided = read_any(path, parse_maps(["val_loss=ignore"]))
    assert curve(decided, "all") == ([10], [4.5])


def test_fairseq_logs_are_in_bits(tmp_path: Path) -> None:
    path = tmp_path / "fairseq.log"
    inner = {"epoch": 1, "loss": "10.0", "num_updates": "100"}
    valid = {"epoch": 1, "valid_loss": "8.0", "valid_num_updates": "100"}
    path.write_text(
        f"2026-01-01 | INFO | train_inner | {json.dumps(inner)}\n2026-01-01 | INFO | valid | {json.dumps(valid)}\n",
        encoding="utf-8",
    )
    found = read_any(path, NO_MAPS)
    assert curve(found, "all")[1] == pytest.approx([8 * math.log(2)])
    assert any("base 2" in note for note in found.notes)


def test_mlflow_file_store_and_sqlite_agree(tmp_path: Path) -> None:
    metrics = tmp_path / "mlruns" / "0" / "abc" / "metrics" / "eval" / "wiki"
    metrics.mkdir(parents=True)
    (metrics / "mlm_loss").write_text("1700000000 4.5 10\n1700000001 4.0 20\n", encoding="utf-8")
    (tmp_path / "mlruns" / "0" / "abc" / "meta.yaml").write_text("run_name: first\n", encoding="utf-8")
    files = read_any(tmp_path / "mlruns", NO_MAPS)
    database = tmp_path / "mlflow.db"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE runs (run_uuid TEXT, name TEXT)")
    connection.execute(
        "CREATE TABLE metrics (key TEXT, value REAL, timestamp INT, run_uuid TEXT, step INT, is_nan INT)"
    )
    connection.execute("INSERT INTO runs VALUES ('abc', 'first')")
    rows = [("eval/wiki/mlm_loss", 4.5, 1, "abc", 10, 0), ("eval/wiki/mlm_loss", 4.0, 2, "abc", 20, 0)]
    connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    stored = read_any(database, NO_MAPS)
    for found in (files, stored):
        assert found.curves[0].run == "first"
        assert curve(found, "wiki", "mlm_loss") == ([10, 20], [4.5, 4.0])


def event_file(path: Path, points: list[tuple[str, int, float]], *, tensor: bool) -> None:
    """Writes an event file with TensorFlow's own writer."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.summary.writer.record_writer import RecordWriter

    with path.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
        for tag, step, value in points:
            if tensor:
                content = TensorProto(dtype=1, tensor_content=struct.pack("<f", value))
                summary = Summary(value=[Summary.Value(tag=tag, tensor=content)])
            else:
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.write(Event(wall_time=2.0, step=step, summary=summary).SerializeToString())


@pytest.mark.parametrize("tensor", [False, True])
def test_tensorboard_gives_what_the_event_accumulator_gives(tmp_path: Path, tensor: bool) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rng = np.random.default_rng(0)
    points = [("eval/wiki/mlm_loss", step, float(rng.random())) for step in range(1, 300)]
    points += [("eval/web/sop_loss", step * 1000, float(rng.random())) for step in range(50)]
    path = tmp_path / "events.out.tfevents.1.host"
    event_file(path, points, tensor=tensor)
    accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    found = read_events(path).points
    for tag in ("eval/wiki/mlm_loss", "eval/web/sop_loss"):
        if tensor:
            from tensorboard.util.tensor_util import make_ndarray

            theirs = [(e.step, float(make_ndarray(e.tensor_proto))) for e in accumulator.Tensors(tag)]
        else:
            theirs = [(event.step, event.value) for event in accumulator.Scalars(tag)]
        assert list(zip(*found[tag], strict=True)) == theirs
    assert curve(read_any(tmp_path, NO_MAPS), "wiki", "mlm_loss")[0] == list(range(1, 300))


def test_a_tail_that_was_cut_short_is_noted_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1.host"
    event_file(path, [("eval/wiki/mlm_loss", step, 1.0) for step in range(20)], tensor=False)
    whole = path.read_bytes()
    for cut in (1, 5, 20, 40):
        path.write_bytes(whole[:-cut])
        found = read_any(path, NO_MAPS)
        assert any("cut short" in note for note in found.notes)
        assert len(curve(found, "wiki", "mlm_loss")[0]) in (18, 19)
    path.write_bytes(whole + b"\xff" * 40)
    assert any("damaged" in note for note in read_any(path, NO_MAPS).notes)


HOSTILE: dict[str, bytes] = {
    "empty.md": b"",
    "binary.bin": bytes(range(256)) * 10,
    "zip bomb.zip": b"PK\x03\x04" + b"\0" * 100,
    "gzip.gz": b"\x1f\x8b\x08\0\0\0",
    "pickle.pkl": b"\x80\x04\x95\0\0",
    "latin1.md": "| dataset | a_mlm |\n|---|---|\n| caf\xe9 | 1.0 |\n".encode("latin-1"),
    "words.md": b"| dataset | a_mlm |\n|---|---|\n| x | many |\n",
    "no metric.md": b"| dataset | colour |\n|---|---|\n| x | red |\n",
    "no table.md": b"# nothing here\n",
    "deep.json": b'{"log_history": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "history.json": b'{"log_history": 3}',
    "steps.json": b'{"log_history": [{"loss": 1}]}',
    "other.json": b'{"a": 1}',
    "list.json": b"[1, 2, 3]",
    "broken.json": b'{"log_history": [',
    "long line.csv": b"dataset,a_mlm\nx," + b"1" * (2 << 20) + b"\n",
    "ragged.csv": b"epoch,loss\n1,2,3,4\n",
    "text.csv": b"epoch,loss\n1,high\n",
    "quote.csv": b'dataset,a_mlm\n"x,1\n',
    "no database.db": b"SQLite format 3\0" + b"\0" * 200,
    "no events": struct.pack("<Q", 24) + b"1234" + b"brain.Event:2" + b"\xff" * 200,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_clear_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    with pytest.raises(LossaryError) as error:
        read_any(path, NO_MAPS)
    assert error.value.exit_code in (2, 3)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_file_beyond_bounds_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.md"
    with path.open("wb") as file:
        file.write(b"| dataset | a_mlm |\n|---|---|\n" + b"| x | 1.0 |\n" * 10_000)
        file.truncate(3 << 30)
    with pytest.raises(SourceError, match="more than a table has"):
        read_any(path, NO_MAPS)


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "meta.yaml").write_text("run_id: a\n")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "loop").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(SourceError):
        read_any(tmp_path / "missing", NO_MAPS)
    with pytest.raises(SourceError, match="no number"):
        read_any(tmp_path, NO_MAPS)


def test_scripts_and_formulas_in_names_are_escaped_wherever_they_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "evil.md"
    path.write_text(
        "| dataset | =cmd()_mlm |\n|---|---|\n"
        "| <img src=x onerror=alert(1)> | [1.0](javascript:alert(1)) |\n"
        "| @SUM(A1) \x1b[31m | [2.0](https://example.org/a) |\n",
        encoding="utf-8",
    )
    found = read_any(path, NO_MAPS)
    assert "\x1b" not in import_text(found)
    save_import(tmp_path / "study", "evil", [found])
    table = imported_table(tmp_path / "study")
    page = markdown_table(table, [run.name for run in table.runs])
    assert "<img" not in page
    assert "javascript:" not in page
    assert "https://example.org/a" in page
    assert "\x1b" not in terminal_text(table)
    lines = csv_text(table).splitlines()
    assert not any(cell.startswith(("=", "@")) for line in lines for cell in line.split(","))


def test_a_second_import_of_a_file_replaces_the_first(tmp_path: Path) -> None:
    path, study = tmp_path / "log.csv", tmp_path / "study"
    for last in ("4.0", "3.0"):
        path.write_text(f"epoch,val_loss\n0,5.0\n1,{last}\n", encoding="utf-8")
        save_import(study, "log", [read_any(path, NO_MAPS)])
    table = imported_table(study)
    assert [cell.value for cell in table.cells if cell.metric == "loss"] == [3.0]


def test_imported_curves_are_checked_for_jumps_broken_numbers_and_falling_ends(tmp_path: Path) -> None:
    from lossary.findings.folder import check_folder

    path = tmp_path / "log.csv"
    rng = np.random.default_rng(0)
    losses = 5.0 - 0.01 * np.arange(200) + rng.normal(0, 0.01, 200)
    losses[120] = 9.0
    lines = [f"{step},{loss:.4f},{'nan' if step > 190 else f'{loss:.4f}'}" for step, loss in enumerate(losses)]
    path.write_text("epoch,loss,val_web_loss\n" + "\n".join(lines) + "\n", encoding="utf-8")
    save_import(tmp_path / "study", "log", [read_any(path, NO_MAPS)])
    found = {(f.name, f.severity, f.subject) for f in check_folder(tmp_path / "study").findings}
    assert ("nan-or-spike", "warning", "log · all") in found
    assert ("nan-or-spike", "error", "log · web") in found
    assert any(name == "still-falling" and severity == "info" for name, severity, _ in found)


def test_next_sentences_are_an_objective_of_their_own_of_which_no_rule_of_sop_or_mlm_speaks(tmp_path: Path) -> None:
    from lossary.findings.folder import check_folder
    from lossary.tables.model import measure_of

    (tmp_path / "x").mkdir()
    path = tmp_path / "x" / "eval_results.txt"
    # Above ln 2: of SOP it would be worse than chance.
    path.write_text("global_step = 9\nnext_sentence_accuracy = 0.25\nnext_sentence_loss = 0.9\n", encoding="utf-8")
    save_import(tmp_path / "study", "t", [read_any(path, NO_MAPS)])
    table = imported_table(tmp_path / "study")
    assert {c.metric: c.value for c in table.cells if c.value is not None} == {"nsp_loss": 0.9, "nsp_accuracy": 0.25}
    assert (measure_of("nsp_loss").objective, measure_of("nsp_loss").title) == ("nsp", "NSP loss")
    told = [f for f in check_folder(tmp_path / "study").findings if f.severity in ("error", "warning", "pass")]
    assert not [finding for finding in told if "sop" in finding.name or "mlm" in finding.name]


def test_a_database_whose_metrics_are_a_query_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (run_uuid TEXT, name TEXT)")
    connection.execute(
        "CREATE VIEW metrics AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT 'a' AS key, i AS value, i AS timestamp, 'x' AS run_uuid, i AS step, 0 AS is_nan FROM n"
    )
    connection.commit()
    connection.close()
    with pytest.raises(SourceError, match="no tables"):
        read_any(path, NO_MAPS)


@pytest.mark.parametrize("name", ["log.jsonl", "results.json", "log.txt"])
def test_a_key_that_an_object_has_twice_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    lines = ['{"step": 1, "loss": 3.0}', '{"step": 2, "loss": 2.5, "loss": 2.75}', '{"step": 3, "loss": 2.0}']
    path.write_text(f"[{', '.join(lines)}]" if name.endswith(".json") else "\n".join(lines))
    with pytest.raises(SourceError, match="the key 'loss' twice") as caught:
        read_any(path, parse_maps([]))
    assert name in (caught.value.where or "")

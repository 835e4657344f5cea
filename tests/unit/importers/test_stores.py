"""Stores of trackers: what lossary reads in them is what their own packages answer, where those are installed.

Runs that were deleted or share a name, splits that lie in folders, files that are damaged.
"""

import json
import math
import sqlite3
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lossary.errors import SourceError
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.model import Curve, Imported, metric_name
from lossary.results.importers.recognise import read_any

NO_MAPS = parse_maps([])


def last_values(found: Imported) -> dict[tuple[str, str, str], float]:
    return {(c.run, c.dataset, metric_name(c.metric, c.split)): round(float(c.value[-1]), 6) for c in found.curves}


def mlflow_run(root: Path, run: str, *, name: str, stage: str = "active", **metrics: float) -> None:
    folder = root / "1" / run
    (folder / "metrics").mkdir(parents=True)
    (folder / "meta.yaml").write_text(
        f"run_uuid: {run}\nrun_name: {name}\nlifecycle_stage: {stage}\n", encoding="utf-8"
    )
    for metric, value in metrics.items():
        (folder / "metrics" / metric).write_text(f"1700000000 {value} 9\n", encoding="utf-8")


def test_deleted_runs_are_left_out_runs_of_one_name_apart_and_test_hides_no_validation(tmp_path: Path) -> None:
    mlflow_run(tmp_path, "aa", name="base", val_loss=2.0, test_loss=2.5)
    mlflow_run(tmp_path, "bb", name="base", val_loss=4.0)
    mlflow_run(tmp_path, "cc", name="thrown away", stage="deleted", val_loss=1.0)
    found = read_any(tmp_path, NO_MAPS)
    assert last_values(found) == {
        ("base (aa)", "all", "loss"): 2.0,
        ("base (aa)", "all", "test_loss"): 2.5,
        ("base (bb)", "all", "loss"): 4.0,
    }
    assert "thrown away" in str(found.notes)


def events(folder: Path, points: Sequence[tuple[str, int, float]]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.out.tfevents.1.host").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
        for tag, step, value in points:
            content = TensorProto(dtype=1, tensor_content=struct.pack("<f", value))
            summary = Summary(value=[Summary.Value(tag=tag, tensor=content)])
            writer.write(Event(wall_time=2.0, step=step, summary=summary).SerializeToString())


def test_the_folder_of_an_estimator_trains_above_and_evaluates_below(tmp_path: Path) -> None:
    events(tmp_path / "bert", [("loss", 5, 3.0), ("loss", 9, 2.5)])
    events(tmp_path / "bert" / "eval", [("masked_lm_loss", 9, 2.0), ("next_sentence_loss", 9, 0.25), ("loss", 9, 2.25)])
    assert last_values(read_any(tmp_path / "bert", NO_MAPS)) == {
        ("bert", "all", "train_loss"): 2.5,
        ("bert", "all", "mlm_loss"): 2.0,
        ("bert", "all", "nsp_loss"): 0.25,
        ("bert", "all", "loss"): 2.25,
    }


def test_keras_writes_one_run_into_two_folders(tmp_path: Path) -> None:
    events(tmp_path / "r" / "train", [("epoch_loss", 0, 3.0), ("epoch_loss", 1, 2.0)])
    events(tmp_path / "r" / "validation", [("epoch_loss", 0, 3.5), ("epoch_loss", 1, 2.5)])
    assert last_values(read_any(tmp_path / "r", NO_MAPS)) == {
        ("r", "all", "train_loss"): 2.0,
        ("r", "all", "loss"): 2.5,
    }


def test_two_programs_call_one_loss_differently(tmp_path: Path) -> None:
    events(tmp_path / "torch", [("eval/mlm_loss", 9, 2.5)])
    events(tmp_path / "tf", [("val_mlm_loss", 9, 2.75)])
    assert last_values(read_any(tmp_path, NO_MAPS)) == {
        ("torch", "all", "mlm_loss"): 2.5,
        ("tf", "all", "mlm_loss"): 2.75,
    }


def number(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def message(at: int, value: bytes) -> bytes:
    return number(at << 3 | 2) + number(len(value)) + value


def wandb_file(path: Path, name: str, history: Sequence[dict[str, object]]) -> None:
    """A run's file, its records in parts where they span blocks of 32 KiB."""
    records = [message(17, message(1, b"id0") + message(8, name.encode()))]
    for step, values in enumerate(history):
        items = b"".join(
            message(1, message(2, key.encode()) + message(16, json.dumps(value).encode()))
            for key, value in values.items()
        )
        records.append(message(2, items + message(2, b"\x08" + number(step))))
    data = b":W&B\xe1\xbe\x00"
    for record in records:
        begins = True
        while True:
            left = (1 << 15) - len(data) % (1 << 15)
            if left < 7:
                data, left = data + b"\0" * left, 1 << 15
            part, record = record[: left - 7], record[left - 7 :]
            kind = (1 if begins else 4) if not record else (2 if begins else 3)
            data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            begins = False
            if not record:
                break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def history(points: int) -> list[dict[str, object]]:
    return [{"train/loss": 4.0, "eval/wiki/loss": 3.0 - at / 4096, "note": "x" * 60} for at in range(points)]


def test_a_run_of_wandb_is_read_over_blocks_without_its_package(tmp_path: Path) -> None:
    wandb_file(tmp_path / "run-id0.wandb", "first", history(2000))
    found = read_any(tmp_path / "run-id0.wandb", NO_MAPS)
    curves = {(c.run, c.dataset, c.split): c for c in found.curves}
    assert curves.keys() == {("first", "all", "train"), ("first", "wiki", "eval")}
    wiki = curves["first", "wiki", "eval"]
    assert wiki.step.tolist() == list(range(2000))
    np.testing.assert_array_equal(wiki.value, [3.0 - at / 4096 for at in range(2000)])
    assert not found.notes


@pytest.mark.parametrize("at", [-9, 40_000], ids=["cut short", "a byte flipped"])
def test_a_damaged_run_of_wandb_is_read_up_to_there_and_says_so(at: int, tmp_path: Path) -> None:
    path = tmp_path / "run-id0.wandb"
    wandb_file(path, "first", history(2000))
    data = bytearray(path.read_bytes())
    if at < 0:
        data = data[:at]
    else:
        data[at] ^= 1
    path.write_bytes(data)
    found = read_any(path, NO_MAPS)
    assert 0 < len(found.curves[0].step) < 2000
    assert "damaged or cut short" in str(found.notes)


def test_a_run_of_two_trackers_in_one_folder_stands_apart_where_they_differ(tmp_path: Path) -> None:
    wandb_file(tmp_path / "wandb" / "run-1-id0" / "run-id0.wandb", "base", [{"val_loss": 2.5}])
    mlflow_run(tmp_path / "mlruns", "aa", name="base", val_loss=3.5)
    found = read_any(tmp_path, NO_MAPS)
    assert last_values(found) == {
        ("base (W&B run)", "all", "loss"): 2.5,
        ("base (MLflow file store)", "all", "loss"): 3.5,
    }
    assert "have different values of all loss" in str(found.notes)


def trackio_database(path: Path, rows: Sequence[tuple[str, str, int, dict[str, object]]]) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id, timestamp, run_name, step, metrics)")
    lines = [(run, f"t{at}", name, step, json.dumps(values)) for at, (run, name, step, values) in enumerate(rows)]
    connection.executemany("INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?,?,?,?,?)", lines)
    connection.commit()
    connection.close()


def test_trackio(tmp_path: Path) -> None:
    rows = [
        ("aa", "base", 1, {"train/loss": 4.0, "eval/wiki/loss": 3.0}),
        ("aa", "base", 2, {"train/loss": "NaN", "eval/wiki/loss": 2.5}),
        ("bb", "base", 2, {"eval/wiki/loss": 3.5}),
    ]
    trackio_database(tmp_path / "project.db", rows)
    found = read_any(tmp_path, NO_MAPS)
    assert found.kind == "Trackio"
    values = last_values(found)
    assert math.isnan(values.pop(("base (aa)", "all", "train_loss")))
    assert values == {("base (aa)", "wiki", "loss"): 2.5, ("base (bb)", "wiki", "loss"): 3.5}


def test_parquet_of_records_with_a_step(tmp_path: Path) -> None:
    losses = {"val_loss": [3.0, 2.5, None], "train_loss": [4.0, None, 2]}
    pq.write_table(pa.table({"run_name": ["a", "a", "b"], "step": [1, 2, 2], **losses}), tmp_path / "r.parquet")
    assert last_values(read_any(tmp_path / "r.parquet", NO_MAPS)) == {
        ("a", "all", "loss"): 2.5,
        ("a", "all", "train_loss"): 4.0,
        ("b", "all", "train_loss"): 2.0,
    }


def test_parquet_of_something_else_is_refused_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "r.parquet")
    with pytest.raises(SourceError, match="without a column of steps") as error:
        read_any(tmp_path / "r.parquet", NO_MAPS)
    assert "text, n" in str(error.value.hint)
    (tmp_path / "r.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(SourceError, match="not a Parquet file"):
        read_any(tmp_path / "r.parquet", NO_MAPS)


def test_levanter_prints_json_with_metrics_inside(tmp_path: Path) -> None:
    line = json.dumps({"tracker": "json_logger", "event": "log", "step": 9, "metrics": {"train/loss": 2.5, "lr": 0.1}})
    (tmp_path / "l.log").write_text(f"2026-01-02T10:00:00 - 0 - levanter - INFO :: {line}\n", encoding="utf-8")
    assert last_values(read_any(tmp_path / "l.log", NO_MAPS)) == {("l", "all", "train_loss"): 2.5}


def aim_store(root: Path) -> None:
    (root / ".aim" / "meta").mkdir(parents=True)
    (root / ".aim" / "run_metadata.sqlite").touch()


def test_a_store_that_only_its_package_reads_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aim", None)
    aim_store(tmp_path)
    for path in (tmp_path, tmp_path / ".aim"):
        with pytest.raises(SourceError, match="Aim") as error:
            read_any(path, NO_MAPS)
        assert "pip install aim" in str(error.value.hint)
        assert "JSON lines" in str(error.value.hint)


class AimRun:
    """A run as Aim's package gives it, of two series and one of the machine's."""

    experiment = "base"

    def __init__(self, run_hash: str, **_: object) -> None:
        self.hash, self.name = run_hash, f"Run: {run_hash}"

    def iter_metrics_info(self) -> list[tuple[str, SimpleNamespace, "AimRun"]]:
        contexts: list[tuple[str, dict[str, str]]] = [
            ("loss", {"subset": "train"}), ("loss", {"subset": "val", "dataset": "wiki"}), ("__system__cpu", {})
        ]  # fmt: skip
        return [(name, SimpleNamespace(to_dict=lambda said=said: said), self) for name, said in contexts]

    def get_metric(self, _: str, context: SimpleNamespace) -> SimpleNamespace:
        high = float(self.hash) + (0.5 if "val" in context.to_dict().values() else 0.0)
        points = {step: (high - step / 8, None, 0.0) for step in (1, 2)}
        return SimpleNamespace(data=points)

    def close(self) -> None:
        self.hash = ""


def test_a_store_of_aim_is_read_by_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def repo(folder: str) -> SimpleNamespace:
        opened.append(folder)
        assert (Path(folder) / ".aim" / "run_metadata.sqlite").is_file()
        return SimpleNamespace(list_all_runs=lambda: ["3", "4"])

    monkeypatch.setitem(sys.modules, "aim", SimpleNamespace(Repo=repo, Run=AimRun))
    aim_store(tmp_path)
    found = read_any(tmp_path, NO_MAPS)
    assert last_values(found) == {
        ("base (3)", "all", "train_loss"): 2.75, ("base (3)", "wiki", "loss"): 3.25,
        ("base (4)", "all", "train_loss"): 3.75, ("base (4)", "wiki", "loss"): 4.25,
    }  # fmt: skip
    assert not Path(opened[0]).is_relative_to(tmp_path)
    assert not Path(opened[0]).exists()


def test_a_store_of_aim_is_what_its_package_wrote(tmp_path: Path) -> None:
    aim = pytest.importorskip("aim")
    run = aim.Run(repo=str(tmp_path), experiment="base", system_tracking_interval=None, capture_terminal_logs=False)
    for step in (100, 200):
        run.track(4 - step / 800, name="loss", step=step, context={"subset": "train"})
        run.track(5 - step / 800, name="loss", step=step, context={"subset": "val", "dataset": "wiki"})
    run.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    found = read_any(tmp_path, NO_MAPS)
    assert last_values(found) == {("base", "all", "train_loss"): 3.75, ("base", "wiki", "loss"): 4.75}
    assert [curve.step.tolist() for curve in found.curves] == [[100, 200], [100, 200]]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


POINTS = [(at, {"train/loss": 4 - at / 8, "eval/wiki/loss": 4.5 - at / 8}) for at in range(0, 16, 4)]


def pairs(curve: Curve) -> list[tuple[int, float]]:
    return list(zip(curve.step.tolist(), curve.value.tolist(), strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("scheme", ["file", "sqlite"])
def test_mlflow_answers_as_lossary_reads(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = tmp_path / ("mlruns" if scheme == "file" else "mlflow.db")
    client = mlflow.MlflowClient(f"{scheme}://{'/' if scheme == 'sqlite' else ''}{store}")
    experiment = client.create_experiment("e")
    for name in ("a", "b", "thrown away"):
        run = client.create_run(experiment, run_name=name).info.run_id
        for step, values in POINTS:
            for key, value in values.items():
                client.log_metric(run, key, value, step=step)
        client.log_metric(run, "val_loss", math.inf, step=12)
        if name == "thrown away":
            client.delete_run(run)
    theirs = {}
    for run in client.search_runs([experiment]):
        for key in run.data.metrics:
            points = client.get_metric_history(run.info.run_id, key)
            theirs[run.info.run_name, key] = sorted((p.step, p.value) for p in points)
    names = {("all", "train"): "train/loss", ("wiki", "eval"): "eval/wiki/loss", ("all", "eval"): "val_loss"}
    ours = {(c.run, names[c.dataset, c.split]): pairs(c) for c in read_any(store, NO_MAPS).curves}
    if scheme == "sqlite":
        # The package gives back the largest number where an infinity was logged.
        for key in list(theirs):
            theirs[key] = [(step, math.inf if value > 1e308 else value) for step, value in theirs[key]]
    assert ours == theirs
    assert len(ours) == 6


def test_wandb_writes_what_lossary_reads(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    with wandb.init(mode="offline", dir=str(tmp_path), project="p", name="first") as run:
        for step, values in POINTS:
            run.log(values, step=step)
    wandb.teardown()  # its service writes the last of the file
    curves = read_any(tmp_path / "wandb", NO_MAPS).curves
    assert {(c.run, c.dataset, c.split): pairs(c) for c in curves} == {
        ("first", "all", "train"): [(step, values["train/loss"]) for step, values in POINTS],
        ("first", "wiki", "eval"): [(step, values["eval/wiki/loss"]) for step, values in POINTS],
    }


def test_trackio_writes_what_lossary_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio")
    for name in ("a", "b"):
        trackio.init(project="p", name=name)
        for step, values in POINTS:
            trackio.log(values, step=step)
        trackio.finish()
    curves = read_any(tmp_path, NO_MAPS).curves
    assert {(c.run, c.dataset, c.split) for c in curves} == {
        (run, dataset, split) for run in ("a", "b") for dataset, split in (("all", "train"), ("wiki", "eval"))
    }
    for curve in curves:
        key = "train/loss" if curve.split == "train" else "eval/wiki/loss"
        assert pairs(curve) == [(step, values[key]) for step, values in POINTS]

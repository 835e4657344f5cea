"""Stores of trackers: runs that were deleted or share a name, splits that lie in folders."""

import struct
from collections.abc import Sequence
from pathlib import Path

from lossary.results.importers.maps import parse_maps
from lossary.results.importers.model import Imported, metric_name
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

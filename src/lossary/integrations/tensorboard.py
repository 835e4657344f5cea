"""To TensorBoard: an event file a run, whose scalars are float64."""

import time
from collections.abc import Sequence
from pathlib import Path

from lossary.errors import MissingPackage, UsageError
from lossary.files import write_directory_atomic
from lossary.integrations.series import Point, TrackedRun

__all__ = ["write_tensorboard"]

_FILE = "events.out.tfevents.lossary"
_DOUBLE = 2  # DataType of TensorFlow's types.proto


def write_tensorboard(runs: Sequence[TrackedRun], target: str) -> str:
    """Writes a new folder with a folder for each run; says how to look at it. UsageError if it exists."""
    try:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        raise MissingPackage("the package tensorboard is not installed", hint="pip install tensorboard") from None
    folder = Path(target)
    if folder.exists():
        raise UsageError("it exists already", where=target, hint="Name a folder that does not.")
    now = time.time()
    with write_directory_atomic(folder) as temporary:
        for run in runs:
            (temporary / run.name).mkdir()
            with (temporary / run.name / _FILE).open("wb") as file:
                writer = RecordWriter(file)
                writer.write(event_pb2.Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
                for point in run.points:
                    writer.write(_event(point, now))
                writer.flush()
    return f"wrote {folder}; now: tensorboard --logdir {folder}"


def _event(point: Point, now: float) -> bytes:
    from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2

    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="scalars")
    value = summary_pb2.Summary.Value(
        tag=point.name,
        metadata=summary_pb2.SummaryMetadata(plugin_data=plugin, data_class=summary_pb2.DATA_CLASS_SCALAR),
        tensor=tensor_pb2.TensorProto(
            dtype=_DOUBLE, double_val=[point.value], tensor_shape=tensor_shape_pb2.TensorShapeProto()
        ),
    )
    event = event_pb2.Event(wall_time=now, step=point.step, summary=summary_pb2.Summary(value=[value]))
    content: bytes = event.SerializeToString()
    return content

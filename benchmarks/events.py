"""Reading TensorBoard's event files, against `EventAccumulator`: same values, at least five times as fast.

python -m benchmarks.events [--scalars 90000] [--quick]
"""

from pathlib import Path

import numpy as np

from benchmarks.common import alternate, arguments, clock, temporary_folder
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.tensorboard import read_events, read_tensorboard


def main() -> None:
    """Measures and prints."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = arguments(__doc__, ("--scalars", 90_000))
    count = 9_000 if options.quick else options.scalars
    with temporary_folder() as name:
        path = Path(name) / "events.out.tfevents.1.host"
        tags = [f"eval/dataset{index}/mlm_loss" for index in range(9)]
        write(path, tags, count)

        def ours() -> float:
            start = clock()
            read_tensorboard(path, parse_maps([]))
            return clock() - start

        def theirs() -> float:
            start = clock()
            accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0})
            accumulator.Reload()
            for tag in tags:
                accumulator.Scalars(tag)
            return clock() - start

        found = read_events(path).points
        accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0})
        accumulator.Reload()
        for tag in tags:
            assert list(zip(*found[tag], strict=True)) == [(e.step, e.value) for e in accumulator.Scalars(tag)]
        mine, peer = alternate(1 if options.quick else 5, ours, theirs)
    print(f"{count:,} scalars, the same values")
    print(f"lossary import    {mine:6.2f} s")
    print(f"EventAccumulator  {peer:6.2f} s")
    print(f"ratio={peer / mine:.1f}")


def write(path: Path, tags: list[str], count: int) -> None:
    """An event file, by TensorBoard's own writer."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
        for index in range(count):
            value = Summary.Value(tag=tags[index % len(tags)], simple_value=float(rng.random()))
            event = Event(wall_time=2.0 + index, step=index // len(tags), summary=Summary(value=[value]))
            writer.write(event.SerializeToString())


if __name__ == "__main__":
    main()

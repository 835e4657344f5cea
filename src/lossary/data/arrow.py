"""Arrow files of one record batch: written whole, read by memory map."""

from pathlib import Path

import pyarrow as pa

from lossary.errors import ShardError
from lossary.files import write_atomic

__all__ = ["read_batch", "write_batch"]


def write_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Writes one record batch as an Arrow IPC file, whole or not at all."""
    with write_atomic(path) as temporary, pa.OSFile(str(temporary), "wb") as sink:  # noqa: SIM117
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)


def read_batch(path: Path) -> pa.RecordBatch:
    """Memory-maps the record batch of a file; ShardError if it is missing or damaged."""
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).get_batch(0)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(
            f"not readable: {error}", where=str(path), hint="Delete the folder `prepared` and run `lossary prepare`."
        ) from None

"""Arrow files of one record batch: written whole, read by memory map."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.errors import ShardError
from lossary.files import write_atomic

__all__ = ["arrow_array", "read_batch", "write_batch"]


def arrow_array(values: NDArray[Any]) -> pa.Array:
    """Numbers of a NumPy array (N,) as Arrow's, without a copy.

    `pa.array` would import pandas to ask whether they are pandas': a sixth of a second in every worker.
    """
    contiguous = np.ascontiguousarray(values)
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(contiguous.dtype), len(contiguous), [None, pa.py_buffer(contiguous)]
    )


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

"""What a step saw of each dataset: sums, from which every mean is made."""

from typing import Any

import numpy as np

from lossary.backends.api import RowSums, StepOutput
from lossary.data.batches import MicroBatch
from lossary.data.examples import Examples

__all__ = ["SUMS", "Sums", "by_dataset"]

SUMS = ("examples", "tokens", "masked", "mlm_nats", "mlm_correct", "sop_pairs", "sop_nats", "sop_correct")
Sums = dict[str, Any]  # of arrays (D,)


def by_dataset(batch: Examples, output: StepOutput, micro: list[MicroBatch], datasets: int) -> Sums:
    """Sums of a step by dataset (D,)."""
    rows = np.concatenate([part.rows for part in micro])

    def in_order(field: str) -> np.ndarray[Any, Any]:
        values = np.empty(len(batch))
        parts = zip(output.rows, micro, strict=True)
        values[rows] = np.concatenate([getattr(row, field)[: len(part.rows)] for row, part in parts])
        return values

    columns: dict[str, Any] = {
        "examples": np.ones(len(batch)),
        "tokens": batch.lengths,
        "masked": batch.masked,
        "sop_pairs": batch.sop_labels >= 0,
        **{field: in_order(field) for field in RowSums.__dataclass_fields__},
    }
    return {name: np.bincount(batch.dataset, columns[name], minlength=datasets) for name in SUMS}

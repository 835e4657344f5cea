"""Scores of the tiny study without a model: of every frozen example, from a seed."""

import zlib

import numpy as np
import pyarrow as pa
from tests.schema1 import SCHEMA_1, rows_of

from lossary.data.validation import load_validation
from lossary.folder import StudyFolder
from lossary.results.records import ScoreHeader, write_scores

__all__ = ["score_run"]


def score_run(
    folder: StudyFolder, run: str, *, step: int = 12, mean: float = 3.0, has_sop: bool = True, weights: str = ""
) -> pa.Table:
    """Writes and returns scores of one run: half of its predictions are right, nats lie around `mean`.

    `weights` is the digest of those of its checkpoint, if there is one.
    """
    validation = load_validation(folder)
    examples, rng = validation.examples, np.random.default_rng(zlib.crc32(f"{run}{step}{mean}".encode()))
    rows: list[dict[str, object]] = []
    for row in range(len(examples)):
        masked, order = int(examples.masked[row]), int(examples.sop_labels[row])
        right = rng.random(masked) < 0.5
        nats = np.where(right, 0.1, mean * rng.gamma(4, 0.25, masked)).astype(np.float32)
        labelled = has_sop and order >= 0
        rows.append(
            {
                "run": run,
                "step": step,
                "dataset": validation.datasets[int(examples.dataset[row])],
                "example": int(examples.example[row]),
                "tokens": int(examples.lengths[row]),
                "bytes": int(examples.bytes[row]),
                "masked": masked,
                "mlm_nats": float(nats.astype(np.float64).sum()),
                "mlm_correct": int(right.sum()),
                "sop_label": order if labelled else None,
                "sop_nats": float(rng.gamma(2, 0.3)) if labelled else None,
                "sop_correct": bool(rng.random() < 0.7) if labelled else None,
                "position_nats": nats.tolist(),
                "predicted": np.where(right, examples.labels[row, :masked], 7).tolist(),
            }
        )
    table = rows_of(pa.Table.from_pylist(rows, schema=SCHEMA_1))
    header = ScoreHeader(
        run=run,
        step=step,
        validation_digest=validation.digest,
        tokenizer_digest=validation.manifest["tokenizer_digest"],
        weights_digest=weights or f"blake2b:{run}",
        backend="torch",
        device="cpu",
        precision="fp32",
        size="base",
        tokens=step * 1000,
        objectives=("mlm", "sop") if has_sop else ("mlm",),
        lossary="0",
        validation=validation.parts,
        tokenizer="same",
    )
    write_scores(folder.scores(run, step), table, header)
    return table

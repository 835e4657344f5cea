"""Ragged examples of random pieces, all with targets."""

import numpy as np

from lossary.data.examples import Examples

__all__ = ["ragged_examples"]


def ragged_examples(vocabulary_size: int, *, rows: int = 7, length: int = 18, seed: int = 5) -> Examples:
    """Rows of several lengths, two segments, some targets hidden and some in sight."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(8, length + 1, rows).astype(np.int32)
    lengths[0] = length
    used = np.arange(length) < lengths[:, None]
    tokens = np.where(used, rng.integers(5, vocabulary_size, (rows, length)), 0).astype(np.int32)
    tokens[:, 0] = 2
    masked = rng.integers(1, 4, rows).astype(np.int32)
    positions = np.sort(np.stack([rng.permutation(7)[:3] + 1 for _ in range(rows)]), axis=1).astype(np.int32)
    kept = np.arange(3) < masked[:, None]
    labels = rng.integers(5, vocabulary_size, (rows, 3))
    for row in range(rows):
        tokens[row, positions[row, : masked[row]][::2]] = 4
    return Examples(
        dataset=np.zeros(rows, np.int16),
        example=np.arange(rows, dtype=np.uint64),
        token_ids=tokens,
        segment_ids=((np.arange(length) >= lengths[:, None] // 2) & used).astype(np.int32),
        lengths=lengths,
        positions=np.where(kept, positions, 0).astype(np.int32),
        labels=np.where(kept, labels, 0).astype(np.int32),
        masked=masked,
        sop_labels=np.full(rows, -1, np.int8),
        bytes=np.ones(rows, np.int32),
    )

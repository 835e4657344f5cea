"""Examples: what a model is given, padded to one length, as NumPy arrays that every backend reads.

[CLS] A [SEP] B [SEP]      token type 0 over [CLS] A [SEP], 1 over B [SEP], or as the vocabulary's template has it
[CLS] A [SEP]              where a document has a single sentence: no sentence-order label
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.blocks import narrow

__all__ = ["Examples", "concatenate", "packed_examples", "unpacked_examples"]

# What stands in a row that only fills a shape: any piece, since nothing is predicted there.
_FILLER = 2


@dataclass(frozen=True, kw_only=True)
class Examples:
    """B examples, padded to T tokens and P masked positions."""

    dataset: NDArray[np.int16]  # (B,) position among the study's datasets
    example: NDArray[np.uint64]  # (B,)
    token_ids: NDArray[np.int32]  # (B, T) masked input; 0 where padded
    segment_ids: NDArray[np.int32]  # (B, T)
    lengths: NDArray[np.int32]  # (B,) tokens, special ones included
    positions: NDArray[np.int32]  # (B, P) masked positions, ascending; 0 where unused
    labels: NDArray[np.int32]  # (B, P) pieces that stood there; 0 where unused
    masked: NDArray[np.int32]  # (B,) the first so many of P are used
    sop_labels: NDArray[np.int8]  # (B,) 0 in order, 1 swapped, -1 none
    bytes: NDArray[np.int32]  # (B,) UTF-8 bytes of the pieces before masking

    def __len__(self) -> int:
        return len(self.example)

    @property
    def weights(self) -> NDArray[np.float32]:
        """(B, P) 1 where a position is used."""
        return (np.arange(self.positions.shape[1]) < self.masked[:, None]).astype(np.float32)

    @property
    def attention_mask(self) -> NDArray[np.int32]:
        """(B, T) 1 where a token stands."""
        return (np.arange(self.token_ids.shape[1]) < self.lengths[:, None]).astype(np.int32)

    @property
    def tokens(self) -> int:
        """Tokens that are no padding."""
        return int(self.lengths.sum())

    def take(self, rows: NDArray[Any]) -> "Examples":
        """The examples of some rows."""
        return Examples(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def padded(self, *, length: int, predictions: int, rows: int) -> "Examples":
        """As it is, with T, P and B made `length`, `predictions` and `rows`; filler rows hold one piece and no label.

        T and P may shrink as far as nothing is lost.
        """
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, width in (
            ("token_ids", length),
            ("segment_ids", length),
            ("positions", predictions),
            ("labels", predictions),
        ):
            columns[name] = _resized(columns[name], rows, width)
        filler = rows - len(self)
        for name in ("dataset", "example", "lengths", "masked", "sop_labels", "bytes"):
            fill = {"lengths": 1, "sop_labels": -1}.get(name, 0)
            columns[name] = np.concatenate([columns[name], np.full(filler, fill, columns[name].dtype)])
        columns["token_ids"][len(self) :, 0] = _FILLER
        return Examples(**columns)


def _resized(values: NDArray[np.int32], rows: int, width: int) -> NDArray[np.int32]:
    result = np.zeros((rows, width), values.dtype)
    kept = min(width, values.shape[1])
    result[: len(values), :kept] = values[:, :kept]
    return result


_RAGGED = ("token_ids", "segment_ids", "positions", "labels")
_STORED = [field.name for field in fields(Examples) if field.name != "dataset"]


def packed_examples(examples: Examples) -> dict[str, NDArray[Any]]:
    """The arrays that examples of one dataset are stored as: without padding, in few bytes."""
    columns: dict[str, NDArray[Any]] = {}
    for name in _STORED:
        values = getattr(examples, name)
        if name in _RAGGED:
            counts = examples.masked if name in ("positions", "labels") else examples.lengths
            values = values[np.arange(values.shape[1]) < counts[:, None]]
        columns[name] = values if name in ("example", "sop_labels") else narrow(values)
    return columns


def unpacked_examples(arrays: Mapping[str, NDArray[Any]], *, dataset: int) -> Examples:
    """What `packed_examples` packed; `dataset` is the position that they get."""
    columns: dict[str, Any] = {"dataset": np.full(len(arrays["example"]), dataset, np.int16)}
    for name in _STORED:
        values = arrays[name]
        if name in _RAGGED:
            counts = arrays["masked" if name in ("positions", "labels") else "lengths"].astype(np.int64)
            columns[name] = _padded_lists(values, counts)
        else:
            columns[name] = values if name in ("example", "sop_labels") else values.astype(np.int32)
    return Examples(**columns)


def _padded_lists(values: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[np.int32]:
    used = np.arange(max(1, counts.max(initial=0))) < counts[:, None]
    result = np.zeros(used.shape, np.int32)
    result[used] = values
    return result


def concatenate(parts: Sequence[Examples]) -> Examples:
    """Examples one after another, padded to the longest."""
    length = max(part.token_ids.shape[1] for part in parts)
    predictions = max(part.positions.shape[1] for part in parts)
    wide = [part.padded(length=length, predictions=predictions, rows=len(part)) for part in parts]
    return Examples(
        **{field.name: np.concatenate([getattr(part, field.name) for part in wide]) for field in fields(Examples)}
    )

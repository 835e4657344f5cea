"""Whole numbers of which some are frequent: a byte for each of these, two for the others; any are read at once.

    stored = coded(ids)                         # arrays by name; None where that saves nothing
    Codes(**stored).ranges(start, count)        # some stretches of `ids`; no others are looked at

The numbers that an array holds are listed by falling frequency (`table`). The first have a byte of their own; the
bytes that are left begin codes of two, whose second bytes lie in an array of their own (`seconds`). How many of these
come before every 64th number is stored (`marks`), so that those of any stretch are found.
"""

import numpy as np
from numpy.typing import NDArray

from lossary.data.ragged import offsets_of, ranges

__all__ = ["Codes", "coded"]

_BYTE = 256
_MARK = 64
# No vocabulary has so many pieces; numbers above it are not counted one by one.
_MOST = 1 << 21


def coded(values: NDArray[np.generic]) -> dict[str, NDArray[np.generic]] | None:
    """What numbers (N,), none negative and one at least, are stored as; None if it takes no fewer bytes than they do.

    `codes` has zeros at its end up to a multiple of 64.
    """
    if values.max() >= _MOST:
        return None
    counts = np.bincount(values)
    (present,) = counts.nonzero()
    single = _single(len(present))
    if single < 1:
        return None
    table = present[np.argsort(-counts[present], kind="stable")].astype(values.dtype)
    rank = np.arange(len(table))
    first, second = np.zeros(len(counts), np.uint8), np.zeros(len(counts), np.uint8)
    first[table] = np.where(rank < single, rank, single + (rank - single) // _BYTE)
    second[table] = (rank - single) % _BYTE
    codes = np.zeros(-(-len(values) // _MARK) * _MARK, np.uint8)
    codes[: len(values)] = first[values]
    has_second = codes >= single
    stored = {
        "codes": codes,
        "seconds": second[values[has_second[: len(values)]]],
        "marks": offsets_of(np.count_nonzero(has_second.reshape(-1, _MARK), axis=1))[:-1].astype(np.uint32),
        "table": table,
    }
    return stored if sum(part.nbytes for part in stored.values()) < values.nbytes else None


def _single(different: int) -> int:
    """How many codes have one byte where so many numbers are different; below 1 if two bytes are too few for all."""
    return _BYTE - max(0, -(-(different - _BYTE) // (_BYTE - 1)))


class Codes:
    """Numbers that `coded` stored."""

    def __init__(
        self,
        *,
        codes: NDArray[np.uint8],
        seconds: NDArray[np.uint8],
        marks: NDArray[np.uint32],
        table: NDArray[np.generic],
    ) -> None:
        self._codes, self._seconds, self._marks, self._table = codes, seconds, marks, table
        self._single = _single(len(table))

    def first(self, count: int) -> NDArray[np.generic]:
        """So many from the first one on."""
        codes = self._codes[:count]
        return self._meant(codes, codes >= self._single, self._seconds)

    def ranges(self, start: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.generic]:
        """Stretches (n,), one after another."""
        codes = self._codes[ranges(start, count)]
        has_second = codes >= self._single
        seconds = np.diff(offsets_of(has_second)[offsets_of(count)])
        return self._meant(codes, has_second, self._seconds[ranges(self._seconds_before(start), seconds)])

    def _meant(
        self, codes: NDArray[np.uint8], has_second: NDArray[np.bool_], seconds: NDArray[np.uint8]
    ) -> NDArray[np.generic]:
        ranks = codes.astype(np.int32)
        ranks[has_second] += (ranks[has_second] - self._single) * (_BYTE - 1) + seconds
        return self._table[ranks]

    def _seconds_before(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many second bytes belong to codes before some places (n,)."""
        mark = np.minimum(at // _MARK, len(self._marks) - 1)
        since = self._codes.reshape(-1, _MARK)[mark] >= self._single
        since &= np.arange(_MARK) < (at - mark * _MARK)[:, None]
        before: NDArray[np.int64] = self._marks[mark] + np.count_nonzero(since, axis=1)
        return before

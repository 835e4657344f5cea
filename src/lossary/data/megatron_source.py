"""Megatron's tokenised datasets: tokens in a .bin, where documents lie in an .idx of the same name.

An index is a magic, a version, the type of the tokens, how many sequences and documents; then sizes and places of the
sequences and the documents' first ones. Sizes have to fill the .bin, and a document to be one sequence: of several,
what stood between them is not kept.

    for piece in token_pieces(file): ...        # tokens of some documents
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lossary.data.parsing import BLOCK_BYTES, MOST_DOCUMENT_BYTES
from lossary.data.source_files import SourceFile, open_source
from lossary.data.tables import MOST_BLOCK_ROWS
from lossary.errors import SourceError

__all__ = ["TokenPiece", "token_pieces"]

_MAGIC = b"MMIDIDX\0\0"
_OLD_MAGIC = b"TNTIDX\0\0"
_HEAD = 34
_KINDS = {1: "|u1", 2: "|i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_NO_TOKENS = {6: "float64", 7: "float32"}
# About four bytes of text each.
_PIECE_TOKENS = BLOCK_BYTES // 4
_READ_DOCUMENTS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class TokenPiece:
    """Tokens of some documents, as they lie in the file."""

    kind: str
    sizes: list[int]
    data: bytes


@dataclass(frozen=True, kw_only=True)
class _Index:
    """What an index says, read as far as it is needed."""

    path: str
    kind: np.dtype[Any]
    count: int

    def sizes(self, handle: BinaryIO) -> Iterator[NDArray[np.int32]]:
        """Sizes of the documents in order, checked against places and first sequences."""
        place, known = 0, 0
        starts = (_HEAD, _HEAD + 4 * self.count, _HEAD + 12 * self.count)
        for first in range(0, self.count, _READ_DOCUMENTS):
            count = min(_READ_DOCUMENTS, self.count - first)
            sizes = self._part(handle, starts[0] + 4 * first, "<i4", count)
            places = self._part(handle, starts[1] + 8 * first, "<i8", count)
            firsts = self._part(handle, starts[2] + 8 * first, "<i8", count + 1)
            ends = place + np.cumsum(sizes, dtype=np.int64) * self.kind.itemsize
            if sizes.min() < 0 or np.any(places != np.concatenate([[place], ends[:-1]])):
                raise SourceError(f"sizes and places do not follow one another from {first:,} on", where=self.path)
            if np.any(firsts != np.arange(known, known + count + 1)):
                raise SourceError(f"the documents from {first:,} on are not one sequence each", where=self.path)
            place, known = int(ends[-1]), known + count
            yield sizes

    def end(self, handle: BinaryIO) -> int:
        """Where the last document ends in the .bin."""
        if not self.count:
            return 0
        size = self._part(handle, _HEAD + 4 * (self.count - 1), "<i4", 1)
        place = self._part(handle, _HEAD + 4 * self.count + 8 * (self.count - 1), "<i8", 1)
        return int(place[0]) + int(size[0]) * self.kind.itemsize

    def _part(self, handle: BinaryIO, place: int, kind: str, count: int) -> NDArray[Any]:
        handle.seek(place)
        data = handle.read(count * np.dtype(kind).itemsize)
        if len(data) != count * np.dtype(kind).itemsize:
            raise SourceError("the index is cut short", where=self.path)
        return np.frombuffer(data, kind)


def token_pieces(file: SourceFile) -> Iterator[TokenPiece]:
    """The tokens of a .bin in pieces of about BLOCK_BYTES of text. SourceError if file and index do not fit."""
    path = file.layout["index"]
    try:
        with open_source(path) as index_file, file.open() as handle:
            index = _index(index_file, path)
            end = index.end(index_file)
            if end != file.bytes:
                raise SourceError(f"it has {file.bytes:,} bytes; its index tells of {end:,}", where=file.path)
            for sizes in index.sizes(index_file):
                for part in _parts(sizes):
                    yield _piece(handle, index, part, file)
    except OSError as error:
        raise SourceError(f"not readable: {error.strerror or error}", where=file.path) from None


def _piece(handle: BinaryIO, index: _Index, sizes: NDArray[np.int32], file: SourceFile) -> TokenPiece:
    longest = int(sizes.max())
    if longest > MOST_DOCUMENT_BYTES:
        raise SourceError(f"a document has {longest:,} tokens; {MOST_DOCUMENT_BYTES:,} at most", where=file.path)
    wanted = int(sizes.sum(dtype=np.int64)) * index.kind.itemsize
    data = handle.read(wanted)
    if len(data) != wanted:
        raise SourceError("the file is cut short", where=file.path)
    return TokenPiece(kind=index.kind.str, sizes=sizes.tolist(), data=data)


def _parts(sizes: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    """Documents up to the one with which there are _PIECE_TOKENS of tokens."""
    ends, start = np.cumsum(sizes, dtype=np.int64), 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        end = min(int(np.searchsorted(ends, before + _PIECE_TOKENS)) + 1, start + MOST_BLOCK_ROWS, len(sizes))
        yield sizes[start:end]
        start = end


def _index(handle: BinaryIO, path: str) -> _Index:
    head = handle.read(_HEAD)
    if head.startswith(_OLD_MAGIC):
        raise SourceError("it is an index of fairseq's older form", where=path, hint="Make it anew with Megatron.")
    if not head.startswith(_MAGIC):
        raise SourceError(f"it begins with {head[:9]!r}; Megatron's {_MAGIC!r} is expected", where=path)
    if len(head) < _HEAD:
        raise SourceError("the index is cut short", where=path)
    version, code = int.from_bytes(head[9:17], "little"), head[17]
    if version != 1:
        raise SourceError(f"it is of version {version}; 1 is expected", where=path)
    if code not in _KINDS:
        what = f"of the type {_NO_TOKENS[code]}, no tokens" if code in _NO_TOKENS else f"of the unknown type {code}"
        raise SourceError(f"it is {what}", where=path, hint=f"Known: {', '.join(map(str, _KINDS))}.")
    sequences, documents = np.frombuffer(head[18:], "<u8").tolist()
    if sequences != documents - 1:
        raise SourceError(
            f"{documents - 1:,} documents are of {sequences:,} sequences; one each is expected",
            where=path,
            hint="What stood between sentences that were split is not kept. Make it anew without splitting them.",
        )
    size, expected = handle.seek(0, 2), _HEAD + 12 * sequences + 8 * documents
    if size != expected:
        raise SourceError(f"the index has {size:,} bytes; {expected:,} are expected of what it says", where=path)
    return _Index(path=path, kind=np.dtype(_KINDS[code]), count=sequences)

"""Where in raw texts the pieces of a shard are from.

    places = PiecePlaces(tokenizer).of(documents, raw)
    raw_bytes = places.buffer[places.begin[0] : places.end[0]]

Most texts are spelled by their pieces but for case and white space; there every character is found by counting. Others
are tokenised again, with places, which takes ten times as long. Both are proofs: `NotTheSame` where the pieces are not
those of the texts.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.ragged import offsets_of, ranges
from lossary.data.shards import Shard
from lossary.data.tokenizer import StudyTokenizer

__all__ = ["NotTheSame", "PiecePlaces", "Places", "white_codes"]

# Offsets are Python's numbers for a while: so many bytes at a time.
_BYTES_A_CALL = 1 << 18


class NotTheSame(Exception):
    """Documents are not what examples were frozen from; the message says how that is known."""


class Places(NamedTuple):
    """Texts in UTF-8, a line break after each, and the bytes (N,) of every piece, white space around them or not."""

    buffer: bytes
    begin: NDArray[np.int64]
    end: NDArray[np.int64]


class _Characters(NamedTuple):
    """Characters (C,) of texts that are no white space."""

    code: NDArray[np.uint32]
    document: NDArray[np.int64]
    begin: NDArray[np.int64]  # bytes of the buffer
    end: NDArray[np.int64]


class PiecePlaces:
    """Finds pieces of one tokenizer."""

    def __init__(self, tokenizer: StudyTokenizer) -> None:
        self._tokenizer = tokenizer
        spelled = ["".join(text.split()) for text in tokenizer.texts]
        self._codes = np.frombuffer("".join(spelled).encode("utf-32-le"), np.uint32)
        self._starts = offsets_of(np.array([len(piece) for piece in spelled], np.int64))

    def of(self, documents: Shard, raw: Sequence[tuple[str, ...]]) -> Places:
        """The places of all pieces of some documents, given their texts."""
        texts = ["\n".join(fields) for fields in raw]
        sizes = np.diff(documents.id_offsets)
        begin, end = np.zeros(len(documents.ids), np.int64), np.zeros(len(documents.ids), np.int64)
        spelled = self._spelled(documents, texts, begin, end)
        buffer = "\n".join(texts).encode()
        starts = offsets_of(np.array([len(text.encode()) + 1 for text in texts], np.int64))
        for number in np.flatnonzero(~spelled & (sizes > 0)).tolist():
            at = slice(documents.id_offsets[number], documents.id_offsets[number + 1])
            # Both fields of a pair, and the lines of other texts, were tokenised apart.
            lines = list(raw[number]) if documents.pair else texts[number].split("\n")
            ids, found = self._again(lines)
            if not np.array_equal(ids, documents.ids[at]):
                raise NotTheSame("its texts are no longer tokenised as they were")
            begin[at], end[at] = found.T + starts[number]
        return Places(buffer, begin, end)

    def _spelled(
        self, documents: Shard, texts: list[str], begin: NDArray[np.int64], end: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Finds the pieces of documents (D,) that spell their texts; says which do."""
        seen = _characters(texts)
        ids = documents.ids.astype(np.int64)
        size = self._starts[ids + 1] - self._starts[ids]
        before = offsets_of(size)
        code = self._codes[ranges(self._starts[ids], size)]
        counts = np.bincount(seen.document, minlength=len(texts))
        # Something has to be next to a piece of white space alone.
        same = (counts > 0) & (counts == np.diff(before[documents.id_offsets]))
        document = np.repeat(np.arange(len(texts)), np.diff(before[documents.id_offsets]))
        mine, theirs = code[same[document]], seen.code[same[seen.document]]
        of = document[same[document]]
        differs = [np.bincount(of[mine != other], minlength=len(texts)) > 0 for other in (theirs, _folded(theirs))]
        spelled: NDArray[np.bool_] = same & ~(differs[0] & differs[1])
        number = np.repeat(np.arange(len(texts)), np.diff(documents.id_offsets))
        chosen = spelled[number]
        stops = offsets_of(counts)
        shift = stops[:-1] - before[documents.id_offsets[:-1]]
        first, stop = (before[:-1] + shift[number])[chosen], (before[1:] + shift[number])[chosen]
        is_last = first == stops[1:][number[chosen]]
        begin[chosen] = np.where(is_last, seen.end[first - 1], seen.begin[np.minimum(first, len(seen.begin) - 1)])
        end[chosen] = np.where(first < stop, seen.end[stop - 1], begin[chosen])
        return spelled

    def _again(self, lines: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The pieces of lines, and the bytes (n, 2) of the text of all lines that each is from."""
        data = [line.encode() for line in lines]
        starts = offsets_of(np.array([len(line) + 1 for line in data], np.int64))
        ids, places = [np.zeros(0, np.int32)], [np.zeros((0, 2), np.int64)]
        for batch in _batches(data):
            for start, (pieces, found) in zip(starts[batch], self._tokenizer.places(data[batch]), strict=False):
                ids.append(pieces)
                places.append(found + start)
        return np.concatenate(ids), np.concatenate(places)


def _batches(lines: Sequence[bytes]) -> list[slice]:
    """Lines of so many bytes together, one at least."""
    cuts, size = [0], 0
    for number, line in enumerate(lines):
        if size and size + len(line) > _BYTES_A_CALL:
            cuts.append(number)
            size = 0
        size += len(line) + 1
    return [slice(*pair) for pair in zip(cuts, [*cuts[1:], len(lines)], strict=True)]


def _characters(texts: list[str]) -> _Characters:
    codes = np.frombuffer("\n".join(texts).encode("utf-32-le"), np.uint32)
    at = np.flatnonzero(~white_codes(codes))
    sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    places = offsets_of(sizes)
    first = offsets_of(np.array([len(text) + 1 for text in texts], np.int64))
    return _Characters(codes[at], np.searchsorted(first, at, side="right") - 1, places[at], places[at + 1])


def _folded(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Characters in lower case, where that is one character."""
    different, which = np.unique(codes, return_inverse=True)
    folded = [chr(code).casefold() for code in different.tolist()]
    table = [ord(one) if len(one) == 1 else code for one, code in zip(folded, different.tolist(), strict=True)]
    return np.array(table, np.uint32)[which]


@lru_cache(maxsize=1)
def _is_white() -> NDArray[np.bool_]:
    # No white space has a larger number than the ideographic space.
    return np.array([chr(code).isspace() for code in range(0x3002)])


def white_codes(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which characters (N,), given by their numbers, are white space."""
    found: NDArray[np.bool_] = _is_white()[np.minimum(codes, len(_is_white()) - 1)]
    return found

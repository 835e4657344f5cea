"""Where pieces lie in a text: characters to bytes, ranges that never descend, and the pieces that start words.

begin, end = byte_ranges(text, offsets)            # of the UTF-8 of the text as it was written
starts_word(text, begin, end)                      # (n,): pieces after white space, and the first one
"""

import sys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranges", "byte_ranges", "ends_sentence", "settled", "starts_word"]

_TERMINAL = ".!?…。！？"
# Closing quotes and brackets may stand between the full stop and the next word.
_CLOSING = "\"'”’»)]}"


class Ranges(NamedTuple):
    """Bytes of pieces (n,) each, from `begin` to before `end`."""

    begin: NDArray[np.int32]
    end: NDArray[np.int32]


def byte_ranges(text: str, offsets: Sequence[tuple[int, int]]) -> Ranges:
    """Ranges of characters as ranges of bytes.

    Marks that combine with the character before them belong to its piece: the library leaves them out where the
    normaliser makes one character of both, or drops them.
    """
    found = np.array(offsets, np.int32).reshape(-1, 2)
    if not text.isascii():
        _take_in_marks(text, found)
        found = _byte_starts(text)[found]
    return Ranges(found[:, 0], found[:, 1])


def _take_in_marks(text: str, found: NDArray[np.int32]) -> None:
    following = np.append(found[1:, 0], len(text))
    for number in np.flatnonzero((following > found[:, 1]) & (found[:, 1] > found[:, 0])):
        stop = int(found[number, 1])
        while stop < following[number] and unicodedata.category(text[stop]).startswith("M"):
            stop += 1
        found[number, 1] = stop


def settled(text: str, ranges: Ranges, is_white: NDArray[np.bool_]) -> Ranges:
    """Ranges that never descend; `is_white` (n,): pieces that are white space alone.

    Such a piece may stand for white space that nobody wrote, before the first word: it then gets no byte. Of several
    pieces that one character became, all get its range: libraries give it to the last one, or to each.
    """
    if len(ranges.begin) < 2:
        return ranges
    begin = np.maximum.accumulate(ranges.begin)
    end = np.maximum(np.maximum.accumulate(ranges.end), begin)
    invented = is_white[:-1] & (end[:-1] > begin[1:])
    end[:-1] = np.where(invented, begin[1:], end[:-1])
    written = _written(text)
    without_text = (written[end] == written[begin]) & ~is_white
    for number in np.flatnonzero(without_text[:-1])[::-1]:
        if begin[number + 1] == end[number]:
            end[number] = end[number + 1]
    return Ranges(begin, end)


def _written(text: str) -> NDArray[np.int64]:
    """(bytes + 1,) bytes that are not of white space, before each place."""
    return np.concatenate([[0], np.cumsum(~_white_bytes(text))])


def starts_word(text: str, ranges: Ranges) -> NDArray[np.bool_]:
    """(n,) pieces that start a word: the first, and those after white space.

    White space that is a piece of its own starts the word after it; at the end of a text it belongs to the last word.
    Pieces of one character are of one word.
    """
    begin, end = ranges
    starts = np.zeros(len(begin), np.bool_)
    if not len(begin):
        return starts
    white = _white_bytes(text)
    written = _written(text)
    has_text = written[end] > written[begin]
    # The first byte of each piece that is not white space.
    core = np.minimum(np.searchsorted(written, written[begin], side="right") - 1, len(white))
    filled = np.flatnonzero(has_text)
    if len(filled):
        places = core[filled]
        after_white = (places > 0) & white[np.maximum(places - 1, 0)]
        moved = np.diff(places, prepend=-1) > 0
        first_of_word = filled[after_white & moved]
        # Back over the pieces of white space in front of the word.
        last_filled = np.maximum.accumulate(np.where(has_text, np.arange(len(begin)), -1))
        starts[np.where(first_of_word > 0, last_filled[np.maximum(first_of_word - 1, 0)] + 1, 0)] = True
    starts[0] = True
    return starts


def ends_sentence(text: str, ranges: Ranges) -> NDArray[np.bool_]:
    """(n,) pieces after which a sentence ends if a word starts there: at .!?…, and quotes or brackets after it."""
    encoded = text.encode()
    ends = np.zeros(len(ranges.end), np.bool_)
    for mark in _TERMINAL:
        _mark(encoded, mark.encode(), ranges.end, ends)
    return ends


def _mark(encoded: bytes, mark: bytes, end: NDArray[np.int32], ends: NDArray[np.bool_]) -> None:
    """Marks the piece that ends where `mark` and what may close it do."""
    place = encoded.find(mark)
    while place >= 0:
        stop = place + len(mark)
        while closing := next((c for c in _CLOSING_BYTES if encoded.startswith(c, stop)), None):
            stop += len(closing)
        number = int(np.searchsorted(end, stop, side="right")) - 1
        if number >= 0 and end[number] == stop:
            ends[number] = True
        place = encoded.find(mark, place + 1)


_CLOSING_BYTES = tuple(character.encode() for character in _CLOSING)


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _byte_starts(text: str) -> NDArray[np.int32]:
    """(characters + 1,) where each character begins, and where the last one ends."""
    codes = _codes(text)
    starts = np.zeros(len(codes) + 1, np.int32)
    np.cumsum(1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000), out=starts[1:])
    return starts


@lru_cache(maxsize=1)
def _white_codes() -> NDArray[np.uint32]:
    return np.array([code for code in range(min(0x4000, sys.maxunicode)) if chr(code).isspace()], np.uint32)


def _white_bytes(text: str) -> NDArray[np.bool_]:
    """(bytes,) that are of white space."""
    codes = _codes(text)
    white = np.isin(codes, _white_codes())
    return white if text.isascii() else np.repeat(white, np.diff(_byte_starts(text)))

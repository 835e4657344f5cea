"""Where pieces lie in a text: characters to bytes, ranges that never descend, and the pieces that start words.

text = Text("\n".join(texts))                         # one or many: what is counted is counted once
ranges = settled(text, byte_ranges(text, offsets), is_white)
starts_word(text, ranges, firsts)                     # (n,): the first pieces, and those after white space
"""

import re
import unicodedata
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranges", "Text", "byte_ranges", "ends_sentence", "settled", "starts_word"]

# Closing quotes and brackets may stand between the full stop and the next word.
_TERMINAL, _CLOSING = ".!?…。！？", "\"'”’»)]}"
_SENTENCE_END = re.compile(
    b"(?:%s)(?:%s)*" % tuple(b"|".join(re.escape(c).encode() for c in marks) for marks in (_TERMINAL, _CLOSING))
)
# All white space lies below: U+3000 is the last.
_CODES = 0x4000


class Ranges(NamedTuple):
    """Bytes of pieces (n,) each, from `begin` to before `end`."""

    begin: NDArray[np.int32]
    end: NDArray[np.int32]


class Text:
    """A text, or several with a line break between them, and what is counted in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.encoded = text.encode()
        self.is_ascii = len(text) == len(self.encoded)

    @cached_property
    def codes(self) -> NDArray[np.uint32]:
        """Its characters."""
        return np.frombuffer(self.text.encode("utf-32-le"), np.uint32)

    @cached_property
    def byte_starts(self) -> NDArray[np.int32]:
        """(characters + 1,) where each character begins, and where the last one ends."""
        codes = self.codes
        starts = np.zeros(len(codes) + 1, np.int32)
        np.cumsum(1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000), out=starts[1:])
        return starts

    @cached_property
    def white(self) -> NDArray[np.bool_]:
        """(bytes,) that are of white space."""
        if self.is_ascii:
            return _white_table()[np.frombuffer(self.encoded, np.uint8)]
        return np.repeat(_white_table()[np.minimum(self.codes, _CODES - 1)], np.diff(self.byte_starts))

    @cached_property
    def written(self) -> NDArray[np.int32]:
        """(bytes + 1,) bytes that are not of white space, before each place."""
        counts = np.zeros(len(self.encoded) + 1, np.int32)
        np.cumsum(~self.white, out=counts[1:])
        return counts


@lru_cache(maxsize=1)
def _white_table() -> NDArray[np.bool_]:
    return np.array([chr(code).isspace() for code in range(_CODES)])


def byte_ranges(text: Text, offsets: NDArray[np.int32]) -> Ranges:
    """Ranges (n, 2) of characters as ranges of bytes.

    Marks that combine with the character before them belong to its piece: the library leaves them out where the
    normaliser makes one character of both, or drops them.
    """
    if not text.is_ascii:
        offsets = text.byte_starts[_with_marks(text, offsets)]
    return Ranges(offsets[:, 0], offsets[:, 1])


def _with_marks(text: Text, offsets: NDArray[np.int32]) -> NDArray[np.int32]:
    found = offsets.copy()
    following = np.append(found[1:, 0], len(text.codes))
    gaps = np.flatnonzero((following > found[:, 1]) & (found[:, 1] > found[:, 0]))
    marks = [code for code in np.unique(text.codes[found[gaps, 1]]).tolist() if _is_mark(code)]
    for number in gaps[np.isin(text.codes[found[gaps, 1]], marks)].tolist():
        stop = int(found[number, 1])
        while stop < following[number] and _is_mark(int(text.codes[stop])):
            stop += 1
        found[number, 1] = stop
    return found


@lru_cache(maxsize=4096)
def _is_mark(code: int) -> bool:
    return unicodedata.category(chr(code)).startswith("M")


def settled(text: Text, ranges: Ranges, is_white: NDArray[np.bool_]) -> Ranges:
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
    without_text = (text.written[end] == text.written[begin]) & ~is_white
    for number in np.flatnonzero(without_text[:-1])[::-1].tolist():
        if begin[number + 1] == end[number]:
            end[number] = end[number + 1]
    return Ranges(begin, end)


def starts_word(text: Text, ranges: Ranges, firsts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) pieces that start a word: the first of each text (their numbers are `firsts`), and those after white space.

    White space that is a piece of its own starts the word after it; at the end of a text it belongs to the last word.
    Pieces of one character are of one word.
    """
    begin, end = ranges
    starts = np.zeros(len(begin), np.bool_)
    if not len(begin):
        return starts
    written, white = text.written, text.white
    filled = np.flatnonzero(written[end] > written[begin])
    if len(filled):
        # The first byte of each piece that is not white space.
        places = np.flatnonzero(~white)[written[begin[filled]]]
        after_white = (places > 0) & white[np.maximum(places - 1, 0)]
        moved = np.diff(places, prepend=-1) > 0
        # Back over the pieces of white space in front of the word, as far as its text goes.
        before = np.concatenate([[0], filled[:-1] + 1])
        own_first = firsts[np.searchsorted(firsts, filled, side="right") - 1]
        starts[np.maximum(before, own_first)[after_white & moved]] = True
    starts[firsts] = True
    return starts


def ends_sentence(text: Text, ranges: Ranges) -> NDArray[np.bool_]:
    """(n,) pieces after which a sentence ends if a word starts there: at .!?…, and quotes or brackets after it."""
    ends = np.zeros(len(ranges.end), np.bool_)
    stops = np.array([found.end() for found in _SENTENCE_END.finditer(text.encoded)], np.int64)
    last = np.searchsorted(ranges.end, stops, side="right") - 1
    known = last >= 0
    ends[last[known][ranges.end[last[known]] == stops[known]]] = True
    return ends

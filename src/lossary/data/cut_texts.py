"""Cuts the texts of examples out of their documents: the bytes of both segments and of each hidden word.

cutter = TextCutter(study, "wiki", tokenizer)
cutter.texts(examples, documents, raw)          # examples of some documents, their shard and their raw texts

Spans and segments are functions of (seed, dataset, example), so that the pieces of an example are found again in its
document; a tokenizer that tells the bytes of its pieces finds its text. `NotTheSame` where pieces are not those that
were frozen.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.assemble import Settings
from lossary.data.batches import ragged
from lossary.data.examples import Examples
from lossary.data.freeze import Cut
from lossary.data.frozen_texts import HIDDEN, KEPT, RANDOM, FrozenTexts
from lossary.data.philox import stream_key
from lossary.data.piece_places import NotTheSame, PiecePlaces, Places
from lossary.data.ragged import offsets_of, ranges
from lossary.data.segments import choose_segments
from lossary.data.shards import Shard
from lossary.data.tokenizer import StudyTokenizer
from lossary.study import Study

__all__ = ["TextCutter", "Trimmer"]


class _Bytes(NamedTuple):
    """Stretches (n,) of a buffer."""

    begin: NDArray[np.int64]
    end: NDArray[np.int64]


class _Stretches(NamedTuple):
    """Stretches (n,) of the pieces of a shard."""

    start: NDArray[np.int64]
    size: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_], other: "_Stretches") -> "_Stretches":
        """These where `chosen` (n,), others elsewhere."""
        return _Stretches(np.where(chosen, self.start, other.start), np.where(chosen, self.size, other.size))

    @property
    def flat(self) -> NDArray[np.int64]:
        return ranges(self.start, self.size)


class _Words(NamedTuple):
    """Hidden words (W,) in the order of the document."""

    row: NDArray[np.int64]  # of the example
    pieces: _Stretches
    treatment: NDArray[np.uint8]


class TextCutter:
    """Cuts texts of the examples of one dataset."""

    def __init__(self, study: Study, dataset: str, tokenizer: StudyTokenizer) -> None:
        self._tokenizer = tokenizer
        self._places = PiecePlaces(tokenizer)
        self._settings = Settings.of(study.recipe)
        self._added = tokenizer.template.num_added[1]
        self._before, self._between = tokenizer.template.places
        self._cut = Cut(study, dataset, study.recipe.sequence_length, self._added)
        self._keys = tuple(stream_key(study.seed, "validation", draw, dataset) for draw in ("split", "cut"))

    def texts(self, examples: Examples, documents: Shard, raw: Sequence[tuple[str, ...]]) -> FrozenTexts:
        """The texts of examples (B,) of some documents. NotTheSame if they are not of these documents."""
        first, second = self._segments(examples, documents)
        words = self._words(examples, documents, first, second)
        places = self._places.of(documents, raw)
        trim = Trimmer(places.buffer, self._tokenizer.is_blank)
        swapped = examples.sop_labels == 1
        earlier, later = second.where(swapped, first), first.where(swapped, second)
        a, b = trim(_bytes_of(places, earlier)), trim(_bytes_of(places, later))
        both, adjoin = (a.begin < a.end) & (b.begin < b.end), later.start == earlier.start + earlier.size
        # Where pieces were cut between the segments, a space stands for what is not shown.
        gap = np.where(both, np.where(adjoin, b.begin - a.end, 1), 0)
        first_end = a.end - a.begin
        second_begin = first_end + gap
        sizes = second_begin + b.end - b.begin
        found = trim(_bytes_of(places, words.pieces))
        row = words.row
        is_later = (later.size[row] > 0) & (words.pieces.start >= later.start[row])
        shift = np.where(is_later, second_begin[row] - b.begin[row], -a.begin[row])
        # A word of blank pieces may lie outside of what was trimmed.
        low, high = np.where(is_later, second_begin[row], 0), np.where(is_later, sizes[row], first_end[row])
        return FrozenTexts(
            text=_text(places.buffer, a, b, both, adjoin),
            offsets=offsets_of(sizes),
            first_end=first_end,
            second_begin=second_begin,
            swapped=swapped,
            words=np.searchsorted(row, np.arange(len(examples) + 1)),
            begin=np.clip(found.begin + shift, low, high),
            end=np.clip(found.end + shift, low, high),
            treatment=words.treatment,
        )

    def _segments(self, examples: Examples, documents: Shard) -> tuple[_Stretches, _Stretches]:
        """The pieces of both segments as a model is given them, proved to be those of the examples."""
        spans = self._cut.spans(documents)
        at = np.searchsorted(spans.example, examples.example)
        if at.max(initial=-1) >= len(spans) or (spans.example[at] != examples.example).any():
            raise NotTheSame("its spans are not those of its examples")
        rows = spans.rows(at)
        found = ragged([(np.arange(len(at)), rows.of(documents.ids), rows)], np.zeros(len(at), np.int16))
        keys = (self._keys[0], self._keys[1])
        room = self._settings.length - self._added
        chosen = choose_segments(found, room=room, sop=self._settings.sop, keys=keys, epoch=0)
        shift = spans.start[at] - found.offsets[:-1]
        first = _Stretches(chosen.first_start + shift, chosen.first_count)
        second = _Stretches(chosen.second_start + shift, chosen.second_count)
        column = np.arange(examples.token_ids.shape[1])
        stop = first.size[:, None] + self._before
        in_first = (column >= self._before) & (column < stop)
        again = stop + self._between
        in_second = (column >= again) & (column < again + second.size[:, None])
        pieces = examples.token_ids.copy()
        used = examples.weights > 0
        pieces[np.nonzero(used)[0], examples.positions[used]] = examples.labels[used]
        if (
            (chosen.sop_labels != examples.sop_labels).any()
            or not np.array_equal(pieces[in_first], documents.ids[first.flat])
            or not np.array_equal(pieces[in_second], documents.ids[second.flat])
        ):
            raise NotTheSame("the pieces of its documents are not those of its examples")
        return first, second

    def _words(self, examples: Examples, documents: Shard, first: _Stretches, second: _Stretches) -> _Words:
        """The hidden words: runs of hidden pieces up to the next one that starts a word, or a segment."""
        used = examples.weights > 0
        row, position, label = np.nonzero(used)[0], examples.positions[used].astype(np.int64), examples.labels[used]
        again = first.size[row] + self._before + self._between  # where the second segment begins
        in_first = position < again
        piece = np.where(in_first, first.start[row] + position - self._before, second.start[row] + position - again)
        known = self._tokenizer.is_word_start
        starts = (position == self._before) | (position == again)
        starts |= known[label] if known is not None else documents.word_starts[piece]
        starts[1:] |= (row[1:] != row[:-1]) | (position[1:] != position[:-1] + 1)
        at = np.flatnonzero(starts)
        seen = examples.token_ids[row[at], position[at]]
        treatment = np.where(
            seen == self._tokenizer.specials.mask, HIDDEN, np.where(seen == label[at], KEPT, RANDOM)
        ).astype(np.uint8)
        order = np.lexsort((piece[at], row[at]))
        pieces = _Stretches(piece[at][order], np.diff(at, append=len(row))[order])
        return _Words(row[at][order], pieces, treatment[order])


def _bytes_of(places: Places, pieces: _Stretches) -> _Bytes:
    """From the first byte of the first piece to the last one of the last; nothing where there is no piece."""
    if not len(places.begin):
        return _Bytes(np.zeros(len(pieces.start), np.int64), np.zeros(len(pieces.start), np.int64))
    most = len(places.begin) - 1
    begin = places.begin[np.minimum(pieces.start, most)]
    end = places.end[np.clip(pieces.start + pieces.size - 1, 0, most)]
    return _Bytes(begin, np.where(pieces.size > 0, end, begin))


def _text(buffer: bytes, a: _Bytes, b: _Bytes, both: NDArray[np.bool_], adjoin: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The texts of all examples: the earlier segment, what is between, the later one."""
    parts = []
    for start, end, again, stop, are_two, goes_on in zip(
        a.begin.tolist(), a.end.tolist(), b.begin.tolist(), b.end.tolist(), both.tolist(), adjoin.tolist(), strict=True
    ):
        if are_two and goes_on:
            parts.append(buffer[start:stop])
        else:
            parts += [buffer[start:end], b" " if are_two else b"", buffer[again:stop]]
    return np.frombuffer(b"".join(parts), np.uint8)


class Trimmer:
    """Leaves out blank characters at both ends of stretches of a text in UTF-8; what is blank is said by a function."""

    def __init__(self, text: bytes, is_blank: Callable[[str], bool]) -> None:
        self._text = np.frombuffer(text + bytes(4), np.uint8)
        self._is_blank = is_blank

    def __call__(self, stretches: _Bytes) -> _Bytes:
        begin, end = stretches.begin.copy(), stretches.end.copy()
        going = np.flatnonzero(begin < end)
        while len(going):
            width = self._blank(begin[going])
            begin[going] += width
            going = going[(width > 0) & (begin[going] < end[going])]
        going = np.flatnonzero(begin < end)
        while len(going):
            last = end[going] - 1
            while (inside := (self._text[last] & 0xC0) == 0x80).any():
                last -= inside
            blank = self._blank(last) > 0
            end[going] = np.where(blank, last, end[going])
            going = going[blank & (begin[going] < end[going])]
        return _Bytes(begin, end)

    def _blank(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes (n,) of the characters that begin at some places; 0 for those that are not blank."""
        lead = self._text[at]
        width = 1 + (lead >= 0xC0).astype(np.int64) + (lead >= 0xE0) + (lead >= 0xF0)
        code = np.zeros(len(at), np.uint32)
        for byte in range(4):
            code |= np.where(byte < width, self._text[at + byte], 0).astype(np.uint32) << np.uint32(8 * byte)
        different, which = np.unique(code, return_inverse=True)
        characters = [int(one).to_bytes(4, "little").rstrip(b"\0") or b"\0" for one in different]
        blank = np.array([self._is_blank(character.decode()) for character in characters], bool)
        found: NDArray[np.int64] = np.where(blank[which], width, 0)
        return found

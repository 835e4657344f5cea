"""A segment that is no single stretch of a document, taken apart into the longest stretches that are.

From left to right: the longest stretch that starts where the last one ended is taken, scored places may differ (their
labels may be wrong); pieces that start no stretch are passed over.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lossary.data.ragged import ranges
from lossary.diagnosis.feeds.corpus import LONGEST_GRAM, Corpus, window_hashes
from lossary.diagnosis.feeds.layout import UNKNOWN

__all__ = ["Pieces", "take_apart"]

_MOST_PLACES = 16
_SHORTEST_GRAM = 3
_EDGE = 2  # pieces at either end of a segment that another sentence splitter may have cut otherwise
_HOME = 3  # pieces by which a stretch of another document has to be longer
_LONG = 4  # a stretch that says which document it is from, if it follows one of the same
_SURE = 8  # one that says so by itself, as a whole line does: shorter ones stand in many documents
_ENOUGH = 5  # unscored pieces of a segment that say whether it stands somewhere


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What S segments consist of."""

    start: NDArray[np.int64]  # (S,) the longest stretch; -1 if there is none
    stop: NDArray[np.int64]
    shift: NDArray[np.int64]  # (S,) where it starts in the segment
    unmatched: NDArray[np.int64]  # (S,) unscored pieces outside all stretches, the ends left out
    crosses: NDArray[np.bool_]  # (S,) stretches of two documents follow each other
    spliced: NDArray[np.bool_]  # (S,) stretches of one document follow each other that do not there


@dataclass
class _State:
    """Segments at work."""

    at: NDArray[np.int64]  # (S,) how far each is done
    covered: NDArray[np.bool_]  # flat
    best: NDArray[np.int64]  # (S,) size of the longest stretch
    start: NDArray[np.int64]
    shift: NDArray[np.int64]
    last_stop: NDArray[np.int64]  # (S,) where the last stretch ended in the corpus
    last_end: NDArray[np.int64]  # (S,) and in the segment
    last_size: NDArray[np.int64]
    last_sure: NDArray[np.bool_] = field(init=False)
    crosses: NDArray[np.bool_] = field(init=False)
    spliced: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.last_sure, self.crosses, self.spliced = (np.zeros(len(self.at), bool) for _ in range(3))


def take_apart(
    tokens: NDArray[np.int32],
    scored: NDArray[np.bool_],
    offset: NDArray[np.int64],
    size: NDArray[np.int64],
    corpus: Corpus,
) -> Pieces:
    """Takes segments [offset, offset + size) of flat `tokens` apart."""
    count = len(offset)
    flat = np.where(tokens[ranges(offset, size)] == UNKNOWN, -1, tokens[ranges(offset, size)]).astype(np.int32)
    free = scored[ranges(offset, size)] | (flat < 0)
    begin = np.cumsum(size) - size
    state = _State(
        np.zeros(count, np.int64), np.zeros(len(flat), bool), *(np.full(count, fill) for fill in (0, -1, 0, -1, -1, 0))
    )
    looker = _Looker(flat, free, begin, size, corpus)
    active = np.flatnonzero(size >= _SHORTEST_GRAM)
    while len(active):
        active = looker.turn(state, active)
    # A short document between two others may not be found: a segment of several is one of several, no altered one.
    unmatched = np.where(state.crosses, 0, _unmatched(state, free, begin, size))
    stop = np.where(state.start >= 0, state.start + state.best, -1)
    return Pieces(
        start=state.start,
        stop=stop,
        shift=state.shift,
        unmatched=unmatched,
        crosses=state.crosses,
        spliced=state.spliced,
    )


class _Looker:
    def __init__(
        self,
        flat: NDArray[np.int32],
        free: NDArray[np.bool_],
        begin: NDArray[np.int64],
        size: NDArray[np.int64],
        corpus: Corpus,
    ) -> None:
        self.flat, self.free, self.begin, self.size, self.corpus = flat, free, begin, size, corpus
        segment = np.repeat(np.arange(len(size)), size)
        self.next_hit, self.low, self.high = {}, {}, {}
        for gram in (LONGEST_GRAM, _SHORTEST_GRAM):
            hashes, whole = window_hashes(flat, gram)
            inside = segment[: len(hashes)] == segment[len(flat) - len(hashes) :]
            low, high = corpus.grams(gram).find(hashes)
            hit = whole & inside & (high > low)
            # The next place with a hit, or the end of everything.
            places = np.where(hit, np.arange(len(hit)), len(flat))
            self.next_hit[gram] = np.append(np.minimum.accumulate(places[::-1])[::-1], [len(flat)] * gram)
            self.low[gram], self.high[gram] = low, np.where(hit, high, low)

    def turn(self, state: _State, active: NDArray[np.int64]) -> NDArray[np.int64]:
        """Takes one more stretch of each active segment; returns those that are not done."""
        here = self.begin[active] + state.at[active]
        end = self.begin[active] + self.size[active]
        place = self.next_hit[LONGEST_GRAM][np.minimum(here, len(self.flat))]
        gram = np.full(len(active), LONGEST_GRAM)
        none = place >= end
        place[none] = self.next_hit[_SHORTEST_GRAM][np.minimum(here[none], len(self.flat))]
        gram[none] = _SHORTEST_GRAM
        going = place < end
        active, here, end, place, gram = (column[going] for column in (active, here, end, place, gram))
        if not len(active):
            return active
        start, length, begin = self._longest(state, active, here, end, place, gram)
        self._record(state, active, start, length, begin)
        done = begin + length >= end - (_SHORTEST_GRAM - 1)
        return active[~done]

    def _longest(
        self,
        state: _State,
        active: NDArray[np.int64],
        here: NDArray[np.int64],
        end: NDArray[np.int64],
        place: NDArray[np.int64],
        gram: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Corpus start, length and flat begin of the longest stretch at `place`, grown to the left as far as `here`."""
        low, high = np.zeros(len(active), np.int64), np.zeros(len(active), np.int64)
        for size in (LONGEST_GRAM, _SHORTEST_GRAM):
            mine = gram == size
            low[mine], high[mine] = self.low[size][place[mine]], self.high[size][place[mine]]
        count = np.minimum(high - low, _MOST_PLACES)
        onward, next_at = self._onward(state.last_stop[active], gram, low, high)
        which = np.concatenate([np.repeat(np.arange(len(active)), count), onward])
        at = np.concatenate([ranges(low, count), next_at])
        start = np.zeros(len(at), np.int64)
        for size in (LONGEST_GRAM, _SHORTEST_GRAM):
            mine = gram[which] == size
            start[mine] = self.corpus.grams(size).places[at[mine]]
        right = self._run(place[which], start, end[which] - place[which], 1)
        left = self._run(place[which] - 1, start - 1, (place - here)[which], -1)
        last = state.last_stop[active][which]
        same = (last >= 0) & (self.corpus.document[np.maximum(last - 1, 0)] == self.corpus.document[start])
        # A few words stand in many documents: another one has to say more than the one that the text is in.
        score = left + right + _HOME * same
        order = np.lexsort((np.arange(len(at)), -score, which))
        best = order[np.concatenate([[True], which[order][1:] != which[order][:-1]])]
        return start[best] - left[best], (left + right)[best], place - left[best]

    def _onward(
        self, last: NDArray[np.int64], gram: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of which segments a stretch stands somewhere behind the last one, and where in the index that is next."""
        total = len(self.corpus.ids)
        found = np.full(len(gram), -1, np.int64)
        for size in (LONGEST_GRAM, _SHORTEST_GRAM):
            mine = np.flatnonzero((gram == size) & (high > low) & (last >= 0))
            keys = self.corpus.grams(size).keys
            if len(mine):
                at = np.searchsorted(keys, keys[low[mine]] // total * total + last[mine])
                found[mine] = np.where(at < high[mine], at, -1)
        onward = np.flatnonzero(found >= 0)
        return onward, found[onward]

    def _run(
        self, flat: NDArray[np.int64], start: NDArray[np.int64], room: NDArray[np.int64], step: int
    ) -> NDArray[np.int64]:
        """How many pieces agree from (flat, start) on in the direction of `step`, at most `room`; free ones do."""
        length = np.zeros(len(flat), np.int64)
        going = np.flatnonzero(room > 0)
        ids = self.corpus.ids
        while len(going):
            mine, theirs = flat[going] + step * length[going], start[going] + step * length[going]
            inside = (theirs >= 0) & (theirs < len(ids))
            theirs = np.clip(theirs, 0, len(ids) - 1)
            same = inside & (ids[theirs] >= 0) & ((self.flat[mine] == ids[theirs]) | self.free[mine])
            going = going[same]
            length[going] += 1
            going = going[length[going] < room[going]]
        return length

    def _record(
        self,
        state: _State,
        active: NDArray[np.int64],
        start: NDArray[np.int64],
        length: NDArray[np.int64],
        begin: NDArray[np.int64],
    ) -> None:
        state.covered[ranges(begin, length)] = True
        shift = begin - self.begin[active]
        last, document = state.last_stop[active], self.corpus.document
        follows = (last >= 0) & (state.last_end[active] == shift)
        one = document[np.maximum(last - 1, 0)] == document[start]
        both_long = (length >= _LONG) & (state.last_size[active] >= _LONG)
        line_start, line_stop = self.corpus.line_start, self.corpus.line_stop
        line = self.corpus.line[start]
        sure = (length >= _SURE) | ((line_start[line] == start) & (line_stop[line] == start + length))
        state.crosses[active] |= follows & ~one & both_long & sure & state.last_sure[active]
        # Left-out lines are a choice; what is left out inside lines is none.
        lines = (line_stop[self.corpus.line[np.maximum(last - 1, 0)]] == last) & (
            line_start[self.corpus.line[start]] == start
        )
        state.spliced[active] |= follows & one & both_long & ~lines
        longer = length > state.best[active]
        chosen = active[longer]
        state.best[chosen], state.start[chosen], state.shift[chosen] = length[longer], start[longer], shift[longer]
        state.last_stop[active], state.last_end[active] = start + length, shift + length
        state.last_size[active] = length
        state.last_sure[active] = sure
        state.at[active] = shift + length


def _unmatched(
    state: _State, free: NDArray[np.bool_], begin: NDArray[np.int64], size: NDArray[np.int64]
) -> NDArray[np.int64]:
    place = np.arange(len(free)) - np.repeat(begin, size)
    inner = (place >= _EDGE) & (place < np.repeat(size, size) - _EDGE)
    missing = np.concatenate([[0], np.cumsum(~state.covered & ~free & inner)])
    known = np.concatenate([[0], np.cumsum(~free)])
    enough = known[begin + size] - known[begin] >= _ENOUGH
    return np.where(enough, missing[begin + size] - missing[begin], 0)

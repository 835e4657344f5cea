"""Where in the documents the segments of examples stand.

    aligned = align(lay_open(feed, tokenizer), corpus)
    aligned.first.document[7], aligned.first.start[7], aligned.first.stop[7]

Four pieces in a row are looked up in an index of all documents; what is found is compared piece by piece. A segment
that is no single stretch of one document is taken apart into the longest stretches, so that one that runs across
documents is seen as such. Where a text stands in several places, those are taken that make both segments consistent:
of one document, apart from each other, next to each other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.ragged import ranges
from lossary.diagnosis.feeds.corpus import LONGEST_GRAM, Corpus, window_hashes
from lossary.diagnosis.feeds.layout import FIRST, SECOND, UNKNOWN, Layout
from lossary.diagnosis.feeds.pieces import Pieces, take_apart

__all__ = ["Aligned", "Segments", "align"]

_MOST_PLACES = 12  # of one text that are looked at; more are found next to the other segment
_PROBES = 4  # stretches of a segment that are looked up
_LEAST_SHOWN = 4  # unscored pieces of a segment, so that it can be found by them alone
_NONE = -1


@dataclass(frozen=True, kw_only=True)
class Segments:
    """One segment of each of B examples; -1 where it stands nowhere, or there is none."""

    size: NDArray[np.int64]  # (B,) pieces; 0: no such segment
    document: NDArray[np.int64]  # (B,) of its longest stretch
    start: NDArray[np.int64]  # (B,) of that stretch, into the corpus
    stop: NDArray[np.int64]  # (B,)
    column: NDArray[np.int64]  # (B,) where that stretch starts in the example
    whole: NDArray[np.bool_]  # (B,) one stretch of one document, exactly, but for scored places
    unmatched: NDArray[np.int64]  # (B,) unscored pieces, two from either end left out, that stand in no document there
    crosses: NDArray[np.bool_]  # (B,) stretches of different documents follow each other
    spliced: NDArray[np.bool_]  # (B,) something inside its document is left out or repeated
    once: NDArray[np.bool_]  # (B,) its text stands once in its document
    alone: NDArray[np.bool_]  # (B,) and in no other document

    @property
    def found(self) -> NDArray[np.bool_]:
        """(B,) whether it stands anywhere."""
        return self.document >= 0


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Both segments of B examples."""

    first: Segments
    second: Segments
    dataset: NDArray[np.int64]  # (B,) as told, else that of the document; -1 if neither

    def __len__(self) -> int:
        return len(self.dataset)


@dataclass(frozen=True)
class _Texts:
    """S segments, flat."""

    row: NDArray[np.int64]  # (S,)
    part: NDArray[np.int64]  # (S,)
    column: NDArray[np.int64]  # (S,) of the first piece
    size: NDArray[np.int64]  # (S,)
    offset: NDArray[np.int64]  # (S,) into tokens
    tokens: NDArray[np.int32]
    scored: NDArray[np.bool_]


@dataclass(frozen=True)
class _Places:
    """C places where segments stand whole, sorted by segment."""

    segment: NDArray[np.int64]
    start: NDArray[np.int64]


def align(layout: Layout, corpus: Corpus, told: NDArray[np.int16] | None = None) -> Aligned:
    """Aligns both segments; `told` (B,) are the datasets that the feed tells, -1 where it does not."""
    texts = _texts(layout)
    rows = len(layout)
    known = np.full(rows, -1, np.int64) if told is None else told.astype(np.int64)
    found = _Found(_grams_of(texts, texts.tokens, corpus), texts.tokens)
    places = _choose(texts, _near_other(texts, found, _exact_places(texts, found, corpus), corpus), corpus, known)
    if (places < 0).any():
        # Labels may be wrong: what is left is looked for by its unscored pieces.
        unscored = np.where(texts.scored, UNKNOWN, texts.tokens)
        again = _Found(_grams_of(texts, unscored, corpus), unscored)
        more = _exact_places(texts, again, corpus)
        chosen = _choose(texts, _only(more, places < 0, places), corpus, known)
        # A few pieces stand anywhere.
        shown = np.add.reduceat(~texts.scored, texts.offset)
        lost = (places < 0) & (chosen >= 0) & (shown >= _LEAST_SHOWN)
        places = np.where(lost, chosen, places)
        found = _Found(_merged(found.grams, again.grams, lost), found.tokens)
    rest = np.flatnonzero(places < 0)
    pieces = take_apart(texts.tokens, texts.scored, texts.offset[rest], texts.size[rest], corpus)
    once = _once(places, found.grams, corpus)
    alone = once & ((found.grams.high - found.grams.low) == 1).any(axis=1)
    segments = [_segments(part, texts, places, (once, alone), (rest, pieces), corpus, rows) for part in (FIRST, SECOND)]
    document = np.where(segments[0].found, segments[0].document, segments[1].document)
    of_document = np.where(document >= 0, corpus.dataset[np.maximum(document, 0)] if len(corpus) else -1, -1)
    return Aligned(first=segments[0], second=segments[1], dataset=np.where(known >= 0, known, of_document))


def _texts(layout: Layout) -> _Texts:
    inside = layout.part >= FIRST
    row, column = np.nonzero(inside)
    part = layout.part[row, column].astype(np.int64)
    edge = np.ones(len(row), bool)
    edge[1:] = (row[1:] != row[:-1]) | (part[1:] != part[:-1])
    offset = np.flatnonzero(edge)
    size = np.diff(np.append(offset, len(row)))
    return _Texts(
        row[offset], part[offset], column[offset], size, offset, layout.tokens[row, column], layout.scored[row, column]
    )


@dataclass(frozen=True)
class _GramsOfTexts:
    """Of each segment a few stretches to look up: (S, probes) key stretches in the index of their size."""

    size: NDArray[np.int64]  # (S,) pieces of the stretches; 0 where none is whole
    shift: NDArray[np.int64]  # (S, probes) from the segment's start
    low: NDArray[np.int64]  # (S, probes) into that index
    high: NDArray[np.int64]


@dataclass(frozen=True)
class _Found:
    """What is looked up, and as which pieces segments are compared."""

    grams: _GramsOfTexts
    tokens: NDArray[np.int32]  # flat; UNKNOWN matches anything


def _grams_of(texts: _Texts, tokens: NDArray[np.int32], corpus: Corpus) -> _GramsOfTexts:
    """Stretches of known pieces, spread over each segment, as long as there are any (four pieces at most)."""
    count = len(texts.size)
    size = np.zeros(count, np.int64)
    shift, low, high = (np.zeros((count, _PROBES), np.int64) for _ in range(3))
    known = np.where(tokens == UNKNOWN, -1, tokens).astype(np.int32)
    segment = np.repeat(np.arange(count), texts.size)
    for gram in range(LONGEST_GRAM, 0, -1):
        left = size == 0
        if not left.any():
            break
        hashes, whole = window_hashes(known, gram)
        inside = segment[: len(hashes)] == segment[len(segment) - len(hashes) :]
        usable = np.flatnonzero(whole & inside & left[segment[: len(hashes)]])
        first = np.searchsorted(segment[usable], np.arange(count))
        many = np.searchsorted(segment[usable], np.arange(count), "right") - first
        chosen = np.flatnonzero(many > 0)
        if not len(chosen):
            continue
        at = usable[first[chosen, None] + (many[chosen, None] - 1) * np.arange(_PROBES) // (_PROBES - 1)]
        lows, highs = (found.reshape(at.shape) for found in corpus.grams(gram).find(hashes[at].ravel()))
        size[chosen], shift[chosen] = gram, at - texts.offset[chosen, None]
        low[chosen], high[chosen] = lows, highs
    return _GramsOfTexts(size, shift, low, high)


def _merged(grams: _GramsOfTexts, others: _GramsOfTexts, where: NDArray[np.bool_]) -> _GramsOfTexts:
    """The stretches of one or, where said so, of the other."""
    columns = (
        np.where(where if mine.ndim == 1 else where[:, None], theirs, mine) for mine, theirs in _both(grams, others)
    )
    return _GramsOfTexts(*columns)


def _both(grams: _GramsOfTexts, others: _GramsOfTexts) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    return [(getattr(grams, name), getattr(others, name)) for name in ("size", "shift", "low", "high")]


def _exact_places(texts: _Texts, found: _Found, corpus: Corpus) -> _Places:
    """Up to a dozen places of each segment's rarest stretch where all of it stands."""
    grams = found.grams
    hits = grams.high - grams.low
    rarest = hits.argmin(axis=1)
    rows = np.arange(len(texts.size))
    count = np.minimum(hits[rows, rarest], _MOST_PLACES)
    segment = np.repeat(rows, count)
    at = ranges(grams.low[rows, rarest], count)
    start = _place(at, grams.size[segment], corpus) - grams.shift[rows, rarest][segment]
    return _verified(texts, found.tokens, segment, start, corpus)


def _only(places: _Places, lost: NDArray[np.bool_], known: NDArray[np.int64]) -> _Places:
    """Places of lost segments, and of the others where they are known to stand."""
    mine = lost[places.segment]
    have = np.flatnonzero(known >= 0)
    segment = np.concatenate([places.segment[mine], have])
    start = np.concatenate([places.start[mine], known[have]])
    order = np.argsort(segment, kind="stable")
    return _Places(segment[order], start[order])


def _place(at: NDArray[np.int64], size: NDArray[np.int64], corpus: Corpus) -> NDArray[np.int64]:
    """Places of entries of the index of each size."""
    result = np.full(len(at), -1, np.int64)
    for gram in np.unique(size):
        mine = size == gram
        if gram > 0:
            result[mine] = corpus.grams(int(gram)).places[at[mine]]
    return result


def _verified(
    texts: _Texts, tokens: NDArray[np.int32], segment: NDArray[np.int64], start: NDArray[np.int64], corpus: Corpus
) -> _Places:
    """Those of the places where every known piece is the same and all lies inside one document."""
    size = texts.size[segment]
    inside = (start >= 0) & (start + size <= len(corpus.ids))
    segment, start, size = segment[inside], start[inside], size[inside]
    mine = tokens[ranges(texts.offset[segment], size)]
    theirs = corpus.ids[ranges(start, size)]
    same = ((mine == theirs) | (mine == UNKNOWN)) & (theirs >= 0)
    edges = np.concatenate([[0], np.cumsum(size)])
    wrong = np.concatenate([[0], np.cumsum(~same)])
    good = wrong[edges[1:]] == wrong[edges[:-1]]
    return _Places(segment[good], start[good])


def _partners(texts: _Texts) -> NDArray[np.int64]:
    """(S,) the other segment of the same example; -1 if there is none."""
    partner = np.full(len(texts.row), _NONE, np.int64)
    pair = np.flatnonzero((texts.row[1:] == texts.row[:-1]) & (texts.part[:-1] == FIRST) & (texts.part[1:] == SECOND))
    partner[pair], partner[pair + 1] = pair + 1, pair
    return partner


def _near_other(texts: _Texts, found: _Found, exact: _Places, corpus: Corpus) -> _Places:
    """More places of the segments that stand in many: the nearest behind and before each place of the other one."""
    partner = _partners(texts)
    grams = found.grams
    hits = (grams.high - grams.low).max(axis=1, initial=0)
    many = (hits > _MOST_PLACES) & (partner >= 0)
    # The other segment's places, each with this segment.
    use = np.flatnonzero((partner[exact.segment] >= 0) & many[partner[exact.segment]])
    if not len(use):
        return exact
    other, at = exact.segment[use], exact.start[use]
    segment = partner[other]
    document = corpus.document[at]
    segments, starts = [exact.segment], [exact.start]
    for behind in (True, False):
        for probe in (0, _PROBES - 1):
            near = _nearest(segment, np.where(behind, at + texts.size[other], at), behind, probe, texts, grams, corpus)
            good = (near >= 0) & (corpus.document[np.maximum(near, 0)] == document)
            extra = _verified(texts, found.tokens, segment[good], near[good], corpus)
            segments.append(extra.segment)
            starts.append(extra.start)
    return _sorted_once(np.concatenate(segments), np.concatenate(starts), len(corpus.ids))


def _nearest(
    segment: NDArray[np.int64],
    edge: NDArray[np.int64],
    behind: bool,
    probe: int,
    texts: _Texts,
    grams: _GramsOfTexts,
    corpus: Corpus,
) -> NDArray[np.int64]:
    """Where the segment may start: the nearest place of its stretch that begins at `edge` or later, or ends by it."""
    result = np.full(len(segment), _NONE, np.int64)
    low, high, shift = (column[segment, probe] for column in (grams.low, grams.high, grams.shift))
    limit = edge + shift if behind else edge - texts.size[segment] + shift
    for gram in range(1, LONGEST_GRAM + 1):
        mine = np.flatnonzero((grams.size[segment] == gram) & (high > low))
        if not len(mine):
            continue
        index = corpus.grams(gram)
        number = index.keys[low[mine]] // len(corpus.ids)
        wanted = number * len(corpus.ids) + np.clip(limit[mine], 0, len(corpus.ids) - 1)
        at = np.searchsorted(index.keys, wanted, "left") if behind else np.searchsorted(index.keys, wanted, "right") - 1
        good = (at >= low[mine]) & (at < high[mine])
        result[mine[good]] = index.places[at[good]] - shift[mine[good]]
    return result


def _sorted_once(segment: NDArray[np.int64], start: NDArray[np.int64], span: int) -> _Places:
    keys = np.unique(segment * span + start)
    return _Places(keys // span, keys % span)


def _choose(texts: _Texts, places: _Places, corpus: Corpus, told: NDArray[np.int64]) -> NDArray[np.int64]:
    """(S,) the place of each segment, -1 if it has none; both segments of an example are chosen together."""
    chosen = np.full(len(texts.size), _NONE, np.int64)
    counts = np.bincount(places.segment, minlength=len(texts.size))
    firsts = np.cumsum(counts) - counts
    wanted = told[texts.row[places.segment]]
    fits = (wanted >= 0) & (corpus.dataset[corpus.document[places.start]] == wanted)
    partner = _partners(texts)
    alone = (counts > 0) & ((partner < 0) | (counts[partner] == 0))
    entry = np.flatnonzero(alone[places.segment])
    _take_best(chosen, places.segment[entry], places.start[entry], fits[entry].astype(np.int64))
    left = np.flatnonzero((partner > np.arange(len(partner))) & (counts > 0) & (counts[partner] > 0))
    right = partner[left]
    pairs = counts[left] * counts[right]
    number = np.repeat(np.arange(len(left)), pairs)
    within = np.arange(len(number)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    a = firsts[left][number] + within // counts[right][number]
    b = firsts[right][number] + within % counts[right][number]
    score = _consistency(places, a, b, texts, corpus) + 2 * fits[a] + 2 * fits[b]
    best = np.full(len(left), -1, np.int64)
    _take_best(best, number, np.arange(len(number)), score)
    chosen[left], chosen[right] = places.start[a[best]], places.start[b[best]]
    return chosen


def _consistency(
    places: _Places, a: NDArray[np.int64], b: NDArray[np.int64], texts: _Texts, corpus: Corpus
) -> NDArray[np.int64]:
    start_a, start_b = places.start[a], places.start[b]
    stop_a, stop_b = start_a + texts.size[places.segment[a]], start_b + texts.size[places.segment[b]]
    one = corpus.document[start_a] == corpus.document[start_b]
    apart = one & ((stop_a <= start_b) | (stop_b <= start_a))
    adjacent = apart & ((stop_a == start_b) | (stop_b == start_a))
    # A second place in the same document beats the same place twice; the right dataset beats what is left.
    return 16 * one.astype(np.int64) + 8 * apart + adjacent


def _take_best(
    result: NDArray[np.int64], group: NDArray[np.int64], value: NDArray[np.int64], score: NDArray[np.int64]
) -> None:
    """Of each group the first value with the best score."""
    order = np.lexsort((np.arange(len(group)), -score, group))
    head = np.ones(len(order), bool)
    head[1:] = group[order][1:] != group[order][:-1]
    best = order[head]
    result[group[best]] = value[best]


def _once(places: NDArray[np.int64], grams: _GramsOfTexts, corpus: Corpus) -> NDArray[np.bool_]:
    """(S,) whether some stretch of the segment stands only once in the document where it was found."""
    once = np.zeros(len(places), bool)
    span = len(corpus.ids)
    document = np.where(places >= 0, corpus.document[np.maximum(places, 0)], -1)
    for gram in range(1, LONGEST_GRAM + 1):
        mine = np.flatnonzero((grams.size == gram) & (document >= 0))
        if not len(mine):
            continue
        keys = corpus.grams(gram).keys
        low, high = grams.low[mine], grams.high[mine]
        base = keys[np.minimum(low, len(keys) - 1)] // span * span
        first, last = corpus.start[document[mine]], corpus.stop[document[mine]]
        here = np.searchsorted(keys, base + last[:, None]) - np.searchsorted(keys, base + first[:, None])
        once[mine] = ((here == 1) & (high > low)).any(axis=1)
    return once


def _segments(
    part: int,
    texts: _Texts,
    places: NDArray[np.int64],
    unique: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    apart: tuple[NDArray[np.int64], Pieces],
    corpus: Corpus,
    rows: int,
) -> Segments:
    """The segments of one part, by example."""
    rest, pieces = apart
    whole = places >= 0
    start, stop = places.copy(), places + texts.size
    column = texts.column.copy()
    start[rest], stop[rest] = pieces.start, pieces.stop
    column[rest] += pieces.shift
    flags = {name: np.zeros(len(texts.size), bool) for name in ("crosses", "spliced")}
    flags["crosses"][rest], flags["spliced"][rest] = pieces.crosses, pieces.spliced
    unmatched = np.zeros(len(texts.size), np.int64)
    unmatched[rest] = pieces.unmatched
    document = np.where(start >= 0, corpus.document[np.maximum(start, 0)], -1)
    mine = np.flatnonzero(texts.part == part)
    row = texts.row[mine]

    def spread(values: NDArray[Any], empty: int | bool) -> NDArray[Any]:
        result = np.full(rows, empty, values.dtype)
        result[row] = values[mine]
        return result

    return Segments(
        size=spread(texts.size, 0),
        document=spread(document, -1),
        start=spread(start, -1),
        stop=spread(np.where(start >= 0, stop, -1), -1),
        column=spread(column, -1),
        whole=spread(whole, False),
        unmatched=spread(unmatched, 0),
        crosses=spread(flags["crosses"], False),
        spliced=spread(flags["spliced"], False),
        once=spread(unique[0], False),
        alone=spread(unique[1], False),
    )

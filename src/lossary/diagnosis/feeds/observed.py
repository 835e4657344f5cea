"""A feed, looked at: every fact counted in each example, and summed by dataset.

observed = observe(feed, corpus, tokenizer)
observed.rates.of("swapped-labelled-in-order")             # counts k and n (G,)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.masking import find_words
from lossary.data.ragged import ranges
from lossary.data.tokenizer import CLS, FIRST_PIECE, MASK, PAD, SEP, UNK, TokenizerModel
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.calibration import LEAST_OF_DOCUMENT, LEAST_OF_SEGMENT
from lossary.diagnosis.feeds.align import Aligned, Segments, align
from lossary.diagnosis.feeds.corpus import KINDS, LINES, PAIR, Corpus
from lossary.diagnosis.feeds.facts import FACTS, LOW, LOWEST, ROWS, UNMASKED_FROM
from lossary.diagnosis.feeds.layout import FIRST, PADDING, SECOND, SPECIAL, UNKNOWN, Layout, lay_open
from lossary.diagnosis.feeds.rates import Rates
from lossary.diagnosis.feeds.surface import Surface, cut_otherwise

__all__ = ["Observed", "observe"]

Counts = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
_ORDER = ("pair-unlabelled", "in-order-labelled-swapped", "swapped-labelled-in-order", "labelled-swapped")


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A feed, laid open, aligned and counted."""

    layout: Layout
    aligned: Aligned
    rates: Rates
    skipped: Mapping[str, str]  # facts that cannot be known, and why
    lengths: NDArray[np.int64]  # (B,) pieces of each example, special ones included
    group: NDArray[np.int64]  # (B,) dataset, or their number where unknown
    chance: Mapping[str, NDArray[np.float64]]  # (G,) by fact of the kind CHANCE: its rate where draws are uniform
    order: NDArray[np.int64]  # (B,) 0: the segments stand as in their document; 1: swapped; -1: neither can be told


def observe(feed: Feed, corpus: Corpus, tokenizer: TokenizerModel, *, like: Observed | None = None) -> Observed:
    """Counts every fact of a feed that was made of a corpus' documents.

    `like` is what was observed of a feed with the same pieces, targets and datasets.
    """
    layout = lay_open(feed, tokenizer) if like is None else like.layout
    surface = Surface(corpus, tokenizer)
    aligned = cut_otherwise(align(layout, corpus, feed.dataset), layout, surface) if like is None else like.aligned
    counts = _layout_facts(feed, layout)
    counts |= _mask_facts(feed, layout, tokenizer)
    replaced, expected = _replacements(layout, corpus, tokenizer)
    counts |= replaced
    counts |= _text_facts(layout, aligned, surface)
    pairs = _pair_facts(feed, aligned, corpus)
    counts |= pairs
    counts |= _segments_by_order(counts, pairs["swapped"])
    groups = len(corpus.names) + 1
    known = (aligned.dataset >= 0) & (aligned.dataset < groups - 1)
    group = np.where(known, aligned.dataset, groups - 1)
    skipped = {}
    if not (feed.sop_labels >= 0).any():
        skipped = dict.fromkeys(_ORDER, "no example has an order label")
        counts = {name: value for name, value in counts.items() if name not in _ORDER}
    rates = _with_documents(_summed(counts, group, groups), aligned, corpus, group)
    lengths = (layout.part != PADDING).sum(axis=1)
    swapped, ordered = pairs["swapped"]
    return Observed(
        layout=layout,
        aligned=aligned,
        rates=rates,
        skipped=skipped,
        lengths=lengths,
        group=group,
        order=np.where(ordered > 0, swapped, -1),
        chance={name: _mean(value, replaced[name][1], group, groups) for name, value in expected.items()},
    )


def _mean(
    expected: NDArray[np.float64], n: NDArray[np.int64], group: NDArray[np.int64], groups: int
) -> NDArray[np.float64]:
    """(G,) expected counts of examples as a rate of each dataset; 0 where there is nothing to count."""
    total = np.bincount(group, n, groups)
    return np.divide(np.bincount(group, expected, groups), total, out=np.zeros(groups), where=total > 0)


def _summed(counts: Counts, group: NDArray[np.int64], groups: int) -> Rates:
    none = (np.zeros(len(group)), np.zeros(len(group)))
    k = np.stack([counts.get(name, none)[0] for name in FACTS]).astype(np.float64)
    n = np.stack([counts.get(name, none)[1] for name in FACTS]).astype(np.float64)
    member = (group[:, None] == np.arange(groups)).astype(np.float64)
    return Rates(k=k @ member, n=n @ member, kk=(k * k) @ member, kn=(k * n) @ member, nn=(n * n) @ member)


def _some(event: NDArray[np.bool_], among: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By example: whether the event happens anywhere among places that count, and whether there is one."""
    return np.asarray((event & among).any(axis=1), np.int64), np.asarray(among.any(axis=1), np.int64)


def _every(event: NDArray[np.bool_], among: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By example: whether the event happens at every place that counts."""
    there = among.any(axis=1)
    return np.asarray(there & ~(~event & among).any(axis=1), np.int64), np.asarray(there, np.int64)


def _share(event: NDArray[np.bool_], among: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By example: places where the event happens, of those that count."""
    return (event & among).sum(axis=1), among.sum(axis=1)


def _flag(event: NDArray[np.bool_], among: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return (event & among).astype(np.int64), among.astype(np.int64)


def _layout_facts(feed: Feed, layout: Layout) -> Counts:
    everything = np.ones(len(layout), bool)
    padding, special = layout.part == PADDING, layout.part == SPECIAL
    first, second = layout.part == FIRST, layout.part == SECOND
    real = ~padding
    hidden, ids = feed.attention_mask == 0, feed.segment_ids
    # The first separator belongs to the first segment, as [CLS] does.
    behind_first = np.cumsum(first, axis=1) >= first.sum(axis=1, keepdims=True)
    in_second = special & behind_first & (np.cumsum(second, axis=1) > 0)
    scored = layout.scored & real
    return {
        "no-cls-in-front": _flag(~layout.starts_right, everything),
        "separators-wrong": _flag(~layout.ends_right, everything),
        "cls-split": _flag(layout.split[:, 0], everything),
        "sep-split": _flag(layout.split[:, 1], everything),
        "padding-attended": _some(~hidden, padding),
        "padding-attended-throughout": _every(~hidden, padding),
        "scored-hidden": _some(hidden, scored),
        "scored-hidden-throughout": _every(hidden, scored),
        "unscored-hidden": _some(hidden, real & ~layout.scored),
        "unscored-hidden-throughout": _every(hidden, real & ~layout.scored),
        "first-segment-not-0": _some(ids != 0, first),
        "first-segment-not-0-throughout": _every(ids != 0, first),
        "second-segment-not-1": _some(ids != 1, second),
        "second-segment-not-1-throughout": _every(ids != 1, second),
        "leading-specials-not-0": _some(ids != 0, special & ~in_second),
        "closing-separator-not-1": _some(ids != 1, special & in_second),
    }


def _segments_by_order(counts: Counts, order: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Counts:
    """Wrong segment ids of pairs that stand in order, and of swapped ones: what decides whether an id is wrong."""
    swapped, ordered = (one > 0 for one in order)
    wrong = (counts["first-segment-not-0"][0] > 0) | (counts["second-segment-not-1"][0] > 0)
    return {
        "segments-wrong-in-order": _flag(wrong, ordered & ~swapped),
        "segments-wrong-swapped": _flag(wrong, ordered & swapped),
    }


def _mask_facts(feed: Feed, layout: Layout, tokenizer: TokenizerModel) -> Counts:
    scored, labels = layout.scored, layout.labels
    padding, special = layout.part == PADDING, layout.part == SPECIAL
    text = layout.part >= FIRST
    wrong = (labels < 0) | (labels >= tokenizer.vocabulary_size)
    is_mask = labels == MASK
    usable = scored & text & ~wrong & ~is_mask
    inputs = feed.token_ids
    kept = inputs == labels
    shows_special = np.isin(inputs, (PAD, CLS, SEP))
    count = usable.sum(axis=1, keepdims=True)
    return {
        "padding-scored": _some(scored, padding),
        "padding-scored-share": _share(scored, padding),
        "special-scored": _some(scored, special),
        "special-scored-share": _share(scored, special),
        "label-out-of-range": _some(wrong, scored),
        "label-out-of-range-share": _share(wrong, scored),
        "label-is-mask": _some(is_mask, scored),
        "label-is-mask-share": _share(is_mask, scored),
        "input-special": _some(shows_special, usable),
        "input-special-share": _share(shows_special, usable),
        "mask-unscored": _some(inputs == MASK, ~scored),
        "mask-rate": ((scored & ~padding).sum(axis=1), (~padding).sum(axis=1)),
        "mask-runs": _runs(layout, tokenizer),
        "masks-early": _share(2 * np.cumsum(text, axis=1) <= text.sum(axis=1, keepdims=True), scored & text),
        "input-unknown": _share((inputs == UNK) & ~kept, usable),
        "input-masked": _share(inputs == MASK, usable),
        "input-kept": _share(kept, usable),
        "input-kept-throughout": _every(kept, usable & (count > 1)),
        "unmasked": _every(kept, usable & (count >= UNMASKED_FROM)),
        "input-random": _share(~kept & (inputs != MASK) & (inputs != UNK), usable),
    }


def _replacements(
    layout: Layout, corpus: Corpus, tokenizer: TokenizerModel
) -> tuple[Counts, dict[str, NDArray[np.float64]]]:
    """Which pieces stand in the place of others, by example; and how many would, drawn from all pieces alike."""
    shown, size, count = layout.inputs, tokenizer.vocabulary_size, len(layout)
    drawn = layout.scored & (layout.part >= FIRST) & (layout.tokens >= 0)
    drawn &= (shown != layout.tokens) & (shown >= FIRST_PIECE) & (shown < size)
    row, place = np.nonzero(drawn)
    piece = shown[row, place]
    text = np.where(layout.part >= FIRST, layout.tokens, PAD)
    others = max(1, size - FIRST_PIECE - 1)  # all pieces but the one that stood there
    ordered = np.sort(text, axis=1)
    distinct = ((ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] >= FIRST_PIECE)).sum(axis=1)
    distinct += ordered[:, 0] >= FIRST_PIECE
    common, share = corpus.common(size), (np.arange(size) - FIRST_PIECE) / max(1, size - FIRST_PIECE)
    n = np.bincount(row, minlength=count)
    events = {
        "random-of-example": ((text[row] == piece[:, None]).any(axis=1), (distinct - 1).clip(0)),
        "random-common": (common[piece], common[FIRST_PIECE:].sum()),
        "random-low": (share[piece] < LOW, (share[FIRST_PIECE:] < LOW).sum()),
        "random-lowest": (share[piece] < LOWEST, (share[FIRST_PIECE:] < LOWEST).sum()),
    }
    counts = {name: (np.bincount(row[event], minlength=count), n) for name, (event, _) in events.items()}
    return counts, {name: n * (of / others) for name, (_, of) in events.items()}


def _runs(layout: Layout, tokenizer: TokenizerModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By example: words that are scored, if only in part, behind such a word of the same segment; and all of them."""
    begins = tokenizer.is_word_start[np.maximum(layout.tokens, 0)]
    words = find_words(begins, layout.part)
    marks = np.concatenate([[0], np.cumsum(layout.scored.ravel())])
    width = layout.scored.shape[1]
    hidden = marks[words.row * width + words.stop] > marks[words.row * width + words.start]
    behind = hidden.copy()
    behind[1:] &= hidden[:-1] & (words.segment[1:] == words.segment[:-1])
    behind[:1] = False
    count = len(layout)
    return np.bincount(words.row[behind], minlength=count), np.bincount(words.row[hidden], minlength=count)


def _text_facts(layout: Layout, aligned: Aligned, surface: Surface) -> Counts:
    first, second, corpus = aligned.first, aligned.second, surface.corpus
    theirs, known = _documents_pieces(layout, aligned, corpus)
    usable = layout.scored & known & (layout.labels >= 0) & (layout.labels < surface.tokenizer.vocabulary_size)
    differs = _labelled_otherwise(usable & (layout.labels != theirs), layout, aligned, surface)
    text = (layout.part >= FIRST) & (layout.tokens != UNKNOWN)
    told = (first.document >= 0) & first.whole & first.alone & (first.size >= LEAST_OF_DOCUMENT)
    of_document = np.where(told, corpus.dataset[np.maximum(first.document, 0)], -1) if len(corpus) else first.document
    return {
        "first-altered": _altered(first),
        "second-altered": _altered(second),
        "first-altered-share": _altered_share(first),
        "second-altered-share": _altered_share(second),
        "crosses-documents": _flag(first.crosses | second.crosses, first.size > 0),
        "label-differs-from-text": _some(differs, usable),
        "label-differs-share": _share(differs, usable),
        "label-differs-as-mask": _share(layout.labels == MASK, differs),
        "dataset-contradicted": _flag(aligned.dataset != of_document, told),
        "unknown-pieces": _share(layout.tokens == UNK, text),
    }


def _labelled_otherwise(
    differs: NDArray[np.bool_], layout: Layout, aligned: Aligned, surface: Surface
) -> NDArray[np.bool_]:
    """(B, T) labels that differ from the document's pieces, and not by where a row of one sign is cut."""
    result = differs.copy()
    for part, segments in ((FIRST, aligned.first), (SECOND, aligned.second)):
        for row in np.flatnonzero((differs & (layout.part == part)).any(axis=1)):
            mine = layout.part[row] == part
            if surface.holds(layout.tokens[row][mine], int(segments.document[row])):
                result[row, mine] = False
    return result


def _altered(segment: Segments) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return _flag((segment.unmatched > 0) | segment.spliced, segment.size > 0)


def _altered_share(segment: Segments) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    inner = np.maximum(segment.size - 4, 0)
    return np.minimum(segment.unmatched, inner), inner


def _documents_pieces(layout: Layout, aligned: Aligned, corpus: Corpus) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """(B, T) the documents' pieces where segments were found whole, and where that is.

    What was found in parts may have been cut into other pieces beside its neighbours.
    """
    column = np.arange(layout.tokens.shape[1])
    theirs, known = np.zeros(layout.tokens.shape, np.int32), np.zeros(layout.tokens.shape, bool)
    for segment in (aligned.first, aligned.second):
        place = segment.start[:, None] + column - segment.column[:, None]
        inside = (
            (segment.found & segment.whole)[:, None]
            & (place >= segment.start[:, None])
            & (place < segment.stop[:, None])
        )
        theirs[inside] = corpus.ids[place[inside]]
        known |= inside
    return theirs, known


def _pair_facts(feed: Feed, aligned: Aligned, corpus: Corpus) -> Counts:
    first, second = aligned.first, aligned.second
    pair, label = second.size > 0, feed.sop_labels
    document = np.where(first.found, first.document, second.document)
    found = document >= 0
    kind = np.where(found, corpus.kind[np.maximum(document, 0)] if len(corpus) else 0, -1)
    # What was altered, or runs across documents, says nothing about pairs.
    clear = (first.whole | (first.size == 0)) & (second.whole | ~pair) & found
    both = clear & first.whole & pair
    one = both & (first.document == second.document)
    shared = np.minimum(first.stop, second.stop) - np.maximum(first.start, second.start)
    shorter = np.minimum(first.stop - first.start, second.stop - second.start)
    same = one & (2 * shared >= shorter)
    long = (first.size >= LEAST_OF_SEGMENT) & (second.size >= LEAST_OF_SEGMENT)
    other = both & ~one & long
    ordered = one & (shared <= 0) & first.once & second.once
    in_order = first.stop <= second.start
    labelled = label >= 0
    counts: Counts = {
        "single-labelled": _flag(labelled, ~pair & (first.size > 0)),
        "pair-unlabelled": _flag(~labelled, pair),
        "overlapping": _flag(one & (shared > 0) & ~same, both),
        "in-order-labelled-swapped": _flag(label == 1, ordered & in_order & labelled),
        "swapped-labelled-in-order": _flag(label == 0, ordered & ~in_order & labelled),
        "swapped": _flag(~in_order, ordered),
        "split-early": _flag(np.where(in_order, first.size < second.size, second.size < first.size), ordered),
        "labelled-swapped": _flag(label == 1, ordered & labelled),
        "identical-labelled-swapped": _flag(label == 1, same & labelled),
        "other-labelled-swapped": _flag(label == 1, other & labelled),
        "other-is-neighbour": _flag(np.abs(_place(first, corpus) - _place(second, corpus)) == 1, other),
    }
    for number, name in enumerate(KINDS):
        counts[f"paired:{name}"] = _flag(pair, found & (kind == number))
        counts[f"identical:{name}"] = _flag(same, both & (kind == number))
        counts[f"other-document:{name}"] = _flag(other, both & (kind == number))
    for field in (0, 1):
        missing = _field_missing(field, aligned, corpus)
        counts[("first-field-missing", "second-field-missing")[field]] = _flag(
            missing, clear & (one | ~pair) & (kind == PAIR)
        )
    return counts


def _place(segment: Segments, corpus: Corpus) -> NDArray[np.int64]:
    """(B,) which document of its dataset a segment stands in, empty ones left out; far apart between datasets."""
    filled = corpus.stop > corpus.start
    order = np.argsort(corpus.dataset, kind="stable")
    place = np.empty(len(corpus), np.int64)
    place[order] = np.cumsum(filled[order]) + 2 * corpus.dataset[order].astype(np.int64)
    return place[np.maximum(segment.document, 0)]


def _field_missing(field: int, aligned: Aligned, corpus: Corpus) -> NDArray[np.bool_]:
    """(B,) whether nothing of a field of the document stands in either segment, although it is not empty."""
    result = np.ones(len(aligned), bool)
    for segment in (aligned.first, aligned.second):
        document = np.maximum(segment.document, 0)
        line = corpus.line_offsets[document] + field
        line = np.minimum(line, len(corpus.line_stop) - 1)
        start, stop = corpus.line_start[line], corpus.line_stop[line]
        holds = segment.found & (segment.start < stop) & (segment.stop > start)
        result &= ~(holds | (segment.found & (start == stop)))
    return result


def _with_documents(rates: Rates, aligned: Aligned, corpus: Corpus, group: NDArray[np.int64]) -> Rates:
    """Rates with the facts about documents added."""
    groups = rates.k.shape[1]
    covered = np.zeros(len(corpus.ids) + 1, np.int64)
    for segment in (aligned.first, aligned.second):
        np.add.at(covered, segment.start[segment.found], 1)
        np.add.at(covered, segment.stop[segment.found], -1)
    used = np.concatenate([[0], np.cumsum((np.cumsum(covered) > 0)[: len(corpus.ids)])])
    several = np.flatnonzero(corpus.kind == LINES)
    lines = ranges(corpus.line_offsets[several], np.diff(corpus.line_offsets)[several])
    # Empty lines are no lines.
    lines = lines[corpus.line_stop[lines] > corpus.line_start[lines]]
    start, stop = corpus.line_start[lines], corpus.line_stop[lines]
    in_line = used[stop] - used[start]
    document = corpus.document[start] if len(lines) else np.zeros(0, np.int64)
    head = np.flatnonzero(np.concatenate([[True], document[1:] != document[:-1]])) if len(lines) else document
    tail = np.concatenate([head[1:] - 1, [len(lines) - 1]]) if len(lines) else document
    any_used = used[corpus.stop[document[head]]] > used[corpus.start[document[head]]]
    dataset = corpus.dataset[document[head]].astype(np.int64)
    missing = {
        "first-line-missing": (in_line[head] == 0) & (in_line[np.minimum(head + 1, tail)] > 0),
        "last-line-missing": (in_line[tail] == 0) & (in_line[np.maximum(tail - 1, head)] > 0),
    }
    total = np.bincount(dataset[any_used], minlength=groups)[:groups]
    rows: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        name: (np.bincount(dataset[any_used & event], minlength=groups)[:groups], total)
        for name, event in missing.items()
    }
    # Documents of the same text are one: an example is found in the first of them.
    texts = (corpus.stop > corpus.start) & (corpus.same_text == np.arange(len(corpus)))
    unused = texts & (used[corpus.stop] == used[corpus.start])
    unused_count, offered_count = (
        np.bincount(corpus.dataset[which], minlength=groups)[:groups] for which in (unused, texts)
    )
    rows["document-unused"] = (unused_count, offered_count)
    offered = offered_count > 0
    empty = offered & (np.bincount(group, minlength=groups)[:groups] == 0)
    rows["dataset-empty"] = (empty.astype(np.int64), offered.astype(np.int64))
    for name, (k, n) in rows.items():
        # Documents are counted once each: k² is k.
        for column, value in (("k", k), ("n", n), ("kk", k), ("kn", k), ("nn", n)):
            getattr(rates, column)[ROWS[name]] = value
    return rates

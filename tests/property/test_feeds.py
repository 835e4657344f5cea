"""Properties of how feeds are looked into: layout, places in documents, units, repeats, a resume."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lossary.data.ragged import ranges
from lossary.data.tokenizer import CLS, MASK, PAD, SEP
from lossary.diagnosis.adapter import Feed, as_feed
from lossary.diagnosis.feeds.align import Aligned, align
from lossary.diagnosis.feeds.corpus import Corpus, window_hashes
from lossary.diagnosis.feeds.layout import FIRST, PADDING, SECOND, SPECIAL, Layout, lay_open
from lossary.diagnosis.feeds.pieces import take_apart
from lossary.diagnosis.feeds.streams import repeats, resumed
from lossary.diagnosis.feeds.units import Units, previous, units_of

VOCABULARY = 60
NO_DEADLINE = settings(deadline=None, max_examples=60)
SEGMENTS = st.lists(st.integers(5, VOCABULARY - 1), min_size=1, max_size=9)


class Tokenizer(SimpleNamespace):
    """What of a tokenizer is asked for: its size, and which pieces end sentences or start words."""

    def __hash__(self) -> int:
        return id(self)


TOKENIZER: Any = Tokenizer(
    vocabulary_size=VOCABULARY,
    ends_sentence=np.zeros(VOCABULARY, bool),
    is_word_start=np.ones(VOCABULARY, bool),
    processor=SimpleNamespace(encode=lambda text, **_: [5 + ord(c) % 50 for c in text]),
)


def fed(pairs: list[tuple[list[int], list[int]]], seed: int, *, left: int = 0, right: int = 0) -> Feed:
    """Examples of pairs of segments (the second may be empty), a third of their pieces scored."""
    rng = np.random.default_rng(seed)
    rows = [[CLS, *a, SEP, *b, *[SEP] * bool(b)] for a, b in pairs]
    width = max(map(len, rows))
    ids = np.full((len(rows), width), PAD)
    segment_ids = np.zeros_like(ids)
    for number, ((a, _), row) in enumerate(zip(pairs, rows, strict=True)):
        ids[number, : len(row)] = row
        segment_ids[number, len(a) + 2 : len(row)] = 1
    scored = (ids >= 5) & (rng.random(ids.shape) < 1 / 3)
    shown = np.where(rng.random(ids.shape) < 0.8, MASK, rng.integers(5, VOCABULARY, ids.shape))
    columns = {
        "token_ids": np.where(scored, shown, ids),
        "attention_mask": (ids != PAD).astype(int),
        "segment_ids": segment_ids,
        "mlm_labels": np.where(scored, ids, -100),
    }
    fill = {"mlm_labels": -100}
    padded = {
        name: np.pad(value, ((0, 0), (left, right)), constant_values=fill.get(name, 0))
        for name, value in columns.items()
    }
    order = np.array([0 if b else -1 for _, b in pairs])
    return as_feed(padded | {"sop_labels": order}, where="test")


@NO_DEADLINE
@given(
    st.lists(st.tuples(SEGMENTS, st.one_of(st.just([]), SEGMENTS)), min_size=1, max_size=6),
    st.integers(0, 2**32),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_what_was_laid_out_is_read_again(
    pairs: list[tuple[list[int], list[int]]], seed: int, left: int, right: int
) -> None:
    layout = lay_open(fed(pairs, seed, left=left, right=right), TOKENIZER)
    for row, (a, b) in enumerate(pairs):
        assert layout.tokens[row][layout.part[row] == FIRST].tolist() == a
        assert layout.tokens[row][layout.part[row] == SECOND].tolist() == b
        assert (layout.part[row] == SPECIAL).sum() == 2 + bool(b)
        assert (layout.part[row, :left] == PADDING).all()
    assert layout.starts_right.all()
    assert layout.ends_right.all()
    assert not layout.split.any()
    assert layout.sizes(FIRST).tolist() == [len(a) for a, _ in pairs]


def corpus_of(documents: list[list[list[int]]]) -> Corpus:
    """A corpus of documents of lines of pieces; their text is what they are."""
    texts = [{"dataset": "one", "text": "\n".join(" ".join(map(str, line)) for line in d)} for d in documents]
    return Corpus.of(texts, ["one"], [line for document in documents for line in document], TOKENIZER)


def drawn(seed: int, documents: int = 6) -> list[list[list[int]]]:
    rng = np.random.default_rng(seed)
    return [
        [rng.integers(5, VOCABULARY, rng.integers(6, 16)).tolist() for _ in range(rng.integers(1, 4))]
        for _ in range(documents)
    ]


def cut(documents: list[list[list[int]]], seed: int, count: int = 8) -> list[tuple[int, list[int], list[int]]]:
    """Pairs of neighbouring stretches of documents."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        number = int(rng.integers(len(documents)))
        text = [piece for line in documents[number] for piece in line]
        start, middle, stop = np.sort(rng.choice(len(text) + 1, 3, replace=False)).tolist()
        found.append((number, text[start:middle], text[middle:stop]))
    return found


@NO_DEADLINE
@given(st.integers(0, 2**32))
def test_stretches_of_documents_are_found_where_they_stand(seed: int) -> None:
    documents = drawn(seed)
    corpus, pairs = corpus_of(documents), cut(documents, seed)
    layout = lay_open(fed([(a, b) for _, a, b in pairs], seed), TOKENIZER)
    aligned = align(layout, corpus)
    for row, (number, a, b) in enumerate(pairs):
        for segment, text in ((aligned.first, a), (aligned.second, b)):
            assert segment.whole[row]
            assert corpus.ids[segment.start[row] : segment.stop[row]].tolist() == text
            if len(a) >= 4 and len(b) >= 4:
                assert segment.document[row] == number
        if len(a) >= 4 and len(b) >= 4:
            assert aligned.first.stop[row] == aligned.second.start[row]


@NO_DEADLINE
@given(st.integers(0, 2**32), st.integers(0, 6))
def test_neither_order_nor_padding_moves_what_is_found(seed: int, right: int) -> None:
    documents = drawn(seed)
    corpus, pairs = corpus_of(documents), [(a, b) for _, a, b in cut(documents, seed)]
    rows = np.random.default_rng(seed).permutation(len(pairs))
    plain = align(lay_open(fed(pairs, seed), TOKENIZER), corpus)
    other = align(lay_open(fed(pairs, seed, right=right).take(rows), TOKENIZER), corpus)
    for name in ("first", "second"):
        for column, values in vars(getattr(plain, name)).items():
            np.testing.assert_array_equal(values[rows], getattr(getattr(other, name), column), err_msg=column)


@NO_DEADLINE
@given(st.integers(0, 2**32), st.booleans())
def test_of_several_places_that_next_to_the_other_segment_is_taken(seed: int, swapped: bool) -> None:
    rng = np.random.default_rng(seed)
    first, other, filler = (rng.permutation(np.arange(low, low + 12)).tolist() for low in (5, 20, 35))
    text = [*other[:6], *filler[:4], *first[:6], *other[:6], *filler[4:8], *other[:6]]
    corpus = corpus_of([[text]])
    pair = (other[:6], first[:6]) if swapped else (first[:6], other[:6])
    aligned = align(lay_open(fed([pair], seed), TOKENIZER), corpus)
    start = int(corpus.start[0])
    expected = (start + 10, start + 16)
    found = (int(aligned.first.start[0]), int(aligned.second.start[0]))
    assert found == (expected[::-1] if swapped else expected)
    assert (aligned.first.once[0], aligned.second.once[0]) == ((False, True) if swapped else (True, False))


@NO_DEADLINE
@given(st.integers(0, 2**32))
def test_a_segment_of_two_documents_crosses(seed: int) -> None:
    documents = drawn(seed)
    texts = [[piece for line in document for piece in line] for document in documents]
    layout = lay_open(fed([([*a[-8:], *b[:8]], []) for a, b in pairwise(texts)], seed), TOKENIZER)
    # All is told: labels of what is scored are the text.
    aligned = align(layout, corpus_of(documents))
    assert aligned.first.crosses.all()
    assert not aligned.first.whole.any()
    assert not aligned.first.spliced.any()
    assert (aligned.first.unmatched == 0).all()


@NO_DEADLINE
@given(st.integers(0, 2**32), st.integers(5, 9), st.integers(5, 9))
def test_stretches_of_one_document_that_do_not_follow_each_other_are_spliced(seed: int, head: int, tail: int) -> None:
    rng = np.random.default_rng(seed)
    text = rng.permutation(np.arange(5, 5 + 40)).tolist()
    segment = [*text[:head], *text[40 - tail :]]
    tokens, scored = np.array(segment, np.int32), np.zeros(len(segment), bool)
    found = take_apart(tokens, scored, np.array([0]), np.array([len(segment)]), corpus_of([[text]]))
    assert found.spliced.tolist() == [True]
    assert found.crosses.tolist() == [False]
    assert found.unmatched.tolist() == [0]
    assert (found.stop - found.start).tolist() == [max(head, tail)]


@NO_DEADLINE
@given(st.integers(0, 2**32), st.integers(2, 5))
def test_pieces_of_no_document_are_counted(seed: int, strange: int) -> None:
    rng = np.random.default_rng(seed)
    text = rng.permutation(np.arange(5, 35)).tolist()
    segment = [*text[:8], *range(40, 40 + strange), *text[8:16]]
    tokens, scored = np.array(segment, np.int32), np.zeros(len(segment), bool)
    found = take_apart(tokens, scored, np.array([0]), np.array([len(segment)]), corpus_of([[text]]))
    assert found.unmatched.tolist() == [strange]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=8))
def test_ranges_are_what_they_say(parts: list[tuple[int, int]]) -> None:
    start, count = np.array([a for a, _ in parts], np.int64), np.array([n for _, n in parts], np.int64)
    assert ranges(start, count).tolist() == [a + i for a, n in parts for i in range(n)]


@given(st.lists(st.integers(-1, 3), max_size=30), st.integers(1, 4))
def test_windows_have_one_hash_if_they_are_the_same(ids: list[int], size: int) -> None:
    hashes, whole = window_hashes(np.array(ids, np.int32), size)
    windows = [tuple(ids[i : i + size]) for i in range(max(0, len(ids) - size + 1))]
    assert whole.tolist() == [min(window) >= 0 for window in windows]
    by_content: dict[tuple[int, ...], int] = {}
    for window, value in zip(windows, hashes.tolist(), strict=True):
        assert by_content.setdefault(window, value) == value
    assert len(set(by_content.values())) == len(by_content)


@given(st.lists(st.integers(-1, 5), max_size=40))
def test_the_last_earlier_place_of_a_number(numbers: list[int]) -> None:
    expected = [
        next((j for j in range(i - 1, -1, -1) if numbers[j] == number), -1) if number >= 0 else -1
        for i, number in enumerate(numbers)
    ]
    assert previous(np.array(numbers, np.int64)).tolist() == expected


def observed(layout: Layout, aligned: Aligned) -> Any:
    return SimpleNamespace(layout=layout, aligned=aligned)


@NO_DEADLINE
@given(st.integers(0, 2**32))
def test_an_example_that_is_split_and_masked_otherwise_is_the_same_unit(seed: int) -> None:
    documents = drawn(seed)
    corpus, rng = corpus_of(documents), np.random.default_rng(seed)
    whole = [(number, a + b) for number, a, b in cut(documents, seed) if len(a) + len(b) >= 10]
    assume(len(whole) >= 2)
    chosen = rng.integers(0, len(whole), 12)
    pairs = []
    for row in chosen:
        text = whole[row][1]
        at = int(rng.integers(4, len(text) - 3))
        pairs.append((text[:at], text[at:]) if rng.random() < 0.5 else (text[at:], text[:at]))
    layout = lay_open(fed(pairs, seed), TOKENIZER)
    units = units_of(observed(layout, align(layout, corpus)), corpus, shared=1.0)
    stretches = [(whole[row][0], tuple(whole[row][1])) for row in chosen]
    assert units.number.tolist() == [stretches.index(stretch) for stretch in stretches]
    assert units.size.tolist() == [len(text) for _, text in stretches]


@NO_DEADLINE
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_repeats_are_counted_as_they_come(numbers: list[int]) -> None:
    found = repeats(np.array(numbers, np.int64))
    units = len(set(numbers))
    last: dict[int, int] = {}
    again = soon = 0
    for place, number in enumerate(numbers):
        if number in last:
            again += 1
            soon += place - last[number] < units / 4
        last[number] = place
    assert (found.examples, found.units, found.again, found.soon) == (len(numbers), units, again, soon)
    assert found.counts.sum() == len(numbers)
    assert 0 <= found.uneven <= 1
    assert 0 <= found.early <= 1


def numbered(number: NDArray[np.int64]) -> Units:
    none = np.zeros(len(number), np.int64)
    return Units(number=number, document=none, dataset=none, size=none, alone=np.ones(len(number), bool))


@NO_DEADLINE
@given(st.integers(20, 60), st.integers(5, 15), st.integers(-15, 15), st.integers(0, 2**32))
def test_how_far_a_resumed_stream_is_off_is_found(size: int, at: int, shift: int, seed: int) -> None:
    """In a stream of two epochs, so that each example stands in two places."""
    rng = np.random.default_rng(seed)
    number = np.concatenate([rng.permutation(size), rng.permutation(size)]).astype(np.int64)
    assume(at + shift >= 0)
    part = number[at + shift :]
    found = resumed(numbered(number), part, at)
    count = min(len(part), len(number) - at)
    straight, given_ = number[at : at + count].tolist(), part[:count].tolist()
    before = set(number[:at].tolist())
    assert found.examples == found.matching_shifted == count
    assert found.shift == shift
    assert found.matching == sum(a == b for a, b in zip(straight, given_, strict=True))
    assert found.seen == sum(b in before and a not in before for a, b in zip(straight, given_, strict=True))
    assert found.absent == 0


def test_a_resumed_stream_of_other_examples_has_nothing_in_common() -> None:
    found = resumed(numbered(np.arange(20)), np.arange(100, 110), 10)
    assert (found.matching, found.matching_shifted, found.seen, found.absent) == (0, 0, 0, 10)


@pytest.mark.parametrize("width", [1, 3])
def test_positions_outside_of_an_example_score_nothing(width: int) -> None:
    feed = fed([([5, 6, 7], [])], 0)
    outside = replace(
        feed,
        positions=np.full((1, width), feed.token_ids.shape[1] + 3, np.int32),
        labels=np.full((1, width), 9, np.int32),
        weights=np.ones((1, width), np.float32),
    )
    assert not lay_open(outside, TOKENIZER).scored.any()

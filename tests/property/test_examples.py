"""Properties of examples, masks, order and batches; each fast path against a slow one that says what is meant."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lossary.data.assemble import Assembler, Settings
from lossary.data.batches import TrainingData, gather, micro_batches
from lossary.data.masking import Words, find_words, mask_words, replace_masked
from lossary.data.mixture import MixtureOrder
from lossary.data.permutation import permute
from lossary.data.philox import bits, philox4x32, stream_key, uniforms
from lossary.data.segments import RaggedSpans, choose_segments
from lossary.data.tokenizer import CLS, FIRST_PIECE, MASK, SEP, open_tokenizer
from lossary.folder import StudyFolder
from lossary.study import Study

NO_DEADLINE = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: list[int], key: int, expected: list[int]) -> None:
    assert philox4x32(np.array([counter], np.uint64), key)[0].tolist() == expected


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9), st.integers(1, 40))
def test_random_numbers_depend_on_the_example_alone(key: int, examples: list[int], count: int) -> None:
    together = bits(key, np.array(examples, np.uint64), 3, count)
    alone = [bits(key, np.array([example], np.uint64), 3, count + 7)[0, :count] for example in examples]
    np.testing.assert_array_equal(together, alone)


def test_random_numbers_are_uniform_and_streams_differ() -> None:
    u = uniforms(stream_key(1, "a"), np.arange(5000, dtype=np.uint64), 0, 20)
    counts = np.histogram(u, bins=50, range=(0, 1))[0]
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 95  # chi-square, 49 degrees: p < 1e-4 above
    other = uniforms(stream_key(1, "b"), np.arange(5000, dtype=np.uint64), 0, 20)
    assert abs(np.corrcoef(u.ravel(), other.ravel())[0, 1]) < 0.02


@NO_DEADLINE
@given(st.integers(1, 700), st.integers(0, 2**63))
def test_a_permutation_is_one(size: int, key: int) -> None:
    image = permute(np.arange(size), size=size, key=np.full(size, key, np.uint64))
    assert sorted(image.tolist()) == list(range(size))


def test_a_permutation_of_a_trillion_needs_no_memory_and_keeps_no_order() -> None:
    index = np.arange(20000)
    image = permute(index, size=10**12, key=np.full(20000, 7, np.uint64))
    assert len(np.unique(image)) == 20000
    assert 0 <= image.min() < image.max() < 10**12
    assert abs(np.corrcoef(index, image)[0, 1]) < 0.03
    assert abs(np.corrcoef(image[:-1], image[1:])[0, 1]) < 0.03


shares_lists = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5)


@NO_DEADLINE
@given(shares_lists, st.integers(0, 3000), st.integers(1, 900))
@example([1.0, 0.125, 0.01, 0.01, 0.01], 80, 83)
def test_any_window_holds_the_shares(shares: list[float], start: int, length: int) -> None:
    names = [f"d{i}" for i in range(len(shares))]
    order = MixtureOrder(names, shares=shares, sizes=[10**6] * len(shares), seed=1)
    counts = np.bincount(order.at(np.arange(start, start + length)).dataset, minlength=len(shares))
    part = np.array(shares) / sum(shares)
    assert (np.abs(counts - part * length) <= 1.01 + part * max(0, len(shares) - 2)).all()


@NO_DEADLINE
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 1000))
def test_each_epoch_of_a_dataset_sees_each_example_once(sizes: list[int], seed: int) -> None:
    names = [f"d{i}" for i in range(len(sizes))]
    order = MixtureOrder(names, shares=[float(size) for size in sizes], sizes=sizes, seed=seed)
    places = order.at(np.arange(3 * sum(sizes)))
    for number, size in enumerate(sizes):
        mine = places.dataset == number
        for epoch in range(2):
            assert sorted(places.index[mine & (places.epoch == epoch)].tolist()) == list(range(size))
    if max(sizes) > 20:
        number = int(np.argmax(sizes))
        first, second = (places.index[(places.dataset == number) & (places.epoch == e)].tolist() for e in range(2))
        assert first != second


def spans_of(sentences: list[list[int]]) -> RaggedSpans:
    """Spans of given sentence lengths, their pieces numbered from 100."""
    totals = [sum(lengths) for lengths in sentences]
    return RaggedSpans(
        dataset=np.zeros(len(sentences), np.int16),
        example=np.arange(len(sentences), dtype=np.uint64),
        ids=(100 + np.arange(sum(totals))).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(totals)]),
        sentence_ends=np.concatenate([np.cumsum(lengths) for lengths in sentences]).astype(np.int64),
        sentence_offsets=np.concatenate([[0], np.cumsum([len(lengths) for lengths in sentences])]),
    )


def slow_losses(a: int, b: int, room: int) -> tuple[int, int]:
    """The reference's truncation, a token at a time."""
    first, second = a, b
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return a - first, b - second


sentence_lists = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), min_size=1, max_size=8)


@NO_DEADLINE
@given(sentence_lists, st.integers(5, 60), st.integers(0, 2**60))
def test_segments_are_split_swapped_and_shortened_as_the_reference_does(
    sentences: list[list[int]], room: int, key: int
) -> None:
    spans = spans_of(sentences)
    found = choose_segments(spans, room=room, sop=True, keys=(key, key + 1), epoch=0)
    for i, lengths in enumerate(sentences):
        start, end = int(spans.offsets[i]), int(spans.offsets[i + 1])
        boundaries = {start + int(x) for x in np.cumsum(lengths)[:-1]}
        a = (int(found.first_start[i]), int(found.first_count[i]))
        b = (int(found.second_start[i]), int(found.second_count[i]))
        label = int(found.sop_labels[i])
        if len(lengths) == 1:
            assert label == -1
            assert a[1] == min(room, end - start)
            assert b[1] == 0
            continue
        earlier, later = (b, a) if label == 1 else (a, b)
        assert start <= earlier[0]
        assert later[0] + later[1] <= end
        # Some boundary explains both lengths by the reference's law.
        explained = False
        for boundary in boundaries:
            sizes = (boundary - start, end - boundary)
            sizes = sizes[::-1] if label == 1 else sizes
            lost = slow_losses(*sizes, room)
            if (sizes[0] - lost[0], sizes[1] - lost[1]) == (a[1], b[1]):
                inside = earlier[0] + earlier[1] <= boundary <= later[0]
                explained = explained or inside
        assert explained


def test_losses_fall_to_front_and_back_by_coins() -> None:
    spans = spans_of([[40, 40]] * 4000)
    found = choose_segments(spans, room=40, sop=True, keys=(1, 2), epoch=0)
    front = np.where(
        found.sop_labels == 0, found.first_start - spans.offsets[:-1], found.first_start - spans.offsets[:-1] - 40
    )
    assert abs(front.mean() - 10) < 0.2
    assert abs(front.var() - 5) < 0.5
    assert abs((found.sop_labels == 1).mean() - 0.5) < 0.04


def random_words(rng: np.random.Generator, rows: int, length: int) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Where pieces start words, and segments: [CLS] A [SEP] B [SEP], padded."""
    starts = rng.random((rows, length)) < 0.6
    segment = np.full((rows, length), -2, np.int8)
    for row in range(rows):
        a, b = rng.integers(1, (length - 3) // 2 + 1, 2)
        segment[row, : a + b + 3] = -1
        segment[row, 1 : 1 + a] = 0
        segment[row, 2 + a : 2 + a + b] = 1
    return starts, segment


def slow_words(starts: NDArray[np.bool_], segment: NDArray[np.int8]) -> list[list[list[int]]]:
    rows = []
    for row in range(len(starts)):
        words: list[list[int]] = []
        for column in range(starts.shape[1]):
            if segment[row, column] < 0:
                continue
            if starts[row, column] or segment[row, column - 1] != segment[row, column]:
                words.append([])
            words[-1].append(column)
        rows.append(words)
    return rows


def slow_masks(words: list[list[int]], segments: list[int], draws: NDArray[Any], budget: int, longest: int) -> set[int]:
    """N-grams of whole words in the order of their priorities, one after another."""
    weight = np.cumsum(1 / np.arange(1, longest + 1) / sum(1 / np.arange(1, longest + 1)))
    masked: set[int] = set()
    left = budget
    for word in sorted(range(len(words)), key=lambda w: draws[w, 0]):
        wanted = 1 + int(np.searchsorted(weight[:-1], draws[word, 1], side="right"))
        for n in range(wanted, 0, -1):
            chosen = list(range(word, word + n))
            if chosen[-1] >= len(words) or segments[chosen[-1]] != segments[word]:
                continue
            if sum(len(words[w]) for w in chosen) <= left:
                if not masked & set(chosen):
                    masked |= set(chosen)
                    left -= sum(len(words[w]) for w in chosen)
                break
    return masked


@NO_DEADLINE
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(8, 40), st.integers(1, 4))
def test_masks_equal_the_slow_rule(seed: int, rows: int, length: int, longest: int) -> None:
    rng = np.random.default_rng(seed)
    starts, segment = random_words(rng, rows, length)
    budget = rng.integers(1, 8, rows)
    example = rng.integers(0, 2**40, rows).astype(np.uint64)
    words = find_words(starts, segment)
    slow = slow_words(starts, segment)
    found_words = [
        [list(range(words.start[w], words.stop[w])) for w in range(words.offsets[r], words.offsets[r + 1])]
        for r in range(rows)
    ]
    assert found_words == slow
    masked = mask_words(words, budget, max_ngram=longest, example=example, key=seed, epoch=2)
    for row in range(rows):
        draws = uniforms(seed, example[row : row + 1], 2, 2 * len(slow[row])).reshape(-1, 2)
        segments = [int(segment[row, word[0]]) for word in slow[row]]
        expected = slow_masks(slow[row], segments, draws, int(budget[row]), longest)
        found = set(np.flatnonzero(masked[words.offsets[row] : words.offsets[row + 1]]).tolist())
        assert found == expected
        pieces = sum(len(slow[row][w]) for w in found)
        assert pieces <= budget[row]
        if any(len(word) == 1 for word in slow[row]) and sum(map(len, slow[row])) > budget[row] + 8 * longest:
            single = [w for w, word in enumerate(slow[row]) if len(word) == 1 and w not in found]
            assert pieces == budget[row] or not single


def test_ngrams_have_the_published_lengths() -> None:
    """p(n) ∝ 1/n, seen on first choices where nothing is in the way."""
    count = 30000
    words = Words(
        row=np.repeat(np.arange(count), 3),
        start=np.tile([1, 2, 3], count),
        stop=np.tile([2, 3, 4], count),
        segment=np.repeat(np.arange(count), 3),
        offsets=np.arange(0, 3 * count + 1, 3),
    )
    masked = mask_words(
        words, np.full(count, 3), max_ngram=3, example=np.arange(count, dtype=np.uint64), key=9, epoch=0
    )
    # An n-gram that meets a masked word is passed over, not cut: a few words stay.
    assert 0.85 < masked.mean() < 1
    draws = uniforms(9, np.arange(count, dtype=np.uint64), 0, 6).reshape(count, 3, 2)[:, 0, 1]
    n = 1 + np.searchsorted(np.cumsum([6 / 11, 3 / 11]), draws, side="right")
    shares = np.bincount(n, minlength=4)[1:] / count
    np.testing.assert_allclose(shares, [6 / 11, 3 / 11, 2 / 11], atol=0.01)


def test_masked_pieces_become_mask_random_or_stay() -> None:
    labels = np.full((4000, 10), 77, np.int32)
    found = replace_masked(
        labels,
        mask=MASK,
        ordinary=np.arange(FIRST_PIECE, 1000, dtype=np.int32),
        example=np.arange(4000, dtype=np.uint64),
        key=4,
        epoch=0,
    )
    assert abs((found == MASK).mean() - 0.8) < 0.01
    assert abs((found == 77).mean() - 0.1) < 0.01
    others = found[(found != MASK) & (found != 77)]
    assert others.min() >= FIRST_PIECE
    assert others.max() < 1000
    assert abs(others.mean() - 502) < 25


def test_examples_are_whole_words_within_budget_and_restore_the_text(prepared: tuple[Study, StudyFolder]) -> None:
    study, folder = prepared
    data, tokenizer = TrainingData(study, folder, "torch_a"), open_tokenizer(folder)
    for step in range(6):
        batch = data.batch(step)
        for i in range(len(batch)):
            length, count = int(batch.lengths[i]), int(batch.masked[i])
            ids, positions = batch.token_ids[i, :length].copy(), batch.positions[i, :count]
            assert count <= max(1, round(0.15 * length))
            assert np.all(np.diff(positions) > 0)
            ids[positions] = batch.labels[i, :count]
            assert ids[0] == CLS
            assert ids[-1] == SEP
            assert (ids == SEP).sum() == (2 if batch.sop_labels[i] >= 0 else 1)
            assert not np.isin(positions, np.flatnonzero(np.isin(ids, [CLS, SEP]))).any()
            assert batch.bytes[i] == tokenizer.piece_bytes[ids].sum()
            assert not batch.token_ids[i, length:].any()
            for position in positions:
                if position + 1 < length - 1 and not tokenizer.is_word_start[ids[position + 1]]:
                    assert position + 1 in positions or ids[position + 1] in (SEP,)


def test_an_example_does_not_depend_on_its_batch(prepared: tuple[Study, StudyFolder]) -> None:
    study, folder = prepared
    data = TrainingData(study, folder, "torch_a")
    assembler = Assembler(
        open_tokenizer(folder), list(study.datasets), Settings.of(study.recipe), seed=3, purpose="train"
    )
    dataset = np.array([0, 1, 2, 1, 1], np.int16)
    index = np.array([3, 5, 7, 11, 2])
    together = assembler.assemble(gather(data.stores, dataset, index), 4)
    for i in range(5):
        alone = assembler.assemble(gather(data.stores, dataset[i : i + 1], index[i : i + 1]), 4)
        n = int(alone.lengths[0])
        np.testing.assert_array_equal(together.token_ids[i, :n], alone.token_ids[0, :n])
        np.testing.assert_array_equal(together.positions[i, : alone.masked[0]], alone.positions[0, : alone.masked[0]])
        assert together.sop_labels[i] == alone.sop_labels[0]


def test_a_batch_is_a_function_of_seed_and_step(prepared: tuple[Study, StudyFolder]) -> None:
    study, folder = prepared
    data = TrainingData(study, folder, "torch_a")
    for step in range(5):
        data.batch(step)
    again, fresh = data.batch(3), TrainingData(study, folder, "torch_a").batch(3)
    for a, b in (
        (again.token_ids, fresh.token_ids),
        (again.labels, fresh.labels),
        (again.sop_labels, fresh.sop_labels),
    ):
        np.testing.assert_array_equal(a, b)


def test_masks_and_swaps_are_new_in_each_epoch(prepared: tuple[Study, StudyFolder]) -> None:
    study, folder = prepared
    data = TrainingData(study, folder, "torch_a")
    assembler = Assembler(
        open_tokenizer(folder), list(study.datasets), Settings.of(study.recipe), seed=3, purpose="train"
    )
    index = np.arange(60)
    spans = gather(data.stores, np.ones(60, np.int16), index)
    first, second = assembler.assemble(spans, 0), assembler.assemble(spans, 1)
    same = [np.array_equal(first.positions[i], second.positions[i]) for i in range(60) if first.lengths[i] > 20]
    assert np.mean(same) < 0.2
    assert (first.sop_labels[first.sop_labels >= 0] != second.sop_labels[second.sop_labels >= 0]).any()


def test_a_run_on_part_of_the_mixture_sees_that_part_alone(prepared: tuple[Study, StudyFolder]) -> None:
    study, folder = prepared
    data = TrainingData(study, folder, "torch_stories")
    assert data.shares == {"stories": 1.0}
    assert set(data.batch(0).dataset.tolist()) == {1}


@NO_DEADLINE
@given(st.integers(0, 400), st.integers(32, 400), st.booleans())
def test_micro_batches_hold_every_row_once_within_memory(
    prepared: tuple[Study, StudyFolder], step: int, max_tokens: int, few_shapes: bool
) -> None:
    study, folder = prepared
    batch = TrainingData(study, folder, "torch_a").batch(step)
    micro = micro_batches(batch, max_tokens=max_tokens, sequence_length=32, few_shapes=few_shapes)
    rows = list(itertools.chain.from_iterable(part.rows.tolist() for part in micro))
    assert sorted(rows) == list(range(len(batch)))
    for part in micro:
        examples = part.examples
        assert examples.token_ids.size <= max_tokens
        np.testing.assert_array_equal(examples.lengths[: len(part.rows)], batch.lengths[part.rows])
        np.testing.assert_array_equal(examples.masked[: len(part.rows)], batch.masked[part.rows])
        assert not examples.masked[len(part.rows) :].any()
        assert (examples.sop_labels[len(part.rows) :] == -1).all()
        if few_shapes:
            assert examples.token_ids.shape[1] in (8, 16, 24, 32)
            assert len(examples).bit_count() == 1


@pytest.mark.parametrize("few_shapes", [True, False])
def test_no_micro_batch_is_longer_than_a_model_whose_positions_are_an_odd_number(
    prepared: tuple[Study, StudyFolder], few_shapes: bool
) -> None:
    study, folder = prepared
    batch = TrainingData(study, folder, "torch_a").batch(0)
    longest = int(batch.lengths.max())
    odd = batch.padded(length=45, predictions=batch.positions.shape[1], rows=len(batch))
    odd.lengths[int(np.argmax(batch.lengths))] = 45
    assert longest < 45
    micro = micro_batches(odd, max_tokens=400, sequence_length=45, few_shapes=few_shapes)
    assert max(part.examples.token_ids.shape[1] for part in micro) == 45

"""Views of texts in many scripts: what is hidden, what is done to it, how many bytes it has, and what is lost."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.frozen import EXPANDING, WORDS, documents_of, make, train_tokenizer
from tests.small_vocabularies import SmallVocabulary

from lossary.data.examples import Examples, unpacked_examples
from lossary.data.frozen_texts import HIDDEN, KEPT, RANDOM, FrozenTexts
from lossary.data.tokenizer import TokenizerModel
from lossary.scoring.view_making import (
    LOST,
    NO_PIECE,
    ONE_SEGMENT,
    SHARED,
    UNKNOWN,
    UNKNOWN_NEXT,
    Made,
    causal_block,
    masked_block,
)
from lossary.tables.texts import written
from lossary.vocabulary.api import Vocabulary
from lossary.vocabulary.open import open_vocabulary

SLOW = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
CUTS = ["bytes", "characters", "words", "spaced words"]
given_documents = given(documents_of(WORDS + EXPANDING), st.sampled_from([12, 16, 40]), st.integers(0, 99))


@pytest.fixture(scope="module", params=["nmt_nfkc_cf", "bytes"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TokenizerModel:
    return train_tokenizer(tmp_path_factory.mktemp("models") / "spiece.model", request.param)


def texts_of(
    tokenizer: TokenizerModel, raw: list[tuple[str, ...]], length: int, seed: int
) -> tuple[Examples, FrozenTexts]:
    raw = [texts for texts in raw if all(text.strip() for text in texts)]
    assume(raw)
    examples, texts = make(tokenizer, raw, length, seed)
    assume(len(examples))
    return examples, texts


def view_of(texts: FrozenTexts, examples: Examples, vocabulary: Vocabulary) -> tuple[Made, Examples]:
    made = masked_block(texts, examples, vocabulary, seed=5, dataset="d")
    return made, unpacked_examples(made.arrays, dataset=0)


def words_of(texts: FrozenTexts, row: int) -> list[tuple[int, int, int]]:
    which = slice(texts.words[row], texts.words[row + 1])
    return list(
        zip(texts.begin[which].tolist(), texts.end[which].tolist(), texts.treatment[which].tolist(), strict=True)
    )


def segments_of(texts: FrozenTexts, row: int) -> list[tuple[int, int]]:
    """Bytes of the segments that hold text, as a model is given them."""
    size = int(texts.offsets[row + 1] - texts.offsets[row])
    parts = [(0, int(texts.first_end[row])), (int(texts.second_begin[row]), size)]
    return [(a, b) for a, b in (parts[::-1] if texts.swapped[row] else parts) if b > a]


def slow_view(texts: FrozenTexts, row: int, vocabulary: Vocabulary) -> tuple[list[int], list[tuple[int, int, int]]]:
    """The input before anything is hidden, and (position, label, treatment) of each target: example by example."""
    data = texts.bytes_of(row)
    encoded = []
    for begin, end in segments_of(texts, row):
        one = vocabulary.encode([data[begin:end].decode()])[0]
        if len(one.ids):
            encoded.append((begin, one))
    if not encoded:
        return [], []
    framed = vocabulary.frame(*(one.ids for _, one in encoded))
    spoken = np.array([not is_white(data, at) for at in range(len(data))])
    targets = []
    words = [word for word in words_of(texts, row) if spells(data, word, encoded, vocabulary, spoken)]
    for place, (shift, one) in zip((framed.first, framed.second), encoded, strict=False):
        for number, (piece, a, b) in enumerate(zip(one.ids, one.begin + shift, one.end + shift, strict=True)):
            done = [w[2] for w in words if spoken[max(a, w[0]) : min(b, w[1])].any()]
            if done:
                targets.append((place + number, int(piece), done[0]))
    return framed.ids.tolist(), targets


def is_white(data: bytes, at: int) -> bool:
    start = at
    while data[start] & 0xC0 == 0x80:
        start -= 1
    stop = start + 1
    while stop < len(data) and data[stop] & 0xC0 == 0x80:
        stop += 1
    return data[start:stop].decode().isspace()


def spells(
    data: bytes, word: tuple[int, int, int], encoded: Sequence[Any], vocabulary: Vocabulary, spoken: NDArray[np.bool_]
) -> bool:
    """Whether a word has a piece, and none of its pieces is unknown."""
    del data
    found = [
        int(piece)
        for shift, one in encoded
        for piece, a, b in zip(one.ids, one.begin + shift, one.end + shift, strict=True)
        if spoken[max(a, word[0]) : min(b, word[1])].any()
    ]
    return bool(found) and vocabulary.specials.unk not in found


@pytest.mark.parametrize("cut", [*CUTS, "two words", "ASCII words"])
@SLOW
@given_documents
def test_a_view_is_what_words_are_in_bytes(
    tokenizer: TokenizerModel, cut: str, raw: list[tuple[str, ...]], length: int, seed: int
) -> None:
    examples, texts = texts_of(tokenizer, raw, length, seed)
    vocabulary = SmallVocabulary(cut, unknown=r".*你.*")
    made, view = view_of(texts, examples, vocabulary)
    rows = np.flatnonzero(made.lengths)
    assert view.example.tolist() == examples.example[rows].tolist()
    assert (made.left_out[NO_PIECE] == (made.lengths == 0)).all()
    for at, row in enumerate(rows.tolist()):
        ids, targets = slow_view(texts, row, vocabulary)
        count = int(view.masked[at])
        assert view.lengths[at] == len(ids) == made.lengths[row]
        assert view.positions[at, :count].tolist() == [position for position, _, _ in targets]
        assert view.labels[at, :count].tolist() == [label for _, label, _ in targets]
        seen = view.token_ids[at, : len(ids)].tolist()
        for position, label, done in targets:
            if done == HIDDEN:
                assert seen[position] == 4
            elif done == KEPT:
                assert seen[position] == label
            else:
                assert done == RANDOM
                assert seen[position] >= 5
            seen[position] = ids[position]
        assert seen == ids
        both = len(segments_of(texts, row)) == 2 and made.left_out[ONE_SEGMENT][row] == 0
        assert view.sop_labels[at] == (examples.sop_labels[row] if both else -1)


@pytest.mark.parametrize("cut", CUTS)
@SLOW
@given_documents
def test_bytes_of_targets_are_those_of_the_own_view_where_nothing_is_lost(
    tokenizer: TokenizerModel, cut: str, raw: list[tuple[str, ...]], length: int, seed: int
) -> None:
    examples, texts = texts_of(tokenizer, raw, length, seed)
    made, _ = view_of(texts, examples, SmallVocabulary(cut))
    lost = made.left_out[LOST] + made.left_out[UNKNOWN] + made.left_out[NO_PIECE] > 0
    rows = np.flatnonzero(made.lengths)
    found = made.arrays["target_bytes"]
    assert found[~lost[rows]].tolist() == texts.target_bytes[rows][~lost[rows]].tolist()
    assert (found <= texts.target_bytes[rows]).all()
    if cut in ("bytes", "characters"):
        # Only words that have no byte of their own can be lost.
        bare = [sum(a == b for a, b, _ in words_of(texts, row)) for row in range(len(texts))]
        assert made.left_out[LOST].tolist() == bare
        if cut == "bytes":
            assert not made.left_out[SHARED].any()
            view = unpacked_examples(made.arrays, dataset=0)
            spaces = sum(
                sum(is_white(texts.bytes_of(row), at) for a, b, _ in words_of(texts, row) for at in range(a, b))
                for row in rows.tolist()
            )
            assert int(view.masked.sum()) == int(found.sum()) - spaces


@SLOW
@given_documents
def test_a_vocabulary_that_is_the_studys_hides_the_same_words(
    tokenizer: TokenizerModel, raw: list[tuple[str, ...]], length: int, seed: int
) -> None:
    examples, texts = texts_of(tokenizer, raw, length, seed)
    vocabulary = open_vocabulary(tokenizer.path)
    made, view = view_of(texts, examples, vocabulary)
    for at, row in enumerate(np.flatnonzero(made.lengths).tolist()):
        if made.left_out[LOST][row] or made.left_out[UNKNOWN][row] or made.left_out[SHARED][row]:
            continue
        hidden = [texts.bytes_of(row)[a:b].decode() for a, b, _ in words_of(texts, row)]
        labels = view.labels[at, : view.masked[at]].tolist()
        if texts.swapped[row]:
            early = view.segment_ids[at, view.positions[at, : view.masked[at]]] > 0
            labels = [x for x, is_early in zip(labels, early, strict=True) if is_early] + [
                x for x, is_early in zip(labels, early, strict=True) if not is_early
            ]
        said = "".join(vocabulary.pieces[one] for one in labels).replace("▁", "")
        expected = "".join(
            "".join(vocabulary.pieces[one] for one in vocabulary.encode([word])[0].ids) for word in hidden
        )
        if "<0x" not in said and not any(character in "".join(hidden) for character in "½ﷺﬁ㌀¨…"):
            assert said == expected.replace("▁", "")


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("cut", [*CUTS, "two words"])
@SLOW
@given_documents
def test_a_causal_view_predicts_the_document_in_its_order(
    tokenizer: TokenizerModel, cut: str, bos: bool, raw: list[tuple[str, ...]], length: int, seed: int
) -> None:
    examples, texts = texts_of(tokenizer, raw, length, seed)
    vocabulary = SmallVocabulary(cut, causal=True, bos=bos, unknown=r".*你.*")
    made = causal_block(texts, examples, vocabulary)
    view = unpacked_examples(made.arrays, dataset=0)
    for at, row in enumerate(np.flatnonzero(made.lengths).tolist()):
        data = texts.bytes_of(row)
        one = vocabulary.encode([data.decode()])[0]
        ids = [4] * bos + one.ids.tolist()
        assert view.token_ids[at, : view.lengths[at]].tolist() == ids
        count = int(view.masked[at])
        positions, labels = view.positions[at, :count].tolist(), view.labels[at, :count].tolist()
        wanted = [number for number in range(len(ids) - 1) if ids[number + 1] != 1]
        assert positions == wanted
        assert labels == [ids[number + 1] for number in wanted]
        not_scored = [number for number, piece in enumerate(one.ids) if piece == 1 or (number == 0 and not bos)]
        lost = sum(int(one.end[number] - one.begin[number]) for number in not_scored)
        assert made.arrays["target_bytes"][at] == len(data) - lost
        assert made.left_out[UNKNOWN_NEXT][row] == one.ids.tolist().count(1)
    assert (view.sop_labels == -1).all()


def test_random_pieces_are_of_the_example_alone(tokenizer: TokenizerModel) -> None:
    raw = [(f"house a b fish {n}. " * 8,) for n in range(60)]
    examples, texts = make(tokenizer, raw, 16, 3)
    vocabulary = SmallVocabulary("characters")
    _, view = view_of(texts, examples, vocabulary)
    few = slice(7, 19)
    _, again = view_of(texts.part(few), examples.take(np.arange(7, 19)), vocabulary)
    width = again.token_ids.shape[1]
    np.testing.assert_array_equal(view.token_ids[few, :width], again.token_ids)
    other = masked_block(texts, examples, vocabulary, seed=6, dataset="d").arrays["token_ids"]
    assert not np.array_equal(other, masked_block(texts, examples, vocabulary, seed=5, dataset="d").arrays["token_ids"])
    drawn = view.token_ids[(view.token_ids >= 5) & (view.attention_mask > 0)]
    assert len(np.unique(drawn)) > 100


def test_what_is_lost_is_counted(tokenizer: TokenizerModel) -> None:
    raw = [("漢字かな house 漢字かな fish. " * 8,) for _ in range(20)]
    examples, texts = make(tokenizer, raw, 16, 3)
    words = len(texts.begin)
    lost = masked_block(texts, examples, SmallVocabulary("ASCII words"), seed=5, dataset="d").left_out
    assert 0 < lost[LOST].sum() < words
    unknown = masked_block(texts, examples, SmallVocabulary("words", unknown="[a-z.]+"), seed=5, dataset="d").left_out
    assert 0 < unknown[UNKNOWN].sum() < words
    shared = masked_block(texts, examples, SmallVocabulary("two words"), seed=5, dataset="d").left_out
    assert 0 < shared[SHARED].sum() <= words


def test_a_segment_without_a_piece_leaves_one(tokenizer: TokenizerModel) -> None:
    raw = [("漢字かな\nhouse",), ("漢字かな\n你好世界",)]
    examples, texts = make(tokenizer, raw, 40, 3)
    made, view = view_of(texts, examples, SmallVocabulary("ASCII words"))
    assert made.left_out[ONE_SEGMENT].tolist() == [1, 0]
    assert made.left_out[NO_PIECE].tolist() == [0, 1]
    assert (len(view), view.sop_labels.tolist(), view.lengths.tolist()) == (1, [-1], [3])


@SLOW
@given_documents
def test_words_are_shown_as_they_were_written(
    tokenizer: TokenizerModel, raw: list[tuple[str, ...]], length: int, seed: int
) -> None:
    _, texts = texts_of(tokenizer, raw, length, seed)
    for row in range(len(texts)):
        data, shown = texts.bytes_of(row), list(written(texts.part(slice(row, row + 1))))
        for number, (begin, end) in enumerate(segments_of(texts, row)):
            parts = [part for part in shown if part.segment == number]
            blank = re.sub(r"\s+", " ", data[begin:end].decode())
            assert re.sub(r"\s+", " ", "".join(part.text for part in parts)) == blank
            hidden = [data[a:b].decode() for a, b, _ in words_of(texts, row) if begin <= a < b <= end]
            assert [part.text for part in parts if part.seen] == [re.sub(r"\s+", " ", word) for word in hidden]
        named = {HIDDEN: "[MASK]", RANDOM: "a random piece", KEPT: "the word itself"}
        expected = sorted(named[done] for a, b, done in words_of(texts, row) if b > a)
        assert sorted(part.seen for part in shown if part.seen) == expected

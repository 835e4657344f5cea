"""Texts of frozen examples in many scripts: bytes of segments and hidden words against the pieces they stand for."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.frozen import EXPANDING, STUDY, WORDS, documents_of, frozen, make, train_tokenizer

from lossary.data.cut_texts import TextCutter
from lossary.data.examples import Examples
from lossary.data.frozen_texts import HIDDEN, KEPT, RANDOM
from lossary.data.piece_places import NotTheSame, PiecePlaces
from lossary.data.shards import Shard
from lossary.data.tokenizer import MASK, UNK, TokenizerModel
from lossary.study_file import parse_study

SLOW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", params=["nmt_nfkc_cf", "nmt_nfkc", "identity", "bytes"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TokenizerModel:
    """Small vocabularies: lower case, not, without normalisation, and one that spells unknown characters in bytes."""
    return train_tokenizer(tmp_path_factory.mktemp("models") / "spiece.model", request.param)


def spoken(tokenizer: TokenizerModel, ids: Sequence[int]) -> re.Pattern[str]:
    """What pieces say, white space aside: bytes and unknown characters may be any."""
    pieces = [tokenizer.pieces[i] for i in ids]
    any_text = [i == UNK or re.fullmatch("<0x..>", p) is not None for i, p in zip(ids, pieces, strict=True)]
    parts = [".*" if wild else re.escape(p.replace("▁", "")) for p, wild in zip(pieces, any_text, strict=True)]
    return re.compile("".join(parts), re.DOTALL)


def normal(tokenizer: TokenizerModel, data: bytes) -> str:
    lines = data.decode().split("\n")
    return "".join("".join(tokenizer.processor.normalize(line).replace("▁", "").split()) for line in lines)


parameters = given(documents_of(WORDS), st.sampled_from([12, 16, 40]), st.integers(0, 99), st.booleans())


@SLOW
@parameters
def test_bytes_say_what_the_pieces_say(
    tokenizer: TokenizerModel, raw: list[tuple[str, ...]], length: int, seed: int, sop: bool
) -> None:
    raw = [texts for texts in raw if all(text.strip() for text in texts)]
    assume(raw)
    examples, texts = make(tokenizer, raw, length, seed, sop)
    for row in range(len(examples)):
        data = texts.bytes_of(row)
        first, second = data[: texts.first_end[row]], data[texts.second_begin[row] :]
        assert data.decode() == data.decode().strip()
        given_first, given_second = (second, first) if texts.swapped[row] else (first, second)
        used = slice(1, int(examples.lengths[row]) - 1)
        ids = examples.token_ids[row].copy()
        ids[examples.positions[row, : examples.masked[row]]] = examples.labels[row, : examples.masked[row]]
        in_second = examples.segment_ids[row, used] > 0
        parts = ids[used][~in_second], ids[used][in_second]
        assert bool(second) <= (examples.sop_labels[row] >= 0)
        if examples.sop_labels[row] >= 0 and not (first and second):
            # One of them is part of a character alone, and has no byte.
            assert data == first + second
        elif examples.sop_labels[row] >= 0:
            assert spoken(tokenizer, parts[0][:-1].tolist()).fullmatch(normal(tokenizer, given_first))
            assert spoken(tokenizer, parts[1].tolist()).fullmatch(normal(tokenizer, given_second))
        else:
            assert not second
            assert spoken(tokenizer, parts[0].tolist()).fullmatch(normal(tokenizer, first))
        words = slice(texts.words[row], texts.words[row + 1])
        hidden = [data[a:b] for a, b in zip(texts.begin[words], texts.end[words], strict=True)]
        labels = examples.labels[row, : examples.masked[row]].tolist()
        if texts.swapped[row]:
            # Words stand in the order of the document, labels in that of the example.
            early = examples.segment_ids[row, examples.positions[row, : examples.masked[row]]] > 0
            labels = [one for one, is_early in zip(labels, early, strict=True) if is_early] + [
                one for one, is_early in zip(labels, early, strict=True) if not is_early
            ]
        assert spoken(tokenizer, labels).fullmatch("".join(normal(tokenizer, word) for word in hidden))


def words_of(tokenizer: TokenizerModel, examples: Examples, row: int) -> list[tuple[int, int]]:
    """Hidden words one by one: the position of the first piece of each, and how many pieces it has."""
    found: list[list[int]] = []
    segments = examples.segment_ids[row]
    for position, label in zip(examples.positions[row], examples.labels[row], strict=True):
        if len(found) and sum(found[-1]) == position and not tokenizer.is_word_start[label]:
            found[-1][1] += 1
        elif position:
            found.append([int(position), 1])
    order = sorted(found, key=lambda word: segments[word[0]] != (1 if examples.sop_labels[row] == 1 else 0))
    return [(first, count) for first, count in order]


@SLOW
@given(documents_of(WORDS + EXPANDING), st.sampled_from([12, 16, 40]), st.integers(0, 99))
def test_words_are_whole_apart_and_in_order(
    tokenizer: TokenizerModel, raw: list[tuple[str, ...]], length: int, seed: int
) -> None:
    raw = [texts for texts in raw if all(text.strip() for text in texts)]
    assume(raw)
    examples, texts = make(tokenizer, raw, length, seed)
    for row in range(len(examples)):
        data = texts.bytes_of(row)
        words = slice(texts.words[row], texts.words[row + 1])
        begin, end = texts.begin[words], texts.end[words]
        expected = words_of(tokenizer, examples, row)
        assert len(begin) == len(expected)
        assert (begin <= end).all()
        assert (end[:-1] <= begin[1:]).all()
        borders = texts.first_end[row], texts.second_begin[row]
        assert all(b <= borders[0] or a >= borders[1] for a, b in zip(begin, end, strict=True))
        for a, b, done, (position, _) in zip(begin, end, texts.treatment[words], expected, strict=True):
            text = data[a:b].decode()
            assert not text or not (tokenizer.is_blank(text[0]) or tokenizer.is_blank(text[-1]))
            seen = examples.token_ids[row, position]
            label = examples.labels[row, examples.positions[row].tolist().index(position)]
            assert done == (HIDDEN if seen == MASK else KEPT if seen == label else RANDOM)
        assert texts.target_bytes[row] == sum(end - begin)


class Again(PiecePlaces):
    """Takes no text for spelled by its pieces."""

    def _spelled(self, _: Shard, texts: list[str], *__: object) -> NDArray[np.bool_]:
        return np.zeros(len(texts), bool)


@SLOW
@given(documents_of([*WORDS, *EXPANDING, "house", "fish.", "<unk>", "▁a", "ΣΑΣ"]), st.sampled_from([12, 40]))
def test_counted_places_are_those_that_the_tokenizer_tells(
    tokenizer: TokenizerModel, raw: list[tuple[str, ...]], length: int
) -> None:
    raw = [texts for texts in raw if all(text.strip() for text in texts)]
    assume(raw)
    study = parse_study(STUDY.format(length=length, seed=3, objective='["mlm", "sop"]'))
    examples, shard = frozen(study, tokenizer, raw)
    cutter = TextCutter(study, "d", tokenizer)
    counted = cutter.texts(examples, shard, raw)
    cutter._places = Again(tokenizer)
    for name, values in vars(cutter.texts(examples, shard, raw)).items():
        np.testing.assert_array_equal(getattr(counted, name), values, err_msg=name)


def test_plain_text_is_not_tokenised_again(tokenizer: TokenizerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(TokenizerModel, "places", again)
    text = "house fish house.\nhouse a b 1 2 fish"
    _, texts = make(tokenizer, [(text,), ("a b",)])
    assert len(texts) > 1


def test_line_breaks_and_spaces_stand_as_they_were_written(tokenizer: TokenizerModel) -> None:
    raw = [("House  house.\r\n\n\thouse\u00a0house.",)]
    _, texts = make(tokenizer, raw, length=40)
    assert {texts.bytes_of(row).decode() for row in range(len(texts))} == {raw[0][0]}


def test_fields_of_a_pair_stand_on_lines_of_their_own(tokenizer: TokenizerModel) -> None:
    _, texts = make(tokenizer, [(" House? ", "a\nhouse. ")], length=40)
    assert texts.bytes_of(0) == b"House? \na\nhouse."
    assert (texts.first_end[0], texts.second_begin[0]) == (6, 8)


def test_what_is_cut_between_segments_is_a_space(tokenizer: TokenizerModel) -> None:
    lines = ["house a b " * 3 + ".", "fish 1 2 3 " * 3 + "."]
    gaps = set()
    for seed in range(30):
        _, texts = make(tokenizer, [("\n".join(lines),)], length=12, seed=seed)
        data = texts.bytes_of(0).decode()
        end, begin = texts.first_end[0], texts.second_begin[0]
        first, gap, second = data[:end], data[end:begin], data[begin:]
        gaps.add(gap)
        assert first in "\n".join(lines)
        assert second in "\n".join(lines)
    assert " " in gaps


@pytest.mark.parametrize("change", ["another word", "another seed"])
def test_what_is_not_the_same_is_refused(tokenizer: TokenizerModel, change: str) -> None:
    raw = [("house a b fish. " * 8,)]
    study = parse_study(STUDY.format(length=16, seed=1, objective='["mlm", "sop"]'))
    examples, shard = frozen(study, tokenizer, raw)
    if change == "another word":
        raw = [(raw[0][0].replace("fish", "house", 1),)]
    else:
        study = study.model_copy(update={"seed": 2})
    with pytest.raises(NotTheSame):
        TextCutter(study, "d", tokenizer).texts(examples, shard, raw)


def test_nothing_depends_on_what_else_is_in_a_call(tokenizer: TokenizerModel) -> None:
    raw = [("house a b fish. " * 8,), ("1 2 3 ",), ("漢字かな\nhouse",)]
    together, alone = make(tokenizer, raw)[1], make(tokenizer, raw[:1])[1]
    assert len(together) > len(alone) > 0
    assert [together.bytes_of(row) for row in range(len(alone))] == [alone.bytes_of(row) for row in range(len(alone))]

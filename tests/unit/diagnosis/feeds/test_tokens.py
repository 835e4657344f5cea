"""Pieces of a side's own tokenizer: which change of the text, or of the ids, they come from."""

import re
import unicodedata
from collections.abc import Callable

import pytest
from tests.unit.diagnosis.feeds.planted import encoder
from tests.unit.diagnosis.makers import corpus

from lossary.data.tokenizer import CLS, SEP, UNK, TokenizerModel
from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.feeds.corpus import texts_of
from lossary.diagnosis.feeds.reference import tokenizer_at
from lossary.diagnosis.feeds.tokens import TokenFit, compare_tokens

Encode = Callable[[str], list[int]]
UNKNOWN = "\U0010fffd"  # a character that no tokenizer has a piece for


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [*texts_of(corpus(30, seed=6)), "", "Ein  Wort [MASK] mit  Lücken", "10 Äpfel, 25 Bäume"]


def compared(setup: Setup, texts: list[str], change: Callable[[Encode, str], list[int]]) -> TokenFit:
    encode = encoder(setup)
    return compare_tokens([change(encode, text) for text in texts], texts, tokenizer_at(setup.tokenizer))


def unaccented(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def test_the_same_pieces_are_no_difference(feed_setup: Setup, texts: list[str]) -> None:
    fit = compared(feed_setup, texts, lambda encode, text: encode(text))
    assert fit.equal
    assert fit.differing == 0
    assert fit.where is None


@pytest.mark.parametrize(
    ("change", "names"),
    [
        pytest.param(lambda encode, text: encode(text.lower()), {"text-lowercased"}, id="lower case"),
        pytest.param(lambda encode, text: encode(unaccented(text)), {"accents-stripped"}, id="accents"),
        pytest.param(lambda encode, text: encode(text.upper()), {"text-altered"}, id="upper case"),
        pytest.param(lambda encode, text: encode(re.sub(r"[^\w\s]|_", " ", text)), {"text-altered"}, id="punctuation"),
        pytest.param(lambda encode, text: encode(text)[:20], {"text-altered"}, id="cut"),
        pytest.param(lambda encode, text: [piece + 1 for piece in encode(text)], {"text-altered"}, id="shifted"),
        pytest.param(lambda encode, text: [CLS, *encode(text), SEP], {"text-altered"}, id="wrapped"),
        pytest.param(
            lambda encode, text: encode(re.sub(r"[^\x00-\x7f]", UNKNOWN, text)),
            {"unknown-pieces"},
            id="ASCII alone",
        ),
        pytest.param(
            lambda encode, text: [piece if piece < 300 else UNK for piece in encode(text)],
            {"unknown-pieces"},
            id="300 pieces",
        ),
        pytest.param(
            lambda encode, text: encode(unaccented(text))[:20], {"accents-stripped", "text-altered"}, id="accents, cut"
        ),
    ],
)
def test_a_change_is_named(
    feed_setup: Setup, texts: list[str], change: Callable[[Encode, str], list[int]], names: set[str]
) -> None:
    fit = compared(feed_setup, texts, change)
    assert fit.confirmed
    assert fit.best is not None
    assert set(fit.best.names) == names, fit.tried[:3]
    assert fit.best.values["texts_not_reproduced"] == 0


def test_case_that_is_kept_is_named(folded: TokenizerModel, texts: list[str]) -> None:
    """A tokenizer that folds case, whose normaliser the side has lost: it has no piece for a capital."""
    encode = folded.processor.encode
    kept = [encode("".join(UNKNOWN if c.isupper() else c for c in text), out_type=int) for text in texts]
    fit = compare_tokens(kept, texts, folded)
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == ("case-kept",)
    # Where case is folded anyway, lower-casing is no change.
    assert compare_tokens([encode(text.lower(), out_type=int) for text in texts], texts, folded).equal


def test_pieces_in_another_order_have_no_name(feed_setup: Setup, texts: list[str]) -> None:
    fit = compared(feed_setup, texts, lambda encode, text: encode(text)[::-1])
    assert not fit.equal
    assert not fit.confirmed
    assert fit.where is not None
    assert fit.where.side != fit.where.reference


def test_where_pieces_differ_first_is_told(feed_setup: Setup, texts: list[str]) -> None:
    encode = encoder(feed_setup)
    side = [encode(text) for text in texts]
    side[3] = [*side[3][:5], UNK, *side[3][6:]]
    fit = compare_tokens(side, texts, tokenizer_at(feed_setup.tokenizer))
    assert (fit.differing, fit.total) == (1, len(texts))
    assert fit.where is not None
    assert (fit.where.text, fit.where.position) == (3, 5)
    assert fit.where.side[0] == "<unk>"


def test_as_many_lists_as_texts_are_needed(feed_setup: Setup) -> None:
    with pytest.raises(ValueError, match="1 lists of ids for 2 texts"):
        compare_tokens([[5]], ["a", "b"], tokenizer_at(feed_setup.tokenizer))

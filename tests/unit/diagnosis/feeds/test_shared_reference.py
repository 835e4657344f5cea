"""Sides are held against the same reference, one after another: what is known from one is no answer for the next."""

from dataclasses import replace

import pytest
from tests.unit.diagnosis.feeds.planted import made
from tests.unit.diagnosis.makers import Document, corpus

from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.feeds.corpus import texts_of
from lossary.diagnosis.feeds.explain import explain_examples
from lossary.diagnosis.feeds.outcome import FeedFit
from lossary.diagnosis.feeds.reference import Reference


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return corpus(120, seed=3)


def told(fit: FeedFit) -> list[tuple[object, ...]]:
    return [(one.names, one.says, one.residual, one.values) for one in fit.tried]


@pytest.mark.parametrize(
    ("word", "dose", "less"),
    # Rates and shares of the first three are read from the side; flipped labels are what they are.
    [("mask-rate", 0.4, 0.25), ("pads-scored", 1.0, 0.3), ("always-mask", 1.0, 0.4), ("labels-flipped", 1.0, 0.3)],
)
def test_who_was_examined_before_makes_no_difference(
    feed_setup: Setup, documents: list[Document], word: str, dose: float, less: float
) -> None:
    one, other = (made(feed_setup, documents, faults={word: amount}, only=("stories",)) for amount in (dose, less))
    first = told(explain_examples(one, documents, setup=feed_setup))
    second = told(explain_examples(other, documents, setup=feed_setup))
    assert first != second
    # Another seed's reference takes the place of what is known.
    for seed in (91, 92):
        explain_examples(one, documents, setup=replace(feed_setup, seed=seed))
    assert told(explain_examples(other, documents, setup=feed_setup)) == second
    assert told(explain_examples(one, documents, setup=feed_setup)) == first


def test_the_reference_is_another_one_for_other_documents_or_settings(
    feed_setup: Setup, documents: list[Document]
) -> None:
    shared = Reference.shared(documents, feed_setup)
    assert Reference.shared(list(documents), replace(feed_setup)) is shared
    assert Reference.shared(documents[1:], feed_setup) is not shared
    assert Reference.shared(documents, replace(feed_setup, seed=feed_setup.seed + 1)) is not shared


def test_pieces_are_the_references_or_not(feed_setup: Setup, documents: list[Document]) -> None:
    reference = Reference.shared(documents, feed_setup)
    own = [ids.tolist() for ids in reference.tokenizer.encode(texts_of(documents))]
    assert reference.has_pieces(own)
    assert not reference.has_pieces(own[1:])
    assert not reference.has_pieces([[1], *own[1:]])

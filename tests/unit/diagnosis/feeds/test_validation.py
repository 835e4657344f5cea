"""Evaluation examples: masked, the same in each call, of no document that is trained on."""

import pytest
from tests.unit.diagnosis.feeds.planted import doses, made, named
from tests.unit.diagnosis.makers import DATASETS, Document, corpus

from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.feeds.explain import explain_validation
from lossary.diagnosis.feeds.reference import reference_validation


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return corpus(120, seed=3)


def halves(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    """Documents to train on, and others."""
    return documents[::2], documents[1::2]


def test_healthy_evaluation_is_left_alone(feed_setup: Setup, documents: list[Document]) -> None:
    train, held_out = halves(documents)
    feed = made(feed_setup, held_out)
    fit = explain_validation(feed, documents, setup=feed_setup, second=feed, training=made(feed_setup, train, seed=2))
    assert fit.equal, fit.deviations


def test_lossarys_own_evaluation_is_left_alone(feed_setup: Setup, documents: list[Document]) -> None:
    first, second = (reference_validation(documents, feed_setup) for _ in range(2))
    assert explain_validation(first, documents, setup=feed_setup, second=second).equal


@pytest.mark.parametrize("where", [("stories",), ("notes",), DATASETS])
def test_what_is_not_masked_is_named(feed_setup: Setup, documents: list[Document], where: tuple[str, ...]) -> None:
    feed = made(feed_setup, documents, faults={"unmasked": 1.0}, only=where)
    fit = explain_validation(feed, documents, setup=feed_setup, second=feed)
    assert named(fit) == ("evaluation-unmasked",), fit.tried[:3]
    assert set(doses(fit)["evaluation-unmasked"]) == set(where)


def test_examples_that_are_drawn_anew_are_named(feed_setup: Setup, documents: list[Document]) -> None:
    first, second = (made(feed_setup, documents, seed=seed) for seed in (1, 2))
    fit = explain_validation(first, documents, setup=feed_setup, second=second)
    assert named(fit) == ("validation-redrawn",), fit.tried[:3]


@pytest.mark.parametrize("where", ["stories", "notes"])
def test_documents_that_are_trained_on_are_named(feed_setup: Setup, documents: list[Document], where: str) -> None:
    train, held_out = halves(documents)
    leaked = [document for document in held_out if document["dataset"] == where]
    feed = made(feed_setup, held_out)
    fit = explain_validation(
        feed, documents, setup=feed_setup, second=feed, training=made(feed_setup, [*train, *leaked], seed=2)
    )
    assert named(fit) == ("training-has-validation-documents",), fit.tried[:3]
    (struck,) = doses(fit).values()
    assert set(struck) == {where}


def test_a_fault_of_examples_and_one_of_calls_are_both_named(feed_setup: Setup, documents: list[Document]) -> None:
    first, second = (made(feed_setup, documents, seed=seed, faults={"pads-attended": 1.0}) for seed in (1, 2))
    fit = explain_validation(first, documents, setup=feed_setup, second=second)
    assert set(named(fit)) == {"padding-attended", "validation-redrawn"}


@pytest.mark.parametrize(("cut", "expected"), [("none", ()), ("last", ("evaluation-cut-short",)), ("apart", ())])
def test_an_evaluation_that_ends_early_is_told_from_a_third_split(
    feed_setup: Setup, documents: list[Document], cut: str, expected: tuple[str, ...]
) -> None:
    held_out = documents[::5]
    kept = {"none": held_out, "last": held_out[:-20], "apart": [one for row, one in enumerate(held_out) if row % 4]}
    train = [document for row, document in enumerate(documents) if row % 5]
    feed = made(feed_setup, kept[cut])
    fit = explain_validation(feed, documents, setup=feed_setup, second=feed, training=made(feed_setup, train, seed=2))
    assert named(fit) == expected, (fit.deviations, fit.tried[:3])
    assert fit.equal == (not expected)

"""Training examples as users make them: healthy ones are left alone, every fault of the table is named where it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.diagnosis.feeds.planted import doses, encoder, made, named
from tests.unit.diagnosis.makers import DATASETS, STYLES, Document, corpus

from lossary.data.tokenizer import CLS, UNK
from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.feeds.explain import explain_examples
from lossary.diagnosis.feeds.faults import FAULTS

# Documents of many sentences, of one or two in a line, of several lines, and pairs of fields.
LONG, SHORT, LINED, FIELDS = ("stories",), ("notes",), ("letters",), ("queries",)
# By the maker's own word for a fault: its name, and where it is planted.
PLANTED: list[tuple[str, float, str, tuple[str, ...]]] = [
    ("labels-flipped", 1.0, "labels-flipped", LONG),
    ("labels-flipped", 1.0, "labels-flipped", SHORT),
    ("labels-random", 1.0, "labels-independent-of-order", LONG),
    ("labels-random", 1.0, "labels-independent-of-order", SHORT),
    ("labels-zero", 1.0, "labels-constant", LONG),
    ("labels-one", 1.0, "labels-constant", SHORT),
    ("identical", 1.0, "identical-segments", LONG),
    ("identical", 1.0, "identical-segments", SHORT),
    ("lone-gets-copy", 1.0, "identical-segments", SHORT),
    ("lone-gets-random", 1.0, "lone-sentence-random-second", SHORT),
    ("next-sentence-prediction", 1.0, "second-from-another-document", LONG),
    ("next-sentence-prediction", 1.0, "second-from-another-document", SHORT),
    ("no-document-breaks", 1.0, "segments-cross-documents", LONG),
    ("no-document-breaks", 1.0, "segments-cross-documents", SHORT),
    ("swap-forgotten", 1.0, "swapped-label-in-order", LONG),
    ("swap-forgotten", 1.0, "swapped-label-in-order", SHORT),
    ("first-line-dropped", 1.0, "first-line-dropped", LINED),
    ("first-field-twice", 1.0, "wrong-field", FIELDS),
    ("second-field-only", 1.0, "wrong-field", FIELDS),
    ("specials-split", 1.0, "special-token-split", LONG),
    ("specials-split", 1.0, "special-token-split", SHORT),
    ("label-after-mask", 1.0, "labels-are-masked-input", LONG),
    ("label-after-mask", 1.0, "labels-are-masked-input", SHORT),
    ("pads-scored", 1.0, "padding-is-target", LONG),
    ("pads-scored", 1.0, "padding-is-target", SHORT),
    ("specials-scored", 1.0, "special-is-target", LONG),
    ("specials-scored", 1.0, "special-is-target", SHORT),
    ("label-too-large", 1.0, "label-out-of-range", LONG),
    ("label-too-large", 1.0, "label-out-of-range", SHORT),
    ("mask-rate", 0.3, "mask-rate", LONG),
    ("mask-rate", 0.3, "mask-rate", SHORT),
    ("always-mask", 1.0, "no-random-or-kept", LONG),
    ("always-mask", 1.0, "no-random-or-kept", SHORT),
    ("random-from-0", 1.0, "random-draws-specials", LONG),
    ("random-from-0", 1.0, "random-draws-specials", SHORT),
    ("random-from-example", 1.0, "random-not-from-all-pieces", LONG),
    ("random-from-example", 1.0, "random-not-from-all-pieces", SHORT),
    ("random-from-text", 1.0, "random-not-from-all-pieces", LONG),
    ("random-from-first", 1.0, "random-not-from-all-pieces", LONG),
    ("mask-is-unk", 1.0, "mask-id-wrong", LONG),
    ("mask-is-unk", 1.0, "mask-id-wrong", SHORT),
    ("b-reversed", 1.0, "text-altered", LONG),
    ("pads-attended", 1.0, "padding-attended", LONG),
    ("pads-attended", 1.0, "padding-attended", SHORT),
    ("masked-hidden", 1.0, "masked-tokens-hidden", LONG),
    ("masked-hidden", 1.0, "masked-tokens-hidden", SHORT),
    ("attention-inverted", 1.0, "attention-inverted", LONG),
    ("attention-inverted", 1.0, "attention-inverted", SHORT),
    ("segments-zero", 1.0, "segment-ids-zero", LONG),
    ("segments-zero", 1.0, "segment-ids-zero", SHORT),
    ("segments-flipped", 1.0, "segment-ids-flipped", LONG),
    ("segments-flipped", 1.0, "segment-ids-flipped", SHORT),
    ("segments-kept", 1.0, "segment-ids-before-swap", LONG),
    ("segments-kept", 1.0, "segment-ids-before-swap", SHORT),
    ("segments-late", 1.0, "segment-ids-before-swap", LONG),
    ("segments-late", 1.0, "segment-ids-before-swap", SHORT),
]
# Planted by other means than a word of the maker's: below, and in test_validation.py.
ELSEWHERE = {"dataset-missing", "unknown-pieces", "evaluation-unmasked"}


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return corpus(120, seed=3)


def test_every_fault_of_the_table_is_planted() -> None:
    assert {name for _, _, name, _ in PLANTED} | ELSEWHERE == set(FAULTS)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_healthy_maker_makes_is_left_alone(
    feed_setup: Setup, documents: list[Document], style: str, seed: int
) -> None:
    fit = explain_examples(made(feed_setup, documents, style=style, seed=seed), documents, setup=feed_setup)
    assert fit.equal, fit.deviations
    assert not fit.tried


@pytest.mark.parametrize(("word", "dose", "name", "where"), PLANTED)
def test_a_fault_is_named_where_it_is(
    feed_setup: Setup, documents: list[Document], word: str, dose: float, name: str, where: tuple[str, ...]
) -> None:
    feed = made(feed_setup, documents, faults={word: dose}, only=where)
    fit = explain_examples(feed, documents, setup=feed_setup)
    assert named(fit) == (name,), fit.tried[:3]
    (struck,) = doses(fit).values()
    assert set(struck) == set(where)
    assert struck[where[0]] >= 0.9
    # The sentence says where, so that nothing that prints it has to.
    assert all(dataset in fit.tried[0].says for dataset in where) or "everywhere" in fit.tried[0].says


@pytest.mark.parametrize("style", ["lines", "sliding"])
@pytest.mark.parametrize(
    ("word", "name", "where"),
    [
        ("labels-flipped", "labels-flipped", LONG),
        ("lone-gets-copy", "identical-segments", SHORT),
        ("label-after-mask", "labels-are-masked-input", FIELDS),
    ],
)
def test_other_styles_of_makers_have_the_same_names(
    feed_setup: Setup, documents: list[Document], style: str, word: str, name: str, where: tuple[str, ...]
) -> None:
    if style == "lines" and where == LONG:
        where = LINED  # Long documents of one line are no pairs there.
    feed = made(feed_setup, documents, style=style, faults={word: 1.0}, only=where)
    fit = explain_examples(feed, documents, setup=feed_setup)
    assert named(fit) == (name,), fit.tried[:3]
    assert set(doses(fit)[name]) == set(where)


@pytest.mark.parametrize("dose", [0.1, 0.3])
def test_a_dose_is_told(feed_setup: Setup, documents: list[Document], dose: float) -> None:
    feed = made(feed_setup, documents, faults={"segments-zero": dose}, only=LONG)
    fit = explain_examples(feed, documents, setup=feed_setup)
    assert named(fit) == ("segment-ids-zero",)
    assert doses(fit) == {"segment-ids-zero": {"stories": pytest.approx(dose, abs=0.1)}}


def test_one_special_piece_in_the_place_of_a_random_one_is_proof(feed_setup: Setup, documents: list[Document]) -> None:
    feed = made(feed_setup, documents)
    rows = np.arange(len(feed))[:, None]
    shown = feed.token_ids[rows, feed.positions]
    mask = np.bincount(shown[feed.weights > 0]).argmax()
    row, slot = np.argwhere((feed.weights > 0) & (shown != feed.labels) & (shown != mask))[0]
    tokens = feed.token_ids.copy()
    tokens[row, feed.positions[row, slot]] = CLS
    fit = explain_examples(replace(feed, token_ids=tokens), documents, setup=feed_setup)
    assert named(fit) == ("random-draws-specials",), fit.deviations


@pytest.mark.parametrize("times", [0.001, 0.1])
def test_pieces_that_are_seldom_masked_are_told(feed_setup: Setup, documents: list[Document], times: float) -> None:
    fit = explain_examples(made(feed_setup, documents, faults={"common-kept": times}), documents, setup=feed_setup)
    assert any(found.fact == "scored-pieces" for found in fit.deviations)
    assert named(fit) == ("masking-depends-on-pieces",), (fit.deviations[:5], fit.tried[:3])
    assert fit.best is not None
    assert fit.best.values["times"] < 0.3


def test_two_faults_in_two_datasets_are_both_named(feed_setup: Setup, documents: list[Document]) -> None:
    long, short = (row for row in (LONG, SHORT))
    parts = [
        made(feed_setup, [d for d in documents if d["dataset"] in long], faults={"labels-flipped": 1.0}),
        made(feed_setup, [d for d in documents if d["dataset"] in short], faults={"pads-attended": 1.0}),
        made(feed_setup, [d for d in documents if d["dataset"] not in (*long, *short)]),
    ]
    fit = explain_examples(together(parts), documents, setup=feed_setup)
    assert set(named(fit)) == {"labels-flipped", "padding-attended"}
    assert {name: set(struck) for name, struck in doses(fit).items()} == {
        "labels-flipped": {"stories"},
        "padding-attended": {"notes"},
    }


@pytest.mark.parametrize("struck", [4, 20])
def test_wrong_labels_that_are_not_the_masked_input_are_not_called_so(
    feed_setup: Setup, documents: list[Document], struck: int
) -> None:
    """As many labels are wrong as if they were taken from the masked input, but none of them is [MASK]."""
    feed = made(feed_setup, documents)
    text = feed.token_ids.copy()
    for row, places in enumerate(feed.positions):
        mine = feed.weights[row] > 0
        text[row, places[mine]] = feed.labels[row, mine]
    rows = np.flatnonzero(feed.dataset == list(DATASETS).index(SHORT[0]))[:struck]
    labels = feed.labels.copy()
    labels[rows] = np.where(feed.weights[rows] > 0, text[rows[:, None], feed.positions[rows] - 1], labels[rows])
    fit = explain_examples(replace(feed, labels=labels), documents, setup=feed_setup)
    assert not fit.equal
    assert not named(fit), fit.tried[:3]


def together(parts: list[Any]) -> Any:
    """Feeds one after another."""
    width = max(part.positions.shape[1] for part in parts)
    columns = [
        {
            name: np.pad(value, ((0, 0), (0, width - value.shape[1])))
            if name in ("positions", "labels", "weights")
            else value
            for name, value in vars(part).items()
        }
        for part in parts
    ]
    return replace(parts[0], **{name: np.concatenate([part[name] for part in columns]) for name in columns[0]})


def test_a_dataset_that_is_left_out_is_named(feed_setup: Setup, documents: list[Document]) -> None:
    feed = made(feed_setup, [document for document in documents if document["dataset"] != "letters"])
    fit = explain_examples(feed, documents, setup=feed_setup)
    assert named(fit) == ("dataset-missing",)
    assert doses(fit) == {"dataset-missing": {"letters": 1.0}}


@pytest.mark.parametrize("shows", [False, True])
def test_pieces_that_are_lost_are_named(feed_setup: Setup, documents: list[Document], shows: bool) -> None:
    """By the text, if the side does not show its tokenizer; else the text is as its tokenizer has it."""
    own = encoder(feed_setup)

    def without_rare(text: str) -> list[int]:
        return [UNK if piece >= 300 else piece for piece in own(text)]

    feed = made(feed_setup, documents, without_rare)
    lines = [line for d in documents for line in (d["text"].split("\n") if isinstance(d["text"], str) else d["text"])]
    side_ids = [without_rare(line) for line in lines] if shows else None
    fit = explain_examples(feed, documents, setup=feed_setup, side_ids=side_ids)
    assert named(fit) == (() if shows else ("unknown-pieces",)), fit.tried[:3]


@pytest.mark.parametrize("told", [True, False])
def test_neither_the_order_of_examples_nor_their_padding_matters(
    feed_setup: Setup, documents: list[Document], told: bool
) -> None:
    """The same numbers are counted, whatever the order."""
    feed = made(feed_setup, documents, faults={"labels-flipped": 1.0}, only=LONG, tell_dataset=told)
    rows = np.random.default_rng(4).permutation(len(feed))
    padded = {
        name: np.pad(getattr(feed, name), ((0, 0), (0, 9))) for name in ("token_ids", "attention_mask", "segment_ids")
    }
    fits = [
        explain_examples(one, documents, setup=feed_setup)
        for one in (feed, feed.take(rows), replace(feed, **padded).take(rows))
    ]
    assert {named(fit) for fit in fits} == {("labels-flipped",)}
    assert len({tuple(fit.deviations) for fit in fits}) == 1
    assert all(doses(fit) == {"labels-flipped": {"stories": 1.0}} for fit in fits)


@pytest.mark.parametrize(
    ("recipe", "faults"),
    [({"mask_rate": 0.3}, {"mask-rate": 0.3}), ({"max_ngram": 1}, {}), ({"short_rate": 0.9}, {})],
)
def test_what_the_recipe_declares_is_no_fault(
    feed_setup: Setup, documents: list[Document], recipe: dict[str, Any], faults: dict[str, float]
) -> None:
    declared = replace(feed_setup, recipe=feed_setup.recipe.model_copy(update=recipe))
    feed = made(feed_setup, documents, faults=faults)
    assert explain_examples(feed, documents, setup=declared).equal
    if faults:
        assert named(explain_examples(feed, documents, setup=feed_setup)) == ("mask-rate",)


def test_what_no_fault_of_the_table_does_has_no_name(feed_setup: Setup, documents: list[Document]) -> None:
    feed = made(feed_setup, documents, faults={"labels-shifted": 1.0}, only=DATASETS)
    fit = explain_examples(feed, documents, setup=feed_setup)
    assert not fit.equal
    assert named(fit) == ()
    assert any(found.fact == "label-differs-from-text" for found in fit.deviations)


@pytest.mark.parametrize("again", [False, True])
def test_masks_of_the_next_epoch_are_others(feed_setup: Setup, documents: list[Document], again: bool) -> None:
    first, later = made(feed_setup, documents), made(feed_setup, documents, seed=1 if again else 2)
    fit = explain_examples(first, documents, setup=feed_setup, next_epoch=later)
    assert named(fit) == (("same-masks-every-epoch",) if again else ())
    assert fit.equal != again


def test_documents_that_are_used_again_and_again_are_named(feed_setup: Setup, documents: list[Document]) -> None:
    often = [
        document for number, document in enumerate(documents) if document["dataset"] == "notes" and number % 8 == 0
    ]
    feed = made(feed_setup, [*documents, *(often * 4)])
    fit = explain_examples(feed, documents, setup=feed_setup)
    assert named(fit) == ("repeated-documents",), fit.tried[:3]
    assert set(doses(fit)["repeated-documents"]) == {"notes"}

"""Training streams as users make them: healthy ones are left alone, faults of order are named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.diagnosis.feeds.planted import encoder, made, named
from tests.unit.diagnosis.makers import DATASETS, STYLES, Document, UserMaker, UserStream, corpus

from lossary.diagnosis.adapter import Setup, as_feed
from lossary.diagnosis.calibration import ALARM_LEVEL
from lossary.diagnosis.feeds.explain import explain_stream
from lossary.diagnosis.feeds.observed import observe
from lossary.diagnosis.feeds.outcome import FeedFit
from lossary.diagnosis.feeds.reference import Reference, reference_stream
from lossary.diagnosis.feeds.serial import shared_draws
from lossary.diagnosis.feeds.streams import Stream, repeats

BATCH, STEPS, RESUMED = 16, 60, 15


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return corpus(120, seed=3)


def streamed(setup: Setup, documents: list[Document], style: str, seed: int, **faults: Any) -> UserStream:
    maker = UserMaker(encoder(setup), style=style, seed=seed)
    return UserStream(maker, documents, dict(setup.shares), seed=seed, **faults)


def explained(
    setup: Setup,
    documents: list[Document],
    *,
    style: str = "sentences",
    seed: int = 1,
    resumes: bool = True,
    **faults: Any,
) -> FeedFit:
    stream = streamed(setup, documents, style, seed, **faults)
    whole, part = (
        as_feed(stream.steps(start, STEPS, BATCH, resumed=start > 0), where="user") for start in (0, RESUMED)
    )
    resumed: dict[str, Any] = {"resumed": part, "resumed_at": RESUMED * BATCH} if resumes else {}
    return explain_stream(whole, documents, setup=setup, repeats=False, **resumed)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_healthy_stream_is_left_alone(feed_setup: Setup, documents: list[Document], style: str, seed: int) -> None:
    fit = explained(feed_setup, documents, style=style, seed=seed)
    assert fit.equal, fit.deviations
    assert not fit.tried


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("document", "documents-in-file-order"),
        ("size", "examples-by-length"),
        ("dataset", "datasets-one-after-another"),
    ],
)
def test_an_order_in_time_is_named_and_may_be_declared(
    feed_setup: Setup, documents: list[Document], key: str, name: str
) -> None:
    whole = as_feed(streamed(feed_setup, documents, "sentences", 1).steps(0, STEPS, BATCH), where="user")
    scene = Reference.shared(documents, feed_setup)
    units = Stream.of(observe(whole, scene.corpus, scene.tokenizer), scene.corpus).units
    column = getattr(units, key)
    rows = np.arange(len(whole))
    for number in range(len(feed_setup.datasets)) if key != "dataset" else [None]:
        mine = rows if number is None else np.flatnonzero(units.dataset == number)
        run = 200 if number is None else len(np.unique(units.number[mine]))  # an epoch
        for start in range(0, len(mine), run):
            part = mine[start : start + run]
            rows[part] = part[np.argsort(column[part], kind="stable")]
    arranged = whole.take(rows)
    fit = explain_stream(arranged, documents, setup=feed_setup)
    assert name in named(fit), (fit.tried[:2], fit.deviations)
    grouped = ("file", "length", "dataset")
    declared = explain_stream(arranged, documents, setup=feed_setup, grouped=grouped)
    assert not any(deviation.fact.startswith("arranged") for deviation in declared.deviations)


def test_draws_that_neighbours_share_are_seen(feed_setup: Setup, documents: list[Document]) -> None:
    feed = as_feed(streamed(feed_setup, documents, "sentences", 1).steps(0, STEPS, BATCH), where="user")
    scene = Reference.shared(documents, feed_setup)
    observed = observe(feed, scene.corpus, scene.tokenizer)
    assert not shared_draws(observed).deviations
    # Pairs whose order is that of a neighbour: swapped ones behind each other, in groups of eight.
    rows = np.concatenate(
        [np.random.default_rng(1).permutation(part) for part in np.array_split(np.argsort(observed.order), 2)]
    ).reshape(2, -1, 8)
    assert shared_draws(
        observe(feed.take(np.concatenate(list(zip(*rows, strict=True))).ravel()), scene.corpus, scene.tokenizer)
    ).deviations


def test_masks_after_a_resume_are_those_without_it_where_masks_repeat_at_all(
    feed_setup: Setup, documents: list[Document]
) -> None:
    # This maker goes on drawing from where it was: it has other masks whenever it is asked.
    stream = streamed(feed_setup, documents, "sentences", 1)
    whole, redrawn = (as_feed(stream.steps(start, STEPS, BATCH), where="user") for start in (0, RESUMED))
    kept = whole.take(np.arange(RESUMED * BATCH, len(whole)))
    given: dict[str, Any] = {"setup": feed_setup, "resumed_at": RESUMED * BATCH}
    assert explain_stream(whole, documents, resumed=kept, **given).equal
    assert explain_stream(whole, documents, resumed=redrawn, repeats=False, **given).equal
    fit = explain_stream(whole, documents, resumed=redrawn, **given)
    assert fit.confirmed
    assert named(fit) == ("masks-redrawn-on-resume",)


def test_examples_drawn_with_replacement_are_a_choice(feed_setup: Setup, documents: list[Document]) -> None:
    assert explained(feed_setup, documents, **{"with-replacement": True}).equal


@pytest.mark.parametrize("length", [20, 60, 200, 700, 2000])
def test_no_length_of_a_healthy_stream_makes_its_repeats_early(length: int) -> None:
    random = np.random.default_rng(length)
    for _ in range(40):
        replaced = random.integers(0, 300, length)
        epochs = np.concatenate([random.permutation(300) for _ in range(1 + length // 300)])[:length]
        # A quarter of the examples of an epoch come before the others do.
        assert repeats(replaced).early > ALARM_LEVEL
        assert repeats(epochs).early > ALARM_LEVEL


def test_examples_that_come_twice_in_a_row_are_early_in_a_stream_of_any_length() -> None:
    for length in (60, 200, 700):
        assert repeats(np.repeat(np.random.default_rng(1).permutation(length), 2)).early < ALARM_LEVEL


@pytest.mark.parametrize(("kept", "how"), [(lambda row: row % 2 == 0, "every other"), (lambda row: row > 30, "first")])
def test_documents_that_never_come_are_told(
    feed_setup: Setup, documents: list[Document], kept: Callable[[int], bool], how: str
) -> None:
    examples = made(feed_setup, documents)
    brought = [document for row, document in enumerate(documents) if kept(row)]
    for some, expected in ((documents, ()), (brought, ("documents-never-arrive",))):
        stream = streamed(feed_setup, some, "sentences", 1).steps(0, 2 * STEPS, BATCH)
        fit = explain_stream(as_feed(stream, where="user"), documents, setup=feed_setup, examples=examples)
        assert named(fit) == expected, (fit.deviations, fit.tried[:3])
    assert how in fit.tried[0].says


def test_lossarys_own_stream_is_left_alone(feed_setup: Setup, documents: list[Document]) -> None:
    whole, part = (reference_stream(documents, feed_setup, start=start, stop=STEPS) for start in (0, RESUMED))
    fit = explain_stream(whole, documents, setup=feed_setup, resumed=part, resumed_at=RESUMED * BATCH)
    assert fit.equal, fit.deviations


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"duplicated": 2}, "stream-duplicated"),
        ({"repeated": 0.1}, "repeated-documents"),
        ({"same-masks": 1}, "same-masks-every-epoch"),
        ({"same-order": 1}, "same-order-every-epoch"),
        ({"shares": {"stories": 0.1, "notes": 0.5, "letters": 0.2, "queries": 0.2}}, "share-differs"),
        ({"shares": {"stories": 0.5, "notes": 0.5, "letters": 0.0, "queries": 0.0}}, "dataset-missing"),
        ({"replays": RESUMED * BATCH}, "resume-replays"),
        ({"replays": 100}, "resume-replays"),
        ({"skips": 100}, "resume-skips"),
        ({"reshuffles": 1}, "resume-elsewhere"),
    ],
)
def test_a_fault_of_order_is_named(
    feed_setup: Setup, documents: list[Document], fault: dict[str, Any], name: str
) -> None:
    fit = explained(feed_setup, documents, **fault)
    assert named(fit) == (name,), fit.tried[:3]
    assert fit.deviations


def test_how_far_a_resume_goes_astray_is_told(feed_setup: Setup, documents: list[Document]) -> None:
    fit = explained(feed_setup, documents, replays=RESUMED * BATCH)
    assert fit.best is not None
    assert fit.best.values["examples"] == RESUMED * BATCH
    assert fit.best.values["steps"] == RESUMED
    assert "from its start" in fit.best.says
    # What is not asked cannot be wrong.
    assert explained(feed_setup, documents, replays=RESUMED * BATCH, resumes=False).equal


def test_what_a_short_stream_cannot_show_is_said(feed_setup: Setup, documents: list[Document]) -> None:
    stream = streamed(feed_setup, documents, "sentences", 1)
    fit = explain_stream(as_feed(stream.steps(0, 5, BATCH), where="user"), documents, setup=feed_setup)
    assert fit.equal
    assert "less than two epochs" in fit.skipped["order of epochs"]
    assert all(name in fit.skipped["evenness"] for name in DATASETS)


def test_the_dataset_whose_share_is_another_is_told(feed_setup: Setup, documents: list[Document]) -> None:
    weights = dict(feed_setup.shares) | {"letters": 3 * feed_setup.shares["letters"]}
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    fit = explained(feed_setup, documents, shares=shares)
    assert named(fit) == ("share-differs",)
    assert fit.best is not None
    assert "as declared, but that of letters times" in fit.best.says
    assert fit.best.values["shares"] == pytest.approx(shares, abs=0.05)
    # What is declared so is no fault.
    assert explained(replace(feed_setup, shares=shares), documents).equal

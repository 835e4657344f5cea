"""Evaluation loops that average the numbers of their batches, as somebody writes them, beside right ones."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.unit.diagnosis.test_losses import healthy, observe

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.checks.loss import _alike
from lossary.diagnosis.laws.losses import MEASURES, identify_measures, laws_of

Values = dict[str, float]
Batches = Iterator[tuple[dict[str, Any], Feed]]


def loader(outputs: dict[str, Any], feed: Feed, size: int) -> Batches:
    for start in range(0, len(feed), size):
        rows = np.arange(start, min(len(feed), start + size))
        yield {name: values[rows] for name, values in outputs.items()}, feed.take(rows)


def numbers(outputs: dict[str, Any], feed: Feed) -> Values:
    """Of one batch; without pairs the order loss is 0, as `if pairs.any()` makes it."""
    if (feed.sop_labels >= 0).any():
        return healthy(outputs, feed)
    alone = feed.sop_labels.copy()
    alone[0] = 0
    found = healthy(outputs, Feed(**{**vars(feed), "sop_labels": alone}))
    return found | {"loss": found["mlm_loss"], "sop_loss": 0.0, "sop_accuracy": 0.0}


def mean_of_batches(size: int) -> Callable[[dict[str, Any], Feed], Values]:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        seen = [numbers(*batch) for batch in loader(outputs, feed, size)]
        return {name: float(np.mean([one[name] for one in seen])) for name in MEASURES}

    return side


def weighed_by_examples(size: int) -> Callable[[dict[str, Any], Feed], Values]:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        total = dict.fromkeys(MEASURES, 0.0)
        for some, batch in loader(outputs, feed, size):
            for name, value in numbers(some, batch).items():
                total[name] += value * len(batch)
        return {name: value / len(feed) for name, value in total.items()}

    return side


def sums_over_targets(size: int) -> Callable[[dict[str, Any], Feed], Values]:
    """The healthy twin: the same loop, with numerators and denominators."""

    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        above, below = dict.fromkeys(MEASURES, 0.0), dict.fromkeys(MEASURES, 0.0)
        for some, batch in loader(outputs, feed, size):
            counts = {"mlm": float(batch.weights.sum()), "sop": float((batch.sop_labels >= 0).sum())}
            for name, value in numbers(some, batch).items():
                if name != "loss":
                    # The mean of masked positions has 1e-5 added to their number.
                    added = 1e-5 if name == "mlm_loss" else 0.0
                    above[name] += value * (counts[name[:3]] + added)
                    below[name] += counts[name[:3]]
        found = {name: above[name] / below[name] for name in MEASURES if name != "loss"}
        return found | {"loss": found["mlm_loss"] + found["sop_loss"]}

    return side


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 15])
@pytest.mark.parametrize("loop", [mean_of_batches, weighed_by_examples])
def test_means_of_batches_are_one_cause_of_all_numbers(loop: Any, size: int) -> None:
    fits = identify_measures(observe(loop(size), size))
    assert set(fits) == set(MEASURES)
    for number, fit in fits.items():
        assert fit.confirmed, number
        assert fit.best is not None
        assert fit.best.names == ("mean-of-means",), number
        assert fit.best.values["batch_examples"] == size
        assert not fit.ties
    assert len(_alike(fits)) == 1


@pytest.mark.parametrize("size", [2, 5, 8, 16, 40])
def test_loops_that_add_up_targets_are_right(size: int) -> None:
    assert all(fit.equal for fit in identify_measures(observe(sums_over_targets(size), size)).values())


def test_a_batch_that_holds_all_is_right() -> None:
    assert all(fit.equal for fit in identify_measures(observe(mean_of_batches(16))).values())


def test_one_objective_alone_may_be_averaged_so() -> None:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        order = mean_of_batches(4)(outputs, feed)["sop_loss"]
        right = healthy(outputs, feed)
        return right | {"sop_loss": order, "loss": right["mlm_loss"] + order}

    fits = identify_measures(observe(side, 3))
    assert {name for name, fit in fits.items() if not fit.equal} == {"sop_loss", "loss"}
    assert len(_alike({name: fit for name, fit in fits.items() if not fit.equal})) == 1


def test_how_an_evaluation_batches_is_no_law_of_training() -> None:
    assert laws_of(observe(mean_of_batches(4))) == {}


def test_numbers_that_nothing_explains_are_told_once() -> None:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        return {name: value + 0.01 for name, value in healthy(outputs, feed).items()}

    fits = identify_measures(observe(side))
    assert not any(fit.confirmed for fit in fits.values())
    assert len(_alike(fits)) == 1

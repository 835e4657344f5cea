"""An evaluation after steps: right ones are left alone; what it looks at, counts and leaves behind is named."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from lossary.diagnosis.adapter import Setup, as_feed
from lossary.diagnosis.checks.evaluation import EVALUATION, _nats
from lossary.diagnosis.engine import concluded
from lossary.diagnosis.job import operate
from lossary.diagnosis.model import Outcome
from lossary.diagnosis.session import NotCompared, Session
from lossary.diagnosis.subject import Probes, Subject
from lossary.models.arbiter import Architecture, forward

Weights = dict[str, Any]


class Side:
    """A trainer in NumPy whose steps move all weights a little, at random."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.architecture = setup, Architecture.of(setup.shape)
        self.held: Weights = {}
        self.history: list[Weights] = []

    def load(self, weights: Mapping[str, Any]) -> None:
        self.held = {name: np.array(value) for name, value in weights.items()}
        self.history = [self.held]

    def weights(self) -> Weights:
        return self.held

    def restart(self) -> None:
        pass

    deviation = 1e-3

    def train_step(self, feed: Any, *, step: int) -> dict[str, float]:
        del feed
        random = np.random.default_rng(step)
        self.held = {
            name: (value + random.normal(0, self.deviation, value.shape)).astype(np.float32)
            for name, value in self.held.items()
        }
        self.history.append(self.held)
        return {}

    def evaluated(self) -> Weights:
        return self.held

    def batches_of(self, rows: list[Any]) -> list[Any]:
        return rows

    def evaluate(self, batches: list[Any]) -> dict[str, float]:
        rows = []
        for one in batches:
            feed = as_feed(one, where="test")
            out = forward(self.evaluated(), self.architecture, feed, precision="float32")
            rows.append(_nats(out.mlm, out.sop, feed))
        return self.told(self.batches_of(rows))

    def told(self, rows: list[Any]) -> dict[str, float]:
        mlm, masked, sop, pairs = np.concatenate(rows).sum(axis=0)
        return {"mlm_loss": mlm / masked, "sop_loss": sop / pairs, "examples": len(np.concatenate(rows))}


class Rounded(Side):
    def told(self, rows: list[Any]) -> dict[str, float]:
        return {name: round(value, 3) for name, value in super().told(rows).items()}


class Stale(Side):
    def evaluated(self) -> Weights:
        return self.history[-2]


class Averaged(Side):
    def evaluated(self) -> Weights:
        mean = self.history[0]
        for now in self.history[1:]:
            mean = {name: 0.9 * mean[name] + 0.1 * now[name] for name in now}
        return mean


class Kept(Averaged):
    def evaluate(self, batches: list[Any]) -> dict[str, float]:
        told = super().evaluate(batches)
        self.held = {name: value.astype(np.float32) for name, value in self.evaluated().items()}
        return told


class Means(Side):
    def told(self, rows: list[Any]) -> dict[str, float]:
        each = [Side.told(self, [one]) for one in rows]
        return {name: float(np.mean([one[name] for one in each])) for name in ("mlm_loss", "sop_loss")}


class Dropped(Side):
    def batches_of(self, rows: list[Any]) -> list[Any]:
        return rows[:-1]


class Filled(Side):
    def batches_of(self, rows: list[Any]) -> list[Any]:
        return [*rows, rows[0][: len(rows[0]) - len(rows[-1])]]


class Noisy(Side):
    calls = 0

    def told(self, rows: list[Any]) -> dict[str, float]:
        self.calls += 1
        return {name: value * (1 + 0.01 * self.calls) for name, value in super().told(rows).items()}


class Odd(Side):
    def told(self, rows: list[Any]) -> dict[str, float]:
        return {"mlm_loss": 1.1 * super().told(rows)["mlm_loss"]}


@dataclass
class At:
    """A session that asks a side in this process."""

    side: Any
    label: str = "side"
    cpu_s: float = 0.0

    @property
    def description(self) -> dict[str, Any]:
        return {"declared": {}, "capabilities": [name for name in dir(self.side) if self.can(name)]}

    def can(self, *names: str) -> bool:
        return all(callable(getattr(self.side, name, None)) for name in names)

    def ask(self, operation: str, **arguments: Any) -> Any:
        return operate(self.side, operation, arguments)


def outcomes(setup: Setup, side: Any) -> list[Outcome]:
    session = cast(Session, At(side))
    subject = Subject(session=session, setup=setup, documents=[], probes=Probes(setup=setup))
    return concluded(EVALUATION.name, EVALUATION.stage, "side", EVALUATION.run(subject))


@pytest.mark.parametrize("side", [Side, Rounded])
def test_a_right_evaluation_is_left_alone(feed_setup: Setup, side: Callable[[Setup], Any]) -> None:
    found = outcomes(feed_setup, side(feed_setup))
    assert {outcome.verdict for outcome in found if not outcome.part} == {"ruled out"}
    assert not [outcome for outcome in found if outcome.part]


@pytest.mark.parametrize(
    ("side", "names"),
    [
        (Stale, {"evaluation-before-update"}),
        (Averaged, {"evaluation-averaged-weights"}),
        (Kept, {"evaluation-averaged-weights", "evaluation-keeps-weights"}),
        (Means, {"evaluation-mean-of-means"}),
        (Dropped, {"evaluation-last-batch-dropped"}),
        (Filled, {"evaluation-examples-counted-twice"}),
    ],
)
def test_what_an_evaluation_does_otherwise_is_named(
    feed_setup: Setup, side: Callable[[Setup], Any], names: set[str]
) -> None:
    found = outcomes(feed_setup, side(feed_setup))
    assert {cause.name for outcome in found for cause in outcome.causes} == names
    assert not [outcome for outcome in found if outcome.ties]


@pytest.mark.parametrize("side", [Noisy, Odd])
def test_what_nothing_explains_is_noticed_without_a_name(feed_setup: Setup, side: Callable[[Setup], Any]) -> None:
    found = outcomes(feed_setup, side(feed_setup))
    assert "stage only" in {outcome.verdict for outcome in found}
    assert not [cause for outcome in found for cause in outcome.causes]


def test_logits_show_old_weights_where_there_is_no_evaluation(feed_setup: Setup) -> None:
    class Logits(Stale):
        evaluate = None  # type: ignore[assignment]

        def forward(self, feed: Any, *, training: bool = False) -> dict[str, Any]:
            del training
            out = forward(self.evaluated(), self.architecture, as_feed(feed, where="test"), precision="float32")
            return {"mlm": out.mlm, "sop": out.sop}

    found = outcomes(feed_setup, Logits(feed_setup))
    assert {cause.name for outcome in found for cause in outcome.causes} == {"evaluation-before-update"}
    assert [outcome.part for outcome in found if outcome.part] == ["its own numbers"]


def test_steps_too_small_to_be_seen_are_said(feed_setup: Setup) -> None:
    class Still(Side):
        deviation = 0.0

    found = outcomes(feed_setup, Still(feed_setup))
    assert [outcome.part for outcome in found if outcome.part] == ["after a step"]


def test_a_side_that_shows_neither_is_not_compared(feed_setup: Setup) -> None:
    class Nothing(Side):
        evaluate = None  # type: ignore[assignment]

    with pytest.raises(NotCompared, match="neither"):
        outcomes(feed_setup, Nothing(feed_setup))

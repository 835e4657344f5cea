"""The check of dynamics, on sides whose losses are made up: what rises, what a third of the rate mends."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.diagnosis.makers import corpus

from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.checks.dynamics import DYNAMICS
from lossary.diagnosis.engine import Told, concluded
from lossary.diagnosis.feeds.reference import reference_stream
from lossary.diagnosis.session import NotCompared, Session, SideSpec
from lossary.diagnosis.subject import Probes, Subject
from lossary.models.parameters import initial_parameters

PARTS = ["schedule", "weights", "dropout", "forward", "loss", "gradients", "update", "training"]
Losses = Callable[[float, int], np.ndarray]  # of a learning rate and a number of steps


@dataclass
class MadeUp:
    """A session with a side that has this course at each rate."""

    setup: Setup
    losses: Losses
    follows: bool = True
    asked: list[str] = field(default_factory=list)
    siblings: list[SideSpec | None] = field(default_factory=list)
    label: str = "made-up"
    cpu_s: float = 0.0
    description: dict[str, Any] = field(default_factory=lambda: {"declared": {}, "splits": False, "accumulates": True})

    def __enter__(self) -> "MadeUp":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sibling(self, setup: Setup, spec: SideSpec | None = None) -> "MadeUp":
        self.siblings.append(spec)
        return replace(self, setup=setup)

    def can(self, *_: str) -> bool:
        return True

    def ask(self, operation: str, **request: Any) -> Any:
        self.asked.append(operation)
        rate = self.setup.recipe.optimizer.learning_rate
        if operation == "learning_rates":
            return [rate if self.follows else 1.0] * (request["stop"] - request["start"])
        steps = len(request["feeds"])
        if operation == "courses":
            return [self.losses(factor * rate, steps).tolist() for factor in request["factors"]]
        return [None if np.isinf(loss) else float(loss) for loss in self.losses(rate, steps)]


def batches(steps: int) -> np.ndarray:
    return np.random.default_rng(7).normal(0.0, 0.05, steps)


def falling(steps: int) -> np.ndarray:
    return 4.0 + 3.0 * np.exp(-np.arange(steps) / 40) + batches(steps)


def rising(steps: int) -> np.ndarray:
    losses = falling(steps)
    losses[steps // 2 :] += 1.5
    return losses


def outcome(setup: Setup, losses: Losses, *, follows: bool = True, known: dict[str, Any] | None = None) -> Any:
    small = setup.recipe.model_copy(update={"batch_size": 2, "steps": 80})
    setup = replace(setup, recipe=small)
    subject = Subject(
        session=MadeUp(setup, losses, follows),  # type: ignore[arg-type]
        setup=setup,
        documents=corpus(30),
        probes=Probes(setup=setup),
        known=known or {},
    )
    return concluded(DYNAMICS.name, DYNAMICS.stage, subject.label, DYNAMICS.run(subject))[0]


def test_a_falling_loss_is_ruled_out(feed_setup: Setup) -> None:
    found = outcome(feed_setup, lambda _, steps: falling(steps))
    assert found.verdict == "ruled out"


def test_a_rise_that_a_third_of_the_rate_mends_is_named(feed_setup: Setup) -> None:
    high = feed_setup.recipe.optimizer.learning_rate
    found = outcome(feed_setup, lambda rate, steps: rising(steps) if rate > high / 2 else falling(steps))
    assert found.verdict == "confirmed"
    assert [cause.name for cause in found.causes] == ["learning-rate-too-high"]
    assert found.causes[0].values["tried"] == pytest.approx(high / 3)


def test_a_loss_that_is_lower_at_a_tenth_of_the_rate_is_named_without_a_rise(feed_setup: Setup) -> None:
    high = feed_setup.recipe.optimizer.learning_rate

    def stuck(rate: float, steps: int) -> np.ndarray:
        return falling(steps) - (0.3 if rate < high / 5 else 0.0) * np.arange(steps) / steps

    known = {"ruled out": PARTS}
    found = outcome(feed_setup, stuck, known=known)
    assert [cause.name for cause in found.causes] == ["learning-rate-too-high"]
    assert found.causes[0].values["tried"] == pytest.approx(high / 10)
    # Learning more slowly is what a lower rate does.
    assert outcome(feed_setup, lambda rate, steps: stuck(2 * high - rate, steps), known=known).verdict == "ruled out"


def test_a_rise_at_any_rate_has_another_cause(feed_setup: Setup) -> None:
    found = outcome(feed_setup, lambda _, steps: rising(steps))
    assert found.verdict == "stage only"


def test_a_loss_that_is_no_number_rises(feed_setup: Setup) -> None:
    high = feed_setup.recipe.optimizer.learning_rate

    def broken(rate: float, steps: int) -> np.ndarray:
        losses = falling(steps)
        if rate > high / 2:
            losses[steps // 2 :] = np.nan
        return losses

    assert outcome(feed_setup, broken).verdict == "confirmed"


def test_a_side_that_keeps_its_rate_cannot_show_it(feed_setup: Setup) -> None:
    with pytest.raises(NotCompared, match="do not follow"):
        outcome(feed_setup, lambda _, steps: rising(steps), follows=False)


def test_a_side_that_tells_no_loss_cannot_show_it(feed_setup: Setup) -> None:
    with pytest.raises(NotCompared, match="tells no loss"):
        outcome(feed_setup, lambda _, steps: np.full(steps, np.inf))


def test_parts_that_differ_come_first(feed_setup: Setup) -> None:
    with pytest.raises(NotCompared, match="mend those first"):
        outcome(feed_setup, lambda _, steps: falling(steps), known={"deviating": ["update"]})


@pytest.mark.parametrize(
    ("ruled_out", "declared", "taken_by"),
    [
        (PARTS, {}, ["reference"]),
        (PARTS, {"precision": "bf16"}, ["reference"]),
        (PARTS[:-1], {}, []),  # whole steps were not seen
        (PARTS, {"bias_correction": False}, []),  # another law than the reference's
    ],
)
def test_steps_that_are_known_to_be_the_reference_s_are_taken_by_it(
    feed_setup: Setup, ruled_out: list[str], declared: dict[str, Any], taken_by: list[str]
) -> None:
    session = MadeUp(feed_setup, lambda _, steps: falling(steps))
    session.description["declared"] = declared
    subject = Subject(
        session=session,  # type: ignore[arg-type]
        setup=feed_setup,
        documents=corpus(30),
        probes=Probes(setup=feed_setup),
        known={"ruled out": ruled_out},
    )
    told = DYNAMICS.run(subject)
    assert isinstance(told, Told)
    assert [spec.label for spec in session.siblings if spec is not None] == taken_by
    assert ("taken by the reference" in told.measured) == bool(taken_by)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_courses_of_the_reference_are_those_of_recipes_with_such_rates(
    feed_setup: Setup, tmp_path: Path, backend: str
) -> None:
    """One process takes the steps at all rates; each course is what a fresh side with that rate would take."""
    optimizer = feed_setup.recipe.optimizer
    lower = optimizer.model_copy(update={"learning_rate": optimizer.learning_rate / 3})
    spec = SideSpec(label="reference", kind="backend", backend=backend)
    stream = reference_stream(corpus(30), feed_setup, start=0, stop=8)
    rows = feed_setup.recipe.batch_size
    steps = {
        "weights": initial_parameters(feed_setup.shape, feed_setup.seed),
        "feeds": [stream.take(np.arange(step * rows, (step + 1) * rows)).arrays() for step in range(8)],
        "first": 1,
    }
    with Session(spec, feed_setup, tmp_path) as session:
        courses = session.ask("courses", **steps, factors=[1.0, 1 / 3])
    setups = [feed_setup, replace(feed_setup, recipe=feed_setup.recipe.model_copy(update={"optimizer": lower}))]
    for course, setup in zip(courses, setups, strict=True):
        with Session(spec, setup, tmp_path) as session:
            assert course == pytest.approx(session.ask("course", **steps), rel=1e-6)
    assert courses[0] != courses[1]

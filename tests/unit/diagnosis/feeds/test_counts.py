"""Counts by dataset against a healthy rate, and against the reference with a fault."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossary.diagnosis.feeds.epochs import ByDataset, aspect_of, named
from lossary.diagnosis.feeds.outcome import Aspect, joined
from lossary.diagnosis.fit import Candidate

NAMES = ("a", "b", "c")


def counted(k: list[int], n: list[int], floor: float = 1e-4) -> ByDataset:
    return ByDataset(NAMES, (np.array(k, float), np.array(n, float)), floor=floor)


def count(k: list[int], n: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(k, float), np.array(n, float)


@given(st.lists(st.integers(0, 400), min_size=3, max_size=3))
def test_nothing_seen_is_no_alarm(n: list[int]) -> None:
    assert (counted([0, 0, 0], n).alarms() == 0).all()


@given(st.integers(0, 99))
def test_more_of_a_fault_is_more_of_an_alarm(k: int) -> None:
    few, more = counted([k, 0, 0], [100, 50, 0]), counted([k + 1, 0, 0], [100, 50, 0])
    assert few.alarms()[0] <= more.alarms()[0]
    assert counted([100, 0, 0], [100, 50, 0]).alarms()[0] > 1


def test_what_the_reference_has_by_chance_is_no_alarm() -> None:
    few = counted([4, 0, 0], [100, 100, 100])
    assert few.alarms()[0] > 1
    assert (few.above(lambda: count([8, 8, 8], [200, 200, 200])).alarms() <= 1).all()
    # One that is far beyond what chance gives stays one.
    many = counted([90, 0, 0], [100, 100, 100])
    assert many.above(lambda: count([8, 8, 8], [200, 200, 200])).alarms()[0] > 1


@pytest.mark.parametrize("dose", [0.2, 0.5, 1.0])
def test_the_dose_is_read_from_the_reference_with_the_fault(dose: float) -> None:
    base, struck = count([0, 0, 0], [1000, 1000, 1000]), count([900, 900, 900], [1000, 1000, 1000])
    side = counted([round(900 * dose), 0, 0], [1000, 1000, 1000])
    (candidate,) = named("some-fault", "something is wrong", side, lambda: (base, struck))
    assert candidate.names == ("some-fault",)
    assert candidate.reproduces
    assert candidate.values["datasets"] == {"a": pytest.approx(dose)}
    assert ("all of a" if dose == 1 else f"{100 * dose:.1f}% of a") in candidate.says


def test_a_fault_that_leaves_another_trace_does_not_reproduce() -> None:
    base, struck = count([0, 0, 0], [1000, 1000, 1000]), count([900, 900, 900], [1000, 1000, 1000])
    (candidate,) = named(
        "some-fault",
        "something is wrong",
        counted([300, 0, 0], [1000, 1000, 1000]),
        lambda: (base, struck),
        dose=np.array([1.0, 1.0, 1.0]),
    )
    assert not candidate.reproduces


def test_where_nothing_deviates_nothing_is_tried() -> None:
    def never() -> None:
        raise AssertionError("the reference is not asked")

    healthy = counted([0, 0, 0], [10, 10, 10])
    assert named("some-fault", "something is wrong", healthy, never) == ()  # type: ignore[arg-type]
    assert aspect_of("fact", "things are so", healthy, ()).deviations == ()


def candidate(name: str, residual: float) -> Candidate:
    return Candidate(names=(name,), says=name, residual=residual, values={"faults": {name: {"name": name}}})


def test_what_reproduces_one_aspect_has_to_explain_the_others_too() -> None:
    first = Aspect(distance=5.0, candidates=(candidate("one", 0.5),))
    second = Aspect(distance=7.0, candidates=(candidate("two", 0.2),))
    quiet = Aspect(distance=0.3)
    both = joined([first, second, quiet], how="test")
    assert both.best is not None
    assert both.best.names == ("one", "two")
    assert both.best.residual == 0.5
    assert [found.reproduces for found in both.tried] == [True, False, False]
    alone = joined([first, quiet], how="test")
    assert alone.best is not None
    assert alone.best.names == ("one",)
    unexplained = joined([first, Aspect(distance=3.0), quiet], how="test")
    assert not unexplained.confirmed
    assert joined([quiet], how="test").equal

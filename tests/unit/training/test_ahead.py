"""Batches that are made ahead are those that are asked for, and what goes wrong is told at the step that it is of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossary.errors import ShardError
from lossary.training.ahead import Ahead


@given(steps=st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_any_order_of_steps_gives_their_batches(steps: list[int]) -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step * 10

    ahead = Ahead(make, 10)  # type: ignore[arg-type]
    assert [ahead.batch(step) for step in steps] == [step * 10 for step in steps]
    assert max(made) < 10


def test_a_step_that_fails_does_not_take_the_one_before_it_along() -> None:
    def make(step: int) -> int:
        if step == 1:
            raise ShardError("damaged")
        return step

    ahead = Ahead(make, 5)  # type: ignore[arg-type]
    assert ahead.batch(0) == 0  # type: ignore[comparison-overlap]
    with pytest.raises(ShardError):
        ahead.batch(1)
    assert ahead.batch(2) == 2  # type: ignore[comparison-overlap]

"""Choosing by hashes in little memory: what is chosen is what sorting everything would choose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossary.data import freeze

_ANY = st.lists(st.lists(st.integers(0, 40) | st.integers(0, 2**64 - 1), max_size=60), max_size=8)


@given(parts=_ANY, count=st.integers(0, 70), window=st.integers(1, 9))
def test_the_smallest_different_values_are_found(parts: list[list[int]], count: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(freeze, "_WINDOW", window)
        found = freeze._smallest((np.array(part, np.uint64) for part in parts), count)
    assert found.tolist() == sorted({value for part in parts for value in part})[:count]


def test_the_smallest_of_more_than_are_held_at_once() -> None:
    random = np.random.default_rng(3)
    parts = [random.integers(0, 400_000, 90_000, dtype=np.uint64) for _ in range(7)]
    wanted = np.unique(np.concatenate(parts))
    for count in (1, 100_000, len(wanted), len(wanted) + 5):
        assert np.array_equal(freeze._smallest(iter(parts), count), wanted[:count])


@given(values=st.lists(st.integers(0, 2**64 - 1), max_size=20), key=st.integers(0, 2**64 - 1))
def test_mixing_is_undone(values: list[int], key: int) -> None:
    given_values = np.array(values, np.uint64)
    assert freeze._unmix(freeze._mix(given_values, key=key), key=key).tolist() == values


@given(spans=st.lists(st.integers(1, 9), max_size=40), count=st.integers(0, 200), window=st.integers(1, 9))
def test_a_choice_is_limited_to_the_first_spans(spans: list[int], count: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(freeze, "_WINDOW", window)
        limited = freeze._Choice(np.arange(len(spans), dtype=np.uint64), np.array(spans, np.int32)).limited(count)
    left, wanted = count, []
    for one in spans:
        wanted.append(min(one, left))
        left -= wanted[-1]
    assert limited.spans.tolist() == wanted

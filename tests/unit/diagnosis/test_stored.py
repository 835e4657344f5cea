"""Stored scores as columns: what is taken of them, and which examples two runs share."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossary.diagnosis.stored import Scores, matched

NAMES = ("a", "b")


def scores(examples: list[tuple[int, int, int]], *, seed: int = 0, positions: bool = True) -> Scores:
    """Scores of (dataset, example, masked positions)."""
    rng = np.random.default_rng(seed)
    rows = sorted(examples)
    masked = np.array([masked for *_, masked in rows], np.float64)
    n = len(rows)
    nats = rng.random(int(masked.sum())).astype(np.float32)
    edges = np.concatenate([[0], np.cumsum(masked)]).astype(int)
    return Scores(
        datasets=NAMES,
        dataset=np.array([dataset for dataset, _, _ in rows], np.int64),
        example=np.array([example for _, example, _ in rows], np.uint64),
        tokens=masked * 7,
        masked=masked,
        mlm_nats=np.array([nats[a:b].sum() for a, b in pairwise(edges)], np.float64),
        mlm_correct=np.zeros(n),
        sop_label=np.full(n, -1),
        sop_nats=np.zeros(n),
        sop_correct=np.zeros(n),
        positions=nats if positions else nats[:0],
    )


ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(1, 5)), unique_by=lambda row: row[:2], max_size=20
)


@given(ROWS, st.integers(0, 2**32))
def test_positions_go_with_their_examples(rows: list[tuple[int, int, int]], seed: int) -> None:
    found = scores(rows, seed=seed)
    order = np.random.default_rng(seed).permutation(len(rows))[: len(rows) // 2 + 1]
    part = found.take(order)
    edges = np.concatenate([[0], np.cumsum(part.masked)]).astype(int)
    sums = [part.positions[a:b].sum() for a, b in pairwise(edges)]
    np.testing.assert_allclose(sums, found.mlm_nats[order], rtol=1e-5)
    assert sum(len(found.of(name)) for name in NAMES) == len(found)


@given(ROWS, ROWS)
def test_what_two_runs_share_is_matched_in_order(
    one: list[tuple[int, int, int]], other: list[tuple[int, int, int]]
) -> None:
    left, right = matched(scores(one, seed=1), scores(other, seed=2))
    # The same example with as many masked positions.
    expected = sorted(set(one) & set(other))
    for found in (left, right):
        told = zip(found.dataset.tolist(), found.example.tolist(), found.masked.astype(int).tolist(), strict=True)
        assert list(told) == expected
        assert len(found.positions) == sum(masked for *_, masked in expected)


def test_rows_by_a_mask_are_those_by_their_places() -> None:
    found = scores([(0, 1, 2), (0, 2, 1), (1, 1, 3)], positions=False)
    rows = found.masked > 1
    assert found.take(rows).example.tolist() == found.take(np.flatnonzero(rows)).example.tolist() == [1, 1]
    assert len(found.take(rows).positions) == 0


def test_scores_of_other_datasets_are_not_matched() -> None:
    one = scores([(0, 1, 2)])
    with pytest.raises(ValueError, match="the same datasets are expected"):
        matched(one, replace(one, datasets=("b", "a")))

"""Differences, multiplicity, decomposition, power and bootstrap, against brute force and simulation."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from tests.columns import RunColumns, columns_of, compare_columns

from lossary.statistics.bootstrap import bootstrap_ratio
from lossary.statistics.decomposition import decompose
from lossary.statistics.estimates import Estimate, MeanSums, RatioSums, mean, ratio, weighted_mean
from lossary.statistics.multiplicity import holm
from lossary.statistics.paired import differs_p, heterogeneity_p, one_sided_p, paired_proportion
from lossary.statistics.power import examples_needed
from lossary.statistics.seeds import seed_spread

SIMULATIONS = 2000
numbers = st.floats(-50, 50)
weights = st.floats(0.01, 1)


def ratio_of(y: np.ndarray, x: np.ndarray) -> Estimate:
    return ratio(RatioSums.of(y, x))


def mean_of(y: np.ndarray) -> Estimate:
    return mean(MeanSums.of(y))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_the_step_down_procedure(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.5):
        rejected = set()
        for rank, index in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[index] * (len(p_values) - rank) > level:
                break
            rejected.add(int(index))
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected
    in_order = [adjusted[i] for i in np.argsort(p_values, kind="stable")]
    assert all(first <= second for first, second in pairwise(in_order))


@given(st.lists(st.tuples(weights, weights, numbers, numbers), min_size=1, max_size=8))
def test_a_decomposition_adds_up_exactly(rows: list[tuple[float, float, float, float]]) -> None:
    columns = [{str(i): row[k] for i, row in enumerate(rows)} for k in range(4)]
    found = decompose(shares=(columns[0], columns[1]), values=(columns[2], columns[3]))
    totals = [np.average([row[k + 2] for row in rows], weights=[row[k] for row in rows]) for k in (0, 1)]
    assert found.change == pytest.approx(totals[1] - totals[0], abs=1e-9)
    assert sum(found.share_shift.values()) + sum(found.within.values()) == pytest.approx(found.change, abs=1e-9)
    same = decompose(shares=(columns[0], columns[0]), values=(columns[2], columns[3]))
    assert sum(same.share_shift.values()) == pytest.approx(0, abs=1e-9)
    unchanged = decompose(shares=(columns[0], columns[1]), values=(columns[2], columns[2]))
    assert sum(unchanged.within.values()) == 0


def test_a_decomposition_of_different_datasets_is_refused() -> None:
    with pytest.raises(ValueError, match="different datasets"):
        decompose(shares=({"a": 1}, {"a": 1}), values=({"a": 1}, {"b": 1}))
    with pytest.raises(ValueError, match="positive"):
        decompose(shares=({"a": 0}, {"a": 1}), values=({"a": 1}, {"a": 1}))


def one_dataset(y: np.ndarray, x: np.ndarray, example: np.ndarray) -> RunColumns:
    return columns_of(["d"], np.zeros(len(y), np.int64), example, masked=x, mlm=(y, np.floor(x / 2)))


@given(st.integers(3, 40), st.integers(0, 10), st.integers(0, 99))
def test_runs_are_paired_on_the_examples_of_both(n: int, gone: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gone = min(gone, n - 2)
    x, first, second = rng.integers(1, 9, n).astype(float), rng.random(n) * 5, rng.random(n) * 5
    example = np.arange(n)
    left = one_dataset(first, x, example)
    right = one_dataset(second[gone:], x[gone:], example[gone:])
    found = compare_columns(left, right)
    brute = (second[gone:] - first[gone:]).sum() / x[gone:].sum()
    assert found.estimates["d"]["mlm_loss"].value == pytest.approx(brute)
    assert found.unmatched["d"]["mlm_loss"] == gone
    assert found.estimates["d"]["sop_loss"].value is None
    assert found.estimates["d"]["sop_loss"].reason
    assert compare_columns(left, left).estimates["d"]["mlm_loss"].value == 0


def test_a_paired_mean_is_the_paired_t_test_but_for_skewness() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(0, 1, 400)
    b = a + rng.normal(0.03, 0.2, 400)
    p = differs_p(mean_of(b - a))
    assert p == pytest.approx(ttest_rel(b, a).pvalue, rel=1e-6)


@pytest.mark.parametrize("n", [12, 30, 200])
def test_intervals_of_paired_deltas_cover(n: int) -> None:
    """Losses share what makes an example hard; lengths are uneven."""
    rng = np.random.default_rng(n)
    covered = 0
    for _ in range(SIMULATIONS):
        x = np.minimum(1 + rng.geometric(0.2, n), 20).astype(float)
        hard = rng.gamma(3, 1 / 3, n)
        first = x * hard * 3 + rng.normal(0, 0.5, n) * np.sqrt(x)
        second = x * hard * 3.2 + rng.normal(0, 0.5, n) * np.sqrt(x)
        found = ratio_of(second - first, x)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.2 <= found.high
    assert 0.93 <= covered / SIMULATIONS <= 0.97


@pytest.mark.parametrize("n", [12, 25, 60])
def test_intervals_of_losses_cover_in_small_uneven_datasets(n: int) -> None:
    rng = np.random.default_rng(n)
    x = np.minimum(1 + rng.geometric(0.2, (SIMULATIONS, n)), 20).astype(float)
    y = x * rng.gamma(4, 0.25, (SIMULATIONS, n)) * 3
    covered = sum((e.low or 0) <= 3.0 <= (e.high or 0) for e in map(ratio_of, y, x))
    assert 0.93 <= covered / SIMULATIONS <= 0.97


@pytest.mark.parametrize("n", [20, 60, 300])
def test_intervals_of_sop_losses_cover_though_they_are_skewed(n: int) -> None:
    rng = np.random.default_rng(n)
    y = rng.exponential(0.4, (SIMULATIONS, n))
    covered = sum((e.low or 0) <= 0.4 <= (e.high or 0) for e in map(mean_of, y))
    assert 0.93 <= covered / SIMULATIONS <= 0.97


@pytest.mark.parametrize(("n", "gain", "loss"), [(40, 0.1, 0.1), (200, 0.05, 0.02), (1000, 0.2, 0.15)])
def test_intervals_of_paired_accuracies_cover(n: int, gain: float, loss: float) -> None:
    rng = np.random.default_rng(n)
    draws = rng.multinomial(n, [gain, loss, 1 - gain - loss], SIMULATIONS)
    found = [paired_proportion(n=n, gained=int(g), lost=int(lo)) for g, lo, _ in draws]
    covered = np.mean([(e.low or 0) <= gain - loss <= (e.high or 0) for e in found])
    assert 0.93 <= covered <= 0.975


def test_totals_of_paired_deltas_cover() -> None:
    rng = np.random.default_rng(1)
    sizes, truths, shares = (15, 60, 300), (0.3, -0.1, 0.0), (0.3, 0.3, 0.4)
    truth = float(np.dot(truths, shares))
    covered = 0
    for _ in range(SIMULATIONS):
        parts = [
            (share, ratio_of(rng.normal(delta, 0.7, n), np.ones(n)))
            for n, delta, share in zip(sizes, truths, shares, strict=True)
        ]
        total = weighted_mean(parts)
        covered += (total.low or 9) <= truth <= (total.high or -9)
    assert 0.93 <= covered / SIMULATIONS <= 0.97


def test_heterogeneity_rejects_five_in_a_hundred_where_there_is_none() -> None:
    rng = np.random.default_rng(2)
    sizes = (20, 60, 200)
    rejected = 0
    for _ in range(SIMULATIONS):
        p = heterogeneity_p([ratio_of(rng.normal(0.5, 1, n), np.ones(n)) for n in sizes])
        assert p is not None
        rejected += p < 0.05
    assert 0.02 <= rejected / SIMULATIONS <= 0.06
    far = [ratio_of(rng.normal(centre, 1, 200), np.ones(200)) for centre in (0, 0, 1)]
    assert (heterogeneity_p(far) or 0) < 1e-6


def test_power_gives_the_number_of_examples_at_which_four_of_five_studies_see_it() -> None:
    rng = np.random.default_rng(4)
    hard = rng.normal(0, 1, 4000)
    first, second = hard + rng.normal(0, 0.3, 4000), hard + 0.1 + rng.normal(0, 0.3, 4000)
    delta = mean_of(second - first)
    found = examples_needed(delta, mean_of(first), mean_of(second))
    assert found.paired is not None
    assert found.unpaired is not None
    assert found.unpaired > 5 * found.paired
    seen = 0
    for _ in range(500):
        hard = rng.normal(0, 1, found.paired)
        noise = rng.normal(0, 0.3, (2, found.paired))
        y = (delta.value or 0) + noise[1] - noise[0]
        seen += (differs_p(mean_of(y)) or 1) < 0.05
    assert 0.7 <= seen / 500 <= 0.9
    assert examples_needed(Estimate(value=0.0, n=5, variance=1.0), delta, delta).paired is None


def test_the_bootstrap_needs_a_seed_and_agrees_with_the_closed_form() -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(1, 9, 300).astype(float)
    y = x * rng.gamma(4, 0.5, 300)
    first, again = bootstrap_ratio(y, x, seed=1), bootstrap_ratio(y, x, seed=1)
    assert first == again
    closed = ratio_of(y, x)
    assert first.low == pytest.approx(closed.low, abs=0.05)
    assert first.high == pytest.approx(closed.high, abs=0.05)
    assert "seed 1" in first.method
    assert bootstrap_ratio(y[:1], x[:1], seed=1).reason


def test_one_sided_p_is_small_only_above_the_bound() -> None:
    rng = np.random.default_rng(6)
    found = mean_of(rng.normal(0.8, 0.3, 200))
    assert (one_sided_p(found, 0.69) or 1) < 0.001
    assert (one_sided_p(found, 0.95) or 0) > 0.999
    assert one_sided_p(Estimate(value=None, reason="none"), 0.5) is None


def test_the_spread_of_seeds_is_their_standard_deviation() -> None:
    found = seed_spread([1.0, 1.2, 1.4])
    assert found is not None
    assert found.deviation == pytest.approx(0.2)
    assert seed_spread([1.0]) is None


def test_a_table_has_differences_to_its_base(synthetic: Callable[..., object], planted: Callable[..., object]) -> None:
    from lossary.tables.build import build_table

    study = synthetic({"tf_xxl": "tensorflow", "torch_xxl": "torch"})
    for run, worse in (("tf_xxl", 0.0), ("torch_xxl", 2.0)):
        means = {name: planted(mlm=2.0 + (worse if name == "views" else 0)) for name in ("reform", "views", "dialogue")}
        study.score(run, means)  # type: ignore[attr-defined]
    table = build_table(study.study, study.folder, base="tf_xxl")  # type: ignore[attr-defined]
    assert table.base == "tf_xxl"
    views, reform = (table.delta("torch_xxl", name, "mlm_loss") for name in ("views", "reform"))
    assert views is not None
    assert reform is not None
    assert views.value == pytest.approx(2.0, abs=0.1)
    assert views.differs
    assert not reform.differs
    assert views.n + views.unmatched / 2 == round(3000 * 0.65)

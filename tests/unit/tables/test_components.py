"""Components of variance: intervals hold the truth, and nothing is said of what has no repeats."""

import numpy as np
import pytest

from lossary.statistics.components import components


def test_intervals_hold_the_truth_in_nineteen_studies_of_twenty() -> None:
    rng = np.random.default_rng(1)
    seeds, between, noise, studies = 0.02, 0.05, 0.01, 300
    held = np.zeros(2)
    for _ in range(studies):
        centres = rng.normal(0, between, 6)
        groups = [list(rng.normal(centre, np.hypot(seeds, noise), 3)) for centre in centres]
        found = components(groups, noise=noise**2)
        assert found is not None
        assert found.configurations is not None
        held += (
            found.seeds.low <= seeds <= found.seeds.high,
            found.configurations.low <= between <= found.configurations.high,
        )
    # Three standard errors of 300 studies below 95 %.
    assert (held / studies > 0.912).all()


def test_seed_noise_that_is_the_same_is_refused_in_one_study_of_twenty() -> None:
    rng = np.random.default_rng(2)
    found = [components([list(rng.normal(0, 1, n)) for n in (2, 2, 4)], noise=0.0) for _ in range(300)]
    assert np.mean([one is not None and one.p_alike is not None and one.p_alike < 0.05 for one in found]) < 0.088
    apart = components([list(rng.normal(0, 20 if place == 0 else 1, 8)) for place in range(3)], noise=0.0)
    assert apart is not None
    assert apart.p_alike is not None
    assert apart.p_alike < 0.01


@pytest.mark.parametrize("shift", [0.0, 3.5])
def test_what_all_values_share_moves_no_component(shift: float) -> None:
    groups = [[1.0, 1.2, 1.1], [2.0, 2.3], [1.5]]
    found, moved = (components([[v + s for v in g] for g in groups], noise=0.001) for s in (0.0, shift))
    assert found is not None
    assert moved is not None
    assert moved.seeds.deviation == pytest.approx(found.seeds.deviation)
    assert moved.seeds.high == pytest.approx(found.seeds.high)
    assert [group.deviation is None for group in found.groups] == [False, False, True]


def test_without_repeats_nothing_is_said_and_one_configuration_has_no_spread_between() -> None:
    assert components([[1.0], [2.0]], noise=0.0) is None
    found = components([[1.0, 1.1]], noise=0.0)
    assert found is not None
    assert (found.configurations, found.p_alike, found.least_ratio) == (None, None, None)

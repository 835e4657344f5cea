"""What a gap goes with: planted covariates, datasets that differ by one, and nothing at all."""

from dataclasses import replace

import numpy as np
import pytest

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.covariates import covariates_of, explain_gap

NAMES = ["old", "views", "web"]


def make(seed: int, n: int = 200) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, np.random.Generator]:
    """Noise as the gap, covariates that differ by dataset, datasets."""
    random = np.random.default_rng(seed)
    dataset = np.repeat(np.arange(3), n)
    covariates = {
        "length": random.integers(10, 65, 3 * n).astype(float),
        # Mostly unpadded examples in two datasets, mostly padded ones in the third.
        "padding": np.where(dataset == 1, random.beta(4, 2, 3 * n), random.beta(1.2, 4, 3 * n)),
        "swapped": random.integers(0, 2, 3 * n).astype(float),
        "duplicates": np.where(random.random(3 * n) < 0.1, random.integers(1, 5, 3 * n), 0).astype(float),
        "capitals": random.beta(2, 8, 3 * n),
    }
    return random.standard_t(4, 3 * n), covariates, dataset, random


@pytest.mark.parametrize("seed", range(10))
def test_a_covariate_explains_that_the_gap_is_in_one_dataset(seed: int) -> None:
    gap, covariates, dataset, _ = make(seed)
    gap = 0.5 * gap + 3.0 * covariates["padding"]
    told = explain_gap(gap, covariates, dataset, names=NAMES)
    assert told[0].covariate == "padding"
    explaining = [(t.dataset, t.covariate) for t in told if t.explains]
    assert ("views", "padding") in explaining
    assert all(covariate == "padding" for _, covariate in explaining)
    found = next(t for t in told if (t.dataset, t.covariate) == ("views", "padding"))
    assert found.highest > found.lowest
    assert found.difference_low > 0
    assert found.between is not None
    assert found.between.raw > 0.8
    assert abs(found.between.adjusted or 0) < 0.3
    assert "remains" in found.says


@pytest.mark.parametrize("seed", range(10))
def test_a_gap_of_the_dataset_itself_is_explained_by_nothing(seed: int) -> None:
    gap, covariates, dataset, _ = make(seed)
    told = explain_gap(0.5 * gap + 2.0 * (dataset == 1), covariates, dataset, names=NAMES)
    assert not any(t.explains for t in told)


def test_without_any_relation_nobody_is_accused() -> None:
    flagged = explained = 0
    for seed in range(80):
        gap, covariates, dataset, _ = make(seed, n=60)
        told = explain_gap(gap, covariates, dataset)
        flagged += any(t.is_related for t in told)
        explained += any(t.explains for t in told)
    assert flagged <= 9  # 5 % of 80, and chance
    assert explained == 0


@pytest.mark.parametrize("covariate", ["length", "swapped", "duplicates", "capitals"])
def test_a_relation_within_datasets(covariate: str) -> None:
    gap, covariates, dataset, _ = make(1)
    values = covariates[covariate]
    told = explain_gap(gap + 2.0 * (values - values.mean()) / values.std(), covariates, dataset, names=NAMES)
    assert {t.covariate for t in told if t.is_related} == {covariate}
    assert len([t for t in told if t.is_related]) == 3
    assert all(t.highest > t.lowest for t in told if t.is_related)


def test_a_dataset_that_differs_wholly_cannot_be_told_from_its_covariate() -> None:
    gap, covariates, dataset, random = make(2)
    covariates["script"] = np.where(dataset == 1, 0.9, 0.1) + 0.05 * random.random(len(gap))
    gap = gap + 4.0 * covariates["script"]
    told = next(
        t for t in explain_gap(gap, covariates, dataset, names=NAMES) if (t.dataset, t.covariate) == ("views", "script")
    )
    assert told.between is not None
    assert told.between.is_inseparable
    assert not told.explains


def test_values_that_are_missing_and_datasets_that_are_small() -> None:
    gap, covariates, dataset, random = make(3)
    covariates["swapped"][random.random(len(gap)) < 0.5] = np.nan
    gap[:100] = np.nan
    told = explain_gap(gap, {**covariates, "constant": np.ones(len(gap))}, dataset)
    assert {t.covariate for t in told} == set(covariates)
    assert next(t for t in told if t.covariate == "swapped" and t.dataset == "1").n < 130
    few = np.flatnonzero((dataset > 0) | (np.arange(len(dataset)) < 5))
    told = explain_gap(gap[few], {"length": covariates["length"][few]}, dataset[few])
    assert {t.dataset for t in told} == {"1", "2"}
    assert explain_gap(gap[:0], {"length": gap[:0]}, dataset[:0]) == []
    with pytest.raises(ValueError, match="length"):
        explain_gap(gap, {"length": np.ones(3)}, dataset)


def test_one_dataset_has_nothing_to_be_compared_with() -> None:
    gap, covariates, dataset, _ = make(4)
    told = explain_gap(gap[:200], {k: v[:200] for k, v in covariates.items()}, dataset[:200])
    assert all(t.between is None and not t.explains for t in told)


def test_covariates_of_a_feed() -> None:
    pieces = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "▁the", "▁The", "▁да", "x"]
    feed = Feed(
        token_ids=np.array([[2, 5, 4, 3, 7, 3], [2, 4, 6, 3, 0, 0], [2, 1, 5, 3, 0, 0], [2, 6, 5, 3, 7, 3]], np.int32),
        attention_mask=np.array([[1] * 6, [1] * 4 + [0] * 2, [1] * 4 + [0] * 2, [1] * 6], np.int32),
        segment_ids=np.array([[0, 0, 0, 0, 1, 1], [0] * 6, [0] * 6, [0, 0, 0, 0, 1, 1]], np.int32),
        positions=np.array([[2, 0], [1, 0], [0, 0], [0, 0]], np.int32),
        labels=np.array([[6, 0], [7, 0], [0, 0], [0, 0]], np.int32),
        weights=np.array([[1, 0], [1, 0], [0, 0], [0, 0]], np.float32),
        sop_labels=np.array([1, -1, -1, 0], np.int8),
        dataset=np.zeros(4, np.int16),
    )
    found = covariates_of(feed, pieces=pieces)
    np.testing.assert_allclose(found["length"], [6, 4, 4, 6])
    np.testing.assert_allclose(found["padding"], [0, 1 / 3, 1 / 3, 0])
    np.testing.assert_allclose(found["masked"], [1, 1, 0, 0])
    np.testing.assert_allclose(found["balance"], [1 / 3, np.nan, np.nan, 1 / 3])
    np.testing.assert_allclose(found["unknown"], [0, 0, 1 / 2, 0])
    np.testing.assert_allclose(found["swapped"], [1, np.nan, np.nan, 0])
    np.testing.assert_allclose(found["duplicates"], [1, 0, 0, 1])
    np.testing.assert_allclose(found["capitals"], [1 / 3, 1 / 2, 0, 1 / 3])
    np.testing.assert_allclose(found["other_scripts"], [1 / 3, 1 / 2, 0, 1 / 3])
    assert "capitals" not in covariates_of(replace(feed))

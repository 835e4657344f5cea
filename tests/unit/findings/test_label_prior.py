"""The p-value of a fair coin is scipy's own."""

import pytest
from scipy.stats import binomtest

from lossary.findings.rules.label_prior import fair_coin_p


@pytest.mark.parametrize("tosses", [1, 2, 7, 100, 8_333, 1_000_001, 10_000_000])
def test_it_is_the_exact_two_sided_binomial_test(tosses: int) -> None:
    for heads in {0, 1, tosses // 3, tosses // 2 - 1, tosses // 2, tosses // 2 + 1, tosses - 1, tosses}:
        if 0 <= heads <= tosses:
            assert fair_coin_p(heads, tosses) == pytest.approx(binomtest(heads, tosses, 0.5).pvalue, rel=1e-12)

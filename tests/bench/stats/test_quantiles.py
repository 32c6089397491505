"""Quantiles: against the binomial law, tables, and their coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.stats import quantile_interval


def test_quantile_interval_covers_the_true_quantile() -> None:
    rng = np.random.default_rng(2)
    for q in (0.5, 0.9):
        truth = scipy_stats.expon.ppf(q)
        intervals = [quantile_interval(rng.exponential(size=80), q) for _ in range(400)]
        covered = sum(low <= truth <= high for low, high in filter(None, intervals))
        assert 0.92 <= covered / 400 <= 1.0


@pytest.mark.parametrize(("q", "smallest"), [(0.5, 6), (0.99, 368)])
def test_quantile_interval_refuses_small_samples(q: float, smallest: int) -> None:
    assert quantile_interval(np.arange(smallest - 1.0), q) is None
    assert quantile_interval(np.arange(float(smallest)), q) is not None


def test_clustered_quantile_covers_where_independence_does_not() -> None:
    rng = np.random.default_rng(6)
    cluster = np.repeat(np.arange(80), 20)
    covered = {"clustered": 0, "independent": 0}
    for _ in range(200):
        values = (rng.normal(size=(80, 1)) + rng.normal(size=(80, 20))).ravel()
        found = {
            "clustered": quantile_interval(values, 0.5, cluster),
            "independent": quantile_interval(values, 0.5),
        }
        for name, interval in found.items():
            assert interval is not None
            covered[name] += interval[0] <= 0 <= interval[1]
    assert 180 <= covered["clustered"] <= 199
    assert covered["independent"] < 140


def test_repeating_every_value_narrows_no_quantile() -> None:
    values = np.random.default_rng(7).normal(size=30)
    cluster = np.repeat(np.arange(30), 5)
    once, often = quantile_interval(values, 0.5), quantile_interval(values.repeat(5), 0.5, cluster)
    assert once is not None
    assert often is not None
    assert often[0] <= once[0]
    assert often[1] >= once[1]
    assert quantile_interval(np.arange(5.0).repeat(5), 0.5, np.repeat(np.arange(5), 5)) is None


def test_quantile_interval_by_hand() -> None:
    # n = 10, q = 0.5: ranks 2 and 9 (tables of the sign test; 97.9 % coverage).
    assert quantile_interval(np.arange(1.0, 11), 0.5) == (2.0, 9.0)


@given(st.integers(1, 600), st.floats(0.02, 0.98))
def test_quantile_interval_is_the_binomials(n: int, q: float) -> None:
    # Between order statistics r and s (from 1) lies the quantile where r <= Bin(n, q) < s.
    interval = quantile_interval(np.random.default_rng(n).permutation(n) + 1.0, q)
    if interval is None:
        assert max(q**n, (1 - q) ** n) > 0.025
        return
    r, s = interval
    below = scipy_stats.binom(n, q)
    assert below.cdf(r - 1) <= 0.025 + 1e-12
    assert below.sf(s - 1) <= 0.025 + 1e-12
    # No more than two ranks wider at either end than the narrowest that would do.
    assert r >= n * q - 1 or below.cdf(r + 1) > 0.025
    assert s <= n * q + 1 or below.sf(s - 3) > 0.025


def test_quantiles_of_what_is_unknown_or_nonsense() -> None:
    assert quantile_interval(np.array([]), 0.5) is None
    assert quantile_interval(np.array([np.nan, *range(20)]), 0.5) is None
    for q in (0.0, 1.0, np.nan):
        with pytest.raises(ValueError, match=f"quantile {q:g} must lie between 0 and 1"):
            quantile_interval(np.arange(10.0), q)
    with pytest.raises(ValueError, match="values 10, cluster 9"):
        quantile_interval(np.arange(10.0), 0.5, np.arange(9))

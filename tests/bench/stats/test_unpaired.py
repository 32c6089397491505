"""Ranks: the shift against all differences, its interval against inverted Mann-Whitney tests."""

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.stats import (
    hodges_lehmann_interval,
    hodges_lehmann_shift,
    mann_whitney_p_value,
    welch_interval,
)
from bench.stats.unpaired import _u_distribution

SAMPLE = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=12)


@given(SAMPLE, SAMPLE)
def test_shift_is_the_median_of_all_differences(ours: list[float], theirs: list[float]) -> None:
    expected = statistics.median(a - b for a, b in itertools.product(ours, theirs))
    assert hodges_lehmann_shift(ours, theirs) == expected


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 5), (4, 4), (3, 6)])
def test_u_distribution_is_the_count_of_all_arrangements(n: int, m: int) -> None:
    ranks = range(n + m)
    us = [sum(taken) - n * (n - 1) // 2 for taken in itertools.combinations(ranks, n)]
    expected = [np.mean([u <= most for u in us]) for most in range(n * m + 1)]
    assert _u_distribution(n, m) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (8, 8), (5, 12), (12, 5)])
def test_interval_is_what_mann_whitney_does_not_reject(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(1, 1, size=n), rng.normal(size=m)
    interval = hodges_lehmann_interval(ours, theirs)
    assert interval is not None
    for limit, outward in zip(interval, (-1e-9, 1e-9), strict=True):
        inside = scipy_stats.mannwhitneyu(ours - limit + outward, theirs, method="exact").pvalue
        outside = scipy_stats.mannwhitneyu(ours - limit - outward, theirs, method="exact").pvalue
        assert outside <= 0.05 < inside


def test_interval_holds_the_truth_and_no_more_than_it_must() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(1500):
        interval = hodges_lehmann_interval(rng.standard_t(2, 8) + 1, rng.standard_t(2, 10))
        assert interval is not None
        covered += interval[0] <= 1 <= interval[1]
    assert 0.935 <= covered / 1500 <= 0.975


def test_the_normal_approximation_meets_the_exact_interval() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(1, 1, size=50), rng.normal(size=52)  # 2,600: approximate
    approximate = hodges_lehmann_interval(ours, theirs)
    exact = hodges_lehmann_interval(ours, theirs[:50])
    assert approximate == pytest.approx(exact, abs=0.1)
    cut = int(np.searchsorted(_u_distribution(50, 52), 0.025, side="right"))
    differences = np.sort((ours[:, None] - theirs).ravel())
    assert approximate == pytest.approx((differences[cut - 1], differences[-cut]), abs=0.01)


def test_too_little_is_unknown() -> None:
    assert hodges_lehmann_interval([1, 2, 3], [1, 2, 3]) is None
    assert hodges_lehmann_interval([1, 2, 3, 4], [1, 2, 3, 4]) is not None
    assert hodges_lehmann_interval([1, 2, 3, 4], [1, 2, 3, 4], level=0.01) is None
    assert hodges_lehmann_interval([], [1]) is None
    assert hodges_lehmann_shift([], [1]) is None
    assert mann_whitney_p_value([1], []) is None
    with pytest.raises(ValueError, match="baseline nan must be finite"):
        hodges_lehmann_shift([1.0], [np.nan])
    with pytest.raises(ValueError, match="level 1 must lie between 0 and 1"):
        hodges_lehmann_interval([1.0], [1.0], level=1)


def test_mann_whitney_counts_wins() -> None:
    # All of 4 above all of 4: 2 of the 70 arrangements are as extreme.
    assert mann_whitney_p_value([5, 6, 7, 8], [1, 2, 3, 4]) == pytest.approx(2 / 70)


def test_welch_is_scipys() -> None:
    rng = np.random.default_rng(6)
    ours, theirs = rng.normal(1, 1, 9), rng.normal(0, 3, 14)
    limits = scipy_stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert welch_interval(ours, theirs) == pytest.approx((limits.low, limits.high))
    assert welch_interval(ours[:1], theirs) is None
    assert welch_interval([2.0, 2.0], [1.0, 1.0]) == (1.0, 1.0)

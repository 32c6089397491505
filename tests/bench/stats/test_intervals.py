"""Ratios and shares: against closed forms, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.stats import ratio_interval, share_interval


def test_ratio_interval_covers_the_true_ratio() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        bottom = rng.gamma(4.0, size=60)
        top = bottom * 3.0 + rng.normal(size=60) * bottom
        interval = ratio_interval(top, bottom, np.arange(60), seed=trial)
        assert interval is not None
        covered += interval[0] <= 3.0 <= interval[1]
    assert 0.88 <= covered / 200 <= 0.99


def test_ratio_interval_resamples_clusters_not_rows() -> None:
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(10, 3, size=20), 30)
    clusters = np.repeat(np.arange(20), 30)
    by_cluster = ratio_interval(values, np.ones(600), clusters)
    by_row = ratio_interval(values, np.ones(600), np.arange(600))
    assert by_cluster is not None
    assert by_row is not None
    assert by_cluster[1] - by_cluster[0] > 3 * (by_row[1] - by_row[0])


def test_ratio_interval_is_seeded_and_needs_clusters() -> None:
    top, bottom = np.arange(1.0, 11), np.ones(10)
    assert ratio_interval(top, bottom, np.arange(10)) == ratio_interval(top, bottom, np.arange(10))
    assert ratio_interval(top[:4], bottom[:4], np.arange(4)) is None
    assert ratio_interval(top, np.zeros(10), np.arange(10)) is None


@pytest.mark.parametrize(("successes", "total"), [(0, 20), (20, 20), (7, 50)])
def test_share_interval_is_wilsons(successes: int, total: int) -> None:
    z = scipy_stats.norm.ppf(0.975)
    p, n = successes / total, total
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = share_interval(successes, total)
    assert found == pytest.approx((max(centre - half, 0), min(centre + half, 1)), abs=1e-9)


def test_share_of_nothing_is_unknown() -> None:
    assert share_interval(0, 0) is None


def test_ratios_that_never_vary_have_no_width() -> None:
    assert ratio_interval(np.ones(8), np.ones(8), np.arange(8)) == (1.0, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_ratio_of_what_is_not_finite_is_unknown(value: float) -> None:
    top = np.array([value, 1, 1, 1, 1, 1])
    assert ratio_interval(top, np.ones(6), np.arange(6)) is None

"""Ratios and shares: against closed forms, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.stats import clustered_share_interval, ratio_interval, share_interval


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


def test_bca_agrees_with_scipys() -> None:
    bottom = np.random.default_rng(0).lognormal(size=20)
    top, cluster = bottom**2, np.arange(20)
    theirs = scipy_stats.bootstrap(
        (top, bottom),
        lambda t, b, axis: t.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(4),
    ).confidence_interval
    width = theirs.high - theirs.low
    ours = [ratio_interval(top, bottom, cluster, seed, method="bca") for seed in range(20)]
    assert np.mean(ours, axis=0) == pytest.approx([theirs.low, theirs.high], abs=0.015 * width)
    percentile = ratio_interval(top, bottom, cluster)
    assert percentile is not None
    assert theirs.high - percentile[1] > 0.1 * width


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_ratios_that_never_vary_have_no_width(method) -> None:
    assert ratio_interval(np.ones(8), np.ones(8), np.arange(8), method=method) == (1.0, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_ratio_of_what_is_not_finite_is_unknown(value: float) -> None:
    top = np.array([value, 1, 1, 1, 1, 1])
    assert ratio_interval(top, np.ones(6), np.arange(6)) is None


def test_clustered_share_covers_where_wilson_does_not() -> None:
    rng = np.random.default_rng(5)
    cluster = np.repeat(np.arange(60), 8)
    covered = {"clustered": 0, "wilson": 0}
    for trial in range(200):
        hits = (rng.random((60, 8)) < rng.beta(0.5, 2.0, size=(60, 1))).ravel()
        found = {
            "clustered": clustered_share_interval(hits, cluster, seed=trial),
            "wilson": share_interval(int(hits.sum()), len(hits)),
        }
        for name, interval in found.items():
            assert interval is not None
            covered[name] += interval[0] <= 0.2 <= interval[1]
    assert covered["clustered"] >= 178
    assert covered["wilson"] < 170


def test_clustered_share_of_single_cases_is_wilsons() -> None:
    hits = np.array([True] * 3 + [False] * 9)
    assert clustered_share_interval(hits, np.arange(12)) == share_interval(3, 12)


def test_a_unanimous_share_counts_clusters() -> None:
    cluster = np.repeat(np.arange(10), 4)
    assert clustered_share_interval(np.zeros(40), cluster) == share_interval(0, 10)
    assert clustered_share_interval(np.ones(40), cluster) == share_interval(10, 10)
    assert clustered_share_interval(np.zeros(0), np.zeros(0)) is None

"""Intervals, as pure functions. What is resampled is the prompt: answers to one belong together.

All of them are 95 %. A screening has one process, so these intervals say nothing about the spread
between processes.
"""

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
_RESAMPLES = 2000
_MIN_CLUSTERS = 5


Interval = tuple[float, float] | None


def ratio_interval(
    numerator: np.ndarray, denominator: np.ndarray, cluster: np.ndarray, seed: int = 0
) -> Interval:
    """Percentile bootstrap over clusters of sum(numerator) / sum(denominator).

    Returns:
        None below five clusters, or when a resample can have nothing to divide by.
    """
    _, index = np.unique(cluster, return_inverse=True)
    tops = np.bincount(index, weights=np.asarray(numerator, dtype=float))
    bottoms = np.bincount(index, weights=np.asarray(denominator, dtype=float))
    if len(tops) < _MIN_CLUSTERS or (bottoms <= 0).all():
        return None
    drawn = np.random.default_rng(seed).integers(len(tops), size=(_RESAMPLES, len(tops)))
    divisor = bottoms[drawn].sum(axis=1)
    if (divisor <= 0).any():
        return None
    ratios = tops[drawn].sum(axis=1) / divisor
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)


def share_interval(successes: int, total: int) -> Interval:
    """Wilson interval of a share of independent cases; None without a case."""
    if total == 0:
        return None
    found = stats.binomtest(successes, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def quantile_interval(values: np.ndarray, q: float) -> Interval:
    """Order-statistic interval of a quantile, from the binomial count of values below it.

    Returns:
        None when the sample is too small to bound the quantile on both sides (a median needs 6
        values, a 99th percentile 368).
    """
    ordered, n = np.sort(np.asarray(values, dtype=float)), len(values)
    tail = (1 - CONFIDENCE) / 2
    if n == 0 or q**n > tail or (1 - q) ** n > tail:
        return None
    low = int(stats.binom.ppf(tail, n, q)) - 1
    high = int(stats.binom.ppf(1 - tail, n, q))
    return float(ordered[max(low, 0)]), float(ordered[min(high, n - 1)])

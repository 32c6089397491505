"""Percentiles whose limits are values of the sample itself: no shape of distribution is assumed."""

import numpy as np
import scipy

from bench.stats.checks import in_range, same_length
from bench.stats.intervals import CONFIDENCE, Interval

_TAIL = (1 - CONFIDENCE) / 2


def quantile_interval(values: np.ndarray, q: float, cluster: np.ndarray | None = None) -> Interval:
    """Order-statistic interval of a quantile, from the binomial count of values below it.

    Args:
        values: (n,), in any order and unit.
        q: share of values below the quantile, 0 < q < 1.
        cluster: which values belong together. They then count as n / deff independent ones, deff
            being the variance of the share of values up to the quantile between clusters, over
            that of independent values (Woodruff 1952).

    Returns:
        None when the sample is too small to bound the quantile on both sides (a median needs 6
        values, a 99th percentile 368), or when a value is NaN.

    Raises:
        ValueError: q out of its range, or a cluster of another length.
    """
    in_range("quantile", q, 0, 1)
    ordered, n = np.sort(np.asarray(values, dtype=float)), len(values)
    if cluster is not None:
        same_length(values=ordered, cluster=cluster)
    if n == 0 or np.isnan(ordered[-1]):
        return None
    count = n if cluster is None else _effective_count(np.asarray(values), q, cluster)
    if q**count > _TAIL or (1 - q) ** count > _TAIL:
        return None
    low = (int(scipy.stats.binom.ppf(_TAIL, count, q)) - 1) / count
    high = (int(scipy.stats.binom.ppf(1 - _TAIL, count, q)) + 1) / count
    first, last = int(np.floor(low * n + 1e-9)), int(np.ceil(high * n - 1e-9)) - 1
    return float(ordered[max(first, 0)]), float(ordered[min(last, n - 1)])


def _effective_count(values: np.ndarray, q: float, cluster: np.ndarray) -> int:
    """Independent values that bound the quantile as well as these, at most as many as these."""
    _, index = np.unique(cluster, return_inverse=True)
    num_clusters, n = int(index.max()) + 1, len(values)
    if num_clusters == n:
        return n
    below = values <= np.quantile(values, q, method="inverted_cdf")
    share = below.mean()
    if num_clusters == 1 or share == 1:
        return num_clusters
    sums = np.bincount(index, weights=below - share)
    between = (sums**2).sum() * num_clusters / (num_clusters - 1)
    deff = between / (n * share * (1 - share))
    return int(n / max(deff, 1.0))

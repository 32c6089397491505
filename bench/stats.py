"""Intervals, as pure functions. What is resampled is the prompt: answers to one belong together.

All of them are 95 %. A screening has one process, so its intervals are within that process and say
nothing about the spread between processes; `process_interval` does, from two processes on.
"""

from typing import Literal

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
_RESAMPLES = 2000
_MIN_CLUSTERS = 5


Interval = tuple[float, float] | None


def ratio_interval(
    numerator: np.ndarray,
    denominator: np.ndarray,
    cluster: np.ndarray,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "percentile",
) -> Interval:
    """Bootstrap over clusters of sum(numerator) / sum(denominator).

    Args:
        method: percentile, or bias-corrected and accelerated (BCa, Efron 1987).

    Returns:
        None below five clusters, when a resample can have nothing to divide by, or when a value is
        not finite.
    """
    _, index = np.unique(cluster, return_inverse=True)
    tops = np.bincount(index, weights=np.asarray(numerator, dtype=float))
    bottoms = np.bincount(index, weights=np.asarray(denominator, dtype=float))
    if len(tops) < _MIN_CLUSTERS or not (np.isfinite(tops) & np.isfinite(bottoms)).all():
        return None
    drawn = np.random.default_rng(seed).integers(len(tops), size=(_RESAMPLES, len(tops)))
    divisor = bottoms[drawn].sum(axis=1)
    if (divisor <= 0).any():
        return None
    ratios = tops[drawn].sum(axis=1) / divisor
    shares = np.array([_TAIL, 1 - _TAIL])
    if method == "bca" and np.ptp(ratios) > 0:
        shares = _bca_shares(tops, bottoms, ratios)
    low, high = np.quantile(ratios, shares)
    return float(low), float(high)


def _bca_shares(tops: np.ndarray, bottoms: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Where to read the bootstrap distribution: z0 corrects its bias, a its skew (jackknife)."""
    found = tops.sum() / bottoms.sum()
    below = ((ratios < found).mean() + (ratios <= found).mean()) / 2
    z0 = stats.norm.ppf(np.clip(below, 1 / len(ratios), 1 - 1 / len(ratios)))
    without = (tops.sum() - tops) / (bottoms.sum() - bottoms)
    away = without.mean() - without
    spread = (away**2).sum()
    a = (away**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    z = z0 + stats.norm.ppf([_TAIL, 1 - _TAIL])
    return np.asarray(stats.norm.cdf(z0 + z / (1 - a * z)))


def share_interval(successes: int, total: int) -> Interval:
    """Wilson interval of a share of independent cases; None without a case."""
    if total == 0:
        return None
    found = stats.binomtest(successes, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def clustered_share_interval(hits: np.ndarray, cluster: np.ndarray, seed: int = 0) -> Interval:
    """Interval of a share whose cases come in clusters.

    Wilson where every cluster has one case. Otherwise a bootstrap over clusters; where all cases
    agree that would have no width, so Wilson over as many cases as there are clusters stands in.

    Returns:
        None without a case, or when cases disagree within fewer than five clusters.
    """
    hits = np.asarray(hits, dtype=bool)
    num_clusters = len(np.unique(cluster))
    if num_clusters == len(hits):
        return share_interval(int(hits.sum()), len(hits))
    if hits.all() or not hits.any():
        return share_interval(num_clusters if hits.all() else 0, num_clusters)
    return ratio_interval(hits, np.ones(len(hits)), cluster, seed)


def quantile_interval(values: np.ndarray, q: float, cluster: np.ndarray | None = None) -> Interval:
    """Order-statistic interval of a quantile, from the binomial count of values below it.

    Args:
        cluster: which values belong together. They then count as n / deff independent ones, deff
            being the variance of the share of values up to the quantile between clusters, over
            that of independent values (Woodruff 1952).

    Returns:
        None when the sample is too small to bound the quantile on both sides (a median needs 6
        values, a 99th percentile 368).
    """
    ordered, n = np.sort(np.asarray(values, dtype=float)), len(values)
    if n == 0:
        return None
    count = n if cluster is None else _effective_count(np.asarray(values), q, cluster)
    if q**count > _TAIL or (1 - q) ** count > _TAIL:
        return None
    low = (int(stats.binom.ppf(_TAIL, count, q)) - 1) / count
    high = (int(stats.binom.ppf(1 - _TAIL, count, q)) + 1) / count
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


def process_interval(process_means: np.ndarray) -> Interval:
    """Student t interval of a positive metric from one mean a process, on the log scale.

    The estimate it belongs to is the geometric mean of the processes.

    Returns:
        None with fewer than two processes.

    Raises:
        ValueError: a mean is not positive or not finite.
    """
    means = np.asarray(process_means, dtype=float)
    wrong = means[~(np.isfinite(means) & (means > 0))]
    if len(wrong):
        raise ValueError(f"process mean {wrong[0]} must be a positive, finite number")
    if len(means) < 2:
        return None
    logs = np.log(means)
    half = stats.t.ppf(1 - _TAIL, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))

"""Intervals of ratios and shares whose cases come in clusters: answers to one prompt, say.

All of them are 95 %, and say nothing about what lies above the cluster: clustered by prompt within
one process, nothing about the spread between processes (see `processes`).
"""

from typing import Literal

import numpy as np
import scipy

CONFIDENCE = 0.95
"""Of every interval that does not name its own level."""
_TAIL = (1 - CONFIDENCE) / 2
_RESAMPLES = 2000
_MIN_CLUSTERS = 5


Interval = tuple[float, float] | None
"""Lower and upper limit; None where the data cannot bound the value."""


def ratio_interval(
    numerator: np.ndarray,
    denominator: np.ndarray,
    cluster: np.ndarray,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "percentile",
) -> Interval:
    """Bootstrap over clusters of sum(numerator) / sum(denominator).

    Args:
        numerator, denominator, cluster: one value a case, all of one length.
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
    z0 = scipy.stats.norm.ppf(np.clip(below, 1 / len(ratios), 1 - 1 / len(ratios)))
    without = (tops.sum() - tops) / (bottoms.sum() - bottoms)
    away = without.mean() - without
    spread = (away**2).sum()
    a = (away**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    z = z0 + scipy.stats.norm.ppf([_TAIL, 1 - _TAIL])
    return np.asarray(scipy.stats.norm.cdf(z0 + z / (1 - a * z)))


def share_interval(successes: int, total: int) -> Interval:
    """Wilson interval of a share of independent cases; None without a case."""
    if total == 0:
        return None
    found = scipy.stats.binomtest(successes, total).proportion_ci(CONFIDENCE, method="wilson")
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

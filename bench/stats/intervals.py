"""Intervals of ratios and shares whose cases come in clusters: answers to one prompt, say.

All of them are 95 %, and say nothing about what lies above the cluster: clustered by prompt within
one process, nothing about the spread between processes (see `processes`).
"""

import numpy as np
import scipy

CONFIDENCE = 0.95
"""Of every interval that does not name its own level."""
LEVEL = 1 - CONFIDENCE
"""Of every test that does not name its own."""
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
) -> Interval:
    """Percentile bootstrap over clusters of sum(numerator) / sum(denominator).

    Args:
        numerator, denominator, cluster: one value a case, all of one length.

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
    low, high = np.quantile(ratios, [_TAIL, 1 - _TAIL])
    return float(low), float(high)


def share_interval(successes: int, total: int) -> Interval:
    """Wilson interval of a share of independent cases; None without a case."""
    if total == 0:
        return None
    found = scipy.stats.binomtest(successes, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)

"""Two arms that were not measured in turn: ranks, which no single slow process can dominate."""

import functools
from math import comb

import numpy as np
import scipy
from numpy.typing import ArrayLike

from bench.stats.checks import finite, in_range
from bench.stats.intervals import LEVEL, Interval

_EXACT_MAX_PRODUCT = 2_500


def mann_whitney_p_value(candidate: ArrayLike, baseline: ArrayLike) -> float | None:
    """Two-sided p of the Mann-Whitney U test, by scipy (exact without ties in small samples).

    Args:
        candidate, baseline: (n,) and (m,), process means or their logs.

    Returns:
        None when an arm is empty.

    Raises:
        ValueError: a value is not finite.
    """
    ours, theirs = finite("candidate", candidate), finite("baseline", baseline)
    if not len(ours) or not len(theirs):
        return None
    return float(scipy.stats.mannwhitneyu(ours, theirs, alternative="two-sided").pvalue)


def hodges_lehmann_shift(candidate: ArrayLike, baseline: ArrayLike) -> float | None:
    """Median of all differences candidate - baseline (Hodges and Lehmann 1963), in their unit.

    On logs, exp of it is the ratio of the arms.

    Returns:
        None when an arm is empty.

    Raises:
        ValueError: a value is not finite.
    """
    differences = _differences(candidate, baseline)
    return float(np.median(differences)) if len(differences) else None


def hodges_lehmann_interval(
    candidate: ArrayLike, baseline: ArrayLike, level: float = LEVEL
) -> Interval:
    """Interval of the shift: all shifts that a Mann-Whitney test would not reject (Moses).

    Its limits are the k-th smallest and the k-th largest difference; k from the exact distribution
    of U where n x m <= 2,500, else from its normal approximation (Hollander, Wolfe and Chicken
    2014, section 4.3). Ties make it wider than it need be.

    Args:
        level: 1 - confidence.

    Returns:
        None when the samples are too small for any interval at that level (95 %: 4 and 4).

    Raises:
        ValueError: a value is not finite, or a level outside 0 to 1.
    """
    in_range("level", level, 0, 1)
    differences = np.sort(_differences(candidate, baseline))
    n, m = np.size(candidate), np.size(baseline)
    if not len(differences):
        return None
    if n * m <= _EXACT_MAX_PRODUCT:
        cut = int(np.searchsorted(_u_distribution(min(n, m), max(n, m)), level / 2, side="right"))
    else:
        z = scipy.stats.norm.ppf(1 - level / 2)
        cut = int(n * m / 2 - z * np.sqrt(n * m * (n + m + 1) / 12))
    if cut < 1:
        return None
    return float(differences[cut - 1]), float(differences[-cut])


def welch_interval(candidate: ArrayLike, baseline: ArrayLike, level: float = LEVEL) -> Interval:
    """Student t interval of the difference of the means, spreads not taken as equal (Welch 1947).

    Returns:
        None with fewer than two values in an arm.

    Raises:
        ValueError: a value is not finite, or a level outside 0 to 1.
    """
    in_range("level", level, 0, 1)
    ours, theirs = finite("candidate", candidate), finite("baseline", baseline)
    if min(len(ours), len(theirs)) < 2:
        return None
    shift = float(ours.mean() - theirs.mean())
    parts = np.array([arm.var(ddof=1) / len(arm) for arm in (ours, theirs)])
    if parts.sum() == 0:
        return shift, shift
    df = parts.sum() ** 2 / (parts**2 / (np.array([len(ours), len(theirs)]) - 1)).sum()
    half = float(scipy.stats.t.ppf(1 - level / 2, df) * np.sqrt(parts.sum()))
    return shift - half, shift + half


def _differences(candidate: ArrayLike, baseline: ArrayLike) -> np.ndarray:
    """(n x m,) of every candidate less every baseline."""
    ours, theirs = finite("candidate", candidate), finite("baseline", baseline)
    return (ours[:, None] - theirs[None]).ravel()


@functools.lru_cache(maxsize=32)
def _u_distribution(n: int, m: int) -> np.ndarray:
    """(n x m + 1,) P(U <= u) without ties: subsets of n of the ranks 1..n+m, by their sum."""
    counts = np.zeros((n + 1, n * m + 1))  # [members taken, sum of ranks above the least]
    counts[0, 0] = 1
    for rank in range(n + m):
        for taken in range(min(n, rank + 1), 0, -1):
            # The member taken as number `taken` adds its rank above the least it could have.
            above = rank - (taken - 1)
            if above <= n * m:
                counts[taken, above:] += counts[taken - 1, : n * m + 1 - above]
    return counts[n].cumsum() / comb(n + m, n)

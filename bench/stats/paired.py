"""Two arms measured in turn, in fresh processes: the log-ratio of a pair is the observation.

Heat and drift move both halves of a pair, and in an ABBA block a steady drift cancels altogether.
A log-ratio is symmetric (twice as slow and twice as fast are the same distance from 0) and is what
the sign-flip test needs: with no difference, either sign is as likely.
"""

import functools

import numpy as np
import scipy
from numpy.typing import ArrayLike

from bench.stats.checks import finite, in_range, positive, same_length
from bench.stats.intervals import LEVEL, Interval

MIN_PAIRS = 8
"""Below it no test of pairs is made: 5 pairs can never reject at 5 %, 7 hardly."""
_EXACT_MAX_PAIRS = 16
_SIGN_FLIPS = 9_999
_SIGNS_SEED = 20_000
_CHUNK_CELLS = 4_000_000


def log_ratios(candidate: ArrayLike, baseline: ArrayLike) -> np.ndarray:
    """Natural log of candidate over baseline, pair by pair.

    Args:
        candidate, baseline: (pairs,), positive, of one unit.

    Raises:
        ValueError: lengths differ, or a value is not positive.
    """
    top, bottom = positive("candidate", candidate), positive("baseline", baseline)
    same_length(candidate=top, baseline=bottom)
    return np.log(top) - np.log(bottom)


def mean_interval(differences: ArrayLike, level: float = LEVEL) -> Interval:
    """Student t interval of the mean of paired differences, in their unit.

    Args:
        differences: (pairs,), log-ratios or plain differences.
        level: 1 - confidence.

    Returns:
        None with fewer than two pairs.

    Raises:
        ValueError: a difference is not finite, or a level outside 0 to 1.
    """
    values = finite("difference", differences)
    in_range("level", level, 0, 1)
    if len(values) < 2:
        return None
    low, high = mean_limits(values, level)
    return float(low), float(high)


def mean_limits(differences: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """`mean_interval` over the last axis of (..., pairs), unchecked."""
    n = differences.shape[-1]
    half = scipy.stats.t.ppf(1 - level / 2, n - 1) * differences.std(axis=-1, ddof=1) / np.sqrt(n)
    centre = differences.mean(axis=-1)
    return centre - half, centre + half


def sign_flip_p_value(differences: ArrayLike, seed: int = _SIGNS_SEED) -> float | None:
    """Two-sided p of the sign-flip permutation test (Fisher 1935, section 21) of a mean of 0.

    Exact up to 16 pairs: the share of all 2^n sign patterns whose mean is at least as far from 0.
    Above, Monte Carlo with 9,999 patterns, the observed one counted in (Phipson and Smyth 2010).

    Args:
        differences: (pairs,), log-ratios or plain differences.
        seed: of the Monte Carlo patterns.

    Returns:
        None below 8 pairs.

    Raises:
        ValueError: a difference is not finite.
    """
    values = finite("difference", differences)
    return None if len(values) < MIN_PAIRS else float(sign_flip_p_values(values[None], seed)[0])


def sign_flip_p_values(differences: np.ndarray, seed: int = _SIGNS_SEED) -> np.ndarray:
    """`sign_flip_p_value` of every row of (rows, pairs), unchecked.

    As `scipy.stats.permutation_test(permutation_type="samples")`, but a matrix product for all
    rows at once.
    """
    rows, n = differences.shape
    signs = _all_signs(n) if n <= _EXACT_MAX_PAIRS else _random_signs(n, seed)
    found = np.abs(differences.sum(axis=1))
    tolerance = 1e-12 * np.abs(differences).sum(axis=1)
    hits = np.empty(rows)
    chunk = max(1, _CHUNK_CELLS // signs.shape[1])
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        flipped = np.abs(differences[part] @ signs)
        hits[part] = (flipped >= (found - tolerance)[part, None]).sum(axis=1)
    if n <= _EXACT_MAX_PAIRS:
        return hits / signs.shape[1]
    return (hits + 1) / (signs.shape[1] + 1)


@functools.lru_cache(maxsize=4)
def _all_signs(n: int) -> np.ndarray:
    """(n, 2^(n-1)); the first sign is +: a pattern and its negative are equally far from 0."""
    patterns = np.arange(2 ** (n - 1))
    return 1.0 - 2.0 * ((patterns >> np.arange(n)[:, None]) & 1)


@functools.lru_cache(maxsize=4)
def _random_signs(n: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(0, 2, size=(n, _SIGN_FLIPS))
    return 1.0 - 2.0 * drawn

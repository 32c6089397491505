"""How small a change a gate can see, from A/A runs: two arms that are the same."""

import numpy as np
import scipy
from numpy.typing import ArrayLike

from bench.stats.checks import finite, in_range
from bench.stats.intervals import LEVEL

MIN_AA_PAIRS = 20
"""Fewer say too little about the spread: 20 pairs know it within a third."""
POWER = 0.8
"""With which whatever is called detectable is found."""


def minimum_detectable_effect(
    aa_log_ratios: ArrayLike, num_pairs: int, power: float = POWER, level: float = LEVEL
) -> float | None:
    """Smallest relative change that `num_pairs` pairs tell from none with the given power.

    The spread of a pair is the root mean square of the A/A log-ratios: their true mean is 0. Power
    is that of a two-sided t test to reject in the right direction, by the noncentral t distribution
    (Cohen 1988, section 2.2).

    Args:
        aa_log_ratios: (A/A pairs,) of one device and configuration.
        num_pairs: of the comparison to come, at least 2.
        power: probability to find it, level < power < 1.
        level: of the test; for a sequential plan, its level at the look with `num_pairs`.

    Returns:
        Relative change (0.02 is 2 %); None below 20 A/A pairs.

    Raises:
        ValueError: a log-ratio is not finite, or an argument is out of its range.
    """
    values = finite("A/A log-ratio", aa_log_ratios)
    in_range("level", level, 0, 1)
    in_range("power", power, level, 1)
    if num_pairs < 2:
        raise ValueError(f"{num_pairs} pairs; at least 2 are needed")
    if len(values) < MIN_AA_PAIRS:
        return None
    spread = np.sqrt((values**2).mean())
    return float(np.expm1(_detectable_shift(num_pairs, power, level) * spread))


def _detectable_shift(num_pairs: int, power: float, level: float) -> float:
    """In standard deviations of a pair."""
    return _noncentrality(num_pairs - 1, power, level) / float(np.sqrt(num_pairs))


def _noncentrality(df: int, power: float, level: float) -> float:
    """At which a two-sided t test rejects in the right direction with the given power."""
    critical = scipy.stats.t.ppf(1 - level / 2, df)

    def excess(noncentrality: float) -> float:
        return float(scipy.stats.nct.sf(critical, df, noncentrality) - power)

    most = 2.0 * critical
    while excess(most) < 0:
        most *= 2
    return float(scipy.optimize.brentq(excess, 0.0, most, xtol=1e-9))


def detectable_at_spread(
    spread: float, n: int, m: int, power: float = POWER, level: float = LEVEL
) -> float:
    """Smallest relative change that two arms of `n` and `m` processes tell from none.

    Power of a two-sample t test to reject in the right direction, by the noncentral t distribution
    (Cohen 1988, section 2.2).

    Args:
        spread: standard deviation of the log of a process mean, in either arm.
        n, m: at least 3 together.
    """
    shift = _noncentrality(n + m - 2, power, level) * np.sqrt(1 / n + 1 / m)
    return float(np.expm1(shift * spread))


def detectable_between_processes(
    candidate: ArrayLike, baseline: ArrayLike, power: float = POWER, level: float = LEVEL
) -> float | None:
    """Smallest relative change that two arms of as many processes tell from none.

    At the spread within the arms: what a comparison without pairs could have seen, and no A/A run
    needed.

    Args:
        candidate, baseline: (n,) and (m,), logs of process means.

    Returns:
        Relative change (0.02 is 2 %); None with fewer than two processes in an arm.

    Raises:
        ValueError: a value is not finite, or an argument is out of its range.
    """
    ours, theirs = finite("candidate", candidate), finite("baseline", baseline)
    in_range("level", level, 0, 1)
    in_range("power", power, level, 1)
    n, m = len(ours), len(theirs)
    if min(n, m) < 2:
        return None
    squares = ((ours - ours.mean()) ** 2).sum() + ((theirs - theirs.mean()) ** 2).sum()
    spread = np.sqrt(squares / (n + m - 2))
    return detectable_at_spread(float(spread), n, m, power, level)


def detectable_difference(
    differences: ArrayLike, power: float = POWER, level: float = LEVEL
) -> float | None:
    """Smallest mean of as many paired differences that is told from none, in their unit.

    Returns:
        None with fewer than two differences.

    Raises:
        ValueError: a difference is not finite, or an argument is out of its range.
    """
    values = finite("difference", differences)
    in_range("level", level, 0, 1)
    in_range("power", power, level, 1)
    if len(values) < 2:
        return None
    return float(_detectable_shift(len(values), power, level) * values.std(ddof=1))


def check_bound(
    bound: float,
    aa_log_ratios: ArrayLike,
    num_pairs: int,
    power: float = POWER,
    level: float = LEVEL,
) -> float:
    """Refuses a gate that its device cannot hold.

    Args:
        bound: of the gate, relative change.
        aa_log_ratios, num_pairs, power, level: as for `minimum_detectable_effect`.

    Returns:
        The minimum detectable effect, to print beside a pass.

    Raises:
        ValueError: the bound is below it, or there are too few A/A pairs to know.
    """
    in_range("bound", bound, 0, np.inf)
    smallest = minimum_detectable_effect(aa_log_ratios, num_pairs, power, level)
    if smallest is None:
        raise ValueError(
            f"{np.size(aa_log_ratios)} A/A pairs; a gate needs at least {MIN_AA_PAIRS} to know"
            " what it can detect"
        )
    if bound < smallest:
        raise ValueError(
            f"bound {100 * bound:.3g} % is tighter than the minimum detectable effect of"
            f" {num_pairs} pairs; it must be at least {100 * smallest:.3g} %"
        )
    return smallest

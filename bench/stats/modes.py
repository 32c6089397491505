"""Does one arm have two speeds? Processes that fall into two groups, tight within, far apart.

Seen on shared GPU runners: 0.05 ms of spread within a process, and 22.5 or 25.5 ms from one process
to the next. A test of ranks or means takes such groups for a large but ordinary spread.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bench.stats.checks import finite, in_range

_MIN_GROUP = 2
"""A single process that is far off is an outlier, not a speed."""
_TIMES_WIDER = 2.0
"""The gap over the wider group's range. Of 8 normal values 0.8 % have such a gap by chance
(`tests/bench/stats/test_modes.py`)."""


@dataclass(frozen=True, slots=True)
class TwoSpeeds:
    """The groups of an arm; `low` and `high` are their means, on the log scale."""

    low: float
    high: float
    n_low: int
    n_high: int

    def __str__(self) -> str:
        apart = 100 * np.expm1(self.high - self.low)
        return (
            f"processes have two speeds, {apart:.1f} % apart ({self.n_low} and {self.n_high}"
            f" of {self.n_low + self.n_high})"
        )


def two_speeds(logs: ArrayLike, margin: float) -> TwoSpeeds | None:
    """The two groups of an arm's processes, if the gap between them is wider than the margin.

    Args:
        logs: (processes,), logs of process means.
        margin: on the log scale; a gap within it makes no difference that matters.

    Returns:
        None where there is one group, or fewer than four processes.

    Raises:
        ValueError: a value is not finite, or a margin of 0 or less.
    """
    values = np.sort(finite("log of a process mean", logs))
    in_range("margin", margin, 0, np.inf)
    best: TwoSpeeds | None = None
    widest = margin
    for cut in range(_MIN_GROUP, len(values) - _MIN_GROUP + 1):
        low, high = values[:cut], values[cut:]
        gap = high[0] - low[-1]
        if gap > widest and gap > _TIMES_WIDER * max(np.ptp(low), np.ptp(high)):
            widest = gap
            best = TwoSpeeds(float(low.mean()), float(high.mean()), len(low), len(high))
    return best

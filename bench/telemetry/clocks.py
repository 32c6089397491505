"""Whether a difference in time is one in work, or only one of clocks."""

from dataclasses import dataclass

BOUND_PCT = 2.0
"""The practical bound for time that comparisons use."""


@dataclass(frozen=True, slots=True)
class Timing:
    """A time and the mean SM clock while it was taken."""

    time_s: float
    sm_clock_mhz: float | None

    @property
    def cycles(self) -> float | None:
        return None if self.sm_clock_mhz is None else self.time_s * self.sm_clock_mhz * 1e6


@dataclass(frozen=True, slots=True)
class ClockEffect:
    """How B differs from A.

    Attributes:
        time_pct, cycles_pct: of B from A; cycles None without both clocks.
        is_clock_effect: the times differ by more than the bound and the cycles do not; None where
            the cycles are unknown.
    """

    time_pct: float
    cycles_pct: float | None
    is_clock_effect: bool | None


def clock_effect(a: Timing, b: Timing, bound_pct: float = BOUND_PCT) -> ClockEffect:
    """Compares two timings in seconds and in cycles (time x SM clock).

    Work bound by memory takes more cycles at a higher SM clock, so equal times at different clocks
    are no sign of anything; only a difference in time that vanishes in cycles is.
    """
    time_pct = 100 * (b.time_s / a.time_s - 1)
    if not a.cycles or not b.cycles:
        return ClockEffect(time_pct, None, None)
    cycles_pct = 100 * (b.cycles / a.cycles - 1)
    return ClockEffect(
        time_pct, cycles_pct, abs(time_pct) > bound_pct and abs(cycles_pct) <= bound_pct
    )

"""Energy over a timed window: the device's own counter, with integrated power as a cross-check.

The counter steps about every 100 ms and the power reading covers part of the time only (a quarter
on A100 and H100, arXiv 2312.02741), so neither is believed alone and not over short windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.telemetry.sample import Sample

MIN_WINDOW_S = 5.0
"""Below it the counter's steps at both ends are more than the few percent to be told apart."""
MAX_DIFFERENCE_PCT = 5.0
"""Counter and integrated power further apart than this: one of them is wrong."""
MAX_POWER_GAP_S = 1.0
"""Ten missed samples; power integrated across a longer gap is a guess, not a check."""

_Series = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Energy:
    """A window's energy.

    Attributes:
        joules: from the counter; None when unknown or invalid.
        reason: why `joules` is None, or what its value lacks; None when all is well.
        integrated_j: from power, also where the two contradict each other.
    """

    joules: float | None
    reason: str | None
    integrated_j: float | None = None


def energy(samples: Sequence[Sample], begin_s: float, end_s: float, *, gpu: bool) -> Energy:
    """The energy used from `begin_s` to `end_s`.

    Args:
        samples: all of a run, in order; those on both sides of the window are needed, because
            readings at its edges are interpolated.
        gpu: the GPU's counter and power; False: the processor packages' counter (RAPL), which has
            no second source to be checked against.
    """
    window_s = end_s - begin_s
    if window_s < MIN_WINDOW_S:
        return Energy(None, f"the window is {window_s:.2f} s, below {MIN_WINDOW_S:g} s")
    counter = _around(_series(samples, "energy_j" if gpu else "cpu_energy_j"), begin_s, end_s)
    power = _around(_series(samples, "power_w"), begin_s, end_s) if gpu else []
    integrated_j = _integral(power, begin_s, end_s)
    if not counter:
        reason = "no energy counter was read on both sides of the window"
        return Energy(None, reason, integrated_j)
    if any(later[1] < earlier[1] for earlier, later in pairwise(counter)):
        return Energy(None, "the energy counter was reset", integrated_j)
    counter_j = _at(counter, end_s) - _at(counter, begin_s)
    if counter_j <= 0:
        return Energy(None, "the energy counter stood still", integrated_j)
    if integrated_j is None:
        reason = "not cross-checked: " + ("power was not read throughout" if gpu else "one source")
        return Energy(counter_j, reason)
    difference_pct = 100 * (integrated_j / counter_j - 1)
    if abs(difference_pct) > MAX_DIFFERENCE_PCT:
        reason = f"integrated power differs from the counter by {difference_pct:+.1f} %"
        return Energy(None, reason, integrated_j)
    return Energy(counter_j, None, integrated_j)


def _series(samples: Sequence[Sample], name: str) -> _Series:
    return [(s.at_s, value) for s in samples if (value := getattr(s, name)) is not None]


def _around(series: _Series, begin_s: float, end_s: float) -> _Series:
    """From the last reading not after `begin_s` to the first not before `end_s`; empty without."""
    before = [i for i, (at_s, _) in enumerate(series) if at_s <= begin_s]
    after = [i for i, (at_s, _) in enumerate(series) if at_s >= end_s]
    return series[before[-1] : after[0] + 1] if before and after else []


def _at(series: _Series, at_s: float) -> float:
    """The value at a moment within the series, linear between readings."""
    for (left_s, left), (right_s, right) in pairwise(series):
        if left_s <= at_s <= right_s:
            return left + (right - left) * (at_s - left_s) / (right_s - left_s)
    raise AssertionError("the moment lies outside of the series")


def _integral(power: _Series, begin_s: float, end_s: float) -> float | None:
    """Trapezoid rule (J); None without readings all the way."""
    if not power or any(b[0] - a[0] > MAX_POWER_GAP_S for a, b in pairwise(power)):
        return None
    inside = [(at_s, watts) for at_s, watts in power if begin_s < at_s < end_s]
    points = [(begin_s, _at(power, begin_s)), *inside, (end_s, _at(power, end_s))]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))

"""What a simulated device's driver tells: nothing wrong, but for the faults that it would tell of.

On the real clock its readings are put into the samples of the machine that plays; those of the
virtual clock are made up whole, as no real sample has its time.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.backends.simulated.faults import Fault
from bench.backends.simulated.pace import Mark
from bench.telemetry import INTERVAL_S, Sample

_MAX_SAMPLES = 1000
"""Virtual hours cost nothing; their samples would."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Samples, the timed window on their axis, and whether a device other than the processor is
    what was measured."""

    samples: Sequence[Sample]
    window_s: tuple[float, float]
    gpu: bool


def made_up(begin_s: float, end_s: float) -> list[Sample]:
    """Samples at the usual interval, at most `_MAX_SAMPLES` of them."""
    interval_s = max(INTERVAL_S, (end_s - begin_s) / _MAX_SAMPLES)
    count = int((end_s - begin_s) / interval_s)
    return [Sample(at_s=begin_s + interval_s * index) for index in range(count + 1)]


def planted(samples: Sequence[Sample], marks: Sequence[Mark]) -> list[Sample]:
    """The samples with the readings of an undisturbed device, and of the faults that last."""
    by_fault: dict[Fault, list[Mark]] = {}
    for mark in marks:
        by_fault.setdefault(mark.fault, []).append(mark)
    found = []
    for sample in samples:
        readings = {"throttle_reasons": 0, "own_processes": 1, "foreign_processes": 0}
        for fault, own in by_fault.items():
            if _lasts(own, sample.at_s):
                for name, value in fault.readings().items():
                    readings[name] |= value
        found.append(replace(sample, **readings))
    return found


def _lasts(marks: Sequence[Mark], at_s: float) -> bool:
    """Whether one of a fault's marks, in order of time, holds a moment."""
    index = bisect_right(marks, at_s, key=lambda mark: mark.begin_s) - 1
    return index >= 0 and at_s < marks[index].end_s

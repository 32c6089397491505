"""Stopwatches: marks never wait for the device, laps do, and both clocks are kept."""

import itertools
from dataclasses import dataclass, field

import pytest

from bench.timing import CudaStopwatch, HostStopwatch


@dataclass
class FakeDevice:
    """Records events in order; each is reached two seconds after the one before."""

    recorded: list["FakeEvent"] = field(default_factory=list)
    waits: int = 0


@dataclass
class FakeEvent:
    device: FakeDevice
    at_ms: float = -1.0

    def record(self) -> None:
        self.at_ms = 2000.0 * len(self.device.recorded)
        self.device.recorded.append(self)

    def synchronize(self) -> None:
        self.device.waits += 1

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert self.device.waits, "read before the device was done"
        return end.at_ms - self.at_ms


def test_host_laps_stand_for_both_clocks() -> None:
    ticks = itertools.count(10)
    watch = HostStopwatch(lambda: float(next(ticks)))
    for _ in range(2):  # a second start forgets the first window
        watch.start()
        watch.mark()
        watch.mark()
    assert watch.laps().host_s == watch.laps().device_s == [1.0, 2.0]
    assert watch.clock == "host"


def test_device_laps_are_read_once_the_device_is_done() -> None:
    device = FakeDevice()
    watch = CudaStopwatch(lambda: FakeEvent(device))
    watch.start()
    for _ in range(3):
        watch.mark()
    assert device.waits == 0
    laps = watch.laps()
    assert device.waits == 1
    assert laps.device_s == pytest.approx([2.0, 4.0, 6.0])
    assert len(laps.host_s) == 3
    assert laps.host_s == sorted(laps.host_s)
    assert max(laps.host_s) < 1.0
    assert watch.clock == "cuda_events"

"""The timed window's clocks behind one interface: the host's, and CUDA events on a GPU.

A stopwatch is started when token ids are handed to the engine and marked by the session at every
event of the generation. Marks never wait for the device; laps are read after the last one, when the
text is in host memory. On a processor the host clock stands for the device clock, and the row says
so.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Laps:
    """Seconds from the start to each mark: when the host passed it, when the device reached it."""

    host_s: list[float]
    device_s: list[float]


class Stopwatch(Protocol):
    """Times one batch."""

    @property
    def clock(self) -> str:
        """What the device times are: host, cuda_events or virtual."""
        ...

    def start(self) -> None: ...

    def mark(self) -> None: ...

    def laps(self) -> Laps:
        """Waits for the device where it must; to be called outside the timed window."""
        ...


@dataclass(slots=True)
class HostStopwatch:
    """The host's clock for both."""

    read: Callable[[], float] = time.perf_counter
    clock: str = "host"
    _begin: float = 0.0
    _marks: list[float] = field(default_factory=list)

    def start(self) -> None:
        self._marks = []
        self._begin = self.read()

    def mark(self) -> None:
        self._marks.append(self.read() - self._begin)

    def laps(self) -> Laps:
        return Laps(self._marks, self._marks)


@dataclass(slots=True)
class CudaStopwatch:
    """The host's clock, and a CUDA event recorded on the current stream at every mark."""

    new_event: Callable[[], Any]
    clock: str = "cuda_events"
    _host: HostStopwatch = field(default_factory=HostStopwatch)
    _begin: Any = None
    _events: list[Any] = field(default_factory=list)

    def start(self) -> None:
        self._events = []
        self._begin = self.new_event()
        self._begin.record()
        self._host.start()

    def mark(self) -> None:
        event = self.new_event()
        event.record()
        self._events.append(event)
        self._host.mark()

    def laps(self) -> Laps:
        if self._events:
            self._events[-1].synchronize()
        device_s = [self._begin.elapsed_time(event) / 1e3 for event in self._events]
        return Laps(self._host.laps().host_s, device_s)

"""Clocks a simulation waits on: one that really waits, one that only counts."""

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Tells the time in seconds when called, and lets it pass."""

    def __call__(self) -> float: ...

    def wait_until(self, at_s: float) -> None:
        """Returns at `at_s`, at once when that is over already."""
        ...


class RealClock:
    """The harness's own clock; waiting sleeps.

    A sleep overshoots by some 0.1 ms. Waiting for a moment, not for a while, keeps that from adding
    up over a request.
    """

    def __call__(self) -> float:
        return time.perf_counter()

    def wait_until(self, at_s: float) -> None:
        time.sleep(max(0.0, at_s - time.perf_counter()))


@dataclass(slots=True)
class VirtualClock:
    """Time that passes only when waited for: exact and free."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def wait_until(self, at_s: float) -> None:
        self.now_s = max(self.now_s, at_s)

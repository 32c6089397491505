"""Reading things that may be absent, broken or slow."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_SHARE = 0.002
"""Part of the time that one rationed reading may take: with some four of them, below 1 %."""
_MAX_AGE_S = 5.0
"""A rationed reading is never older than this, whatever it costs."""


def attempt(read: Callable[[], T]) -> T | None:
    """What `read` returns, or None if it fails in any way.

    Drivers and the kernel's files fail in ways of their own on every machine, a field that is not
    supported being the commonest. A missing number must never end a measurement.
    """
    try:
        return read()
    except Exception:
        return None


class Rationed(Generic[T]):
    """A reading that is repeated only as often as its cost allows, and kept in between.

    Args:
        min_age_s: how long a value is kept at least.
        clock: seconds; replaced in tests.
    """

    def __init__(
        self,
        read: Callable[[], T],
        min_age_s: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._read, self._min_age_s, self._clock = read, min_age_s, clock
        self._value: T | None = None
        self._due_s = float("-inf")

    def __call__(self) -> T | None:
        begin_s = self._clock()
        if begin_s >= self._due_s:
            self._value = attempt(self._read)
            cost_s = self._clock() - begin_s
            self._due_s = begin_s + max(self._min_age_s, min(cost_s / _SHARE, _MAX_AGE_S))
        return self._value

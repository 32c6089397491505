"""Time that may be taken, spent in parts of about the same length."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Budget:
    """No part is begun that would, like the longest so far, end too late.

    The first is always allowed, so that every resumption gets further.

    Attributes:
        seconds: from now on; None is no limit.
    """

    seconds: float | None
    _begin: float = field(default_factory=time.monotonic)
    _longest_s: float | None = None

    @property
    def is_spent(self) -> bool:
        """Whether all of it has passed."""
        return self.seconds is not None and time.monotonic() - self._begin >= self.seconds

    def allows_another(self, parts: int = 1) -> bool:
        """Whether so many more parts would end in time."""
        if self.seconds is None or self._longest_s is None:
            return True
        return self.needed_s(parts) < self.seconds

    def needed_s(self, parts: int) -> float:
        """From the beginning to the end of so many more parts, each like the longest so far."""
        return time.monotonic() - self._begin + parts * (self._longest_s or 0.0)

    @contextlib.contextmanager
    def spent_on(self) -> Iterator[None]:
        """Around everything that one part does."""
        begin = time.monotonic()
        yield
        self._longest_s = max(self._longest_s or 0.0, time.monotonic() - begin)

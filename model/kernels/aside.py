"""Work that may run beside what follows it, on a second stream of the same device.

Products of many rows are bound by arithmetic and those of the experts by memory, so the two share a
chip well. In a captured step the fork and the join become edges of the graph.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

_R = TypeVar("_R")


class Aside:
    """A second stream, made when first needed; on a processor everything runs in order."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    def start(self, work: Callable[[], _R], device: torch.device) -> "Running[_R]":
        """Issues the work after all issued so far.

        What it reads must be kept until `Running.join`. Its results may be freed at any time after
        that: their memory goes to the next work started here, which waits for everything before.
        """
        if device.type != "cuda":
            return Running(work(), None)
        if self._stream is None or self._stream.device != device:
            self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            return Running(work(), self._stream)


class Running(Generic[_R]):
    """Work that was started."""

    def __init__(self, result: _R, stream: torch.cuda.Stream | None) -> None:
        self._result, self._stream = result, stream

    def join(self) -> _R:
        """The result; what is issued from now on comes after it."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        return self._result

"""What a load leaves behind while it runs: on the disk, so that memory does not grow with it.

An unnamed file, which goes with the process whatever ends it. Writing is a copy into the system's
cache: some tens of microseconds an answer, in the loop that stamps the others' arrivals.
"""

import pickle
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Generic, TypeVar

Kept = TypeVar("Kept")
Read = TypeVar("Read", covariant=True)


class Spool(Generic[Kept]):
    """Values in the order they came, read back one at a time and as often as wanted.

    Args:
        folder: on whose disk they lie; None for the system's folder of temporary files, which may
            be memory itself.

    Raises:
        OSError: no file can be made there, or the disk is full (`append`).
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed with the spool
        weakref.finalize(self, _close, self._file)
        self._len = self._end = 0
        self._at_end = True

    def __len__(self) -> int:
        return self._len

    def __iter__(self) -> Iterator[Kept]:
        at = 0
        for _ in range(self._len):
            self._at_end = False
            self._file.seek(at)
            value = pickle.load(self._file)
            at = self._file.tell()
            yield value

    def append(self, value: Kept) -> None:
        if not self._at_end:
            self._file.seek(self._end)
            self._at_end = True
        pickle.dump(value, self._file, protocol=5)
        self._end = self._file.tell()
        self._len += 1


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # a full disk has been told of by then
        file.close()


class Made(Generic[Kept, Read]):
    """What a spool holds, each made into something else when it is read."""

    def __init__(self, spool: Spool[Kept], make: Callable[[Kept], Read]) -> None:
        self._spool, self._make = spool, make

    def __len__(self) -> int:
        return len(self._spool)

    def __iter__(self) -> Iterator[Read]:
        return map(self._make, self._spool)

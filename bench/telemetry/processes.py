"""Which processes are the benchmark's own: the measuring process and all that descend from it."""

from functools import partial

import psutil

from bench.telemetry.reading import Rationed, attempt

_REFRESH_S = 1.0
_MAX_DEPTH = 64


class OwnTree:
    """The process `pid` and its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._root = attempt(lambda: psutil.Process(pid))
        self._members = Rationed(self._list, min_age_s=_REFRESH_S)
        self._cpu_s = 0.0

    def owns(self, pid: int) -> bool:
        """Whether a process belongs to the tree: one of its ancestors is the root.

        Asked of the kernel every time, so that a child counts as own from its first moment.
        """
        for _ in range(_MAX_DEPTH):
            if pid == self._pid:
                return True
            parent = attempt(partial(_parent, pid))
            if not parent or parent == pid:
                return False
            pid = parent
        return False

    def cpu_s(self) -> float:
        """Processor seconds of the tree so far, those of ended children included.

        A new child is missed until the tree is listed again; its whole time counts from then on.
        """
        total = 0.0
        for process in self._members() or []:
            times = attempt(process.cpu_times)
            if times is not None:
                total += times.user + times.system
                total += times.children_user + times.children_system
        self._cpu_s = max(self._cpu_s, total)
        return self._cpu_s

    def _list(self) -> list[psutil.Process]:
        if self._root is None:
            return []
        return [self._root, *self._root.children(recursive=True)]


def _parent(pid: int) -> int:
    return int(psutil.Process(pid).ppid())

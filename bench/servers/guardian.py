"""Starts a server and ends it with everything that it started, whatever becomes of who asked.

Run as a program of its own by `bench.servers.process`, between the asking process and the server:

    python -P guardian.py '{"command": [...], "folder": ..., "scratch": ..., "stop_s": 5.0, ...}'

It says `started PID` on standard output (or `failed WHY`), and once nothing of the server is there
any more `stopped CODE`, or `left CODE` where its main process had ended by itself. The server is
ended when a byte or the end of standard input comes, when the asking process is gone (SIGKILL
included), on SIGTERM, and when its own main process has ended: first by SIGTERM, after `stop_s` by
SIGKILL.

Why a process: a death signal from the kernel (PR_SET_PDEATHSIG) reaches one child alone, and that
already when the thread that made it ends, while vLLM's engine and worker processes outlive their
API server. This process instead adopts orphans (PR_SET_CHILD_SUBREAPER), so that on Linux all that
descends from the server stays below it, other sessions and process groups included. Elsewhere those
are found that were below the server when it was asked to end.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import psutil

_LOOK_EVERY_S = 0.25
_POLL_S = 0.02
_KILL_S = 20.0
"""A process that the kernel holds on to is left after it."""
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    asked: dict[str, Any] = json.loads(sys.argv[1])
    told = _Told(asked["parent"])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        server = subprocess.Popen(
            asked["command"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            stderr=sys.stderr,
            cwd=asked["folder"],
            start_new_session=True,
        )
    except OSError as error:
        _say(f"failed {error.strerror}")
    else:
        _say(f"started {server.pid}")
        while server.poll() is None and not told.to_stop():
            pass
        how = "stopped" if server.returncode is None else "left"
        _say(f"{how} {_Tree(server).end(asked['stop_s'])}")
    shutil.rmtree(asked["scratch"], ignore_errors=True)


class _Told:
    """Whether it is time to end the server."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._signalled = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: object) -> None:
        self._signalled = True

    def to_stop(self) -> bool:
        """Waits a little for it."""
        ready, _, _ = select.select([sys.stdin], [], [], _LOOK_EVERY_S)
        return bool(ready) or self._signalled or os.getppid() != self._parent


class _Tree:
    """A server and all that descends from it."""

    def __init__(self, server: "subprocess.Popen[bytes]") -> None:
        self._server = server
        self._myself = psutil.Process()
        self._seen: set[psutil.Process] = set()

    def end(self, stop_s: float) -> int:
        """Ends all of it; the exit code of the server's main process, negative for a signal."""
        self._signal(signal.SIGTERM)
        until = time.monotonic() + stop_s
        while self._living() and time.monotonic() < until:
            time.sleep(_POLL_S)
        until = time.monotonic() + _KILL_S
        while self._living() and time.monotonic() < until:
            self._signal(signal.SIGKILL)
            time.sleep(_POLL_S)
        return -1 if self._server.returncode is None else self._server.returncode

    def _signal(self, number: int) -> None:
        """To the server's process group, and one by one to who left it."""
        for process in self._living():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(process.pid) != self._server.pid:
                    process.send_signal(number)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._server.pid, number)

    def _living(self) -> list[psutil.Process]:
        """Who still runs; those who have ended are cleared away."""
        self._server.poll()
        self._seen.update(self._myself.children(recursive=True))
        return [process for process in self._seen if self._lives(process)]

    def _lives(self, process: psutil.Process) -> bool:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                return True
            if process.pid != self._server.pid and process.ppid() == os.getpid():
                os.waitpid(process.pid, os.WNOHANG)
        except (psutil.Error, ChildProcessError):
            pass
        return False


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # who asked is gone
        print(line, flush=True)


if __name__ == "__main__":
    main()

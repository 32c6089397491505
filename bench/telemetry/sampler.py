"""Samples the machine from a process of its own while something else is measured.

A process, because a thread would take the measuring one's interpreter lock in a timed window. A
fresh interpreter, because a fork would inherit CUDA and `multiprocessing` would import the caller's
main module again. Samples pass through an unlinked temporary file: nothing to drain in a timed
window, nothing left behind whoever dies first.

Cost: below 0.8 % of one core of a busy two-core machine at 10 samples a second, the driver's own
time not included; each sample says what its sampler has used (`sampler_cpu_s`).
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bench.telemetry.sample import NO_GPU, Sample, decode

INTERVAL_S = 0.1
"""As often as the driver renews its power reading and energy counter."""
_START_S = 10.0
"""A driver without persistence mode takes seconds to come up."""
_STOP_S = 2.0
_WAIT_S = 1.0
_POLL_S = 0.005


class Sampler:
    """A context manager; the first sample is there when its block begins.

    Never raises for what fails in the sampling: there are no samples then, and `problem` says why.

    Args:
        gpu: the device to read: the driver's index or a UUID (`str(properties.uuid)` of the CUDA
            device is right even where CUDA_VISIBLE_DEVICES renumbers); None: the processor only.
        interval_s: seconds between samples.
        own_pid: root of the process tree that is the benchmark; this process by default.
        nvml: name of the module that speaks to the driver.

    Raises:
        ValueError: an interval or an index that cannot be.
    """

    def __init__(
        self,
        *,
        gpu: int | str | None,
        interval_s: float = INTERVAL_S,
        own_pid: int | None = None,
        nvml: str = "pynvml",
    ) -> None:
        if not (math.isfinite(interval_s) and interval_s >= 0.01):
            raise ValueError(f"interval_s is {interval_s}; it must be at least 0.01")
        if isinstance(gpu, int) and gpu < 0:
            raise ValueError(f"gpu is {gpu}; it must be an index from 0, a UUID or None")
        self._settings: dict[str, Any] = {
            "gpu": gpu,
            "interval_s": interval_s,
            "own_pid": os.getpid() if own_pid is None else own_pid,
            "nvml": nvml,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._samples: list[Sample] = []
        self._read_bytes = 0
        self._problem: str | None = None

    def __enter__(self) -> Self:
        # The child must find the same packages, and nothing in the current folder may shadow them.
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        command = [sys.executable, "-P", "-m", "bench.telemetry.worker"]
        try:
            self._output = tempfile.TemporaryFile(buffering=0)
            self._errors = tempfile.TemporaryFile(buffering=0)
            self._process = subprocess.Popen(
                [*command, json.dumps(self._settings)],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=self._errors,
                env=os.environ | {"PYTHONPATH": path},
            )
        except OSError as error:
            self._problem = f"the sampler could not be started: {error.strerror}"
            return self
        deadline_s = time.perf_counter() + _START_S
        while not self._read() and self._process.poll() is None:
            if time.perf_counter() > deadline_s:
                self._problem = f"the sampler gave no sample within {_START_S:.0f} s"
                break
            time.sleep(_POLL_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._problem = self.problem
            _stop(self._process)
        self._read()
        for file in (self._output, self._errors):
            if file is not None:
                file.close()

    @property
    def pid(self) -> int | None:
        """The sampling process, None before its start."""
        return None if self._process is None else self._process.pid

    @property
    def problem(self) -> str | None:
        """Why samples, or their GPU fields, are missing; None while all is well."""
        if self._problem is not None or self._errors is None or self._errors.closed:
            return self._problem
        size = os.fstat(self._errors.fileno()).st_size
        said = os.pread(self._errors.fileno(), size, 0).decode(errors="replace").splitlines()
        status = None if self._process is None else self._process.poll()
        if status is not None:
            return f"the sampler ended early with status {status}: {(said or ['no message'])[-1]}"
        return next((line for line in said if line.startswith(NO_GPU)), None)

    def samples(self, until_s: float | None = None) -> list[Sample]:
        """All samples so far. Reads a file: call it outside of timed windows.

        Args:
            until_s: waits, two intervals and a second at most, for a sample taken at or after this
                moment, so that a window which ended there is covered.
        """
        deadline_s = time.perf_counter() + _WAIT_S + 2 * self._settings["interval_s"]
        self._read()
        while until_s is not None and time.perf_counter() < deadline_s:
            covered = bool(self._samples) and self._samples[-1].at_s >= until_s
            if covered or self._process is None or self._process.poll() is not None:
                break
            time.sleep(_POLL_S)
            self._read()
        return list(self._samples)

    def _read(self) -> bool:
        """Takes over whole new lines; True once there is any sample."""
        if self._output is not None and not self._output.closed:
            # Both processes share the file's position, so reading must not move it.
            file = self._output.fileno()
            new = os.pread(file, os.fstat(file).st_size - self._read_bytes, self._read_bytes)
            whole = new[: new.rfind(b"\n") + 1]
            self._samples += [decode(line) for line in whole.splitlines()]
            self._read_bytes += len(whole)
        return bool(self._samples)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Asks the process to end, then makes it; never waits for one the kernel holds on to."""
    assert process.stdin is not None
    with suppress(OSError):  # it has ended already
        # A byte rather than only closing: a forked child may hold the pipe open as well.
        os.write(process.stdin.fileno(), b"\n")
    process.stdin.close()
    for force in (False, True):
        if force:
            process.kill()
        try:
            process.wait(_STOP_S)
            return
        except subprocess.TimeoutExpired:
            continue

"""The sampling process: `python -m bench.telemetry.worker`, started by `Sampler` alone.

It writes one line a sample to standard output and ends when standard input says so: a byte asks for
a last sample, and end of file means that the parent is gone, however it went.
"""

import json
import os
import select
import signal
import sys
import time

from bench.telemetry.cpu import CpuReader
from bench.telemetry.gpu import GpuReader, open_gpu
from bench.telemetry.processes import OwnTree
from bench.telemetry.sample import NO_GPU, Sample, encode

_STDIN, _STDOUT = 0, 1


def main() -> None:
    """Samples until told to stop. One argument: the settings as JSON."""
    parent = os.getppid()
    # A Ctrl-C reaches the whole foreground group; when to end is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(sys.argv[1])
    own = OwnTree(settings["own_pid"])
    cpu = CpuReader(own)
    gpu = _gpu(settings, own)
    interval_s = settings["interval_s"]
    due_s = time.perf_counter()
    while True:
        _write(take(cpu, gpu))
        # A late sample delays those after it instead of bunching them.
        due_s = max(due_s + interval_s, time.perf_counter())
        told, _, _ = select.select([_STDIN], [], [], max(0.0, due_s - time.perf_counter()))
        if told:
            _write(take(cpu, gpu))
            return
        # A process forked by the parent would keep the pipe open after the parent's end.
        if os.getppid() != parent:
            return


def take(cpu: CpuReader, gpu: GpuReader | None) -> Sample:
    """One sample; the GPU's fields are None without one."""
    at_s = time.perf_counter()
    fields = gpu.read() if gpu else {}
    fields |= cpu.read()
    return Sample(at_s=at_s, sampler_cpu_s=time.process_time(), **fields)


def _gpu(settings: dict[str, object], own: OwnTree) -> GpuReader | None:
    gpu = settings["gpu"]
    if not isinstance(gpu, int | str):
        return None
    try:
        return open_gpu(str(settings["nvml"]), gpu, own)
    except Exception as error:
        print(f"{NO_GPU}: {error}", file=sys.stderr, flush=True)
        return None


def _write(sample: Sample) -> None:
    os.write(_STDOUT, encode(sample))


if __name__ == "__main__":
    main()

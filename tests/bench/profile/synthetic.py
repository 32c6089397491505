"""Traces made by hand, as Kineto writes them: what is in them is known to the microsecond."""

import gzip
import json
from pathlib import Path
from typing import Any

from bench.profile.folder import TRACE, Profile, open_profile, write_info

Event = dict[str, Any]


def host(name: str, begin: float, length: float, category: str = "cpu_op", **args: Any) -> Event:
    """Something on the main thread."""
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": 1,
        "tid": 1,
        "ts": begin,
        "dur": length,
        "args": args,
    }


def group(name: str, begin: float, length: float) -> Event:
    return host(f"op_group:{name}", begin, length, "user_annotation")


def step(number: int, begin: float, length: float) -> Event:
    return host(f"ProfilerStep#{number}", begin, length, "user_annotation")


def launch(correlation: int, begin: float, length: float = 2.0) -> Event:
    return host("cudaLaunchKernel", begin, length, "cuda_runtime", correlation=correlation)


def kernel(name: str, correlation: int, begin: float, length: float, **args: Any) -> Event:
    """Something on the GPU's stream 7."""
    shown = {"correlation": correlation, "device": 0, "stream": 7} | args
    own = host(name, begin, length, "kernel", **shown)
    return own | {"pid": 0, "tid": 7}


def allocation(at: float, size: int, total: int, *, gpu: bool = False) -> Event:
    args = {"Bytes": size, "Total Allocated": total, "Device Type": int(gpu), "Device Id": 0}
    if gpu:
        args["Total Reserved"] = 2 * total
    return {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "ts": at, "args": args}


def forward(number: int, phase: str, length_ms: float, canvas_index: int = 0) -> dict[str, Any]:
    """A note as recording leaves it; the profiler doubles the time."""
    return {
        "number": number,
        "phase": phase,
        "canvas_index": canvas_index,
        "step": number,
        "context": 10,
        "plain_before_ms": length_ms / 2,
        "profiled_ms": length_ms,
        "plain_after_ms": length_ms / 2,
    }


def write_profile(
    path: Path, events: list[Event], forwards: list[dict[str, Any]], **info: Any
) -> Profile:
    """A profile folder with these events, opened."""
    (path / TRACE).mkdir(parents=True)
    trace = {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": "Fake GPU", "totalGlobalMem": 1 << 30}],
        "traceEvents": events,
    }
    packed = gzip.compress(json.dumps(trace).encode())
    (path / TRACE / "profile.1.pt.trace.json.gz").write_bytes(packed)
    known: dict[str, Any] = {
        "created": "2026-11-26T09:00:00+00:00",
        "point_id": "diffusion-bf16",
        "config": {},
        "decoding": "diffusion",
        "precision": "bf16",
        "execution": "eager",
        "executed": "eager",
        "emulated": False,
        "on_gpu": False,
        "kernel_groups": {"gate_up_kernel": "experts"},
        "floors": {},
        "forwards": forwards,
        "machine": {"device": "cpu", "cpu": "a processor", "threads": 1},
    }
    write_info(path, known | info)
    return open_profile(path)


def host_events(begin: float, number: int, dense_us: float = 30.0) -> list[Event]:
    """A step of 100 us with 20 us of norms, `dense_us` of dense and all else between them.

    The dense range is 10 us longer than its one operation, which holds another of half its length.
    """
    return [
        step(number, begin, 100.0 + dense_us - 30.0),
        host("aten::empty", begin + 5, 5),
        group("norms", begin + 10, 20),
        host("aten::mul", begin + 10, 20),
        group("dense", begin + 40, dense_us + 10),
        host("aten::linear", begin + 45, dense_us),
        host("aten::mm", begin + 45, dense_us / 2),
    ]


def gpu_events(begin: float, number: int) -> list[Event]:
    """A step of two kernels: 40 us, a gap of 10 us of which the host was late for 4, then 50 us."""
    return [
        step(number, begin, 60),
        group("dense", begin, 20),
        host("aten::mm", begin, 20),
        launch(2 * number, begin + 5),
        group("attention", begin + 30, 25),
        host("aten::empty", begin + 31, 2),
        launch(2 * number + 1, begin + 52),
        kernel("cutlass_gemm", 2 * number, begin + 10, 40, **{"blocks per SM": 2.0}),
        kernel("gate_up_kernel", 2 * number + 1, begin + 60, 50),
    ]

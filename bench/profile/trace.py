"""Reads a trace as torch's profiler exports it (Chrome's trace format, gzipped or not).

Times are microseconds after the trace's own zero. Names come from whoever wrote the trace and are
text like any other.
"""

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST_OPERATIONS = ("cpu_op",)
HOST_CALLS = ("cuda_runtime", "cuda_driver")
RANGES = ("user_annotation",)
DEVICE_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
_CPU = 0  # c10::DeviceType
_SUFFIXES = (".pt.trace.json.gz", ".pt.trace.json")


@dataclass(frozen=True, slots=True)
class Slice:
    """Something with a beginning and an end.

    Attributes:
        category: Kineto's: cpu_op, user_annotation, cuda_runtime, kernel and so on.
        lane: process and thread, or device and stream, that it is drawn on.
        correlation: of a launch and what it launched, None elsewhere.
    """

    name: str
    category: str
    begin_us: float
    end_us: float
    lane: tuple[str, str]
    correlation: int | None
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """An allocation, or a release with negative bytes, and what the allocator holds after it.

    Attributes:
        device: cpu, or cuda:N.
        reserved_bytes: taken from the device, in use or not; None on a processor.
    """

    at_us: float
    device: str
    bytes: int
    allocated_bytes: int | None
    reserved_bytes: int | None


@dataclass(frozen=True, slots=True)
class Trace:
    """What a trace holds that the panes need, each list by its time."""

    slices: list[Slice]
    memory: list[MemoryChange]
    devices: Sequence[Mapping[str, Any]]


def find_trace(folder: Path) -> Path:
    """The one trace in a folder.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = sorted(p for p in folder.glob("*") if p.name.endswith(_SUFFIXES))
    if len(found) != 1:
        raise ValueError(f"{folder} has {len(found)} traces (*{_SUFFIXES[0]}); it must have one")
    return found[0]


def read_trace(path: Path) -> Trace:
    """A trace from its file.

    Raises:
        ValueError: the file cannot be read, is damaged or no trace.
    """
    try:
        stored = path.read_bytes()
        text = gzip.decompress(stored) if path.suffix == ".gz" else stored
        plain = json.loads(text, strict=False)
    except OSError as error:
        reason = error.strerror or "no whole gzip file"
        raise ValueError(f"trace {path} cannot be read: {reason}") from error
    except (EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"trace {path} is damaged: {error}") from error
    events = plain.get("traceEvents") if isinstance(plain, dict) else None
    if not isinstance(events, list):
        raise ValueError(f"{path} is no trace: it has no list of traceEvents")
    slices, memory = [], []
    for event in events:
        if not isinstance(event, dict):
            continue
        if event.get("ph") == "X" and _times(event) is not None:
            slices.append(_slice(event))
        elif event.get("name") == "[memory]" and _number(event.get("ts")) is not None:
            memory.append(_memory(event))
    slices.sort(key=lambda s: (s.begin_us, -s.end_us))
    memory.sort(key=lambda m: m.at_us)
    devices = [d for d in plain.get("deviceProperties") or [] if isinstance(d, dict)]
    return Trace(slices, memory, devices)


def _times(event: Mapping[str, Any]) -> tuple[float, float] | None:
    begin, length = _number(event.get("ts")), _number(event.get("dur"))
    if begin is None or length is None or length < 0:
        return None
    return begin, begin + length


def _slice(event: Mapping[str, Any]) -> Slice:
    times = _times(event)
    assert times is not None
    args = event.get("args")
    args = args if isinstance(args, dict) else {}
    return Slice(
        name=str(event.get("name")),
        category=str(event.get("cat")),
        begin_us=times[0],
        end_us=times[1],
        lane=(str(event.get("pid")), str(event.get("tid"))),
        correlation=_whole(args.get("correlation")),
        args=args,
    )


def _memory(event: Mapping[str, Any]) -> MemoryChange:
    args = event.get("args")
    args = args if isinstance(args, dict) else {}
    kind, index = _whole(args.get("Device Type")), _whole(args.get("Device Id"))
    on_cpu = kind in (_CPU, None)
    return MemoryChange(
        at_us=float(event["ts"]),
        device="cpu" if on_cpu else f"cuda:{index or 0}",
        bytes=_whole(args.get("Bytes")) or 0,
        allocated_bytes=_whole(args.get("Total Allocated")),
        reserved_bytes=None if on_cpu else _whole(args.get("Total Reserved")),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)

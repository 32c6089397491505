"""Timing by CUDA graphs and a report that survives whatever comes after it."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

WARM_UPS, REPLAYS = 3, 25
Call = Callable[[int], object]


@dataclass
class Report:
    path: Path
    deadline: float
    data: dict[str, Any] = field(default_factory=dict)

    def expired(self) -> bool:
        return time.monotonic() > self.deadline

    def add(self, label: str, **values: Any) -> None:
        self.data.setdefault("rows", {}).setdefault(label, {}).update(values)
        self.save()

    def save(self) -> None:
        self.path.write_text(json.dumps(self.data, indent=1))


def microseconds(call: Call, calls: int = 6) -> float:
    """Median over graph replays, per call; call(i) may choose its layer by i."""
    if not torch.cuda.is_available():
        start = time.perf_counter()
        call(0)
        return (time.perf_counter() - start) * 1e6
    for index in range(WARM_UPS):
        call(index)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(calls):
            call(index)
    times = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / calls)
    return statistics.median(times[3:])


def copy_speed(device: str) -> float:
    """GB/s read plus written by a 2 GB device copy."""
    size = 2 << 30 if device == "cuda" else 1 << 20
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / microseconds(lambda i: target.copy_(source), 3) * 1e-3


def guarded(label: str, report: Report, call: Callable[..., object], *arguments: Any) -> None:
    """Runs one measurement; an error is recorded and the next one goes on."""
    if report.expired():
        return
    try:
        call(*arguments)
    except Exception as error:
        report.add(label, failed=f"{type(error).__name__}: {str(error)[:600]}")


def table(report: Report) -> None:
    print(f"copy {report.data.get('copy_gb_s', 0):.0f} GB/s on {report.data.get('device')}")
    for label, row in report.data.get("rows", {}).items():
        cells = [f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
                 for key, value in row.items()]  # fmt: skip
        print(f"{label:48} {' '.join(cells)[:200]}")

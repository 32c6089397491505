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
        self.path.write_text(json.dumps(self.data, indent=1))


def microseconds(call: Call, calls: int) -> float:
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


def guarded(label: str, report: Report, call: Callable[..., object], *arguments: Any) -> None:
    """Runs one measurement; an error is recorded and the next one goes on."""
    if report.expired():
        return
    try:
        call(*arguments)
    except Exception as error:
        report.add(label, failed=f"{type(error).__name__}: {str(error)[:600]}")

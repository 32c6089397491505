"""Panes of memory: what the allocators hold over time, and who allocates how much."""

from collections.abc import Mapping

import pandas as pd

from bench.profile.frames import sorted_rows
from bench.profile.spans import HostTimeline
from bench.profile.trace import Trace


def memory_changes(trace: Trace, host: HostTimeline, phase_of: Mapping[int, str]) -> pd.DataFrame:
    """A row a change of memory: when, on which device, what is held after it, in which phase."""
    begin_us = min(begin for begin, _ in host.steps.values())
    rows = []
    for change in trace.memory:
        step = host.at(change.at_us).step
        if step is not None and step in phase_of:
            rows.append(
                (
                    (change.at_us - begin_us) / 1e3,
                    change.device,
                    change.bytes,
                    change.allocated_bytes,
                    change.reserved_bytes,
                    phase_of[step],
                    step,
                )
            )
    columns = "at_ms device bytes allocated_bytes reserved_bytes phase number".split()
    found = pd.DataFrame(rows, columns=columns)
    whole = ("bytes", "allocated_bytes", "reserved_bytes", "number")
    return found.astype(dict.fromkeys(whole, "Int64"))


def allocations(
    trace: Trace, host: HostTimeline, phase_of: Mapping[int, str], steps: pd.DataFrame
) -> pd.DataFrame:
    """A row a phase, op group and device: allocations a forward and their bytes."""
    sums: dict[tuple[str, str, str], list[float]] = {}
    for change in trace.memory:
        place = host.at(change.at_us)
        if change.bytes > 0 and place.step is not None and place.step in phase_of:
            key = phase_of[place.step], place.group, change.device
            own = sums.setdefault(key, [0, 0])
            own[0] += 1
            own[1] += change.bytes
    counts = steps["phase"].value_counts()
    rows = [
        {
            "phase": phase,
            "op_group": group,
            "device": device,
            "allocations": number / counts[phase],
            "allocated_bytes": size / counts[phase],
        }
        for (phase, group, device), (number, size) in sums.items()
    ]
    columns = ["phase", "op_group", "device", "allocations", "allocated_bytes"]
    return sorted_rows(rows, columns, "allocated_bytes")

"""A profile's panes as dataframes, from its trace and what was noted while it was recorded.

Times are per forward: the mean over a phase's forwards. On a processor "busy" is torch's operations
and "gap" Python between them; on a GPU busy is kernels and copies, and gap the device waiting.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.profile.frames import sorted_rows
from bench.profile.memory import allocations, memory_changes
from bench.profile.names import PHASES
from bench.profile.spans import (
    HostTimeline,
    Kernel,
    Part,
    device_kernels,
    device_parts,
    host_timeline,
)
from bench.profile.trace import Trace

_FORWARD = ["number", "phase", "canvas_index", "step"]
_TIMES = ["plain_before_ms", "profiled_ms", "plain_after_ms"]


@dataclass(frozen=True, slots=True)
class Panes:
    """What a profile shows; columns are described where they are made.

    Attributes:
        accounted: the parts' sum over the steps' own length; 1 where nothing is lost.
    """

    steps: pd.DataFrame
    step_groups: pd.DataFrame
    breakdown: pd.DataFrame
    operators: pd.DataFrame
    kernels: pd.DataFrame
    gaps: pd.DataFrame
    memory: pd.DataFrame
    allocations: pd.DataFrame
    overhead: pd.DataFrame
    accounted: float

    def tables(self) -> dict[str, pd.DataFrame]:
        """The dataframes by name."""
        names = (name for name in Panes.__dataclass_fields__ if name != "accounted")
        return {name: getattr(self, name) for name in names}


def make_panes(trace: Trace, info: Mapping[str, Any]) -> Panes:
    """Every pane.

    Args:
        info: `profile.json` (`bench.profile.folder`).

    Raises:
        ValueError: the trace has no steps, or others than were noted.
    """
    host = host_timeline(trace)
    steps = _steps(info, host)
    on_gpu = bool(info["on_gpu"])
    kernels = device_kernels(trace, host, info["kernel_groups"]) if on_gpu else []
    if on_gpu and not kernels:
        raise ValueError(
            "the trace has no kernels: torch's profiler could not trace the GPU (CUPTI, which it "
            "needs, may be missing, refused to this user, or in another profiler's hands)"
        )
    found = device_parts(trace, kernels) if on_gpu else host.parts()
    phase_of = dict(zip(steps["number"], steps["phase"], strict=True))
    parts = [part for part in found if part.step in phase_of]
    steps["parts_ms"] = steps["number"].map(_by_step(parts)).fillna(0.0)
    step_groups = _step_groups(parts, phase_of)
    breakdown = _breakdown(step_groups, steps, info["floors"])
    length_ms = steps["profiled_ms" if on_gpu else "host_ms"].sum()
    return Panes(
        steps=steps,
        step_groups=step_groups,
        breakdown=breakdown,
        operators=_operators(host, kernels, phase_of, steps, breakdown),
        kernels=_kernels(kernels, phase_of, steps, breakdown),
        gaps=_gaps(parts, phase_of, steps),
        memory=memory_changes(trace, host, phase_of),
        allocations=allocations(trace, host, phase_of, steps),
        overhead=_overhead(steps),
        accounted=float(steps["parts_ms"].sum() / length_ms),
    )


def _steps(info: Mapping[str, Any], host: HostTimeline) -> pd.DataFrame:
    """A row a forward: its phase, its length on the host, and the clock's times of it.

    `plain_before_ms` and `plain_after_ms` are of the same forward without a profiler, `profiled_ms`
    with one.
    """
    steps = pd.DataFrame(info["forwards"], columns=[*_FORWARD, *_TIMES])
    missing = sorted(set(steps["number"]) - set(host.steps))
    if missing:
        raise ValueError(f"the trace lacks step {missing[0]}, which profile.json has")
    spans = [host.steps[number] for number in steps["number"]]
    lengths = [(end - begin) / 1e3 for begin, end in spans]
    return steps.assign(host_ms=lengths)


def _by_step(parts: Iterable[Part]) -> dict[int, float]:
    found: dict[int, float] = {}
    for part in parts:
        found[part.step] = found.get(part.step, 0.0) + part.length_us / 1e3
    return found


def _step_groups(parts: Iterable[Part], phase_of: Mapping[int, str]) -> pd.DataFrame:
    """A row a forward and op group: milliseconds busy and in gaps."""
    sums: dict[tuple[int, str], list[float]] = {}
    for part in parts:
        own = sums.setdefault((part.step, part.group), [0.0, 0.0])
        own[part.name is None] += part.length_us / 1e3
    return pd.DataFrame(
        [(number, phase_of[number], group, *own) for (number, group), own in sums.items()],
        columns=["number", "phase", "op_group", "busy_ms", "gap_ms"],
    )


def _breakdown(
    step_groups: pd.DataFrame, steps: pd.DataFrame, floors: Mapping[str, Any]
) -> pd.DataFrame:
    """A row a phase and op group, largest first.

    `share` is of the phase's forward; `deviation_ms` the standard deviation over its forwards, None
    where there is one; `floor_share` the floor over the group's time, both None where no floor is
    known.
    """
    rows = []
    counts = steps["phase"].value_counts()
    for phase in (p for p in PHASES if p in counts.index):
        own = step_groups[step_groups["phase"] == phase]
        forwards = int(counts[phase])
        step_ms = float((own["busy_ms"] + own["gap_ms"]).sum() / forwards)
        for group, times in own.groupby("op_group"):
            total = (times["busy_ms"] + times["gap_ms"]).to_numpy()
            total_ms = float(total.sum() / forwards)
            every = np.concatenate((total, np.zeros(forwards - len(total))))
            floor_ms = floors.get(phase, {}).get(str(group), {}).get("floor_ms")
            rows.append(
                {
                    "phase": phase,
                    "op_group": str(group),
                    "forwards": forwards,
                    "busy_ms": float(times["busy_ms"].sum() / forwards),
                    "gap_ms": float(times["gap_ms"].sum() / forwards),
                    "total_ms": total_ms,
                    "step_ms": step_ms,
                    "share": total_ms / step_ms if step_ms else None,
                    "deviation_ms": float(every.std(ddof=1)) if forwards > 1 else None,
                    "floor_ms": floor_ms,
                    "floor_share": floor_ms / total_ms if floor_ms and total_ms else None,
                }
            )
    columns = "phase op_group forwards busy_ms gap_ms total_ms step_ms share deviation_ms floor_ms"
    return sorted_rows(rows, [*columns.split(), "floor_share"], "total_ms")


def _operators(
    host: HostTimeline,
    kernels: Sequence[Kernel],
    phase_of: Mapping[int, str],
    steps: pd.DataFrame,
    breakdown: pd.DataFrame,
) -> pd.DataFrame:
    """A row a phase, op group and operation.

    `self_ms` is the host's time in it and in none that it called, `device_ms` that of what it
    launched (0 on a processor), `group_floor_share` its op group's.
    """
    sums: dict[tuple[str, str, str], list[float]] = {}

    def add(step: int | None, group: str, name: str | None, index: int, value: float) -> None:
        if name is not None and step is not None and step in phase_of:
            sums.setdefault((phase_of[step], group, name), [0, 0.0, 0.0])[index] += value

    for call in host.calls:
        add(call.step, call.group, call.operator, 0, 1)
    for part in host.parts():
        add(part.step, part.group, part.name, 1, part.length_us / 1e3)
    for kernel in kernels:
        length_ms = (kernel.slice.end_us - kernel.slice.begin_us) / 1e3
        add(kernel.step, kernel.group, kernel.operator, 2, length_ms)
    counts = steps["phase"].value_counts()
    rows = [
        {
            "phase": phase,
            "op_group": group,
            "operator": name,
            "calls": calls / counts[phase],
            "self_ms": self_ms / counts[phase],
            "device_ms": device_ms / counts[phase],
        }
        for (phase, group, name), (calls, self_ms, device_ms) in sums.items()
    ]
    columns = ["phase", "op_group", "operator", "calls", "self_ms", "device_ms"]
    by = "device_ms" if kernels else "self_ms"
    return _with_shares(sorted_rows(rows, columns, by), by, breakdown)


def _kernels(
    kernels: Sequence[Kernel],
    phase_of: Mapping[int, str],
    steps: pd.DataFrame,
    breakdown: pd.DataFrame,
) -> pd.DataFrame:
    """A row a phase, op group and kernel; none on a processor.

    `kernel_ms` is time on its stream a forward, also while another ran; what the tracer knows of a
    launch (blocks, registers, occupancy) is the mean, None where it does not tell.
    """
    groups: dict[tuple[str, str, str], list[Kernel]] = {}
    for kernel in kernels:
        if kernel.step in phase_of:
            key = phase_of[kernel.step], kernel.group, kernel.slice.name
            groups.setdefault(key, []).append(kernel)
    counts = steps["phase"].value_counts()
    rows = []
    for (phase, group, name), own in groups.items():
        lengths_us = [k.slice.end_us - k.slice.begin_us for k in own]
        row: dict[str, Any] = {
            "phase": phase,
            "op_group": group,
            "kernel": name,
            "launches": len(own) / counts[phase],
            "kernel_ms": sum(lengths_us) / 1e3 / counts[phase],
            "mean_us": sum(lengths_us) / len(own),
        }
        for column, told in _LAUNCH.items():
            row[column] = _mean(k.slice.args.get(told) for k in own)
        rows.append(row)
    columns = ["phase", "op_group", "kernel", "launches", "kernel_ms", "mean_us", *_LAUNCH]
    return _with_shares(sorted_rows(rows, columns, "kernel_ms"), "kernel_ms", breakdown)


_LAUNCH = {
    "blocks_per_sm": "blocks per SM",
    "occupancy_pct": "est. achieved occupancy %",
    "registers_per_thread": "registers per thread",
    "shared_memory_bytes": "shared memory",
}


def _mean(values: Iterable[Any]) -> float | None:
    known = [float(v) for v in values if isinstance(v, int | float)]
    return sum(known) / len(known) if known else None


def _gaps(parts: Iterable[Part], phase_of: Mapping[int, str], steps: pd.DataFrame) -> pd.DataFrame:
    """A row a phase and op group: stretches in which nothing ran, before its operations or in them.

    `late_ms` is a GPU's wait until the host had issued the next launch: the rest is the launch
    itself. None on a processor, where every gap is the host's.
    """
    lengths: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        if part.name is None:
            lengths.setdefault((phase_of[part.step], part.group), []).append(part)
    counts = steps["phase"].value_counts()
    rows = [
        {
            "phase": phase,
            "op_group": group,
            "gaps": len(own) / counts[phase],
            "gap_ms": sum(p.length_us for p in own) / 1e3 / counts[phase],
            "mean_us": sum(p.length_us for p in own) / len(own),
            "largest_us": max(p.length_us for p in own),
            "late_ms": sum(p.late_us for p in own) / 1e3 / counts[phase],
        }
        for (phase, group), own in lengths.items()
    ]
    columns = ["phase", "op_group", "gaps", "gap_ms", "mean_us", "largest_us", "late_ms"]
    return sorted_rows(rows, columns, "gap_ms")


def _overhead(steps: pd.DataFrame) -> pd.DataFrame:
    """A row a phase: the same forwards with the profiler and without, before it and after it.

    `overhead` is the profiled sum over the mean of the two others, less 1; `drift` how far those
    two are apart, as a share of their mean. An overhead smaller than it is not told from noise, and
    one below 0 is noise, for a profiler adds work: None.
    """
    rows = []
    for phase in (p for p in PHASES if p in set(steps["phase"])):
        own = steps[steps["phase"] == phase]
        before, profiled, after = (float(own[name].mean()) for name in _TIMES)
        plain = (before + after) / 2
        overhead = profiled / plain - 1 if plain else None
        drift = abs(after - before) / plain if plain else None
        told = overhead is not None and drift is not None and drift <= overhead
        rows.append(
            {
                "phase": phase,
                "forwards": len(own),
                **dict(zip(_TIMES, (before, profiled, after), strict=True)),
                "overhead": overhead if told else None,
                "drift": drift,
            }
        )
    return pd.DataFrame(rows, columns=["phase", "forwards", *_TIMES, "overhead", "drift"])


def _with_shares(table: pd.DataFrame, time: str, breakdown: pd.DataFrame) -> pd.DataFrame:
    """Adds the share of the phase's forward, and how near the op group is to its floor."""
    keys = ["phase", "op_group"]
    known = breakdown[[*keys, "step_ms", "floor_share"]]
    found = table.merge(known, on=keys, how="left")
    step_ms = found.pop("step_ms")
    return found.assign(share=found[time] / step_ms).rename(
        columns={"floor_share": "group_floor_share"}
    )

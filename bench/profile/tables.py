"""A profile's panes as tables of text: units in the header, n/a for the unknown."""

from typing import Any

import pandas as pd

from bench.digits import NOT_AVAILABLE, digits, tidy
from bench.profile.folder import Profile
from bench.profile.names import MAIN_PHASES, PHASES
from bench.profile.words import group_name
from bench.report.style import percent
from bench.report.tables import Cell, Table
from bench.report.view import as_number

_MOST_ROWS = 25
_LONGEST_NAME = 120


def phases_table(profile: Profile) -> Table:
    """A row a phase of the request."""
    steps = profile.panes.steps
    total_ms = float(steps["parts_ms"].sum())
    rows = []
    for phase in (p for p in PHASES if p in set(steps["phase"])):
        own = steps[steps["phase"] == phase]
        groups = profile.panes.breakdown
        busy_ms = float(groups[groups["phase"] == phase]["busy_ms"].sum())
        mean_ms = float(own["parts_ms"].mean())
        rows.append(
            (
                Cell(phase),
                Cell(f"{len(own)}"),
                Cell(digits(mean_ms)),
                Cell(percent(float(own["parts_ms"].sum()) / total_ms if total_ms else None)),
                Cell(percent(busy_ms / mean_ms if mean_ms else None)),
            )
        )
    busy = "device busy" if profile.info["on_gpu"] else "in operations"
    header = (("phase", ""), ("forwards", ""), ("mean", "ms"), ("share", "% of the request"))
    return Table(
        f"The request by phase, under the profiler. {_lanes(profile)}",
        (*header, (busy, "% of its time")),
        tuple(rows),
        words=1,
    )


def group_tables(profile: Profile) -> list[tuple[str, Table]]:
    """A table of op groups for every phase, with its name."""
    breakdown = profile.panes.breakdown
    return [
        (phase, _groups(profile, breakdown[breakdown["phase"] == phase], phase))
        for phase in (*MAIN_PHASES, *(p for p in PHASES if p not in MAIN_PHASES))
        if phase in set(breakdown["phase"])
    ]


def _groups(profile: Profile, rows: pd.DataFrame, phase: str) -> Table:
    gap = "device idle" if profile.info["on_gpu"] else "Python"
    floored = bool(rows["floor_ms"].notna().any())
    columns = (
        ("time", "ms", "total_ms", number_cell),
        ("deviation", "ms", "deviation_ms", number_cell),
        ("share", "%", "share", percent_cell),
        ("busy", "ms", "busy_ms", number_cell),
        (gap, "ms", "gap_ms", number_cell),
        *((("floor", "ms", "floor_ms", number_cell),) if floored else ()),
        *((("floor", "% of time", "floor_share", percent_cell),) if floored else ()),
    )
    cells = tuple(
        (Cell(group_name(row["op_group"])), *(cell(row[key]) for _, _, key, cell in columns))
        for row in rows.to_dict("records")
    )
    forwards = int(rows["forwards"].iloc[0])
    caption = f"{phase}, mean of n = {forwards}; deviation over them."
    if floored:
        caption += (
            " Floor: the larger of memory and arithmetic time at the rates this device reached."
        )
        if not profile.info["on_gpu"]:
            caption += " Weights that stay in a processor's caches are read faster than that."
    header = (("op group", ""), *((name, unit) for name, unit, _, _ in columns))
    return Table(caption, header, cells, words=1)


def operators_table(profile: Profile) -> Table:
    """The operations that take longest in a denoise or decode step."""
    rows = _main(profile.panes.operators)
    on_gpu = bool(profile.info["on_gpu"])
    header = (
        ("operation", ""),
        ("op group", ""),
        ("calls", "a step"),
        ("host", "ms, itself alone"),
        ("device", "ms"),
        ("share", "% of a step"),
        ("group's floor", "% of its time"),
    )
    cells = tuple(
        (
            Cell(short_name(row["operator"])),
            Cell(group_name(row["op_group"])),
            count_cell(row["calls"]),
            number_cell(row["self_ms"]),
            number_cell(row["device_ms"]) if on_gpu else Cell(NOT_AVAILABLE),
            percent_cell(row["share"]),
            percent_cell(row["group_floor_share"]),
        )
        for row in rows.head(_MOST_ROWS).to_dict("records")
    )
    by = "device time" if on_gpu else "own time"
    return Table(_shown("Operations", rows, by), header, cells, words=2)


def kernels_table(profile: Profile) -> Table | None:
    """The kernels that take longest in a denoise or decode step; None on a processor."""
    rows = _main(profile.panes.kernels)
    if rows.empty:
        return None
    header = (
        ("kernel", ""),
        ("op group", ""),
        ("launches", "a step"),
        ("time", "ms a step"),
        ("mean", "us"),
        ("share", "% of a step"),
        ("group's floor", "% of its time"),
        ("blocks", "a SM"),
        ("occupancy", "% estimated"),
        ("registers", "a thread"),
    )
    cells = tuple(
        (
            Cell(short_name(row["kernel"])),
            Cell(group_name(row["op_group"])),
            count_cell(row["launches"]),
            number_cell(row["kernel_ms"]),
            number_cell(row["mean_us"]),
            percent_cell(row["share"]),
            percent_cell(row["group_floor_share"]),
            count_cell(row["blocks_per_sm"]),
            number_cell(row["occupancy_pct"]),
            count_cell(row["registers_per_thread"]),
        )
        for row in rows.head(_MOST_ROWS).to_dict("records")
    )
    return Table(_shown("Kernels", rows, "time"), header, cells, words=2)


def gaps_table(profile: Profile) -> Table:
    """Stretches of a denoise or decode step in which nothing ran."""
    rows = _main(profile.panes.gaps)
    on_gpu = bool(profile.info["on_gpu"])
    header = (
        ("op group", ""),
        ("gaps", "a step"),
        ("time", "ms a step"),
        ("mean", "us"),
        ("largest", "us"),
        ("launch not issued", "ms a step"),
    )
    cells = tuple(
        (
            Cell(group_name(row["op_group"])),
            count_cell(row["gaps"]),
            number_cell(row["gap_ms"]),
            number_cell(row["mean_us"]),
            number_cell(row["largest_us"]),
            number_cell(row["late_ms"]) if on_gpu else Cell(NOT_AVAILABLE),
        )
        for row in rows.to_dict("records")
    )
    what = (
        "The device without work, before the op group's kernels. Launch not issued: the host was "
        "late; the rest is what a launch takes."
        if on_gpu
        else "Python between two of torch's operations, in the op group or, as host, in none."
    )
    return Table(what, header, cells, words=1)


def memory_table(profile: Profile) -> Table:
    """Peaks by phase, and what is allocated in it."""
    memory, allocations = profile.panes.memory, profile.panes.allocations
    rows = []
    for phase in (p for p in PHASES if p in set(memory["phase"])):
        own = memory[memory["phase"] == phase]
        for device in sorted(own["device"].unique()):
            held = own[own["device"] == device]
            made = allocations[(allocations["phase"] == phase) & (allocations["device"] == device)]
            rows.append(
                (
                    Cell(phase),
                    Cell(str(device)),
                    _mib(held["allocated_bytes"].max()),
                    _mib(held["reserved_bytes"].max()),
                    count_cell(made["allocations"].sum()),
                    _mib(made["allocated_bytes"].sum()),
                )
            )
    header = (
        ("phase", ""),
        ("device", ""),
        ("peak held", "MiB"),
        ("peak reserved", "MiB"),
        ("allocations", "a forward"),
        ("allocated", "MiB a forward"),
    )
    return Table("Memory by phase, by torch's allocators.", header, tuple(rows))


def overhead_table(profile: Profile) -> Table:
    """The same forwards without, with and again without the profiler."""
    header = (
        ("phase", ""),
        ("forwards", ""),
        ("before", "ms, no profiler"),
        ("profiled", "ms"),
        ("after", "ms, no profiler"),
        ("overhead", "%"),
        ("before and after differ", "%"),
    )
    cells = tuple(
        (
            Cell(str(row["phase"])),
            Cell(f"{row['forwards']}"),
            number_cell(row["plain_before_ms"]),
            number_cell(row["profiled_ms"]),
            number_cell(row["plain_after_ms"]),
            percent_cell(row["overhead"], signed=True),
            percent_cell(row["drift"]),
        )
        for row in profile.panes.overhead.to_dict("records")
    )
    return Table(
        "Mean time of the same forwards in one process. Overhead: n/a where the times before and "
        "after differ by more than it, or where the profiled forwards were the quicker ones.",
        header,
        cells,
        words=1,
    )


def _lanes(profile: Profile) -> str:
    if profile.info["on_gpu"]:
        return "From the first kernel to the last, by the launches of each phase."
    return "The main thread's time."


def _main(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["phase"].isin(MAIN_PHASES)]


def _shown(what: str, rows: pd.DataFrame, by: str) -> str:
    more = "" if len(rows) <= _MOST_ROWS else f", the first {_MOST_ROWS} of {len(rows)}"
    return f"{what} of a step by {by}{more}; all phases are in the parquet files."


def short_name(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def number_cell(value: Any) -> Cell:
    return Cell(digits(as_number(value)))


def count_cell(value: Any) -> Cell:
    """Of things: a whole mean stays whole."""
    return Cell(tidy(as_number(value)))


def percent_cell(value: Any, signed: bool = False) -> Cell:
    return Cell(percent(as_number(value), signed=signed))


def _mib(value: Any) -> Cell:
    number = as_number(value)
    return Cell(digits(None if number is None else number / 2**20))

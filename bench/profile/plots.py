"""A profile's figures: where a step's time goes, and what memory is held over the request."""

import textwrap

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.digits import digits
from bench.profile.advice import main_rows
from bench.profile.diff import ProfileDiff
from bench.profile.folder import Profile
from bench.profile.words import group_name
from bench.report.figures import Plot, drawable, empty, framed, strip_frame
from bench.report.style import INK, MUTED, RIGHT_COLOUR, WRONG_COLOUR, decoding_colour

_ROW_IN = 0.3
_LABEL_GAP = 0.012
_MOST_POINTS = 4000


def plot_breakdown(profile: Profile) -> Plot:
    """Bars an op group of a denoise or decode step: busy, then hatched the time without work."""
    rows = main_rows(profile).sort_values("total_ms")
    if rows.empty:
        return empty(profile, "breakdown", "Step time by op group", "no step was recorded")
    phase, step_ms = str(rows["phase"].iloc[0]), float(rows["total_ms"].sum())
    colour = decoding_colour(str(profile.info.get("decoding")))
    largest = rows.iloc[-1]
    floored = bool(rows["floor_ms"].notna().any())
    plot = framed(
        profile,
        "breakdown",
        0.55 + _ROW_IN * len(rows),
        title=f"Largest part of a {phase} step of {digits(step_ms)} ms, profiled: "
        f"{_words(largest['op_group'])}, {largest['share']:.0%}",
        units=f"Milliseconds of a {phase} step by op group; n = {int(largest['forwards'])} steps "
        "of one request in one process; whiskers: standard deviation over them.",
        caption="Profiled, so no speed: parts of a step against each other.",
        legend_in=0.3,
    )
    axes = plot.figure.subplots()
    places = range(len(rows))
    axes.barh(places, rows["busy_ms"], color=colour, height=0.62)
    axes.barh(
        places,
        rows["gap_ms"],
        left=rows["busy_ms"],
        color="white",
        edgecolor=colour,
        hatch="////",
        height=0.62,
        linewidth=0.6,
    )
    deviation = rows["deviation_ms"].astype(float)
    known = deviation.notna()
    axes.errorbar(
        rows["total_ms"][known],
        [p for p, is_known in zip(places, known, strict=True) if is_known],
        xerr=deviation[known],
        fmt="none",
        ecolor=INK,
        elinewidth=0.9,
        capsize=2,
    )
    for place, floor_ms in zip(places, rows["floor_ms"], strict=True):
        if pd.notna(floor_ms):
            axes.plot([floor_ms] * 2, [place - 0.42, place + 0.42], color=INK, linewidth=1.1)
    ends = rows["total_ms"] + deviation.fillna(0.0)
    right = float(ends.max())
    for place, end, total_ms, share in zip(
        places, ends, rows["total_ms"], rows["share"], strict=True
    ):
        axes.text(
            end + _LABEL_GAP * right,
            place,
            f"{digits(total_ms)} ms, {share:.0%}",
            va="center",
            color=MUTED,
            fontsize=8.5,
        )
    axes.set_yticks(list(places), [_words(group) for group in rows["op_group"]])
    axes.set_xlim(0, 1.16 * right)
    axes.set_xlabel(f"ms a {phase} step")
    strip_frame(axes, grid="x")
    busy, gap = _lanes(profile)
    handles = [
        Patch(color=colour, label=busy),
        Patch(facecolor="white", edgecolor=colour, hatch="////", label=gap),
    ]
    if floored:
        handles.append(Line2D([], [], color=INK, linewidth=1.1, label="op floor"))  # type: ignore[arg-type]
    plot.legend(handles)
    return plot


def plot_memory(profile: Profile) -> Plot:
    """What the allocator holds while the request runs, a line a device."""
    memory = profile.panes.memory.dropna(subset=["allocated_bytes"])
    if memory.empty:
        reason = "the trace has no allocations"
        return empty(profile, "memory", "Memory over the request", reason)
    device = _device(memory)
    own = memory[memory["device"] == device]
    own = own.assign(mib=own["allocated_bytes"].astype(float) / 2**20)
    peak = own.iloc[int(own["mib"].to_numpy().argmax())]
    plot = framed(
        profile,
        "memory",
        2.4,
        title=f"Memory peaks at {digits(peak['mib'])} MiB in a {peak['phase']}, "
        f"{digits(float(peak['mib'] - own['mib'].min()))} MiB above the least",
        units=f"MiB that torch's allocator holds on {device}, over one request under the profiler.",
        caption="On a processor only what was allocated since the request began.",
    )
    axes = plot.figure.subplots()
    shown = _thinned(own)
    axes.step(
        shown["at_ms"],
        shown["mib"],
        where="post",
        color=decoding_colour(str(profile.info.get("decoding"))),
        linewidth=1.0,
    )
    if own["mib"].min() >= 0:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("ms since the request's begin")
    axes.set_ylabel("MiB held")
    strip_frame(axes, grid="y")
    return plot


def plot_diff(diff: ProfileDiff) -> Plot:
    """Bars an op group: what the second profile adds to the first one's request, or takes off."""
    rows = diff.groups.iloc[::-1]
    change_ms = diff.total_after_ms - diff.total_before_ms
    first = diff.groups.iloc[0]
    plot = framed(
        diff.after,
        "diff",
        0.55 + _ROW_IN * len(rows),
        title=f"{_words(first['op_group']).capitalize()} changed by "
        f"{digits(first['change_ms'], signed=True)} ms of a request's "
        f"{digits(change_ms, signed=True)} ms",
        units=f"Milliseconds of the request of {drawable(diff.before.name)}, B less A; whiskers: "
        "two standard errors over the forwards.",
        caption="Both profiled, one process each: what changes between processes is not in the "
        "whiskers.",
    )
    axes = plot.figure.subplots()
    places = range(len(rows))
    colours = [WRONG_COLOUR if c > 0 else RIGHT_COLOUR for c in rows["change_ms"]]
    axes.barh(places, rows["change_ms"], color=colours, height=0.62)
    noise = rows["noise_ms"].astype(float)
    known = noise.notna()
    axes.errorbar(
        rows["change_ms"][known],
        [p for p, is_known in zip(places, known, strict=True) if is_known],
        xerr=noise[known],
        fmt="none",
        ecolor=INK,
        elinewidth=0.9,
        capsize=2,
    )
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(list(places), [_words(group) for group in rows["op_group"]])
    axes.set_xlabel("change, ms a request: right of the line is slower")
    strip_frame(axes, grid="x")
    return plot


def _lanes(profile: Profile) -> tuple[str, str]:
    if profile.info["on_gpu"]:
        return "kernels and copies", "device idle before them"
    return "operations", "Python between them"


def _device(memory: pd.DataFrame) -> str:
    """The GPU where there is one."""
    return str(max(memory["device"].unique()))


def _thinned(own: pd.DataFrame) -> pd.DataFrame:
    """At most so many points, the largest of each stretch kept."""
    if len(own) <= _MOST_POINTS:
        return own
    every = -(-len(own) // _MOST_POINTS)
    chunk = pd.Series(range(len(own)), index=own.index) // every
    return own.loc[own.groupby(chunk)["mib"].idxmax()]


def _words(group: object) -> str:
    return "\n".join(textwrap.wrap(drawable(group_name(group)), 24))

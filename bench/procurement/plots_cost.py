"""Figures about what is paid: cost against latency, what matters most, and what fits in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from bench.digits import digits
from bench.procurement.cell import Cell, weakest
from bench.procurement.marks import FEW_TICKS, PLAIN_TICKS, Series, draw_number, legend_of
from bench.procurement.naming import Name, name_points
from bench.report.figures import Origin, Plot, drawable, empty, framed, strip_frame
from bench.report.style import INK, MUTED, PAPER, TASK_COLOURS

_MEMORY_COLOURS = {
    "weights": "#4a5560",
    "keys and values": "#0072B2",
    "canvases": "#56B4E9",
    "overhead": "#CC79A7",
}
_RING: Any = {
    "linestyle": "",
    "marker": "o",
    "markersize": 14,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.8,
}
_CHANGING, _CALM = "#D55E00", "#8d99a6"


@dataclass(frozen=True, slots=True)
class Trade:
    """One way to run a device: what a token costs and how long a user waits.

    Attributes:
        is_allowed: serves within the limits often enough to be recommended.
        is_front: nothing that may be recommended is both cheaper and quicker.
    """

    label: str
    of: Series
    latency: Cell
    cost: Cell
    is_allowed: bool
    is_front: bool
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class SwingBar:
    """What one input does to the cost when it alone is moved between its limits."""

    label: str
    low_text: str
    high_text: str
    at_low: float
    at_high: float
    changes_answer: bool


@dataclass(frozen=True, slots=True)
class MemoryBar:
    """Bytes one device holds for a way to run it; `parts` by the names of the legend."""

    label: str
    parts: tuple[tuple[str, float], ...]
    capacity_bytes: float
    fits: bool


def plot_cost(
    origin: Origin,
    trades: Sequence[Trade],
    *,
    title: str,
    currency: str,
    latency: str,
    objective_s: float | None,
) -> Plot:
    """Cost a million tokens against latency, the Pareto front joined, the objective as a line."""
    known = [t for t in trades if t.latency.value is not None and t.cost.value is not None]
    if not known:
        reason = "no way to run a device has both a cost and a latency."
        return empty(origin, "cost", "Cost against latency", reason)
    plot = framed(
        origin,
        "cost",
        4.3,
        title=title,
        units=f"{currency} a million delivered tokens against {latency}; both axes are "
        "logarithmic. Every way that has both is a point.",
        caption="Joined: nothing is both cheaper and quicker (Pareto front). Ringed: the "
        "recommended way. Pale: keeps the limits in too few draws, or is not known to keep what "
        "was asked. Marks tell how a way's speed is known; every cost holds the stated prices and "
        "utilisation, too. With a load the cost is that of the fleet.",
        legend_in=0.28,
    )
    axes = plot.figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    front = sorted((t for t in known if t.is_front), key=_latency)
    axes.plot(
        [_latency(t) for t in front],
        [_cost(t) for t in front],
        color=INK,
        linewidth=1,
        linestyle=":",
        zorder=1,
        drawstyle="steps-post",
    )
    for trade in known:
        draw_number(axes, trade.latency, trade.cost, trade.of, faded=not trade.is_allowed)
    if objective_s is not None:
        axes.axvline(objective_s, color=INK, linewidth=0.9)
        axes.annotate(
            f"objective {digits(objective_s)} s",
            (objective_s, 1),
            (3, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=8,
        )
    axes.set_xlabel(f"{latency}, s (logarithmic)")
    axes.set_ylabel(f"{currency} a million tokens (logarithmic)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PLAIN_TICKS)
        axis.set_minor_formatter(FEW_TICKS)
        axis.set_tick_params(which="minor", labelsize=8, length=0)
    strip_frame(axes, grid="both")
    chosen = [trade for trade in known if trade.is_chosen]
    for trade in chosen:
        axes.plot(_latency(trade), _cost(trade), **_RING, zorder=4)
    places = [(_latency(trade), _cost(trade)) for trade in known]
    others = [trade for trade in front if not trade.is_chosen]
    name_points(
        axes,
        [
            Name(drawable(trade.label, 44), (_latency(trade), _cost(trade)), trade.is_chosen)
            for trade in (*chosen, *others)
        ],
        places,
    )
    kinds = [weakest((t.latency.kind, t.cost.kind)) for t in known]
    handles = legend_of([t.of for t in known], kinds)
    if chosen:
        handles.append(Line2D([], [], label="recommended", **_RING))
    plot.legend(handles)
    return plot


def plot_sensitivity(
    origin: Origin,
    swings: Sequence[SwingBar],
    *,
    base: float | None,
    title: str,
    unit: str,
    endless: Sequence[str] = (),
) -> Plot:
    """The tornado: how far each input alone moves the cost, the largest first.

    Args:
        endless: numbers within whose range the way cannot serve at all: no bar is long enough.
    """
    if base is None or not swings:
        return empty(origin, "sensitivity", "Sensitivity", "no input has a range to move in.")
    plot = framed(
        origin,
        "sensitivity",
        0.75 + 0.42 * len(swings),
        title=title,
        units=f"{unit} of the recommended way when one input moves between its limits and the "
        "others stay; the axis does not begin at zero.",
        caption="Numbers at a bar's ends are the input's values there. Filled: moving it changes "
        "which way is recommended." + _endless(endless),
        legend_in=0.28,
    )
    axes = plot.figure.subplots()
    for y, swing in enumerate(swings):
        _swing(axes, y, swing, base)
    axes.axvline(base, color=INK, linewidth=1)
    axes.set_yticks(range(len(swings)), [drawable(swing.label, 48) for swing in swings])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(swings) - 0.5, -0.5)
    ends = [end for swing in swings for end in (swing.at_low, swing.at_high)] + [base]
    room = max(max(ends) - min(ends), 0.02 * base)
    axes.set_xlim(min(ends) - 0.22 * room, max(ends) + 0.22 * room)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    strip_frame(axes, grid="x")
    plot.legend(_swing_legend(swings))
    return plot


def plot_memory(origin: Origin, bars: Sequence[MemoryBar], *, title: str, caption: str) -> Plot:
    """What fills each device's memory, and what is left, a bar a way to run it."""
    if not bars:
        return empty(origin, "memory", "Memory", "no way to run a device has a memory estimate.")
    plot = framed(
        origin,
        "memory",
        0.7 + 0.4 * len(bars),
        title=title,
        units="GB of 10⁹ bytes; the outline is the device's memory, the empty part is head-room.",
        caption=caption,
        legend_in=0.28,
    )
    axes = plot.figure.subplots()
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
    colours = {n: _MEMORY_COLOURS.get(n, TASK_COLOURS[i]) for i, n in enumerate(names)}
    for y, bar in enumerate(bars):
        start = 0.0
        for name, size in bar.parts:
            axes.barh(y, size / 1e9, left=start / 1e9, height=0.56, color=colours[name])
            start += size
        axes.barh(y, bar.capacity_bytes / 1e9, height=0.56, fill=False, edgecolor=INK, linewidth=1)
        left = bar.capacity_bytes - start
        told = f"{digits(left / 1e9)} left" if bar.fits else f"{digits(-left / 1e9)} too much"
        axes.annotate(
            told,
            (max(start, bar.capacity_bytes) / 1e9, y),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            fontweight="normal" if bar.fits else "bold",
            color=MUTED if bar.fits else "#a63d00",
        )
    axes.set_yticks(range(len(bars)), [drawable(bar.label, 52) for bar in bars])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    reach = max(max(b.capacity_bytes, sum(s for _, s in b.parts)) for b in bars)
    axes.set_xlim(0, 1.14 * reach / 1e9)
    axes.set_xlabel("GB")
    strip_frame(axes, grid="x")
    handles: list[Artist] = [Patch(color=colours[name], label=name) for name in names]
    handles.append(Patch(facecolor=PAPER, edgecolor=INK, label="the device's memory"))
    plot.legend(handles)
    return plot


def _latency(trade: Trade) -> float:
    assert trade.latency.value is not None
    return trade.latency.value


def _cost(trade: Trade) -> float:
    assert trade.cost.value is not None
    return trade.cost.value


def _swing(axes: Axes, y: int, swing: SwingBar, base: float) -> None:
    colour = _CHANGING if swing.changes_answer else _CALM
    low, high = (swing.at_low, swing.low_text), (swing.at_high, swing.high_text)
    for (end, words), (other, _) in ((low, high), (high, low)):
        axes.barh(
            y,
            end - base,
            left=base,
            height=0.5,
            color=colour if swing.changes_answer else PAPER,
            edgecolor=colour,
            linewidth=1.2,
        )
        right = end > base or (end == base and other < base)
        axes.annotate(
            words,
            (end, y),
            (5 if right else -5, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=8,
            color=MUTED,
        )


def _endless(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f" Not drawn, as the way cannot serve at one end of their range: {', '.join(names)}."


def _swing_legend(swings: Sequence[SwingBar]) -> list[Artist]:
    found: list[Artist] = [Line2D([], [], color=INK, linewidth=1, label="all inputs at their mode")]
    if any(swing.changes_answer for swing in swings):
        found.append(Patch(color=_CHANGING, label="another way is recommended"))
    if any(not swing.changes_answer for swing in swings):
        found.append(Patch(facecolor=PAPER, edgecolor=_CALM, label="the recommendation stays"))
    return found

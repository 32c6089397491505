"""Figures over batch size: delivered throughput with both floors, energy, and the crossover."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.marks import (
    FEW_TICKS,
    PLAIN_TICKS,
    Series,
    draw_floor,
    draw_number,
    exact,
    legend_of,
)
from bench.report.figures import Origin, Plot, drawable, empty, framed, strip_frame
from bench.report.style import INK, MUTED, precision_style

_COLUMNS = 3
_PANEL_IN = 2.45
_ASIDE = 0.86
"""Of its batch, where a published figure stands: beside the measured or projected one."""


@dataclass(frozen=True, slots=True)
class Line:
    """A metric of one sibling in one precision over batch sizes, on one device."""

    of: Series
    batch_sizes: tuple[int, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Floor:
    """The rate that forwards at their floor would give; `name` as in `marks.draw_floor`."""

    name: str
    decoding: str
    batch_sizes: tuple[int, ...]
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One device's lines."""

    device: str
    lines: tuple[Line, ...]
    floors: tuple[Floor, ...] = ()


@dataclass(frozen=True, slots=True)
class Crossing:
    """Diffusion over autoregressive, a ratio by batch size.

    Attributes:
        at: the batch at which the ratio falls below one; its value None where it does not.
        told: that in words.
    """

    label: str
    of: Series
    batch_sizes: tuple[int, ...]
    ratios: tuple[Cell, ...]
    at: Cell
    told: str


def plot_throughput(origin: Origin, panels: Sequence[Panel], *, title: str, floors_of: str) -> Plot:
    """Delivered tokens a second against batch, a panel a device.

    Args:
        floors_of: the precision whose floors are drawn, in words.
    """
    if not _any_known(panels):
        return empty(origin, "throughput", "Throughput", "no device has a throughput.")
    floors = [floor.name for panel in panels for floor in panel.floors]
    plot = _grid_frame(
        origin,
        "throughput",
        len(panels),
        title=title,
        units="Delivered tok/s of the whole batch, prefill included, against batch size; both axes "
        "are logarithmic. Whiskers: 95 %.",
        caption=f"Floors are those of {floors_of} by the data sheet, the upper pair diffusion's "
        "where both are drawn; no forward can be quicker. Diffusion is drawn at the stated steps a "
        "canvas. Published figures stand a little left of their batch; those with a drafter "
        "(multi-token prediction) are in the table alone.",
    )
    for axes, panel in _axes(plot, panels, shared=True):
        for floor in panel.floors:
            draw_floor(axes, floor.name, floor.batch_sizes, floor.rates)
        _lines(axes, panel)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(top=_top(panels))
    plot.legend(_legend(panels, floors))
    return plot


def plot_energy(origin: Origin, panels: Sequence[Panel], *, title: str) -> Plot:
    """Joules a delivered token against batch, a panel a device."""
    known = [panel for panel in panels if _any_known([panel])]
    if not known:
        return empty(origin, "energy", "Energy", "no device has a known power draw.")
    plot = _grid_frame(
        origin,
        "energy",
        len(known),
        title=title,
        units="Joules a delivered token of the device alone, without host and cooling, against "
        "batch size; both axes are logarithmic. Whiskers: 95 %.",
        caption="Lower is better. Diffusion is drawn at the stated steps a canvas."
        + _left_out([panel.device for panel in panels if panel not in known]),
    )
    for axes, panel in _axes(plot, known, shared=True):
        _lines(axes, panel)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    plot.legend(_legend(known, ()))
    return plot


def plot_crossover(origin: Origin, crossings: Sequence[Crossing], *, title: str) -> Plot:
    """How many times as fast diffusion is, by batch; where the line passes 1 the sibling is."""
    if not crossings:
        reason = "no device has both siblings at two batch sizes or more."
        return empty(origin, "crossover", "Crossover", reason)
    shaded = " Shaded: 95 % interval of the batch at which they meet."
    plot = _grid_frame(
        origin,
        "crossover",
        len(crossings),
        title=title,
        units="Diffusion's delivered tok/s over the autoregressive sibling's, against batch size; "
        f"both axes are logarithmic.{shaded if any(map(_shaded, crossings)) else ''}",
        caption="Below 1 the autoregressive sibling delivers more.",
    )
    for axes, crossing in zip(_grid(plot, len(crossings), shared=True), crossings, strict=True):
        axes.axhline(1, color=INK, linewidth=0.9)
        within = _shaded(crossing)
        if within is not None:
            axes.axvspan(*within, color=MUTED, alpha=0.18, linewidth=0)
        _line(axes, Line(crossing.of, crossing.batch_sizes, crossing.ratios))
        axes.set_title(drawable(crossing.label))
        axes.text(0.02, 0.03, crossing.told, transform=axes.transAxes, fontsize=8, color=INK)
        _batch_scale(axes, crossing.batch_sizes)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PLAIN_TICKS)
        axes.yaxis.set_minor_formatter(FEW_TICKS)
        axes.tick_params(axis="y", which="minor", length=0, labelsize=8)
    kinds = [cell.kind for each in crossings for cell in each.ratios if cell.value is not None]
    plot.legend(legend_of([each.of for each in crossings], kinds))
    return plot


def _shaded(crossing: Crossing) -> tuple[float, float] | None:
    """The interval of the crossing as far as the batches reach; None where there is none."""
    at, sizes = crossing.at, crossing.batch_sizes
    if at.value is None or at.why_no_interval:
        return None
    return (sizes[0] if at.low is None else at.low, sizes[-1] if at.high is None else at.high)


def _grid_frame(
    origin: Origin, name: str, count: int, *, title: str, units: str, caption: str
) -> Plot:
    rows = math.ceil(count / _COLUMNS)
    return framed(
        origin,
        name,
        _PANEL_IN * rows,
        title=title,
        units=units,
        caption=caption,
        legend_in=0.28,
    )


def _grid(plot: Plot, count: int, *, shared: bool) -> list[Axes]:
    """As many axes as there are panels; the rest of the last row stays empty."""
    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    grid = plot.figure.subplots(rows, columns, sharey=shared, squeeze=False)
    flat = [axes for row in grid for axes in row]
    for axes in flat[count:]:
        axes.set_axis_off()
    for axes in flat[:count]:
        strip_frame(axes, grid="both")
    return flat[:count]


def _axes(plot: Plot, panels: Sequence[Panel], *, shared: bool) -> list[tuple[Axes, Panel]]:
    found = list(zip(_grid(plot, len(panels), shared=shared), panels, strict=True))
    for axes, panel in found:
        axes.set_title(drawable(panel.device))
        sizes = [b for line in panel.lines for b in line.batch_sizes]
        _batch_scale(axes, sizes)
    return found


def _batch_scale(axes: Axes, batch_sizes: Sequence[int]) -> None:
    sizes = sorted(set(batch_sizes))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("batch size")
    axes.margins(x=0.08)


def _lines(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        _line(axes, line)


def _line(axes: Axes, line: Line) -> None:
    """Points by their class, joined by a thin line where neighbours are of the same class."""
    style = precision_style(line.of.precision)
    known = [
        (batch, cell.value, cell)
        for batch, cell in zip(line.batch_sizes, line.cells, strict=True)
        if cell.value is not None
    ]
    for kind in dict.fromkeys(cell.kind for _, _, cell in known):
        own = [(batch, value) for batch, value, cell in known if cell.kind is kind]
        axes.plot(
            [batch for batch, _ in own],
            [value for _, value in own],
            color=line.of.colour,
            linestyle=style.line,
            linewidth=1.3,
            alpha=0.8,
            zorder=2,
        )
    for batch, _, cell in known:
        aside = _ASIDE if cell.kind is NumberClass.PUBLISHED else 1.0
        draw_number(axes, exact(aside * batch), cell, line.of)


def _legend(panels: Sequence[Panel], floors: Sequence[str]) -> list[Artist]:
    lines = [line for panel in panels for line in panel.lines]
    return legend_of([line.of for line in lines], _kinds(lines), floors)


def _kinds(lines: Sequence[Line]) -> list[NumberClass]:
    return [cell.kind for line in lines for cell in line.cells if cell.value is not None]


def _any_known(panels: Sequence[Panel]) -> bool:
    return any(c.value is not None for p in panels for line in p.lines for c in line.cells)


def _top(panels: Sequence[Panel]) -> float:
    """Above every number and op floor; a streaming floor may leave, as a batch shares weights."""
    drawn = [
        max(cell.value, cell.high or 0)
        for panel in panels
        for line in panel.lines
        for cell in line.cells
        if cell.value is not None
    ]
    drawn += [
        rate
        for panel in panels
        for floor in panel.floors
        if floor.name == "op floor"
        for rate in floor.rates
    ]
    return 1.6 * max(drawn)


def _left_out(devices: Sequence[str]) -> str:
    return f" Not known for: {', '.join(devices)}." if devices else ""

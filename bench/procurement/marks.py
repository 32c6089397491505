"""How a number of each class is drawn, once for all figures of a procurement report.

Measured is filled, published a hollow diamond, projected hatched, assumed grey. Colour stays that
of the decoding and the marker's shape that of the precision: no class is told by colour alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from bench.procurement.cell import Cell, NumberClass, weakest
from bench.report.style import (
    INK,
    MUTED,
    PAPER,
    LineStyle,
    decoding_colour,
    precision_style,
)

_AREA = 46.0
_HATCH = "//////"
_FLOOR_LINES: dict[str, LineStyle] = {"op floor": "-", "streaming floor": "--"}
PLAIN_TICKS = FuncFormatter(lambda value, _: f"{value:g}")
FEW_TICKS = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "235" else "")
"""Labels of a logarithmic axis between its powers of ten: those that do not crowd."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What stands below every figure: the devices and the day."""

    device: str
    date: str


@dataclass(frozen=True, slots=True)
class Series:
    """Whose number it is."""

    decoding: str
    precision: str

    @property
    def colour(self) -> str:
        return decoding_colour(self.decoding)


def draw_number(axes: Axes, x: Cell, y: Cell, of: Series, *, faded: bool = False) -> None:
    """A point by its weaker class, with a whisker for each interval; unknown ones draw nothing."""
    if x.value is None or y.value is None:
        return
    kind = weakest((x.kind, y.kind))
    alpha = 0.35 if faded else 1.0
    colour = MUTED if kind is NumberClass.ASSUMED else of.colour
    line = "-" if kind is NumberClass.MEASURED else (0, (1.5, 1.2))
    if x.low is not None and x.high is not None:
        axes.plot(
            [x.low, x.high], [y.value] * 2, color=colour, linewidth=1.3, linestyle=line, alpha=alpha
        )
    if y.low is not None and y.high is not None:
        axes.plot(
            [x.value] * 2, [y.low, y.high], color=colour, linewidth=1.3, linestyle=line, alpha=alpha
        )
    _marker(axes, x.value, y.value, kind, of.precision, colour, alpha)


def exact(value: float, kind: NumberClass = NumberClass.MEASURED) -> Cell:
    """A coordinate that is no estimate: a batch size, a row."""
    return Cell(value, None, None, kind, "", "")


def draw_floor(axes: Axes, name: str, xs: Sequence[float], ys: Sequence[float]) -> None:
    """A thin dark line; `name` is "op floor" or "streaming floor"."""
    axes.plot(xs, ys, color=INK, linewidth=0.9, linestyle=_FLOOR_LINES[name], zorder=1)


def legend_of(
    series: Iterable[Series], kinds: Iterable[NumberClass], floors: Iterable[str] = ()
) -> list[Artist]:
    """One entry a decoding, a precision, a class and a floor that occurs."""
    all_series = list(dict.fromkeys(series))
    found: list[Artist] = [
        Patch(color=decoding_colour(decoding), label=decoding)
        for decoding in dict.fromkeys(each.decoding for each in all_series)
    ]
    for precision in dict.fromkeys(each.precision for each in all_series):
        style = precision_style(precision)
        found.append(
            Line2D(
                [],
                [],
                color=MUTED,
                marker=style.marker,
                linestyle=style.line,
                linewidth=1.4,
                label=precision,
            )
        )
    occurring = set(kinds)
    found += [_class_entry(kind) for kind in NumberClass if kind in occurring]
    found += [
        Line2D([], [], color=INK, linewidth=0.9, linestyle=_FLOOR_LINES[name], label=name)
        for name in dict.fromkeys(floors)
    ]
    return found


def _class_entry(kind: NumberClass) -> Artist:
    if kind is NumberClass.PROJECTED:
        return Patch(facecolor=PAPER, edgecolor=INK, hatch=_HATCH, label="projected")
    marker = "D" if kind is NumberClass.PUBLISHED else "o"
    hollow = kind is NumberClass.PUBLISHED
    colour = MUTED if kind is NumberClass.ASSUMED else INK
    return Line2D(
        [],
        [],
        linestyle="",
        marker=marker,
        markerfacecolor=PAPER if hollow else colour,
        markeredgecolor=colour,
        label=str(kind),
    )


def _face(kind: NumberClass, colour: str) -> str:
    """A published diamond is hollow indeed: what lies below it stays in sight."""
    if kind is NumberClass.PUBLISHED:
        return "none"
    return PAPER if kind is NumberClass.PROJECTED else colour


def _marker(
    axes: Axes, x: float, y: float, kind: NumberClass, precision: str, colour: str, alpha: float
) -> PathCollection:
    marker = "D" if kind is NumberClass.PUBLISHED else precision_style(precision).marker
    filled = kind in (NumberClass.MEASURED, NumberClass.ASSUMED)
    return axes.scatter(
        [x],
        [y],
        s=_AREA,
        marker=marker,
        facecolors=_face(kind, colour),
        edgecolors=PAPER if filled else colour,
        linewidths=0.8 if filled else 1.2,
        hatch=_HATCH if kind is NumberClass.PROJECTED else None,
        alpha=alpha,
        zorder=3,
        clip_on=False,
    )

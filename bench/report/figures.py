"""The frame every figure shares: a title that says the finding, units and n, and a dated caption.

Figures are built without pyplot: drawing a report needs no display and leaves no state behind.
"""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from bench.report.style import INK, MUTED, PAPER, RULE

DPI = 200
WIDTH_IN = 9.6
_HEADING_PT, _BODY_PT, _SMALL_PT = 13.0, 9.5, 8.0
_MARGIN_IN = 0.18
_PANEL_TITLE_PT = 10.0

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": _BODY_PT,
    "text.parse_math": False,  # names come from users: "$" is a character
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.labelsize": _BODY_PT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": _PANEL_TITLE_PT,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 2.0,
    "figure.facecolor": PAPER,
    "hatch.linewidth": 0.8,
}


class Origin(Protocol):
    """Where the numbers of a figure come from (`bench.report.view.View`)."""

    @property
    def device(self) -> str: ...
    @property
    def date(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawn figure and the words that stand in for it where it cannot be seen."""

    name: str
    figure: Figure
    title: str
    caption: str
    legend_at: tuple[float, float] = (0.0, 1.0)

    def legend(self, handles: Sequence[Artist]) -> None:
        """A legend on one line between the words and the axes; `framed` must have kept the room."""
        self.figure.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=self.legend_at,
            ncols=len(handles),
            borderaxespad=0,
            borderpad=0,
            handlelength=1.4,
            handletextpad=0.4,
            columnspacing=1.1,
        )

    def save(self, folder: Path) -> Path:
        path = folder / f"{self.name}.png"
        self.figure.savefig(path, dpi=DPI)
        return path


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib settings of the visual language, for as long as the context lasts."""
    with mpl.rc_context(_RC):
        yield


def framed(
    origin: Origin,
    name: str,
    body_height_in: float,
    *,
    title: str,
    units: str,
    caption: str,
    legend_in: float = 0.0,
) -> Plot:
    """An empty figure with title, a line of units and n, and the caption; axes go between them."""
    title_lines = textwrap.wrap(title, 88) or [""]
    unit_lines = textwrap.wrap(units, 142)
    caption_lines = textwrap.wrap(f"{caption} {origin.device}, {origin.date}.", 160)
    title_in = 0.235 * len(title_lines)
    head_in = _MARGIN_IN + title_in + 0.17 * len(unit_lines) + 0.14
    foot_in = _MARGIN_IN + 0.16 * len(caption_lines)
    height_in = head_in + legend_in + body_height_in + foot_in

    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    left = _MARGIN_IN / WIDTH_IN
    top = 1 - _MARGIN_IN / height_in
    figure.text(
        left, top, "\n".join(title_lines), va="top", fontsize=_HEADING_PT, fontweight="bold"
    )
    figure.text(
        left, top - title_in / height_in, "\n".join(unit_lines), va="top", color=MUTED, fontsize=9
    )
    figure.text(
        left,
        0.10 / height_in,
        "\n".join(caption_lines),
        va="bottom",
        color=MUTED,
        fontsize=_SMALL_PT,
    )
    engine = figure.get_layout_engine()
    assert engine is not None
    body = (left, foot_in / height_in, 1 - 2 * left, body_height_in / height_in)
    engine.set(rect=body)  # type: ignore[call-arg]
    legend_at = (left, 1 - head_in / height_in)
    return Plot(name, figure, title, f"{units} {caption}", legend_at)


def empty(origin: Origin, name: str, subject: str, reason: str) -> Plot:
    """A small figure that says what is not there and why."""
    plot = framed(origin, name, 0.6, title=f"{subject}: n/a", units="", caption="Nothing is drawn.")
    axes = plot.figure.subplots()
    axes.set_axis_off()
    lines = "\n".join(textwrap.wrap(f"n/a: {reason}", 110))
    axes.text(0.0, 0.5, lines, transform=axes.transAxes, va="center", color=MUTED)
    return Plot(name, plot.figure, plot.title, f"n/a: {reason}")


def strip_frame(axes: Axes, *, grid: str | None = None) -> None:
    """No box round the data; at most one direction of grid lines."""
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    if grid is not None:
        axes.grid(axis=grid)  # type: ignore[arg-type]


def drawable(text: str, limit: int = 40) -> str:
    """Text the built-in font can draw: white space made visible elsewhere, other gaps as a box."""
    known = "".join(c if ord(c) in _charmap() else "\N{WHITE SQUARE}" for c in text)
    return known if len(known) <= limit else f"{known[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


@lru_cache(maxsize=1)
def _charmap() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())

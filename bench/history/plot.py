"""A metric over time in the house style: a panel a point, a level a stretch, changes marked."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes

from bench.history.changes import levels
from bench.history.series import Series
from bench.history.show import standout
from bench.report.figures import DPI, framed, house_style, strip_frame
from bench.report.style import INK, MUTED, decoding_colour, precision_style
from bench.report.view import View
from bench.writing import writing

_PANEL_IN = 2.1
_WORDS = 34


def plot_series(found: Sequence[Series], path: Path) -> None:
    """Draws series to a PNG file.

    Runs are evenly spaced in order of time, as most things happen between few of them.

    Raises:
        ValueError: the file cannot be written.
    """
    panels = [list(own) for _, own in groupby(found, key=lambda series: series.point_id)]
    dates = [seen.created for series in found for seen in series.observations]
    devices = dict.fromkeys(series.facts.get("device") or "unknown device" for series in found)
    view = View(path, {"machine": {"device": ", ".join(devices)}, "created": max(dates)}, (), {})
    with house_style():
        plot = framed(
            view,
            path.stem,
            _PANEL_IN * len(panels) + 0.3,
            title=standout(found),
            units=f"{found[0].metric}, {found[0].unit}; n = {len(dates)} runs; 95 % intervals "
            "where a run has one.",
            caption="Lines: the level of each stretch between changes. A new environment starts a "
            "new series (grey edge); a dashed edge is a known shift.",
        )
        grid = plot.figure.subplots(len(panels), 1, squeeze=False)
        for axes, own in zip(grid[:, 0], panels, strict=True):
            _panel(axes, own)
        with writing(path):
            plot.figure.savefig(path, dpi=DPI)


def _panel(axes: Axes, own: list[Series]) -> None:
    at = 0
    ticks: list[int] = []
    dates: list[str] = []
    for number, series in enumerate(own):
        if number:
            edge = at - 0.5
            axes.axvline(edge, color=MUTED, linewidth=0.8)
            _label(axes, edge, "; ".join(map(str, series.began)))
        _draw(axes, series, at)
        ticks += range(at, at + len(series.observations))
        dates += [seen.created[5:10] for seen in series.observations]
        at += len(series.observations)
    step = max(1, len(ticks) // 12)
    axes.set_xticks(ticks[::step], dates[::step])
    axes.set_xlim(-0.6, at - 0.4)
    axes.set_ylabel(own[0].unit)
    axes.set_title(own[0].point_id)
    axes.margins(y=0.25)
    strip_frame(axes, grid="y")


def _draw(axes: Axes, series: Series, at: int) -> None:
    colour = decoding_colour(series.facts.get("decoding") or "")
    style = precision_style(series.facts.get("precision") or "")
    values = [seen.value for seen in series.observations]
    for place, seen in enumerate(series.observations):
        if seen.lo is not None and seen.hi is not None:
            axes.plot([at + place] * 2, [seen.lo, seen.hi], color=colour, linewidth=1, alpha=0.6)
        if seen.known and place:
            axes.axvline(at + place - 0.5, color=MUTED, linewidth=0.8, linestyle="--")
            _label(axes, at + place - 0.5, "; ".join(seen.known))
    places = range(at, at + len(values))
    axes.plot(places, values, style.marker, color=colour, markersize=4)
    cuts = [change.index for change in series.changes]
    cuts += [place for place, seen in enumerate(series.observations) if seen.known]
    for begin, end, level in levels(values, cuts):
        axes.plot([at + begin - 0.4, at + end - 0.6], [level] * 2, style.line, color=colour)
    for change in series.changes:
        axes.text(
            at + change.index - 0.5,
            (change.before + change.after) / 2,
            f"{100 * change.effect:+.1f} %",
            ha="center",
            va="center",
            color=INK,
            fontsize=9,
            fontweight="bold",
        )


def _label(axes: Axes, x: float, text: str) -> None:
    short = text if len(text) <= _WORDS else f"{text[: _WORDS - 1]}\N{HORIZONTAL ELLIPSIS}"
    axes.text(
        x, 1.0, f" {short}", transform=axes.get_xaxis_transform(), va="top", fontsize=8, color=MUTED
    )

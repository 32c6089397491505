"""One canvas as a heat map: every position at every step, and the text it ended in."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.patches import Patch

from bench.report.cells import NOISE_SHADES, PALETTE, highest_nat, is_special, paint, visible
from bench.report.figures import Plot, drawable, empty, framed
from bench.report.states import SampleCanvas, most_telling, traced_canvases
from bench.report.style import INK, MUTED, PAPER, STATE_STYLES, State, plural
from bench.report.view import View

_WIDEST = 64


def plot_canvas(view: View) -> Plot:
    """The sample canvas with most revisions (else most steps), coloured by state."""
    sample = most_telling(traced_canvases(view.tables["positions"]))
    if sample is None:
        reason = "no canvas was traced; it needs a diffusion point and trace=positions or full."
        return empty(view, "canvas", "One canvas, step by step", reason)
    shown = sample.cropped(_WIDEST)
    columns = shown.state_TL.shape[1]
    row_in = min(0.27, max(0.13, 5.6 / (sample.steps + 2)))
    plot = framed(
        view,
        "canvas",
        0.75 + row_in * (sample.steps + 1.5),
        title=sample.finding(drawable(sample.task)),
        units=f"Request {sample.request_id}, canvas {sample.canvas_index + 1}, {sample.point_id}: "
        f"{plural(sample.steps, 'denoise step')} down, {_extent(shown)} across. Letters show the "
        "most likely token where it changed; the last row is the text as delivered. n = 1 canvas, "
        "chosen for its revisions.",
        caption="Not timed: the sampler's own record of one canvas.",
        legend_in=0.36,
    )
    axes = plot.figure.subplots()
    axes.imshow(_colours(shown), aspect="auto", interpolation="nearest")
    _grid(axes, columns, sample.steps)
    short = all(len(t) <= 2 or is_special(t) for t in shown.text_TL[-1])
    if short and columns <= 40:
        _changes(axes, shown)
    else:
        _markers(axes, shown)
    _final_text(axes, shown, short)
    _ticks(axes, shown)
    _key(plot, axes, shown)
    return plot


def _extent(shown: SampleCanvas) -> str:
    columns = shown.state_TL.shape[1]
    if columns == shown.canvas_length:
        return plural(columns, "position")
    last = shown.first_position + columns - 1
    return (
        f"positions {shown.first_position} to {last} of {shown.canvas_length} (where most happens)"
    )


def _colours(shown: SampleCanvas) -> np.ndarray:
    """RGB [T, L, 3]."""
    rgb = np.array([to_rgb(colour) for colour in PALETTE])
    return rgb[paint(shown.state_TL, shown.entropy_TL)]


def _grid(axes: Axes, columns: int, steps: int) -> None:
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(steps + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PAPER, linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _changes(axes: Axes, shown: SampleCanvas) -> None:
    """The argmax wherever it differs from the step before, and a mark on what was revoked."""
    for step, column in np.ndindex(shown.state_TL.shape):
        state = State(int(shown.state_TL[step, column]))
        style = STATE_STYLES[state]
        if state is State.AFTER_EOS:
            continue
        fresh = step == 0 or shown.argmax_TL[step, column] != shown.argmax_TL[step - 1, column]
        if state is State.REVOKED:
            axes.plot(column, step, style.marker, color=style.ink, markersize=4.5)
        elif fresh or state is State.REVISED:
            text = _token(str(shown.text_TL[step, column]), 2)
            ink = INK if state is State.NOISE else style.ink
            axes.text(column, step, text, ha="center", va="center", color=ink, fontsize=8)
    _dots(axes, shown)


def _markers(axes: Axes, shown: SampleCanvas) -> None:
    """Glyphs alone, where cells are too small or tokens too long for text."""
    for state in (State.ACCEPTED, State.REVOKED, State.REVISED):
        rows, columns = np.nonzero(shown.state_TL == state)
        style = STATE_STYLES[state]
        face = style.ink if state is State.REVOKED else "none"  # hollow, as its glyph is
        axes.scatter(
            columns, rows, 11, marker=style.marker, linewidths=0.8, color=style.ink, facecolors=face
        )
    _dots(axes, shown)


def _dots(axes: Axes, shown: SampleCanvas) -> None:
    rows, columns = np.nonzero(shown.state_TL == State.AFTER_EOS)
    axes.scatter(columns, rows, s=2, color=STATE_STYLES[State.AFTER_EOS].ink, alpha=0.45)


def _final_text(axes: Axes, shown: SampleCanvas, short: bool) -> None:
    """The delivered text below the last step, a token a column."""
    for column, state in enumerate(shown.state_TL[-1]):
        if state == State.AFTER_EOS:
            continue
        text = str(shown.text_TL[-1, column])
        special = is_special(text)
        upright = short and not special
        axes.text(
            column,
            shown.steps + (0.25 if upright else -0.3),
            _token(text, 12),
            ha="center",
            va="center" if upright else "top",
            rotation=0 if upright else 90,
            color=MUTED if special else INK,
            fontsize=10 if upright else 7.5,
            fontweight="bold",
        )
    axes.set_ylim(shown.steps + (0.9 if short else 3.4), -0.5)


def _token(text: str, limit: int) -> str:
    return drawable(visible(text), limit)


def _ticks(axes: Axes, shown: SampleCanvas) -> None:
    every = max(1, round(shown.steps / 12))
    steps = [s for s in range(1, shown.steps + 1) if s == 1 or s % every == 0]
    axes.set_yticks([s - 1 for s in steps] + [shown.steps + 0.25], [*map(str, steps), "text"])
    columns = shown.state_TL.shape[1]
    stride = 4 if columns <= 40 else 8
    places = list(range(0, columns, stride))
    axes.set_xticks(places, [str(p + shown.first_position) for p in places])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("position in the canvas")
    axes.set_ylabel("denoise step")


def _key(plot: Plot, axes: Axes, shown: SampleCanvas) -> None:
    """State legend below, entropy scale at the side."""
    handles = [
        Patch(facecolor=s.colour, edgecolor="#8B95A1", linewidth=0.5, label=f"{s.glyph} {s.label}")
        for s in STATE_STYLES.values()
    ]
    plot.legend(handles)
    scale = Normalize(0, highest_nat(shown.entropy_TL))
    noise = ScalarMappable(scale, ListedColormap(PALETTE[:NOISE_SHADES]))
    bar = plot.figure.colorbar(noise, ax=axes, fraction=0.02, pad=0.01, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label("entropy of noise, nat", fontsize=8)

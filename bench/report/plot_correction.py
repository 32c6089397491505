"""Self-correction: answers that turn right or wrong during denoising, and the repair test."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.digits import tidy
from bench.report.figures import Plot, drawable, empty, framed, strip_frame
from bench.report.style import (
    INK,
    LOCKED_COLOUR,
    MUTED,
    RIGHT_COLOUR,
    WRONG_COLOUR,
    Estimate,
    percent_text,
    plural,
    precision_style,
)
from bench.report.view import Point, View

_REFERENCES = {
    "half": "from half\nof the steps",
    "accept": "from every position\naccepted once",
    "parse": "from the first answer\nthat parses",
}
_ALL = "all tasks"
_LOCKED_TICK: dict[str, Any] = {"markersize": 11, "markeredgewidth": 2.4}


@dataclass(frozen=True, slots=True)
class _Shares:
    """Shares of all problems of a task; without a value where the column is unknown."""

    to_right: Estimate
    to_wrong: Estimate
    locked: Estimate


def plot_correction(view: View) -> Plot:
    """Wrong to right, right to wrong, locked in: by task, from three references to the end."""
    needed = ("task", "correct", *(f"correct_{r}" for r in _REFERENCES))
    requests = view.content("requests", *needed).dropna(subset=["correct"])
    points = [
        p
        for p in view.diffusion
        if requests.loc[requests["point_id"] == p.point_id, "correct_half"].notna().any()
    ]
    if not points:
        reason = "self-correction needs a diffusion point, a checker and trace=positions or full."
        return empty(view, "correction", "Self-correction", reason)
    tasks = [_ALL, *sorted(requests["task"].astype(str).unique())]
    height = 1.2 + len(tasks) * (0.2 + 0.16 * len(points))
    plot = framed(
        view,
        "correction",
        height,
        title=_title(points[0]),
        units="Share of all problems, %; right of zero wrong became right, left of zero right "
        f"became wrong. n = {plural(_problems(requests, points[0]), 'problem')} a point; bands: "
        "95 % Wilson interval.",
        caption="Counted, not timed: the answer readable at a reference against the final one. "
        "Locked in: wrong at the reference and the same text at the end.",
        legend_in=0.32,
    )
    panels = plot.figure.subplots(1, 4, sharey=True, width_ratios=(3, 3, 3, 1.6))
    for axes, (reference, label) in zip(panels, _REFERENCES.items(), strict=False):
        for point in points:
            for row, task in enumerate(tasks):
                shares = _shares(_of(requests, point, task), reference)
                _draw_shares(axes, row + _offset(points, point), shares, point)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_title(label, fontsize=9)
        axes.set_xlabel(f"% of problems{_unresolved(points, reference)}")
    for point in points:
        for row, task in enumerate(tasks):
            _draw_ever(panels[3], row + _offset(points, point), _of(requests, point, task), point)
    panels[3].set_title("ever right,\nwrong at the end", fontsize=9)
    panels[3].set_xlabel("% of problems")
    _share_scale(list(panels[:3]))
    panels[3].set_xlim(left=0)
    panels[0].set_yticks(range(len(tasks)), [drawable(t, 18) for t in tasks])
    panels[0].tick_params(axis="y", labelcolor=INK)
    panels[0].set_ylim(len(tasks) - 0.5, -0.5)
    for axes in panels:
        strip_frame(axes, grid="x")
    _legend(plot, points, ("right to wrong", "wrong to right", "wrong and locked in"))
    return plot


def plot_repair(view: View) -> Plot:
    """Share of corrupted tokens repaired and of untouched ones preserved, by task."""
    needed = ("task", "corrupted", "repaired", "untouched", "preserved")
    repairs = view.table("repairs", "point_id", *needed)
    points = [p for p in view.diffusion if (repairs["point_id"] == p.point_id).any()]
    if not points:
        reason = "no repair test in this run; it needs a diffusion point and a checker."
        return empty(view, "repair", "Repair test", reason)
    tasks = [_ALL, *sorted(repairs["task"].astype(str).unique())]
    sizes = ", ".join(
        f"{plural(int((repairs['point_id'] == p.point_id).sum()), 'canvas')} ({p.name})"
        for p in points
    )
    plot = framed(
        view,
        "repair",
        1.0 + len(tasks) * (0.2 + 0.17 * len(points)),
        title=_repair_title(points[0], repairs),
        units=f"Right canvases, some content tokens replaced at random, denoised again; n = {sizes}"
        ". Whiskers: 95 % interval, canvases and not tokens counted as independent.",
        caption="Counted, not timed: tokens equal to the right canvas after denoising again.",
        legend_in=0.32,
    )
    panels = plot.figure.subplots(1, 2, sharey=True)
    for axes, (done, tried, label) in zip(
        panels,
        (
            ("repaired", "corrupted", "corrupted tokens repaired, %"),
            ("preserved", "untouched", "untouched tokens preserved, %"),
        ),
        strict=True,
    ):
        for point in points:
            own = repairs[repairs["point_id"] == point.point_id]
            for row, task in enumerate(tasks):
                part = own if task == _ALL else own[own["task"].astype(str) == task]
                stated = point.estimate(f"{done}_share")
                pooled = pooled_share(part[done], part[tried])
                estimate = stated if task == _ALL and stated.has_interval else pooled
                _draw_estimate(axes, row + _offset(points, point), estimate, point)
        axes.set_title(label, fontsize=9)
        axes.set_xlim(0, 104)
        strip_frame(axes, grid="x")
    panels[0].set_yticks(range(len(tasks)), [drawable(t, 18) for t in tasks])
    panels[0].tick_params(axis="y", labelcolor=INK)
    panels[0].set_ylim(len(tasks) - 0.5, -0.5)
    _legend(plot, points, ())
    return plot


def pooled_share(done: pd.Series, tried: pd.Series) -> Estimate:
    """Ratio of sums with a Wilson interval on the number of canvases.

    Tokens of one canvas share their fate, so canvases are what counts as independent.
    """
    total = float(tried.sum())
    return _wilson(float(done.sum()) / total, int((tried > 0).sum())) if total else Estimate(None)


def _wilson(share: float, n: int) -> Estimate:
    """95 % Wilson score interval of a share of n."""
    z2 = 1.959964**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = (z2 * (share * (1 - share) / n + z2 / (4 * n * n))) ** 0.5 / (1 + z2 / n)
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def _title(point: Point) -> str:
    to_right, to_wrong = point.number("wrong_to_right_half"), point.number("right_to_wrong_half")
    if to_right is None or to_wrong is None:
        return "Does denoising correct answers or spoil them?"
    return (
        f"After half of the steps, {percent_text(to_right)} of problems still turned from wrong to "
        f"right and {percent_text(to_wrong)} the other way ({point.precision})"
    )


def _repair_title(point: Point, repairs: pd.DataFrame) -> str:
    own = repairs[repairs["point_id"] == point.point_id]
    repaired = point.number("repaired_share")
    if repaired is None:
        repaired = pooled_share(own["repaired"], own["corrupted"]).value
    return f"{percent_text(repaired)} of corrupted tokens were repaired ({point.name})"


def _problems(requests: pd.DataFrame, point: Point) -> int:
    return int((requests["point_id"] == point.point_id).sum())


def _of(requests: pd.DataFrame, point: Point, task: str) -> pd.DataFrame:
    own = requests[requests["point_id"] == point.point_id]
    return own if task == _ALL else own[own["task"].astype(str) == task]


def _shares(rows: pd.DataFrame, reference: str) -> _Shares:
    """Shares over all rows; a reference point never reached counts as unresolved, not as wrong."""
    n, unknown = len(rows), Estimate(None)
    known = rows[rows[f"correct_{reference}"].notna()]
    if known.empty:
        return _Shares(unknown, unknown, unknown)
    then, end = (known[name].astype(bool) for name in (f"correct_{reference}", "correct"))
    unchanged = f"unchanged_{reference}"
    locked = unknown
    if unchanged in known and known[unchanged].notna().any():
        same = known[unchanged].fillna(False).astype(bool)
        locked = _wilson(float((~then & same).sum()) / n, n)
    to_right = _wilson(float((~then & end).sum()) / n, n)
    return _Shares(to_right, _wilson(float((then & ~end).sum()) / n, n), locked)


def _unresolved(points: list[Point], reference: str) -> str:
    counts = [p.number(f"unresolved_{reference}") for p in points]
    if not any(counts):
        return ""
    named = (f"{tidy(c)} ({p.precision})" for c, p in zip(counts, points, strict=True))
    return f"\nunresolved: {', '.join(named)}"


def _offset(points: list[Point], point: Point) -> float:
    """Vertical place of a point within its task's row."""
    return 0.27 * (points.index(point) - (len(points) - 1) / 2)


def _draw_shares(axes: Axes, y: float, shares: _Shares, point: Point) -> None:
    _stem(axes, y, shares.to_wrong, -1, WRONG_COLOUR, point)
    _stem(axes, y, shares.to_right, 1, RIGHT_COLOUR, point)
    if shares.locked.value:
        axes.plot(100 * shares.locked.value, y, "|", color=LOCKED_COLOUR, **_LOCKED_TICK)


def _draw_ever(axes: Axes, y: float, rows: pd.DataFrame, point: Point) -> None:
    known = rows[rows["correct_ever"].notna()] if "correct_ever" in rows else rows.head(0)
    lost = (
        known["correct_ever"].astype(bool) & ~known["correct"].astype(bool) if len(known) else None
    )
    share = Estimate(None) if lost is None else _wilson(float(lost.sum()) / len(rows), len(rows))
    _stem(axes, y, share, 1, MUTED, point)


def _stem(axes: Axes, y: float, share: Estimate, sign: int, colour: str, point: Point) -> None:
    """A line from zero to the share, its interval as a band behind."""
    if share.value is None or share.lo is None or share.hi is None:
        axes.text(0, y, " n/a", color=MUTED, va="center", fontsize=8)
        return
    style, end = precision_style(point.precision), sign * 100 * share.value
    band = [sign * 100 * share.lo, sign * 100 * share.hi]
    axes.plot(band, [y, y], color=colour, alpha=0.2, linewidth=6, solid_capstyle="butt")
    if share.value:
        axes.plot([0, end], [y, y], style.line, color=colour, linewidth=1.8)
        axes.plot(end, y, style.marker, color=colour, markersize=5.5)


def _draw_estimate(axes: Axes, y: float, estimate: Estimate, point: Point) -> None:
    if estimate.value is None or estimate.lo is None or estimate.hi is None:
        axes.text(0, y, " n/a", color=MUTED, va="center", fontsize=8)
        return
    style, colour = precision_style(point.precision), RIGHT_COLOUR
    ends = [100 * estimate.lo, 100 * estimate.hi]
    axes.plot(ends, [y, y], style.line, color=colour, linewidth=1.8)
    axes.plot(100 * estimate.value, y, style.marker, color=colour, markersize=7, clip_on=False)


def _share_scale(panels: list[Axes]) -> None:
    """One scale for panels that are read against each other."""
    lows, highs = zip(*(axes.get_xlim() for axes in panels), strict=True)
    for axes in panels:
        axes.set_xlim(min(*lows, -1.0), max(*highs, 1.0))


def _legend(plot: Plot, points: list[Point], outcomes: tuple[str, ...]) -> None:
    colours = {"right to wrong": WRONG_COLOUR, "wrong to right": RIGHT_COLOUR}
    handles = [
        Line2D([], [], color=colours[name], linewidth=3, label=name)
        for name in outcomes
        if name in colours
    ]
    if "wrong and locked in" in outcomes:
        tick = Line2D([], [], linestyle="", marker="|", color=LOCKED_COLOUR, **_LOCKED_TICK)
        tick.set_label("wrong and locked in")
        handles.append(tick)
    for point in points:
        style = precision_style(point.precision)
        handles.append(
            Line2D(
                [],
                [],
                color=INK,
                linestyle=style.line,
                marker=style.marker,
                linewidth=1.6,
                markersize=6,
                label=point.precision,
            )
        )
    plot.legend(handles)

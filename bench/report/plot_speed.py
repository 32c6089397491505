"""Speed with quality beside it: delivered tok/s and accuracy of every point."""

import pandas as pd
from matplotlib.axes import Axes

from bench.digits import digits
from bench.report.figures import Plot, empty, framed, strip_frame
from bench.report.findings import compared_pair, speed_ratio
from bench.report.quality import compare_quality
from bench.report.style import INK, MUTED, decoding_colour, plural, precision_style, told
from bench.report.view import Point, View

_METRIC = "delivered_tok_per_s"


def plot_speed(view: View) -> Plot:
    """Bars of delivered tok/s from zero, one a valid point, and the accuracy of the same point."""
    points = [p for p in view.points if p.usable and p.number(_METRIC) is not None]
    if not points:
        reason = "no point of this run has a valid speed; see failures and the validity column."
        return empty(view, "speed", "Delivered tok/s", reason)
    plot = framed(
        view,
        "speed",
        0.75 + 0.52 * len(points),
        title=_title(view, points),
        units=_units(view, points),
        caption=f"Timed: {view.timed}.",
    )
    judged = any(p.number("accuracy") is not None for p in points)
    panels = plot.figure.subplots(
        1, 1 + judged, sharey=True, width_ratios=(1.55, 1) if judged else None, squeeze=False
    )[0]
    speed = panels[0]
    differ = len({p.count("num_processes") for p in points}) > 1
    for y, point in enumerate(points):
        _bar(speed, y, point, says_n=differ)
        _repeats(speed, y, point, view.table("requests", "point_id"))
        if judged:
            _accuracy(panels[1], y, point)
    speed.set_yticks(range(len(points)), [p.name for p in points])
    speed.tick_params(axis="y", labelcolor=INK)
    speed.set_ylim(len(points) - 0.45, -0.55)
    speed.set_xlim(0, (1.5 if differ else 1.34) * max(_reach(p) for p in points))
    speed.set_xlabel("delivered tok/s, prefill included")
    speed.set_title("Speed")
    if judged:
        _accuracy_scale(panels[1], points)
        panels[1].set_xlabel("answers correct, % of prompts")
        panels[1].set_title("Accuracy of the same answers")
    for axes in panels:
        strip_frame(axes, grid="x")
    return plot


def _title(view: View, points: list[Point]) -> str:
    pair = compared_pair(view)
    if pair is None:
        fastest = max(points, key=lambda p: p.number(_METRIC) or 0)
        return f"{fastest.name} delivered {told(fastest.estimate(_METRIC))[0]} tok/s"
    diffusion, autoregressive = pair
    mine, theirs = (told(p.estimate(_METRIC))[0] for p in pair)
    return (
        f"In {diffusion.precision}, diffusion delivered {mine} tok/s and autoregressive {theirs}: "
        f"{digits(speed_ratio(diffusion, autoregressive))}\N{MULTIPLICATION SIGN}"
        f"{compare_quality(view, diffusion, autoregressive).clause}"
    )


def _units(view: View, points: list[Point]) -> str:
    sizes = [
        said
        for noun, column in (
            ("process", "num_processes"),
            ("repeat", "num_repeats"),
            ("prompt", "num_prompts"),
        )
        if (said := _sizes(points, column, noun))
    ]
    parts = [f"n a point: {', '.join(sizes)}."] if sizes else []
    ranged = [p for p in points if p.estimate(_METRIC).has_interval]
    kinds = [
        said
        for said, one in (("between processes", False), ("within the one process", True))
        if any(p.one_process is one for p in ranged)
    ]
    if kinds:
        parts.append(f"Whiskers: 95 % interval {', or '.join(kinds)}.")
    parts.append("Small dots: each repeat.")
    if all(p.number("accuracy") is None for p in points):
        parts.append("Accuracy: n/a.")
    if invalid := [p.name for p in view.points if not p.usable]:
        parts.append(f"Left out as invalid: {', '.join(invalid)}.")
    if any(p.flag("emulated") for p in points):
        parts.append("Precision is emulated on this CPU: its ratios do not carry over to GPUs.")
    return " ".join(parts)


def _sizes(points: list[Point], column: str, noun: str) -> str:
    """5 processes, or "1 to 5 processes" where points differ; "" where none says."""
    counts = sorted({n for p in points if (n := p.count(column)) is not None})
    if len(counts) < 2:
        return plural(counts[0], noun) if counts else ""
    return f"{counts[0]:,} to {plural(counts[-1], noun)}"


def _reach(point: Point) -> float:
    estimate = point.estimate(_METRIC)
    return max(estimate.value or 0, estimate.hi or 0)


def _bar(axes: Axes, y: int, point: Point, *, says_n: bool) -> None:
    """`says_n`: processes stand beside an interval, too, for points have different numbers."""
    estimate = point.estimate(_METRIC)
    value = estimate.value or 0.0
    colour = decoding_colour(point.decoding)
    style = precision_style(point.precision)
    axes.barh(y, value, height=0.56, color=colour, alpha=0.9)
    axes.plot(
        value, y, style.marker, color=colour, markeredgecolor="white", markersize=8, clip_on=False
    )
    if estimate.lo is not None and estimate.hi is not None:
        axes.plot([estimate.lo, estimate.hi], [y, y], color=INK, linewidth=1.6)
    text, interval = told(estimate)
    processes = point.count("num_processes") or 1
    note = interval or f"n = {plural(processes, 'process')}"
    if interval and says_n:
        note += f", n = {processes}"
    offset = {"textcoords": "offset points", "va": "center"}
    at = (_reach(point), y)
    axes.annotate(text, at, (10, 6), fontweight="bold", **offset)  # type: ignore[arg-type]
    axes.annotate(note, at, (10, -6), color=MUTED, fontsize=8, **offset)  # type: ignore[arg-type]


def _repeats(axes: Axes, y: int, point: Point, requests: pd.DataFrame) -> None:
    """Ratio of sums of each repeat; only unbatched, where the seconds of requests add up."""
    needed = {"repeat", "wall_s", "delivered_tokens"}
    if point.count("batch_size") not in (None, 1) or not needed <= set(requests.columns):
        return
    own = requests[requests["point_id"] == point.point_id]
    levels = [c for c in ("process_id", "repeat") if c in own.columns]
    sums = own.groupby(levels)[["delivered_tokens", "wall_s"]].sum()
    rates = sums["delivered_tokens"] / sums["wall_s"]
    axes.plot(rates, [y + 0.36] * len(rates), ".", color=MUTED, markersize=4, alpha=0.8)


def _accuracy_scale(axes: Axes, points: list[Point]) -> None:
    """From the tens below the lowest interval to 100: points, unlike bars, need no zero."""
    estimates = [p.estimate("accuracy") for p in points]
    lows = [e.lo if e.lo is not None else e.value for e in estimates if e.value is not None]
    lowest = max(0, min(90, 10 * int(9.5 * min((v for v in lows if v is not None), default=0))))
    ticks = range(lowest, 101, 10 if lowest >= 50 else 20)
    axes.set_xticks([t / 100 for t in ticks], [str(t) for t in ticks])
    axes.set_xlim(lowest / 100, 1.005)


def _accuracy(axes: Axes, y: int, point: Point) -> None:
    estimate = point.estimate("accuracy")
    if estimate.value is None:
        axes.text(0.02, y, "n/a", color=MUTED, va="center", transform=axes.get_yaxis_transform())
        return
    colour = decoding_colour(point.decoding)
    style = precision_style(point.precision)
    if estimate.lo is not None and estimate.hi is not None:
        axes.plot([estimate.lo, estimate.hi], [y, y], color=colour, linewidth=2)
    text, interval = told(estimate, scale=100)
    axes.plot(estimate.value, y, style.marker, color=colour, markeredgecolor="white", markersize=8)
    beside = {"transform": axes.get_yaxis_transform(), "va": "center"}
    axes.text(1.04, y - 0.12, f"{text} %", fontweight="bold", **beside)  # type: ignore[arg-type]
    axes.text(1.04, y + 0.16, interval or "no interval", color=MUTED, fontsize=8, **beside)  # type: ignore[arg-type]

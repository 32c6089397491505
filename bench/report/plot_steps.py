"""How long denoising takes, and what happens inside it: steps a canvas, and acceptance by step."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.digits import digits, tidy
from bench.phases import DENOISING
from bench.report.figures import Plot, drawable, empty, framed, strip_frame
from bench.report.style import (
    INK,
    MUTED,
    STATE_STYLES,
    State,
    percent_text,
    plural,
    precision_style,
    task_colours,
)
from bench.report.view import Point, View

_MOST_PANELS = 4
_MOST_LABELS = 6
_FEWEST_CANVASES = 5
_NOISE_FILL = "#CBD1D8"


def plot_steps(view: View) -> Plot:
    """ECDF of steps a canvas by task, a panel a precision."""
    canvases = view.content("canvases", "task", "steps").dropna(subset=["steps"])
    points = _with_rows(view.diffusion, canvases)
    if not points:
        reason = (
            "no diffusion point of this run recorded canvases (autoregressive decoding has none)."
        )
        return empty(view, "steps", "Steps a canvas", reason)
    tasks = sorted(canvases["task"].astype(str).unique())
    colours = task_colours(tasks)
    plot = framed(
        view,
        "steps",
        3.1,
        title=_steps_title(points[0], canvases),
        units="Share of canvases finished within so many denoise steps; "
        f"{_sizes(points, canvases)}. "
        "First repeat; the same seed gives the same canvases in every repeat.",
        caption="Counted, not timed: denoise forwards of a canvas, without the commit.",
    )
    panels = plot.figure.subplots(1, len(points), sharey=True, sharex=True, squeeze=False)[0]
    longest = float(canvases["steps"].max())
    limit = _cap(view, canvases)
    for axes, point in zip(panels, points, strict=True):
        own = canvases[canvases["point_id"] == point.point_id]
        series = {t: np.sort(g["steps"].to_numpy(float)) for t, g in own.groupby("task")}
        line = precision_style(point.precision).line
        for task, steps in series.items():
            taken, counts = np.unique(steps, return_counts=True)  # a mark a count, not a canvas
            x = np.r_[0, taken, longest * 1.08]
            y = np.r_[0, np.cumsum(counts) / len(steps), 1]
            axes.step(x, y, where="post", color=colours[str(task)], linestyle=line, label=str(task))
        _label_curves(axes, {str(t): s for t, s in series.items()}, colours, longest)
        if limit is not None and limit <= 1.15 * longest:
            axes.axvline(limit, color=INK, linewidth=0.8)
            axes.text(limit, 1.03, f"cap {limit:g}", ha="right", color=INK, fontsize=8)
        axes.set_title(point.name)
        axes.set_xlabel("denoise steps a canvas")
        axes.set_xlim(0, longest * 1.08)
        strip_frame(axes, grid="y")
    panels[0].set_ylim(0, 1.08)
    panels[0].set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    panels[0].set_ylabel("canvases finished, %")
    return plot


def plot_acceptance(view: View) -> Plot:
    """Accepted, renoised and revoked share of the answer's positions at each step."""
    columns = ("phase", "step", "accepted", "renoised", "revoked")
    steps = view.content("steps", *columns)[["point_id", *columns]]
    steps = steps[steps["phase"].isin(DENOISING)]
    steps = steps.dropna(subset=["step", "accepted", "renoised"])
    points = _with_rows(view.diffusion, steps)
    if not points:
        reason = "no per-step counts; they need a diffusion point and trace=positions or full."
        return empty(view, "acceptance", "Acceptance by step", reason)
    sums = {p.point_id: _by_step(steps[steps["point_id"] == p.point_id]) for p in points}
    plot = framed(
        view,
        "acceptance",
        4.1,
        title=_acceptance_title(points[0], sums[points[0].point_id]),
        units="Share of the answer's positions (up to and including the first EOS), pooled over "
        "the canvases still denoising at that step (lowest panels); drawn while at least "
        f"{_FEWEST_CANVASES} are. First repeat.",
        caption="Counted, not timed: decisions of the sampler at each denoise step.",
    )
    grid = plot.figure.subplots(
        3, len(points), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1.5, 0.8)
    )
    for column, point in enumerate(points):
        table = sums[point.point_id]
        shares, revoked, active = grid[:, column]
        line = precision_style(point.precision).line
        _stack(shares, table, line)
        _revocations(revoked, table, line)
        active.bar(table.index, table["canvases"], width=0.8, color=_NOISE_FILL)
        active.set_xlabel("denoise step")
        shares.set_title(point.name)
        for axes in (shares, revoked, active):
            strip_frame(axes, grid="y")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlim(0.5, max(len(t) for t in sums.values()) + 0.5)
    for axes, label in zip(
        grid[:, 0], ("positions, %", "revoked, %", "canvases\nleft"), strict=True
    ):
        axes.set_ylabel(label)
    plot.figure.align_ylabels(grid[:, 0])
    return plot


def _with_rows(points: Sequence[Point], frame: pd.DataFrame) -> list[Point]:
    held = set(frame["point_id"].unique())
    return [p for p in points if p.point_id in held][:_MOST_PANELS]


def _sizes(points: list[Point], canvases: pd.DataFrame) -> str:
    counts = canvases["point_id"].value_counts()
    return "n = " + ", ".join(
        f"{plural(int(counts[p.point_id]), 'canvas')} ({p.name})" for p in points
    )


def _steps_title(point: Point, canvases: pd.DataFrame) -> str:
    own = canvases[canvases["point_id"] == point.point_id]
    medians = own.groupby("task")["steps"].median().sort_values()
    slow, fast = medians.index[-1], medians.index[0]
    if medians.iloc[-1] == medians.iloc[0]:
        median = tidy(medians.iloc[0])
        return f"Every task takes a median of {median} steps a canvas ({point.precision})"
    return (
        f"A canvas of {drawable(str(slow))} takes a median of {tidy(medians.iloc[-1])} steps, "
        f"one of {drawable(str(fast))} {tidy(medians.iloc[0])} ({point.precision})"
    )


def _cap(view: View, canvases: pd.DataFrame) -> float | None:
    """The step limit: from the configuration, else what capped canvases took."""
    sampler = (view.info.get("config") or {}).get("sampler") or {}
    configured = sampler.get("max_denoising_steps") if isinstance(sampler, dict) else None
    if isinstance(configured, int | float):
        return float(configured)
    if "stop_reason" not in canvases:
        return None
    capped = canvases.loc[canvases["stop_reason"] == "cap", "steps"]
    return float(capped.max()) if len(capped) else None


def _label_curves(
    axes: Axes, series: dict[str, np.ndarray], colours: dict[str, str], longest: float
) -> None:
    """Names beside their curves where they have most room; a legend when there are too many."""
    if len(series) > _MOST_LABELS:
        axes.legend(loc="lower right")
        return
    outline = [patheffects.withStroke(linewidth=3, foreground="white")]
    taken: list[tuple[float, float, float]] = []
    for task in sorted(series, key=lambda name: float(np.median(series[name]))):
        text = drawable(task, 18)
        others = [steps for name, steps in series.items() if name != task]
        width = (len(text) + 1.5) * longest / 38
        left, level = _roomiest(series[task], others, width, taken)
        taken.append((left, left + width, level))
        label = axes.text(left + width / 2, level, text, color=colours[task], va="center")
        label.set(ha="center", fontweight="bold", fontsize=9, path_effects=outline)


def _roomiest(
    own: np.ndarray,
    others: list[np.ndarray],
    width: float,
    taken: list[tuple[float, float, float]],
) -> tuple[float, float]:
    """Left end and height of a label that touches its curve and hides least of the others."""

    def hidden(left: float, level: float) -> float:
        near = (level - 0.05, level, level + 0.05)
        curves = sum(left < _quantile(o, at) < left + width for o in [*others, own] for at in near)
        labels = sum(
            left < right and start < left + width and abs(level - height) < 0.1
            for start, right, height in taken
        )
        return curves + 10 * labels + (20 if left < 0 else 0) + abs(level - 0.5) / 10

    places = [
        (left, float(level))
        for level in np.linspace(0.1, 0.9, 17)
        for left in (_quantile(own, level + 0.04), _quantile(own, level - 0.04) - width)
    ]
    return min(places, key=lambda place: hidden(*place))


def _quantile(ordered: np.ndarray, share: float) -> float:
    return float(ordered[min(len(ordered) - 1, max(0, int(np.ceil(share * len(ordered))) - 1))])


def _by_step(steps: pd.DataFrame) -> pd.DataFrame:
    """Ratios of sums over the canvases active at each step, where enough are left to matter."""
    counts = ["accepted", "renoised", "revoked"]
    numbers = steps.assign(**{c: pd.to_numeric(steps[c]).astype(float) for c in counts})
    numbers["step"] = numbers["step"].astype(int)
    table = numbers.groupby("step")[counts].sum()
    table["canvases"] = numbers.groupby("step").size()
    positions = (table["accepted"] + table["renoised"]).replace(0, np.nan)
    table["accepted_share"] = table["accepted"] / positions
    table["revoked_share"] = table["revoked"] / positions
    enough = table["canvases"] >= min(_FEWEST_CANVASES, table["canvases"].max())
    return table[enough]


def _acceptance_title(point: Point, table: pd.DataFrame) -> str:
    reached = table.index[table["accepted_share"] >= 0.5]
    half = f"by step {reached[0]}" if len(reached) else "at no step"
    revoked = point.number("revocations_per_token")
    tail = "" if revoked is None else f"; {digits(100 * revoked)} revocations per 100 tokens"
    return f"Half of an answer's positions are accepted {half} ({point.precision}){tail}"


def _stack(axes: Axes, table: pd.DataFrame, line: str) -> None:
    accepted = 100 * table["accepted_share"].to_numpy()
    accepted_style = STATE_STYLES[State.ACCEPTED]
    axes.fill_between(table.index, 0, accepted, color=accepted_style.colour)
    axes.fill_between(table.index, accepted, 100, color=STATE_STYLES[State.NOISE].colour)
    axes.plot(table.index, accepted, line, color=accepted_style.ink, linewidth=1.8)
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])
    step = table.index[len(table) // 2]
    axes.text(step, 12, "accepted", color=accepted_style.ink, fontweight="bold", ha="center")
    if accepted[0] < 70:
        axes.text(0.8, 88, "renoised", color=MUTED, fontweight="bold", ha="left")


def _revocations(axes: Axes, table: pd.DataFrame, line: str) -> None:
    revoked = 100 * table["revoked_share"].to_numpy()
    colour = STATE_STYLES[State.REVOKED].colour
    axes.plot(table.index, revoked, line, color=colour, linewidth=1.8)
    axes.fill_between(table.index, 0, revoked, color=colour, alpha=0.15)
    # The row's panels share their limits, and a later one's data may reach higher.
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.08 * np.nanmax(revoked, initial=0)))
    peak = int(np.nanargmax(revoked)) if np.isfinite(revoked).any() else 0
    text = f"revoked, at most {percent_text(revoked[peak] / 100)} (step {table.index[peak]})"
    axes.set_title(text, color=colour, fontsize=9)

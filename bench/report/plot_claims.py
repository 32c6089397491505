"""One figure a claim about a speed: published, measured, other definitions and floors on a line."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from bench.claims.words import figure, told
from bench.digits import NOT_AVAILABLE
from bench.report.figures import Plot, framed, strip_frame
from bench.report.style import INK, MUTED, PAPER, decoding_colour, plural
from bench.report.view import View

_SHORT = {
    "delivered_tok_per_s": "delivered",
    "decode_tok_per_s": "decode, ratio of sums",
    "decode_tok_per_s_median": "decode, median",
    "generation_tok_per_s_excl_prefill": "without prefill",
    "slot_tok_per_s": "slots",
    "inverse_tpot_tok_per_s": "1 / TPOT",
}
_FLOORS = (("op floor", "op_rate", "-"), ("streaming floor", "streaming_rate", "--"))

Plain = Mapping[str, Any]


def plot_claim(view: View, verdict: Plain) -> Plot:
    """A judged claim (`bench.claims.dossier.Dossier.plain`) about a rate."""
    claim, floors = verdict["claim"], verdict["floors"]
    others = [d for d in verdict["definitions"] if not d["is_claims"] and d["value"]]
    plot = framed(
        view,
        f"claim-{claim['name']}",
        1.75 + 0.24 * len(others),
        title=_title(verdict),
        units=_units(verdict),
        caption=_caption(verdict),
        legend_in=0.26,
    )
    axes = plot.figure.subplots()
    colour = decoding_colour(claim["conditions"]["decoding"])
    _published(axes, claim)
    _measured(axes, verdict, colour)
    for row, own in enumerate(others):
        _definition(axes, 2.1 + 0.62 * row, own, colour)
    _floors(axes, floors)
    ticks = [0.0, 1.0, *(2.1 + 0.62 * row for row in range(len(others)))]
    own = f"measured: {_SHORT[claim['metric']]}"
    axes.set_yticks(ticks, ["published", own, *(_SHORT[d["metric"]] for d in others)])
    for label in axes.get_yticklabels()[:2]:
        label.set_fontweight("bold")
        label.set_color(INK)
    axes.set_ylim(1.95 + 0.62 * len(others), -0.95)
    axes.set_xlim(*_reach(verdict, others))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set_xlabel(f"{claim['unit']}; the axis does not begin at zero")
    strip_frame(axes, grid="x")
    plot.legend(_handles(colour, others))
    return plot


def _title(verdict: Plain) -> str:
    claim, value = verdict["claim"], verdict["value"]
    shown = told(value, verdict["interval"])[0]
    measured = "nothing measured" if value is None else f"{shown} {claim['unit']} measured"
    return f"{verdict['verdict']}: {measured}, {claim['published']} published"


def _units(verdict: Plain) -> str:
    n, kind = verdict["n"], verdict["interval_is"]
    whiskers = f"Whiskers: {kind}." if kind else "The measured rate has no interval."
    sizes = f"{plural(n['processes'], 'process')}, {plural(n['requests'], 'request')}"
    return f"n = {sizes}. {whiskers}"


def _caption(verdict: Plain) -> str:
    claim = verdict["claim"]
    said = f"{claim['title']}. Shaded: the published rate and {100 * claim['tolerance']:g} % below."
    if verdict["floors"]:
        said += (
            f" Floors are those of the {verdict['floors']['device']}'s data sheet under the "
            "claim's conditions."
        )
    return f"{said} Source: {claim['source']['title']}, {claim['source']['date']}."


def _published(axes: Axes, claim: Plain) -> None:
    value = claim["value"]
    axes.axvspan(value * (1 - claim["tolerance"]), value, color=MUTED, alpha=0.13, linewidth=0)
    axes.plot(value, 0, "D", markerfacecolor=PAPER, markeredgecolor=INK, markersize=9, zorder=3)
    _label(axes, value, 0, f"{value:,}", bold=True)


def _measured(axes: Axes, verdict: Plain, colour: str) -> None:
    value, interval = verdict["value"], verdict["interval"]
    if value is None:
        axes.text(0.01, 1, NOT_AVAILABLE, transform=axes.get_yaxis_transform(), va="center")
        return
    if interval is not None:
        axes.errorbar(
            value,
            1,
            xerr=[[max(0, value - interval[0])], [max(0, interval[1] - value)]],
            color=colour,
            linewidth=2,
            capsize=4,
        )
    axes.plot(value, 1, "o", color=colour, markeredgecolor=PAPER, markersize=10, zorder=3)
    shown, within = told(value, interval)
    note = "no interval" if interval is None else within
    reach = value if interval is None else interval[1]
    _label(axes, reach, 1, f"{shown}  {note}", bold=True)


def _definition(axes: Axes, y: float, own: Plain, colour: str) -> None:
    if own["interval"] is not None:
        axes.plot(own["interval"], [y, y], color=colour, linewidth=1, alpha=0.6)
    axes.plot(own["value"], y, "o", color=colour, alpha=0.6, markersize=5)
    reach = own["value"] if own["interval"] is None else max(own["value"], own["interval"][1])
    _label(axes, reach, y, figure(own["value"]), bold=False)


def _floors(axes: Axes, floors: Plain | None) -> None:
    """Rates that forwards at their floor would give, each labelled on its outer side."""
    if floors is None:
        return
    for index, (name, key, line) in enumerate(_FLOORS):
        rate = floors[key]
        axes.axvline(rate, color=INK, linewidth=0.9, linestyle=line)
        axes.annotate(
            f"{name}, {figure(rate)}",
            (rate, -0.62),
            (-4 if index == 0 else 4, 0),
            textcoords="offset points",
            ha="right" if index == 0 else "left",
            va="center",
            fontsize=8,
            color=INK,
        )


def _reach(verdict: Plain, others: Sequence[Plain]) -> tuple[float, float]:
    """Everything drawn, with room for the words to its right."""
    claim, floors = verdict["claim"], verdict["floors"]
    drawn = [claim["value"], claim["value"] * (1 - claim["tolerance"])]
    for own in (verdict, *others):
        drawn += [end for end in (own["value"], *(own["interval"] or ())) if end is not None]
    drawn += [floors[key] for _, key, _ in _FLOORS] if floors else []
    least, most = min(drawn), max(drawn)
    room = max(most - least, 0.1 * most)
    return max(0.0, least - 0.08 * room), most + 0.3 * room


def _label(axes: Axes, x: float, y: float, text: str, *, bold: bool) -> None:
    axes.annotate(
        text,
        (x, y),
        (9, 0),
        textcoords="offset points",
        va="center",
        fontsize=9 if bold else 8,
        fontweight="bold" if bold else "normal",
        color=INK if bold else MUTED,
    )


def _handles(colour: str, others: Sequence[Plain]) -> list[Line2D]:
    found = [
        Line2D(
            [],
            [],
            marker="D",
            linestyle="",
            markerfacecolor=PAPER,
            markeredgecolor=INK,
            label="published",
        ),
        Line2D(
            [], [], marker="o", linestyle="-", color=colour, label="measured, with its interval"
        ),
    ]
    if others:
        found.append(
            Line2D(
                [],
                [],
                marker="o",
                linestyle="",
                color=colour,
                alpha=0.6,
                markersize=5,
                label="the same run by another definition",
            )
        )
    return found

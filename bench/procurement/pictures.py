"""A study as figures: which of its numbers each figure shows, and the finding in its title."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.digits import digits, tidy
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.listing import cost_unit
from bench.procurement.marks import Series, Stamp
from bench.procurement.pictures_crossing import crossing
from bench.procurement.plots import (
    Floor,
    Line,
    Panel,
    plot_energy,
    plot_throughput,
)
from bench.procurement.plots_cost import (
    MemoryBar,
    SwingBar,
    Trade,
    plot_cost,
    plot_memory,
    plot_sensitivity,
)
from bench.procurement.published import UNDRAFTED
from bench.procurement.study import Judged, Study, is_safe
from bench.procurement.ways import DECODINGS
from bench.procurement.words import key_words
from bench.report.figures import Plot, drawable
from bench.report.style import plural

_MOST_SWINGS = 10
_LONGEST = 160
"""Characters of a title."""
_PARTS = (
    ("weights_bytes", "weights"),
    ("kv_bytes", "keys and values"),
    ("canvas_bytes", "canvases"),
    ("library_bytes", "overhead"),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure's place in the page, how to read it, and the tables below it by name."""

    name: str
    heading: str
    reading: str
    draw: Callable[[Study, Stamp], Plot]
    tables: tuple[str, ...]


def throughput(study: Study, stamp: Stamp) -> Plot:
    """Delivered tok/s over batch, one panel an offer, in the precision of its best way."""
    panels = [
        Panel(name, (*_lines(own, _rate), *_published(study, own)), _floors(own))
        for name, own in _by_offer(study)
    ]
    precisions = {j.way.point.precision for _, own in _by_offer(study) for j in own}
    fastest = max(study.judged, key=lambda j: j.way.point.system_tok_per_s.value or 0, default=None)
    title = "Throughput"
    if fastest is not None:
        rate = fastest.way.point.system_tok_per_s
        title = f"{fastest.way.name} delivers most: {digits(rate.value)} tok/s, {rate.kind}"
    return plot_throughput(
        stamp, panels, title=drawable(title, _LONGEST), floors_of=" and ".join(sorted(precisions))
    )


def energy(study: Study, stamp: Stamp) -> Plot:
    """Joules a token over batch, one panel an offer."""
    panels = [Panel(name, _lines(own, _joules)) for name, own in _by_offer(study)]
    known = [j for j in study.judged if _joules(j).value is not None]
    title = "Energy a token"
    if known:
        least = min(known, key=lambda j: _joules(j).value or 0)
        joules = _joules(least)
        title = f"{least.way.name} takes least: {digits(joules.value)} J a token, {joules.kind}"
    return plot_energy(stamp, panels, title=drawable(title, _LONGEST))


def cost(study: Study, stamp: Stamp) -> Plot:
    """Cost a million tokens against latency for every way, with a load by its fleet."""
    inputs = study.inputs
    waits = [(judged, _wait(judged)) for judged in study.judged]
    known = [
        (judged, latency) for judged, latency in waits if latency.value and _cost(judged).value
    ]
    sure = [index for index, (judged, _) in enumerate(known) if _is_sure(judged)]
    runners = sure or range(len(known))
    places = [(known[i][1].value or 0.0, _cost(known[i][0]).value or 0.0) for i in runners]
    front = {runners[i] for i in _front(places)}
    best = None if study.best is None else study.best.judged.way.name
    trades = [
        Trade(
            label=judged.way.name,
            of=_series(judged),
            latency=_bare(latency, judged),
            cost=_bare(_cost(judged), judged),
            is_allowed=_is_sure(judged),
            is_front=index in front,
            is_chosen=judged.way.name == best,
        )
        for index, (judged, latency) in enumerate(known)
    ]
    return plot_cost(
        stamp,
        trades,
        title=f"{len(front)} of {plural(len(runners), 'safe way' if sure else 'way')} have none "
        "that is cheaper and quicker"
        if trades
        else "Cost against latency",
        currency=drawable(inputs.currency),
        latency=f"{'end to end' if inputs.load else 'first delivery'}, 95th percentile",
        objective_s=inputs.latency.end_to_end_s if inputs.load else inputs.latency.first_canvas_s,
    )


def memory(study: Study, stamp: Stamp) -> Plot:
    """What the finalists hold."""
    bars = []
    for finalist in study.finalists:
        fit = finalist.judged.way.memory
        if fit is None or fit.memory_bytes.value is None:
            continue
        parts = tuple((name, getattr(fit, key).value or 0.0) for key, name in _PARTS)
        bars.append(MemoryBar(finalist.judged.way.name, parts, fit.memory_bytes.value, fit.fits))
    return plot_memory(
        stamp,
        bars,
        title="What the best ways hold, and what they leave free",
        caption="Counted from the model's dimensions; the overhead of libraries is assumed.",
    )


def sensitivity(study: Study, stamp: Stamp) -> Plot:
    """The tornado of the recommended way."""
    found = tuple(finalist.judged.way for finalist in study.finalists)
    best = study.best
    swings = [
        SwingBar(
            key_words(bar.key, study.inputs, found),
            f"{tidy(float(f'{bar.low:.3g}'))}",
            f"{tidy(float(f'{bar.high:.3g}'))}",
            bar.cost_low,
            bar.cost_high,
            bar.switches_at is not None,
        )
        for bar in (swing.bar for swing in study.swings)
        if np.isfinite(bar.swing) and bar.swing > 0
    ][:_MOST_SWINGS]
    endless = [s.bar for s in study.swings if not np.isfinite(s.bar.swing)]
    title = "What matters most"
    if swings:
        title = f"{swings[0].label[:1].upper()}{swings[0].label[1:]} moves the cost most"
    return plot_sensitivity(
        stamp,
        swings,
        base=None if best is None else best.judged.cost,
        title=drawable(title, _LONGEST),
        unit=drawable(cost_unit(study.inputs)),
        endless=[drawable(key_words(bar.key, study.inputs, found), _LONGEST) for bar in endless],
    )


PICTURES = (
    Picture(
        "cost",
        "Cost against latency",
        "Left is quicker, low is cheaper. What lies above and to the right of the dotted line is "
        "beaten in both.",
        cost,
        ("ranking", "ways"),
    ),
    Picture(
        "throughput",
        "Throughput against batch, with both floors",
        "A larger batch delivers more in all and makes each request wait longer. The distance to a "
        "floor is what better software could still win.",
        throughput,
        ("published",),
    ),
    Picture(
        "energy",
        "Energy",
        "The device alone, while it works; the table adds the site.",
        energy,
        ("energy",),
    ),
    Picture(
        "memory",
        "Memory",
        "What is left bounds how far batch and context can grow.",
        memory,
        ("memory",),
    ),
    Picture(
        "sensitivity",
        "What matters most",
        "The longer a bar, the more it pays to know that number better before signing. A fleet "
        "is large enough for 95 % of draws already: load and speed add to it beyond those.",
        sensitivity,
        ("sensitivity",),
    ),
    Picture(
        "crossover",
        "When the autoregressive sibling is the better choice",
        "Diffusion gains while few requests share a device; the more there are, the less.",
        crossing,
        ("crossings", "replies"),
    ),
)


def _by_offer(study: Study) -> list[tuple[str, list[Judged]]]:
    """Ways of each offer in the precision of its cheapest allowed way, else in its first."""
    best = {
        (f.judged.way.offer.name): f.judged.way.point.precision for f in reversed(study.finalists)
    }
    found = []
    for offer in study.inputs.offers:
        own = [j for j in study.judged if j.way.offer.name == offer.name]
        if own:
            precision = best.get(offer.name, own[0].way.point.precision)
            found.append((offer.label, [j for j in own if j.way.point.precision == precision]))
    return found


def _series(judged: Judged) -> Series:
    return Series(judged.way.point.decoding, judged.way.point.precision)


def _lines(own: Sequence[Judged], number: Callable[[Judged], Cell]) -> tuple[Line, ...]:
    lines = []
    for series in dict.fromkeys(_series(judged) for judged in own):
        ways = sorted(
            (j for j in own if _series(j) == series), key=lambda j: j.way.point.batch_size
        )
        sizes = tuple(judged.way.point.batch_size for judged in ways)
        lines.append(Line(series, sizes, tuple(number(judged) for judged in ways)))
    return tuple(lines)


def _rate(judged: Judged) -> Cell:
    """By the class of its speed: steps a canvas, which are stated, would hide it behind theirs."""
    point = judged.way.point
    return replace(point.system_tok_per_s, kind=point.kind)


def _joules(judged: Judged) -> Cell:
    """The device's, as the tables have it; by the class of its speed, or of a power stated."""
    point, cell = judged.way.point, judged.cells["joules_per_token"]
    is_stated = point.joules_per_token.value is None and point.power_w.value is None
    return cell if is_stated else replace(cell, kind=point.kind)


def _floors(own: Sequence[Judged]) -> tuple[Floor, ...]:
    found = []
    for decoding in DECODINGS:
        points = sorted(
            (j.way.point for j in own if j.way.point.decoding == decoding),
            key=lambda p: p.batch_size,
        )
        for name, key in (
            ("op floor", "op_floor_tok_per_s"),
            ("streaming floor", "streaming_floor_tok_per_s"),
        ):
            known = [(p.batch_size, rate) for p in points if (rate := getattr(p, key))]
            if known:
                sizes, rates = zip(*known, strict=True)
                found.append(Floor(name, decoding, sizes, rates))
    return tuple(found)


def _published(study: Study, own: Sequence[Judged]) -> tuple[Line, ...]:
    """What others published of the device at a stated batch, whatever their definition.

    Tokens that a drafter proposed are another way to run, and stand in the table alone.
    """
    device = own[0].way.offer.device
    precisions = {judged.way.point.precision for judged in own}
    return tuple(
        Line(
            Series(figure.decoding, str(figure.precision)),
            (int(figure.batch_size),),
            (figure.cell,),
        )
        for figure in study.published
        if figure.device == device
        and figure.unit == "tok/s"
        and figure.batch_size is not None
        and figure.precision in precisions
        and figure.drafter == UNDRAFTED
    )


def _wait(judged: Judged) -> Cell:
    times = judged.times
    return times.end_to_end_p95_s if judged.has_load else times.first_canvas_p95_s


def _is_sure(judged: Judged) -> bool:
    return judged.is_allowed is True and is_safe(judged)


def _cost(judged: Judged) -> Cell:
    """A million tokens: of the load by the way's fleet, or of one device without a load."""
    if not judged.has_load:
        return judged.cells["cost_per_mtok"]
    unknown = Cell(None, None, None, NumberClass.ASSUMED, "", "", why_unknown="no fleet")
    return unknown if judged.fleet is None else judged.fleet.cost_per_mtok


def _front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Points that no other beats in both coordinates."""
    return {
        index
        for index, (x, y) in enumerate(points)
        if not any(ox <= x and oy <= y and (ox, oy) != (x, y) for ox, oy in points)
    }


def _bare(cell: Cell, judged: Judged) -> Cell:
    """Without its limits, which would hide what they belong to, and by how its speed is known."""
    return replace(cell, low=None, high=None, kind=judged.way.point.kind)

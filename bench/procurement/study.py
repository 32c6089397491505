"""Everything a procurement report answers from: ways to run devices, judged, priced and ranked.

Every way is judged at its own numbers, and by how often it keeps the limits. Those that keep them
get a fleet that is enough in 95 % of draws, if any is, and are ranked by what that costs. The best
way of each offer, decoding by decoding, is then priced in a Monte Carlo whose draws are aligned, so
that it can be said how often it is cheapest. Recommended is the cheapest of those that serve in
time nearly always: at their own numbers a cheaper one may serve as well, and fail in every fourth
draw.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.procurement.capacity import Capacity, RequestTimes, capacity, request_times
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.costs import cost_cells
from bench.procurement.crossover import Crossover, crossovers
from bench.procurement.curves import Curve
from bench.procurement.energy import energy_cells
from bench.procurement.fleet import SAFE_SHARE
from bench.procurement.inputs import Inputs
from bench.procurement.laws import Draws
from bench.procurement.memory_fit import MemoryShape
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.projected_crossings import curves_of
from bench.procurement.projection import Projector
from bench.procurement.published import PublishedFigure, published_figures
from bench.procurement.replies import Reply, replies_of
from bench.procurement.sampling import share_cheapest
from bench.procurement.swings import Swing, swings
from bench.procurement.ways import Way, measured_ways, projected_ways
from bench.report.style import percent

DRAWS = Draws()
_FEW = Draws(count=1_000)
"""For prices and energy of every way; its times, and a finalist's fleet, are drawn with `DRAWS`."""
_FIGURES = re.compile(r" [\d,.e-]+ (s|%) [<>] .*")
"""What tells one way's broken limit from another's."""
_FLEETS = 2_000
"""Draws at most for the fleet of a way that is no finalist."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A way with what it costs, takes and keeps.

    Attributes:
        has_load: whether the inputs state one; without, `times` are of the point's own replies.
        is_allowed: keeps every limit that was stated; None where one is unknown; reasons say which.
        fleet: None without a load, and where the way is not allowed.
    """

    way: Way
    cells: Mapping[str, Cell]
    has_load: bool
    times: RequestTimes
    is_allowed: bool | None
    reasons: tuple[str, ...]
    fleet: Capacity | None

    @property
    def cost(self) -> float:
        """What ways are ranked by: a month of the fleet, or a million tokens without a load.

        Infinite where it is unknown.
        """
        cell = self.cells["cost_per_mtok"] if self.fleet is None else self.fleet.cost_per_month
        if cell.value is None or (self.fleet is None and self.has_load):
            return float("inf")
        return cell.value

    @property
    def share_kept(self) -> float:
        """Of draws in which latency limits are kept; 1 without limits, 0 if a time is unknown."""
        return self.times.share_feasible or 0.0

    @property
    def share_served(self) -> float:
        """Of draws in which its fleet serves the load in time; `share_kept` without a load."""
        if not self.has_load:
            return self.share_kept
        return 0.0 if self.fleet is None else self.fleet.share_served


def is_safe(judged: Judged) -> bool:
    """Whether its fleet serves the load in time often enough; without a load, its requests."""
    return judged.share_served >= SAFE_SHARE


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of the best ways among those allowed: see `finalists_of`.

    Attributes:
        share_cheapest: of draws in which it is the cheapest of those that may be recommended and
            whose fleets serve the load; None for others and without a load.
    """

    judged: Judged
    share_cheapest: float | None

    @property
    def fleet(self) -> Capacity | None:
        """None without a load."""
        return self.judged.fleet

    @property
    def share_served(self) -> float:
        """Of draws in which its fleet serves the load in time; without a load, its requests."""
        return self.judged.share_served

    @property
    def is_safe(self) -> bool:
        """Whether it may be recommended for how often it keeps the limits."""
        return is_safe(self.judged)


@dataclass(frozen=True, slots=True)
class Study:
    """The answers.

    Attributes:
        judged: every way that fits its device; finalists: cheapest first; empty where nothing can
            be answered.
        why_none: why nothing can be answered; empty where something can.
        swings: what moves the cost of the recommended way, most first.
        crossings: of measured curves and of projected ones; replies: by device and precision, the
            reply length below which the autoregressive sibling answers sooner.
        projection: what projected numbers rest on.
        left_out: points of runs that were not used, with reasons.
    """

    inputs: Inputs
    judged: tuple[Judged, ...]
    finalists: tuple[Finalist, ...]
    why_none: str
    swings: tuple[Swing, ...]
    curves: tuple[Curve, ...]
    crossings: tuple[Crossover, ...]
    replies: tuple[Reply, ...]
    published: tuple[PublishedFigure, ...]
    projection: str
    left_out: tuple[str, ...]
    draws: Draws

    @property
    def best(self) -> Finalist | None:
        """The recommended one: the cheapest that is safe, or the cheapest where none is."""
        return _contenders(self.finalists)[0] if self.finalists else None

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        return tuple(each.way.point for each in self.judged)


def studied(
    inputs: Inputs,
    points: Sequence[OperatingPoint],
    curves: Sequence[Curve],
    by: Projector,
    shapes: Callable[[str], MemoryShape | None],
    *,
    replies: Sequence[Reply] = (),
    left_out: Sequence[str] = (),
    draws: Draws = DRAWS,
) -> Study:
    """Judges every way and ranks the best of each offer.

    Args:
        points, curves, replies: of runs; left_out: what of them was not used.
        shapes: a model's dimensions by its name, None where they are not known.
    """
    measured = measured_ways(inputs, points, shapes)
    ways = [way for way in measured if way.fits]
    ways += projected_ways(inputs, by, shapes, measured)
    judged = [_judged(inputs, way, draws) for way in ways]
    finalists = _ranked(inputs, finalists_of(judged), draws)
    drawn_anew = {each.judged.way.key: each.judged for each in finalists}
    judged = [drawn_anew.get(each.way.key, each) for each in judged]
    may_be = _contenders(finalists)
    counts = [_devices(each) for each in may_be]
    moved = swings(inputs, by, [each.judged.way for each in may_be], counts)
    own = [*curves, *curves_of(inputs, by, shapes)]
    return Study(
        inputs=inputs,
        judged=tuple(judged),
        finalists=tuple(finalists),
        why_none="" if finalists else _why_none(judged),
        swings=tuple(moved),
        curves=tuple(own),
        crossings=tuple(crossovers(own)),
        replies=tuple(replies_of(inputs, by, replies)),
        published=_published(inputs),
        projection=by.source,
        left_out=tuple(left_out),
        draws=draws,
    )


def _judged(inputs: Inputs, way: Way, draws: Draws) -> Judged:
    cells = cost_cells(inputs, way.offer, way.point, _FEW)
    cells |= energy_cells(inputs, way.offer, way.point, _FEW)
    times = request_times(way.point, inputs.load, inputs.latency, draws)
    allowed, reasons = times.feasible, list(times.reasons)
    is_good, why = _good_enough(inputs, way.point)
    if is_good is not True:
        reasons.append(why)
        allowed = False if is_good is False or allowed is False else None
    fleet = None
    if inputs.load is not None and allowed:
        few = Draws(min(draws.count, _FLEETS), draws.seed)
        fleet = capacity(inputs, way.offer, way.point, few)
    return Judged(way, cells, inputs.load is not None, times, allowed, tuple(reasons), fleet)


def _good_enough(inputs: Inputs, point: OperatingPoint) -> tuple[bool | None, str]:
    """Whether answers reach the floor, and why not; None where nothing is known of them."""
    floor = inputs.quality.accuracy_floor
    if floor is None or inputs.quality.speed_only:
        return True, ""
    accuracy = point.accuracy
    if accuracy.value is None:
        return None, f"accuracy: {accuracy.why_unknown or 'unknown'}"
    if accuracy.value < floor:
        return False, f"accuracy {percent(accuracy.value)} % < {percent(floor)} %"
    return True, ""


def finalists_of(judged: Sequence[Judged]) -> list[Judged]:
    """The cheapest allowed way of each offer and decoding that is safe, or just the cheapest.

    The cheapest of all is among them, safe or not, as a buyer will ask what it would have saved.
    Equal costs go to the way that keeps the limits more often, then to a measured one.
    """
    possible = [each for each in judged if each.is_allowed and np.isfinite(each.cost)]
    possible.sort(key=lambda each: (each.cost, -each.share_kept, _is_unmeasured(each)))
    chosen: dict[tuple[str, str], Judged] = {}
    for each in sorted(possible, key=lambda each: each.share_kept < SAFE_SHARE):
        chosen.setdefault((each.way.offer.name, each.way.point.decoding), each)
    kept = {id(each) for each in (*possible[:1], *chosen.values())}
    return [each for each in possible if id(each) in kept]


def _is_unmeasured(judged: Judged) -> bool:
    return judged.way.point.kind is not NumberClass.MEASURED


def _contenders(finalists: Sequence[Finalist]) -> list[Finalist]:
    """Those that may be recommended, cheapest first: the safe ones, or all where none is."""
    return [each for each in finalists if each.is_safe] or list(finalists)


def _ranked(inputs: Inputs, chosen: Sequence[Judged], draws: Draws) -> list[Finalist]:
    if inputs.load is None:
        return [Finalist(each, None) for each in chosen]
    fleets = [capacity(inputs, each.way.offer, each.way.point, draws) for each in chosen]
    found = [
        Finalist(replace(each, fleet=fleet), None)
        for each, fleet in zip(chosen, fleets, strict=True)
    ]
    found.sort(
        key=lambda each: (each.judged.cost, -each.judged.share_served, _is_unmeasured(each.judged))
    )
    may_be = _contenders(found)
    shares = share_cheapest([each.fleet.monthly_draws for each in may_be if each.fleet])
    by_key = {each.judged.way.key: share for each, share in zip(may_be, shares, strict=True)}
    return [replace(each, share_cheapest=by_key.get(each.judged.way.key)) for each in found]


def _devices(finalist: Finalist) -> float:
    fleet = finalist.fleet
    return 1.0 if fleet is None or fleet.devices.value is None else fleet.devices.value


def _published(inputs: Inputs) -> tuple[PublishedFigure, ...]:
    """What others published about offered devices."""
    devices = {offer.device for offer in inputs.offers}
    return tuple(f for f in published_figures() if f.device in devices and f.num_devices == 1)


def _why_none(judged: Sequence[Judged]) -> str:
    """The commonest reason why no way serves."""
    if not judged:
        return "no offered device was measured, and none can be projected"
    reasons = Counter(
        _FIGURES.sub("", reason)
        for each in judged
        for reason in each.reasons or (_why_no_fleet(each),)
    )
    commonest = ", ".join(reason for reason, _ in reasons.most_common(3))
    return f"none of {len(judged)} ways keeps what was asked: {commonest}"


def _why_no_fleet(judged: Judged) -> str:
    fleet = judged.fleet
    return "its cost is unknown" if fleet is None or not fleet.why_none else fleet.why_none

"""How many devices a load needs, what they cost, and whether requests come in time.

Model of a request: the first delivery, then a gap for every further delivery of its reply, at the
speed of a full batch. Model of a fleet: every device has as many slots as its batch, on average no
more of them in use than the stated utilisation; requests come at random and wait in one line for a
free slot (`bench.procurement.queueing`). Where only a concurrency is stated, every request of its
95th percentile has a slot and none waits.

The fleet that is bought is the one that is enough in 95 % of draws, and its price is what it costs
whatever the load turns out to be.

Limits: arrivals in bursts wait longer; a slot of a half-empty batch is quicker than here and takes
more joules a token; nothing is lost to a device that fails; prompts are as long as those measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.procurement.cell import Cell, NumberClass, weakest
from bench.procurement.costs import cost_needs, parameters
from bench.procurement.distribution import evenly
from bench.procurement.fleet import (
    SAFE_SHARE,
    Hinge,
    Need,
    end_p95,
    enough_devices,
    hinges,
    kept,
    needed,
    priced,
)
from bench.procurement.inputs import Inputs, Latency, Load, Offer
from bench.procurement.laws import Draws
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.sampling import Numbers, Parameter, from_draws, lacking, no_interval

_REPLIES = 200
_MOST_DEVICES = 1_000_000
_TOO_MANY = f"it takes more than {_MOST_DEVICES:,} devices"
_OF_SIZE = ("requests_per_s", "utilisation", "first_canvas_s")
"""Numbers of which it is told how the fleet's size hangs on them; times go together."""
TIMES = ("first_canvas_s", "canvas_gap_s", "first_canvas_p95_s", "canvas_gap_p95_s")


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """How long requests of the load take on an idle device, and which limits that breaks.

    Without a load a request's reply is as long as the point's own.

    Attributes:
        end_to_end_p95_s: of the load's reply lengths, with the first delivery at its 95th
            percentile.
        feasible: whether all stated limits are kept; None where one is unknown.
        share_feasible: of draws; None where a time that a limit needs is unknown.
        reasons: a broken or unknown limit each.
    """

    first_canvas_p95_s: Cell
    canvas_gap_p95_s: Cell
    end_to_end_p95_s: Cell
    feasible: bool | None
    share_feasible: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The fleet of one offer at one point that is enough for the load in 95 % of draws, if any is.

    Attributes:
        devices: that are bought, whole ones (`fleet.enough_devices`); unknown where no number of
            them keeps the limits at the point's own numbers.
        needed: that are enough at the numbers' own values, with the interval of what draws need.
        utilisation: share of the slots in use, on average.
        decided_by: utilisation | waiting | concurrency: what asks for so many devices in most of
            the draws that ask for them; at the numbers' own values where none does.
        device_draws: (draws,) that are enough; infinite where no number of them is.
        monthly_draws: (draws,) price of `devices` a month, aligned over options; infinite where
            they are not enough.
        hinges: numbers that `devices` hangs on, by their keys, the first most.
        why_none: why there is no such fleet; empty where there is one.
    """

    devices: Cell
    needed: Cell
    utilisation: Cell
    cost_per_month: Cell
    cost_per_mtok: Cell
    decided_by: str
    device_draws: np.ndarray
    monthly_draws: np.ndarray
    hinges: tuple[Hinge, ...] = ()
    why_none: str = ""

    def share_enough(self, devices: float) -> float:
        """Of draws in which so many serve the load within its limits."""
        return float((self.device_draws <= devices).mean())

    @property
    def share_possible(self) -> float:
        """Of draws in which some number of devices serves the load within its limits."""
        return float(np.isfinite(self.device_draws).mean())

    @property
    def share_served(self) -> float:
        """Of draws in which the fleet serves the load within its limits."""
        return 0.0 if self.devices.value is None else self.share_enough(self.devices.value)


def time_parameters(point: OperatingPoint) -> dict[str, Parameter]:
    """The times of a request; a mean stands for a percentile that is not known."""
    cells = {
        "first_canvas_s": point.first_canvas_s,
        "canvas_gap_s": point.canvas_gap_s,
        "first_canvas_p95_s": point.first_canvas_p95_s or point.first_canvas_s,
        "canvas_gap_p95_s": point.canvas_gap_p95_s or point.canvas_gap_s,
    }
    return {
        name: Parameter(cell, f"{point.source}/{name}", f"{point.source}/times")
        for name, cell in cells.items()
        if cell.value is not None
    }


def reply_lengths(load: Load | None, point: OperatingPoint) -> np.ndarray:
    """(n,) tokens that stand for the load's replies; without a load the point's own, all alike."""
    if load is None:
        return np.array([float(point.reply_tokens)])
    return evenly(load.reply_tokens, _REPLIES)


def request_times(
    point: OperatingPoint, load: Load | None, latency: Latency, draws: Draws
) -> RequestTimes:
    """Latency of one point at the load's reply lengths, without waiting for a slot."""
    known = time_parameters(point)
    replies = reply_lengths(load, point)
    missing = _missing_times(point, known, replies)
    central, drawn = _central(known), {name: one.draw(draws) for name, one in known.items()}
    own = weakest((point.first_canvas_s.kind, point.canvas_gap_s.kind))
    kind = own if load is None else NumberClass.ASSUMED  # as a load's reply lengths are
    definition = (
        f"a reply of {point.reply_tokens:,} tokens, no waiting"
        if load is None
        else "95th percentile over the load's reply lengths, no waiting"
    )
    if missing:
        whole = Cell(None, None, None, kind, "s", definition, why_unknown=missing)
    else:
        value, limits = (end_p95(times, point, replies) for times in (central, drawn))
        whole = from_draws(float(value[0]), limits, kind, "s", definition, no_interval(known))
    first = known["first_canvas_p95_s"].cell if "first_canvas_p95_s" in known else None
    gap = known["canvas_gap_p95_s"].cell if "canvas_gap_p95_s" in known else None
    found = (
        first or point.first_canvas_s,
        gap or point.canvas_gap_s,
        whole,
    )
    feasible, reasons = _judged(found, latency)
    return RequestTimes(
        first_canvas_p95_s=found[0],
        canvas_gap_p95_s=found[1],
        end_to_end_p95_s=found[2],
        feasible=feasible,
        share_feasible=_share_kept(drawn, point, replies, latency, missing),
        reasons=reasons,
    )


def capacity(inputs: Inputs, offer: Offer, point: OperatingPoint, draws: Draws) -> Capacity:
    """The fleet that serves the load in time in 95 % of draws, and its price.

    Raises:
        ValueError: the inputs state no load.
    """
    load = inputs.load
    if load is None:
        raise ValueError("the inputs state no load; a fleet needs load.requests_per_s or more")
    known = fleet_parameters(inputs, offer, point)
    replies = reply_lengths(load, point)
    used = fleet_needs(known, offer, point, load)
    why = _missing_times(point, known, replies) or lacking(used, known)
    if why:
        return _no_fleet(inputs.currency, why, np.full(draws.count, np.inf))
    chosen = {name: known[name] for name in used}
    central, drawn = _central(chosen), {name: one.draw(draws) for name, one in chosen.items()}
    own = needed(central, point, load, inputs.latency, replies)
    many = needed(drawn, point, load, inputs.latency, replies)
    least = float(own.devices[0])
    devices = max(least, enough_devices(many.devices))
    if not devices <= _MOST_DEVICES:
        is_late = np.isinf(devices)
        why = "no number of devices keeps the latency limits" if is_late else _TOO_MANY
        return _no_fleet(inputs.currency, why, many.devices)
    fleet = priced(central, offer, point, own, np.array([devices]), replies)
    costs = priced(drawn, offer, point, many, np.full(draws.count, devices), replies)
    why_no_interval = no_interval(chosen)
    kind = NumberClass.ASSUMED

    def cell(name: str, unit: str, definition: str) -> Cell:
        value = float(fleet[name][0])
        return from_draws(value, costs[name], kind, unit, definition, why_no_interval)

    most = f"devices that are enough in {100 * SAFE_SHARE:g} % of draws"
    return Capacity(
        devices=Cell(devices, None, None, kind, "devices", most),
        needed=from_draws(
            least,
            many.devices,
            kind,
            "devices",
            "smallest fleet that serves the load in time",
            why_no_interval,
        ),
        utilisation=cell("utilisation", "", "share of the fleet's slots in use, on average"),
        cost_per_month=cell(
            "month", f"{inputs.currency}/month", "the fleet and its power, whole devices"
        ),
        cost_per_mtok=cell(
            "per_mtok",
            f"{inputs.currency}/Mtok",
            "the fleet's price over what it delivers of the load's tokens",
        ),
        decided_by=_decided_by(own, many, devices),
        device_draws=many.devices,
        monthly_draws=np.where(many.devices <= devices, costs["month"], np.inf),
        hinges=hinges(
            {chosen[name].key: drawn[name] for name in _OF_SIZE if name in chosen}, many.devices
        ),
    )


def monthly_costs(
    inputs: Inputs,
    offer: Offer,
    point: OperatingPoint,
    key: str,
    values: np.ndarray,
    least: float,
) -> np.ndarray:
    """Price of a fleet a month with every number at its own value but one.

    Args:
        key: of the parameter that takes `values`; one that plays no part changes nothing.
        least: devices that are there in any case; more where the load needs more.

    Returns:
        one cost a value; infinite where no fleet serves, or a number is missing.
    """
    load = inputs.load
    assert load is not None
    known = fleet_parameters(inputs, offer, point)
    replies = reply_lengths(load, point)
    used = fleet_needs(known, offer, point, load)
    if _missing_times(point, known, replies) or lacking(used, known):
        return np.full(len(values), np.inf)
    numbers = {
        name: values if known[name].key == key else np.full(len(values), known[name].cell.value)
        for name in used
    }
    need = needed(numbers, point, load, inputs.latency, replies)
    devices = np.maximum(need.devices, least)
    return priced(numbers, offer, point, need, devices, replies)["month"]


def fleet_parameters(inputs: Inputs, offer: Offer, point: OperatingPoint) -> dict[str, Parameter]:
    """Every number that a fleet's price may be made of, by name."""
    known = parameters(inputs, offer, point) | time_parameters(point)
    if inputs.load is not None and inputs.load.requests_per_s is not None:
        known["requests_per_s"] = Parameter(inputs.load.requests_per_s, "load.requests_per_s")
    return known


def _central(parameters: Mapping[str, Parameter]) -> dict[str, np.ndarray]:
    """Every number's own value, as a single draw."""
    return {name: np.array([parameter.cell.value]) for name, parameter in parameters.items()}


_DECIDED_BY = ("utilisation", "waiting", "concurrency")


def _decided_by(own: Need, many: Need, devices: float) -> str:
    asking = many.decided_by[many.devices == devices]
    if not len(asking):
        asking = own.decided_by
    return _DECIDED_BY[int(np.bincount(asking.astype(int)).argmax())]


def fleet_needs(
    known: Mapping[str, Parameter], offer: Offer, point: OperatingPoint, load: Load
) -> tuple[str, ...]:
    """Names that a fleet's price reads, known or not."""
    times = [name for name in TIMES if name in known]
    rate = ["requests_per_s"] if load.requests_per_s is not None else []
    names = (*times, *rate, "utilisation", "system_tok_per_s", *cost_needs(offer, point))
    return tuple(dict.fromkeys(names))


def _no_fleet(currency: str, why: str, needs: np.ndarray) -> Capacity:
    def cell(unit: str) -> Cell:
        return Cell(None, None, None, NumberClass.ASSUMED, unit, "", why_unknown=why)

    return Capacity(
        devices=cell("devices"),
        needed=cell("devices"),
        utilisation=cell(""),
        cost_per_month=cell(f"{currency}/month"),
        cost_per_mtok=cell(f"{currency}/Mtok"),
        decided_by="",
        device_draws=needs,
        monthly_draws=np.full(len(needs), np.inf),
        why_none=why,
    )


def _share_kept(
    drawn: Numbers, point: OperatingPoint, replies: np.ndarray, latency: Latency, missing: str
) -> float | None:
    if not latency.is_stated:
        return 1.0
    is_unknown = missing and latency.end_to_end_s is not None
    if is_unknown or "first_canvas_s" not in drawn:
        return None
    return float(kept(drawn, point, replies, latency).mean())


def _missing_times(
    point: OperatingPoint, known: Mapping[str, Parameter], replies: np.ndarray
) -> str:
    if "first_canvas_s" not in known:
        return f"time to the first delivery: {point.first_canvas_s.why_unknown or 'unknown'}"
    if "canvas_gap_s" not in known and replies.max() > point.tokens_per_delivery:
        return f"time between deliveries: {point.canvas_gap_s.why_unknown or 'unknown'}"
    return ""


def _short(value: float) -> str:
    """At most three digits: 4,020 and 0.9."""
    return f"{float(f'{value:.3g}'):,.12g}"


def _judged(cells: Sequence[Cell], latency: Latency) -> tuple[bool | None, tuple[str, ...]]:
    limits = (
        ("first delivery", latency.first_canvas_s),
        ("gap", latency.canvas_gap_s),
        ("end to end", latency.end_to_end_s),
    )
    broken, unknown = [], []
    for cell, (name, limit) in zip(cells, limits, strict=True):
        if limit is None:
            continue
        if cell.value is None:
            unknown.append(f"{name}: {cell.why_unknown or 'unknown'}")
        elif cell.value > limit:
            broken.append(f"{name} {_short(cell.value)} s > {_short(limit)} s")
    feasible = False if broken else None if unknown else True
    return feasible, (*broken, *unknown)

"""How many devices a load needs, what they cost, and whether requests come in time.

Model of a request: the first delivery, then a gap for every further delivery of its reply, at the
speed of a full batch. Model of a fleet: every device has as many slots as its batch, on average no
more of them in use than the stated utilisation; requests come at random and wait in one line for a
free slot (`bench.procurement.queueing`). Where only a concurrency is stated, every request of its
95th percentile has a slot and none waits.

Limits: arrivals in bursts wait longer; a slot of a half-empty batch is quicker than here and takes
more joules a token; nothing is lost to a device that fails; prompts are as long as those measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.costs import cost_needs, energy_cost_per_token, hourly_cost, parameters
from bench.procurement.distribution import at, evenly, mean
from bench.procurement.inputs import Inputs, Latency, Load, Offer
from bench.procurement.laws import Draws
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.queueing import SHARE_IN_TIME, devices_in_time
from bench.procurement.sampling import Numbers, Parameter, from_draws, lacking, no_interval

HOURS_PER_MONTH = 730.5
_REPLIES = 200
_TIMES = ("first_canvas_s", "canvas_gap_s", "first_canvas_p95_s", "canvas_gap_p95_s")


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """How long requests of the load take on an idle device, and which limits that breaks.

    Attributes:
        end_to_end_p95_s: of the load's reply lengths, with the first delivery at its 95th
            percentile.
        tok_per_s: of the device at the load's reply lengths, every slot in use.
        feasible: whether all stated limits are kept; None where one is unknown.
        share_feasible: of draws; None where a time is unknown.
        reasons: a broken or unknown limit each.
    """

    first_canvas_p95_s: Cell
    canvas_gap_p95_s: Cell
    end_to_end_p95_s: Cell
    tok_per_s: Cell
    feasible: bool | None
    share_feasible: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capacity:
    """A fleet of one offer at one point for the load.

    Attributes:
        devices: whole ones; unknown where no number of them keeps the limits.
        utilisation: share of the slots in use, on average.
        decided_by: utilisation | waiting | concurrency.
        device_draws, monthly_draws: of `devices` and `cost_per_month`, aligned over options;
            infinite where nothing serves.
        why_none: why there is no such fleet; empty where there is one.
    """

    devices: Cell
    utilisation: Cell
    cost_per_month: Cell
    cost_per_mtok: Cell
    decided_by: str
    device_draws: np.ndarray
    monthly_draws: np.ndarray
    why_none: str = ""


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


def request_times(
    point: OperatingPoint, load: Load, latency: Latency, draws: Draws
) -> RequestTimes:
    """Latency of one point at the load's reply lengths, without waiting for a slot."""
    known = time_parameters(point)
    replies = evenly(load.reply_tokens, _REPLIES)
    missing = _missing_times(point, known, replies)
    central, drawn = _central(known), {name: one.draw(draws) for name, one in known.items()}
    why_no_interval = no_interval(known)

    def cell(
        of: Callable[[Numbers, OperatingPoint, np.ndarray], np.ndarray], unit: str, definition: str
    ) -> Cell:
        kind = NumberClass.ASSUMED  # as the reply lengths are
        if missing:
            return Cell(None, None, None, kind, unit, definition, why_unknown=missing)
        value = float(of(central, point, replies)[0])
        return from_draws(value, of(drawn, point, replies), kind, unit, definition, why_no_interval)

    first = known["first_canvas_p95_s"].cell if "first_canvas_p95_s" in known else None
    gap = known["canvas_gap_p95_s"].cell if "canvas_gap_p95_s" in known else None
    found = (
        first or point.first_canvas_s,
        gap or point.canvas_gap_s,
        cell(_end_p95, "s", "95th percentile over the load's reply lengths, no waiting"),
    )
    feasible, reasons = _judged(found, latency)
    return RequestTimes(
        first_canvas_p95_s=found[0],
        canvas_gap_p95_s=found[1],
        end_to_end_p95_s=found[2],
        tok_per_s=cell(
            _rate_at_load,
            "tok/s",
            "delivered tokens of the load a second and device, every slot in use",
        ),
        feasible=feasible,
        share_feasible=None if missing else float(_kept(drawn, point, replies, latency).mean()),
        reasons=reasons,
    )


def capacity(inputs: Inputs, offer: Offer, point: OperatingPoint, draws: Draws) -> Capacity:
    """The smallest fleet that serves the load in time, and its price.

    Raises:
        ValueError: the inputs state no load.
    """
    load = inputs.load
    if load is None:
        raise ValueError("the inputs state no load; a fleet needs load.requests_per_s or more")
    known = fleet_parameters(inputs, offer, point)
    replies = evenly(load.reply_tokens, _REPLIES)
    used = fleet_needs(known, offer, point, load)
    why = _missing_times(point, known, replies) or lacking(used, known)
    if why:
        return _no_fleet(inputs.currency, why, draws)
    chosen = {name: known[name] for name in used}
    fleet = _fleet(_central(chosen), offer, point, load, inputs.latency, replies)
    drawn = {name: parameter.draw(draws) for name, parameter in chosen.items()}
    many = _fleet(drawn, offer, point, load, inputs.latency, replies)
    if not np.isfinite(fleet["devices"][0]):
        return _no_fleet(
            inputs.currency, "no number of devices keeps the latency limits", draws, many
        )
    why_no_interval = no_interval(chosen)
    kind = NumberClass.ASSUMED

    def cell(name: str, unit: str, definition: str) -> Cell:
        return from_draws(
            float(fleet[name][0]), many[name], kind, unit, definition, why_no_interval
        )

    return Capacity(
        devices=cell("devices", "devices", "smallest fleet that serves the load in time"),
        utilisation=cell("utilisation", "", "share of the fleet's slots in use, on average"),
        cost_per_month=cell(
            "month", f"{inputs.currency}/month", "the fleet and its power, whole devices"
        ),
        cost_per_mtok=cell(
            "per_mtok", f"{inputs.currency}/Mtok", "the fleet's price over the load's tokens"
        ),
        decided_by=_DECIDED_BY[int(fleet["decided_by"][0])],
        device_draws=many["devices"],
        monthly_draws=many["month"],
    )


def monthly_costs(
    inputs: Inputs, offer: Offer, point: OperatingPoint, key: str, values: np.ndarray
) -> np.ndarray:
    """Price of the smallest fleet a month with every number at its own value but one.

    Args:
        key: of the parameter that takes `values`; one that plays no part changes nothing.

    Returns:
        one cost a value; infinite where no fleet serves, or a number is missing.
    """
    load = inputs.load
    assert load is not None
    known = fleet_parameters(inputs, offer, point)
    replies = evenly(load.reply_tokens, _REPLIES)
    used = fleet_needs(known, offer, point, load)
    if _missing_times(point, known, replies) or lacking(used, known):
        return np.full(len(values), np.inf)
    numbers = {
        name: values if known[name].key == key else np.full(len(values), known[name].cell.value)
        for name in used
    }
    return _fleet(numbers, offer, point, load, inputs.latency, replies)["month"]


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


def fleet_needs(
    known: Mapping[str, Parameter], offer: Offer, point: OperatingPoint, load: Load
) -> tuple[str, ...]:
    """Names that a fleet's price reads, known or not."""
    times = [name for name in _TIMES if name in known]
    rate = ["requests_per_s"] if load.requests_per_s is not None else []
    names = (*times, *rate, "utilisation", "system_tok_per_s", *cost_needs(offer, point))
    return tuple(dict.fromkeys(names))


def _no_fleet(
    currency: str, why: str, draws: Draws, many: Mapping[str, np.ndarray] | None = None
) -> Capacity:
    none = np.full(draws.count, np.inf)

    def cell(unit: str) -> Cell:
        return Cell(None, None, None, NumberClass.ASSUMED, unit, "", why_unknown=why)

    return Capacity(
        devices=cell("devices"),
        utilisation=cell(""),
        cost_per_month=cell(f"{currency}/month"),
        cost_per_mtok=cell(f"{currency}/Mtok"),
        decided_by="",
        device_draws=none if many is None else many["devices"],
        monthly_draws=none if many is None else many["month"],
        why_none=why,
    )


def _missing_times(
    point: OperatingPoint, known: Mapping[str, Parameter], replies: np.ndarray
) -> str:
    if "first_canvas_s" not in known:
        return f"time to the first delivery: {point.first_canvas_s.why_unknown or 'unknown'}"
    if "canvas_gap_s" not in known and replies.max() > point.tokens_per_delivery:
        return f"time between deliveries: {point.canvas_gap_s.why_unknown or 'unknown'}"
    return ""


def _gaps(point: OperatingPoint, replies: np.ndarray) -> np.ndarray:
    """(replies,) deliveries after the first."""
    return np.asarray(np.maximum(np.ceil(replies / point.tokens_per_delivery), 1) - 1)


def _gap_s(p: Numbers) -> np.ndarray:
    """(draws,) of a gap; 0 where every reply is a single delivery and none is known."""
    return np.asarray(p.get("canvas_gap_s", np.zeros_like(p["first_canvas_s"])))


def _end_p95(p: Numbers, point: OperatingPoint, replies: np.ndarray) -> np.ndarray:
    gaps = np.quantile(_gaps(point, replies), SHARE_IN_TIME, method="inverted_cdf")
    return np.asarray(p["first_canvas_p95_s"] + _gap_s(p) * gaps)


def _rate_at_load(p: Numbers, point: OperatingPoint, replies: np.ndarray) -> np.ndarray:
    mean_s = p["first_canvas_s"] + _gap_s(p) * _gaps(point, replies).mean()
    return np.asarray(point.batch_size * replies.mean() / mean_s)


def _kept(p: Numbers, point: OperatingPoint, replies: np.ndarray, latency: Latency) -> np.ndarray:
    """(draws,) whether every stated limit is kept without waiting."""
    kept = np.ones(len(p["first_canvas_s"]), dtype=bool)
    if latency.first_canvas_s is not None:
        kept &= p["first_canvas_p95_s"] <= latency.first_canvas_s
    if latency.canvas_gap_s is not None and "canvas_gap_p95_s" in p:
        kept &= p["canvas_gap_p95_s"] <= latency.canvas_gap_s
    if latency.end_to_end_s is not None:
        kept &= _end_p95(p, point, replies) <= latency.end_to_end_s
    return kept


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
            broken.append(f"{name} {cell.value:.3g} s > {limit:g} s")
    feasible = False if broken else None if unknown else True
    return feasible, (*broken, *unknown)


def _fleet(
    p: Numbers,
    offer: Offer,
    point: OperatingPoint,
    load: Load,
    latency: Latency,
    replies: np.ndarray,
) -> dict[str, np.ndarray]:
    """(draws,) of devices, utilisation, month, per_mtok and what decided."""
    service = p["first_canvas_s"][:, None] + _gap_s(p)[:, None] * _gaps(point, replies)
    service_s = service.mean(axis=1)
    slots, count = point.batch_size, len(service_s)
    devices, waits = np.ones(count), np.zeros(count, dtype=bool)
    decided = np.zeros(count)
    busy = np.zeros(count)
    if load.requests_per_s is not None:
        busy = p["requests_per_s"] * service_s
        needed = np.maximum(np.ceil(busy / (slots * p["utilisation"]) - 1e-9), 1)
        devices = devices_in_time(needed, busy, service, p["first_canvas_p95_s"], slots, latency)
        waits = devices > needed
        decided[waits] = 1
    if load.concurrency is not None:
        at_once = np.ceil(at(load.concurrency, SHARE_IN_TIME) / slots)
        decided[devices < at_once] = 2
        devices = np.maximum(devices, at_once)
        if load.requests_per_s is None:
            busy = np.full(count, mean(load.concurrency))
    devices = np.where(_kept(p, point, replies, latency), devices, np.inf)
    used = busy / (devices * slots)
    rate = busy / service_s * replies.mean()  # delivered tok/s of the whole load
    numbers = dict(p)
    # A token of the load takes the device's power for as long as it takes, not as measured.
    slowed = p["system_tok_per_s"] / _rate_at_load(p, point, replies)
    is_rented = offer.is_rented
    energy = energy_cost_per_token(numbers, is_rented=is_rented) * slowed
    with np.errstate(invalid="ignore"):
        hourly = devices * hourly_cost(numbers, is_rented=is_rented, used=used)
        hourly = hourly + rate * 3600 * energy
    hourly = np.where(np.isfinite(devices), hourly, np.inf)
    return {
        "devices": devices,
        "utilisation": used,
        "month": hourly * HOURS_PER_MONTH,
        "per_mtok": 1e6 * hourly / (rate * 3600),
        "decided_by": decided,
    }

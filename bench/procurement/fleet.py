"""A fleet in numbers drawn or stated: how many devices a load needs, and what so many cost.

Everything here is of arrays, one value a draw; `bench.procurement.capacity` makes cells of them.
"""

from dataclasses import dataclass

import numpy as np

from bench.procurement.costs import energy_cost_per_token, hourly_cost
from bench.procurement.distribution import at, mean
from bench.procurement.inputs import Latency, Load, Offer
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.queueing import SHARE_IN_TIME, devices_in_time
from bench.procurement.sampling import Numbers

HOURS_PER_MONTH = 730.5
SAFE_SHARE = 0.95
"""Of draws in which a fleet must serve the load within its limits to be recommended."""
_TENTHS = (0.1, 0.9)


@dataclass(frozen=True, slots=True)
class Need:
    """What the load asks of one point, one value a draw.

    Attributes:
        devices: the fewest that serve in time; infinite where no number of them does.
        decided_by: 0 utilisation, 1 waiting, 2 concurrency.
        busy: slots in use on average; service_s: mean seconds of a request.
    """

    devices: np.ndarray
    decided_by: np.ndarray
    busy: np.ndarray
    service_s: np.ndarray


def needed(
    p: Numbers, point: OperatingPoint, load: Load, latency: Latency, replies: np.ndarray
) -> Need:
    """The smallest fleet of each draw.

    Args:
        p: (draws,) of each number; replies: (n,) tokens that stand for the load's lengths.
    """
    service = p["first_canvas_s"][:, None] + gap_s(p)[:, None] * gaps(point, replies)
    service_s = service.mean(axis=1)
    slots, count = point.batch_size, len(service_s)
    devices, decided, busy = np.ones(count), np.zeros(count), np.zeros(count)
    if load.requests_per_s is not None:
        busy = p["requests_per_s"] * service_s
        at_work = np.maximum(np.ceil(busy / (slots * p["utilisation"]) - 1e-9), 1)
        devices = devices_in_time(at_work, busy, service, p["first_canvas_p95_s"], slots, latency)
        decided[devices > at_work] = 1
    if load.concurrency is not None:
        at_once = np.ceil(at(load.concurrency, SHARE_IN_TIME) / slots)
        decided[devices < at_once] = 2
        devices = np.maximum(devices, at_once)
        if load.requests_per_s is None:
            busy, decided = np.full(count, mean(load.concurrency)), np.full(count, 2)
    devices = np.where(kept(p, point, replies, latency), devices, np.inf)
    return Need(devices, decided, busy, service_s)


def enough_devices(needs: np.ndarray) -> float:
    """The fewest devices that are enough in 95 % of draws.

    Where no number of them is, the fewest that are in 95 % of the draws in which some number is.

    Args:
        needs: (draws,) devices, infinite where none serves.

    Returns:
        infinite where no draw is served.
    """
    served = needs[np.isfinite(needs)]
    if not len(served):
        return float("inf")
    of = needs if len(served) >= SAFE_SHARE * len(needs) else served
    return float(np.quantile(of, SAFE_SHARE, method="inverted_cdf"))


@dataclass(frozen=True, slots=True)
class Hinge:
    """A number that the size of the fleet hangs on.

    Attributes:
        name: of the number.
        low, high: a tenth of its draws lie below, and a tenth above.
        devices_low, devices_high: enough in 95 % of the draws below, and of those above.
    """

    name: str
    low: float
    high: float
    devices_low: float
    devices_high: float


def hinges(p: Numbers, needs: np.ndarray) -> tuple[Hinge, ...]:
    """What the fleet hangs on, the number that moves it most first; only what moves it at all.

    Args:
        p: (draws,) of each number that a fleet's size may read; needs: (draws,) devices.
    """
    found = []
    for name, values in p.items():
        low, high = np.quantile(values, _TENTHS)
        if low == high:
            continue
        ends = [enough_devices(needs[values <= low]), enough_devices(needs[values >= high])]
        if ends[0] != ends[1] and np.isfinite(ends).all():
            found.append(Hinge(name, float(low), float(high), *ends))
    return tuple(sorted(found, key=lambda each: -abs(each.devices_high - each.devices_low)))


def priced(
    p: Numbers,
    offer: Offer,
    point: OperatingPoint,
    need: Need,
    devices: np.ndarray,
    replies: np.ndarray,
) -> dict[str, np.ndarray]:
    """(draws,) of utilisation, month and per_mtok for so many devices, whether enough or not.

    A fleet that is too small has all of its slots in use and delivers what they can.
    """
    with np.errstate(invalid="ignore"):
        used = np.minimum(need.busy / (devices * point.batch_size), 1.0)
        busy = np.minimum(need.busy, devices * point.batch_size)
        rate = busy / need.service_s * replies.mean()  # delivered tok/s of the whole fleet
        # A token of the load takes the device's power for as long as it takes, not as measured.
        slowed = p["system_tok_per_s"] / rate_at_load(p, point, replies)
        energy = energy_cost_per_token(p, is_rented=offer.is_rented) * slowed
        hourly = devices * hourly_cost(p, is_rented=offer.is_rented, used=used)
        hourly = hourly + rate * 3600 * energy
    hourly = np.where(np.isfinite(devices), hourly, np.inf)
    return {
        "utilisation": used,
        "month": hourly * HOURS_PER_MONTH,
        "per_mtok": 1e6 * hourly / (rate * 3600),
    }


def gaps(point: OperatingPoint, replies: np.ndarray) -> np.ndarray:
    """(replies,) deliveries after the first."""
    return np.asarray(np.maximum(np.ceil(replies / point.tokens_per_delivery), 1) - 1)


def gap_s(p: Numbers) -> np.ndarray:
    """(draws,) of a gap; 0 where every reply is a single delivery and none is known."""
    return np.asarray(p.get("canvas_gap_s", np.zeros_like(p["first_canvas_s"])))


def end_p95(p: Numbers, point: OperatingPoint, replies: np.ndarray) -> np.ndarray:
    """(draws,) seconds of a whole request, 95th percentile over replies, without waiting."""
    most = np.quantile(gaps(point, replies), SHARE_IN_TIME, method="inverted_cdf")
    return np.asarray(p["first_canvas_p95_s"] + gap_s(p) * most)


def rate_at_load(p: Numbers, point: OperatingPoint, replies: np.ndarray) -> np.ndarray:
    """(draws,) delivered tokens of the load a second and device, every slot in use."""
    mean_s = p["first_canvas_s"] + gap_s(p) * gaps(point, replies).mean()
    return np.asarray(point.batch_size * replies.mean() / mean_s)


def kept(p: Numbers, point: OperatingPoint, replies: np.ndarray, latency: Latency) -> np.ndarray:
    """(draws,) whether every stated limit is kept without waiting."""
    found = np.ones(len(p["first_canvas_s"]), dtype=bool)
    if latency.first_canvas_s is not None:
        found &= p["first_canvas_p95_s"] <= latency.first_canvas_s
    if latency.canvas_gap_s is not None and "canvas_gap_p95_s" in p:
        found &= p["canvas_gap_p95_s"] <= latency.canvas_gap_s
    if latency.end_to_end_s is not None:
        found &= end_p95(p, point, replies) <= latency.end_to_end_s
    return found

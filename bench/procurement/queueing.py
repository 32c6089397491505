"""Waiting for a free slot: an M/G/c queue, by the approximation of Lee and Longton (1959).

Requests come at random (Poisson) and wait in one line for one of c slots. The chance to wait is
Erlang's C, exact where service times are exponential; the wait of those who wait is taken to be
exponential, with the mean of M/M/c times (1 + squared coefficient of variation of service) / 2.
Arrivals in bursts wait longer than that.
"""

import numpy as np
import scipy

from bench.procurement.inputs import Latency

SHARE_IN_TIME = 0.95
"""Of requests that must keep a limit."""
_MOST_DEVICES_ADDED = 10_000
_NOBODY_WAITS = 1e-9


def waiting(
    servers: np.ndarray, busy: np.ndarray, service: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Chance to wait and the rate (1/s) of the exponential wait of those who do.

    Args:
        servers: (draws,) slots; busy: of them in use on average, fewer than there are.
        service: (draws, replies) seconds.

    Returns:
        chance 1 and rate 0 where the slots are not enough.
    """
    pmf, cdf = scipy.stats.poisson.pmf(servers, busy), scipy.stats.poisson.cdf(servers, busy)
    blocked = pmf / cdf
    load = busy / servers
    enough = load < 1
    chance = np.where(enough, blocked / np.where(enough, 1 - load * (1 - blocked), 1), 1.0)
    mean_s = service.mean(axis=1)
    squared_cv = service.var(axis=1) / mean_s**2
    rate = np.where(enough, (servers - busy) / mean_s * 2 / (1 + squared_cv), 0.0)
    return chance, rate


def devices_in_time(
    devices: np.ndarray,
    busy: np.ndarray,
    service: np.ndarray,
    first_p95_s: np.ndarray,
    slots: int,
    latency: Latency,
) -> np.ndarray:
    """(draws,) the devices, more where the wait for a slot would break a limit.

    A request keeps a limit if its wait leaves it time enough: for its first delivery, taken to be
    as slow as the 95th percentile, and for its whole reply.

    Args:
        devices: (draws,) at least so many; busy: slots in use on average.
        service: (draws, replies) seconds of a request.
        slots: of a device.
    """
    devices = devices.copy()
    if latency.first_canvas_s is None and latency.end_to_end_s is None:
        return devices
    late = np.ones(len(devices), dtype=bool)
    for _ in range(_MOST_DEVICES_ADDED):
        rows = np.flatnonzero(late)
        part = service[rows]
        servers = devices[rows] * slots
        chance, rate = waiting(servers, busy[rows], part)
        kept = np.ones(len(rows), dtype=bool)
        if latency.first_canvas_s is not None:
            spare = latency.first_canvas_s - first_p95_s[rows]
            kept &= 1 - chance * np.exp(-rate * np.maximum(spare, 0)) >= SHARE_IN_TIME
        if latency.end_to_end_s is not None:
            spare_s = latency.end_to_end_s - part
            in_time = 1 - chance[:, None] * np.exp(-rate[:, None] * np.maximum(spare_s, 0))
            kept &= np.where(spare_s >= 0, in_time, 0).mean(axis=1) >= SHARE_IN_TIME
        # Where nobody waits and a limit is broken still, no further device helps.
        late[rows] = ~kept & (chance > _NOBODY_WAITS)
        if not late.any():
            break
        devices[late] += 1
    return devices

"""What the answer hangs on: each number moved alone to its limits, all others at their own values.

A number moves over the range that was stated, or over its 95 % interval; one that has neither moves
by a tenth either way, and says so. Reply lengths and concurrency, which are distributions, stay.
With a load the devices that are bought in any case stay, and more come where the number asks for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.procurement.capacity import (
    TIMES,
    fleet_needs,
    fleet_parameters,
    monthly_costs,
    reply_lengths,
)
from bench.procurement.cell import Cell
from bench.procurement.costs import cost_per_mtok
from bench.procurement.fleet import kept
from bench.procurement.inputs import Inputs, Offer
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.sampling import Parameter, lacking

ASSUMED_CHANGE = 0.1
_SCAN = 101
"""Places either side at which a switch is looked for: it is found to a hundredth of the way."""


@dataclass(frozen=True, slots=True)
class Option:
    """An offer run at one operating point; its cost is a month's for the load, or a Mtok's without.

    Attributes:
        name: unlike those of the other options.
        devices: that are there in any case.
    """

    name: str
    inputs: Inputs
    offer: Offer
    point: OperatingPoint
    devices: float = 1.0

    def cells(self) -> dict[str, Cell]:
        """What its cost is made of, by key."""
        known = fleet_parameters(self.inputs, self.offer, self.point)
        if self.inputs.load is None:
            needs: Sequence[str] = cost_per_mtok("", self.offer, self.point).needs
            needs = (*needs, *self._timed(known))
        else:
            needs = fleet_needs(known, self.offer, self.point, self.inputs.load)
        return {known[name].key: known[name].cell for name in needs if name in known}

    def costs(self, key: str, values: np.ndarray) -> np.ndarray:
        """Its cost with one number at each of `values`, all others at their own.

        Infinite where it is unknown, or a limit is broken.
        """
        if self.inputs.load is not None:
            return monthly_costs(self.inputs, self.offer, self.point, key, values, self.devices)
        metric = cost_per_mtok(self.inputs.currency, self.offer, self.point)
        known = fleet_parameters(self.inputs, self.offer, self.point)
        if lacking(metric.needs, known):
            return np.full(len(values), np.inf)
        numbers = {
            name: values if known[name].key == key else np.full(len(values), known[name].cell.value)
            for name in (*metric.needs, *self._timed(known))
        }
        costs = np.asarray(metric.formula(numbers))
        latency = self.inputs.latency
        if not latency.is_stated:
            return costs
        replies = reply_lengths(None, self.point)
        return np.where(kept(numbers, self.point, replies, latency), costs, np.inf)

    def _timed(self, known: Mapping[str, Parameter]) -> tuple[str, ...]:
        """Times that decide whether the limits are kept; none where no limit is stated."""
        return tuple(n for n in TIMES if n in known and self.inputs.latency.is_stated)


@dataclass(frozen=True, slots=True)
class Bar:
    """One number of the tornado.

    Attributes:
        key: path of an input, or a point's source and what it is.
        low, value, high: of the number, in `unit`; is_assumed_change: a tenth either way, as no
            limits are known.
        cost_low, cost_high: of the option that is cheapest at all values, with this number at its
            low and at its high.
        switches_at: the value nearest to its own at which another option becomes the cheapest;
            None if that does not happen between the limits.
    """

    key: str
    unit: str
    low: float
    value: float
    high: float
    is_assumed_change: bool
    cost_low: float
    cost_high: float
    switches_at: float | None

    @property
    def swing(self) -> float:
        """How far the cost moves; infinite where the option can no longer serve."""
        if np.isinf(self.cost_low) or np.isinf(self.cost_high):
            return float("inf")
        return abs(self.cost_high - self.cost_low)


def tornado(options: Sequence[Option]) -> list[Bar]:
    """Every number of the options, the one that moves the cheapest option's cost most first.

    Returns:
        nothing where no option has a cost.
    """
    present = np.array([option.costs("", np.zeros(1))[0] for option in options])
    if not len(present) or np.isinf(present.min()):
        return []
    winner = int(present.argmin())
    cells: dict[str, Cell] = {}
    used: dict[str, list[int]] = {}
    for index, option in enumerate(options):
        for key, cell in option.cells().items():
            cells[key] = cell
            used.setdefault(key, []).append(index)
    bars = [
        _bar(key, cell, winner, options, present, used[key])
        for key, cell in cells.items()
        if cell.value
    ]
    bars = [bar for bar in bars if bar.swing > 0 or bar.switches_at is not None]
    return sorted(bars, key=lambda bar: (-bar.swing, bar.key))


def _bar(
    key: str,
    cell: Cell,
    winner: int,
    options: Sequence[Option],
    present: np.ndarray,
    used: Sequence[int],
) -> Bar:
    low, value, high = _limits(key, cell)
    places = np.concatenate([np.linspace(low, value, _SCAN)[:-1], np.linspace(value, high, _SCAN)])
    costs = np.repeat(present[:, None], len(places), axis=1)  # [option, place]
    for index in used:
        costs[index] = options[index].costs(key, places)
    best = [
        options[int(column.argmin())].name if np.isfinite(column.min()) else ""
        for column in costs.T
    ]
    other = np.array([name != options[winner].name for name in best])
    found = places[other]
    return Bar(
        key=key,
        unit=cell.unit,
        low=low,
        value=value,
        high=high,
        is_assumed_change=cell.low is None or cell.high is None,
        cost_low=float(costs[winner, 0]),
        cost_high=float(costs[winner, -1]),
        switches_at=float(found[np.abs(found - value).argmin()]) if len(found) else None,
    )


def _limits(key: str, cell: Cell) -> tuple[float, float, float]:
    assert cell.value is not None
    if cell.low is not None and cell.high is not None:
        return cell.low, cell.value, cell.high
    low, high = cell.value * (1 - ASSUMED_CHANGE), cell.value * (1 + ASSUMED_CHANGE)
    if key.endswith("utilisation"):
        high = min(high, 1.0)
    if key == "pue":
        low = max(low, 1.0)
    return low, cell.value, high

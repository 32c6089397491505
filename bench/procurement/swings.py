"""The tornado of a study: inputs and measured numbers, and what moves several numbers at once.

Denoise steps a canvas move every projected diffusion way; the error of a projection moves all times
of its way together. Both are costed anew, not number by number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.procurement.cell import NumberClass
from bench.procurement.inputs import Inputs
from bench.procurement.projection import Projector
from bench.procurement.sensitivity import ASSUMED_CHANGE, Bar, Option, tornado
from bench.procurement.ways import (
    STEPS_KEY,
    Projected,
    Way,
    at_speed,
    at_steps,
    without_steps,
)

_BISECTIONS = 20


@dataclass(frozen=True, slots=True)
class Swing:
    """A bar of the tornado, and what becomes cheapest just beyond `bar.switches_at`.

    Attributes:
        becomes: a way's `short` name; empty without a switch, or where nothing serves there.
    """

    bar: Bar
    becomes: str


def swings(
    inputs: Inputs, by: Projector, ways: Sequence[Way], devices: Sequence[float]
) -> list[Swing]:
    """Every number that moves the cost of the first way, which is the cheapest, or the choice.

    The one that moves the cost most comes first.

    Args:
        ways: that may be chosen, the cheapest first; devices: of each one's fleet.
    """
    fleets = list(zip(ways, devices, strict=True))
    options = [option_of(inputs, without_steps(way), count) for way, count in fleets]
    projected = {way.point.source for way in ways if way.point.kind is NumberClass.PROJECTED}
    found = [
        Swing(bar, _beyond(options, ways, bar))
        for bar in tornado(options)
        if bar.key.rpartition("/")[0] not in projected
    ]
    found += [*_steps_swing(inputs, by, fleets), *_speed_swings(inputs, fleets)]
    return sorted(found, key=lambda swing: -swing.bar.swing)


def option_of(inputs: Inputs, way: Way, devices: float) -> Option:
    return Option(way.name, inputs, way.offer, way.point, devices)


def cost_of(inputs: Inputs, way: Way, devices: float = 1.0) -> float:
    """A month of the load's fleet, or a million tokens without a load; infinite if unknown.

    Args:
        devices: that are there in any case; more where the way's own numbers ask for them.
    """
    return float(option_of(inputs, way, devices).costs("", np.zeros(1))[0])


def _beyond(options: Sequence[Option], ways: Sequence[Way], bar: Bar) -> str:
    if bar.switches_at is None:
        return ""
    at = np.array([bar.switches_at])
    return _cheapest([float(option.costs(bar.key, at)[0]) for option in options], ways)


def _cheapest(costs: Sequence[float], ways: Sequence[Way]) -> str:
    return ways[int(np.argmin(costs))].short if np.isfinite(min(costs)) else ""


def _steps_swing(inputs: Inputs, by: Projector, fleets: Sequence[tuple[Way, float]]) -> list[Swing]:
    """Of the steps a canvas, which move projected diffusion ways and nothing else."""
    steps = None if inputs.load is None else inputs.load.steps_per_canvas
    if steps is None or steps.value is None or not fleets:
        return []
    value = steps.value
    is_assumed = steps.low is None or steps.high is None
    low = value * (1 - ASSUMED_CHANGE) if steps.low is None else steps.low
    high = value * (1 + ASSUMED_CHANGE) if steps.high is None else steps.high

    def costs(at: float) -> list[float]:
        return [cost_of(inputs, at_steps(inputs, by, way, at), count) for way, count in fleets]

    limits, ways = (max(low, 1.0), value, high), [way for way, _ in fleets]
    return _swing(STEPS_KEY, "steps", limits, costs, ways, is_assumed)


def _speed_swings(inputs: Inputs, fleets: Sequence[tuple[Way, float]]) -> list[Swing]:
    """Of all times of each projected way together, as a multiple of what is projected."""
    found, ways = [], [way for way, _ in fleets]
    own = [cost_of(inputs, way, count) for way, count in fleets]
    for index, (way, count) in enumerate(fleets):
        law = without_steps(way).point.first_canvas_s.law
        if not isinstance(law, Projected):
            continue

        def costs(
            at: float, index: int = index, way: Way = way, count: float = count
        ) -> list[float]:
            moved = cost_of(inputs, at_speed(way, at), count)
            return [*own[:index], moved, *own[index + 1 :]]

        limits = law.low / law.value, 1.0, law.high / law.value
        found += _swing(f"{way.point.source}/times", "times", limits, costs, ways, False)
    return found


def _swing(
    key: str,
    unit: str,
    limits: tuple[float, float, float],
    costs: Callable[[float], list[float]],
    ways: Sequence[Way],
    is_assumed: bool,
) -> list[Swing]:
    """The bar of a number whose costs must be made anew; none where nothing moves.

    Args:
        limits: low, own value, high; costs: of every way, with the number at a value.
    """
    low, value, high = limits
    ends = {end: costs(end) for end in (low, high)}
    switches = [_switch(costs, value, end) for end, found in ends.items() if int(np.argmin(found))]
    at = min(switches, key=lambda place: abs(place - value), default=None)
    bar = Bar(
        key=key,
        unit=unit,
        low=low,
        value=value,
        high=high,
        is_assumed_change=is_assumed,
        cost_low=ends[low][0],
        cost_high=ends[high][0],
        switches_at=at,
    )
    if at is None and not bar.swing > 0:
        return []
    return [Swing(bar, "" if at is None else _cheapest(costs(at), ways))]


def _switch(costs: Callable[[float], list[float]], kept: float, lost: float) -> float:
    """Where the first of the options stops being the cheapest, between a value and an end."""
    for _ in range(_BISECTIONS):
        middle = (kept + lost) / 2
        if int(np.argmin(costs(middle))) == 0:
            kept = middle
        else:
            lost = middle
    return lost

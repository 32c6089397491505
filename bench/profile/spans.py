"""Cuts the time of a trace's steps into parts, none of them twice and none left out.

On a processor a part is a stretch of the main thread between two changes of what runs there: the
innermost operation, or Python between operations, in the innermost op group's range. On a GPU it is
a kernel or copy, as far as none before it still runs, or the time before it in which nothing ran.
Those belong to the step and op group in which the host launched the kernel.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.profile.names import GROUP_RANGE, HOST, OTHER, STEP_RANGE, group_of
from bench.profile.trace import (
    DEVICE_WORK,
    HOST_CALLS,
    HOST_OPERATIONS,
    RANGES,
    Slice,
    Trace,
)


@dataclass(frozen=True, slots=True)
class Place:
    """What the host is in: a step by its number, an op group's range, the innermost operation."""

    step: int | None = None
    within: str | None = None
    operator: str | None = None

    @property
    def group(self) -> str:
        if self.operator is None:
            return self.within or HOST
        return group_of(self.within, self.operator)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a step.

    Attributes:
        name: of the operation or kernel, None while nothing ran.
        late_us: of a GPU's time without work, what passed before the next launch was even issued.
    """

    step: int
    group: str
    name: str | None
    begin_us: float
    end_us: float
    late_us: float = 0.0

    @property
    def length_us(self) -> float:
        return self.end_us - self.begin_us


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel, copy or fill of a step, and the operation that launched it."""

    step: int
    group: str
    operator: str | None
    slice: Slice


@dataclass(slots=True)
class HostTimeline:
    """The main thread: where it was at every time, and every operation it called.

    Attributes:
        steps: begin and end of every step, microseconds, by its number.
        places: stretches, each with its end; their begins in `begins_us`.
        calls: a place an operation, its own name in it.
    """

    steps: dict[int, tuple[float, float]] = field(default_factory=dict)
    begins_us: list[float] = field(default_factory=list)
    places: list[tuple[float, Place]] = field(default_factory=list)
    calls: list[Place] = field(default_factory=list)

    def at(self, time_us: float) -> Place:
        """Where the host was at a time; nowhere outside of all steps."""
        index = bisect_right(self.begins_us, time_us) - 1
        if index < 0 or self.places[index][0] < time_us:
            return Place()
        return self.places[index][1]

    def parts(self) -> Iterator[Part]:
        """The steps' time on the main thread."""
        for begin_us, (end_us, place) in zip(self.begins_us, self.places, strict=True):
            if place.step is not None:
                yield Part(place.step, place.group, place.operator, begin_us, end_us)


def host_timeline(trace: Trace) -> HostTimeline:
    """The thread that the steps are on.

    Raises:
        ValueError: the trace has no steps.
    """
    steps = [s for s in trace.slices if s.category in RANGES and s.name.startswith(STEP_RANGE)]
    if not steps:
        raise ValueError(f"the trace has no ranges {STEP_RANGE}N; it was not made by this command")
    found = HostTimeline()
    for step in steps:
        found.steps[_number(step.name)] = step.begin_us, step.end_us
    shown = (*HOST_OPERATIONS, *RANGES)
    own = [s for s in trace.slices if s.lane == steps[0].lane and s.category in shown]
    _sweep(own, found)
    return found


def _sweep(slices: Sequence[Slice], into: HostTimeline) -> None:
    """Nested slices, by their begin, to stretches with the innermost of them."""
    open_: list[tuple[float, Place]] = []
    reached_us = 0.0

    def leave_until(time_us: float) -> None:
        nonlocal reached_us
        while open_ and open_[-1][0] <= time_us:
            end_us, place = open_.pop()
            stretch(end_us, place)
        if open_:
            stretch(time_us, open_[-1][1])
        reached_us = max(reached_us, time_us)

    def stretch(end_us: float, place: Place) -> None:
        nonlocal reached_us
        if end_us > reached_us:
            into.begins_us.append(reached_us)
            into.places.append((end_us, place))
            reached_us = end_us

    for each in slices:
        leave_until(each.begin_us)
        around_us, around = open_[-1] if open_ else (each.end_us, Place())
        place = _inside(each, around)
        if each.category in HOST_OPERATIONS:
            into.calls.append(place)
        open_.append((min(each.end_us, around_us), place))
    leave_until(float("inf"))


def _inside(each: Slice, around: Place) -> Place:
    if each.category in HOST_OPERATIONS:
        return Place(around.step, around.within, each.name)
    if each.name.startswith(STEP_RANGE):
        return Place(_number(each.name))
    if each.name.startswith(GROUP_RANGE):
        return Place(around.step, each.name.removeprefix(GROUP_RANGE))
    return around


def _number(name: str) -> int:
    digits = name.removeprefix(STEP_RANGE)
    return int(digits) if digits.isdecimal() else -1


def device_kernels(
    trace: Trace, host: HostTimeline, kernel_groups: Mapping[str, str]
) -> list[Kernel]:
    """Everything that a GPU did for the steps, by its begin.

    Args:
        kernel_groups: the op group of kernels that belong to one whatever launched them.
    """
    launches = {s.correlation: s for s in _launches(trace)}
    found: list[Kernel] = []
    for work in (s for s in trace.slices if s.category in DEVICE_WORK):
        launch = launches.get(work.correlation)
        place = Place() if launch is None else host.at(launch.begin_us)
        step = place.step
        if step is None and launch is None and found:
            step = found[-1].step  # its launch was lost
        if step is None:
            continue
        group = kernel_groups.get(work.name) or (OTHER if place.group == HOST else place.group)
        found.append(Kernel(step, group, place.operator, work))
    return found


def _launches(trace: Trace) -> Iterator[Slice]:
    calls = (s for s in trace.slices if s.category in HOST_CALLS)
    return (call for call in calls if call.correlation is not None)


def device_parts(trace: Trace, kernels: Sequence[Kernel]) -> Iterator[Part]:
    """The steps' time on the device, from the first kernel's begin to the last one's end."""
    issued_us = {s.correlation: s.end_us for s in _launches(trace)}
    reached_us: float | None = None
    for kernel in kernels:
        begin_us, end_us = kernel.slice.begin_us, kernel.slice.end_us
        if reached_us is not None and begin_us > reached_us:
            launched_us = issued_us.get(kernel.slice.correlation, reached_us)
            late_us = min(max(launched_us - reached_us, 0.0), begin_us - reached_us)
            yield Part(kernel.step, kernel.group, None, reached_us, begin_us, late_us)
        free_us = begin_us if reached_us is None else max(begin_us, reached_us)
        if end_us > free_us:
            yield Part(kernel.step, kernel.group, kernel.slice.name, free_us, end_us)
        reached_us = end_us if reached_us is None else max(reached_us, end_us)

"""Floors: the least time a forward can take on a device, from its work and the device's peaks.

`op_floor` sums, over op groups, the larger of memory and arithmetic time (perfect overlap inside a
group, none between groups); `streaming_floor` is the weights over the bandwidth alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.devices import Device


class Group(Protocol):
    """What a floor needs of an op group (`model.work.OpGroup`)."""

    @property
    def name(self) -> str: ...
    @property
    def weight_bytes(self) -> float: ...
    @property
    def bytes(self) -> float: ...
    @property
    def flops(self) -> float: ...
    @property
    def is_fp8(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class GroupFloor:
    """Seconds that one op group takes at least."""

    name: str
    memory_s: float
    arithmetic_s: float

    @property
    def floor_s(self) -> float:
        return max(self.memory_s, self.arithmetic_s)


def group_floors(groups: Iterable[Group], device: Device) -> list[GroupFloor]:
    return [
        GroupFloor(g.name, g.bytes / device.bytes_per_s, g.flops / device.flops(is_fp8=g.is_fp8))
        for g in groups
    ]


def op_floor_s(groups: Iterable[Group], device: Device) -> float:
    return sum(group.floor_s for group in group_floors(groups, device))


def streaming_floor_s(groups: Iterable[Group], device: Device) -> float:
    return sum(group.weight_bytes for group in groups) / device.bytes_per_s


def tokens_per_s(
    canvas_length: int,
    num_steps: int,
    denoise: Sequence[Group],
    commit: Sequence[Group],
    on: Device,
) -> float:
    """Tokens a second of full canvases at the op floor: so many denoise steps and a commit each."""
    canvas_s = num_steps * op_floor_s(denoise, on) + op_floor_s(commit, on)
    return canvas_length / canvas_s

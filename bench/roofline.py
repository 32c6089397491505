"""Floors: the least time a forward can take on a device, from its work and the device's rates.

`op_floor` sums, over op groups, the larger of memory and arithmetic time (perfect overlap inside a
group, none between groups); `streaming_floor` is the weights over the bandwidth alone. Rates are a
data sheet's, or, for a point's `op_floor`, those the device reached (`bench.probe`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bench.devices import recognised
from bench.phases import FUSED


class Rates(Protocol):
    """What a floor divides by (`bench.devices.Device`, `Reached`)."""

    @property
    def bytes_per_s(self) -> float: ...

    def flops(self, *, is_fp8: bool) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Reached:
    """Rates a device reached: copy bandwidth, products of wide and of e4m3 factors a second."""

    bytes_per_s: float
    wide_flops: float
    fp8_flops: float | None

    def flops(self, *, is_fp8: bool) -> float:
        """The rate of a product; without fp8 units its values are multiplied in the wide type."""
        return self.fp8_flops if is_fp8 and self.fp8_flops else self.wide_flops


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
    """Seconds that one op group takes at least.

    Attributes:
        arithmetic_s: None where the device's rate is not known; the floor is memory's then.
    """

    name: str
    memory_s: float
    arithmetic_s: float | None

    @property
    def floor_s(self) -> float:
        return max(self.memory_s, self.arithmetic_s or 0.0)


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """An op group as a shard's note keeps it."""

    name: str
    weight_bytes: float
    activation_bytes: float
    flops: float
    is_fp8: bool

    @property
    def bytes(self) -> float:
        return self.weight_bytes + self.activation_bytes


def group_floors(groups: Iterable[Group], device: Rates) -> list[GroupFloor]:
    found = []
    for group in groups:
        rate = device.flops(is_fp8=group.is_fp8)
        arithmetic_s = None if rate is None else group.flops / rate
        found.append(GroupFloor(group.name, group.bytes / device.bytes_per_s, arithmetic_s))
    return found


def op_floor_s(groups: Iterable[Group], device: Rates) -> float:
    return sum(group.floor_s for group in group_floors(groups, device))


def streaming_floor_s(groups: Iterable[Group], device: Rates) -> float:
    return sum(group.weight_bytes for group in groups) / device.bytes_per_s


def tokens_per_s(
    canvas_length: int,
    num_steps: int,
    denoise: Sequence[Group],
    commit: Sequence[Group],
    on: Rates,
) -> float:
    """Tokens a second of full canvases at the op floor: so many denoise steps and a commit each.

    With commits fused: a step fewer, and the fused forward for the commit.
    """
    canvas_s = num_steps * op_floor_s(denoise, on) + op_floor_s(commit, on)
    return canvas_length / canvas_s


def floor_columns(
    row: Mapping[str, Any], work: Mapping[str, Any] | None, probe: Mapping[str, Any] | None
) -> dict[str, float | None]:
    """A point's floors and how near its step, and its fused forward, came to them.

    Unknown without a count of the experts touched, in a simulation, where precision is emulated, as
    other bytes move then, and with `min_belief`, as beliefs decide what is read of the table.

    Args:
        row: of `points`, with its step's time, device and distinct experts.
        work: `bench.step_work.step_work`.
        probe: `bench.probe.Probe` as a dictionary.
    """
    distinct = row["distinct_experts_per_layer"]
    if work is None or probe is None or distinct is None or row["emulated"]:
        return {}
    if row.get("min_belief"):
        return {}
    wide = probe["fp32_flops" if row["precision"] == "fp32" else "bf16_flops"]
    reached = Reached(probe["copy_bytes_per_s"], wide, probe["fp8_flops"])
    groups = _touching(distinct, work)
    step_ms = row["step_ms" if row["decoding"] == "diffusion" else "decode_ms"]
    listed = recognised(str(row["device"]))
    floors = {
        "op": op_floor_s(groups, reached) * 1e3,
        "streaming": None if listed is None else streaming_floor_s(groups, listed) * 1e3,
    }
    found: dict[str, float | None] = {
        "step_context": float(work["context"]),
        "probe_copy_bytes_per_s": reached.bytes_per_s,
        "probe_wide_flops_per_s": reached.wide_flops,
        "probe_fp8_flops_per_s": reached.fp8_flops,
    }
    for name, floor_ms in floors.items():
        found[f"{name}_floor_ms"] = floor_ms
        known = floor_ms is not None and step_ms
        found[f"{name}_floor_share"] = floor_ms / step_ms if known else None
    fused, fused_ms = work.get(FUSED), row.get("fused_ms")
    distinct = row.get("fused_distinct_experts_per_layer")
    if fused is not None and distinct is not None and fused_ms:
        floor_ms = op_floor_s(_touching(distinct, fused), reached) * 1e3
        found |= {"fused_op_floor_ms": floor_ms, "fused_op_floor_share": floor_ms / fused_ms}
    return found


def _touching(distinct_experts: float, work: Mapping[str, Any]) -> list[StoredGroup]:
    """Stored op groups of a forward that touches so many experts a layer."""
    groups = [StoredGroup(**group) for group in work["groups"]]
    touched_bytes = distinct_experts * work["expert_bytes"]
    return [
        replace(g, weight_bytes=g.weight_bytes + touched_bytes) if g.name == "experts" else g
        for g in groups
    ]

"""One reading of the machine: plain numbers, nothing that names a person, host or program.

`at_s` is `time.perf_counter()` of the sampling process. On Linux that is CLOCK_MONOTONIC, which all
processes share (macOS: the host's absolute time), so samples and the windows that the measuring
process times with `perf_counter` lie on one axis. On Linux `time.monotonic` reads the same clock.

Counters (`energy_j`, `cpu_energy_j`, `cpu_busy_s`, `own_cpu_s`, `sampler_cpu_s`, ECC counts) only
mean something as differences. Whatever cannot be read is None.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntFlag
from functools import reduce
from itertools import pairwise
from operator import or_


class ThrottleReason(IntFlag):
    """NVML's clocks event reasons, formerly throttle reasons; the bits are the driver's."""

    GPU_IDLE = 0x1
    APPLICATIONS_CLOCKS = 0x2
    SW_POWER_CAP = 0x4
    HW_SLOWDOWN = 0x8
    SYNC_BOOST = 0x10
    SW_THERMAL_SLOWDOWN = 0x20
    HW_THERMAL_SLOWDOWN = 0x40
    HW_POWER_BRAKE = 0x80
    DISPLAY_CLOCKS = 0x100
    BOARD_LIMIT = 0x200
    RELIABILITY = 0x400


def reason_names(mask: int) -> list[str]:
    """A bitmask's reasons by name; a bit without one is called by its number."""
    known = [reason.name.lower() for reason in ThrottleReason if reason & mask and reason.name]
    rest = mask & ~sum(ThrottleReason)
    return known + [f"bit_{bit}" for bit in range(rest.bit_length()) if rest >> bit & 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was read at one moment.

    Attributes:
        at_s: when, on the clock described above.
        gpu_index: the driver's number of the device, which no environment variable changes.
        power_w: instantaneous where the driver has it, else its own average (1 s on Ampere and
            later).
        energy_j: the driver's total-energy counter.
        throttle_reasons: bitmask, see `ThrottleReason`.
        own_processes, foreign_processes: processes with a context on the device, inside and outside
            of the benchmark's process tree.
        foreign_memory_bytes: device memory that the foreign ones hold.
        cpu_busy_s: processor seconds used by anyone, over all cores, time stolen by a hypervisor
            included; from the sampler's start.
        own_cpu_s: processor seconds of the benchmark's process tree, this sampler included.
        cpu_clock_mean_mhz, cpu_clock_max_mhz: mean over all cores, and the fastest one.
        cpu_throttle_events: how often the processor lowered its clock for heat.
        cpu_energy_j: RAPL, all packages; rarely readable without root.
        sampler_cpu_s: processor seconds that the sampling itself has cost.
    """

    at_s: float
    gpu_index: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    gpu_temperature_c: int | None = None
    memory_temperature_c: int | None = None
    power_w: float | None = None
    energy_j: float | None = None
    power_limit_w: float | None = None
    throttle_reasons: int | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    gpu_memory_used_bytes: int | None = None
    gpu_utilisation_pct: int | None = None
    own_processes: int | None = None
    foreign_processes: int | None = None
    foreign_memory_bytes: int | None = None
    cpu_count: int | None = None
    cpu_busy_s: float | None = None
    own_cpu_s: float | None = None
    cpu_clock_mean_mhz: float | None = None
    cpu_clock_max_mhz: float | None = None
    cpu_temperature_c: float | None = None
    cpu_throttle_events: int | None = None
    cpu_energy_j: float | None = None
    memory_available_bytes: int | None = None
    swap_used_bytes: int | None = None
    sampler_cpu_s: float | None = None


NO_GPU = "no GPU readings"
"""How the sampling process begins its line on standard error when it cannot read the device."""

_NAMES = tuple(field.name for field in fields(Sample))


def encode(sample: Sample) -> bytes:
    """A sample as one line."""
    return json.dumps([getattr(sample, name) for name in _NAMES]).encode() + b"\n"


def decode(line: bytes) -> Sample:
    """What `encode` wrote."""
    return Sample(**dict(zip(_NAMES, json.loads(line), strict=True)))


def window(samples: Iterable[Sample], begin_s: float, end_s: float) -> list[Sample]:
    """The samples taken from `begin_s` to `end_s`, both included."""
    return [sample for sample in samples if begin_s <= sample.at_s <= end_s]


def known(samples: Iterable[Sample], name: str) -> list[float]:
    """A field's readings without the unknown ones, in order."""
    return [value for sample in samples if (value := getattr(sample, name)) is not None]


def reasons_seen(samples: Iterable[Sample]) -> int | None:
    """Every throttle reason that was active at some time, None if none of the samples knows any."""
    masks = [s.throttle_reasons for s in samples if s.throttle_reasons is not None]
    return reduce(or_, masks) if masks else None


def increase(samples: Sequence[Sample], name: str) -> float | None:
    """How far a counter went from the first to the last sample that know it.

    None with fewer than two of them, or if it went back in between (it was reset).
    """
    values = known(samples, name)
    if len(values) < 2 or any(b < a for a, b in pairwise(values)):
        return None
    return values[-1] - values[0]

"""Whether a window's numbers can be believed: clean, capped, throttled, shared or unknown."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from operator import or_
from statistics import median

from bench.telemetry.sample import Sample, ThrottleReason, increase, known, reason_names

SLOWDOWN = (
    ThrottleReason.HW_SLOWDOWN
    | ThrottleReason.SW_THERMAL_SLOWDOWN
    | ThrottleReason.HW_THERMAL_SLOWDOWN
    | ThrottleReason.HW_POWER_BRAKE
)
"""Heat or a fault slows the device: one sample of it invalidates the window."""
CAP = ThrottleReason.SW_POWER_CAP | ThrottleReason.BOARD_LIMIT
"""The device stays within its power: normal for H100 and H200 at a batch, so told but valid."""
MIN_SAMPLES = 3
"""Samples for a "clean"; a limit or a foreign process is told from one."""
MIN_KNOWN_SHARE = 0.5
"""Part of the samples that must know the throttle reasons: a device that stops answering in the
middle has not been seen to be clean."""
MAX_FOREIGN_LOAD_PCT = 5.0
"""Processor time of others, of all cores. A machine at rest stays below 3 %; what takes 5 % can
cost a run that uses all cores as much, more than the 2 % that a comparison is to tell apart."""
MIN_LOAD_WINDOW_S = 1.0
"""The kernel counts processor time in ticks of 10 ms: below a second they are percents."""
MIN_CLOCK_SHARE = 0.5
"""Fastest core's clock against the highest seen. Using all cores lowers the turbo clock to some 70
to 80 % by design; half of it is no design point. The fastest core, for cores at rest are slow."""
MIN_BUSY_CORES = 0.5
"""A processor with less to do than this may lower its clock to save power."""


class Condition(StrEnum):
    """The state of the machine in a window, the gravest first."""

    THROTTLED = "throttled"
    SHARED = "shared"
    CAPPED = "capped"
    UNKNOWN = "unknown"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition, why, and whether it makes the window's numbers a measurement fault.

    Throttling, a foreign process on the GPU and uncorrected memory errors are faults. Load of
    others on a processor is told and no fault: a laptop always has some.
    """

    condition: Condition
    reason: str
    invalidates: bool = False


def verdict(
    samples: Sequence[Sample], *, gpu: bool, peak_clock_mhz: float | None = None
) -> Verdict:
    """Judges the samples of one window.

    Args:
        gpu: the GPU is what was measured; False: the processor.
        peak_clock_mhz: the highest processor clock seen in the run; by default in the window.
    """
    if not samples:
        return Verdict(Condition.UNKNOWN, "no samples")
    findings = _gpu_findings(samples) if gpu else _cpu_findings(samples, peak_clock_mhz)
    order = list(Condition)
    findings.sort(key=lambda finding: order.index(finding.condition))
    return Verdict(
        findings[0].condition,
        "; ".join(finding.reason for finding in findings),
        any(finding.invalidates for finding in findings),
    )


def foreign_load_pct(samples: Sequence[Sample]) -> float | None:
    """Share of all cores that others used between the first and the last sample."""
    busy_s, own_s, capacity_s = _processor_time(samples)
    if busy_s is None or own_s is None or capacity_s is None:
        return None
    return 100 * min(max(busy_s - own_s, 0.0) / capacity_s, 1.0)


def load_pct(samples: Sequence[Sample]) -> float | None:
    """Share of all cores that anyone used."""
    busy_s, _, capacity_s = _processor_time(samples)
    return None if busy_s is None or capacity_s is None else 100 * min(busy_s / capacity_s, 1.0)


def peak_clock_mhz(samples: Sequence[Sample]) -> float | None:
    """The highest processor clock seen."""
    return max(known(samples, "cpu_clock_max_mhz"), default=None)


def _gpu_findings(samples: Sequence[Sample]) -> list[Verdict]:
    masks = [s.throttle_reasons for s in samples if s.throttle_reasons is not None]
    foreign = known(samples, "foreign_processes")
    errors = increase(samples, "ecc_uncorrected")
    found = []
    for condition, mask in ((Condition.THROTTLED, SLOWDOWN), (Condition.CAPPED, CAP)):
        if active := [m & mask for m in masks if m & mask]:
            names = ", ".join(reason_names(reduce(or_, active)))
            reason = f"{names} in {len(active)} of {len(samples)} samples"
            found.append(Verdict(condition, reason, condition is Condition.THROTTLED))
    if any(foreign):
        count = sum(map(bool, foreign))
        reason = f"up to {max(foreign):.0f} foreign processes on the GPU in {count} of "
        found.append(Verdict(Condition.SHARED, f"{reason}{len(samples)} samples", True))
    if errors:
        reason = f"uncorrected memory errors: {errors:.0f}"
        found.append(Verdict(Condition.UNKNOWN, reason, True))
    return found or [_gpu_without_findings(samples, len(masks))]


def _gpu_without_findings(samples: Sequence[Sample], num_masks: int) -> Verdict:
    if not num_masks:
        return Verdict(Condition.UNKNOWN, "the driver told no throttle reasons, or there is none")
    if num_masks < MIN_KNOWN_SHARE * len(samples):
        reason = f"throttle reasons known in {num_masks} of {len(samples)} samples"
        return Verdict(Condition.UNKNOWN, reason)
    if num_masks < MIN_SAMPLES:
        return Verdict(Condition.UNKNOWN, f"{num_masks} samples, fewer than {MIN_SAMPLES}")
    if not any(known(samples, "own_processes")):
        reason = "no limit active; sharing unchecked: the driver lists no process of this benchmark"
        return Verdict(Condition.CLEAN, reason)
    return Verdict(Condition.CLEAN, f"no limit active in {num_masks} samples")


def _cpu_findings(samples: Sequence[Sample], peak_mhz: float | None) -> list[Verdict]:
    found = []
    _, own_s, _ = _processor_time(samples)
    clocks = known(samples, "cpu_clock_max_mhz")
    events = increase(samples, "cpu_throttle_events")
    if events:
        reason = f"the processor lowered its clock for heat {events:.0f} times"
        found.append(Verdict(Condition.THROTTLED, reason, True))
    busy = own_s is not None and own_s >= MIN_BUSY_CORES * (samples[-1].at_s - samples[0].at_s)
    if clocks and busy:
        share = median(clocks) / max([*clocks, peak_mhz or 0.0])
        if share < MIN_CLOCK_SHARE:
            reason = f"the fastest core ran at {100 * share:.0f} % of the highest clock seen"
            found.append(Verdict(Condition.THROTTLED, reason, True))
    foreign_pct = foreign_load_pct(samples)
    if foreign_pct is not None and foreign_pct > MAX_FOREIGN_LOAD_PCT:
        reason = f"others used {foreign_pct:.1f} % of the processor"
        found.append(Verdict(Condition.SHARED, reason))
    if found:
        return found
    if foreign_pct is None:
        reason = f"load of others unknown: it needs {MIN_LOAD_WINDOW_S:g} s of samples"
        return [Verdict(Condition.UNKNOWN, reason)]
    return [Verdict(Condition.CLEAN, f"others used {foreign_pct:.1f} % of the processor")]


def _processor_time(
    samples: Sequence[Sample],
) -> tuple[float | None, float | None, float | None]:
    """Seconds used by anyone, by the benchmark, and that there were; None in too short a window."""
    if len(samples) < 2 or samples[-1].at_s - samples[0].at_s < MIN_LOAD_WINDOW_S:
        return None, None, None
    cores = samples[-1].cpu_count
    return (
        increase(samples, "cpu_busy_s"),
        increase(samples, "own_cpu_s"),
        cores * (samples[-1].at_s - samples[0].at_s) if cores else None,
    )

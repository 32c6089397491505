"""Samples and windows as table rows. The schema's key columns are added where tables are made."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from bench.telemetry.conditions import (
    MIN_LOAD_WINDOW_S,
    foreign_load_pct,
    load_pct,
    peak_clock_mhz,
    verdict,
)
from bench.telemetry.joules import energy
from bench.telemetry.sample import Sample, increase, known, reason_names, reasons_seen, window

Row = dict[str, Any]

COLUMNS: dict[str, str] = {
    "process_id": "int",
    "repeat": "int",
    "at_s": "float",
    "gpu_index": "int?",
    "sm_clock_mhz": "int?",
    "memory_clock_mhz": "int?",
    "gpu_temperature_c": "int?",
    "memory_temperature_c": "int?",
    "power_w": "float?",
    "energy_j": "float?",
    "power_limit_w": "float?",
    "throttle_reasons": "str?",
    "ecc_corrected": "int?",
    "ecc_uncorrected": "int?",
    "gpu_memory_used_bytes": "int?",
    "gpu_utilisation_pct": "int?",
    "own_processes": "int?",
    "foreign_processes": "int?",
    "foreign_memory_bytes": "int?",
    "cpu_load_pct": "float?",
    "cpu_foreign_load_pct": "float?",
    "cpu_clock_mean_mhz": "float?",
    "cpu_clock_max_mhz": "float?",
    "cpu_temperature_c": "float?",
    "cpu_throttle_events": "int?",
    "cpu_energy_j": "float?",
    "memory_available_bytes": "int?",
    "swap_used_bytes": "int?",
    "sampler_cpu_s": "float?",
}
"""The `telemetry` table: one row a sample. `throttle_reasons` holds names joined by "|", empty when
none is active. Loads are means over the second before."""

WINDOW_COLUMNS: dict[str, str] = {
    "condition": "str",
    "condition_reason": "str",
    "condition_invalidates": "bool",
    "window_s": "float",
    "num_samples": "int",
    "temperature_begin_c": "float?",
    "temperature_end_c": "float?",
    "sm_clock_mean_mhz": "float?",
    "sm_clock_min_mhz": "float?",
    "sm_clock_max_mhz": "float?",
    "memory_clock_mean_mhz": "float?",
    "power_mean_w": "float?",
    "power_limit_w": "float?",
    "throttle_reasons": "str?",
    "ecc_corrected": "int?",
    "ecc_uncorrected": "int?",
    "foreign_processes_max": "int?",
    "cpu_load_pct": "float?",
    "cpu_foreign_load_pct": "float?",
    "cpu_clock_mean_mhz": "float?",
    "swap_used_max_bytes": "int?",
    "joules": "float?",
    "joules_integrated": "float?",
    "energy_reason": "str?",
    "sampler_cpu_pct": "float?",
}
"""A window's summary. Temperatures are those of what was measured: the GPU, or the processor."""


def sample_rows(
    samples: Sequence[Sample], *, origin_s: float, process_id: int, repeat: int
) -> list[Row]:
    """One row a sample.

    Args:
        origin_s: the moment that `at_s` counts from, for one the start of the run.
    """
    rows = []
    first = 0
    for index, sample in enumerate(samples):
        while first < index and samples[first + 1].at_s <= sample.at_s - MIN_LOAD_WINDOW_S:
            first += 1
        second = samples[first : index + 1]
        values = asdict(sample)
        values |= {
            "process_id": process_id,
            "repeat": repeat,
            "at_s": sample.at_s - origin_s,
            "throttle_reasons": _joined(sample.throttle_reasons),
            "cpu_load_pct": load_pct(second),
            "cpu_foreign_load_pct": foreign_load_pct(second),
        }
        rows.append({name: values[name] for name in COLUMNS})
    return rows


def window_row(samples: Sequence[Sample], begin_s: float, end_s: float, *, gpu: bool) -> Row:
    """What the machine did from `begin_s` to `end_s`.

    Args:
        samples: all of a run, in order: energy needs those on both sides of the window.
        gpu: the GPU is what was measured; False: the processor.
    """
    inside = window(samples, begin_s, end_s)
    judged = verdict(inside, gpu=gpu, peak_clock_mhz=peak_clock_mhz(samples))
    used = energy(samples, begin_s, end_s, gpu=gpu)
    temperatures = known(inside, "gpu_temperature_c" if gpu else "cpu_temperature_c")
    sm_clocks = known(inside, "sm_clock_mhz")
    sampling_s = increase(inside, "sampler_cpu_s")
    covered_s = inside[-1].at_s - inside[0].at_s if inside else 0.0
    return {
        "condition": str(judged.condition),
        "condition_reason": judged.reason,
        "condition_invalidates": judged.invalidates,
        "window_s": end_s - begin_s,
        "num_samples": len(inside),
        "temperature_begin_c": temperatures[0] if temperatures else None,
        "temperature_end_c": temperatures[-1] if temperatures else None,
        "sm_clock_mean_mhz": _mean(sm_clocks),
        "sm_clock_min_mhz": min(sm_clocks, default=None),
        "sm_clock_max_mhz": max(sm_clocks, default=None),
        "memory_clock_mean_mhz": _mean(known(inside, "memory_clock_mhz")),
        "power_mean_w": _mean(known(inside, "power_w")),
        "power_limit_w": min(known(inside, "power_limit_w"), default=None),
        "throttle_reasons": _joined(reasons_seen(inside)),
        "ecc_corrected": increase(inside, "ecc_corrected"),
        "ecc_uncorrected": increase(inside, "ecc_uncorrected"),
        "foreign_processes_max": max(known(inside, "foreign_processes"), default=None),
        "cpu_load_pct": load_pct(inside),
        "cpu_foreign_load_pct": foreign_load_pct(inside),
        "cpu_clock_mean_mhz": _mean(known(inside, "cpu_clock_mean_mhz")),
        "swap_used_max_bytes": max(known(inside, "swap_used_bytes"), default=None),
        "joules": used.joules,
        "joules_integrated": used.integrated_j,
        "energy_reason": used.reason,
        "sampler_cpu_pct": None if sampling_s is None else 100 * sampling_s / covered_s,
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _joined(mask: int | None) -> str | None:
    return None if mask is None else "|".join(reason_names(mask))

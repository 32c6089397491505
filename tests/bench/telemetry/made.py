"""Samples made by hand."""

from collections.abc import Callable
from typing import Any

from bench.telemetry import Sample

Of = Callable[[float], Any]


def gpu_samples(seconds: float = 10.0, interval_s: float = 0.1, **fields: Any) -> list[Sample]:
    """A clean device at 400 W from 0 s on; a field may be a function of the time."""
    healthy: dict[str, Any] = {
        "gpu_index": 0,
        "sm_clock_mhz": 1980,
        "gpu_temperature_c": 50,
        "power_w": 400.0,
        "energy_j": lambda at_s: 5000 + 400 * at_s,
        "power_limit_w": 700.0,
        "throttle_reasons": 0,
        "ecc_corrected": 0,
        "ecc_uncorrected": 0,
        "own_processes": 1,
        "foreign_processes": 0,
    }
    return _series(seconds, interval_s, healthy | fields)


def cpu_samples(seconds: float = 10.0, interval_s: float = 0.1, **fields: Any) -> list[Sample]:
    """Four cores, one of them busy with the benchmark."""
    healthy: dict[str, Any] = {
        "cpu_count": 4,
        "cpu_busy_s": lambda at_s: at_s,
        "own_cpu_s": lambda at_s: at_s,
        "cpu_clock_mean_mhz": 2000.0,
        "cpu_clock_max_mhz": 4000.0,
        "sampler_cpu_s": lambda at_s: 0.005 * at_s,
    }
    return _series(seconds, interval_s, healthy | fields)


def _series(seconds: float, interval_s: float, fields: dict[str, Any]) -> list[Sample]:
    times = [round(i * interval_s, 6) for i in range(round(seconds / interval_s) + 1)]
    return [
        Sample(
            at_s=at_s,
            **{name: value(at_s) if callable(value) else value for name, value in fields.items()},
        )
        for at_s in times
    ]

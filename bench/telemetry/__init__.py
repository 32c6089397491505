"""The machine while it is measured: a sampler in its own process, and what its samples say.

    with Sampler(gpu=0) as sampler:
        begin_s = time.perf_counter()
        ...
        end_s = time.perf_counter()
        row = window_row(sampler.samples(until_s=end_s), begin_s, end_s, gpu=True)

Everything but `Sampler` is pure. No torch here, and the driver is spoken to in the sampler's
process alone.
"""

from bench.telemetry.conditions import (
    Condition,
    Verdict,
    foreign_load_pct,
    load_pct,
    peak_clock_mhz,
    verdict,
)
from bench.telemetry.joules import Energy, energy
from bench.telemetry.rows import COLUMNS, WINDOW_COLUMNS, sample_rows, window_row
from bench.telemetry.sample import Sample, ThrottleReason, reason_names, window
from bench.telemetry.sampler import INTERVAL_S, Sampler

__all__ = [
    "COLUMNS",
    "INTERVAL_S",
    "WINDOW_COLUMNS",
    "Condition",
    "Energy",
    "Sample",
    "Sampler",
    "ThrottleReason",
    "Verdict",
    "energy",
    "foreign_load_pct",
    "load_pct",
    "peak_clock_mhz",
    "reason_names",
    "sample_rows",
    "verdict",
    "window",
    "window_row",
]

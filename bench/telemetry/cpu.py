"""The processor and main memory: psutil, and the kernel's files where they are readable."""

from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench.telemetry.processes import OwnTree
from bench.telemetry.reading import Rationed, attempt

_SLOW_S = 1.0
"""Age allowed to clocks, temperature, memory: one file a core on some machines."""
_PACKAGE_SENSORS = {"coretemp": "Package", "k10temp": "Tctl", "zenpower": "Tctl"}
"""Sensor chips of x86 processors, and how the label of the whole package begins."""


class CpuReader:
    """Reads the processor fields of a sample.

    Args:
        sys: where the kernel's `/sys` is; replaced in tests.
    """

    def __init__(self, own: OwnTree, sys: Path = Path("/sys")) -> None:
        self._own, self._sys = own, sys
        self._count = psutil.cpu_count()
        self._busy_start_s, self._own_start_s = attempt(_busy_s) or 0.0, own.cpu_s()
        self._busy_s = 0.0
        self._rapl = _Rapl(sys / "class/powercap")
        self._slow = Rationed(self._read_slow, min_age_s=_SLOW_S)

    def read(self) -> dict[str, Any]:
        """The fields by name."""
        busy_s = attempt(_busy_s)
        if busy_s is not None:
            # Some hypervisors let the stolen time step back.
            self._busy_s = max(self._busy_s, busy_s - self._busy_start_s)
        return {
            "cpu_count": self._count,
            "cpu_busy_s": None if busy_s is None else self._busy_s,
            "own_cpu_s": self._own.cpu_s() - self._own_start_s,
            "cpu_energy_j": attempt(self._rapl.read_j),
            **(self._slow() or {}),
        }

    def _read_slow(self) -> dict[str, Any]:
        clocks = attempt(lambda: psutil.cpu_freq(percpu=True)) or []
        clocks_mhz = [clock.current for clock in clocks if clock.current > 0]
        return {
            "cpu_clock_mean_mhz": sum(clocks_mhz) / len(clocks_mhz) if clocks_mhz else None,
            "cpu_clock_max_mhz": max(clocks_mhz, default=None),
            "cpu_temperature_c": attempt(_package_temperature_c),
            "cpu_throttle_events": attempt(self._throttle_events),
            "memory_available_bytes": attempt(lambda: int(psutil.virtual_memory().available)),
            "swap_used_bytes": attempt(lambda: int(psutil.swap_memory().used)),
        }

    def _throttle_events(self) -> int | None:
        """Sum of the thermal counters of cores and packages; Intel only."""
        pattern = "devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count"
        counts = [int(path.read_text()) for path in self._sys.glob(pattern)]
        return sum(counts) if counts else None


class _Rapl:
    """The processor packages' energy counters as one that does not wrap."""

    def __init__(self, folder: Path) -> None:
        zones = [z for z in folder.glob("intel-rapl:*") if z.name.count(":") == 1]
        self._zones = [zone for zone in zones if attempt(partial(_uj, zone)) is not None]
        self._last = [_uj(zone) for zone in self._zones]
        self._total_uj = 0

    def read_j(self) -> float | None:
        """Joules since the start; None where no zone can be read."""
        if not self._zones:
            return None
        for index, zone in enumerate(self._zones):
            now = _uj(zone)
            if now < self._last[index]:
                self._total_uj += int((zone / "max_energy_range_uj").read_text())
            self._total_uj += now - self._last[index]
            self._last[index] = now
        return self._total_uj / 1e6


def _uj(zone: Path) -> int:
    return int((zone / "energy_uj").read_text())


def _busy_s() -> float:
    """Processor seconds not idle, over all cores; guests are part of user time already."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(getattr(times, name, 0.0) for name in names)


def _package_temperature_c() -> float | None:
    """The hottest package."""
    sensors = psutil.sensors_temperatures()
    found = [
        sensor.current
        for chip, label in _PACKAGE_SENSORS.items()
        for sensor in sensors.get(chip, [])
        if sensor.label.startswith(label)
    ]
    return max(found, default=None)

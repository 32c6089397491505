"""One GPU through NVML: each query by itself, None where it fails.

The functions used are in nvidia-ml-py 12.560 and in 13. `nvml` is that module or anything with the
same function names, which is how tests plant what no test machine has.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import psutil

from bench.telemetry.processes import OwnTree
from bench.telemetry.reading import Rationed, attempt

_CLOCK_SM, _CLOCK_MEM = 1, 2
_TEMPERATURE_GPU = 0
_ECC_CORRECTED, _ECC_UNCORRECTED = 0, 1
_ECC_VOLATILE = 0
_FIELD_MEMORY_TEMPERATURE = 82
_FIELD_POWER_INSTANT = 186
_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of NVML's value union by value type."""
_SLOW_S = 1.0
"""Age allowed to what changes rarely: ECC counts and the power limit."""


def open_gpu(module: str, gpu: int | str, own: OwnTree) -> "GpuReader":
    """The reader of one device.

    Args:
        module: name of the NVML module.
        gpu: the driver's index, or the device's UUID with or without its "GPU-" in front.

    Raises:
        ImportError: the module is missing.
        Exception: what NVML raises without a driver or such a device.
    """
    nvml = import_module(module)
    nvml.nvmlInit()
    if isinstance(gpu, int):
        return GpuReader(nvml, nvml.nvmlDeviceGetHandleByIndex(gpu), own)
    uuid = gpu if gpu.startswith(("GPU-", "MIG-")) else f"GPU-{gpu}"
    return GpuReader(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid), own)


class GpuReader:
    """Reads the GPU fields of a sample."""

    def __init__(self, nvml: Any, handle: Any, own: OwnTree) -> None:
        self._nvml, self._handle, self._own = nvml, handle, own
        self._index = self._ask("nvmlDeviceGetIndex")
        self._slow = Rationed(self._read_slow, min_age_s=_SLOW_S)
        self._processes = Rationed(self._read_processes)

    def read(self) -> dict[str, Any]:
        """The fields by name; energy and power first, as close to the time stamp as can be."""
        ask = self._ask
        energy_mj = ask("nvmlDeviceGetTotalEnergyConsumption")
        fields = self._read_fields()
        power_mw = fields.get(_FIELD_POWER_INSTANT)
        if power_mw is None:
            power_mw = ask("nvmlDeviceGetPowerUsage")
        temperature = ask("nvmlDeviceGetTemperature", _TEMPERATURE_GPU)
        if temperature is None:
            temperature = ask("nvmlDeviceGetTemperatureV", _TEMPERATURE_GPU)
        reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return {
            "gpu_index": self._index,
            "energy_j": _scaled(energy_mj),
            "power_w": _scaled(power_mw),
            "sm_clock_mhz": ask("nvmlDeviceGetClockInfo", _CLOCK_SM),
            "memory_clock_mhz": ask("nvmlDeviceGetClockInfo", _CLOCK_MEM),
            "gpu_temperature_c": temperature,
            "memory_temperature_c": int(fields.get(_FIELD_MEMORY_TEMPERATURE, 0)) or None,
            "throttle_reasons": reasons,
            "gpu_memory_used_bytes": ask("nvmlDeviceGetMemoryInfo", convert=lambda m: int(m.used)),
            "gpu_utilisation_pct": ask(
                "nvmlDeviceGetUtilizationRates", convert=lambda u: int(u.gpu)
            ),
            **(self._slow() or {}),
            **(self._processes() or {}),
        }

    def _ask(self, name: str, *arguments: int, convert: Callable[[Any], int] = int) -> int | None:
        return attempt(lambda: convert(getattr(self._nvml, name)(self._handle, *arguments)))

    def _read_fields(self) -> dict[int, float]:
        """Instantaneous power (mW) and memory temperature, where the device has them."""
        wanted = [_FIELD_POWER_INSTANT, _FIELD_MEMORY_TEMPERATURE]
        values = attempt(lambda: self._nvml.nvmlDeviceGetFieldValues(self._handle, wanted))
        found: dict[int, float] = {}
        for value in values or []:
            number = attempt(partial(_field_value, value))
            if number is not None:
                found[int(value.fieldId)] = number
        return found

    def _read_slow(self) -> dict[str, Any]:
        ecc = "nvmlDeviceGetTotalEccErrors"
        return {
            "power_limit_w": _scaled(self._ask("nvmlDeviceGetEnforcedPowerLimit")),
            "ecc_corrected": self._ask(ecc, _ECC_CORRECTED, _ECC_VOLATILE),
            "ecc_uncorrected": self._ask(ecc, _ECC_UNCORRECTED, _ECC_VOLATILE),
        }

    def _read_processes(self) -> dict[str, int | None]:
        """Counts and bytes alone leave this function."""
        listed = self._listed("nvmlDeviceGetComputeRunningProcesses")
        if listed is None:
            return {}
        graphics = self._listed("nvmlDeviceGetGraphicsRunningProcesses") or {}
        holders = listed | graphics
        own = [pid for pid in holders if self._own.owns(pid)]
        others = [pid for pid in holders if pid not in own]
        hidden = [pid for pid in others if not psutil.pid_exists(pid)]
        own_count, foreign_bytes = len(own), _total([holders[pid] for pid in others])
        if not own and hidden:
            # Inside a container some drivers give pids as the host counts them. The benchmark is on
            # the device while it is measured, so one of the pids unknown here stands for it.
            own_count = 1
            seen = [holders[pid] for pid in others if pid not in hidden]
            foreign_bytes = _total(seen) if len(hidden) == 1 else None
        return {
            "own_processes": own_count,
            "foreign_processes": len(own) + len(others) - own_count,
            "foreign_memory_bytes": foreign_bytes,
        }

    def _listed(self, name: str) -> dict[int, int | None] | None:
        """Memory (bytes) by pid; None where the query fails."""
        return attempt(
            lambda: {int(p.pid): p.usedGpuMemory for p in getattr(self._nvml, name)(self._handle)}
        )


def _field_value(value: Any) -> float | None:
    if value.nvmlReturn != 0:
        return None
    return float(getattr(value.value, _VALUE_MEMBERS[value.valueType]))


def _scaled(milli: float | None) -> float | None:
    return None if milli is None else milli / 1000


def _total(sizes: Sequence[int | None]) -> int | None:
    """Unknown as soon as one of them is."""
    return None if None in sizes else sum(size for size in sizes if size is not None)

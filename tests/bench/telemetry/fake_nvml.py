"""NVML without a driver: an idle, healthy device into which tests plant what they look for.

As a module it stands in for pynvml in the sampler's process, through `FakeNvml`'s methods.
"""

from types import SimpleNamespace
from typing import Any

import pynvml

HANDLE = "handle"
UUID = "GPU-00000000-1111-2222-3333-444444444444"


class FakeNvml:
    """pynvml's functions. `failing` names those that raise; other attributes are the readings."""

    def __init__(self, **planted: Any) -> None:
        self.failing: set[str] = set()
        self.power_mw = 400_000
        self.instant_power_mw: int | None = 420_000
        self.memory_temperature_c: int | None = 55
        self.energy_mj = 9_000_000
        self.reasons = 0
        self.ecc = {0: 3, 1: 0}
        self.compute: list[tuple[int, int | None]] = []
        self.graphics: list[tuple[int, int | None]] = []
        for name, value in planted.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "failing"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index != 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return HANDLE

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != UUID:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return HANDLE

    def nvmlDeviceGetIndex(self, handle: str) -> int:
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self.energy_mj

    def nvmlDeviceGetFieldValues(self, handle: str, wanted: list[int]) -> list[Any]:
        readings = {
            pynvml.NVML_FI_DEV_POWER_INSTANT: self.instant_power_mw,
            pynvml.NVML_FI_DEV_MEMORY_TEMP: self.memory_temperature_c,
        }
        return [_field(name, readings[name]) for name in wanted]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return self.power_mw

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return 700_000

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 48

    def nvmlDeviceGetTemperatureV(self, handle: str, sensor: int) -> int:
        return 48

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[kind]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        return self.reasons

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return self.reasons

    def nvmlDeviceGetTotalEccErrors(self, handle: str, kind: int, counter: int) -> int:
        assert counter == pynvml.NVML_VOLATILE_ECC
        return self.ecc[kind]

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(used=30 << 30)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return SimpleNamespace(gpu=97, memory=60)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.compute]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.graphics]


def _field(name: int, reading: int | None) -> Any:
    """The driver's own structure, so that its union and type codes are tested as well."""
    value = pynvml.c_nvmlFieldValue_t()
    value.fieldId = name
    if reading is None:
        value.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
    else:
        value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
        value.value.uiVal = reading
    return value


def __getattr__(name: str) -> Any:
    if name.startswith("nvml"):
        return getattr(FakeNvml(), name)
    raise AttributeError(name)

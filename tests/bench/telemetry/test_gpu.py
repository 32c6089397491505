"""One GPU through NVML, with everything planted that no test machine shows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pynvml
import pytest

from bench.telemetry import Sample, ThrottleReason, reason_names
from bench.telemetry.gpu import GpuReader, open_gpu
from bench.telemetry.processes import OwnTree
from tests.bench.telemetry.fake_nvml import HANDLE, UUID, FakeNvml

FAKE = "tests.bench.telemetry.fake_nvml"
QUERIES = {
    "nvmlDeviceGetTotalEnergyConsumption": {"energy_j"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_w"},
    "nvmlDeviceGetClockInfo": {"sm_clock_mhz", "memory_clock_mhz"},
    "nvmlDeviceGetFieldValues": {"memory_temperature_c"},
    "nvmlDeviceGetTotalEccErrors": {"ecc_corrected", "ecc_uncorrected"},
    "nvmlDeviceGetMemoryInfo": {"gpu_memory_used_bytes"},
    "nvmlDeviceGetUtilizationRates": {"gpu_utilisation_pct"},
    "nvmlDeviceGetIndex": {"gpu_index"},
    "nvmlDeviceGetComputeRunningProcesses": {
        "own_processes",
        "foreign_processes",
        "foreign_memory_bytes",
    },
}


def read(nvml: FakeNvml, own_pid: int | None = None) -> Sample:
    reader = GpuReader(nvml, HANDLE, OwnTree(own_pid or os.getpid()))
    return Sample(at_s=0.0, **reader.read())


def unknown(sample: Sample) -> set[str]:
    """GPU fields without a reading."""
    names = [n for n in Sample.__dataclass_fields__ if n not in ("at_s", "sampler_cpu_s")]
    return {
        n
        for n in names
        if getattr(sample, n) is None and not n.startswith(("cpu", "own_cpu", "memory_av", "swap"))
    }


@pytest.fixture
def child() -> Iterator[int]:
    """A child of this process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process.pid
    process.kill()
    process.wait()


def absent_pid() -> int:
    return max(psutil.pids()) + 100_000


def test_all_readings_arrive_in_their_units() -> None:
    sample = read(FakeNvml())
    assert unknown(sample) == set()
    assert (sample.sm_clock_mhz, sample.memory_clock_mhz) == (1980, 2619)
    assert (sample.gpu_temperature_c, sample.memory_temperature_c) == (48, 55)
    assert (sample.power_w, sample.power_limit_w, sample.energy_j) == (420.0, 700.0, 9000.0)
    assert (sample.ecc_corrected, sample.ecc_uncorrected) == (3, 0)
    assert (sample.gpu_memory_used_bytes, sample.gpu_utilisation_pct) == (30 << 30, 97)


def test_power_falls_back_to_the_drivers_average() -> None:
    assert read(FakeNvml(instant_power_mw=None)).power_w == 400.0
    assert read(FakeNvml(failing={"nvmlDeviceGetFieldValues"})).power_w == 400.0


@pytest.mark.parametrize("query", QUERIES)
def test_a_failing_query_costs_its_own_field_alone(query: str) -> None:
    assert unknown(read(FakeNvml(failing={query}))) == QUERIES[query]


@pytest.mark.parametrize(
    ("newer", "older", "field"),
    [
        (
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            "throttle_reasons",
        ),
        ("nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV", "gpu_temperature_c"),
    ],
)
def test_renamed_queries_stand_in_for_each_other(newer: str, older: str, field: str) -> None:
    assert getattr(read(FakeNvml(failing={newer})), field) is not None
    assert getattr(read(FakeNvml(failing={newer, older})), field) is None


def test_a_device_that_answers_nothing_gives_an_empty_sample() -> None:
    names = {name for name in dir(FakeNvml) if name.startswith("nvmlDevice")}
    sample = read(FakeNvml(failing=names))
    assert {"sm_clock_mhz", "power_w", "throttle_reasons", "foreign_processes"} <= unknown(sample)


def test_own_processes_and_children_are_not_foreign(child: int) -> None:
    sample = read(FakeNvml(compute=[(os.getpid(), 100), (child, 50)]))
    assert (sample.own_processes, sample.foreign_processes) == (2, 0)
    assert sample.foreign_memory_bytes == 0


def test_a_foreign_process_is_counted_once_with_its_memory(child: int) -> None:
    """Seen from the child, its parent and init are others; listed twice is still one process."""
    planted = [(child, 10), (os.getpid(), 700), (1, 20)]
    nvml = FakeNvml(compute=planted, graphics=[(1, 20)])
    sample = read(nvml, own_pid=child)
    assert (sample.own_processes, sample.foreign_processes) == (1, 2)
    assert sample.foreign_memory_bytes == 720


def test_a_foreign_graphics_process_counts(child: int) -> None:
    sample = read(FakeNvml(compute=[(child, 10)], graphics=[(1, 20)]), own_pid=child)
    assert (sample.own_processes, sample.foreign_processes) == (1, 1)
    assert sample.foreign_memory_bytes == 20


def test_foreign_memory_is_unknown_where_the_driver_does_not_tell(child: int) -> None:
    sample = read(FakeNvml(compute=[(child, 1), (1, None)]), own_pid=child)
    assert (sample.foreign_processes, sample.foreign_memory_bytes) == (1, None)


def test_pids_of_another_namespace_leave_one_for_the_benchmark() -> None:
    hidden = absent_pid()
    alone = read(FakeNvml(compute=[(hidden, 500)]))
    assert (alone.own_processes, alone.foreign_processes) == (1, 0)
    assert alone.foreign_memory_bytes == 0
    two = read(FakeNvml(compute=[(hidden, 500), (hidden + 1, 300)]))
    assert (two.own_processes, two.foreign_processes) == (1, 1)
    assert two.foreign_memory_bytes is None


def test_a_hidden_process_beside_our_own_is_foreign() -> None:
    sample = read(FakeNvml(compute=[(os.getpid(), 500), (absent_pid(), 300)]))
    assert (sample.own_processes, sample.foreign_processes) == (1, 1)
    assert sample.foreign_memory_bytes == 300


def test_a_device_is_found_by_index_and_by_uuid() -> None:
    own = OwnTree(os.getpid())
    for name in (0, UUID, UUID.removeprefix("GPU-")):
        assert open_gpu(FAKE, name, own).read()["gpu_index"] == 0
    for name in (1, "GPU-ffffffff"):
        with pytest.raises(pynvml.NVMLError):
            open_gpu(FAKE, name, own)


def test_reasons_are_the_drivers_bits() -> None:
    """The enumeration against the library's own constants."""
    ours: dict[str, Any] = {
        "GpuIdle": ThrottleReason.GPU_IDLE,
        "ApplicationsClocksSetting": ThrottleReason.APPLICATIONS_CLOCKS,
        "SwPowerCap": ThrottleReason.SW_POWER_CAP,
        "HwSlowdown": ThrottleReason.HW_SLOWDOWN,
        "SyncBoost": ThrottleReason.SYNC_BOOST,
        "SwThermalSlowdown": ThrottleReason.SW_THERMAL_SLOWDOWN,
        "HwThermalSlowdown": ThrottleReason.HW_THERMAL_SLOWDOWN,
        "HwPowerBrakeSlowdown": ThrottleReason.HW_POWER_BRAKE,
        "DisplayClockSetting": ThrottleReason.DISPLAY_CLOCKS,
    }
    for name, reason in ours.items():
        assert reason == getattr(pynvml, f"nvmlClocksEventReason{name}")
    assert reason_names(0) == []
    assert reason_names(0x4 | 0x20) == ["sw_power_cap", "sw_thermal_slowdown"]
    assert reason_names(0x8 | 1 << 40) == ["hw_slowdown", "bit_40"]


def test_the_fake_has_only_what_the_library_has() -> None:
    names = {name for name in dir(FakeNvml) if name.startswith("nvml")}
    newer = {"nvmlDeviceGetTemperatureV"}  # not in 12.560, which has what it replaces
    assert names - newer <= set(dir(pynvml))

"""What a window's samples say about it, each condition planted."""

import pytest

from bench.telemetry import (
    Condition,
    ThrottleReason,
    foreign_load_pct,
    load_pct,
    verdict,
    window,
)
from tests.bench.telemetry.made import cpu_samples, gpu_samples

FAULTS = [
    ThrottleReason.HW_SLOWDOWN,
    ThrottleReason.SW_THERMAL_SLOWDOWN,
    ThrottleReason.HW_THERMAL_SLOWDOWN,
    ThrottleReason.HW_POWER_BRAKE,
]


def once(value: int, otherwise: int = 0) -> object:
    """A field that holds `value` in the sample at 3 s alone."""
    return lambda at_s: value if at_s == 3.0 else otherwise


def test_a_quiet_device_is_clean() -> None:
    found = verdict(gpu_samples(), gpu=True)
    assert (found.condition, found.invalidates) == (Condition.CLEAN, False)
    assert found.reason == "no limit active in 101 samples"


@pytest.mark.parametrize("reason", FAULTS)
def test_one_sample_of_heat_invalidates(reason: ThrottleReason) -> None:
    found = verdict(gpu_samples(throttle_reasons=once(int(reason))), gpu=True)
    assert (found.condition, found.invalidates) == (Condition.THROTTLED, True)
    assert found.reason == f"{reason.name.lower()} in 1 of 101 samples"


def test_a_power_cap_is_told_and_valid() -> None:
    cap = int(ThrottleReason.SW_POWER_CAP)
    found = verdict(gpu_samples(throttle_reasons=lambda at_s: cap if at_s < 5 else 0), gpu=True)
    assert (found.condition, found.invalidates) == (Condition.CAPPED, False)
    assert found.reason == "sw_power_cap in 50 of 101 samples"


@pytest.mark.parametrize(
    "reason",
    [ThrottleReason.GPU_IDLE, ThrottleReason.APPLICATIONS_CLOCKS, ThrottleReason.RELIABILITY],
)
def test_other_reasons_leave_a_window_clean(reason: ThrottleReason) -> None:
    found = verdict(gpu_samples(throttle_reasons=int(reason)), gpu=True)
    assert found.condition is Condition.CLEAN


def test_a_foreign_process_invalidates() -> None:
    found = verdict(gpu_samples(foreign_processes=once(2)), gpu=True)
    assert (found.condition, found.invalidates) == (Condition.SHARED, True)
    assert found.reason == "up to 2 foreign processes on the GPU in 1 of 101 samples"


def test_the_gravest_condition_leads_and_all_are_told() -> None:
    mask = int(ThrottleReason.SW_POWER_CAP | ThrottleReason.HW_SLOWDOWN)
    found = verdict(gpu_samples(throttle_reasons=mask, foreign_processes=1), gpu=True)
    assert (found.condition, found.invalidates) == (Condition.THROTTLED, True)
    assert "foreign" in found.reason
    assert "sw_power_cap" in found.reason
    shared = verdict(gpu_samples(throttle_reasons=4, foreign_processes=1), gpu=True)
    assert (shared.condition, shared.invalidates) == (Condition.SHARED, True)


def test_uncorrected_memory_errors_invalidate_and_corrected_ones_do_not() -> None:
    grown = gpu_samples(ecc_uncorrected=lambda at_s: 7 + (at_s > 4))
    found = verdict(grown, gpu=True)
    assert (found.condition, found.invalidates) == (Condition.UNKNOWN, True)
    assert found.reason == "uncorrected memory errors: 1"
    assert verdict(window(grown, 5, 10), gpu=True).condition is Condition.CLEAN
    corrected = verdict(gpu_samples(ecc_corrected=lambda at_s: int(at_s)), gpu=True)
    assert corrected.condition is Condition.CLEAN


def test_nothing_known_is_unknown() -> None:
    assert verdict([], gpu=True).condition is Condition.UNKNOWN
    assert verdict([], gpu=False).condition is Condition.UNKNOWN
    no_driver = verdict(cpu_samples(), gpu=True)
    assert (no_driver.condition, no_driver.invalidates) == (Condition.UNKNOWN, False)


def test_a_clean_needs_enough_samples() -> None:
    assert verdict(gpu_samples(0.1), gpu=True).condition is Condition.UNKNOWN
    assert verdict(gpu_samples(0.2), gpu=True).condition is Condition.CLEAN
    dying = gpu_samples(throttle_reasons=lambda at_s: 0 if at_s < 4 else None)
    found = verdict(dying, gpu=True)
    assert found.condition is Condition.UNKNOWN
    assert found.reason == "throttle reasons known in 40 of 101 samples"


def test_a_hidden_process_list_is_said() -> None:
    for own in (0, None):
        found = verdict(gpu_samples(own_processes=own), gpu=True)
        assert found.condition is Condition.CLEAN
        assert "sharing unchecked" in found.reason


def test_loads_are_shares_of_all_cores() -> None:
    busy = cpu_samples(cpu_busy_s=lambda at_s: 2 * at_s, own_cpu_s=lambda at_s: 1.5 * at_s)
    assert load_pct(busy) == pytest.approx(50)
    assert foreign_load_pct(busy) == pytest.approx(12.5)
    assert foreign_load_pct(window(busy, 0, 0.9)) is None
    assert foreign_load_pct(cpu_samples(own_cpu_s=None)) is None


def test_ticks_that_favour_us_are_no_negative_load() -> None:
    assert foreign_load_pct(cpu_samples(own_cpu_s=lambda at_s: 1.01 * at_s)) == 0


@pytest.mark.parametrize(
    ("cores", "condition"), [(0.1, "clean"), (0.18, "clean"), (0.22, "shared")]
)
def test_load_of_others_above_the_bound_is_shared(cores: float, condition: str) -> None:
    samples = cpu_samples(cpu_busy_s=lambda at_s: (1 + cores) * at_s)
    found = verdict(samples, gpu=False)
    assert (found.condition, found.invalidates) == (condition, False)
    assert f"{100 * cores / 4:.1f} %" in found.reason


def test_a_short_window_on_a_processor_is_unknown() -> None:
    assert verdict(cpu_samples(0.5), gpu=False).condition is Condition.UNKNOWN


def test_a_clock_that_halves_under_load_is_throttled() -> None:
    slow = cpu_samples(cpu_clock_max_mhz=1900.0)
    found = verdict(slow, gpu=False, peak_clock_mhz=4000.0)
    assert (found.condition, found.invalidates) == (Condition.THROTTLED, True)
    assert "48 %" in found.reason
    turbo = cpu_samples(cpu_clock_max_mhz=2900.0)
    assert verdict(turbo, gpu=False, peak_clock_mhz=4000.0).condition is Condition.CLEAN
    assert verdict(slow, gpu=False).condition is Condition.CLEAN


def test_a_clock_that_drops_at_rest_is_none() -> None:
    idle = cpu_samples(
        cpu_busy_s=lambda at_s: 0.1 * at_s,
        own_cpu_s=lambda at_s: 0.1 * at_s,
        cpu_clock_max_mhz=800.0,
    )
    assert verdict(idle, gpu=False, peak_clock_mhz=4000.0).condition is Condition.CLEAN


def test_the_processors_own_heat_counter_is_believed() -> None:
    found = verdict(cpu_samples(cpu_throttle_events=lambda at_s: 9 + int(at_s > 5)), gpu=False)
    assert (found.condition, found.invalidates) == (Condition.THROTTLED, True)
    steady = verdict(cpu_samples(cpu_throttle_events=9), gpu=False)
    assert steady.condition is Condition.CLEAN

"""Joules of a window: the counter, its cross-check, and every reason to have none."""

import pytest

from bench.telemetry import energy
from tests.bench.telemetry.made import cpu_samples, gpu_samples


def test_counter_and_power_that_agree_give_joules() -> None:
    found = energy(gpu_samples(12), 2.0, 10.0, gpu=True)
    assert found.joules == pytest.approx(3200)
    assert found.integrated_j == pytest.approx(3200)
    assert found.reason is None


def test_the_edges_are_interpolated() -> None:
    """A window between samples, on a device whose power rises: J = 50 (end^2 - begin^2)."""
    rising = gpu_samples(
        12, power_w=lambda at_s: 100 * at_s, energy_j=lambda at_s: 7 + 50 * at_s**2
    )
    found = energy(rising, 2.03, 9.97, gpu=True)
    assert found.joules == pytest.approx(50 * (9.97**2 - 2.03**2), rel=1e-3)
    assert found.integrated_j == pytest.approx(found.joules, rel=1e-3)


@pytest.mark.parametrize(
    ("factor", "valid"), [(0.94, False), (0.96, True), (1.04, True), (1.06, False)]
)
def test_sources_that_differ_invalidate(factor: float, valid: bool) -> None:
    found = energy(gpu_samples(power_w=400 * factor), 1.0, 9.0, gpu=True)
    assert found.integrated_j == pytest.approx(3200 * factor)
    assert (found.joules is not None) is valid
    assert (found.reason is None) is valid
    if not valid:
        assert f"{100 * (factor - 1):+.1f} %" in str(found.reason)


def test_a_short_window_has_no_energy() -> None:
    found = energy(gpu_samples(), 1.0, 5.99, gpu=True)
    assert found.joules is None
    assert found.reason == "the window is 4.99 s, below 5 s"
    assert energy(gpu_samples(), 1.0, 6.0, gpu=True).joules is not None


def test_a_counter_reset_in_the_window_invalidates_and_outside_does_not() -> None:
    reset = gpu_samples(20, energy_j=lambda at_s: 400 * at_s + (9000 if at_s < 7 else 0))
    found = energy(reset, 2.0, 12.0, gpu=True)
    assert found.joules is None
    assert found.reason == "the energy counter was reset"
    assert energy(reset, 8.0, 18.0, gpu=True).joules == pytest.approx(4000)


def test_a_counter_that_stands_still_is_none() -> None:
    found = energy(gpu_samples(energy_j=5000.0), 1.0, 9.0, gpu=True)
    assert (found.joules, found.reason) == (None, "the energy counter stood still")


@pytest.mark.parametrize(("begin_s", "end_s"), [(-1.0, 9.0), (1.0, 10.5)])
def test_a_window_that_samples_do_not_cover_has_none(begin_s: float, end_s: float) -> None:
    found = energy(gpu_samples(), begin_s, end_s, gpu=True)
    assert found.joules is None
    assert "both sides" in str(found.reason)


def test_no_counter_or_no_samples_is_none() -> None:
    found = energy(gpu_samples(energy_j=None), 1.0, 9.0, gpu=True)
    assert found.joules is None
    assert found.integrated_j == pytest.approx(3200)
    assert energy([], 1.0, 9.0, gpu=True).joules is None


def test_without_a_cross_check_the_joules_say_so() -> None:
    gap = gpu_samples(power_w=lambda at_s: None if 3 < at_s < 5 else 400.0)
    for samples in (gpu_samples(power_w=None), gap):
        found = energy(samples, 1.0, 9.0, gpu=True)
        assert found.joules == pytest.approx(3200)
        assert found.integrated_j is None
        assert "not cross-checked" in str(found.reason)


def test_lost_samples_do_not_change_the_counter() -> None:
    samples = [s for s in gpu_samples() if not 3 < s.at_s < 3.8]
    assert energy(samples, 1.0, 9.0, gpu=True).joules == pytest.approx(3200)


def test_a_processor_has_energy_where_its_counter_is_readable() -> None:
    found = energy(cpu_samples(cpu_energy_j=lambda at_s: 30 * at_s), 1.0, 9.0, gpu=False)
    assert found.joules == pytest.approx(240)
    assert found.reason == "not cross-checked: one source"
    assert energy(cpu_samples(), 1.0, 9.0, gpu=False).joules is None
    assert energy(gpu_samples(), 1.0, 9.0, gpu=False).joules is None

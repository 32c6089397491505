"""Table rows of samples and windows."""

import pandas as pd
import pandera.pandas as pa
import pytest

from bench.tables import _DTYPES
from bench.telemetry import (
    COLUMNS,
    WINDOW_COLUMNS,
    Sample,
    sample_rows,
    window_row,
)
from tests.bench.telemetry.made import cpu_samples, gpu_samples


def fits(rows: list[dict], columns: dict[str, str]) -> pd.DataFrame:
    """The rows under a strict schema made as bench.tables makes them."""
    wanted = {
        name: pa.Column(_DTYPES[kind], nullable=kind.endswith("?"))
        for name, kind in columns.items()
    }
    found = pd.DataFrame(rows, columns=list(columns))
    return pa.DataFrameSchema(wanted, strict=True, coerce=True).validate(found)


def test_samples_become_rows_of_the_declared_columns() -> None:
    samples = gpu_samples(1, throttle_reasons=4 | 0x20)
    rows = sample_rows(samples, origin_s=-5.0, process_id=2, repeat=3)
    assert all(list(row) == list(COLUMNS) for row in rows)
    table = fits(rows, COLUMNS)
    assert len(table) == 11
    assert table["at_s"].tolist()[:2] == [5.0, 5.1]
    assert set(table["throttle_reasons"]) == {"sw_power_cap|sw_thermal_slowdown"}
    assert set(table["process_id"]) == {2}
    assert set(table["repeat"]) == {3}
    assert table["cpu_load_pct"].isna().all()


def test_an_active_list_that_is_empty_is_not_an_unknown_one() -> None:
    quiet = sample_rows(gpu_samples(0.1), origin_s=0, process_id=0, repeat=0)
    assert quiet[0]["throttle_reasons"] == ""
    none = sample_rows(cpu_samples(0.1), origin_s=0, process_id=0, repeat=0)
    assert none[0]["throttle_reasons"] is None
    fits(none, COLUMNS)


def test_loads_are_of_the_second_before() -> None:
    """The others start at 2 s and use one of four cores."""
    samples = cpu_samples(4, cpu_busy_s=lambda at_s: at_s + max(0.0, at_s - 2))
    rows = sample_rows(samples, origin_s=0, process_id=0, repeat=0)
    by_time = {row["at_s"]: row for row in rows}
    assert by_time[0.9]["cpu_foreign_load_pct"] is None
    assert by_time[1.0]["cpu_load_pct"] == pytest.approx(25)
    assert by_time[2.0]["cpu_foreign_load_pct"] == pytest.approx(0)
    assert by_time[2.5]["cpu_foreign_load_pct"] == pytest.approx(12.5, abs=1.5)
    assert by_time[4.0]["cpu_foreign_load_pct"] == pytest.approx(25)


def test_one_sample_and_none_are_rows_too() -> None:
    assert sample_rows([], origin_s=0, process_id=0, repeat=0) == []
    assert len(sample_rows([Sample(at_s=1.0)], origin_s=0, process_id=0, repeat=0)) == 1


def test_a_windows_summary() -> None:
    samples = gpu_samples(
        12,
        gpu_temperature_c=lambda at_s: 40 + int(at_s),
        sm_clock_mhz=lambda at_s: 1980 if at_s < 6 else 1755,
        throttle_reasons=lambda at_s: 4 if at_s >= 6 else 1,
        ecc_corrected=lambda at_s: int(at_s > 3),
        memory_clock_mhz=2619,
    )
    row = window_row(samples, 2.0, 10.0, gpu=True)
    assert list(row) == list(WINDOW_COLUMNS)
    fits([row], WINDOW_COLUMNS)
    assert (row["condition"], row["condition_invalidates"]) == ("capped", False)
    assert (row["temperature_begin_c"], row["temperature_end_c"]) == (42, 50)
    assert (row["sm_clock_min_mhz"], row["sm_clock_max_mhz"]) == (1755, 1980)
    assert row["sm_clock_mean_mhz"] == pytest.approx((40 * 1980 + 41 * 1755) / 81)
    assert (row["power_mean_w"], row["power_limit_w"]) == (400, 700)
    assert (row["num_samples"], row["window_s"]) == (81, 8)
    assert row["throttle_reasons"] == "gpu_idle|sw_power_cap"
    assert (row["ecc_corrected"], row["ecc_uncorrected"]) == (1, 0)
    assert row["joules"] == pytest.approx(3200)
    assert row["energy_reason"] is None


def test_a_processors_summary() -> None:
    samples = cpu_samples(cpu_temperature_c=lambda at_s: 60.0 + at_s)
    row = window_row(samples, 1.0, 9.0, gpu=False)
    fits([row], WINDOW_COLUMNS)
    assert row["condition"] == "clean"
    assert (row["temperature_begin_c"], row["temperature_end_c"]) == (61, 69)
    assert row["sm_clock_mean_mhz"] is None
    assert row["throttle_reasons"] is None
    assert row["cpu_load_pct"] == pytest.approx(25)
    assert row["sampler_cpu_pct"] == pytest.approx(0.5)
    assert row["joules"] is None


def test_a_peak_outside_of_the_window_counts() -> None:
    samples = cpu_samples(cpu_clock_max_mhz=lambda at_s: 4000.0 if at_s < 1 else 1500.0)
    assert window_row(samples, 2.0, 9.0, gpu=False)["condition"] == "throttled"


def test_a_window_without_samples_is_unknown() -> None:
    row = window_row([], 1.0, 9.0, gpu=True)
    fits([row], WINDOW_COLUMNS)
    assert (row["condition"], row["num_samples"]) == ("unknown", 0)
    assert row["sampler_cpu_pct"] is None

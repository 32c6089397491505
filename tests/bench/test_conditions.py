"""What the machine did decides whether a point's numbers count; the unknown stays unknown."""

import pandas as pd
import pytest

from bench.conditions import faults, machine_row
from bench.summary import point_row
from bench.tables import COLUMNS, frame
from tests.bench.test_tables import KEYS, KNOBS, both, tables

CLEAN = dict.fromkeys(n for n in COLUMNS["windows"] if n not in KEYS and n != "schema_version")
CLEAN |= {"process_id": 0, "repeat": 0, "condition": "clean", "condition_reason": "no limit"}
CLEAN |= {"condition_invalidates": False, "window_s": 10.0, "num_samples": 100}
THROTTLED = CLEAN | {
    "condition": "throttled",
    "condition_reason": "HW_THERMAL_SLOWDOWN in 3 of 100 samples",
    "condition_invalidates": True,
}
SHARED = CLEAN | {
    "condition": "shared",
    "condition_reason": "up to 1 foreign processes on the GPU",
    "condition_invalidates": True,
}


def windows(*rows: dict[str, object]) -> pd.DataFrame:
    return frame("windows", [row | {"repeat": i} for i, row in enumerate(rows)], KEYS)


@pytest.mark.parametrize("planted", [THROTTLED, SHARED])
def test_a_bad_window_invalidates_the_point(planted: dict[str, object]) -> None:
    own = tables(both()) | {"windows": windows(CLEAN, planted)}
    found = point_row(own, KNOBS)
    assert found["condition"] == planted["condition"]
    assert found["validity"] == "invalid"
    assert str(planted["condition_reason"]) in found["validity_reason"]


def test_clean_windows_leave_it_valid_and_energy_unknown() -> None:
    own = tables(both()) | {"windows": windows(CLEAN, CLEAN)}
    found = point_row(own, KNOBS)
    assert (found["condition"], found["validity"]) == ("clean", "valid")
    assert found.get("joules_per_token") is None
    assert found["power_limit_w"] is None


def test_energy_is_summed_over_windows() -> None:
    requests = tables(both())["requests"]
    powered = [CLEAN | {"joules": 30.0, "power_mean_w": 3.0, "window_s": 10.0}] * 2
    found = machine_row(windows(*powered), requests)
    tokens = requests["delivered_tokens"].sum()
    assert found["joules_per_token"] == pytest.approx(60.0 / tokens)
    assert found["delivered_tok_per_s_per_w"] == pytest.approx(tokens / 60.0)
    assert found["power_mean_w"] == pytest.approx(3.0)
    unknown = machine_row(windows(powered[0], CLEAN), requests)
    assert unknown.get("joules_per_token") is None


def test_without_telemetry_the_condition_is_unknown() -> None:
    found = point_row(tables(both()), KNOBS)
    assert found["condition"] == "unknown"
    assert faults(windows(CLEAN)) == []


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"max_denoising_steps": 1}, "max_denoising_steps_without_effect"),
        ({"max_denoising_steps": 3, "early_stop": False}, "early_stop_without_effect"),
    ],
)
def test_a_knob_without_effect_invalidates_the_point(knobs: dict[str, object], reason: str) -> None:
    found = point_row(tables(both()), KNOBS | knobs)
    assert (found["validity"], found["validity_reason"]) == ("invalid", reason)

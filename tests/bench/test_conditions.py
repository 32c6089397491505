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
    reason = str(planted["condition_reason"]).replace("3 of 100", "3 of 200")  # of both windows
    assert found["condition_reason"] == reason
    assert found["validity_reason"] == f"{planted['condition']}: {reason}"


def busy(percent: float, condition: str = "shared") -> dict[str, object]:
    reason = f"others used {percent:.1f} % of the processor"
    return CLEAN | {"condition": condition, "condition_reason": reason}


def capped(samples: int, foreign: int) -> dict[str, object]:
    reason = f"sw_power_cap in {samples} of {samples} samples"
    more = f"; up to {foreign} foreign processes on the GPU in {foreign} of {samples} samples"
    said = reason + (more if foreign else "")
    return CLEAN | {"condition": "capped", "condition_reason": said, "num_samples": samples}


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        ([busy(6.0), busy(76.0), busy(3.5, "clean")], "others used 3.5 to 76.0 % of the processor"),
        ([busy(6.0), busy(6.0)], "others used 6.0 % of the processor"),
        ([capped(14, 0), capped(57, 0)], "sw_power_cap in 71 of 71 samples"),
        (
            [capped(14, 2), CLEAN, capped(6, 3)],
            "sw_power_cap in 20 of 120 samples; "
            "up to 3 foreign processes on the GPU in 5 of 120 samples",
        ),
        ([CLEAN], "no limit"),
    ],
)
def test_a_reason_tells_of_all_windows(planted: list[dict[str, object]], reason: str) -> None:
    assert machine_row(windows(*planted), tables(both())["requests"])["condition_reason"] == reason


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

"""The machine's state, what could be detected, and limits in words, on made-up points."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.preregistration import EXCLUSIONS, preregister
from bench.report.conditions import conditions_table, has_gpu_telemetry
from bench.report.detectable import detectable_change
from bench.report.notices import notices, reason_in_words
from bench.report.page import provenance
from bench.report.tables import sizes_table
from bench.report.view import View
from bench.stats import detectable_at_spread
from bench.telemetry import ThrottleReason, verdict
from tests.bench.report.synthetic import SyntheticRun
from tests.bench.telemetry.made import gpu_samples

GPU = {
    "condition": "capped",
    "condition_reason": "SW_POWER_CAP in 3 of 66 samples",
    "sm_clock_mean_mhz": 1979.6,
    "power_mean_w": 531.6,
    "power_limit_w": 700.0,
    "temperature_begin_c": 40.0,
    "temperature_end_c": 43.0,
    "joules_per_token": 1.0834,
    "host_share": 0.0027,
    "warmup_batches": 6,
    "warmup_stable": True,
    "peak_rss_bytes": 3 << 30,
    "peak_device_allocated_bytes": 25 << 30,
}
POINT = {
    "point_id": "diffusion-fp8",
    "config_hash": "a" * 12,
    "decoding": "diffusion",
    "precision": "fp8",
    "num_processes": 2,
    "num_repeats": 1,
    "num_prompts": 4,
    "validity": "valid",
}


def view(*points: dict[str, Any], requests: Any = None, info: Any = None) -> View:
    return View.of(
        SyntheticRun(Path(), info or {}, pd.DataFrame([POINT | p for p in points]), requests)
    )


def texts(made: View) -> tuple[list[str], list[list[str]]]:
    table = conditions_table(made)
    return [name for name, _ in table.header], [[c.text for c in row] for row in table.rows]


def test_every_reading_with_its_unit() -> None:
    header, (row,) = texts(view(GPU))
    told = dict(zip(header, row, strict=True))
    assert told["condition"] == "capped"
    assert told["reason"] == "SW_POWER_CAP in 3 of 66 samples"
    assert told["SM clock"] == "1,980"
    assert told["power"] == "532 / 700"
    assert told["temperature"] == "40 / 43"
    assert (told["energy"], told["host share"], told["warm-up"]) == ("1.08", "0.27", "6")
    assert (told["host memory"], told["device memory"]) == ("3.00", "25.0")
    assert "steady" in [cell.note for cell in conditions_table(view(GPU)).rows[0]]


def test_what_is_unknown_prints_as_such() -> None:
    _, rows = texts(view(GPU, {"power_mean_w": 300.0, "power_limit_w": None}))
    assert rows[1][2:] == ["n/a", "n/a", "n/a", "300 / n/a", *["n/a"] * 6]
    assert "nan" not in str(rows)


def test_a_run_without_gpu_telemetry_has_no_wall_of_unknowns() -> None:
    cpu = {"condition": "clean", "host_share": 0.1, "peak_rss_bytes": 1 << 30}
    made = view(cpu, cpu)
    assert not has_gpu_telemetry(made)
    header, rows = texts(made)
    assert not {"SM clock", "power", "temperature", "energy", "device memory"} & set(header)
    assert all(len(row) == len(header) for row in rows)


def requests(rates: list[float], prompts: int = 4) -> pd.DataFrame:
    """A process a rate, in tok/s."""
    rows = [
        {
            "point_id": POINT["point_id"],
            "config_hash": POINT["config_hash"],
            "process_id": process,
            "request_id": request,
            "repeat": 0,
            "delivered_tokens": 100,
            "first_delivery_tokens": 10,
            "first_canvas_s": 0.1 / rate,
            "last_delivery_s": 100 / rate,
            "wall_s": 100 / rate,
            "prefill_s": 0.01 / rate,
            "slots_committed": 128,
            "batch_size": 1,
        }
        for process, rate in enumerate(rates)
        for request in range(prompts)
    ]
    return pd.DataFrame(rows)


def test_the_detectable_change_is_found_with_the_stated_power() -> None:
    """Simulated t tests of two arms of eight reject as often as promised."""
    from scipy import stats

    rng, spread, n = np.random.default_rng(3), 0.02, 8
    shift = np.log1p(detectable_at_spread(spread, n, n))
    arms = rng.normal(0, spread, (2, 20_000, n))
    found = stats.ttest_ind(arms[0] + shift, arms[1], axis=1)
    hits = float(((found.pvalue < 0.05) & (found.statistic > 0)).mean())
    assert hits == pytest.approx(0.8, abs=0.01)


def test_the_spread_is_that_of_the_process_means() -> None:
    rates = [100.0, 104.0, 98.0, 101.0, 99.0]
    made = view({}, requests=requests(rates))
    found = detectable_change(made, made.points[0])
    spread = float(np.log(rates).std(ddof=1))
    assert found.value == pytest.approx(detectable_at_spread(spread, 5, 5))
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo < found.value < found.hi
    header = [name for name, _ in sizes_table(made).header]
    cell = sizes_table(made).rows[0][header.index("detectable")]
    assert float(cell.text) == pytest.approx(100 * found.value, rel=0.01)
    assert "power 0.8 at alpha 0.05" in sizes_table(made).caption


def test_two_processes_hardly_know_their_spread() -> None:
    made = view({}, requests=requests([100.0, 104.0]))
    assert "> 100" in sizes_table(made).rows[0][-1].note


@pytest.mark.parametrize("rows", [None, requests([100.0])])
def test_one_process_detects_nothing_known(rows: pd.DataFrame | None) -> None:
    made = view({"num_processes": 1}, requests=rows)
    assert detectable_change(made, made.points[0]).value is None
    assert sizes_table(made).rows[0][-1].text == "n/a"


def test_reasons_are_said_in_words() -> None:
    assert reason_in_words("") == ""
    assert reason_in_words("new_code") == "new_code"
    said = reason_in_words(
        "entropy_not_finite, throttled: heat, power in 2 of 9, shared: 1 foreign"
    )
    assert said.split("; ") == [
        f"{EXCLUSIONS['entropy_not_finite']} (entropy_not_finite)",
        f"{EXCLUSIONS['throttled']} (throttled: heat, power in 2 of 9)",
        f"{EXCLUSIONS['shared']} (shared: 1 foreign)",
    ]


def test_an_invalid_point_is_named_with_its_reason_in_words() -> None:
    made = view(POINT | {"validity": "invalid", "validity_reason": "ledger_does_not_sum"})
    (notice,) = notices(made)
    assert (notice.title, notice.serious) == ("Invalid point: diffusion fp8", True)
    assert "do not add up" in notice.text
    assert "every plot" in notice.text


def planned_info(processes: int = 2) -> dict[str, Any]:
    config = {"measure": {"num_processes": processes, "num_repeats": 1}}
    configs = {"diffusion-fp8": config | {"workload": {"num_prompts": 4}}}
    hashes = {"diffusion-fp8": "a" * 12}
    return {
        "finished": True,
        "config": configs,
        "config_hashes": hashes,
        "prompts_sha256": "cd",
        **preregister(configs, hashes, "cd"),
    }


def test_provenance_shows_the_plan_against_what_was_measured() -> None:
    rows = dict(provenance(view({}, info=planned_info())))
    assert "unchanged" in rows["preregistration sha256"]
    assert rows["planned n"] == "2 processes, 1 repeat, 4 prompts a point"
    assert rows["measured n"] == "as planned"
    assert not [n for n in notices(view({}, info=planned_info())) if "plan" in n.title]
    short = view({}, info=planned_info(8))
    assert dict(provenance(short))["measured n"] == "diffusion-fp8: 2 of 8 processes"
    assert "Not as planned" in [n.title for n in notices(short)]


def test_a_changed_plan_is_said_and_an_older_run_is_not_preregistered() -> None:
    info = planned_info()
    info["preregistration"]["bound"] = 0.2
    changed = view({}, info=info)
    assert "changed after the start" in dict(provenance(changed))["preregistration sha256"]
    assert "Preregistration changed" in [n.title for n in notices(changed) if n.serious]
    assert dict(provenance(view({})))["preregistration"] == "not preregistered"


def power_limit(made: View) -> str | None:
    """The lead of the serious notice of a power limit."""
    return next((n.lead for n in notices(made) if n.title == "Power limit" and n.serious), None)


def capped(until_s: float) -> str:
    """What a window says whose clocks the power limit held down at its begin."""
    cap = int(ThrottleReason.SW_POWER_CAP)
    samples = gpu_samples(throttle_reasons=lambda at_s: cap if at_s < until_s else 0)
    return verdict(samples, gpu=True).reason


def test_clocks_held_down_in_most_samples_are_a_serious_notice() -> None:
    said = power_limit(view(GPU | {"condition_reason": capped(9)}))
    assert said is not None
    assert "(diffusion fp8: sw_power_cap in 90 of 101 samples, 532 of 700 W)" in said
    assert power_limit(view(GPU | {"condition_reason": capped(4)})) is None
    assert power_limit(view(GPU | {"condition_reason": capped(9), "validity": "invalid"})) is None


def test_the_samples_of_every_window_count_and_only_limited_points_are_named() -> None:
    other = {"point_id": "autoregressive-fp8", "decoding": "autoregressive"}
    rows = [("diffusion-fp8", capped(9)), ("diffusion-fp8", capped(4))]
    rows += [("autoregressive-fp8", "no limit active in 101 samples")] * 2
    windows = pd.DataFrame(rows, columns=["point_id", "condition_reason"])
    points = view(GPU | {"condition_reason": capped(4)}, GPU | other | {"condition": "clean"})
    made = replace(points, tables={**points.tables, "windows": windows.assign(num_samples=101)})
    said = power_limit(made)
    assert said is not None
    assert "diffusion fp8: sw_power_cap in 130 of 202 samples" in said
    assert "autoregressive" not in said

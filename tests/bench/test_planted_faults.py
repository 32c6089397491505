"""Whole sweeps with planted faults: each spoils its own point, for the right reason, and no other.

The simulated backend plants them. A sweep's points differ in a step limit; the canvases take
`STEPS`, so only a lower limit changes anything and the others are twins but for their faults.
"""

import io
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from rich.console import Console

from bench import open_run
from bench.conditions import faults
from bench.report import print_summary
from bench.store import Run
from bench.sweep import run_sweep
from bench.tables import frame
from tests.bench.test_conditions import CLEAN, SHARED, THROTTLED
from tests.bench.test_tables import KEYS

PROMPTS, STEPS, BROKEN = 20, 4, 4  # BROKEN: the request that a fault of one request has
COMMON = [
    "model=tiny-diffusion",
    "precision=bf16",
    "threads=1",
    "backend=simulated",
    "backend.clock=virtual",
    f"backend.synthetic.steps=[{STEPS}]",
    f"workload.num_prompts={PROMPTS}",
    "measure.num_repeats=1",
    "measure.max_repairs=1",
    "measure.num_routing_prompts=0",
    "measure.min_warmup_prompts=0",
    "measure.max_warmup_prompts=0",
]


class Case(NamedTuple):
    """A point: its step limit, its fault, and what has to become of it (`reason` a pattern)."""

    limit: int
    fault: str | None
    validity: str
    reason: str
    condition: str = "clean"


Cases = dict[str, Case]

CASES = {
    "untouched": Case(48, None, "valid", ""),
    "throttle": Case(
        47,
        "kind:throttle,factor:3,request:12",
        "invalid",
        r"throttled: hw_thermal_slowdown in \d+ of \d+ samples",
        "throttled",
    ),
    "power_cap": Case(
        46, "kind:throttle,factor:3,request:12,reason:sw_power_cap", "valid", "", "capped"
    ),
    "foreign": Case(
        45,
        "kind:foreign_process,factor:1.5",
        "invalid",
        r"shared: up to 1 foreign processes on the GPU in (\d+) of \1 samples",
        "shared",
    ),
    "ledger": Case(
        44, f"kind:unbalanced_ledger,request_id:{BROKEN}", "invalid", "ledger_does_not_sum"
    ),
    "empty": Case(43, "kind:empty_answers,share:0.1", "low_validity", "10% of answers empty"),
    "one_empty": Case(42, "kind:empty_answers,share:0.05", "valid", ""),
    "limited": Case(3, None, "valid", ""),
    "inert": Case(
        2,
        "kind:inert_knob,knob:max_denoising_steps",
        "invalid",
        "max_denoising_steps_without_effect",
    ),
    "nan": Case(  # the lowest limit makes it the fastest, which a headline would name
        1, f"kind:non_finite_entropy,request_id:{BROKEN}", "invalid", "entropy_not_finite"
    ),
}
FORCED = {
    "empty": Case(5, "kind:empty_answers,share:0.5", "valid", ""),
    "inert": Case(6, "kind:inert_knob,knob:early_stop", "invalid", "early_stop_without_effect"),
}
"""With forced steps and an EOS that is ignored, where an empty answer is no loss."""


def point_id(case: Case) -> str:
    return f"diffusion-bf16-max_denoising_steps={case.limit}"


def sweep(folder: Path, cases: Cases, *overrides: str) -> Run:
    """One point a case, in one run."""
    limits = ",".join(str(case.limit) for case in cases.values())
    planted = ",".join(
        f"{{{case.fault},point:'{point_id(case)}'}}" for case in cases.values() if case.fault
    )
    swept = f"sampler.max_denoising_steps={limits}", f"backend.faults=[{planted}]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.sweep.render", lambda run: run.path)  # plots take seconds
        run_sweep([*COMMON, *swept, *overrides, f"run_dir={folder}"], default_sweep=True)
    return open_run(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return sweep(tmp_path_factory.mktemp("faults") / "run", CASES)


@pytest.fixture(scope="module")
def forced(tmp_path_factory: pytest.TempPathFactory) -> Run:
    given = ("sampler.early_stop=false", "workload.eos_policy=ignore", "workload.max_new_tokens=32")
    return sweep(tmp_path_factory.mktemp("forced") / "run", FORCED, *given)


def rows(run: Run, table: str, case: Case) -> pd.DataFrame:
    found = run.table(table)
    assert found is not None
    return found[found["point_id"] == point_id(case)]


def point(run: Run, case: Case) -> dict[str, Any]:
    (found,) = rows(run, "points", case).to_dict("records")
    return {str(name): None if pd.isna(value) else value for name, value in found.items()}


def assert_judged(run: Run, case: Case) -> None:
    found = point(run, case)
    assert found["validity"] == case.validity, found["validity_reason"]
    assert pd.Series([found["validity_reason"] or ""]).str.fullmatch(case.reason).all(), found
    assert found["condition"] == case.condition
    assert len(rows(run, "requests", case)) == PROMPTS  # kept, whatever is wrong with it
    assert found["delivered_tok_per_s"] > 0


@pytest.mark.parametrize("name", CASES)
def test_a_fault_spoils_its_point_for_its_own_reason(run: Run, name: str) -> None:
    assert_judged(run, CASES[name])


@pytest.mark.parametrize("name", FORCED)
def test_forced_steps_that_are_not_taken_are_found(forced: Run, name: str) -> None:
    assert_judged(forced, FORCED[name])


def test_the_sweep_went_through(run: Run) -> None:
    assert run.info["finished"] is True
    assert run.failures is None
    assert len(run.points) == len(CASES)


def test_throttling_and_company_stand_in_the_telemetry(run: Run) -> None:
    for name, column, value in (
        ("throttle", "throttle_reasons", "hw_thermal_slowdown"),
        ("power_cap", "throttle_reasons", "sw_power_cap"),
        ("foreign", "foreign_processes", 1),
    ):
        samples = rows(run, "telemetry", CASES[name])
        seen = samples[column] == value
        # From the 13th of 20 requests on they take three times as long; company was there always.
        assert seen.mean() == pytest.approx(24 / 36 if name != "foreign" else 1.0, abs=0.1)
        assert seen.iloc[-2]
        untouched = rows(run, "telemetry", CASES["untouched"])
        assert not (untouched[column] == value).any()
        assert point(run, CASES[name])["delivered_tok_per_s"] < 0.7 * fastest(run, "untouched")


def fastest(run: Run, *names: str) -> float:
    return max(float(point(run, CASES[name])["delivered_tok_per_s"]) for name in names)


def test_an_inert_limit_leaves_the_steps_and_one_that_works_cuts_them(run: Run) -> None:
    assert set(rows(run, "canvases", CASES["limited"])["steps"]) == {CASES["limited"].limit}
    for name in ("inert", "untouched"):
        assert set(rows(run, "canvases", CASES[name])["steps"]) == {STEPS}


def test_broken_entropies_stay_in_the_tables_as_unknown(run: Run) -> None:
    steps = rows(run, "steps", CASES["nan"])
    denoised = steps[steps["phase"] == "denoise"]
    broken = denoised["mean_entropy_nat"].isna()
    assert set(denoised[broken]["request_id"]) == {BROKEN}
    assert broken.sum() == (denoised["request_id"] == BROKEN).sum()
    assert denoised["accepted_slots"].notna().all()


def test_invalid_points_are_shown_and_left_out_of_what_is_said(run: Run) -> None:
    out = io.StringIO()
    print_summary(run, Console(file=out, width=2000))
    shown = out.getvalue()
    invalid = [name for name, case in CASES.items() if case.validity == "invalid"]
    assert shown.count("INVALID") == len(invalid)
    assert fastest(run, "nan") > 1.2 * fastest(run, *(set(CASES) - {"nan"}))
    assert shown.count("\nInvalid point: ") == len(invalid)
    (said,) = [line for line in shown.splitlines() if " delivered " in line and "tok/s" in line]
    assert f"delivered {fastest(run, *(set(CASES) - set(invalid))):.0f} tok/s" in said
    assert f"{fastest(run, 'nan'):.0f} tok/s" not in said


@pytest.mark.parametrize(("name", "lost"), [("empty", 2), ("one_empty", 1), ("untouched", 0)])
def test_empty_answers_stay_in_and_count_as_wrong(run: Run, name: str, lost: int) -> None:
    requests = rows(run, "requests", CASES[name])
    empty = requests["text"] == ""
    assert empty.sum() == lost
    assert not requests["correct"][empty].any()
    assert requests["correct"][~empty].all()
    found = point(run, CASES[name])
    assert found["accuracy"] == pytest.approx(1 - lost / PROMPTS)
    assert found["empty_share"] == pytest.approx(lost / PROMPTS)
    # They are in the speed as well: their tokens and their time.
    tokens, wall_s = requests["delivered_tokens"].sum(), requests["wall_s"].sum()
    assert found["delivered_tok_per_s"] == pytest.approx(tokens / wall_s)
    assert found["num_requests"] == PROMPTS


def test_empty_answers_are_no_loss_where_the_end_is_ignored(forced: Run) -> None:
    found = point(forced, FORCED["empty"])
    assert found["empty_share"] == 0.5
    assert found["truncated_share"] == 1.0


def test_two_different_bad_windows_are_both_told() -> None:
    windows = [CLEAN, SHARED, THROTTLED, SHARED]
    table = frame("windows", [row | {"repeat": i} for i, row in enumerate(windows)], KEYS)
    assert faults(table) == [
        f"shared: {SHARED['condition_reason']}",
        "throttled: HW_THERMAL_SLOWDOWN in 3 of 400 samples",
    ]

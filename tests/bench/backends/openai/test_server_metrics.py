"""A server's counters: parsed, commits left out, held against a run."""

import pytest

from bench.backends.openai.metrics import (
    COMMITTED,
    GENERATED,
    POSITIONS,
    STEPS,
    ServerWork,
    contradicts,
    server_work,
    totals,
)
from tests.bench.backends.openai.captured import page

BEFORE = {STEPS: 81.0, POSITIONS: 81.0 * 32, COMMITTED: 9.0 * 32, GENERATED: 288.0}


def test_vllms_page_after_24_canvases_of_four_steps() -> None:
    """Its step counter says 120: 24 x (4 + 1). 768 tokens committed, 756 of them generated."""
    after = totals(page("vllm_cpu_metrics_diffusion"), "dg")
    assert (after[STEPS], after[POSITIONS], after[COMMITTED]) == (120, 3840, 768)
    work = server_work({}, after, 32)
    assert (work.canvases, work.denoise_steps, work.steps_per_canvas) == (24, 96, 4.0)
    assert (work.reason, work.generated_tokens) == (None, 756)


def test_between_two_readings() -> None:
    after = totals(page("vllm_cpu_metrics_diffusion"))
    before = {STEPS: 40.0, POSITIONS: 1280.0, COMMITTED: 256.0, GENERATED: 250.0}
    work = server_work(before, after, 32)
    assert (work.canvases, work.denoise_steps, work.generated_tokens) == (16, 64, 506)


def test_another_models_samples_are_left_out() -> None:
    assert STEPS not in totals(page("vllm_cpu_metrics_diffusion"), "another")


def test_an_autoregressive_server_has_no_such_counters() -> None:
    after = totals(page("vllm_cpu_metrics_gemma4"))
    work = server_work({}, after, 32)
    assert (work.canvases, work.denoise_steps, work.steps_per_canvas) == (None, None, None)
    assert work.reason == "no_diffusion_counters"


@pytest.mark.parametrize(
    ("change", "canvas_length", "reason"),
    [
        ({STEPS: 1.0}, 32, "counters_went_back"),
        ({}, 48, "counters_do_not_fit_the_canvas_length"),
        ({POSITIONS: 5.0 * 32 + BEFORE[POSITIONS]}, 32, "counters_do_not_fit_the_canvas_length"),
    ],
)
def test_counters_that_make_no_sense(
    change: dict[str, float], canvas_length: int, reason: str
) -> None:
    grown = {STEPS: 85.0 + 6, POSITIONS: 91.0 * 32, COMMITTED: 11.0 * 32}
    work = server_work(BEFORE, grown | change, canvas_length)
    assert (work.canvases, work.reason) == (None, reason)


def test_labels_and_engines_are_summed() -> None:
    told = (
        "# HELP a b\n# TYPE a counter\n"
        'a_total{engine="0",model_name="m",path="x,\\"y\\"} z"} 1.5e1 1700000000\n'
        'a_total{engine="1",model_name="m"} 2\n\nb 3\n'
        'a_created{engine="1",model_name="m"} 1.7e9\nc{le="+Inf"} NaN\n'
    )
    found = totals(told, "m")
    assert (found["a_total"], found["b"]) == (17.0, 3.0)


@pytest.mark.parametrize("line", ["<html>", "a b c d", "a one"])
def test_no_page_of_metrics(line: str) -> None:
    with pytest.raises(ValueError, match="metrics line"):
        totals(line)


WORK = ServerWork(canvases=8, denoise_steps=32, reason=None, generated_tokens=250)


@pytest.mark.parametrize(
    ("canvases", "tokens", "cap", "forced", "expected"),
    [
        (8, 250, 4, True, []),
        (8, 250, 48, False, []),
        (None, None, None, True, []),
        (7, 250, 4, True, ["canvases_differ_from_the_servers"]),
        (8, 249, 4, True, ["tokens_differ_from_the_servers"]),
        (8, 250, 3, False, ["max_denoising_steps_without_effect"]),
        (8, 250, 5, True, ["early_stop_without_effect"]),
    ],
)
def test_what_counters_hold_against_a_run(
    canvases: int | None, tokens: int | None, cap: int | None, forced: bool, expected: list[str]
) -> None:
    found = contradicts(
        WORK, canvases=canvases, tokens=tokens, max_denoising_steps=cap, forced=forced
    )
    assert found == expected

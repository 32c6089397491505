"""The numbers of `vllm bench serve`, from our answers; by hand from its definitions."""

import json
from itertools import accumulate
from pathlib import Path

import pytest

from bench.backends.openai.events import Answer, Chunk, Failure
from bench.backends.openai.reconcile import vllm_bench_serve

RERUN = Path(__file__).parents[2] / "claims" / "data" / "h100_fp8_rerun_2026-08-03.json"


def answer(*times: float, failure: str | None = None) -> Answer:
    chunks = [Chunk(at_s, 1) for at_s in times]
    failed = None if failure is None else Failure(failure, "")
    return Answer(0, 64, sent_s=0.0, chunks=chunks, failure=failed)


def test_by_hand() -> None:
    """Two answers of 64 tokens in two canvases, one of a single token."""
    answers = [answer(0.5, 0.9), answer(0.7, 0.9), answer(0.2)]
    found = vllm_bench_serve(answers, [64, 64, 1], 2.0)
    assert (found.completed, found.total_output_tokens) == (3, 129)
    assert found.output_throughput == pytest.approx(64.5)
    assert found.mean_ttft_ms == pytest.approx(1400 / 3)
    assert found.median_ttft_ms == pytest.approx(500)
    assert found.mean_tpot_ms == pytest.approx(300 / 63)
    assert found.median_tpot_ms == pytest.approx(300 / 63)
    assert (found.mean_itl_ms, found.median_itl_ms) == (pytest.approx(300), pytest.approx(300))


def test_what_the_tool_printed_for_an_independent_run() -> None:
    """An H100's 100 requests of four canvases: its raw times give the numbers that it printed.

    The times are rounded to 0.1 ms (TTFT) and 0.01 ms (gaps).
    """
    told = json.loads(RERUN.read_text())
    printed = told["published_summary"]
    answers = [
        answer(*accumulate([ttft, *gaps]))
        for ttft, gaps in zip(told["ttft_s"], told["canvas_gap_s"], strict=True)
    ]
    found = vllm_bench_serve(answers, [1024] * 100, printed["duration_s"])
    assert found.output_throughput == pytest.approx(printed["output_throughput_tok_s"])
    assert found.median_ttft_ms == pytest.approx(printed["median_ttft_ms"], abs=0.1)
    assert found.median_tpot_ms == pytest.approx(printed["median_tpot_ms"], abs=1e-4)


def test_what_it_takes_for_an_answer() -> None:
    answers = [
        answer(0.5, failure="in_band_error"),
        answer(0.5, failure="no_finish_reason"),
        answer(0.5, failure="finish_abort"),
        answer(0.5, failure="reset"),
        answer(failure="http_500"),
        answer(),
    ]
    found = vllm_bench_serve(answers, [32] * 6, 1.0)
    assert (found.completed, found.total_output_tokens) == (3, 96)


def test_nothing_gives_nothing() -> None:
    found = vllm_bench_serve([], [], 0.0)
    assert found.completed == 0
    assert (found.output_throughput, found.mean_ttft_ms, found.median_itl_ms) == (None, None, None)

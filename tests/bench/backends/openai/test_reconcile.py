"""The numbers of `vllm bench serve` and AIPerf, from our answers: by hand from what they define."""

import json
import tracemalloc
from itertools import accumulate, repeat
from pathlib import Path

import pytest

from bench.backends.openai.events import Answer, Chunk, Failure
from bench.backends.openai.reconcile import AIPERF, VLLM, Seen, other_tools

RERUN = Path(__file__).parents[2] / "claims" / "data" / "h100_fp8_rerun_2026-08-03.json"


def seen(
    *times: float,
    tokens: int = 64,
    failure: str | None = None,
    sent_s: float = 0.0,
    role: bool = False,
) -> Seen:
    """An answer with a character an event, after an event without text where there is a role."""
    chunks = [Chunk(at_s, int(i > 0 or not role)) for i, at_s in enumerate(times)]
    failed = None if failure is None else Failure(failure, "")
    own = Answer(0, 64, sent_s=sent_s, chunks=chunks, failure=failed)
    return Seen.of(own, tokens, tokens)


def test_by_hand() -> None:
    """Two answers of 64 tokens in two canvases, one of a single token."""
    answers = [seen(0.5, 0.9), seen(0.7, 0.9), seen(0.2, tokens=1)]
    found = dict(other_tools(answers, 2.0)[VLLM])
    assert (found["Successful requests"], found["Total generated tokens"]) == (3, 129)
    assert found["Output token throughput (tok/s)"] == pytest.approx(64.5)
    assert found["Mean TTFT (ms)"] == pytest.approx(1400 / 3)
    assert found["Median TTFT (ms)"] == pytest.approx(500)
    assert found["Mean TPOT (ms)"] == pytest.approx(300 / 63)
    assert found["Median TPOT (ms)"] == pytest.approx(300 / 63)
    assert (found["Mean ITL (ms)"], found["Median ITL (ms)"]) == (
        pytest.approx(300),
        pytest.approx(300),
    )


def test_what_the_tool_printed_for_an_independent_run() -> None:
    """An H100's 100 requests of four canvases: its raw times give the numbers that it printed.

    The times are rounded to 0.1 ms (TTFT) and 0.01 ms (gaps).
    """
    told = json.loads(RERUN.read_text())
    printed = told["published_summary"]
    answers = [
        seen(*accumulate([ttft, *gaps]), tokens=1024)
        for ttft, gaps in zip(told["ttft_s"], told["canvas_gap_s"], strict=True)
    ]
    found = dict(other_tools(answers, printed["duration_s"])[VLLM])
    assert found["Output token throughput (tok/s)"] == pytest.approx(
        printed["output_throughput_tok_s"]
    )
    assert found["Median TTFT (ms)"] == pytest.approx(printed["median_ttft_ms"], abs=0.1)
    assert found["Median TPOT (ms)"] == pytest.approx(printed["median_tpot_ms"], abs=1e-4)


def test_what_it_takes_for_an_answer() -> None:
    answers = [
        seen(0.5, tokens=32, failure="in_band_error"),
        seen(0.5, tokens=32, failure="no_finish_reason"),
        seen(0.5, tokens=32, failure="finish_abort"),
        seen(0.5, tokens=32, failure="reset"),
        seen(failure="http_500"),
        seen(),
    ]
    found = dict(other_tools(answers, 1.0)[VLLM])
    assert (found["Successful requests"], found["Failed requests"]) == (3, 3)
    assert found["Total generated tokens"] == 96


def test_aiperf_by_hand() -> None:
    """A role's event is no chunk for it, and its time runs from the first request to the last text.

    The second answer is sent a second after the first; a failed one takes no time.
    """
    answers = [
        seen(0.1, 0.5, 0.9, 1.3, tokens=81, role=True),
        seen(0.5, 0.9, tokens=41, sent_s=1.0),
        seen(0.4, failure="in_band_error", sent_s=5.0),
    ]
    found = dict(other_tools(answers, 1.0)[AIPERF])
    assert (found["Request Count"], found["Error Request Count"]) == (2, 1)
    assert found["Time to First Token (ms), avg"] == pytest.approx(500)
    assert found["Time to Second Token (ms), avg"] == pytest.approx(400)
    assert found["Inter Token Latency (ms), avg"] == pytest.approx((800 / 80 + 400 / 40) / 2)
    assert found["Inter Chunk Latency (ms), avg"] == pytest.approx(400)
    assert found["Output Token Throughput Per User (tokens/sec/user), avg"] == pytest.approx(100)
    assert found["Output Token Throughput (tokens/sec)"] == pytest.approx(122 / 1.9)
    assert found["Request Throughput (requests/sec)"] == pytest.approx(2 / 1.9)
    assert found["Request Latency (ms), avg"] == pytest.approx(1100)


def test_nothing_gives_nothing() -> None:
    found = dict(other_tools([], 0.0)[VLLM])
    assert found["Successful requests"] == 0
    assert (found["Output token throughput (tok/s)"], found["Mean TTFT (ms)"]) == (None, None)
    assert dict(other_tools([seen(failure="reset")], 1.0)[AIPERF]) == {
        "Request Count": 0,
        "Error Request Count": 1,
    }


def test_gaps_of_a_long_load_lie_on_the_disk(tmp_path: Path) -> None:
    """Half a million of them, which as numbers in memory would be 4 MB."""
    one = seen(*(0.01 * i for i in range(501)), tokens=501)
    other_tools([one], 1.0, tmp_path)  # imports what it needs
    tracemalloc.start()
    try:
        found = other_tools(repeat(one, 1000), 1.0, tmp_path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 400_000
    vllm = dict(found[VLLM])
    assert (vllm["Mean ITL (ms)"], vllm["Median ITL (ms)"]) == (
        pytest.approx(10),
        pytest.approx(10),
    )
    assert dict(found[AIPERF])["Inter Chunk Latency (ms), avg"] == pytest.approx(10)
    assert list(tmp_path.iterdir()) == []

"""The numbers that `vllm bench serve` would print for our answers, so that the two can be lined up.

Theirs, not ours: its "inter-token latency" is the gap between two chunks, so between canvases where
a chunk holds one; its TPOT spreads the time after the first chunk over all tokens but one, though
that chunk brought many. Every event with a choice counts as a chunk, the one that only says the
role included. Tokens are those of a usage event without choices, else the text's. An answer that an
error event or a clean end cut short counts as completed, with the tokens it has. Source:
`async_request_openai_completions`, `async_request_openai_chat_completions`
(vllm/benchmarks/lib/endpoint_request_func.py) and `calculate_metrics` (vllm/benchmarks/serve.py) of
vLLM at commit 02cfb534.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from bench.backends.openai.events import Answer

_COMPLETED = ("in_band_error", "no_finish_reason")
"""Failures of ours that it takes for answers; with those of a finish reason it does not look at."""


@dataclass(frozen=True, slots=True)
class VllmBenchServe:
    """What `vllm bench serve` prints, under its names; None where it would have nothing to print.

    Attributes:
        completed: answers that it would count; it prints the others as failed.
    """

    completed: int
    total_output_tokens: int
    output_throughput: float | None
    mean_ttft_ms: float | None
    median_ttft_ms: float | None
    mean_tpot_ms: float | None
    median_tpot_ms: float | None
    mean_itl_ms: float | None
    median_itl_ms: float | None


def vllm_bench_serve(
    answers: Sequence[Answer], output_tokens: Sequence[int], duration_s: float
) -> VllmBenchServe:
    """Lines up a run.

    Args:
        output_tokens: of every answer, as the server reported them or its text has them.
        duration_s: from the first request sent to the last answer.
    """
    ttft_s: list[float] = []
    tpot_s: list[float] = []
    itl_s: list[float] = []
    total = 0
    for answer, tokens in zip(answers, output_tokens, strict=True):
        times = [chunk.at_s for chunk in answer.chunks]
        if not times or not _completed(answer):
            continue
        total += tokens
        ttft_s.append(times[0])
        if tokens > 1:
            tpot_s.append((times[-1] - times[0]) / (tokens - 1))
        itl_s += [later - earlier for earlier, later in pairwise(times)]
    return VllmBenchServe(
        completed=len(ttft_s),
        total_output_tokens=total,
        output_throughput=total / duration_s if duration_s > 0 else None,
        mean_ttft_ms=_ms(fmean, ttft_s),
        median_ttft_ms=_ms(median, ttft_s),
        mean_tpot_ms=_ms(fmean, tpot_s),
        median_tpot_ms=_ms(median, tpot_s),
        mean_itl_ms=_ms(fmean, itl_s),
        median_itl_ms=_ms(median, itl_s),
    )


def _completed(answer: Answer) -> bool:
    if answer.failure is None:
        return True
    reason = answer.failure.reason
    return reason in _COMPLETED or reason.startswith("finish_")


def _ms(statistic: Callable[[list[float]], float], values_s: list[float]) -> float | None:
    return statistic(values_s) * 1e3 if values_s else None

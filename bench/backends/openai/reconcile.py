"""The numbers that other tools would print for our answers, so that they can be lined up with ours.

Theirs, not ours. vLLM's "inter-token latency" is the gap between two chunks, so between canvases
where a chunk holds one; its TPOT, and AIPerf's inter-token latency, spread the time after the first
chunk over all tokens but one, though that chunk brought many. For vLLM every event with a choice is
a chunk, the one that only says the role included; for AIPerf those with text. vLLM counts an answer
that an error event or a clean end cut short as completed, with the tokens it has.

Sources: `async_request_openai_completions`, `async_request_openai_chat_completions`
(vllm/benchmarks/lib/endpoint_request_func.py) and `calculate_metrics` (vllm/benchmarks/serve.py) of
vLLM at commit 02cfb534; docs/metrics-reference.md and src/aiperf/metrics/types of AIPerf at commit
0176f594. AIPerf's handling of a stream that ends without a finish reason is assumed to be vLLM's.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from bench.backends.openai.events import Answer

VLLM, AIPERF = "vllm bench serve", "AIPerf"
_CUT_SHORT = ("in_band_error", "no_finish_reason")
"""Failures of ours that vLLM takes for answers; with those of a finish reason, which neither tool
looks at."""

Figures = list[tuple[str, float | None]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the tools need of an answer, in some bytes a chunk.

    Attributes:
        chunk_s: when each event with a choice arrived, since the request was sent.
        text_s: of these, the ones with text.
        tokens: as the server reported them, else as the text has them.
        text_tokens: as a tokenizer of the client's finds them, else as reported.
    """

    sent_s: float
    ended_s: float
    chunk_s: "array[float]"
    text_s: "array[float]"
    tokens: int
    text_tokens: int
    failure: str | None

    @classmethod
    def of(cls, answer: Answer, tokens: int, text_tokens: int) -> "Seen":
        return cls(
            answer.sent_s,
            answer.ended_s,
            array("d", (chunk.at_s for chunk in answer.chunks)),
            array("d", (chunk.at_s for chunk in answer.chunks if chunk.characters)),
            tokens,
            text_tokens,
            None if answer.failure is None else answer.failure.reason,
        )


def vllm_bench_serve(answers: Sequence[Seen], duration_s: float) -> Figures:
    """What `vllm bench serve` prints, under its names; None where it has nothing to print.

    Args:
        duration_s: from the first request sent to the end of the last.
    """
    done = [a for a in answers if a.chunk_s and _counts(a, _CUT_SHORT)]
    total = sum(a.tokens for a in done)
    tpot_s = [(a.chunk_s[-1] - a.chunk_s[0]) / (a.tokens - 1) for a in done if a.tokens > 1]
    return [
        ("Successful requests", len(done)),
        ("Failed requests", len(answers) - len(done)),
        ("Benchmark duration (s)", duration_s),
        ("Total generated tokens", total),
        ("Request throughput (req/s)", _over(len(done), duration_s)),
        ("Output token throughput (tok/s)", _over(total, duration_s)),
        *_mean_and_median("TTFT (ms)", [a.chunk_s[0] for a in done]),
        *_mean_and_median("TPOT (ms)", tpot_s),
        *_mean_and_median("ITL (ms)", _gaps(a.chunk_s for a in done)),
    ]


def aiperf(answers: Sequence[Seen]) -> Figures:
    """What AIPerf's table says of the same answers: averages, under its names.

    Its duration is from the first request sent to the last text of a valid answer.
    """
    done = [a for a in answers if a.text_s and _counts(a, ("no_finish_reason",))]
    if not done:
        return [("Request Count", 0), ("Error Request Count", len(answers))]
    itl_s = [(a.text_s[-1] - a.text_s[0]) / (a.text_tokens - 1) for a in done if a.text_tokens > 1]
    duration_s = max(a.sent_s + a.text_s[-1] for a in done) - min(a.sent_s for a in done)
    tokens = sum(a.text_tokens for a in done)
    return [
        ("Request Count", len(done)),
        ("Error Request Count", len(answers) - len(done)),
        ("Time to First Token (ms), avg", _ms(fmean, [a.text_s[0] for a in done])),
        (
            "Time to Second Token (ms), avg",
            _ms(fmean, [a.text_s[1] - a.text_s[0] for a in done if len(a.text_s) > 1]),
        ),
        ("Request Latency (ms), avg", _ms(fmean, [a.text_s[-1] for a in done])),
        ("Inter Token Latency (ms), avg", _ms(fmean, itl_s)),
        ("Inter Chunk Latency (ms), avg", _ms(fmean, _gaps(a.text_s for a in done))),
        (
            "Output Token Throughput Per User (tokens/sec/user), avg",
            fmean(rates) if (rates := [1 / each for each in itl_s if each > 0]) else None,
        ),
        ("Output Sequence Length (tokens), avg", tokens / len(done)),
        ("Output Token Throughput (tokens/sec)", _over(tokens, duration_s)),
        ("Request Throughput (requests/sec)", _over(len(done), duration_s)),
    ]


def _counts(answer: Seen, taken_for_answers: Sequence[str]) -> bool:
    reason = answer.failure
    return reason is None or reason in taken_for_answers or reason.startswith("finish_")


def _gaps(times_s: Iterable["array[float]"]) -> list[float]:
    return [later - earlier for each in times_s for earlier, later in pairwise(each)]


def _mean_and_median(name: str, values_s: list[float]) -> Figures:
    return [(f"Mean {name}", _ms(fmean, values_s)), (f"Median {name}", _ms(median, values_s))]


def _ms(statistic: Callable[[list[float]], float], values_s: list[float]) -> float | None:
    return statistic(values_s) * 1e3 if values_s else None


def _over(amount: float, seconds: float) -> float | None:
    return amount / seconds if seconds > 0 else None

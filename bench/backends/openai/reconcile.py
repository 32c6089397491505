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

import math
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

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


def other_tools(
    answers: Iterable[Seen], duration_s: float, folder: Path | None = None
) -> dict[str, Figures]:
    """What each tool would print of a load's answers, which are gone through once.

    Args:
        duration_s: from the first request sent to the end of the last.
        folder: on whose disk the gaps between chunks lie meanwhile, of which a long load has
            millions; None for the system's folder of temporary files.

    Raises:
        OSError: the disk is full.
    """
    with tempfile.TemporaryFile(dir=folder) as gaps_s:
        vllm, aiperf = _Vllm(gaps_s), _Aiperf()
        for answer in answers:
            vllm.add(answer)
            aiperf.add(answer)
        return {VLLM: vllm.figures(duration_s), AIPERF: aiperf.figures()}


class _Vllm:
    """`vllm bench serve`, under its names; None where it has nothing to print."""

    def __init__(self, gaps_s: IO[bytes]) -> None:
        self._asked = self._tokens = 0
        self._first_s, self._tpot_s, self._gaps_s = array("d"), array("d"), gaps_s

    def add(self, answer: Seen) -> None:
        times_s = answer.chunk_s
        self._asked += 1
        if not times_s or not _counts(answer, _CUT_SHORT):
            return
        self._tokens += answer.tokens
        self._first_s.append(times_s[0])
        if answer.tokens > 1:
            self._tpot_s.append((times_s[-1] - times_s[0]) / (answer.tokens - 1))
        self._gaps_s.write(np.diff(times_s).tobytes())

    def figures(self, duration_s: float) -> Figures:
        done = len(self._first_s)
        return [
            ("Successful requests", done),
            ("Failed requests", self._asked - done),
            ("Benchmark duration (s)", duration_s),
            ("Total generated tokens", self._tokens),
            ("Request throughput (req/s)", _over(done, duration_s)),
            ("Output token throughput (tok/s)", _over(self._tokens, duration_s)),
            *_mean_and_median("TTFT (ms)", self._first_s),
            *_mean_and_median("TPOT (ms)", self._tpot_s),
            *_mean_and_median("ITL (ms)", _mapped(self._gaps_s)),
        ]


class _Aiperf:
    """AIPerf's table: averages, under its names.

    Its duration is from the first request sent to the last text of a valid answer.
    """

    def __init__(self) -> None:
        self._asked = self._tokens = 0
        self._begin_s, self._end_s = math.inf, -math.inf
        self._first_s, self._second_s, self._last_s = array("d"), array("d"), array("d")
        self._itl_s, self._gaps, self._gaps_sum_s = array("d"), 0, 0.0

    def add(self, answer: Seen) -> None:
        times_s = answer.text_s
        self._asked += 1
        if not times_s or not _counts(answer, ("no_finish_reason",)):
            return
        self._tokens += answer.text_tokens
        self._begin_s = min(self._begin_s, answer.sent_s)
        self._end_s = max(self._end_s, answer.sent_s + times_s[-1])
        self._first_s.append(times_s[0])
        if len(times_s) > 1:
            self._second_s.append(times_s[1] - times_s[0])
        self._last_s.append(times_s[-1])
        if answer.text_tokens > 1:
            self._itl_s.append((times_s[-1] - times_s[0]) / (answer.text_tokens - 1))
        self._gaps += len(times_s) - 1
        self._gaps_sum_s += times_s[-1] - times_s[0]

    def figures(self) -> Figures:
        done, rates = len(self._first_s), array("d", (1 / s for s in self._itl_s if s > 0))
        if not done:
            return [("Request Count", 0), ("Error Request Count", self._asked)]
        duration_s = self._end_s - self._begin_s
        return [
            ("Request Count", done),
            ("Error Request Count", self._asked - done),
            ("Time to First Token (ms), avg", _mean_ms(self._first_s)),
            ("Time to Second Token (ms), avg", _mean_ms(self._second_s)),
            ("Request Latency (ms), avg", _mean_ms(self._last_s)),
            ("Inter Token Latency (ms), avg", _mean_ms(self._itl_s)),
            ("Inter Chunk Latency (ms), avg", _over(1e3 * self._gaps_sum_s, self._gaps)),
            (
                "Output Token Throughput Per User (tokens/sec/user), avg",
                float(np.mean(rates)) if rates else None,
            ),
            ("Output Sequence Length (tokens), avg", self._tokens / done),
            ("Output Token Throughput (tokens/sec)", _over(self._tokens, duration_s)),
            ("Request Throughput (requests/sec)", _over(done, duration_s)),
        ]


def _counts(answer: Seen, taken_for_answers: Sequence[str]) -> bool:
    reason = answer.failure
    return reason is None or reason in taken_for_answers or reason.startswith("finish_")


def _mapped(file: IO[bytes]) -> np.ndarray:
    """The numbers in a file, still there: sorting them sorts the file."""
    file.flush()
    if not file.tell():
        return np.empty(0)
    return np.memmap(file, np.float64, "r+")


def _mean_and_median(name: str, values_s: "array[float] | np.ndarray") -> Figures:
    mean_ms = _mean_ms(values_s)
    median_ms = float(np.median(values_s, overwrite_input=True)) * 1e3 if len(values_s) else None
    return [(f"Mean {name}", mean_ms), (f"Median {name}", median_ms)]


def _mean_ms(values_s: "array[float] | np.ndarray") -> float | None:
    return float(np.mean(values_s)) * 1e3 if len(values_s) else None


def _over(amount: float, seconds: float) -> float | None:
    return amount / seconds if seconds > 0 else None

"""What the harness adds to the engine: a request through it against the engine's bare loop.

    pytest tests/benchmarks/test_harness_overhead.py --benchmark-enable -s

The 50 M-parameter preset, one canvas of 8 forced steps, trace `positions`, in turn. The harness's
side answers through the backend, keeps the time and makes the request's table rows. The bar is a
ratio: at most 1.02. Nothing asserts on time.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from bench import rows
from bench.backends.native import NativeSession
from bench.requests import run_batch
from bench.workloads import Prompt
from model import DiffusionSampling, EosPolicy, TraceLevel, generate, load
from model.tiny.tokenizer import build_tokenizer

NUM_ROUNDS, LENGTH = 15, 256
FORCED = DiffusionSampling(max_denoising_steps=8, early_stop=False)


def seconds_of(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def test_harness_overhead(benchmark) -> None:
    torch.set_num_threads(2)
    loaded = replace(load("mini-diffusion", weights="dummy"), tokenizer=build_tokenizer())
    session = NativeSession(
        loaded=loaded,
        sampling=FORCED,
        max_new_tokens=LENGTH,
        eos_policy=EosPolicy.IGNORE,
        trace=TraceLevel.POSITIONS,
        seed=0,
    )
    prompt = Prompt(0, "edit", "edit a>b a cat ran=", "b cbt rbn")
    token_ids = session.encode(prompt.text)
    judge = rows.Judge(session.decode, session.vocabulary, frozenset({1}), None, lambda *_: True)

    def engine() -> None:
        for _ in generate(
            loaded.model,
            [token_ids],
            FORCED,
            max_new_tokens=LENGTH,
            eos_policy=EosPolicy.IGNORE,
            trace=TraceLevel.POSITIONS,
        ):
            pass

    def harness() -> int:
        (record,) = run_batch(session, [prompt], process_id=0, repeat=1)
        made = [rows.request_row(record, judge), *rows.canvas_rows(record)]
        return len(made) + len(rows.step_rows(record))

    assert harness() == 1 + 1 + 1 + 8  # request, canvas, prefill, steps
    engine()
    ratios = []
    for _ in range(NUM_ROUNDS if benchmark.enabled else 1):
        bare = seconds_of(engine)
        ratios.append(seconds_of(harness) / bare)
    benchmark.extra_info["harness_over_engine"] = statistics.median(ratios)
    print(dict(benchmark.extra_info))
    benchmark.pedantic(harness, rounds=3)

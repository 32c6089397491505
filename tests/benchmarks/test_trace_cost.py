"""What tracing costs: a denoise step of the 50 M-parameter preset at each trace level, interleaved.

    pytest tests/benchmarks/test_trace_cost.py --benchmark-enable -s

The bar is a ratio: `positions` at most 1.03 times `counts`. Nothing asserts on time.
"""

import statistics
import time

import torch

from model import DiffusionSampling, TraceLevel, generate, load
from model.sampling import BlockDelivered, StepDone

NUM_STEPS, NUM_ROUNDS = 4, 15


def canvas_seconds(loaded, level: TraceLevel) -> float:
    """One canvas from its first step until its delivery, trace included."""
    sampling = DiffusionSampling(max_denoising_steps=NUM_STEPS, early_stop=False)
    events = generate(
        loaded.model,
        [list(range(2, 66))],
        sampling,
        max_new_tokens=loaded.config.canvas_length,
        trace=level,
    )
    begin = 0.0
    for event in events:
        if isinstance(event, StepDone) and event.phase == "prefill":
            begin = time.perf_counter()
        if isinstance(event, BlockDelivered):
            return time.perf_counter() - begin
    raise AssertionError("no canvas was delivered")


def test_trace_cost(benchmark) -> None:
    torch.set_num_threads(2)
    loaded = load("mini-diffusion", weights="dummy")
    times: dict[TraceLevel, list[float]] = {level: [] for level in TraceLevel}
    for round_index in range(NUM_ROUNDS + 1 if benchmark.enabled else 1):
        for level in TraceLevel:
            seconds = canvas_seconds(loaded, level)
            if round_index or not benchmark.enabled:
                times[level].append(seconds)
    base = times[TraceLevel.COUNTS]
    for level, found in times.items():
        ratios = [a / b for a, b in zip(found, base, strict=True)]
        benchmark.extra_info[f"{level}_step_ms"] = statistics.median(found) / NUM_STEPS * 1e3
        benchmark.extra_info[f"{level}_over_counts"] = statistics.median(ratios)
    print(dict(benchmark.extra_info))
    benchmark.pedantic(canvas_seconds, (loaded, TraceLevel.POSITIONS), rounds=3)

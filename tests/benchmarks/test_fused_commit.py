"""What committing a canvas within the next one's first step saves: both ways in turn, in one run.

    pytest tests/benchmarks/test_fused_commit.py --benchmark-enable -s

A processor multiplies twice the rows in twice the time, so it saves calls alone; where reading the
weights takes the time, as on a GPU at batch 1, the saving is most of a forward a canvas. Nothing
asserts on time.
"""

import statistics
import time

import pytest
import torch

from model import DiffusionSampling, generate, load
from model.sampling import EosPolicy

NUM_CANVASES, NUM_ROUNDS = 5, 10


def request_seconds(loaded, num_steps: int, *, fused_commit: bool) -> float:
    """A request over several canvases, all denoised in so many steps."""
    begin = time.perf_counter()
    for _ in generate(
        loaded.model,
        [list(range(2, 62))],
        DiffusionSampling(max_denoising_steps=num_steps, early_stop=False),
        max_new_tokens=NUM_CANVASES * loaded.config.canvas_length,
        eos_policy=EosPolicy.IGNORE,
        fused_commit=fused_commit,
    ):
        pass
    return time.perf_counter() - begin


@pytest.mark.parametrize("num_steps", [3, 16])
def test_fused_commit(benchmark, num_steps: int) -> None:
    torch.set_num_threads(1)
    loaded = load("tiny-diffusion")
    ratios = []
    for round_index in range(NUM_ROUNDS + 1 if benchmark.enabled else 1):
        separate, fused, again, other = (
            request_seconds(loaded, num_steps, fused_commit=way)
            for way in (False, True, True, False)
        )
        if round_index or not benchmark.enabled:
            ratios.append((separate + other) / (fused + again))
    benchmark.extra_info["separate_over_fused"] = statistics.median(ratios)
    benchmark.extra_info["least_and_most"] = (min(ratios), max(ratios))
    print(num_steps, dict(benchmark.extra_info))
    benchmark.pedantic(
        request_seconds, (loaded, num_steps), {"fused_commit": True}, rounds=NUM_ROUNDS
    )

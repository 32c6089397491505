"""What both siblings of the tiny pair are asked, and what our engine answers."""

from collections.abc import Sequence
from functools import cache

import model as engine
from bench.backends.native import NativeSession
from bench.backends.openai.config import OpenAiConfig
from bench.records import RequestRecord
from bench.requests import run_batch
from bench.servers import Running
from bench.workloads import Prompt, make_workload

CANVAS, LIMIT, NUM_PROMPTS = 32, 64, 18


@cache
def prompts() -> tuple[Prompt, ...]:
    return make_workload("tiny", NUM_PROMPTS).prompts


def config(running: Running, decoding: str, **knobs: object) -> OpenAiConfig:
    known = {
        "url": running.url,
        "served_model": running.served_model,
        "canvas_length": CANVAS if decoding == "diffusion" else None,
    }
    return OpenAiConfig(**(known | knobs))  # type: ignore[arg-type]


@cache
def native(decoding: str) -> NativeSession:
    diffusion = decoding == "diffusion"
    return NativeSession(
        loaded=engine.load(f"tiny-{decoding}", precision="fp32"),
        sampling=engine.DiffusionSampling() if diffusion else engine.GreedySampling(),
        max_new_tokens=LIMIT,
        eos_policy=engine.EosPolicy.STOP,
        trace=engine.TraceLevel.COUNTS,
        seed=0,
    )


@cache
def ours(decoding: str) -> Sequence[RequestRecord]:
    return [r for p in prompts() for r in run_batch(native(decoding), [p], process_id=0, repeat=0)]

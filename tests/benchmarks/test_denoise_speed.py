"""Denoising with the tiny pair against `transformers`: same weights, same forced steps, fp32.

    pytest tests/benchmarks/test_denoise_speed.py --benchmark-enable -s

Batch 1, two threads, 2 canvases of 16 forced steps, prefill and commit included, all settings in
turn. Upstream runs with every implementation of its experts, both attentions and both caches; the
fastest of these is the bar's other side (a ratio: at least 5), compiled upstream stands beside it.
Nothing asserts on time.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

from model import DiffusionSampling, EosPolicy, generate, load
from model.sampling import BlockDelivered
from tests.model.upstream import generation_config, upstream_diffusion

NUM_STEPS, NUM_CANVASES = 16, 2
PROMPT = [2, *range(8, 64), *range(8, 15)]  # none of upstream's image tokens
NUM_ROUNDS = 15
FORCED = DiffusionSampling(
    max_denoising_steps=NUM_STEPS, stability_threshold=NUM_STEPS, early_stop=False
)
EXPERTS, ATTENTIONS, CACHES = (
    ("eager", "batched_mm", "grouped_mm"),
    ("eager", "sdpa"),
    ("dynamic", "static"),
)

Generation = Callable[[], int]
"""Generates once; returns the number of delivered tokens."""


def our_generation(execution: str) -> Generation:
    loaded = load("tiny-diffusion", execution=execution)
    assert loaded.config.canvas_length is not None
    limit = NUM_CANVASES * loaded.config.canvas_length

    def run() -> int:
        events = generate(
            loaded.model,
            [PROMPT],
            FORCED,
            max_new_tokens=limit,
            eos_policy=EosPolicy.IGNORE,
        )
        blocks = [event for event in events if isinstance(event, BlockDelivered)]
        assert [block.rows[0].steps for block in blocks] == [NUM_STEPS] * NUM_CANVASES
        return sum(len(block.rows[0].tokens) for block in blocks)

    return run


def upstream_generation(experts: str, attention: str, cache: str, *, compiled: bool) -> Generation:
    loaded = load("tiny-diffusion")
    config, folder = loaded.config, loaded.weights.folder
    assert config.canvas_length is not None
    assert folder is not None
    limit = NUM_CANVASES * config.canvas_length
    model = upstream_diffusion(config)
    _fill(model, folder)
    model.set_experts_implementation(experts)
    model.set_attn_implementation(attention)
    settings = generation_config(config, FORCED, limit)
    settings.eos_token_id = model.generation_config.eos_token_id = None
    settings.cache_implementation = cache
    settings.disable_compile = not compiled
    ids = torch.tensor([PROMPT])
    mask = torch.ones_like(ids)

    def run() -> int:
        found = model.generate(ids, attention_mask=mask, generation_config=settings)
        return found.sequences.shape[1] - ids.shape[1]

    return run


def _fill(model: torch.nn.Module, folder: Path) -> None:
    """The shipped tensors, every one of them."""
    stored = load_file(folder / "model.safetensors")
    unknown = model.load_state_dict(stored, strict=False).unexpected_keys
    assert not unknown


def _runnable(settings: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, Generation]]:
    """Upstream's settings, without those it cannot run itself; those are printed."""
    for setting in settings:
        name = f"transformers, {' '.join(setting)}"
        run = upstream_generation(*setting, compiled=False)
        try:
            run()
        except (TypeError, ValueError, RuntimeError) as error:
            print(f"{name:50} n/a: {type(error).__name__}: {str(error).splitlines()[0]}")
        else:
            yield name, run


def seconds_of(run: Generation) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def rates_in_turn(runs: dict[str, Generation], num_rounds: int) -> dict[str, list[float]]:
    """Delivered tokens per second of every generation, round by round; one warm-up before."""
    tokens = {name: run() for name, run in runs.items()}
    assert len(set(tokens.values())) == 1, tokens
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(num_rounds):
        for name, run in runs.items():
            rates[name].append(tokens[name] / seconds_of(run))
    return rates


def test_denoise_speed(benchmark) -> None:
    torch.set_num_threads(2)
    ours = our_generation("eager")
    if not benchmark.enabled:  # both sides do the same work
        assert ours() == upstream_generation("eager", "sdpa", "dynamic", compiled=False)()
        benchmark(lambda: None)
        return
    uncompiled = dict(_runnable(itertools.product(EXPERTS, ATTENTIONS, CACHES)))
    trial = rates_in_turn(uncompiled, 3)
    for name, rates in trial.items():
        print(f"{name:50} {statistics.median(rates):8.1f} tok/s (trial)")
    fastest = max(trial, key=lambda name: statistics.median(trial[name]))
    experts = fastest.split()[1]
    runs = {
        "ours, eager": ours,
        "ours, compiled": our_generation("compiled"),
        fastest: uncompiled[fastest],
        "transformers, compiled": upstream_generation(experts, "sdpa", "static", compiled=True),
    }
    rates = rates_in_turn(runs, NUM_ROUNDS)
    for name, found in rates.items():
        ratios = [a / b for a, b in zip(found, rates[fastest], strict=True)]
        rate, ratio = statistics.median(found), statistics.median(ratios)
        print(f"{name:50} {rate:8.1f} tok/s, {ratio:.2f} x the fastest uncompiled transformers")
        benchmark.extra_info[name] = {"delivered_tok_per_s": rate, "ratio": ratio}
    benchmark.pedantic(ours, rounds=5)

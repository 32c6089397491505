"""Denoising against `transformers`: the same forced steps in fp32, batch 1, two threads.

    pytest tests/benchmarks/test_denoise_speed.py --benchmark-enable -s

The tiny pair's shipped weights, and a preset of about 50 M parameters with random ones and the
released canvas. Prefill and commit included, all settings in turn. Upstream runs with every
implementation of its experts, both attentions and both caches; the fastest of these is the bar's
other side (a ratio: at least 5 for the tiny pair, 1.5 for the other), compiled upstream stands
beside it. Nothing asserts on time.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from bench.backends.transformers import TransformersConfig
from bench.backends.transformers.config import Attention, Cache, Experts
from bench.backends.transformers.generation import diffusion_settings
from bench.backends.transformers.loading import load as load_upstream
from model import PRESETS, DiffusionSampling, EosPolicy, generate, load
from model.sampling import BlockDelivered


@dataclass(frozen=True)
class Work:
    """What every contender does.

    Attributes:
        rounds, trial_rounds: timed generations of each of the four compared, and shorter ones of
            each of upstream's settings before.
    """

    preset: str
    weights: str | None
    prompt_tokens: int
    num_steps: int
    num_canvases: int
    rounds: int
    trial_rounds: int

    @property
    def prompt(self) -> list[int]:
        usual = range(3, PRESETS[self.preset].vocab_size)
        return [2, *itertools.islice(itertools.cycle(usual), self.prompt_tokens - 1)]

    @property
    def sampling(self) -> DiffusionSampling:
        return DiffusionSampling(max_denoising_steps=self.num_steps, early_stop=False)

    @property
    def trial(self) -> "Work":
        """Enough of it to tell upstream's settings apart."""
        return replace(self, num_steps=4, num_canvases=1)

    @property
    def limit(self) -> int:
        return self.num_canvases * (PRESETS[self.preset].canvas_length or 1)


HOPELESS = 4
"""A setting whose first step takes so many times the shortest is not tried further."""
TINY = Work("tiny-diffusion", None, 64, 16, 2, rounds=15, trial_rounds=3)
MINI = Work("mini-diffusion", "dummy", 64, 4, 2, rounds=4, trial_rounds=2)


@dataclass(frozen=True)
class Contender:
    """Generates once, all that is asked; `prepare` is not timed."""

    run: Callable[[], None]
    prepare: Callable[[], None] = lambda: None


def our_generation(work: Work, execution: str) -> Contender:
    loaded = load(work.preset, weights=work.weights, execution=execution)

    def run() -> None:
        events = generate(
            loaded.model,
            [work.prompt],
            work.sampling,
            max_new_tokens=work.limit,
            eos_policy=EosPolicy.IGNORE,
        )
        blocks = [event for event in events if isinstance(event, BlockDelivered)]
        assert [block.rows[0].steps for block in blocks] == [work.num_steps] * work.num_canvases
        assert sum(len(block.rows[0].tokens) for block in blocks) == work.limit

    return Contender(run)


def upstream_model(work: Work) -> Any:
    return load_upstream(
        work.preset, precision="fp32", device="cpu", weights=work.weights, seed=0
    ).model


def upstream_generation(work: Work, model: Any, knobs: TransformersConfig) -> Contender:
    """Contenders may share a model; what one compiled is its own."""
    config = PRESETS[work.preset]
    settings = diffusion_settings(config, work.sampling, work.limit, None, knobs)
    ids = torch.tensor([work.prompt])
    mask = torch.ones_like(ids)

    def prepare() -> None:
        model.set_experts_implementation(knobs.experts.name)
        model.set_attn_implementation(knobs.attention.name)
        model.generation_config.eos_token_id = None

    def run() -> None:
        found = model.generate(ids, attention_mask=mask, generation_config=settings)
        assert found.sequences.shape[1] - ids.shape[1] == work.limit

    return Contender(run, prepare)


def name_of(knobs: TransformersConfig) -> str:
    return f"transformers, {knobs.experts.name} {knobs.attention.name} {knobs.cache.name}"


def first_runs(contenders: dict[str, Contender]) -> dict[str, float]:
    """Seconds of everybody's first run; those who cannot run are printed and left out."""
    found = {}
    for name, contender in contenders.items():
        contender.prepare()
        begin = time.perf_counter()
        try:
            contender.run()
        except (TypeError, ValueError, RuntimeError) as error:
            print(f"{name:50} n/a: {type(error).__name__}: {str(error).splitlines()[0]}")
        else:
            found[name] = time.perf_counter() - begin
    return found


def rates_in_turn(
    contenders: dict[str, Contender], num_tokens: int, num_rounds: int
) -> dict[str, list[float]]:
    """Delivered tokens per second of every contender, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(num_rounds):
        for name, contender in contenders.items():
            contender.prepare()
            begin = time.perf_counter()
            contender.run()
            rates[name].append(num_tokens / (time.perf_counter() - begin))
    return rates


def fastest_knobs(work: Work) -> TransformersConfig:
    """Of all that upstream can run uncompiled, by the median of a trial that is printed."""
    choices = {
        name_of(knobs): knobs
        for knobs in (
            TransformersConfig(experts=experts, attention=attention, cache=cache)
            for experts, attention, cache in itertools.product(Experts, Attention, Cache)
        )
    }
    work, model = work.trial, upstream_model(work)

    def contenders(work: Work) -> dict[str, Contender]:
        return {name: upstream_generation(work, model, k) for name, k in choices.items()}

    first = first_runs(contenders(replace(work, num_steps=1)))
    for name, seconds in first.items():
        if seconds > HOPELESS * min(first.values()):
            print(f"{name:50} {seconds / min(first.values()):.1f} x the shortest first run: out")
            del choices[name]
    choices = {name: knobs for name, knobs in choices.items() if name in first}
    trial = rates_in_turn(contenders(work), work.limit, work.trial_rounds)
    for name, rates in trial.items():
        print(f"{name:50} {statistics.median(rates):8.1f} tok/s (trial)")
    return choices[max(trial, key=lambda name: statistics.median(trial[name]))]


@pytest.mark.parametrize("work", [TINY, MINI], ids=lambda work: work.preset)
def test_denoise_speed(benchmark, work: Work) -> None:
    torch.set_num_threads(2)
    if not benchmark.enabled:  # both sides do the same work
        short = replace(work, num_steps=1, num_canvases=1)
        theirs = upstream_generation(short, upstream_model(short), TransformersConfig())
        theirs.prepare()
        our_generation(short, "eager").run()
        theirs.run()
        benchmark(lambda: None)
        return
    best = fastest_knobs(work)
    fastest = name_of(best)
    # Upstream's loop over experts is none that it can compile.
    experts = Experts.grouped_mm if best.experts is Experts.eager else best.experts
    compiled = TransformersConfig(experts=experts, cache=Cache.static, compiled=True)
    ours = our_generation(work, "eager")
    contenders = {
        "ours, eager": ours,
        "ours, compiled": our_generation(work, "compiled"),
        fastest: upstream_generation(work, upstream_model(work), best),
        "transformers, compiled": upstream_generation(work, upstream_model(work), compiled),
    }
    able = first_runs(contenders)  # compiles
    contenders = {name: contenders[name] for name in able}
    rates = rates_in_turn(contenders, work.limit, work.rounds)
    for name, found in rates.items():
        ratios = [a / b for a, b in zip(found, rates[fastest], strict=True)]
        rate, ratio = statistics.median(found), statistics.median(ratios)
        print(
            f"{work.preset}: {name:50} {rate:8.1f} tok/s, "
            f"{ratio:.2f} x the fastest uncompiled transformers"
        )
        benchmark.extra_info[name] = {"delivered_tok_per_s": rate, "ratio": ratio}
    benchmark.pedantic(ours.run, rounds=5)

"""`execution=compiled` computes what eager does; without a compiler it says so."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from model import DiffusionSampling, generate, load
from model.config import preset
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.execution import Compiled
from model.folded import fold
from model.ops import make_ops
from model.sampling import BlockDelivered, EosPolicy, TraceLevel
from model.transformer import StepWrapper, Unwrapped


def trajectory(execution: str) -> list[BlockDelivered]:
    loaded = load("tiny-diffusion", execution=execution)
    prompt = [2, *loaded.tokenizer.encode("count 7 21=").ids] if loaded.tokenizer else []
    events = generate(
        loaded.model,
        [prompt],
        DiffusionSampling(max_denoising_steps=24),
        max_new_tokens=64,
        trace=TraceLevel.POSITIONS,
    )
    return [event for event in events if isinstance(event, BlockDelivered)]


def test_a_compiled_step_gives_the_same_canvases() -> None:
    eager, compiled = trajectory("eager"), trajectory("compiled")
    assert [b.rows[0].tokens for b in eager] == [b.rows[0].tokens for b in compiled]
    assert [b.rows[0].steps for b in eager] == [b.rows[0].steps for b in compiled]
    for a, b in zip(eager, compiled, strict=True):
        assert a.trace is not None
        assert b.trace is not None
        assert torch.allclose(a.trace.mean_entropy, b.trace.mean_entropy, atol=1e-3)
        assert torch.equal(a.trace.accepted_count, b.trace.accepted_count)


def test_two_graphs_serve_prefixes_of_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """One until the window's ring comes round, one from then on; inductor itself is left out."""
    tiny, compile_ = preset("tiny-diffusion"), torch.compile

    def trace_only(step: Callable[..., Any], **knobs: Any) -> Callable[..., Any]:
        return compile_(step, backend="eager", dynamic=knobs["dynamic"], fullgraph=True)

    monkeypatch.setattr(torch, "compile", trace_only)
    config = replace(
        tiny,
        sliding=replace(tiny.sliding, window=21),
        layer_types=("sliding", "full"),
        canvas_length=8,
    )
    model = DiffusionTransformer(config, make_ops("torch")).requires_grad_(False)
    fill_with_random(model, 0)
    fold(model)

    def tokens(wrapper: StepWrapper, length: int) -> list[list[int]]:
        model.wrap_step = wrapper
        events = generate(
            model,
            [[2, *(8 + 7 * i % 50 for i in range(length - 1))]],
            DiffusionSampling(max_denoising_steps=3, early_stop=False),
            max_new_tokens=40,
            eos_policy=EosPolicy.IGNORE,
        )
        return [e.rows[0].tokens for e in events if isinstance(e, BlockDelivered)]

    compiled, before = Compiled(model.device), counters["stats"]["unique_graphs"]
    for length in (5, 12, 19, 20, 60, 300):
        assert tokens(compiled, length) == tokens(Unwrapped(), length)
    assert counters["stats"]["unique_graphs"] - before == 2


def test_an_unknown_execution_names_the_valid_ones() -> None:
    with pytest.raises(
        ValueError, match="execution 'fast' is unknown; valid: eager, compiled, cuda_graph"
    ):
        load("tiny-diffusion", execution="fast")


def test_a_missing_compiler_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def none_found() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none_found)
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler"):
        load("tiny-diffusion", execution="compiled")

"""`execution=compiled` computes what eager does; without a compiler it says so."""

import pytest
import torch

from model import DiffusionSampling, generate, load
from model.sampling import BlockDelivered, TraceLevel


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

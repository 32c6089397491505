"""Folded blocks against their specification, over odd shapes, masks and both siblings."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from model.config import ModelConfig, MoEConfig, preset
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.folded import FoldedBlock, fold
from model.folded_feed_forward import (
    DenseFeedForward,
    FeedForward,
    GroupedFeedForward,
    make_feed_forward,
)
from model.kv_cache import KVCache
from model.loading import load
from model.ops import make_ops
from model.sampling.block_diffusion import CanvasState, Denoiser, DiffusionSampling
from model.sampling.noise import SeededNoise
from model.transformer import Transformer


def make_pair(config: ModelConfig, kind: type[Transformer]) -> tuple[Transformer, Transformer]:
    """The same random weights, plain and folded; norms, scales and scalars away from one."""
    models = []
    for ops in ("reference", "torch"):
        model = kind(config, make_ops(ops)).requires_grad_(False)
        fill_with_random(model, 0)
        generator = torch.Generator().manual_seed(1)
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.ndim == 1:
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
        models.append(model)
    fold(models[1])
    assert isinstance(models[1].blocks[0], FoldedBlock)
    return models[0], models[1]


TINY = preset("tiny-diffusion")
LARGER_EXPERTS = replace(TINY, moe=replace(TINY.moe, hidden_size=128))


@pytest.mark.parametrize("moe", [TINY.moe, LARGER_EXPERTS.moe], ids=["dense", "grouped"])
@pytest.mark.parametrize("starts", [None, [0, 3, 9]])
@pytest.mark.parametrize(("prompt_length", "window"), [(7, 128), (40, 16), (1, 128)])
def test_denoise_and_commit_equal_the_reference(
    prompt_length: int, window: int, starts: list[int] | None, moe: MoEConfig
) -> None:
    config = replace(TINY, sliding=replace(TINY.sliding, window=window), moe=moe)
    if starts is not None and max(starts) >= prompt_length:
        prompt_length += max(starts)
    batch_size = 1 if starts is None else len(starts)
    generator = torch.Generator().manual_seed(2)
    prompt = torch.randint(64, (batch_size, prompt_length), generator=generator)
    canvas = torch.randint(64, (batch_size, 32), generator=generator)
    scaled = torch.randn(batch_size, 32, 64, generator=generator) * 4
    results = []
    for model in make_pair(config, DiffusionTransformer):
        assert isinstance(model, DiffusionTransformer)
        cache = KVCache(
            config,
            batch_size,
            prompt_length + 64,
            dtype=torch.float32,
            device=model.device,
            start_B=None if starts is None else torch.tensor(starts),
        )
        model.encode(prompt, cache)
        first = model.denoise(canvas, None, cache)
        model.encode(canvas, cache)
        results.append((first, model.denoise(canvas, model.signal(scaled), cache)))
    for expected, actual in zip(*results, strict=True):
        # With such weights fp32 itself strays from fp64 by 5e-5 of the largest logit, either way.
        torch.testing.assert_close(actual, expected, rtol=0, atol=3e-4 * expected.abs().max())


@pytest.mark.parametrize(
    ("moe", "kind"), [(TINY.moe, DenseFeedForward), (LARGER_EXPERTS.moe, GroupedFeedForward)]
)
def test_autoregressive_tokens_equal_the_reference(moe: MoEConfig, kind: type[FeedForward]) -> None:
    config = replace(preset("tiny-autoregressive"), moe=moe)
    results = []
    pair = make_pair(config, Transformer)
    assert any(isinstance(module, kind) for module in pair[1].modules())
    for model in pair:
        cache = KVCache(config, 2, 20, dtype=torch.float32, device=model.device)
        hidden = model.encode(torch.arange(8, 20).view(2, 6), cache)
        token = model.logits(hidden[:, -1]).argmax(-1)
        hidden = model.encode(token[:, None], cache)
        results.append(model.logits(hidden))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-4)


def test_only_experts_of_whole_vectors_are_grouped() -> None:
    odd = replace(TINY, moe=replace(TINY.moe, hidden_size=130))
    _, folded = make_pair(odd, DiffusionTransformer)
    assert not any(isinstance(module, GroupedFeedForward) for module in folded.modules())


def test_grouped_experts_can_be_compiled_as_one_graph() -> None:
    plain, _ = make_pair(LARGER_EXPERTS, DiffusionTransformer)
    feed_forward = make_feed_forward(next(plain.layers()), LARGER_EXPERTS)
    x = torch.randn(5, TINY.hidden_size, generator=torch.Generator().manual_seed(0))
    traced = torch.compile(feed_forward.of, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(traced(x), feed_forward.of(x))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_canvas_of_the_trained_model_takes_the_reference_s_decisions(seed: int) -> None:
    """Every step's accepted positions, candidates and argmax are those of kernels=reference."""
    num_steps = 6
    traces = []
    for kernels in ("reference", "torch"):
        loaded = load("tiny-diffusion", kernels=kernels)
        tokenizer, model = loaded.tokenizer, loaded.model
        assert tokenizer is not None
        assert isinstance(model, DiffusionTransformer)
        prompt = [TINY.bos_token_id, *tokenizer.encode("sort dacb=").ids]
        cache = KVCache(TINY, 1, len(prompt) + 32, dtype=torch.float32, device=model.device)
        noise = SeededNoise(seed, [0], 32, TINY.vocab_size).canvas(0, num_steps)
        sampling = DiffusionSampling(max_denoising_steps=num_steps, early_stop=False)
        with torch.inference_mode():
            model.encode(torch.tensor([prompt]), cache)
            denoiser = Denoiser(model, sampling)
            state = CanvasState.fresh(noise.initial_BL, torch.zeros(1, dtype=torch.bool))
            for index in range(num_steps):
                state, trace = denoiser.step(state, cache, noise, index)
                traces.append(trace)
    accepted = torch.stack([trace.accepted_BL for trace in traces])
    assert 0 < accepted.float().mean() < 1
    for expected, actual in zip(traces[:num_steps], traces[num_steps:], strict=True):
        for name in ("canvas_BL", "candidate_BL", "accepted_BL", "argmax_BL"):
            assert torch.equal(getattr(actual, name), getattr(expected, name)), name
        torch.testing.assert_close(actual.entropy_BL, expected.entropy_BL, rtol=1e-4, atol=1e-5)


def test_only_fp32_models_with_few_experts_are_folded() -> None:
    bf16 = DiffusionTransformer(TINY, make_ops("torch")).bfloat16()
    many = replace(TINY, moe=replace(TINY.moe, num_experts=16))
    wide = DiffusionTransformer(many, make_ops("torch"))
    for model in (bf16, wide):
        fold(model)
        assert not isinstance(model.blocks[0], FoldedBlock)

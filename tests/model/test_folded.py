"""Folded blocks against their specification, over odd shapes, masks and both siblings."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from model.config import ModelConfig, preset
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.folded import FoldedBlock, fold
from model.kv_cache import KVCache
from model.ops import make_ops
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


@pytest.mark.parametrize("starts", [None, [0, 3, 9]])
@pytest.mark.parametrize(("prompt_length", "window"), [(7, 128), (40, 16), (1, 128)])
def test_denoise_and_commit_equal_the_reference(
    prompt_length: int, window: int, starts: list[int] | None
) -> None:
    tiny = preset("tiny-diffusion")
    config = replace(tiny, sliding=replace(tiny.sliding, window=window))
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


def test_autoregressive_tokens_equal_the_reference() -> None:
    config = preset("tiny-autoregressive")
    results = []
    for model in make_pair(config, Transformer):
        cache = KVCache(config, 2, 20, dtype=torch.float32, device=model.device)
        hidden = model.encode(torch.arange(8, 20).view(2, 6), cache)
        token = model.logits(hidden[:, -1]).argmax(-1)
        hidden = model.encode(token[:, None], cache)
        results.append(model.logits(hidden))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-4)


def test_only_fp32_models_with_few_experts_are_folded() -> None:
    tiny = preset("tiny-diffusion")
    bf16 = DiffusionTransformer(tiny, make_ops("torch")).bfloat16()
    many = replace(tiny, moe=replace(tiny.moe, num_experts=16))
    wide = DiffusionTransformer(many, make_ops("torch"))
    for model in (bf16, wide):
        fold(model)
        assert not isinstance(model.blocks[0], FoldedBlock)

"""The released pair's passes over tensors without data, on the path that a Hopper GPU takes.

Legend: B seqs, L positions.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from model import precision as precisions
from model import preset
from model.diffusion import DiffusionTransformer
from model.dummy import parts
from model.float8 import ScaledMatrix
from model.kernels.block import fuse
from model.kernels.tiles import FP8
from model.kv_cache import KVCache
from model.loading import make_model
from model.ops import make_ops
from model.precision import Precision
from model.sampling.autoregressive import GreedyDecoder
from model.sampling.block_diffusion import CanvasState, Denoiser, DiffusionSampling
from model.sampling.noise import CanvasNoise
from model.stop_flag import StopFlag
from model.transformer import Transformer, Unwrapped

META = torch.device("meta")
CONTEXT = 1024
SLOTS = 4096
PREFILLS = (8, 32, 64, 512, 1024)

Run = Callable[[], object]


class _Captured(Unwrapped):
    """Steps as `model.execution.CudaGraphs` wants them."""

    fixed_shapes = True


class _DeviceFlag(StopFlag):
    """The word that a step writes to is on no host."""

    def arm(self, device: torch.device) -> None:
        self._word_1 = torch.empty(1, dtype=torch.int64, device=device)


def fused(name: str, precision: Precision, layer_types: tuple[str, ...] | None = None) -> Any:
    """A preset's model with fused blocks; with `layer_types` of these layers alone."""
    config = preset(name)
    if layer_types is not None:
        config = replace(config, layer_types=layer_types)
    with META:
        model = make_model(config, make_ops("triton")).requires_grad_(False)
    with (
        mock.patch.object(precisions, "has_bf16_units", return_value=True),
        mock.patch.object(precisions, "has_fp8_units", return_value=True),
        mock.patch.object(precisions, "quantise_weight", _quantised),
    ):
        for _, part in parts(model):
            precisions.convert(part, precision)
        precisions.finish(model, precision)
    model.eval()
    fuse(model)
    model.wrap_step = _Captured()
    return model


def _quantised(weight: Tensor) -> ScaledMatrix:
    """At once, where `precision.quantise_weight` goes from matrix to matrix."""
    scale = weight.new_empty((*weight.shape[:-1], 1), dtype=torch.float32)
    return ScaledMatrix(torch.empty_like(weight, dtype=FP8, requires_grad=False), scale)


def passes(diffusion: DiffusionTransformer, autoregressive: Transformer) -> dict[str, Run]:
    """By name; batch 1, after CONTEXT positions, and prompts from none."""
    canvas, token_B = _tokens(256), torch.zeros(1, dtype=torch.int64, device=META)
    committed, decoded = _cache(diffusion), _cache(autoregressive)
    found: dict[str, Run] = {
        "denoise": denoising(diffusion),
        "commit": lambda: diffusion.commit(canvas, committed),
        "fused": _first_step(diffusion),
        "decode": lambda: GreedyDecoder(autoregressive).step(token_B, decoded),
    }
    for length in PREFILLS:
        found[f"prefill {length}"] = partial(_prefill, diffusion, length)
    return found


def _prefill(model: DiffusionTransformer, length: int) -> None:
    model.encode(_tokens(length), KVCache(model.config, 1, 2048, dtype=model.dtype, device=META))


def denoising(model: DiffusionTransformer, slots: int = SLOTS, *, min_belief: float = 0.0) -> Run:
    """A step that is not a canvas's first; state and a cache of so many slots exist already."""
    cache, denoiser, state, noise = _under_way(model, slots, min_belief)
    return lambda: denoiser.step(state, cache, noise, 1)


def _under_way(
    model: DiffusionTransformer, slots: int, min_belief: float
) -> tuple[KVCache, Denoiser, CanvasState, CanvasNoise]:
    cache, length = _cache(model, slots), model.config.canvas_length
    shape = (2, 1, length)
    tokens = torch.zeros(shape, dtype=torch.int64, device=META)
    noise = CanvasNoise(tokens[0], torch.zeros(shape, device=META), tokens)
    model.stop_flag = _DeviceFlag()
    denoiser = Denoiser(model, DiffusionSampling(max_denoising_steps=2, min_belief=min_belief))
    state = CanvasState.fresh(noise.initial_BL, torch.zeros(1, dtype=torch.bool, device=META))
    state = replace(state, signal_BLD=model.no_signal(state.canvas_BL))
    denoiser._around = model.anywhere(cache)
    return cache, denoiser, state, noise


def _first_step(model: DiffusionTransformer) -> Run:
    """A canvas's first step, which commits the canvas before."""
    cache, denoiser, state, noise = _under_way(model, SLOTS, 0.0)
    return lambda: denoiser.step(state, cache, noise, 0, noise.initial_BL)


def _cache(model: Transformer, slots: int = SLOTS) -> KVCache:
    """Of a generation that is under way: the rotary tables exist, too."""
    cache = KVCache(model.config, 1, slots, dtype=model.dtype, device=META)
    cache.advance(CONTEXT)
    model.anywhere(cache)
    return cache


def _tokens(length: int) -> Tensor:
    return torch.zeros((1, length), dtype=torch.int64, device=META)

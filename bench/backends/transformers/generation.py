"""Our sampling knobs as upstream's generation configurations."""

from collections.abc import Sequence
from typing import Any

from transformers import GenerationConfig
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    DiffusionGemmaGenerationConfig,
    EntropyBoundSamplerConfig,
)

from bench.backends.transformers.config import Cache, TransformersConfig
from model import DiffusionSampling, ModelConfig

_UNCOMPILED = TransformersConfig()


def diffusion_settings(
    config: ModelConfig,
    sampling: DiffusionSampling,
    max_new_tokens: int,
    eos_token_ids: Sequence[int] | None,
    knobs: TransformersConfig = _UNCOMPILED,
) -> Any:
    """Upstream's configuration of a diffusion generation.

    Without an early stop the canvas would have to be stable for as many steps as there are, which
    it cannot be before the last; upstream knows no other way to switch it off.

    Args:
        eos_token_ids: None goes on after them.

    Raises:
        ValueError: a knob that upstream lacks.
    """
    if not sampling.self_conditioning:
        raise ValueError(
            "sampler.self_conditioning=False is not known to backend=transformers; valid: True"
        )
    if sampling.min_belief:
        raise ValueError(
            f"sampler.min_belief={sampling.min_belief:g} is not known to backend=transformers; "
            "valid: 0"
        )
    stable = sampling.stability_threshold if sampling.early_stop else sampling.max_denoising_steps
    return DiffusionGemmaGenerationConfig(
        max_new_tokens=max_new_tokens,
        max_denoising_steps=sampling.max_denoising_steps,
        sampler_config=EntropyBoundSamplerConfig(entropy_bound=sampling.entropy_bound),
        t_min=sampling.t_min,
        t_max=sampling.t_max,
        stability_threshold=stable,
        confidence_threshold=sampling.confidence_threshold,
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=None if eos_token_ids is None else list(eos_token_ids),
        cache_implementation=knobs.cache.name,
        disable_compile=not knobs.compiled,
    )


def greedy_settings(
    config: ModelConfig,
    max_new_tokens: int,
    eos_token_ids: Sequence[int] | None,
    knobs: TransformersConfig = _UNCOMPILED,
) -> Any:
    """Upstream's configuration of a greedy autoregressive generation; arguments as above."""
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=None if eos_token_ids is None else list(eos_token_ids),
        cache_implementation="static" if knobs.cache is Cache.static else None,
        disable_compile=not knobs.compiled,
    )

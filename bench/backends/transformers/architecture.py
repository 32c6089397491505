"""Our architecture in upstream's configuration, and the class that it builds."""

from typing import Any

import torch
from torch import nn
from transformers import (
    DiffusionGemmaConfig,
    DiffusionGemmaForBlockDiffusion,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
)
from transformers.models.diffusion_gemma import DiffusionGemmaTextConfig

from model import ModelConfig

VISION = {
    "model_type": "gemma4_vision",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "patch_size": 4,
    "pooling_kernel_size": 3,
    "position_embedding_size": 64,
    "default_output_length": 16,
}
"""The diffusion class always builds a vision tower; a tiny one, never called."""


def model_class(config: ModelConfig) -> Any:
    """Upstream's class of this sibling."""
    return Gemma4ForCausalLM if config.canvas_length is None else DiffusionGemmaForBlockDiffusion


def upstream_config(config: ModelConfig) -> Any:
    """The text model of `config` as upstream describes it.

    Image tokens get ids beyond the vocabulary, so that no prompt of ours holds one by chance.
    """
    if config.canvas_length is None:
        return Gemma4TextConfig(
            **_text_arguments(config),
            attention_k_eq_v=True,
            enable_moe_block=True,
            hidden_size_per_layer_input=0,
            vocab_size_per_layer_input=config.vocab_size,
            num_kv_shared_layers=0,
            use_double_wide_mlp=False,
        )
    text = DiffusionGemmaTextConfig(**_text_arguments(config), use_bidirectional_attention="vision")
    return DiffusionGemmaConfig(
        text_config=text,
        vision_config=dict(VISION),
        canvas_length=config.canvas_length,
        boi_token_id=config.vocab_size,
        eoi_token_id=config.vocab_size + 1,
        image_token_id=config.vocab_size + 2,
    )


def _text_arguments(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.dense_hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.sliding.num_kv_heads,
        "head_dim": config.sliding.head_dim,
        "global_head_dim": config.full.head_dim,
        "num_global_key_value_heads": config.full.num_kv_heads,
        "num_experts": config.moe.num_experts,
        "top_k_experts": config.moe.top_k,
        "moe_intermediate_size": config.moe.hidden_size,
        "sliding_window": config.sliding.window,
        "max_position_embeddings": config.max_positions,
        "rope_parameters": {
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": config.sliding.rope_theta,
            },
            "full_attention": {
                "rope_type": "proportional",
                "rope_theta": config.full.rope_theta,
                "partial_rotary_factor": config.full.rotary_fraction,
            },
        },
        "rms_norm_eps": config.rms_norm_eps,
        "pad_token_id": config.pad_token_id,
        "eos_token_id": config.eos_token_ids[0],
        "bos_token_id": config.bos_token_id,
        "final_logit_softcapping": config.final_logit_softcap,
        "layer_types": [f"{kind}_attention" for kind in config.layer_types],
    }


def on_meta(config: ModelConfig, dtype: torch.dtype) -> nn.Module:
    """The model without storage; what its parts share, they share already."""
    with torch.device("meta"):
        model = model_class(config)._from_config(upstream_config(config), dtype=dtype)
    return model.eval()

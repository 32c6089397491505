"""transformers' pair at the full 26B-A4B shape with random weights, made on the device."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    DiffusionGemmaConfig,
    DiffusionGemmaForBlockDiffusion,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
)
from transformers.models.diffusion_gemma import DiffusionGemmaTextConfig

_VISION = {
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
"""The class always builds a vision tower; a tiny one, never called and not counted."""


@dataclass(frozen=True)
class Shape:
    """One architecture and the work measured on it."""

    text: dict[str, Any]
    image_ids: tuple[int, int, int]
    canvas: int
    prompt: int
    steps: int
    ar_tokens: int
    canvases: int | None = None


def _layer_types(count: int) -> list[str]:
    return ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(count)]


SHAPES = {
    "full": Shape(
        text={
            "vocab_size": 262144,
            "hidden_size": 2816,
            "intermediate_size": 2112,
            "num_hidden_layers": 30,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "global_head_dim": 512,
            "num_global_key_value_heads": 2,
            "num_experts": 128,
            "top_k_experts": 8,
            "moe_intermediate_size": 704,
            "sliding_window": 1024,
            "max_position_embeddings": 262144,
            "layer_types": _layer_types(30),
        },
        image_ids=(255999, 258882, 258880),
        canvas=256,
        prompt=1024,
        steps=16,
        ar_tokens=64,
    ),
    "mini": Shape(
        text={
            "vocab_size": 512,
            "hidden_size": 128,
            "intermediate_size": 96,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "global_head_dim": 64,
            "num_global_key_value_heads": 1,
            "num_experts": 8,
            "top_k_experts": 2,
            "moe_intermediate_size": 64,
            "sliding_window": 64,
            "max_position_embeddings": 1024,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
        image_ids=(509, 510, 511),
        canvas=16,
        prompt=48,
        steps=3,
        ar_tokens=8,
    ),
}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def diffusion_config(shape: Shape) -> DiffusionGemmaConfig:
    text = DiffusionGemmaTextConfig(
        **{**shape.text, "final_logit_softcapping": 30.0}, use_bidirectional_attention="vision"
    )
    return DiffusionGemmaConfig(
        text_config=text,
        vision_config=dict(_VISION),
        canvas_length=shape.canvas,
        boi_token_id=shape.image_ids[0],
        eoi_token_id=shape.image_ids[1],
        image_token_id=shape.image_ids[2],
    )


def autoregressive_config(shape: Shape) -> Gemma4TextConfig:
    return Gemma4TextConfig(
        **shape.text,
        final_logit_softcapping=30.0,
        attention_k_eq_v=True,
        enable_moe_block=True,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=shape.text["vocab_size"],
        num_kv_shared_layers=0,
        use_double_wide_mlp=False,
    )


def on_meta(shape: Shape, *, autoregressive: bool) -> nn.Module:
    """The model in bf16 without storage; encoder and decoder share parameters already."""
    with torch.device("meta"):
        if autoregressive:
            text = autoregressive_config(shape)
            return Gemma4ForCausalLM._from_config(text, dtype=torch.bfloat16).eval()
        whole = diffusion_config(shape)
        return DiffusionGemmaForBlockDiffusion._from_config(whole, dtype=torch.bfloat16).eval()


def count_text_parameters(model: nn.Module) -> int:
    return sum(p.numel() for n, p in model.named_parameters() if "vision" not in n)


@torch.no_grad()
def materialise(model: nn.Module, device: torch.device, seed: int) -> None:
    """Storage and seeded random values on the device, each shared parameter once."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                empty = torch.empty_like(parameter, device=device)
                made[id(parameter)] = nn.Parameter(empty, requires_grad=False)
                made[id(parameter)]._is_hf_initialized = True  # type: ignore[attr-defined]
            module._parameters[name] = made[id(parameter)]  # type: ignore[assignment]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.ones_like(buffer, device=device)
    model.initialize_weights()  # type: ignore[operator]  # what buffers hold: rotary frequencies
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(1.0)
            continue
        scale = 0.5 if "embed_tokens" in name or "lm_head" in name else 1.0
        std = scale * parameter.shape[-1] ** -0.5
        parameter.normal_(0.0, std, generator=generator)
    for name, buffer in model.named_buffers():
        if name.endswith("layer_scalar"):
            buffer.fill_(1.0)


def build(
    shape: Shape, device: torch.device, seed: int, *, autoregressive: bool
) -> tuple[nn.Module, dict[str, Any]]:
    begin = time.perf_counter()
    model = on_meta(shape, autoregressive=autoregressive)
    materialise(model, device, seed)
    synchronize(device)
    facts = {
        "build_s": time.perf_counter() - begin,
        "text_parameters": count_text_parameters(model),
        "bytes_on_device": torch.cuda.memory_allocated() if device.type == "cuda" else None,
    }
    return model, facts


def free(model: nn.Module) -> None:
    """Gives the parameters' memory back whoever still refers to them."""
    for parameter in model.parameters():
        if parameter.device.type != "meta":
            parameter.data.untyped_storage().resize_(0)

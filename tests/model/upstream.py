"""The upstream implementation with random tiny weights.

A `Case` is one architecture. Weights are drawn so that nothing is trivial: norms, router scales and
layer scalars differ from one, encoder and decoder scalars from each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    DiffusionGemmaForBlockDiffusion,
    Gemma4Config,
    Gemma4ForCausalLM,
    Gemma4ForConditionalGeneration,
)
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    DiffusionGemmaGenerationConfig,
)

from bench.backends.transformers import session
from bench.backends.transformers.architecture import VISION, upstream_config
from bench.backends.transformers.generation import diffusion_settings
from model.checkpoint import CheckpointReader, load_into
from model.config import AttentionConfig, ModelConfig, MoEConfig, preset
from model.diffusion import DiffusionTransformer
from model.folded import fold
from model.ops import make_ops
from model.sampling import DiffusionSampling
from model.transformer import Transformer


@dataclass(frozen=True)
class Case:
    """One architecture and the prompts to try it on.

    Attributes:
        heads: query heads, KV heads of sliding layers, KV heads of full layers.
        head_dims: of sliding and of full layers.
        experts: number of experts, experts a token, their width.
        prompts: lengths of the batch's prompts.
    """

    name: str
    layers: str = "sf"
    size: int = 48
    heads: tuple[int, int, int] = (4, 2, 1)
    head_dims: tuple[int, int] = (16, 32)
    experts: tuple[int, int, int] = (4, 2, 24)
    dense: int = 64
    window: int = 64
    canvas: int = 16
    vocab: int = 96
    prompts: tuple[int, ...] = (11,)
    seed: int = 0

    @property
    def config(self) -> ModelConfig:
        num_experts, top_k, width = self.experts
        base = preset("tiny-diffusion")
        return ModelConfig(
            name=self.name,
            vocab_size=self.vocab,
            hidden_size=self.size,
            num_heads=self.heads[0],
            layer_types=tuple({"s": "sliding", "f": "full"}[kind] for kind in self.layers),
            sliding=AttentionConfig(
                num_kv_heads=self.heads[1],
                head_dim=self.head_dims[0],
                rope_theta=base.sliding.rope_theta,
                window=self.window,
            ),
            full=AttentionConfig(
                num_kv_heads=self.heads[2],
                head_dim=self.head_dims[1],
                rope_theta=base.full.rope_theta,
                rotary_fraction=0.25,
                value_is_key=True,
            ),
            dense_hidden_size=self.dense,
            moe=MoEConfig(num_experts=num_experts, top_k=top_k, hidden_size=width),
            canvas_length=self.canvas,
            max_positions=512,
            eos_token_ids=(1,),
        )

    def make_prompts(self) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + 100)
        return [
            [2, *torch.randint(8, self.vocab, (n - 1,), generator=generator).tolist()]
            for n in self.prompts
        ]


CASES = [
    Case("plain"),
    Case("several full layers", layers="sfsf"),
    Case("five to one", layers="sssssf", seed=1),
    Case("one KV head", heads=(4, 1, 1), seed=2),
    Case("as many KV heads as heads", heads=(2, 2, 2), seed=3),
    Case("wide heads", head_dims=(32, 64), heads=(2, 1, 1), seed=4),
    Case("one expert a token", experts=(6, 1, 16), seed=5),
    Case("many experts", experts=(16, 4, 8), seed=6),
    Case("window shorter than the prompt", window=8, prompts=(21,), seed=7),
    Case("prompt of several windows", window=6, prompts=(40,), layers="ssf", seed=8),
    Case("window shorter than the canvas", window=5, canvas=12, prompts=(3,), seed=9),
    Case("ragged batch", prompts=(5, 17, 11, 1), seed=10),
    Case("ragged batch beyond the window", window=8, prompts=(30, 9, 19, 4), seed=11),
    Case("large vocabulary", vocab=700, canvas=24, seed=12),
]


def upstream_diffusion(config: ModelConfig) -> DiffusionGemmaForBlockDiffusion:
    """The upstream diffusion model of this architecture, uninitialised beyond its own defaults."""
    return DiffusionGemmaForBlockDiffusion(upstream_config(config)).float().eval()


def upstream_autoregressive(config: ModelConfig) -> Gemma4ForCausalLM:
    return Gemma4ForCausalLM(upstream_config(config)).float().eval()


def upstream_multimodal(config: ModelConfig) -> Gemma4ForConditionalGeneration:
    """The released autoregressive class: the text model with a vision tower beside it."""
    text = upstream_autoregressive(config).config
    whole = Gemma4Config(text_config=text, vision_config=VISION, audio_config=None)
    return Gemma4ForConditionalGeneration(whole).float().eval()


def save_upstream(
    model: torch.nn.Module, folder: Path, dtype: torch.dtype, *, max_shard_size: str = "1GB"
) -> None:
    """Saves a model in a type and gives it the rounded weights, its rotary tables left alone."""
    rounded: dict[int, Tensor] = {}  # what is shared stays so
    state = {
        name: rounded.setdefault(tensor.data_ptr(), tensor.to(dtype))
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    model.save_pretrained(folder, state_dict=state, max_shard_size=max_shard_size)


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int) -> None:
    """Random weights under which activations stay tame and nothing is trivially one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        if "q_norm" in name:  # short queries: attention that random keys do not make chaotic
            parameter.copy_(0.3 + 0.1 * draw)
        elif parameter.ndim == 1:
            parameter.copy_(1 + 0.2 * draw)
        elif "embed_tokens" in name:
            parameter.copy_(0.3 * draw)
        else:
            parameter.copy_(draw * parameter.shape[-1] ** -0.5)
    for name, buffer in model.named_buffers():
        if "layer_scalar" in name:
            buffer.copy_(0.6 + 0.8 * torch.rand(buffer.shape, generator=generator))


def ours(folder: Path, config: ModelConfig, kernels: str) -> Transformer:
    """Our model with the weights upstream saved in `folder`; "folded" folds the torch table."""
    kind = Transformer if config.canvas_length is None else DiffusionTransformer
    with torch.device("meta"):
        model = kind(config, make_ops("reference" if kernels == "reference" else "torch"))
    load_into(model, config, CheckpointReader(folder))
    if kernels == "folded":
        fold(model)
    return model.requires_grad_(False).eval()


def autoregressive_config(config: ModelConfig) -> ModelConfig:
    return replace(config, canvas_length=None)


def left_padded(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [B, P]."""
    return session.left_padded(prompts, 0, torch.device("cpu"))


def generation_config(
    config: ModelConfig, sampling: DiffusionSampling, max_new_tokens: int
) -> DiffusionGemmaGenerationConfig:
    return diffusion_settings(config, sampling, max_new_tokens, config.eos_token_ids)

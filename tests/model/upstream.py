"""The upstream implementation with random tiny weights, and its noise written down.

A `Case` is one architecture. Weights are drawn so that nothing is trivial: norms, router scales and
layer scalars differ from one, encoder and decoder scalars from each other.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    DiffusionGemmaConfig,
    DiffusionGemmaForBlockDiffusion,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
)
from transformers.models.diffusion_gemma import DiffusionGemmaTextConfig
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    DiffusionGemmaGenerationConfig,
    EntropyBoundSampler,
    EntropyBoundSamplerConfig,
    StableAndConfidentStoppingCriteria,
)

from model.checkpoint import CheckpointReader, load_into
from model.config import AttentionConfig, ModelConfig, MoEConfig, preset
from model.diffusion import DiffusionTransformer
from model.folded import fold
from model.ops import make_ops
from model.sampling import CanvasNoise, DiffusionSampling
from model.transformer import Transformer

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


def _text_arguments(config: ModelConfig) -> dict:
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
        "pad_token_id": config.pad_token_id,
        "eos_token_id": config.eos_token_ids[0],
        "bos_token_id": config.bos_token_id,
        "final_logit_softcapping": config.final_logit_softcap,
        "layer_types": [f"{kind}_attention" for kind in config.layer_types],
    }


def upstream_diffusion(config: ModelConfig) -> DiffusionGemmaForBlockDiffusion:
    """The upstream diffusion model of this architecture, uninitialised beyond its own defaults."""
    text = DiffusionGemmaTextConfig(**_text_arguments(config), use_bidirectional_attention="vision")
    whole = DiffusionGemmaConfig(
        text_config=text,
        vision_config=_VISION,
        canvas_length=config.canvas_length,
        boi_token_id=5,
        eoi_token_id=6,
        image_token_id=7,
    )
    return DiffusionGemmaForBlockDiffusion(whole).float().eval()


def upstream_autoregressive(config: ModelConfig) -> Gemma4ForCausalLM:
    text = Gemma4TextConfig(
        **_text_arguments(config),
        attention_k_eq_v=True,
        enable_moe_block=True,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=config.vocab_size,
        num_kv_shared_layers=0,
    )
    return Gemma4ForCausalLM(text).float().eval()


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
    width = max(map(len, prompts))
    ids = [[0] * (width - len(p)) + list(p) for p in prompts]
    mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
    return torch.tensor(ids), torch.tensor(mask)


@dataclass
class Recording:
    """What upstream's generation drew and decided, canvas by canvas, step by step."""

    initial: list[Tensor] = field(default_factory=list)
    candidates: list[list[Tensor]] = field(default_factory=list)
    renoise: list[list[Tensor]] = field(default_factory=list)
    accepted: list[list[Tensor]] = field(default_factory=list)
    argmax: list[list[Tensor]] = field(default_factory=list)
    stops: list[list[Tensor]] = field(default_factory=list)

    def stop_step(self, canvas: int, row: int) -> int:
        """The step (from 1) at which a row's stopping criterion first held, else the last one."""
        held = [bool(step[row]) for step in self.stops[canvas]]
        return held.index(True) + 1 if True in held else len(held)

    def noise(self, num_steps: int) -> list[CanvasNoise]:
        """As our sampler takes it; steps upstream did not run are padded with the last one."""
        return [
            CanvasNoise(
                initial,
                torch.zeros(num_steps, *initial.shape),
                _padded(renoise, num_steps),
                _padded(candidates, num_steps),
            )
            for initial, renoise, candidates in zip(
                self.initial, self.renoise, self.candidates, strict=True
            )
        ]


def _padded(steps: list[Tensor], num_steps: int) -> Tensor:
    return torch.stack(steps + [steps[-1]] * (num_steps - len(steps)))


@contextmanager
def recording(monkeypatch) -> Iterator[Recording]:
    """Writes down the randomness and the accepted masks of upstream's sampler."""
    found = Recording()
    initialize, accept = EntropyBoundSampler.initialize_canvas, EntropyBoundSampler.accept_canvas
    inside_renoise = [False]

    def initialize_canvas(self, batch_size, device):
        canvas = initialize(self, batch_size, device)
        if inside_renoise[0]:
            found.renoise[-1].append(canvas)
        else:
            found.initial.append(canvas)
            for per_canvas in (
                found.candidates,
                found.renoise,
                found.accepted,
                found.argmax,
                found.stops,
            ):
                per_canvas.append([])
        return canvas

    def accept_canvas(self, current_canvas, denoiser_canvas, logits, cur_step):
        result = accept(self, current_canvas, denoiser_canvas, logits, cur_step)
        found.candidates[-1].append(denoiser_canvas)
        found.accepted[-1].append(self.accepted_token_mask)
        return result

    renoise = EntropyBoundSampler.renoise_canvas

    def renoise_canvas(self, accepted_canvas, cur_step):
        inside_renoise[0] = True
        result = renoise(self, accepted_canvas, cur_step)
        inside_renoise[0] = False
        return result

    stop = StableAndConfidentStoppingCriteria.__call__

    def note_stop(self, argmax_canvas, logits, **kwargs):
        found.stops[-1].append(stop(self, argmax_canvas, logits, **kwargs))
        return found.stops[-1][-1]

    with monkeypatch.context() as patch:
        patch.setattr(StableAndConfidentStoppingCriteria, "__call__", note_stop)
        patch.setattr(EntropyBoundSampler, "initialize_canvas", initialize_canvas)
        patch.setattr(EntropyBoundSampler, "accept_canvas", accept_canvas)
        patch.setattr(EntropyBoundSampler, "renoise_canvas", renoise_canvas)
        yield found


class DraftStreamer:
    """Receives upstream's argmax canvas after every step."""

    def __init__(self, found: Recording) -> None:
        self._found = found

    def put(self, value: Tensor) -> None:
        pass

    def put_draft(self, value: Tensor) -> None:
        self._found.argmax[-1].append(value)

    def end(self) -> None:
        pass


def generation_config(
    config: ModelConfig, sampling: DiffusionSampling, max_new_tokens: int
) -> DiffusionGemmaGenerationConfig:
    return DiffusionGemmaGenerationConfig(
        max_new_tokens=max_new_tokens,
        max_denoising_steps=sampling.max_denoising_steps,
        sampler_config=EntropyBoundSamplerConfig(entropy_bound=sampling.entropy_bound),
        t_min=sampling.t_min,
        t_max=sampling.t_max,
        stability_threshold=sampling.stability_threshold,
        confidence_threshold=sampling.confidence_threshold,
        pad_token_id=config.pad_token_id,
        eos_token_id=list(config.eos_token_ids),
        bos_token_id=config.bos_token_id,
    )

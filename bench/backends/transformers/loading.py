"""Upstream's model with random weights, the tiny pair's own, or those of a checkpoint folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from bench.backends.transformers.architecture import model_class, on_meta, upstream_config
from bench.backends.transformers.hooks import EncoderHook
from model import ModelConfig, Weights
from model.checkpoint import CheckpointReader
from model.loading import SHIPPED, locate, read_tokenizer
from model.precision import Applied, Precision, applied_to

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_IGNORED = ("vision", "audio")
"""Parts of a multimodal checkpoint that no text passes."""
_AUTOREGRESSIVE_NAMES = {r"^model\.language_model\.": "model."}
"""From the released layout, the text model inside a multimodal one, to the text model alone."""


@dataclass(slots=True)
class Upstream:
    """Upstream's model, how it was loaded, and its tokenizer (None with dummy weights).

    Attributes:
        encoder: tells when the diffusion model's encoder has run.
    """

    model: Any
    config: ModelConfig
    weights: Weights
    applied: Applied
    tokenizer: Tokenizer | None
    encoder: EncoderHook | None
    _implementations: tuple[str, str] | None = None

    def use(self, experts: str, attention: str) -> None:
        """Chooses implementations, where they are others than before: it takes upstream a while."""
        if self._implementations != (experts, attention):
            self.model.set_experts_implementation(experts)
            self.model.set_attn_implementation(attention)
            self._implementations = experts, attention


def load(
    preset_or_path: str, *, precision: str, device: str, weights: str | None, seed: int
) -> Upstream:
    """Loads upstream's model; arguments as of `model.load`.

    Raises:
        ValueError: an unknown name or precision, a preset without weights, or a checkpoint that
            does not fit.
    """
    if precision not in _DTYPES:
        raise ValueError(f"precision {precision!r} is unknown here; valid: {', '.join(_DTYPES)}")
    config, folder = locate(preset_or_path, weights)
    dtype, place = _DTYPES[precision], torch.device(device)
    if folder is None:
        source, tokenizer = Weights("dummy", None, None), None
        model = dummy(config, dtype, place, seed)
    else:
        kind = "tiny" if folder.parent == SHIPPED else "checkpoint"
        source = Weights(kind, folder, CheckpointReader(folder).fingerprint())
        tokenizer = read_tokenizer(folder)
        model = from_folder(config, folder, dtype).to(place)
    model.requires_grad_(False)
    encoder = EncoderHook(model.model.encoder) if config.canvas_length is not None else None
    applied = applied_to(place, Precision(precision))
    return Upstream(model, config, source, applied, tokenizer, encoder)


def dummy(config: ModelConfig, dtype: torch.dtype, device: torch.device, seed: int) -> Any:
    """The model with seeded random weights, made on the device one parameter at a time."""
    model = on_meta(config, dtype)
    _materialise(model, device, seed)
    return model


@torch.no_grad()
def _materialise(model: nn.Module, device: torch.device, seed: int) -> None:
    """Storage and values; a shared parameter once. Matrices get variance 1 / fan-in."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                empty = torch.empty_like(parameter, device=device)
                made[id(parameter)] = nn.Parameter(empty, requires_grad=False)
                made[id(parameter)]._is_hf_initialized = True  # type: ignore[attr-defined]
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.ones_like(buffer, device=device)
    model.initialize_weights()  # type: ignore[operator]  # what buffers hold: rotary frequencies
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        _fill(name, parameter, generator)
    for name, buffer in model.named_buffers():
        if name.endswith("layer_scalar"):
            buffer.fill_(1.0)


def _fill(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    if parameter.ndim < 2:
        parameter.fill_(1.0)
        return
    gain = 0.5 if "embed_tokens" in name or "lm_head" in name else 1.0
    parameter.normal_(0.0, gain * parameter.shape[-1] ** -0.5, generator=generator)


def from_folder(config: ModelConfig, folder: Path, dtype: torch.dtype) -> Any:
    """The model with a checkpoint's weights, in host memory.

    Raises:
        ValueError: quantised weights, or tensors that are missing or unknown.
    """
    own = json.loads((folder / "config.json").read_text())
    if "quantization_config" in own:
        raise ValueError(f"{folder} holds quantised weights; valid: a checkpoint in bf16 or fp32")
    diffusion = config.canvas_length is not None
    model, found = model_class(config).from_pretrained(
        folder,
        # A checkpoint with a vision tower describes it itself.
        config=None if diffusion and "vision_config" in own else upstream_config(config),
        dtype=dtype,
        key_mapping=None if diffusion else _AUTOREGRESSIVE_NAMES,
        local_files_only=True,
        output_loading_info=True,
    )
    for state in ("missing", "unexpected"):
        wrong = sorted(
            name
            for name in map(str, found[f"{state}_keys"])
            if not any(part in name for part in _IGNORED)
        )
        if wrong:
            raise ValueError(f"{folder}: tensor {wrong[0]} is {state} ({len(wrong)} in all)")
    return model.eval()

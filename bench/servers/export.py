"""The tiny pair as checkpoint folders that real servers load.

Upstream's own saving writes the weights and config.json (the diffusion sibling in the released
layout with a vision tower that no text passes, the autoregressive one as the text model alone).
Added are what servers look for beside them: sampling defaults, the tokenizer under upstream's
names, and a chat template that leaves a prompt as the pair was trained on it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from bench.backends.transformers.config import INSTALL
from model import DiffusionSampling
from model.config import PRESETS
from model.loading import SHIPPED

CHAT_TEMPLATE = "{{ bos_token }}{{ messages[-1]['content'] }}"

_TINY = tuple(name for name in PRESETS if name.startswith("tiny-"))
_MAX_NEW_TOKENS = 64
_SPECIAL_TOKENS = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}
_IMAGE_TOKENS = {"boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>"}
"""Beyond the vocabulary, in the order of their ids in the configuration; no prompt holds one."""


def export(name: str, folder: Path, *, precision: str = "fp32") -> Path:
    """Writes a model of the tiny pair into a new folder; the same one every time.

    Args:
        precision: fp32 or bf16.

    Raises:
        ValueError: another model or precision, or a missing package.
    """
    if name not in _TINY:
        raise ValueError(f"model {name!r} has no shipped weights; valid: {', '.join(_TINY)}")
    try:
        from bench.backends.transformers.architecture import VISION
        from bench.backends.transformers.generation import diffusion_settings
        from bench.backends.transformers.loading import load
    except ImportError as error:
        raise ValueError(
            f"a checkpoint for servers needs transformers ({error}): {INSTALL}"
        ) from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the vision tower's
        upstream = load(name, precision=precision, device="cpu", weights=None, seed=0)
    config, model = upstream.config, upstream.model
    if config.canvas_length is not None:
        model.generation_config = diffusion_settings(
            config, DiffusionSampling(), _MAX_NEW_TOKENS, config.eos_token_ids
        )
    folder.mkdir(parents=True)
    # Names as the class that is saved has them: those it was loaded from are another class's.
    model.save_pretrained(folder, save_original_format=False)
    shutil.copyfile(SHIPPED / config.decoding / "tokenizer.json", folder / "tokenizer.json")
    tokenizer = _tokenizer_config(config.max_positions)
    if config.canvas_length is not None:
        tokenizer["extra_special_tokens"] = _IMAGE_TOKENS
        _write(folder / "processor_config.json", _processor_config(VISION))
    _write(folder / "tokenizer_config.json", tokenizer)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


def _tokenizer_config(max_positions: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_positions,
        "clean_up_tokenization_spaces": False,
        **_SPECIAL_TOKENS,
    }


def _processor_config(vision: dict[str, Any]) -> dict[str, Any]:
    """What vLLM reads of every model that could be shown an image."""
    return {
        "processor_class": "Gemma4Processor",
        "feature_extractor": {"feature_extractor_type": "Gemma4AudioFeatureExtractor"},
        "image_processor": {
            "image_processor_type": "Gemma4ImageProcessor",
            "patch_size": vision["patch_size"],
            "pooling_kernel_size": vision["pooling_kernel_size"],
            "max_soft_tokens": 70,  # the fewest it takes
        },
        "video_processor": {"video_processor_type": "Gemma4VideoProcessor"},
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")

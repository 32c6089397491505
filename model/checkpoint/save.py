"""Writing a model in the released BF16 layout."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model.checkpoint.names import Layout, rules, text_prefixes
from model.config import ModelConfig


def save(model: nn.Module, config: ModelConfig, path: Path, dtype: torch.dtype) -> None:
    """Writes one safetensors file, merged matrices split again and experts fused."""
    state = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for rule in rules(config, Layout(text_prefixes(config)[0])):
        merged = state[f"{rule.part}.{rule.target}"].detach().to(dtype)
        sizes = [source.shape[0] for source in rule.sources]
        for source, part in zip(rule.sources, merged.split(sizes), strict=True):
            tensors[source.name] = part.contiguous()
    save_file(tensors, path, metadata={"format": "pt"})

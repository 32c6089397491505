"""Seeded random weights: for training's start and for speed at shapes without a checkpoint."""

import torch
from torch import nn


def fill_with_random(model: nn.Module, seed: int) -> None:
    """Matrices get variance 1 / fan-in, so activations keep their size; norms and scales stay one.

    The embedding gets a quarter of that variance, which keeps the first logits small.
    """
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            gain = 0.5 if name == "embedding.weight" else 1.0
            std = gain * parameter.shape[-1] ** -0.5
            nn.init.normal_(parameter, std=std, generator=generator)
